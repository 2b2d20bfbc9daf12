/* prot32.S - cases in 32-bit protected mode: faults, segmentation, gates and privilege, 32-bit paging, hardware tasks. */
#include "harness.S"

.macro GATE_TYPE vector, access
    mov byte ptr [GATE(\vector) + 5], \access
.endm
.macro GATE_TO vector, label, selector=KCODE, access=0x8e
    mov eax, offset \label
    mov [GATE(\vector)], ax
    mov word ptr [GATE(\vector) + 2], \selector
    mov word ptr [GATE(\vector) + 4], \access << 8
    shr eax, 16
    mov [GATE(\vector) + 6], ax
.endm
/* A call gate at selector sel. */
.macro CALL_GATE sel, label, selector, access, params=0
    mov eax, offset \label
    mov [gdt + \sel], ax
    mov word ptr [gdt + \sel + 2], \selector
    mov word ptr [gdt + \sel + 4], (\access << 8) + \params
    shr eax, 16
    mov [gdt + \sel + 6], ax
.endm
.macro FAR_POINTER sel, offset=0
    mov dword ptr [scratch], \offset
    mov word ptr [scratch + 4], \sel
.endm

/* ---- faults ---- */

CASE divide_error
    FAULTS div ecx
    USER_BEGIN
    xor ecx, ecx
    div ecx
    USER_END
CASE undefined
    FAULTS ud2
    FAULTS .byte 0x0f, 0x05
    FAULTS .byte 0x0f, 0x24, 0xc0
    FAULTS .byte 0x0f, 0x01, 0xf8
    FAULTS .byte 0x8e, 0xc8
    FAULTS .byte 0x66, 0x0f, 0x38, 0x82, 0xc0
    FAULTS .byte 0xc4, 0xc0, 0x00
CASE bound_and_into
    mov dword ptr [scratch], 5
    mov dword ptr [scratch + 4], 10
    mov eax, 4
    FAULTS bound eax, [scratch]
    mov eax, 5
    FAULTS bound eax, [scratch]
    mov eax, 10
    FAULTS bound eax, [scratch]
    mov eax, 11
    FAULTS bound eax, [scratch]
    mov al, 0x7f
    add al, 1
    FAULTS into
    xor eax, eax
    FAULTS into
    USER_BEGIN
    mov al, 0x7f
    add al, 1
    into
    USER_END
MANUAL_CASE privileged_user
    .irp insn, cli, sti, hlt, clts, invd, wbinvd, rdmsr, wrmsr, "lgdt [esp]", "lidt [esp]", "lldt ax", "ltr ax", "lmsw ax", "invlpg [esp]", "mov eax, cr0", "mov cr3, eax", "mov eax, dr0", "mov dr7, eax", "in al, 0x80", "outsb", "insb", "sysexit"
    USER_BEGIN
    \insn
    USER_END
    .endr
CASE software_interrupts
    TRAPS
    int 0x50
    int3
    mov dword ptr [resume], offset 2f
    USER_BEGIN
    int 0x50
    USER_END
    USER_BEGIN
    int3
    USER_END
    USER_BEGIN
    int 0x42
    USER_END
2:
CASE error_codes
    FAULTS mov ds, [bad_selector]
    mov eax, 0x1234
    FAULTS mov fs, eax
    mov eax, 0x58
    FAULTS mov fs, eax
    mov eax, 0xfff8
    FAULTS mov ss, eax
    mov eax, 0
    FAULTS mov ss, eax
    mov eax, 0x5f
    FAULTS lldt ax
    jmp case_done
bad_selector: .word 0x0107
CASE idt_errors
    mov word ptr [scratch], 0x50 * 8 + 6
    mov dword ptr [scratch + 2], offset idt
    lidt [scratch]
    FAULTS int 0x50
    FAULTS int 0x4f
    lidt [idtr]
    GATE_TYPE 0x50, 0x0e
    FAULTS int 0x50
    GATE_TYPE 0x50, 0x8c
    FAULTS int 0x50
    GATE_TYPE 0x50, 0x8e
    mov word ptr [GATE(0x50) + 2], 0
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], KDATA
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], 0x204
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], UCODE32
    FAULTS int 0x50
    DESC T0, 0, 0xfffff, 0x1b, 0xc
    mov word ptr [GATE(0x50) + 2], T0
    FAULTS int 0x50
    mov word ptr [GATE(6) + 2], T0
    FAULTS ud2
MANUAL_CASE gate_16
    GATE_TO 0x50, 4f, KCODE, 0x86
    mov word ptr [GATE(0x50) + 6], 0xffff
    DESC T0, 0x100000, 0xffff, 0x9a, 0
    mov eax, offset 4f - 0x100000
    mov [GATE(0x50)], ax
    mov word ptr [GATE(0x50) + 2], T0
    mov dword ptr [resume], offset 5f
    mov dword ptr [esp - 8], 0
    int 0x50
5:  jmp case_done
    .code16
4:  mov ecx, esp
    .byte 0x66, 0xea
    .long 6f
    .word KCODE
    .code32
6:  SAY ecx
    movzx eax, word ptr [esp + 2]
    SAY eax
    movzx eax, word ptr [esp + 4]
    SAY eax
MANUAL_CASE gate_offset_beyond_limit
    DESC T0, 0, 0x0ff, 0x9a, 0xc
    GATE_TO 0x50, 0x00100000, T0
    FAULTS int 0x50
CASE double_fault
    GATE_TYPE 13, 0x0e
    FAULTS mov ds, [bad_selector]
    GATE_TYPE 14, 0x0e
    SET_PTE 3, 0
    FAULTS mov eax, [WIN + 0x3000]
CASE benign_then_not_present
    GATE_TYPE 6, 0x0e
    FAULTS ud2
    GATE_TYPE 11, 0x0e
    FAULTS ud2

/* ---- segments ---- */

MANUAL_CASE limits
    DESC T0, 0x40000000, 0x0ff, 0x92, 0x4
    mov eax, T0
    mov gs, eax
    FAULTS mov al, gs:[0xff]
    FAULTS mov al, gs:[0x100]
    FAULTS mov ax, gs:[0xff]
    FAULTS mov eax, gs:[0xfc]
    FAULTS mov eax, gs:[0xfd]
    FAULTS mov gs:[0xfd], eax
    FAULTS mov al, gs:[0xffffffff]
    FAULTS mov eax, gs:[0xfffffffe]
    FAULTS movups xmm0, gs:[0xf0]
    FAULTS movups xmm0, gs:[0xf1]
    mov edi, 0xfe
    mov ecx, 4
    mov eax, T0
    mov es, eax
    FAULTS rep stosb
    SAY ecx
    SAY edi
    DESC T1, 0x40000000, 0x1, 0x92, 0xc
    mov eax, T1
    mov gs, eax
    FAULTS mov al, gs:[0x1fff]
    FAULTS mov al, gs:[0x2000]
MANUAL_CASE expand_down
    DESC T0, 0x40000000, 0xfff, 0x96, 0x4
    mov eax, T0
    mov gs, eax
    FAULTS mov al, gs:[0xfff]
    FAULTS mov al, gs:[0x1000]
    FAULTS mov al, gs:[0xffe]
    FAULTS mov al, gs:[0]
    FAULTS mov eax, gs:[0x1ffffc]
    DESC T1, 0x40000000, 0xfff, 0x96, 0x0
    mov eax, T1
    mov gs, eax
    FAULTS mov al, gs:[0xffff]
    FAULTS mov al, gs:[0x10000]
    FAULTS mov ax, gs:[0xffff]
    DESC T2, 0x40000000, 0x0, 0x96, 0xc
    mov eax, T2
    mov gs, eax
    FAULTS mov al, gs:[0xfff]
    FAULTS mov al, gs:[0x1000]
MANUAL_CASE types
    DESC T0, 0, 0xfffff, 0x90, 0xc
    mov eax, T0
    mov gs, eax
    FAULTS mov al, gs:[WIN]
    FAULTS mov gs:[WIN], al
    FAULTS or gs:[WIN], al
    DESC T1, 0, 0xfffff, 0x9a, 0xc
    mov eax, T1
    mov gs, eax
    FAULTS mov al, gs:[WIN]
    FAULTS mov gs:[WIN], al
    FAULTS mov cs:[WIN], al
    DESC T2, 0, 0xfffff, 0x98, 0xc
    mov eax, T2
    FAULTS mov gs, eax
    push T2
    push offset 2f
    mov dword ptr [resume], offset 3f
    retf
2:  mov al, cs:[WIN]
    nop
3:
MANUAL_CASE null_segments
    xor eax, eax
    mov gs, eax
    mov fs, eax
    FAULTS mov al, gs:[WIN]
    FAULTS mov fs:[WIN], al
    mov eax, 3
    mov es, eax
    mov eax, es
    SAY eax
    FAULTS lgs eax, fs:[scratch]
    xor edi, edi
    mov ecx, 1
    xor eax, eax
    mov es, eax
    FAULTS rep stosb
    xor ecx, ecx
    FAULTS rep stosb
MANUAL_CASE stack_limits
    DESC T0, 0x40000000, 0xfff, 0xf2, 0x4
    .macro ON_STACK value, insn:vararg
    USER_BEGIN
    mov eax, T0 + 3
    mov ss, eax
    mov esp, \value
    \insn
    SAY esp
    USER_END
    .endm
    ON_STACK 0x1000, push eax
    ON_STACK 0x1001, push eax
    ON_STACK 0x1004, push eax
    ON_STACK 0xffc, pop eax
    ON_STACK 0xffd, pop eax
    ON_STACK 4, push eax
    ON_STACK 2, push eax
    ON_STACK 0x1002, mov eax, [esp]
    ON_STACK 0x1002, mov eax, ds:[esp + WIN]
    ON_STACK 0, push dword ptr [esp + 0xffe]
    ON_STACK 0x800, pop word ptr [esp + 0x7fe]
    ON_STACK 0x10, enter 8, 2
    ON_STACK 0x20, pushad
    ON_STACK 0x1c, pushad
    ON_STACK 0xff0, popad
CASE big_and_small_stack
    DESC T0, 0x40000000, 0xffff, 0x92, 0x0
    mov ebx, T0
    mov ecx, KDATA
    mov ebp, esp
    mov ss, ebx
    mov esp, 0x12340000
    push eax
    mov eax, esp
    mov ss, ecx
    mov esp, ebp
    SAY eax
    mov ss, ebx
    mov esp, 0x1234fffe
    pop ax
    mov eax, esp
    mov ss, ecx
    mov esp, ebp
    SAY eax
    mov ss, ebx
    mov esp, 0x12348000
    mov ebp, 0xabcd8000
    enter 8, 0
    mov edx, esp
    mov esi, ebp
    leave
    mov edi, esp
    mov ss, ecx
    mov esp, MAIN_STACK
    SAY edx
    SAY esi
    SAY edi
    SAY ebp
CASE load_segment_faults
    DESC T0, 0, 0xfffff, 0x13, 0xc
    DESC T1, 0, 0xfffff, 0x99, 0xc
    DESC T2, 0, 0xfffff, 0x91, 0xc
    DESC T3, 0, 0xfffff, 0x9b, 0xc
    DESC T4, 0, 0xfffff, 0x9e, 0xc
    DESC T5, 0, 0xfffff, 0xf3, 0xc
    .irp sel, T0, (T0+3), T1, T2, (T2+3), T3, T4, (T4+3), T5, (T5+3), TSS, (LDT+4), 0x100, 0xfff8, 3, 0
    mov eax, \sel
    FAULTS mov fs, eax
    .endr
    .irp sel, T0, (T0+3), T1, T2, T3, T5, (T5+3), KDATA, (KDATA+1), UDATA, TSS, 0x100, 3, 1, 0
    mov eax, \sel
    FAULTS mov ss, eax
    .endr
CASE load_segment_user
    DESC T4, 0, 0xfffff, 0x9f, 0xc
    DESC T5, 0, 0xfffff, 0xd3, 0xc
    .irp sel, KDATA, (KDATA+3), UDATA, (UDATA-3), T5, (T5+3), (T4+3), 0, 3
    USER_BEGIN
    mov eax, \sel
    mov fs, eax
    USER_END
    USER_BEGIN
    mov eax, \sel
    mov ss, eax
    USER_END
    .endr
CASE pointer_loads
    mov dword ptr [scratch], 0x1234
    mov word ptr [scratch + 4], KDATA
    FAULTS les eax, [scratch]
    SAY eax
    mov word ptr [scratch + 4], 0x208
    mov eax, 7
    FAULTS les eax, [scratch]
    SAY eax
    FAULTS lds eax, [scratch]
    FAULTS lss eax, [scratch]
    mov word ptr [scratch + 2], KDATA
    lfs ax, [scratch]
    SAY eax
    mov eax, fs
    SAY eax
CASE lar_lsl_verr_verw
    DESC T0, 0x1234, 0x5678, 0x13, 0x4
    DESC T1, 0, 0xfffff, 0x99, 0xc
    DESC T2, 0, 0xabcde, 0x91, 0xd
    DESC T3, 0, 0xfffff, 0xbe, 0xc
    DESC T4, 0, 0x12345, 0x8c, 0x0
    DESC T5, 0, 0x77, 0x85, 0x0
    DESC T6, 0, 0x77, 0x8e, 0x0
    DESC T7, 0, 0x77, 0x87, 0x0
    DESC T8, 0, 0x77, 0x83, 0x0
    DESC T9, 0, 0x77, 0x84, 0x0
    mov ebp, 0
2:  xor ebx, ebx
    lar ebx, ebp
    setz al
    movzx eax, al
    SAY eax
    SAY ebx
    xor ebx, ebx
    lsl ebx, ebp
    setz al
    movzx eax, al
    SAY eax
    SAY ebx
    verr bp
    setz al
    verw bp
    setz ah
    movzx eax, ax
    SAY eax
    add ebp, 8
    cmp ebp, 0x108
    jb 2b
    mov ebx, 0xffffffff
    mov eax, T2
    lar bx, ax
    SAY ebx
    mov eax, LDT
    lsl bx, ax
    SAY ebx
CASE lar_lsl_user
    USER_BEGIN
    .irp sel, KCODE, KDATA, UCODE32, UDATA, TSS, (UDATA-3), 0
    mov eax, \sel
    mov ebx, 0
    lar ebx, eax
    SAY ebx
    mov eax, \sel
    lsl ebx, eax
    SAY ebx
    mov eax, \sel
    verr ax
    setz al
    verw ax
    SAY eax
    .endr
    USER_END
CASE arpl
    mov ax, 0x10
    mov bx, 0x3
    arpl ax, bx
    setz cl
    SAY eax
    SAY ecx
    arpl ax, bx
    setz cl
    SAY ecx
    mov word ptr [WIN], 0x21
    mov bx, 0x2
    arpl [WIN], bx
    mov eax, [WIN]
    SAY eax

/* ---- transfers ---- */

CASE far_jump
    .irp sel, 0, KDATA, UCODE32, T0, 0x200, (KCODE+3)
    FAR_POINTER \sel
    FAULTS jmp fword ptr [scratch]
    .endr
    DESC T1, 0, 0xfffff, 0x1b, 0xc
    FAR_POINTER T1
    FAULTS jmp fword ptr [scratch]
    DESC T1, 0, 0x0ff, 0x9a, 0x4
    FAR_POINTER T1, 0x100
    FAULTS jmp fword ptr [scratch]
    DESC T1, 0, 0xfffff, 0x9e, 0xc
    mov dword ptr [scratch], offset 2f
    mov word ptr [scratch + 4], T1
    jmp fword ptr [scratch]
2:  mov eax, cs
    SAY eax
    movzx eax, byte ptr [gdt + T1 + 5]
    SAY eax
    .byte 0xea
    .long 3f
    .word KCODE
3:
CASE far_call_and_return
    mov eax, esp
    .byte 0x9a
    .long 2f
    .word KCODE
    jmp 3f
2:  mov ebx, esp
    sub ebx, eax
    SAY ebx
    mov eax, [esp + 4]
    SAY eax
    retf
3:  mov eax, esp
    push 1
    push 2
    push KCODE
    push offset 4f
    retf 8
4:  sub eax, esp
    SAY eax
    .irp sel, 0, KDATA, (UCODE32-3), (KCODE+1), T0, 0x200
    push \sel
    push offset 4b
    FAULTS retf
    .endr
    push UDATA
    push 0x1234
    push UCODE32
    push 0x1234
    push 0
    FAULTS retf 0xfffc
CASE far_return_to_user
    mov dword ptr [resume], offset 5f
    DESC T1, 0, 0xfffff, 0x9f, 0xc
    mov eax, KDATA
    mov gs, eax
    mov eax, UDATA
    mov es, eax
    mov eax, T1
    mov fs, eax
    push UDATA
    push USER_STACK
    push 0
    push 0
    push UCODE32
    push offset 4f + ALIAS
    retf 8
4:  mov eax, gs
    SAY eax
    mov eax, es
    SAY eax
    mov eax, fs
    SAY eax
    SAY esp
    int 0x41
5:  mov eax, KDATA
    mov es, eax
    push KDATA
    push USER_STACK
    push UCODE32
    push offset 4b
    FAULTS retf
MANUAL_CASE conforming_code
    DESC T0, ALIAS, 0xfffff, 0x9e, 0xc
    CALL_GATE T1, 2f, T0, 0xec
    mov word ptr [WIN + 4], T0
    mov dword ptr [WIN], offset 2f
    USER_BEGIN
    call fword ptr [WIN]
    mov word ptr [WIN + 4], T1
    call fword ptr [WIN]
    USER_END
    jmp case_done
2:  mov eax, cs
    int 0x40
    retf
CASE call_gate_same_level
    CALL_GATE T0, 2f, KCODE, 0x8c
    FAR_POINTER T0
    mov ebx, esp
    call fword ptr [scratch]
    jmp 3f
2:  sub ebx, esp
    SAY ebx
    retf
3:  jmp fword ptr [scratch + 0]
MANUAL_CASE call_gate_errors
    CALL_GATE T0, case_abort, KCODE, 0x0c
    FAR_POINTER T0
    FAULTS call fword ptr [scratch]
    .irp sel, 0, KDATA, T3, UCODE32, 0x200
    CALL_GATE T0, case_abort, \sel, 0x8c
    FAULTS call fword ptr [scratch]
    .endr
    DESC T1, 0, 0xfffff, 0x1a, 0xc
    CALL_GATE T0, case_abort, T1, 0x8c
    FAULTS call fword ptr [scratch]
    DESC T1, 0, 0x0ff, 0x9a, 0x4
    FAULTS call fword ptr [scratch]
    CALL_GATE T0, case_abort, KCODE, 0x8c
    mov word ptr [scratch + 4], T0 + 3
    FAULTS call fword ptr [scratch]
CASE call_gate_inner
    CALL_GATE T0, 2f, KCODE, 0xec, 2
    mov word ptr [WIN + 4], T0
    USER_BEGIN
    push 0x11
    push 0x22
    call fword ptr [WIN]
    SAY esp
    mov eax, cs
    SAY eax
    USER_END
    USER_BEGIN
    jmp fword ptr [WIN]
    USER_END
    CALL_GATE T0, 2f, KCODE, 0x8c
    USER_BEGIN
    call fword ptr [WIN]
    USER_END
    jmp case_done
2:  SAY esp
    mov eax, ss
    SAY eax
    mov eax, cs
    SAY eax
    .irp at, 4, 8, 12, 16, 20
    mov eax, [esp + \at]
    SAY eax
    .endr
    retf 8
MANUAL_CASE call_gate_16
    DESC T2, 0x100000, 0xffff, 0x9a, 0
    CALL_GATE T0, 2f, T2, 0xe4, 3
    mov eax, offset 2f - 0x100000
    mov [gdt + T0], ax
    mov word ptr [gdt + T0 + 6], 0xdead
    mov word ptr [WIN + 4], T0
    USER_BEGIN
    push 0x11112222
    push 0x33334444
    call fword ptr [WIN]
    USER_END
    jmp case_done
    .code16
2:  .byte 0x66, 0xea
    .long 3f
    .word KCODE
    .code32
3:  SAY esp
    .irp at, 0, 4, 8, 12
    mov eax, [esp + \at]
    .ifc \at,0
    movzx eax, word ptr [esp + 2]
    .endif
    SAY eax
    .endr
CASE call_gate_bad_stack
    DESC T4, ALIAS, 0xfffff, 0xba, 0xc /* code, DPL 1 */
    DESC T5, 0, 0xfffff, 0x32, 0xc /* data, DPL 1, not present */
    CALL_GATE T0, case_abort, T4, 0xec, 2
    mov word ptr [WIN + 4], T0
    mov dword ptr [tss + 0xc], RSP1
    .irp sel, 0, UDATA, (T3+1), (KDATA+1), (KCODE+1), T5, (T5+1), 0x201
    mov dword ptr [tss + 0x10], \sel
    USER_BEGIN
    call fword ptr [WIN]
    USER_END
    .endr
MANUAL_CASE inner_stack_limits
    DESC T4, ALIAS, 0xfffff, 0xba, 0xc
    DESC T5, 0x40000000, 0xfff, 0xb2, 0x4
    GATE_TO 0x50, case_abort, T4, 0xee
    CALL_GATE T0, case_abort, T4, 0xec, 2
    mov word ptr [WIN + 4], T0
    mov dword ptr [tss + 0x10], T5 + 1
    mov dword ptr [tss + 0xc], 0x10
    USER_BEGIN
    int 0x50
    USER_END
    mov dword ptr [tss + 0xc], 0x14
    USER_BEGIN
    call fword ptr [WIN]
    USER_END
    mov dword ptr [tss + 0xc], 0x1001
    USER_BEGIN
    call fword ptr [WIN]
    USER_END
MANUAL_CASE iret_errors
    .macro TRY_IRET flags, cs, eip
    mov esp, MAIN_STACK
    push \flags
    push \cs
    push \eip
    FAULTS iretd
    .endm
    .irp sel, 0, KDATA, (KCODE+1), (UCODE32-3), T0, 0x200
    TRY_IRET 2, \sel, 0x1234
    .endr
    DESC T1, 0, 0x0ff, 0x9a, 0x4
    TRY_IRET 2, T1, 0x100
    .irp sel, 0, KDATA, (UDATA-3), UCODE32, T2, 0x200
    mov esp, MAIN_STACK
    push \sel
    push USER_STACK
    push 2
    push UCODE32
    push 0x1234
    FAULTS iretd
    .endr
CASE iret_16
    DESC T0, 0x100000, 0xfffff, 0x9a, 0xc
    mov ebx, esp
    push 0xffff0002
    pop eax
    push ax
    pushw T0
    mov eax, offset 2f - 0x100000
    push ax
    iretw
2:  mov ecx, cs
    .byte 0xea
    .long 3f
    .word KCODE
3:  SAY ecx
    sub ebx, esp
    SAY ebx
CASE iret_flags_by_privilege
    USER_BEGIN 0x0202
    pushfd
    pop eax
    SAY eax
    push 0x3ed7
    push UCODE32
    push offset 3f + ALIAS
    iretd
3:  pushfd
    pop eax
    SAY eax
    USER_END
    USER_BEGIN 0x3002
    push 0x0ed7
    popfd
    pushfd
    pop eax
    SAY eax
    push 2
    popfd
    USER_END
CASE sysenter_sysexit
    FAULTS sysenter
    FAULTS sysexit
    mov ecx, 0x174
    mov eax, KCODE + 3
    xor edx, edx
    wrmsr
    inc ecx
    mov eax, 0x8fff0
    wrmsr
    inc ecx
    mov eax, offset 2f
    wrmsr
    USER_BEGIN 0x202
    sysenter
3:  mov eax, cs
    SAY eax
    mov eax, ss
    SAY eax
    SAY esp
    USER_END
    jmp case_done
2:  mov eax, cs
    SAY eax
    mov eax, ss
    SAY eax
    SAY esp
    pushfd
    pop eax
    SAY eax
    mov edx, offset 3b + ALIAS
    mov ecx, USER_STACK
    mov dword ptr [resume], offset 4f
    sysexit
4:

/* ---- hardware tasks ---- */

#define TASK (tss + 0x2100) /* the other TSS, selector T0 */
#define TASK16 (tss + 0x2200) /* a 16-bit TSS, selector T1 */
.macro NEW_TASK label, access=0x89
    mov edi, offset TASK
    mov ecx, 26
    xor eax, eax
    rep stosd
    mov eax, offset TASK
    mov dword ptr [gdt + T0], 0x67
    mov [gdt + T0 + 2], ax
    shr eax, 16
    mov [gdt + T0 + 4], al
    mov byte ptr [gdt + T0 + 5], \access
    mov byte ptr [gdt + T0 + 7], ah
    mov dword ptr [TASK + 0x1c], offset pd0
    mov dword ptr [TASK + 0x20], offset \label
    mov dword ptr [TASK + 0x24], 2
    mov dword ptr [TASK + 0x38], RSP1
    mov dword ptr [TASK + 0x28], 0xaaaa
    mov dword ptr [TASK + 0x30], 0xdddd
    mov dword ptr [TASK + 0x48], KDATA
    mov dword ptr [TASK + 0x4c], KCODE
    mov dword ptr [TASK + 0x50], KDATA
    mov dword ptr [TASK + 0x54], KDATA
    mov dword ptr [TASK + 0x4], RSP2
    mov dword ptr [TASK + 0x8], KDATA
    mov word ptr [TASK + 0x66], 104
    FAR_POINTER T0, 0xdeadbeef
.endm
.macro SAY_TASKS
    str eax
    SAY eax
    pushfd
    pop eax
    SAY eax
    mov eax, cr0
    SAY eax
    movzx eax, byte ptr [gdt + TSS + 5]
    SAY eax
    movzx eax, byte ptr [gdt + T0 + 5]
    SAY eax
.endm

CASE task_jump
    NEW_TASK 2f
    mov ebx, 0x1234
    stc
    jmp fword ptr [scratch]
    mov esi, 0x77
    SAY_TASKS
    SAY ebx
    jmp case_done
2:  SAY eax
    SAY edx
    SAY esp
    SAY_TASKS
    movzx eax, word ptr [TASK]
    SAY eax
    mov eax, [tss + 0x34]
    SAY eax
    mov eax, [tss + 0x24]
    SAY eax
    mov eax, [tss + 0x4c]
    SAY eax
    mov word ptr [scratch + 4], TSS
    jmp fword ptr [scratch]
MANUAL_CASE task_call_and_iret
    NEW_TASK 2f
    mov ecx, 0x1234
    cmp eax, eax
    call fword ptr [scratch]
    SAY_TASKS
    SAY ecx
    cmp eax, eax
    call fword ptr [scratch]
    jmp case_done
2:  SAY_TASKS
    movzx eax, word ptr [TASK]
    SAY eax
    mov eax, [tss + 0x24]
    SAY eax
    iretd
    SAY_TASKS
    iretd
CASE task_gate_interrupt
    NEW_TASK 2f
    mov word ptr [GATE(0x50) + 2], T0
    mov word ptr [GATE(0x50) + 4], 0x8500
    int 0x50
    SAY_TASKS
    int 0x50
    jmp case_done
2:  SAY esp
    SAY_TASKS
    iretd
    SAY esp
    iretd
CASE task_gate_fault
    NEW_TASK 2f
    mov word ptr [GATE(13) + 2], T0
    mov word ptr [GATE(13) + 4], 0x8500
    mov eax, 0x208
    mov fs, eax
    nop
    SAY eax
    jmp case_done
2:  SAY esp
    pop eax
    SAY eax
    SAY_TASKS
    mov eax, [tss + 0x20]
    sub eax, [cur_start]
    SAY eax
    add dword ptr [tss + 0x20], 2
    iretd
CASE double_fault_through_task_gate
    NEW_TASK 2f
    mov word ptr [GATE(8) + 2], T0
    mov word ptr [GATE(8) + 4], 0x8500
    GATE_TYPE 13, 0x0e
    mov eax, 0x208
    mov fs, eax
    nop
    SAY eax
    jmp case_done
2:  SAY esp
    pop eax
    SAY eax
    SAY_TASKS
    mov eax, [tss + 0x20]
    sub eax, [cur_start]
    SAY eax
    add dword ptr [tss + 0x20], 2
    iretd
CASE task_gate_from_user
    NEW_TASK 2f
    mov word ptr [GATE(0x50) + 2], T0
    mov word ptr [GATE(0x50) + 4], 0xe500
    USER_BEGIN 0x202
    int 0x50
    mov eax, cs
    SAY eax
    USER_END
    jmp case_done
2:  SAY_TASKS
    mov eax, [tss + 0x4c]
    SAY eax
    mov eax, [tss + 0x38]
    SAY eax
    iretd
CASE task_to_user
    NEW_TASK 2f
    mov dword ptr [TASK + 0x4c], UCODE32
    mov dword ptr [TASK + 0x50], UDATA
    mov dword ptr [TASK + 0x48], UDATA
    mov dword ptr [TASK + 0x54], UDATA
    mov dword ptr [TASK + 0x20], offset 2f + ALIAS
    mov dword ptr [TASK + 0x38], USER_STACK
    mov dword ptr [resume], offset 3f
    jmp fword ptr [scratch]
2:  mov eax, cs
    SAY eax
    mov eax, ds
    SAY eax
    int 0x42
    int 0x41
3:  SAY_TASKS
CASE task_errors
    NEW_TASK case_abort
    mov byte ptr [gdt + T0 + 5], 0x09
    FAULTS jmp fword ptr [scratch]
    mov byte ptr [gdt + T0 + 5], 0x8b
    FAULTS jmp fword ptr [scratch]
    FAULTS call fword ptr [scratch]
    mov byte ptr [gdt + T0 + 5], 0x89
    mov word ptr [gdt + T0], 0x66
    FAULTS jmp fword ptr [scratch]
    mov word ptr [scratch + 4], T0 + 4
    FAULTS jmp fword ptr [scratch]
    mov word ptr [scratch + 4], T0 + 3
    FAULTS jmp fword ptr [scratch]
    mov word ptr [scratch + 4], TSS
    FAULTS jmp fword ptr [scratch]
    DESC T2, 0, 0, 0x85, 0
    mov word ptr [gdt + T2 + 2], T0
    mov word ptr [scratch + 4], T2
    FAULTS jmp fword ptr [scratch]
    mov byte ptr [gdt + T2 + 5], 0x05
    FAULTS call fword ptr [scratch]
    mov byte ptr [gdt + T2 + 5], 0x85
    mov word ptr [gdt + T2 + 2], KDATA
    FAULTS call fword ptr [scratch]
    mov word ptr [gdt + T2 + 2], T3
    FAULTS call fword ptr [scratch]
CASE iret_without_link
    push 0x4002
    popfd
    FAULTS iretd
    NEW_TASK case_abort
    mov word ptr [tss], T0
    push 0x4002
    popfd
    FAULTS iretd
    push 2
    popfd
/* Switches to a task with one field changed. Its faults go to a task of their own, which says the error code, the task
 * that it came from and that task's EIP. */
#define FAULT_TASK (tss + 0x2300)
.macro NEW_TASK_FAULT field, value
    NEW_TASK case_abort
    mov eax, TSS
    mov byte ptr [gdt + TSS + 5], 0x89
    ltr ax
    call set_up_fault_task
    mov dword ptr [TASK + 0x20], 0x100123
    mov word ptr [TASK + \field], \value
    mov dword ptr [resume], offset 9f
    jmp fword ptr [scratch]
9:
.endm
    jmp case_done
set_up_fault_task:
    mov esi, offset TASK
    mov edi, offset FAULT_TASK
    mov ecx, 26
    rep movsd
    mov dword ptr [FAULT_TASK + 0x20], offset fault_task_entry
    mov dword ptr [FAULT_TASK + 0x38], RSP2
    mov eax, offset FAULT_TASK
    mov dword ptr [gdt + T9], 0x67
    mov [gdt + T9 + 2], ax
    shr eax, 16
    mov [gdt + T9 + 4], al
    mov byte ptr [gdt + T9 + 5], 0x89
    mov byte ptr [gdt + T9 + 7], ah
    .irp vector, 10, 11, 12, 13
    mov word ptr [GATE(\vector) + 2], T9
    mov word ptr [GATE(\vector) + 4], 0x8500
    .endr
    ret
fault_task_entry:
    SAY esp
    pop eax
    SAY eax
    movzx eax, word ptr [FAULT_TASK]
    SAY eax
    mov eax, [TASK + 0x20]
    SAY eax
    mov eax, [TASK + 0x4c]
    SAY eax
    movzx eax, byte ptr [gdt + T0 + 5]
    SAY eax
    push 2
    popfd
    clts
    mov esp, MAIN_STACK
    jmp dword ptr [resume]
CASE new_task_bad_cs
    NEW_TASK_FAULT 0x4c, 0x208
    NEW_TASK_FAULT 0x4c, KDATA
    NEW_TASK_FAULT 0x4c, 0
CASE new_task_bad_ss
    NEW_TASK_FAULT 0x50, 0x208
    NEW_TASK_FAULT 0x50, UDATA
    NEW_TASK_FAULT 0x50, 0
CASE new_task_bad_data
    NEW_TASK_FAULT 0x54, 0x208
    NEW_TASK_FAULT 0x5c, TSS
CASE new_task_bad_ldt
    NEW_TASK_FAULT 0x60, 0x208
    NEW_TASK_FAULT 0x60, KDATA
CASE new_task_bad_eip
    NEW_TASK_FAULT 0x4c, T3
    DESC T3, 0, 0x0ff, 0x9a, 0x4
    NEW_TASK_FAULT 0x4c, T3
MANUAL_CASE task_debug_trap
    NEW_TASK 2f
    mov word ptr [TASK + 0x64], 1
    mov dword ptr [resume], offset 3f
    jmp fword ptr [scratch]
2:  nop
    SAY eax
3:  str eax
    SAY eax
CASE task_clears_local_breakpoints
    NEW_TASK 2f
    mov eax, WIN
    mov dr0, eax
    mov dr1, eax
    mov eax, 0x00000707
    mov dr7, eax
    jmp fword ptr [scratch]
2:  mov eax, dr7
    SAY eax
    clts
CASE task_cr3
    mov esi, offset pd0
    mov edi, offset spare
    mov ecx, 1024
    rep movsd
    mov dword ptr [spare + (WIN >> 22) * 4], WINP + 0x83
    mov dword ptr [WINP + 0x123], 0x4444
    mov dword ptr [PTE(0)], WINP + 0x7007
    NEW_TASK 2f
    mov dword ptr [TASK + 0x1c], offset spare
    jmp fword ptr [scratch]
2:  mov eax, cr3
    sub eax, offset spare
    SAY eax
    mov eax, [WIN + 0x123]
    SAY eax
CASE task_16
    NEW_TASK case_abort
    mov eax, offset TASK16
    mov dword ptr [gdt + T1], 0x2b
    mov [gdt + T1 + 2], ax
    shr eax, 16
    mov [gdt + T1 + 4], al
    mov byte ptr [gdt + T1 + 5], 0x81
    mov byte ptr [gdt + T1 + 7], ah
    DESC T2, 0x100000, 0xffff, 0x9a, 0
    mov edi, offset TASK16
    mov ecx, 11
    xor eax, eax
    rep stosd
    mov eax, offset 2f - 0x100000
    mov [TASK16 + 0x0e], ax
    mov word ptr [TASK16 + 0x10], 2
    mov word ptr [TASK16 + 0x12], 0xaaaa
    mov word ptr [TASK16 + 0x1a], 0x8000
    mov word ptr [TASK16 + 0x22], KDATA
    mov word ptr [TASK16 + 0x24], T2
    mov word ptr [TASK16 + 0x26], T3
    DESC T3, 0, 0xffff, 0x92, 0
    mov word ptr [TASK16 + 0x28], KDATA
    mov eax, KDATA
    mov fs, eax
    mov word ptr [scratch + 4], T1
    mov ebx, 0x12345678
    mov edx, 0x9abcdef0
    call fword ptr [scratch]
    SAY ebx
    SAY eax
    str eax
    SAY eax
    jmp case_done
    .code16
2:  .byte 0x66, 0xea
    .long 3f
    .word KCODE
    .code32
3:  movzx ecx, sp
    mov edx, KDATA
    mov ss, edx
    mov esp, RSP2
    movzx eax, ax
    SAY eax
    SAY ecx
    mov eax, fs
    SAY eax
    str eax
    SAY eax
    movzx eax, word ptr [TASK16]
    SAY eax
    mov ax, 0x4321
    iretd
END_OF_CASES
