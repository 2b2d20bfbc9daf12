/* vm86.S - cases of virtual-8086 mode, with and without CR4.VME. */
#include "harness.S"

#define IOPL3 0x3000

/* 16-bit code at 2000:0 up to VM_END, with DS ES FS GS = 3000 and SS:SP = 4000:1000. All of the low memory is the user's. */
.macro VM_BEGIN flags=2
    or dword ptr [pd0], 4
    mov eax, cr3
    mov cr3, eax
    mov esi, offset 7f
    mov edi, 0x20000
    mov ecx, 0x200
    rep movsb
    mov dword ptr [resume], offset 9f
    push 0x3000
    push 0x3000
    push 0x3000
    push 0x3000
    push 0x4000
    push 0x1000
    push 0x20000 | (\flags)
    push 0x2000
    push 0
    iretd
    .code16
7:
.endm
/* Leaves by #GP where INT n is not allowed. */
.macro VM_END
    int 0x41
    .code32
9:
.endm
.macro VM_SAY
    int 0x40
.endm
/* One to four instructions in a task of their own. */
.macro VM_TRY flags, first, second, third, fourth
    VM_BEGIN \flags
    \first
    \second
    \third
    \fourth
    int 0x42
    VM_END
.endm
/* Vector of the 8086 program, at 0: handler at 2000:offset. */
.macro VM_VECTOR n, offset
    mov dword ptr [(\n) * 4], 0x20000000 + (\offset)
.endm
.macro VME_ON
    CR4_SET 1
    mov word ptr [tss + 102], 104 + 32 /* the redirection bitmap is before it, bit clear: redirected */
    mov edi, offset tss + 104 + 32
    mov ecx, 0x2000 / 4
    xor eax, eax
    rep stosd
    mov byte ptr [tss + 104 + 0x40 / 8], 7 /* 40 to 42 are the harness's */
.endm

CASE entry_and_exit
    VM_TRY IOPL3, "nop"
    VM_TRY IOPL3, "mov ax, sp"
    VM_TRY 0, "nop"
CASE iopl_sensitive
    .irp insn, cli, sti, pushf, popf, iret, pushfd, popfd, iretd, "int 0x42", int3, "int 0x30"
    VM_TRY 0, "\insn"
    .endr
CASE iopl_sensitive_allowed
    .irp insn, cli, sti, pushf, pushfd, int3, "int 0x30"
    VM_TRY IOPL3, "\insn"
    .endr
CASE never_allowed
    .irp insn, hlt, clts, "mov eax, cr0", "mov cr0, eax", "mov eax, dr0", wbinvd, invd, "lmsw ax", rdmsr, wrmsr, "invlpg [bx]", "lgdt [bx]", "lidt [bx]"
    VM_TRY IOPL3, "\insn"
    .endr
CASE not_recognized
    .irp insn, "lar ax, bx", "lsl ax, bx", "verr ax", "verw ax", "sldt ax", "str ax", "lldt ax", "ltr ax", "arpl ax, bx", ud2
    VM_TRY IOPL3, "\insn"
    .endr
CASE allowed
    .irp insn, "smsw ax", "sgdt [bx]", "sidt [bx]", cpuid, rdtsc, "lds ax, [bx]", "mov ds, sp", fninit
    VM_TRY IOPL3, "\insn"
    .endr
CASE flags_image
    VM_BEGIN IOPL3
    pushf
    pop ax
    movzx eax, ax
    VM_SAY
    push 0xfeff
    popf
    pushf
    pop ax
    push 0x3002
    popf
    movzx eax, ax
    VM_SAY
    pushd 0x003f7ed7
    popfd
    pushfd
    pop eax
    pushd 0x3002
    popfd
    VM_SAY
    VM_END
CASE interrupt_frame
    VM_BEGIN IOPL3
    mov ax, 0x1111
    mov ds, ax
    mov ax, 0x2222
    mov es, ax
    mov ax, 0x5555
    mov fs, ax
    mov ax, 0x6666
    mov gs, ax
    int 0x42
    mov ax, gs
    movzx eax, ax
    VM_SAY
    VM_END
CASE handler_not_at_level_0
    mov word ptr [GATE(0x42) + 2], UCODE32
    VM_TRY IOPL3, "int 0x42"
    DESC T0, 0, 0xfffff, 0x9e, 0xc
    mov word ptr [GATE(0x42) + 2], T0
    VM_TRY IOPL3, "int 0x42"
CASE exceptions
    VM_TRY IOPL3, "xor cx, cx", "div cx"
    VM_TRY IOPL3, "mov dword ptr [0], 0x00020001", "mov ax, 3", "bound ax, [0]"
    VM_TRY IOPL3, "mov al, 0x7f", "add al, 1", "into"
    VM_TRY 0, "mov al, 0x7f", "add al, 1", "into"
    VM_TRY 0, "xor cx, cx", "div cx"
    VM_TRY 0, ".byte 0xf0", "nop"
CASE single_step
    VM_BEGIN IOPL3 | 0x100
    nop
    mov ax, 1
    mov dx, 2
    VM_END
CASE page_fault
    mov eax, offset spare
    mov edi, eax
    mov ecx, 1024
    mov ebx, 7
2:  mov [edi], ebx
    add ebx, 0x1000
    add edi, 4
    loop 2b
    mov dword ptr [spare + 0x38 * 4], 0
    mov dword ptr [spare + 0x39 * 4], 0x39003
    mov dword ptr [pd0], offset spare + 7
    VM_TRY IOPL3, "mov bx, 0x8000", "mov al, [bx]"
    VM_TRY IOPL3, "mov bx, 0x8000", "mov [bx], al"
    VM_TRY IOPL3, "mov bx, 0x9000", "mov al, [bx]"
    VM_TRY IOPL3, "mov ax, 0xffff", "mov es, ax", "mov al, es:[0x10]"
CASE above_one_megabyte
    mov dword ptr [0x100010 + 0x200000], 0
    VM_TRY IOPL3, "mov ax, 0xffff", "mov es, ax", "mov eax, es:[0x10]"
CASE transfers
    VM_BEGIN IOPL3
    mov bp, sp
    .byte 0x9a
    .word 0x0020, 0x2000
    .org 7b + 0x10
    mov ax, bp
    sub ax, sp
    movzx eax, ax
    VM_SAY
    .byte 0xea
    .word 0x0040, 0x2000
    .org 7b + 0x20
    mov eax, [esp]
    VM_SAY
    add word ptr [esp], 0x10 - 7
    retf
    .org 7b + 0x40
    pushf
    push cs
    push 0x60
    iret
    .org 7b + 0x60
    mov ax, cs
    movzx eax, ax
    VM_SAY
    VM_END
MANUAL_CASE limits
    VM_TRY IOPL3, "mov ax, [0xffff]"
    VM_TRY IOPL3, "mov ebx, 0x10000", "mov al, [ebx]"
    VM_TRY IOPL3, "mov al, [0xffff]"
    VM_TRY IOPL3, "mov sp, 1", "push ax"
    VM_TRY IOPL3, "mov sp, 0xffff", "pop ax"
    VM_TRY IOPL3, "mov sp, 0", "push ax"
    VM_TRY IOPL3, "mov ebx, 0xffff0000", "jmp ebx"
    VM_TRY IOPL3, ".byte 0x66, 0xea", ".long 0x00010000", ".word 0x2000"
    VM_TRY IOPL3, "pushd 0x2000", "pushd 0x10000", ".byte 0x66", "retf"
CASE io_bitmap
    mov word ptr [tss + 102], 104
    mov dword ptr [tss + 104 + 0x80 / 8], 0x00000105
    .irp insn, "in al, 0x80", "in al, 0x81", "in ax, 0x81", "out 0x83, al", "out 0x83, eax", "out 0x84, eax", "out 0x85, eax"
    VM_TRY IOPL3, "\insn"
    .endr
MANUAL_CASE vme_interrupt_redirection
    VME_ON
    VM_VECTOR 0x60, 0x40
    VM_BEGIN 0x200
    mov bp, sp
    int 0x60
    mov ax, bp
    sub ax, sp
    movzx eax, ax
    mov bx, 0
    int 0x42
    .org 7b + 0x40
    mov ax, [bp - 2]
    shl eax, 16
    mov ax, [bp - 6]
    mov ebx, eax
    pushf
    pop ax
    int 0x42
    iret
    VM_END
MANUAL_CASE vme_interrupt_redirection_values
    VME_ON
    VM_VECTOR 0x60, 0x40
    VM_BEGIN 0x80200
    mov bp, sp
    int 0x60
    pushf
    pop ax
    mov [0x20], ax
    cli
    pushf
    pop ax
    mov [0x22], ax
    sti
    pushf
    pop ax
    mov [0x24], ax
    push 0x0002
    popf
    pushf
    pop ax
    mov [0x26], ax
    hlt
    .org 7b + 0x40
    mov ax, [bp - 2]
    mov [0x10], ax
    mov ax, [bp - 4]
    mov [0x12], ax
    mov ax, [bp - 6]
    mov [0x14], ax
    pushf
    pop ax
    mov [0x16], ax
    iret
    VM_END
    .irp at, 0x10, 0x14, 0x20, 0x24
    mov eax, [0x30000 + \at]
    SAY eax
    .endr
MANUAL_CASE vme_pending_interrupt
    VME_ON
    VM_TRY 0x100000, "sti"
    VM_TRY 0x180000, "cli"
    VM_TRY 0x100000, "push 0x202", "popf"
    VM_TRY 0x100000, "push 0x002", "popf"
    VM_TRY 0x000000, "push 0x302", "popf"
    VM_TRY 0, "pushfd"
    VM_TRY 0, "popfd"
    VM_TRY 0, "iretd"
    VM_BEGIN 0
    push 0x202
    push 0x2000
    push 0x20
    iret
    .org 7b + 0x20
    hlt
    VM_END
    VM_TRY IOPL3, "push 0x202", "popf"
MANUAL_CASE pvi
    CR4_SET 2
    USER_BEGIN 2
    sti
    pushfd
    pop eax
    SAY eax
    cli
    pushfd
    pop eax
    SAY eax
    hlt
    USER_END
    USER_BEGIN 0x100002
    sti
    USER_END
    USER_BEGIN 2
    push 0x80202
    popfd
    pushfd
    pop eax
    SAY eax
    USER_END
CASE vme_off_int_with_iopl_below_3
    VM_VECTOR 0x60, 0x40
    VM_TRY 0, "int 0x60"
CASE task_switch_into_vm86
    or dword ptr [pd0], 4
    mov eax, cr3
    mov cr3, eax
    mov dword ptr [0x20000], 0x9090cd90 | 0x00420000
    mov dword ptr [0x20000], 0x42cd9090
    mov edi, offset tss + 0x2100
    mov ecx, 26
    xor eax, eax
    rep stosd
    mov eax, offset tss + 0x2100
    mov dword ptr [gdt + T0], 0x67
    mov [gdt + T0 + 2], ax
    shr eax, 16
    mov [gdt + T0 + 4], al
    mov byte ptr [gdt + T0 + 5], 0x89
    mov dword ptr [tss + 0x2100 + 0x1c], offset pd0
    mov dword ptr [tss + 0x2100 + 0x24], 0x23002
    mov dword ptr [tss + 0x2100 + 0x38], 0x1000
    mov dword ptr [tss + 0x2100 + 0x48], 0x3000
    mov dword ptr [tss + 0x2100 + 0x4c], 0x2000
    mov dword ptr [tss + 0x2100 + 0x50], 0x4000
    mov dword ptr [tss + 0x2100 + 0x54], 0x3333
    mov dword ptr [tss + 0x2100 + 4], RSP1
    mov dword ptr [tss + 0x2100 + 8], KDATA
    mov word ptr [scratch + 4], T0
    mov dword ptr [resume], offset 2f
    jmp fword ptr [scratch]
2:  str eax
    SAY eax
END_OF_CASES
