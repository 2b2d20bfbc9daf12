/* modes.S - a boot sector that goes through the modes: 16-bit at `in16`, 32-bit at `in32`, 64-bit at `in64`, back to
 * 32-bit and 16-bit code in compatibility mode (`compat32`, `compat16`), and again to 64-bit (`again64`).
 */
    .text
    .code16
    .global _start, in16, in32, in64, compat32, compat16, again64
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    movw $0x1616, %ax
    call in16
    lgdt gdtr
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmp $0x08, $protected
in16:
    incw %ax
    ret

    .code32
protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl $0x7c00, %esp
    movl $0x32323232, %eax
    call in32
    movl $0x2007, 0x1000       /* PML4, page directory pointers, one page of 2 MiB */
    movl $0x3007, 0x2000
    movl $0x0083, 0x3000
    movl $0x1000, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orb $0x20, %al
    movl %eax, %cr4
    movl $0xC0000080, %ecx
    rdmsr
    orb $1, %ah
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmp $0x18, $long
in32:
    incl %eax
    ret

    .code64
long:
    movabsq $0x6464646464646464, %rax
    call in64
    pushq $0x08
    pushq $compat32
    lretq
in64:
    incq %rax
    ret
again64:
    incq %rax
    hlt

    .code32
compat32:
    incl %eax
    ljmp $0x20, $compat16
    .code16
compat16:
    incw %ax
    ljmpl $0x18, $again64

    .align 8
gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF    /* 08: 32-bit code */
    .quad 0x00CF93000000FFFF    /* 10: data */
    .quad 0x00AF9B000000FFFF    /* 18: 64-bit code */
    .quad 0x008F9B000000FFFF    /* 20: 16-bit code */
gdtr:
    .word gdtr - gdt - 1
    .long gdt
    .org 510
    .word 0xAA55
