/* debug64.S - cases in 64-bit mode of single steps, debug registers and their interplay with other events. */
#define LONG 1
#include "harness.S"

#define TF_ON 0x102

.macro STEP_ON
    push TF_ON
    popfq
.endm
.macro STEP_OFF
    push 2
    popfq
.endm
.macro DR n, address
    mov rax, offset \address
    mov dr\n, rax
.endm
.macro DR7 value
    mov eax, \value
    mov dr7, rax
.endm
.macro WRITE_MSR msr, value
    mov rax, \value
    mov rdx, rax
    shr rdx, 32
    mov ecx, \msr
    wrmsr
.endm

/* ---- single steps ---- */

CASE step
    TRAPS
    STEP_ON
    nop
    mov eax, 1
    inc eax
    STEP_OFF
    nop
CASE step_over_branches
    TRAPS
    STEP_ON
    jmp 2f
    nop
2:  call 3f
    jmp 4f
3:  ret
4:  test eax, eax
    jnz 5f
    jz 5f
    nop
5:  STEP_OFF
CASE step_over_rep
    mov edi, WIN
    mov ecx, 3
    TRAPS
    STEP_ON
    rep stosb
    STEP_OFF
    SAY rcx
    SAY rdi
CASE step_over_rep_zero
    mov edi, WIN
    xor ecx, ecx
    TRAPS
    STEP_ON
    rep stosb
    repe cmpsb
    STEP_OFF
CASE step_over_repe_that_ends
    mov edi, WIN
    mov esi, WIN + 16
    mov byte ptr [WIN + 2], 1
    mov ecx, 10
    TRAPS
    STEP_ON
    repe cmpsb
    STEP_OFF
    SAY rcx
CASE step_over_popf_and_pushf
    TRAPS
    STEP_ON
    pushfq
    pop rax
    push TF_ON
    popfq
    STEP_OFF
    SAY rax
CASE step_over_int
    TRAPS
    STEP_ON
    int 0x50
    nop
    int3
    nop
    STEP_OFF
CASE step_into_iret
    mov rbx, rsp
    TRAPS
    push KDATA
    push rbx
    push TF_ON
    push KCODE
    push offset 2f
    iretq
2:  nop
    nop
    STEP_OFF
CASE step_in_user
    mov dword ptr [scratch], 0
    USER_BEGIN
    mov ebx, 0
    USER_END
    mov rbx, rsp
    TRAPS
    push UDATA
    push USER_STACK
    push TF_ON
    push UCODE
    push offset 2f + ALIAS
    iretq
2:  nop
    mov eax, 5
    int 0x42
    nop
    int 0x41
CASE step_over_fault
    TRAPS
    mov eax, offset 3f
    mov [GATE(6)], ax
    shr eax, 16
    mov [GATE(6) + 6], ax
    STEP_ON
    ud2
2:  nop
    STEP_OFF
    jmp case_done
3:  add qword ptr [rsp], 2
    iretq
CASE step_over_mov_ss
    mov ebx, KDATA
    TRAPS
    STEP_ON
    mov ss, ebx
    nop
    nop
    STEP_OFF
CASE step_over_mov_ss_and_int
    mov ebx, KDATA
    TRAPS
    STEP_ON
    mov ss, ebx
    int 0x50
    nop
    STEP_OFF
CASE step_over_mov_ss_and_fault
    mov ebx, KDATA
    TRAPS
    mov eax, offset 3f
    mov [GATE(6)], ax
    shr eax, 16
    mov [GATE(6) + 6], ax
    STEP_ON
    mov ss, ebx
    ud2
    nop
    STEP_OFF
    jmp case_done
3:  add qword ptr [rsp], 2
    iretq
CASE step_over_lss_and_ds
    mov ebx, KDATA
    mov [scratch], rsp
    mov word ptr [scratch + 4], bx
    TRAPS
    STEP_ON
    mov ds, ebx
    nop
    lss esp, [scratch]
    nop
    STEP_OFF
CASE step_over_sti
    TRAPS
    STEP_ON
    sti
    nop
    cli
    nop
    STEP_OFF
CASE step_over_syscall
    WRITE_MSR 0xc0000081, 0x001b000800000000
    mov eax, offset 3f
    mov r15, rax
    WRITE_MSR 0xc0000082, r15
    WRITE_MSR 0xc0000084, 0x000100
    TRAPS
    push UDATA
    push USER_STACK
    push TF_ON
    push UCODE
    push offset 2f + ALIAS
    iretq
2:  syscall
    nop
    int 0x41
3:  mov esp, MAIN_STACK
    SAY r11
    sysretq
CASE step_over_far_transfers
    TRAPS
    mov dword ptr [scratch], offset 2f
    mov dword ptr [scratch + 4], KCODE
    STEP_ON
    jmp fword ptr [scratch]
2:  nop
    push KCODE
    push offset 3f
    .byte 0x48, 0xcb
3:  nop
    STEP_OFF
CASE step_over_cpuid_rdtsc_wrmsr
    TRAPS
    STEP_ON
    cpuid
    rdtsc
    mov rax, cr3
    mov cr3, rax
    invlpg [rax]
    wbinvd
    in al, 0x80
    out 0x80, al
    STEP_OFF
CASE step_flag_survives_in_saved_flags
    TRAPS
    push TF_ON
    popfq
    pushfq
    STEP_OFF
    pop rax
    SAY rax

/* ---- debug registers ---- */

CASE registers_read_back
    mov rax, 0x123456789a
    mov dr0, rax
    mov dr1, rax
    mov dr2, rax
    mov dr3, rax
    mov rax, dr0
    SAY rax
    mov rax, dr6
    SAY rax
    mov rax, dr7
    SAY rax
    xor eax, eax
    mov dr6, rax
    mov dr7, rax
    mov rax, dr6
    SAY rax
    mov rax, dr7
    SAY rax
    mov eax, 0xffffffff
    mov dr6, rax
    mov rax, dr6
    SAY rax
    mov eax, 0xffffdc00
    mov dr7, rax
    mov rax, dr7
    SAY rax
    xor eax, eax
    mov dr7, rax
    mov rax, dr4
    SAY rax
    mov rax, dr5
    SAY rax
    CR4_SET 8
    FAULTS mov rax, dr4
    FAULTS mov rax, dr5
    FAULTS mov dr5, rax
CASE registers_upper_half
    mov rax, 0x100000000
    FAULTS mov dr6, rax
    FAULTS mov dr7, rax
    movabs rax, 0x8000000000000000
    FAULTS mov dr0, rax
CASE data_write
    TRAPS
    DR 0, WIN+0x100
    DR7 0x000d0001
    mov dword ptr [WIN + 0x100], 1
    nop
    mov eax, [WIN + 0x100]
    nop
    mov byte ptr [WIN + 0x103], 1
    nop
    mov byte ptr [WIN + 0x104], 1
    mov byte ptr [WIN + 0xff], 1
    nop
    mov qword ptr [WIN + 0xfc], 1
    nop
    add dword ptr [WIN + 0x100], 1
    nop
CASE data_access
    TRAPS
    DR 1, WIN+0x108
    DR7 0x00b00008
    mov rax, [WIN + 0x108]
    mov [WIN + 0x10f], al
    mov al, [WIN + 0x110]
    push [WIN + 0x108]
    pop [WIN + 0x108]
    movups xmm0, [WIN + 0x100]
    movups xmm0, [WIN + 0xf8]
    nop
CASE data_lengths
    TRAPS
    DR 0, WIN+0x101
    DR 1, WIN+0x103
    DR 2, WIN+0x106
    DR7 0x0d510015
    mov byte ptr [WIN + 0x101], 1 /* length 1 */
    mov byte ptr [WIN + 0x102], 1 /* length 2 from 102 on */
    mov byte ptr [WIN + 0x103], 1
    mov byte ptr [WIN + 0x104], 1 /* length 4 from 104 on */
    mov byte ptr [WIN + 0x107], 1
    mov byte ptr [WIN + 0x108], 1
    nop
CASE several_at_once
    TRAPS
    DR 0, WIN+0x100
    DR 1, WIN+0x104
    DR 2, WIN+0x200
    DR 3, WIN+0x102
    DR7 0xdddd0055
    mov qword ptr [WIN + 0x100], 1
    nop
CASE local_and_global_enable
    TRAPS
    DR 0, WIN+0x100
    DR7 0x00010000
    mov byte ptr [WIN + 0x100], 1
    DR7 0x00010002
    mov byte ptr [WIN + 0x100], 1
    DR7 0x00010001
    mov byte ptr [WIN + 0x100], 1
    nop
CASE data_hit_with_step
    TRAPS
    DR 0, WIN+0x100
    DR7 0x00010001
    STEP_ON
    mov byte ptr [WIN + 0x100], 1
    nop
    STEP_OFF
CASE data_hit_in_rep
    TRAPS
    DR 0, WIN+0x102
    DR7 0x00010001
    mov edi, WIN + 0x100
    mov ecx, 6
    rep stosb
    SAY rcx
    mov esi, WIN + 0x100
    mov edi, WIN + 0x200
    mov ecx, 6
    DR7 0x00030001
    rep movsb
    nop
CASE data_hit_in_fault
    TRAPS
    DR 0, WIN+0x5ffc
    DR7 0x000d0001
    SET_PTE 6, 0
    mov dword ptr [resume], offset 2f
    mov qword ptr [WIN + 0x5ffc], 1
2:  nop
    mov rax, dr6
    SAY rax
CASE data_hit_through_mov_ss
    mov ebx, KDATA
    mov word ptr [WIN + 0x100], KDATA
    TRAPS
    DR 0, WIN+0x100
    DR7 0x00030001
    mov ss, [WIN + 0x100]
    nop
    nop
    mov ds, [WIN + 0x100]
    nop
CASE data_hit_pushed_by_call
    TRAPS
    DR 0, (MAIN_STACK-0x108)
    DR7 0x00090001
    mov rsp, MAIN_STACK - 0x100
    call 2f
2:  nop
    mov rsp, MAIN_STACK - 0x100
    enter 0, 0
    nop
CASE data_hit_in_user
    TRAPS
    DR 0, WIN+0x100
    DR7 0x00010001
    mov dword ptr [resume], 0
    push UDATA
    push USER_STACK
    push 2
    push UCODE
    push offset 2f + ALIAS
    iretq
2:  mov byte ptr [WIN + 0x100], 1
    mov byte ptr [WIN + 0x101], 1
    int 0x41
CASE execute
    TRAPS
    DR 0, 2f
    DR7 0x00000401
    mov ebx, offset 3f
    mov [GATE(1)], bx
    shr ebx, 16
    mov [GATE(1) + 6], bx
    nop
2:  mov eax, 7
    SAY rax
    jmp case_done
3:  mov rax, [rsp]
    sub rax, offset 2b
    SAY rax
    mov eax, [rsp + 16]
    SAY rax
    mov rax, dr6
    SAY rax
    or dword ptr [rsp + 16], 0x10000 /* RF */
    iretq
CASE execute_without_rf_repeats
    TRAPS
    DR 0, 2f
    DR7 0x00000401
    mov ecx, 0
    mov ebx, offset 3f
    mov [GATE(1)], bx
    shr ebx, 16
    mov [GATE(1) + 6], bx
    nop
2:  SAY rcx
    jmp case_done
3:  inc ecx
    cmp ecx, 3
    jb 4f
    or dword ptr [rsp + 16], 0x10000
4:  iretq
CASE execute_second_byte_does_not_hit
    TRAPS
    DR 0, 2f+1
    DR7 0x00000401
2:  mov eax, 7
    nop
CASE execute_in_loop
    mov dword ptr [resume], 0
    DR 0, 2f
    DR7 0x00000401
    mov ebx, offset 3f
    mov [GATE(1)], bx
    shr ebx, 16
    mov [GATE(1) + 6], bx
    mov ecx, 3
2:  dec ecx
    jnz 2b
    DR7 0x400
    jmp case_done
3:  SAY rcx
    or dword ptr [rsp + 16], 0x10000
    iretq
CASE execute_with_rep
    mov dword ptr [resume], 0
    DR 0, 2f
    DR7 0x00000401
    mov ebx, offset 3f
    mov [GATE(1)], bx
    shr ebx, 16
    mov [GATE(1) + 6], bx
    mov ecx, 4
    mov edi, WIN
2:  rep stosb
    nop
    DR7 0x400
    SAY rcx
    jmp case_done
3:  SAY rcx
    or dword ptr [rsp + 16], 0x10000
    iretq
CASE execute_after_step
    TRAPS
    DR 0, 2f
    DR7 0x00000401
    mov ebx, offset 3f
    mov [GATE(1)], bx
    shr ebx, 16
    mov [GATE(1) + 6], bx
    STEP_ON
    nop
2:  nop
    nop
    STEP_OFF
    jmp case_done
3:  push rax
    mov rax, [rsp + 8]
    sub rax, offset 2b
    SAY rax
    mov rax, dr6
    SAY rax
    xor eax, eax
    mov dr6, rax
    or dword ptr [rsp + 24], 0x10000
    pop rax
    iretq
CASE execute_after_mov_ss
    mov ebx, KDATA
    TRAPS
    DR 0, 2f
    DR7 0x00000401
    mov ss, ebx
2:  nop
    nop
CASE execute_on_missing_page
    DR 0, WIN+0x6000
    DR7 0x00000401
    SET_PTE 6, 0
    mov ebx, WIN + 0x6000
    mov dword ptr [resume], offset 2f
    jmp rbx
2:
CASE rf_in_saved_flags
    mov dword ptr [show_rf], 1
    FAULTS ud2
    FAULTS div ecx
    SET_PTE 6, 0
    FAULTS mov eax, [WIN + 0x6000]
    TRAPS
    int 0x50
    int3
    STEP_ON
    nop
    STEP_OFF
    DR 0, WIN+0x100
    DR7 0x00010001
    mov byte ptr [WIN + 0x100], 1
    nop
CASE rf_in_saved_flags_of_rep
    mov dword ptr [show_rf], 1
    SET_PTE 6, 0
    mov edi, WIN + 0x5ffe
    mov ecx, 8
    FAULTS rep stosb
CASE rf_and_pushf_popf
    mov rbx, rsp
    push KDATA
    push rbx
    push 0x10002
    push KCODE
    push offset 2f
    iretq
2:  pushfq
    pop rax
    SAY rax
    push 0x10002
    popfq
    pushfq
    pop rax
    SAY rax
CASE io_breakpoint
    TRAPS
    CR4_SET 8
    mov eax, 0x80
    mov dr0, rax
    DR7 0x00020001
    out 0x80, al
    nop
    out 0x81, al
    in al, 0x80
    nop
    out 0x7f, ax
    nop
    DR7 0x00060001
    out 0x81, al
    nop
CASE general_detect
    mov dword ptr [keep_dr6], 1
    mov eax, 0x2400
    mov dr7, rax
    FAULTS mov rax, dr0
    mov rax, dr7
    SAY rax
    xor eax, eax
    mov dr6, rax
    mov eax, 0x2400
    mov dr7, rax
    FAULTS mov dr6, rax
    xor eax, eax
    mov dr6, rax
    mov eax, 0x2400
    mov dr7, rax
    USER_BEGIN
    mov rax, dr0
    USER_END
    mov dword ptr [keep_dr6], 0
    FAULTS mov rax, dr7
    mov rax, dr7
    SAY rax
CASE dr6_is_sticky
    mov dword ptr [keep_dr6], 1
    TRAPS
    DR 0, WIN+0x100
    DR 1, WIN+0x101
    DR7 0x00110005
    STEP_ON
    nop
    STEP_OFF
    mov byte ptr [WIN + 0x100], 1
    nop
    mov byte ptr [WIN + 0x101], 1
    nop
CASE dr7_change_takes_effect_at_once
    TRAPS
    DR 0, WIN+0x100
    mov eax, 0x00010001
    mov dr7, rax
    mov [WIN + 0x100], al
    xor eax, eax
    mov dr7, rax
    mov [WIN + 0x100], al
    DR 0, 2f
    mov eax, 1
    mov dr7, rax
2:  nop
    nop
MANUAL_CASE branch_trap
    TRAPS
    WRITE_MSR 0x1d9, 2
    STEP_ON
    nop
    nop
    jmp 2f
    nop
2:  STEP_OFF
    mov ecx, 0x1d9
    rdmsr
    SAY rax
    WRITE_MSR 0x1d9, 2
    STEP_ON
    nop
    test rsp, rsp
    jz 3f
    jnz 3f
    nop
3:  STEP_OFF
CASE int1_gate_by_int_n
    TRAPS
    mov byte ptr [GATE(1) + 5], 0xee
    int 1
    USER_BEGIN
    int 1
    USER_END
END_OF_CASES
