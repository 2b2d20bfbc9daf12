/*
 * From the loader to C: 32-bit protected mode, page tables, long mode. Started processors come
 * from real mode and join the same path.
 */
#include "layout.h"

#define CR0_PE (1 << 0)
#define CR0_WP (1 << 16)
#define CR0_NW (1 << 29)
#define CR0_CD (1 << 30)
#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define MSR_EFER 0xC0000080
#define EFER_LME (1 << 8)

#define PTE_PRESENT_WRITABLE 0x003
#define PTE_LARGE 0x080
#define PTE_NO_CACHE 0x010

    .cfi_sections .debug_frame

/* Xen's PVH note: type 18 (PHYS32_ENTRY) names the 32-bit entry point. */
    .section .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_entry

/* ------------------------------------------------------------------------------------------ */
    .text
    .code32

/* Flat 32-bit segments, paging off, EBX = address of struct hvm_start_info. */
    .global pvh_entry
    .type pvh_entry, @function
pvh_entry:
    cli
    cld
    movl    $(cpu_stacks + STACK_SIZE), %esp
    movl    %ebx, start_info_address
    call    build_page_tables
    movl    $bsp_entry64, %esi
    jmp     enter_long_mode
    .size pvh_entry, . - pvh_entry

/* Identity-map the first 4 GiB with 2 MiB pages; the fourth GiB holds devices and is not cached. */
    .type build_page_tables, @function
build_page_tables:
    movl    $(page_directory_pointers + PTE_PRESENT_WRITABLE), pml4

    movl    $(page_directories + PTE_PRESENT_WRITABLE), %eax
    movl    $page_directory_pointers, %edi
    movl    $4, %ecx
1:  movl    %eax, (%edi)
    addl    $0x1000, %eax
    addl    $8, %edi
    decl    %ecx
    jnz     1b

    movl    $(PTE_PRESENT_WRITABLE | PTE_LARGE), %eax
    movl    $page_directories, %edi
    movl    $2048, %ecx
2:  cmpl    $512, %ecx
    jne     3f
    orl     $PTE_NO_CACHE, %eax
3:  movl    %eax, (%edi)
    addl    $0x200000, %eax
    addl    $8, %edi
    decl    %ecx
    jnz     2b
    ret
    .size build_page_tables, . - build_page_tables

/* Go to the 64-bit code at ESI. */
    .type enter_long_mode, @function
enter_long_mode:
    movl    $pml4, %eax
    movl    %eax, %cr3

    movl    %cr4, %eax
    orl     $CR4_PAE, %eax
    movl    %eax, %cr4

    movl    $MSR_EFER, %ecx
    rdmsr
    orl     $EFER_LME, %eax
    wrmsr

    movl    %cr0, %eax
    andl    $~(CR0_CD | CR0_NW), %eax
    orl     $(CR0_PE | CR0_WP | CR0_PG), %eax
    movl    %eax, %cr0

    lgdt    gdt_pointer
    ljmp    $SEL_CODE64, $long_mode
    .size enter_long_mode, . - enter_long_mode

    .code64
    .type long_mode, @function
long_mode:
    movl    $SEL_DATA, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    xorl    %eax, %eax
    movl    %eax, %fs
    movl    %eax, %gs
    movl    %esi, %eax
    jmp     *%rax
    .size long_mode, . - long_mode

/* The first processor, on stack 0. An undefined return address ends gdb's backtrace here. */
    .type bsp_entry64, @function
bsp_entry64:
    .cfi_startproc
    .cfi_undefined rip
    movl    $(cpu_stacks + STACK_SIZE), %esp
    xorl    %ebp, %ebp
    movl    start_info_address, %edi
    call    kmain
1:  cli
    hlt
    jmp     1b
    .cfi_endproc
    .size bsp_entry64, . - bsp_entry64

/* Every other processor: takes the next number, which is its stack and its row in `cpus`. */
    .type ap_entry64, @function
ap_entry64:
    .cfi_startproc
    .cfi_undefined rip
    movl    $1, %edi
    lock xaddl %edi, next_cpu
    cmpl    $MAX_CPUS, %edi
    jae     1f
    leal    1(%rdi), %esp
    imull   $STACK_SIZE, %esp
    addl    $cpu_stacks, %esp
    xorl    %ebp, %ebp
    call    ap_main
1:  cli
    hlt
    jmp     1b
    .cfi_endproc
    .size ap_entry64, . - ap_entry64

/* ------------------------------------------------------------------------------------------ */
/* Real mode, copied to TRAMPOLINE; CS = TRAMPOLINE >> 4, so offsets count from the label. */
    .code16
    .global ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    lgdtl   %cs:(trampoline_gdt_pointer - ap_trampoline)
    movl    %cr0, %eax
    orl     $CR0_PE, %eax
    movl    %eax, %cr0
    ljmpl   $SEL_CODE32, $ap_entry32
trampoline_gdt_pointer:
    .word   gdt_end - gdt - 1
    .long   gdt
ap_trampoline_end:

    .code32
    .type ap_entry32, @function
ap_entry32:
    movl    $SEL_DATA, %eax
    movl    %eax, %ds
    movl    %eax, %ss
    cld
    movl    $ap_entry64, %esi
    jmp     enter_long_mode
    .size ap_entry32, . - ap_entry32

/* ------------------------------------------------------------------------------------------ */
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
    .global next_cpu
next_cpu:
    .long   1

    .bss
    .align 4
start_info_address:
    .skip   4
    .align 0x1000
    .global pml4
pml4:
    .skip   0x1000
page_directory_pointers:
    .skip   0x1000
page_directories:
    .skip   4 * 0x1000
    .global cpu_stacks
cpu_stacks:
    .skip   MAX_CPUS * STACK_SIZE

    .section .note.GNU-stack, "", @progbits
