/* compat32.S - cases of compatibility mode: 32-bit and 16-bit code under IA-32e mode, and the ways in and out. */
#define LONG 1
#include "harness.S"

/* 32-bit code at CPL 0, DS ES SS flat. */
.macro COMPAT_BEGIN
    mov dword ptr [resume], offset 9f
    mov dword ptr [scratch], offset 7f
    mov word ptr [scratch + 4], KCODE32
    jmp fword ptr [scratch]
    .code32
7:
.endm
.macro COMPAT_END
    int 0x41
    .code64
9:
.endm
/* 32-bit code at CPL 3. */
.macro COMPAT_USER_BEGIN flags=2
    mov eax, UDATA
    mov ds, eax
    mov es, eax
    USER_BEGIN \flags, UCODE32
    .code32
.endm
.macro COMPAT_USER_END
    int 0x41
    .code64
9:
.endm
.macro WRITE_MSR msr, value
    mov rax, \value
    mov rdx, rax
    shr rdx, 32
    mov ecx, \msr
    wrmsr
.endm
.macro C_TRY first, second, third, fourth
    COMPAT_USER_BEGIN
    \first
    \second
    \third
    \fourth
    COMPAT_USER_END
.endm

CASE enter_and_leave
    COMPAT_BEGIN
    mov eax, cs
    int 0x40
    int 0x42
    COMPAT_END
    COMPAT_USER_BEGIN
    mov eax, cs
    int 0x40
    int 0x42
    COMPAT_USER_END
CASE decoding
    COMPAT_BEGIN
    mov eax, 5
    .byte 0x48 /* DEC EAX here */
    int 0x40
    .byte 0x40, 0x40
    int 0x40
    mov eax, 0x12345678
    xor edx, edx
    .byte 0x8b, 0x05 /* an absolute address here */
    .long scratch + 4
    int 0x40
    pushad
    popad
    aaa
    COMPAT_END
CASE upper_halves
    mov rbx, 0x1111111122222222
    mov rcx, 0x3333333344444444
    mov r9, 0x5555555566666666
    COMPAT_BEGIN
    mov ebx, ebx
    inc ecx
    .byte 0xea
    .long 5f
    .word KCODE
    .code64
5:  SAY r9
    .code32
    int 0x41
    .code64
9:
CASE faults
    C_TRY ud2
    C_TRY "xor ecx, ecx", "div ecx"
    C_TRY cli
    C_TRY hlt
    C_TRY "mov eax, 0x7f", "add al, 1", "into"
    C_TRY "push ds", "pop ds", "int 0x42"
    C_TRY "mov eax, 0x9", "mov ds, eax"
    C_TRY "mov eax, 0", "mov ss, eax"
    C_TRY "mov eax, 0", "mov fs, eax", "int 0x42"
    C_TRY "arpl [esp - 8], ax", "int 0x42"
    C_TRY ".byte 0xd6"
    C_TRY ".byte 0xea", ".long 0", ".word 0x28"
    C_TRY "pushfd", "popfd", "int 0x42"
MANUAL_CASE faults_for_the_manual
    C_TRY syscall
    C_TRY "int 0x30"
MANUAL_CASE segments_have_limits
    DESC T0, 0x40000000, 0x0ff, 0xf2, 0x4
    C_TRY "mov eax, 0x5b", "mov fs, eax", "mov al, fs:[0x100]"
    C_TRY "mov eax, 0x5b", "mov fs, eax", "mov eax, fs:[0xfd]"
    C_TRY "mov eax, 3", "mov fs, eax", "mov eax, fs:[0xfd]"
    C_TRY "mov eax, 0x33", "mov fs, eax", "mov eax, fs:[0xfd]"
CASE address_wraps_at_4_gib
    DESC T0, 0x40000000, 0xfffff, 0xf2, 0xc
    mov dword ptr [WIN + 0x100], 0x1234
    C_TRY "mov eax, 0x5b", "mov fs, eax", "mov eax, fs:[0x100]", "int 0x40"
    COMPAT_USER_BEGIN
    mov eax, 0x5b
    mov fs, eax
    mov ebx, 0xc8100000
    mov eax, fs:[ebx] /* 08100000: the image in the alias */
    int 0x40
    COMPAT_USER_END
CASE stack_of_events
    COMPAT_BEGIN
    mov esp, MAIN_STACK - 0x104
    int 0x42
    mov eax, esp
    mov esp, MAIN_STACK
    int 0x40
    COMPAT_END
CASE interrupt_from_16_bit_code
    DESC T0, 0x20000, 0xffff, 0xfa, 0
    mov dword ptr [0x20000], 0x41cd42cd
    mov byte ptr [pd0], 0x87
    mov rax, cr3
    mov cr3, rax
    mov dword ptr [resume], offset 9f
    push UDATA
    push USER_STACK
    push 2
    push T0 + 3
    push 0
    iretq
9:
CASE iretd_to_compat
    mov dword ptr [resume], offset 9f
    mov eax, esp
    sub rsp, 20
    mov dword ptr [rsp], offset 5f + ALIAS
    mov dword ptr [rsp + 4], UCODE32
    mov dword ptr [rsp + 8], 2
    mov dword ptr [rsp + 12], USER_STACK
    mov dword ptr [rsp + 16], UDATA
    iretd
    .code32
5:  mov eax, esp
    int 0x40
    COMPAT_USER_END
CASE iretd_in_compat
    COMPAT_BEGIN
    mov ebx, esp
    push 2
    push KCODE32
    push offset 6f
    iretd
6:  sub ebx, esp
    mov eax, ebx
    int 0x40
    push KDATA
    push MAIN_STACK
    push 2
    push KCODE
    push offset 5f
    iretd
    .code64
5:  SAY rsp
    int 0x41
9:
CASE far_transfers
    COMPAT_BEGIN
    .byte 0x9a
    .long 5f
    .word KCODE32
    mov eax, esp
    int 0x40
    .byte 0x9a
    .long 6f
    .word KCODE
    mov eax, esp
    int 0x40
    int 0x41
5:  mov eax, [esp + 4]
    int 0x40
    retf
    .code64
6:  mov eax, [rsp + 4]
    SAY rax
    .byte 0xcb
9:
CASE call_gate_from_compat
    DESC T0, 0, 0, 0xec, 0
    mov eax, offset 5f
    mov [gdt + T0], ax
    mov word ptr [gdt + T0 + 2], KCODE
    shr eax, 16
    mov [gdt + T0 + 6], ax
    COMPAT_USER_BEGIN
    .byte 0x9a
    .long 0
    .word T0 + 3
    mov eax, cs
    int 0x40
    COMPAT_USER_END
    jmp case_done
    .code64
5:  mov eax, cs
    SAY rax
    SAY rsp
    mov eax, [rsp + 8]
    SAY rax
    mov rax, [rsp + 16]
    SAY rax
    .byte 0x48, 0xcb
CASE no_tasks
    COMPAT_BEGIN
    mov dword ptr [resume], offset 5f
    .byte 0xea
    .long 0
    .word TSS
    .code64
5:  mov byte ptr [GATE(0x50) + 5], 0x85
    COMPAT_BEGIN
    int 0x50
    COMPAT_END
    COMPAT_BEGIN
    push 0x4002
    popfd
    iretd
    COMPAT_END
MANUAL_CASE virtual_8086_is_gone
    COMPAT_BEGIN
    push 0x20002
    push KCODE32
    push offset 5f
    iretd
5:  pushfd
    pop eax
    int 0x40
    COMPAT_END
MANUAL_CASE sysenter_from_compat
    WRITE_MSR 0x174, KCODE
    mov eax, offset 5f
    mov r15, rax
    WRITE_MSR 0x176, r15
    WRITE_MSR 0x175, 0x8fff8
    COMPAT_USER_BEGIN 0x202
    sysenter
6:  mov eax, cs
    int 0x40
    mov eax, ss
    int 0x40
    COMPAT_USER_END
    jmp case_done
5:  SAY rsp
    mov eax, cs
    SAY rax
    mov dword ptr [resume], offset 9f
    mov edx, offset 6b + ALIAS
    mov ecx, USER_STACK
    .byte 0x0f, 0x35
9:
CASE paging_off_leaves_ia32e
    COMPAT_BEGIN
    mov eax, BASE_CR0 & 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    rdmsr
    mov ebx, eax
    and eax, ~0x100
    wrmsr
    rdmsr
    mov esi, eax
    or eax, 0x100
    wrmsr
    mov eax, BASE_CR0
    mov cr0, eax
    mov eax, ebx
    int 0x40
    mov eax, esi
    int 0x40
    COMPAT_END
END_OF_CASES
