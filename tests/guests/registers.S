/* registers.S - a Multiboot guest that gives every register that a monitor shows a value of its own, first in
 * protected mode (it waits at `stop32`), then in long mode (`stop64`).
 */
    .intel_syntax noprefix
    .section .multiboot, "a"
    .align 4
    .long 0x1BADB002, 0, -0x1BADB002

    .text
    .code32
    .global _start, stop32, stop64
_start:
    cli
    mov esp, offset stack_end
    lgdt [gdtr32]
    lidt [idtr32]
    ljmp 0x08, offset 1f
1:  mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, 0x18          /* expand-down, 16 bits */
    mov fs, eax
    xor eax, eax
    mov gs, eax
    lldt ax
    mov eax, 0x28
    ltr ax
    mov eax, cr4
    or eax, 0x40620        /* OSXSAVE, OSXMMEXCPT, OSFXSR, PAE */
    mov cr4, eax
    fninit
    fld1
    fldpi
    fldl2e
    fstp st(1)
    mov dword ptr [mxcsr], 0x3FA0
    ldmxcsr [mxcsr]
    mov eax, 0x11223344
    movd xmm3, eax
    pshufd xmm7, xmm3, 0x1B
    mov eax, offset stack_end
    mov dr0, eax
    mov eax, 0x12345678
    mov dr3, eax
    mov eax, 0xA1A1A1A1
    mov ebx, 0xB2B2B2B2
    mov ecx, 0xC3C3C3C3
    mov edx, 0xD4D4D4D4
    mov esi, 0x51515151
    mov edi, 0xD1D1D1D1
    mov ebp, 0xB9B9B9B9
    add edx, 0x7FFFFFFF    /* flags: overflow, carry, parity ... */
    std
stop32:
    nop
    cld
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x901          /* NXE, LME, SCE */
    wrmsr
    mov eax, cr0
    or eax, 0x80010002     /* PG, WP, MP */
    mov cr0, eax
    ljmp 0x30, offset 2f
    .code64
2:  xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov ecx, 0xC0000101
    mov eax, 0x55667788
    mov edx, 0xFFFF8880
    wrmsr
    xor ecx, ecx
    xgetbv
    or eax, 7
    test dword ptr [want_avx], 1
    jz 3f
    xsetbv
    vpcmpeqd ymm9, ymm9, ymm9
3:  movabs r8, 0x8888888877777777
    mov r9, 9
    mov r10, -10
    mov r11, 11
    mov r12, 12
    mov r13, 13
    mov r14, 14
    movabs r15, 0xFEDCBA9876543210
    movq xmm15, r15
    movabs rax, 0xAAAAAAAA00000001
    movabs rbx, 0xBBBBBBBB00000002
    movabs rsp, 0xFFFFC90000001000
    mov cr2, rax
    cmp eax, 1
stop64:
    hlt
    jmp stop64

    .data
    .align 16
gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF    /* 08: 32-bit code */
    .quad 0x00CF93000000FFFF    /* 10: 32-bit data */
    .quad 0x000F97001000FFFF    /* 18: 16-bit data, expand-down, base 0x1000 */
    .quad 0
    .quad 0x0000890000002067    /* 28: a TSS at 0x2000 */
    .quad 0x00AF9B000000FFFF    /* 30: 64-bit code */
gdtr32:
    .word gdtr32 - gdt - 1
    .long gdt, 0
idtr32:
    .word 0x1F7
    .long 0x12340000, 0
mxcsr: .long 0
want_avx: .long 0
    .global want_avx
    .align 4096
pml4: .quad pdpt + 7
    .fill 511, 8, 0
pdpt: .quad 0x87
    .fill 511, 8, 0
    .fill 1024, 1, 0
stack_end:
