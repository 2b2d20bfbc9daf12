/*
 * From the PVH entry (32-bit protected mode, EBX = struct hvm_start_info) to guest_main in long mode.
 * Started processors come from real mode and join the same path to processor_main.
 */
#include "bench.h"

#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define STACK_SIZE 0x4000
#define OTHER_STACK_SHIFT 12

#define CR0_PE (1 << 0)
#define CR0_MP (1 << 1)
#define CR0_EM (1 << 2)
#define CR0_TS (1 << 3)
#define CR0_NE (1 << 5)
#define CR0_NW (1 << 29)
#define CR0_CD (1 << 30)
#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define CR4_OSFXSR (1 << 9)
#define CR4_OSXMMEXCPT (1 << 10)
#define MSR_EFER 0xC0000080
#define EFER_LME (1 << 8)
#define PTE_LARGE 0x080

/* Xen's PVH note: type 18 (PHYS32_ENTRY) names the 32-bit entry point. */
    .section .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_entry

    .text
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld

    /* The first GiB maps to itself in 2 MiB pages. */
    movl    $(page_directory_pointers + PTE_PRESENT_WRITABLE), pml4
    movl    $(page_directory + PTE_PRESENT_WRITABLE), page_directory_pointers
    movl    $(PTE_PRESENT_WRITABLE | PTE_LARGE), %eax
    movl    $page_directory, %edi
1:  movl    %eax, (%edi)
    addl    $0x200000, %eax
    addl    $8, %edi
    cmpl    $(page_directory + 0x1000), %edi
    jne     1b

    movl    %ebx, start_info_address
    movl    $first_processor, %esi

/* Go to the 64-bit code at ESI. */
enter_long_mode:
    movl    $pml4, %eax
    movl    %eax, %cr3
    movl    %cr4, %eax
    orl     $(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
    movl    %eax, %cr4
    movl    $MSR_EFER, %ecx
    rdmsr
    orl     $EFER_LME, %eax
    wrmsr
    movl    %cr0, %eax
    andl    $~(CR0_CD | CR0_NW | CR0_EM | CR0_TS), %eax
    orl     $(CR0_PE | CR0_MP | CR0_NE | CR0_PG), %eax
    movl    %eax, %cr0
    lgdt    gdt_pointer
    ljmp    $SEL_CODE64, $long_mode

    .code64
long_mode:
    movl    $SEL_DATA, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    fninit
    movl    %esi, %eax
    jmp     *%rax

first_processor:
    movl    $stack_top, %esp
    movl    start_info_address, %edi
    call    guest_main
1:  cli
    hlt
    jmp     1b

/* Every other processor takes the next number, from 1; the number is its stack. */
other_processor:
    movl    $1, %eax
    lock xaddl %eax, processors
    cmpl    $MAX_PROCESSORS, %eax
    jae     1f
    leal    1(%rax), %esp
    shll    $OTHER_STACK_SHIFT, %esp
    addl    $other_stacks, %esp
    call    processor_main
1:  cli
    hlt
    jmp     1b

/* Real mode, copied to TRAMPOLINE; CS = TRAMPOLINE >> 4, so offsets count from the label. */
    .code16
    .global trampoline, trampoline_end
trampoline:
    cli
    lgdtl   %cs:(trampoline_gdt_pointer - trampoline)
    movl    %cr0, %eax
    orl     $CR0_PE, %eax
    movl    %eax, %cr0
    ljmpl   $SEL_CODE32, $other_processor32
trampoline_gdt_pointer:
    .word   gdt_end - gdt - 1
    .long   gdt
trampoline_end:

    .code32
other_processor32:
    movl    $SEL_DATA, %eax
    movl    %eax, %ds
    movl    %eax, %ss
    cld
    movl    $other_processor, %esi
    jmp     enter_long_mode

    .section .rodata
    .align 8
gdt:
    .quad   0
    .quad   0x00AF9B000000FFFF          /* SEL_CODE64 */
    .quad   0x00CF93000000FFFF          /* SEL_DATA */
    .quad   0x00CF9B000000FFFF          /* SEL_CODE32 */
gdt_end:
gdt_pointer:
    .word   gdt_end - gdt - 1
    .quad   gdt

    .data
    .align 4
    .global processors
processors:
    .long   1

    .bss
    .align 0x1000
    .global pml4, page_directory_pointers
pml4:
    .skip   0x1000
page_directory_pointers:
    .skip   0x1000
page_directory:
    .skip   0x1000
    .skip   STACK_SIZE
stack_top:
other_stacks:
    .skip   MAX_PROCESSORS << OTHER_STACK_SHIFT
start_info_address:
    .skip   4

    .section .note.GNU-stack, "", @progbits
