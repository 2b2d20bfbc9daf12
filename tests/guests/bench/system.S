/* The kernels that need privilege, with their handlers, and the stubs of unexpected exceptions. */
#include "bench.h"

    .macro KERNEL name
    .text
    .align 16
    .global \name
    .type \name, @function
\name:
    .endm

    .macro END name
    .size \name, . - \name
    .endm

/*
 * Page faults: 9, the fault, 11 in the handler. A page of the window is unmapped and read, the handler
 * maps it again, the next page follows.
 */
    KERNEL kernel_fault
    movq    $WINDOW_BASE, %rsi
    xorl    %edx, %edx
    xorl    %eax, %eax
    .align 16
1:  movl    %edx, %ecx
    shrl    $9, %ecx
    movq    $0, window_table(%rcx)
    invlpg  (%rsi,%rdx)
    addq    (%rsi,%rdx), %rax
    addl    $PAGE_SIZE, %edx
    andl    $(WINDOW_PAGES * PAGE_SIZE - 1), %edx
    decq    %rdi
    jnz     1b
    ret
    END kernel_fault

    .global fault_entry
    .align 16
fault_entry:
    pushq   %rax
    pushq   %rcx
    movq    %cr2, %rcx
    shrl    $12, %ecx
    andl    $(WINDOW_PAGES - 1), %ecx
    movq    window_entries(,%rcx,8), %rax
    movq    %rax, window_table(,%rcx,8)
    popq    %rcx
    popq    %rax
    addq    $8, %rsp
    iretq

/* Address-space switches, each followed by a read of 16 pages that the two spaces map differently: 20. */
    KERNEL kernel_cr3
    movl    $pml4, %r8d
    movl    $other_pml4, %r9d
    movq    $WINDOW_BASE, %rsi
    xorl    %eax, %eax
    .align 16
1:  xchgq   %r8, %r9
    movq    %r8, %cr3
    .set    page, 0
    .rept   WINDOW_PAGES
    addq    page * PAGE_SIZE(%rsi), %rax
    .set    page, page + 1
    .endr
    decq    %rdi
    jnz     1b
    movl    $pml4, %r8d
    movq    %r8, %cr3
    ret
    END kernel_cr3

/* Software interrupts: 3, and 2 in the handler. */
    KERNEL kernel_int
    xorl    %eax, %eax
    .align 16
1:  int     $0x80
    decq    %rdi
    jnz     1b
    ret
    END kernel_int

    .global interrupt_entry
    .align 16
interrupt_entry:
    incq    %rax
    iretq

/* Reads of the byte-wide port 61h: 3. What it holds depends on the time. */
    KERNEL kernel_port
1:  inb     $0x61, %al
    decq    %rdi
    jnz     1b
    xorl    %eax, %eax
    ret
    END kernel_port

/* 32 stubs of 16 bytes that push the vector, below it an error code. */
    .global exception_stubs
    .align 16
exception_stubs:
    .set    vector, 0
    .rept   32
    .align  16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    pushq   $0
    .endif
    pushq   $vector
    jmp     exception
    .set    vector, vector + 1
    .endr
exception:
    movq    %rsp, %rdi
    andq    $-16, %rsp
    cld
    call    unexpected_exception

    .section .note.GNU-stack, "", @progbits
