/*
 * Interrupt and exception entry: 256 stubs of 16 bytes, one common path to trap_dispatch(), and
 * the small routines whose faults are expected. The .cfi lines let gdb walk from a handler into
 * the code it interrupted.
 */
    .cfi_sections .debug_frame

    .macro PUSH reg
    pushq   %\reg
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset \reg, 0
    .endm

    .macro POP reg
    popq    %\reg
    .cfi_adjust_cfa_offset -8
    .cfi_restore \reg
    .endm

/* The frame the processor pushed: SS, RSP, RFLAGS, CS, RIP, below them `extra` bytes. */
    .macro TRAP_CFI extra
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa rsp, 40 + \extra
    .cfi_offset rip, -40
    .cfi_offset rsp, -16
    .endm

    .text
    .align 16
    .global trap_stubs
    .type trap_stubs, @function
trap_stubs:
    .set    vector, 0
    .rept   256
    .align  16
    /* These push an error code themselves: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX. */
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    TRAP_CFI 8
    .else
    TRAP_CFI 0
    pushq   $0
    .cfi_adjust_cfa_offset 8
    .endif
    pushq   $vector
    .cfi_adjust_cfa_offset 8
    jmp     trap_common
    .cfi_endproc
    .set    vector, vector + 1
    .endr
    .size trap_stubs, . - trap_stubs

/* Stack: struct trap_frame from `vector` upwards. The pushes complete it (cpu.h). */
    .type trap_common, @function
trap_common:
    TRAP_CFI 16
    PUSH    rax
    PUSH    rbx
    PUSH    rcx
    PUSH    rdx
    PUSH    rbp
    PUSH    rsi
    PUSH    rdi
    PUSH    r8
    PUSH    r9
    PUSH    r10
    PUSH    r11
    PUSH    r12
    PUSH    r13
    PUSH    r14
    PUSH    r15
    cld
    movq    %rsp, %rdi
    call    trap_dispatch
    POP     r15
    POP     r14
    POP     r13
    POP     r12
    POP     r11
    POP     r10
    POP     r9
    POP     r8
    POP     rdi
    POP     rsi
    POP     rbp
    POP     rdx
    POP     rcx
    POP     rbx
    POP     rax
    addq    $16, %rsp
    .cfi_adjust_cfa_offset -16
    iretq
    .cfi_endproc
    .size trap_common, . - trap_common

/* ------------------------------------------------------------------------------------------ */
/*
 * Routines that may fault. Each returns 1, or 0 when the instruction that `may_fault` lists
 * faulted: trap_dispatch() then goes on at fault_return.
 */
    .macro FUNCTION name
    .global \name
    .type \name, @function
\name:
    .cfi_startproc
    .endm

    .macro RETURN name, value
    movl    $\value, %eax
    ret
    .cfi_endproc
    .size \name, . - \name
    .endm

/* int probe_read(const uint64_t *address, uint64_t *value) */
    FUNCTION probe_read
probe_load:
    movq    (%rdi), %rax
    movq    %rax, (%rsi)
    RETURN  probe_read, 1

/* int probe_write(uint64_t *address, uint64_t value) */
    FUNCTION probe_write
probe_store:
    movq    %rsi, (%rdi)
    RETURN  probe_write, 1

/* int raise_divide_error(void) */
    FUNCTION raise_divide_error
    xorl    %edx, %edx
    xorl    %ecx, %ecx
    movl    $1, %eax
divide_by_zero:
    divl    %ecx
    RETURN  raise_divide_error, 1

/* int raise_undefined_opcode(void) */
    FUNCTION raise_undefined_opcode
undefined_opcode:
    ud2
    RETURN  raise_undefined_opcode, 1

/* int raise_general_protection(void): a load from a non-canonical address */
    FUNCTION raise_general_protection
    movabsq $0x8000000000000000, %rcx
non_canonical_load:
    movq    (%rcx), %rax
    RETURN  raise_general_protection, 1

    FUNCTION fault_return
    RETURN  fault_return, 0

    .section .rodata
    .align 8
    .global may_fault
may_fault:
    .quad   probe_load
    .quad   probe_store
    .quad   divide_by_zero
    .quad   undefined_opcode
    .quad   non_canonical_load
    .quad   0

    .section .note.GNU-stack, "", @progbits
