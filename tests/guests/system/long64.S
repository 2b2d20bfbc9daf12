/* long64.S - cases in 64-bit mode: faults, events and their stacks, segments and gates, fast system calls. */
#define LONG 1
#include "harness.S"

#define NONCANONICAL 0x800000000000

.macro EFER_SET bits
    mov ecx, 0xc0000080
    rdmsr
    or eax, \bits
    wrmsr
.endm
.macro WRITE_MSR msr, value
    mov rax, \value
    mov rdx, rax
    shr rdx, 32
    mov ecx, \msr
    wrmsr
.endm
.macro IST vector, n
    mov byte ptr [GATE(\vector) + 4], \n
.endm
.macro GATE_TYPE vector, access
    mov byte ptr [GATE(\vector) + 5], \access
.endm

/* ---- faults ---- */

CASE divide_error
    FAULTS div ecx
    mov eax, 0x80000000
    cdq
    mov ecx, -1
    FAULTS idiv ecx
    mov eax, 0x200
    mov cl, 1
    FAULTS div cl
CASE divide_error_user
    USER_BEGIN
    xor ecx, ecx
    div ecx
    USER_END
CASE undefined
    FAULTS ud2
    FAULTS .byte 0x0f, 0x0b
    FAULTS .byte 0x06
    FAULTS .byte 0x27
    FAULTS .byte 0xce
    FAULTS .byte 0xd6
    FAULTS .byte 0x9a, 0, 0, 0, 0, 0, 0
    FAULTS .byte 0x0f, 0xff, 0xc0
    FAULTS .byte 0x8e, 0xc8
    FAULTS .byte 0x8c, 0xf0
    FAULTS .byte 0x8d, 0xc0
    FAULTS .byte 0x0f, 0x20, 0xc8
    FAULTS .byte 0x0f, 0x22, 0xe8
CASE lock_legality
    FAULTS .byte 0xf0, 0x01, 0xc0
    FAULTS .byte 0xf0, 0x90
    FAULTS .byte 0xf0, 0x39, 0x04, 0x24
    FAULTS .byte 0xf0, 0x8b, 0x04, 0x24
    FAULTS .byte 0xf0, 0x89, 0x04, 0x24
    FAULTS .byte 0xf0, 0x84, 0x04, 0x24
    FAULTS .byte 0xf0, 0x0f, 0xa3, 0x04, 0x24
    FAULTS .byte 0xf0, 0x0f, 0xba, 0x24, 0x24, 1
    FAULTS .byte 0xf0, 0x0f, 0xba, 0x2c, 0x24, 1
    FAULTS .byte 0xf0, 0x03, 0x04, 0x24
    FAULTS .byte 0xf0, 0x87, 0x04, 0x24
    FAULTS .byte 0xf0, 0xf7, 0x1c, 0x24
    FAULTS .byte 0xf0, 0xf7, 0x24, 0x24
    FAULTS .byte 0xf0, 0xd1, 0x24, 0x24
    FAULTS .byte 0xf0, 0x0f, 0xb1, 0xc1
    FAULTS .byte 0xf0, 0x0f, 0xc7, 0xf0
CASE too_long
    FAULTS .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
    FAULTS .byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
CASE noncanonical_data
    movabs rbx, NONCANONICAL
    FAULTS mov rax, [rbx]
    FAULTS mov [rbx], rax
    mov rbp, rbx
    FAULTS mov rax, [rbp]
    dec rbx
    FAULTS mov rax, [rbx - 7]
    FAULTS mov rax, [rbx - 6]
    USER_BEGIN
    movabs rbx, NONCANONICAL
    mov rax, [rbx]
    USER_END
MANUAL_CASE noncanonical_stack
    IST 12, 1
    movabs rsp, NONCANONICAL + 0x100
    FAULTS push rax
    movabs rsp, NONCANONICAL + 0x100
    FAULTS pop rax
    movabs rsp, NONCANONICAL + 0x100
    FAULTS mov rax, [rsp]
MANUAL_CASE noncanonical_jump
    movabs rax, NONCANONICAL
    FAULTS jmp rax
    movabs rax, NONCANONICAL
    FAULTS call rax
    movabs rax, NONCANONICAL
    push rax
    FAULTS ret
CASE not_available
    mov rax, cr0
    or eax, 8
    mov cr0, rax
    FAULTS fninit
    FAULTS movaps xmm0, xmm1
    FAULTS fwait
    and eax, ~2
    mov cr0, rax
    FAULTS fwait
    mov eax, BASE_CR0 | 4
    mov cr0, rax
    FAULTS fninit
    FAULTS movaps xmm0, xmm1
CASE sse_without_osfxsr
    mov eax, BASE_CR4 & ~0x200
    mov cr4, rax
    FAULTS movaps xmm0, xmm1
CASE alignment_sse
    FAULTS movaps xmm0, [WIN + 8]
    FAULTS movups xmm0, [WIN + 8]
    FAULTS cmpxchg16b [WIN + 8]
    FAULTS cmpxchg8b [WIN + 4]
    FAULTS movntdq [WIN + 4], xmm0
    FAULTS addps xmm0, [WIN + 4]
    FAULTS fxsave [WIN + 8]
MANUAL_CASE alignment_check
    mov rax, cr0
    or eax, 0x40000
    mov cr0, rax
    USER_BEGIN 0x40002
    mov eax, [WIN + 2]
    USER_END
    USER_BEGIN 0x40002
    mov ax, [WIN + 1]
    USER_END
    USER_BEGIN 0x40002
    mov [WIN + 4], rax
    USER_END
    USER_BEGIN 0x40002
    mov eax, [WIN + 4]
    push 1
    mov rax, [rsp]
    USER_END
    USER_BEGIN 2
    mov eax, [WIN + 2]
    USER_END
MANUAL_CASE simd_exception
    mov dword ptr [scratch], 0x1d80 /* divide by zero unmasked */
    ldmxcsr [scratch]
    xorps xmm1, xmm1
    mov eax, 0x3f800000
    movd xmm0, eax
    FAULTS divss xmm0, xmm1
    mov eax, BASE_CR4 & ~0x400
    mov cr4, rax
    FAULTS divss xmm0, xmm1
    mov dword ptr [scratch], 0x1f80
    ldmxcsr [scratch]
    FAULTS ldmxcsr [bad_mxcsr]
    jmp case_done
bad_mxcsr: .long 0x10000
CASE x87_exception
    fninit
    mov word ptr [scratch], 0x37b
    fldcw [scratch]
    fld1
    fldz
    fdivp
    FAULTS fwait
    fnclex
    fninit

/* ---- privileged instructions ---- */

CASE privileged_user
    .irp insn, cli, sti, hlt, clts, invd, wbinvd, swapgs, rdmsr, wrmsr, sysretq, "lgdt [rsp]", "lidt [rsp]", "lldt ax", "ltr ax", "lmsw ax", "invlpg [rsp]", "mov rax, cr0", "mov cr3, rax", "mov rax, dr0", "mov dr7, rax", "in al, 0x80", "out 0x80, al"
    USER_BEGIN
    \insn
    USER_END
    .endr
CASE allowed_user
    USER_BEGIN
    sgdt [rsp - 16]
    sidt [rsp - 16]
    sldt eax
    SAY rax
    str eax
    SAY rax
    smsw ax
    movzx eax, ax
    SAY rax
    USER_END
CASE umip
    CR4_SET 0x800
    .irp insn, "sgdt [rsp - 16]", "sidt [rsp - 16]", "sldt eax", "str eax", "smsw eax", "str [rsp - 8]"
    USER_BEGIN
    \insn
    USER_END
    .endr
    FAULTS str eax
CASE tsd
    CR4_SET 4
    FAULTS rdtsc
    USER_BEGIN
    rdtsc
    USER_END
    USER_BEGIN
    rdtscp
    USER_END
CASE rdpmc_user
    USER_BEGIN
    xor ecx, ecx
    rdpmc
    USER_END
CASE iopl
    USER_BEGIN 0x3002
    in al, 0x80
    cli
    sti
    cli
    USER_END
    USER_BEGIN 0x1002
    cli
    USER_END
CASE io_bitmap
    mov word ptr [tss + 102], 104
    mov dword ptr [tss + 104 + 0x80 / 8], 0x00000105 /* 80 82 88 closed */
    .irp insn, "in al, 0x80", "in al, 0x81", "in ax, 0x81", "out 0x83, al", "out 0x83, eax", "out 0x84, eax", "out 0x85, eax"
    USER_BEGIN
    \insn
    USER_END
    .endr
CASE io_bitmap_limit
    mov word ptr [gdt + TSS], 104 + 0x10 /* ports up to 7F, and one byte */
    mov byte ptr [gdt + TSS + 5], 0x89
    mov eax, TSS
    ltr ax
    .irp insn, "in al, 0x77", "in al, 0x78", "in al, 0x7f", "in al, 0x80"
    USER_BEGIN
    \insn
    USER_END
    .endr
CASE popf_user
    USER_BEGIN
    push 0x3302
    popfq
    pushfq
    pop rax
    SAY rax
    push 0x47302 - 0x100
    popfq
    pushfq
    pop rax
    SAY rax
    USER_END

/* ---- control registers and MSRs ---- */

.macro CR_REFUSES cr, value
    mov rax, \value
    FAULTS mov \cr, rax
.endm
MANUAL_CASE cr0_rules
    CR_REFUSES cr0, 0x00010033
    CR_REFUSES cr0, 0x80010032
    CR_REFUSES cr0, 0xa0010033
    CR_REFUSES cr0, 0x180010033
    CR_REFUSES cr0, 0xe0010033
    mov rax, cr0
    SAY rax
    mov eax, 0x80010023 | 0x0ff80fc0
    mov cr0, rax
    mov rax, cr0
    SAY rax
MANUAL_CASE cr3_rules
    CR_REFUSES cr3, 0x8000000000000000
    CR_REFUSES cr3, 0x0010000000000000
    mov rax, cr3
    or rax, 0xfe7
    FAULTS mov cr3, rax
MANUAL_CASE cr4_rules
    CR_REFUSES cr4, 0x80000000
    CR_REFUSES cr4, BASE_CR4 & ~0x20
    CR_REFUSES cr4, BASE_CR4 | 0x1000
    CR_REFUSES cr4, BASE_CR4 | 0x8000
    CR_REFUSES cr4, 0x100000000
CASE cr8_rules
    CR_REFUSES cr8, 16
    CR_REFUSES cr8, 15
    mov rax, cr8
    SAY rax
    CR_REFUSES cr8, 0
MANUAL_CASE pcid_rules
    mov rax, cr3
    or rax, 1
    mov cr3, rax
    CR_REFUSES cr4, BASE_CR4 | 0x20000
    mov eax, offset pml4
    mov cr3, rax
    CR_REFUSES cr4, BASE_CR4 | 0x20000
    mov rax, cr0
    and eax, 0x7fffffff
    FAULTS mov cr0, rax
CASE efer_rules
    mov ecx, 0xc0000080
    xor edx, edx
    mov eax, BASE_EFER & ~0x100
    FAULTS wrmsr
    mov eax, BASE_EFER | 2
    FAULTS wrmsr
    mov edx, 1
    mov eax, BASE_EFER
    FAULTS wrmsr
    rdmsr
    SAY rax
CASE msr_rules
    .irp msr, 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102, 0x175, 0x176
    mov ecx, \msr
    mov edx, 0x8000
    xor eax, eax
    FAULTS wrmsr
    .endr
    mov ecx, 0x277
    mov eax, 0x02
    xor edx, edx
    FAULTS wrmsr
    mov eax, 0x08
    FAULTS wrmsr
    mov eax, 0x00070406
    mov edx, eax
    FAULTS wrmsr
CASE xcr0_rules
    FAULTS xgetbv
    CR4_SET 0x40000
    xor ecx, ecx
    xor edx, edx
    .irp value, 0, 1, 2, 3, 4, 5, 6, 7, 0x10
    mov eax, \value
    FAULTS xsetbv
    .endr
    inc ecx
    mov eax, 1
    FAULTS xsetbv
    xor ecx, ecx
    FAULTS xgetbv
    SAY rax

/* ---- events ---- */

CASE software_interrupts
    TRAPS
    int 0x50
    int3
    .byte 0xcd, 3
CASE software_interrupts_user
    USER_BEGIN
    int 0x50
    USER_END
    USER_BEGIN
    int3
    USER_END
    USER_BEGIN
    int 13
    USER_END
    USER_BEGIN
    int 1
    USER_END
CASE idt_limit
    mov word ptr [scratch], 0x41 * 16 - 1
    mov dword ptr [scratch + 2], offset idt
    mov dword ptr [scratch + 6], 0
    lidt [scratch]
    FAULTS int 0x41
    FAULTS int 0x50
    mov word ptr [scratch], 0x50 * 16 + 7
    lidt [scratch]
    FAULTS int 0x50
CASE gate_not_present
    GATE_TYPE 0x50, 0x0e
    FAULTS int 0x50
    GATE_TYPE 6, 0x0e
    FAULTS ud2
    USER_BEGIN
    int 0x50
    USER_END
CASE gate_types
    .irp type, 0x85, 0x86, 0x87, 0x8c, 0x9e, 0x8f
    GATE_TYPE 0x50, \type
    FAULTS int 0x50
    .endr
CASE gate_selector
    mov word ptr [GATE(0x50) + 2], 0
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], KDATA
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], KCODE32
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], T0
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], 0x208
    FAULTS int 0x50
    DESC T1, 0, 0xfffff, 0x1b, 0xa
    mov word ptr [GATE(0x50) + 2], T1
    FAULTS int 0x50
    mov word ptr [GATE(0x50) + 2], UCODE
    FAULTS int 0x50
    mov word ptr [GATE(6) + 2], T1
    FAULTS ud2
CASE gate_noncanonical
    mov dword ptr [GATE(0x50) + 8], 0x8000
    FAULTS int 0x50
CASE gate_rpl
    mov word ptr [GATE(0x50) + 2], KCODE + 3
    TRAPS
    int 0x50
CASE gate_conforming
    DESC T1, 0, 0xfffff, 0x9e, 0xa
    mov word ptr [GATE(0x40) + 2], T1
    FAULTS int 0x40
CASE trap_gate_keeps_if
    GATE_TYPE 0x50, 0x8f
    mov dword ptr [GATE(0x50)], offset (KCODE << 16)
    mov eax, offset 3f
    mov [GATE(0x50)], ax
    shr eax, 16
    mov [GATE(0x50) + 6], ax
    push 0x4202
    popfq
    int 0x50
    jmp case_done
3:  pushfq
    pop rax
    cli
    SAY rax
    GATE_TYPE 0x50, 0x8e
    pop rbx
    pop rbx
    pop rbx
    mov rax, rbx
    SAY rax
CASE frame_alignment
    TRAPS
    .irp n, 1, 2, 7, 8, 9, 15
    mov rsp, MAIN_STACK - 0x100 - \n
    int 0x50
    .endr
CASE ist
    TRAPS
    IST 0x50, 1
    int 0x50
    IST 0x50, 2
    int 0x50
    USER_BEGIN
    ud2
    USER_END
    IST 6, 2
    USER_BEGIN
    ud2
    USER_END
CASE double_fault_contributory
    GATE_TYPE 13, 0x0e
    movabs rbx, NONCANONICAL
    FAULTS mov eax, [rbx]
CASE double_fault_page
    GATE_TYPE 14, 0x0e
    SET_PTE 3, 0
    FAULTS mov eax, [WIN + 0x3000]
CASE double_fault_page_page
    SET_PTE 3, 0
    mov rsp, WIN + 0x3800
    FAULTS mov eax, [WIN + 0x3000]
CASE benign_then_page
    IST 14, 1
    SET_PTE 3, 0
    mov rsp, WIN + 0x3800
    FAULTS ud2
CASE gp_then_page
    IST 14, 1
    SET_PTE 3, 0
    mov rsp, WIN + 0x3800
    movabs rbx, NONCANONICAL
    FAULTS mov eax, [rbx]
CASE page_then_gp
    mov word ptr [GATE(14) + 2], KDATA
    SET_PTE 3, 0
    FAULTS mov eax, [WIN + 0x3000]
CASE rsp0_noncanonical
    IST 12, 1
    mov dword ptr [tss + 8], 0x8000
    USER_BEGIN
    int 0x40
    USER_END
CASE rsp0_unmapped
    IST 14, 2
    SET_PTE 3, 0
    mov dword ptr [tss + 4], WIN + 0x3800
    USER_BEGIN
    int 0x40
    USER_END
CASE frame_crosses_into_missing_page
    IST 14, 2
    SET_PTE 3, 0
    mov rsp, WIN + 0x4010
    FAULTS int 0x50
CASE event_from_user_nulls_ss
    mov eax, offset 3f
    mov [GATE(0x50)], ax
    shr eax, 16
    mov [GATE(0x50) + 6], ax
    GATE_TYPE 0x50, 0xee
    USER_BEGIN
    int 0x50
3:  mov eax, ss
    mov rsp, MAIN_STACK
    SAY rax
    USER_END
MANUAL_CASE icebp
    TRAPS
    .byte 0xf1
    USER_BEGIN
    .byte 0xf1
    USER_END

/* ---- segments ---- */

CASE load_segment_faults
    DESC T0, 0, 0xfffff, 0x13, 0xc /* data, not present */
    DESC T1, 0, 0xfffff, 0x99, 0xc /* code, execute only */
    DESC T2, 0, 0xfffff, 0x91, 0xc /* data, read only */
    DESC T3, 0, 0xfffff, 0x9b, 0xc /* code, readable */
    DESC T4, 0, 0xfffff, 0x9e, 0xc /* conforming, not accessed */
    DESC T5, 0, 0xfffff, 0xf3, 0xc /* data, DPL 3 */
    .irp sel, T0, (T0+3), T1, T2, (T2+3), T3, T4, (T4+3), T5, (T5+3), TSS, (LDT+4), 0x100, 0xfff8, 3, 0
    mov eax, \sel
    FAULTS mov ds, eax
    .endr
    .irp sel, T0, (T0+3), T1, T2, T3, T5, (T5+3), KDATA, (KDATA+1), UDATA, TSS, 0x100, 3, 1, 0
    mov eax, \sel
    FAULTS mov ss, eax
    .endr
    mov al, [gdt + T4 + 5] /* accessed now */
    SAY rax
CASE load_segment_user
    DESC T5, 0, 0xfffff, 0xd3, 0xc /* data, DPL 2 */
    .irp sel, KDATA, (KDATA+3), UDATA, (UDATA-3), T5, (T5+3), 0, 3
    USER_BEGIN
    mov eax, \sel
    mov ds, eax
    USER_END
    USER_BEGIN
    mov eax, \sel
    mov ss, eax
    USER_END
    .endr
CASE pop_segment
    push T0
    FAULTS pop fs
    push 0x1000b
    mov rbx, rsp
    FAULTS pop gs
    sub rbx, rsp
    mov rax, rbx
    SAY rax
    mov eax, gs
    SAY rax
CASE lldt_ltr
    .irp sel, 0, 3, LDT, (LDT+4), T0, TSS, KDATA, 0xf8, 0x100
    mov eax, \sel
    FAULTS lldt ax
    .endr
    mov byte ptr [gdt + LDT + 5], 2
    mov eax, LDT
    FAULTS lldt ax
    mov byte ptr [gdt + LDT + 5], 0x82
    mov dword ptr [gdt + LDT + 8], 0x8000
    FAULTS lldt ax
    mov dword ptr [gdt + LDT + 8], 0
    mov dword ptr [gdt + LDT + 12], 0x100
    FAULTS lldt ax
    .irp sel, 0, 3, TSS, (TSS+4), LDT, T0, 0xf8
    mov eax, \sel
    FAULTS ltr ax
    .endr
    mov byte ptr [gdt + TSS + 5], 0x81
    mov eax, TSS
    FAULTS ltr ax
    mov byte ptr [gdt + TSS + 5], 0x09
    FAULTS ltr ax
    mov byte ptr [gdt + TSS + 5], 0x89
    mov dword ptr [gdt + TSS + 12], 0x100
    FAULTS ltr ax
    mov dword ptr [gdt + TSS + 12], 0
    FAULTS ltr ax
    mov al, [gdt + TSS + 5]
    movzx eax, al
    SAY rax
CASE ldt_segment
    mov eax, LDT
    lldt ax
    mov dword ptr [ldt + 8], 0x0000ffff
    mov dword ptr [ldt + 12], 0x00cf9200
    mov eax, 0xc
    FAULTS mov ds, eax
    movzx eax, byte ptr [ldt + 13]
    SAY rax
    mov eax, 4
    FAULTS mov ds, eax
    mov eax, 0x104
    FAULTS mov ds, eax
CASE lar_lsl_verr_verw
    DESC T0, 0x1234, 0x5678, 0x13, 0x4
    DESC T1, 0, 0xfffff, 0x99, 0xc
    DESC T2, 0, 0xabcde, 0x91, 0xd
    DESC T3, 0, 0xfffff, 0xbe, 0xc
    DESC T4, 0, 0x12345, 0x8c, 0x0
    mov dword ptr [gdt + T5], 0
    mov dword ptr [gdt + T5 + 4], 0
    DESC T6, 0, 0x77, 0x8e, 0x0
    DESC T8, 0, 0x77, 0x83, 0x0
    mov r13d, 2
2:  mov r12d, 0
3:  xor ebx, ebx
    lar ebx, r12d
    pushfq
    pop rax
    and eax, 0x40
    shl rax, 26
    or rax, rbx
    SAY rax
    xor ebx, ebx
    lsl ebx, r12d
    pushfq
    pop rax
    and eax, 0x40
    shl rax, 26
    or rax, rbx
    SAY rax
    verr r12w
    pushfq
    pop rbx
    verw r12w
    pushfq
    pop rax
    shl ebx, 8
    or eax, ebx
    and eax, 0x4040
    SAY rax
    add r12d, 8
    cmp r12d, 0x108
    jb 3b
    dec r13d
    jz 5f
    mov dword ptr [resume], offset case_done
    push UDATA
    push USER_STACK
    push 2
    push UCODE
    push offset 4f + ALIAS
    iretq
4:  mov r12d, 3
    lea rax, [rip + 3b]
    jmp rax
5:  int 0x41

/* ---- far transfers ---- */

MANUAL_CASE far_jump
    push KCODE
    push offset 3f
    mov eax, [rsp]
    mov [scratch], eax
    mov word ptr [scratch + 4], KCODE
    FAULTS jmp fword ptr [scratch]
3:  .irp sel, 0, KDATA, UCODE, T0, 0x200, TSS
    mov word ptr [scratch + 4], \sel
    FAULTS jmp fword ptr [scratch]
    .endr
    DESC T1, 0, 0xfffff, 0x9b, 0xe /* L and D */
    mov word ptr [scratch + 4], T1
    FAULTS jmp fword ptr [scratch]
    DESC T1, 0, 0xfffff, 0x1b, 0xa
    FAULTS jmp fword ptr [scratch]
    mov dword ptr [scratch], 0x0
    mov dword ptr [scratch + 4], 0x8000
    mov word ptr [scratch + 8], KCODE
    FAULTS rex.w jmp fword ptr [scratch]
CASE call_gate_same
    DESC T0, 0, 0, 0x8c, 0
    mov eax, offset 3f
    mov [gdt + T0], ax
    mov word ptr [gdt + T0 + 2], KCODE
    shr eax, 16
    mov [gdt + T0 + 6], ax
    mov word ptr [scratch + 4], T0
    FAULTS call fword ptr [scratch]
3:  mov rax, rsp
    SAY rax
    mov eax, [rsp + 8]
    SAY rax
    mov dword ptr [gdt + T1 + 4], 0x100
    FAULTS call fword ptr [scratch]
    mov dword ptr [gdt + T1 + 4], 0
    mov byte ptr [gdt + T0 + 5], 0x0c
    FAULTS call fword ptr [scratch]
    mov byte ptr [gdt + T0 + 5], 0x8c
    .irp sel, 0, KDATA, KCODE32, T3, UCODE, 0x200
    mov word ptr [gdt + T0 + 2], \sel
    FAULTS call fword ptr [scratch]
    .endr
    mov word ptr [gdt + T0 + 2], KCODE
    mov dword ptr [gdt + T1], 0x8000
    FAULTS call fword ptr [scratch]
    mov byte ptr [gdt + T0 + 5], 0x84
    FAULTS call fword ptr [scratch]
CASE call_gate_inner
    DESC T0, 0, 0, 0xec, 0
    mov eax, offset 3f
    mov [gdt + T0], ax
    mov word ptr [gdt + T0 + 2], KCODE
    shr eax, 16
    mov [gdt + T0 + 6], ax
    mov dword ptr [WIN], 0
    mov word ptr [WIN + 4], T0
    USER_BEGIN
    .byte 0x48 /* REX.W */
    call fword ptr [WIN]
    SAY rax
    USER_END
    USER_BEGIN
    push 0
    push 0
    call fword ptr [WIN]
    mov rax, rsp
    SAY rax
    USER_END
    jmp case_done
3:  mov rax, rsp
    SAY rax
    mov eax, ss
    SAY rax
    mov eax, cs
    SAY rax
    mov eax, [rsp + 8]
    SAY rax
    mov rax, [rsp + 16]
    SAY rax
    mov eax, [rsp + 24]
    SAY rax
    .byte 0x48, 0xca, 16, 0
CASE call_gate_privilege
    DESC T0, 0, 0, 0x8c, 0
    mov word ptr [WIN + 4], T0
    USER_BEGIN
    call fword ptr [WIN]
    USER_END
    mov word ptr [WIN + 4], T0 + 3
    mov byte ptr [gdt + T0 + 5], 0xec
    mov word ptr [gdt + T0 + 2], KCODE
    USER_BEGIN
    jmp fword ptr [WIN]
    USER_END
    IST 12, 1
    mov dword ptr [tss + 8], 0x8000
    USER_BEGIN
    call fword ptr [WIN]
    USER_END
CASE far_return
    .irp sel, 0, KDATA, (UCODE-3), (KCODE+1), T0, 0x200
    push \sel
    push offset 3f
    FAULTS .byte 0x48, 0xcb
    .endr
3:  push KDATA
    push MAIN_STACK
    push UCODE
    push offset 3f
    FAULTS .byte 0x48, 0xcb
    push UDATA
    push MAIN_STACK
    push UCODE
    movabs rax, NONCANONICAL
    push rax
    FAULTS .byte 0x48, 0xcb
    push 3
    push MAIN_STACK
    push UCODE
    push offset 3b
    FAULTS .byte 0x48, 0xcb
    mov dword ptr [resume], offset 5f
    mov eax, KDATA
    mov ds, eax
    mov eax, UDATA
    mov es, eax
    DESC T1, 0, 0xfffff, 0x9f, 0xc
    mov eax, T1
    mov fs, eax
    push UDATA
    push USER_STACK
    push UCODE
    push offset 4f + ALIAS
    .byte 0x48, 0xca, 0, 0
4:  mov eax, ds
    SAY rax
    mov eax, es
    SAY rax
    mov eax, fs
    SAY rax
    int 0x41
5:
CASE iret_rules
    .macro TRY_IRET ss, rsp, flags, cs, rip
    mov rsp, MAIN_STACK
    push \ss
    push \rsp
    push \flags
    push \cs
    mov rax, \rip
    push rax
    FAULTS iretq
    mov rax, rsp
    SAY rax
    .endm
    .irp sel, 0, KDATA, (KCODE+1), (UCODE-3), T0, 0x200
    TRY_IRET KDATA, MAIN_STACK, 2, \sel, "offset case_abort"
    .endr
    TRY_IRET KDATA, MAIN_STACK, 2, KCODE, NONCANONICAL
    TRY_IRET KCODE, MAIN_STACK, 2, KCODE, "offset case_abort"
    TRY_IRET UDATA, MAIN_STACK, 2, KCODE, "offset case_abort"
    TRY_IRET 0, USER_STACK, 2, UCODE, "offset case_abort"
    TRY_IRET 3, USER_STACK, 2, UCODE, "offset case_abort"
    TRY_IRET KDATA, USER_STACK, 2, UCODE, "offset case_abort"
    TRY_IRET UDATA, USER_STACK, 2, UCODE, NONCANONICAL
    TRY_IRET 0, USER_STACK, 0x4002, KCODE, "offset 3f"
3:  mov eax, ss
    SAY rax
    mov rax, rsp
    SAY rax
    push 0x4002
    popfq
    FAULTS iretq
    push 2
    popfq
    mov eax, KDATA
    mov ss, eax
    mov rsp, MAIN_STACK
    push 0x10000
    push KCODE
    push 0
    FAULTS iretd
CASE iret_flags
    mov rbx, rsp
    push KDATA
    push rbx
    push 0x243fd5
    push KCODE
    push offset 3f
    iretq
3:  pushfq
    pop rax
    push 2
    popfq
    SAY rax

/* ---- fast system calls ---- */

CASE syscall_sysret
    WRITE_MSR 0xc0000081, 0x001b000800000000
    mov eax, offset 3f
    mov r15, rax
    WRITE_MSR 0xc0000082, r15
    WRITE_MSR 0xc0000084, 0x000300
    USER_BEGIN 0x0ed7
    syscall
4:  mov eax, cs
    SAY rax
    mov eax, ss
    SAY rax
    pushfq
    pop rax
    SAY rax
    USER_END
    jmp case_done
3:  pushfq
    pop rbx
    xchg rsp, [scratch]
    mov esp, MAIN_STACK
    mov rax, rcx
    sub rax, offset 4b + ALIAS
    SAY rax
    SAY r11
    SAY rbx
    mov eax, cs
    SAY rax
    mov eax, ss
    SAY rax
    mov esp, USER_STACK
    or r11, 0x250000
    sysretq
MANUAL_CASE sysret_rules
    WRITE_MSR 0xc0000081, 0x001b000800000000
    movabs rcx, NONCANONICAL
    FAULTS sysretq
    USER_BEGIN
    .byte 0x48, 0x0f, 0x07
    USER_END
    mov ecx, 0xc0000080
    mov eax, BASE_EFER & ~1
    xor edx, edx
    wrmsr
    FAULTS syscall
    FAULTS sysretq
MANUAL_CASE sysret_compat
    WRITE_MSR 0xc0000081, 0x001b000800000000
    mov dword ptr [resume], offset 4f
    mov ecx, offset 3f + ALIAS
    mov r11d, 2
    mov esp, USER_STACK
    .byte 0x0f, 0x07
3:  .code32
    mov eax, cs
    int 0x40
    mov eax, ss
    int 0x40
    mov eax, esp
    int 0x40
    syscall /* #UD in compatibility mode */
    .code64
4:
MANUAL_CASE sysenter_sysexit
    FAULTS sysenter
    FAULTS .byte 0x0f, 0x35
    WRITE_MSR 0x174, KCODE
    DESC 0x30, 0, 0xfffff, 0xf3, 0xc /* SS of a 64-bit SYSEXIT */
    mov eax, offset 3f
    mov r15, rax
    WRITE_MSR 0x176, r15
    WRITE_MSR 0x175, 0x8fff8
    USER_BEGIN 0x3202
    sysenter
4:  mov eax, cs
    SAY rax
    mov eax, ss
    SAY rax
    SAY rsp
    USER_END
    USER_BEGIN
    .byte 0x0f, 0x35
    USER_END
    movabs rdx, NONCANONICAL
    FAULTS .byte 0x48, 0x0f, 0x35
    xor edx, edx
    movabs rcx, NONCANONICAL
    FAULTS .byte 0x48, 0x0f, 0x35
    jmp case_done
3:  pushfq
    pop rax
    SAY rax
    mov eax, cs
    SAY rax
    mov eax, ss
    SAY rax
    SAY rsp
    mov dword ptr [resume], offset 5f
    mov edx, offset 4b + ALIAS
    mov ecx, USER_STACK
    .byte 0x48, 0x0f, 0x35
5:
CASE swapgs_and_bases
    WRITE_MSR 0xc0000101, 0x1111000
    WRITE_MSR 0xc0000102, WIN
    mov dword ptr [WIN + 0x10], 0x1234
    swapgs
    mov eax, gs:[0x10]
    SAY rax
    mov eax, 0
    mov gs, eax
    mov ecx, 0xc0000101
    rdmsr
    SAY rax
    FAULTS rdfsbase rax
    CR4_SET 0x10000
    movabs rax, NONCANONICAL
    FAULTS wrfsbase rax
    mov eax, WIN
    wrfsbase rax
    mov eax, fs:[0x10]
    SAY rax
    rdgsbase rax
    SAY rax
END_OF_CASES
