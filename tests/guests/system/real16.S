/* real16.S - cases of real-address mode, unreal mode, and the way in and out. The harness switches for each snippet. */
#include "harness.S"

#define STUBS 0x2f000 /* the 16-bit handlers, CS 2F00 */
#define IVT 0x31000

/* 16-bit code at 2000:0 up to REAL_END, with DS ES FS GS = 3000 and SS:SP = 4000:1000. An event ends it, or with
 * REAL_TRAPS goes on. A record:  vv a=(IP) c=(CS) f=(flags) p=(SS:SP before) [d=(DR6)] */
.macro REAL_BEGIN flags=2
    mov esi, offset 7f
    mov edi, 0x20000
    mov ecx, 0x200
    rep movsb
    mov word ptr [STUBS + real_flags - stubs], \flags
    mov dword ptr [resume], offset 9f
    jmp enter_real
    .code16
7:
.endm
.macro REAL_END
    int 0xff
    .code32
9:
.endm
.macro REAL_TRY flags, first, second, third, fourth
    REAL_BEGIN \flags
    \first
    \second
    \third
    \fourth
    int 0x42
    REAL_END
.endm
.macro real_field name, at
    mov al, \name
    call real_name
    mov ax, [bp + \at]
    mov cx, 4
    call real_hex
.endm
.macro REAL_TRAPS
    mov byte ptr cs:[STUBS - 0x20000 + real_traps - stubs], 1
.endm
.macro REAL_SAY /* EAX */
    int 0xfe
.endm

    jmp real16_cases
/* From 32-bit code, flat, to 2000:0. */
enter_real:
    mov edi, STUBS
    mov esi, offset stubs
    mov ecx, (stubs_end - stubs + 3) / 4
    mov ax, [STUBS + real_flags - stubs]
    rep movsd
    mov [STUBS + real_flags - stubs], ax
    xor ecx, ecx
2:  lea eax, [ecx + ecx * 2 + real_vectors - stubs]
    mov [IVT + ecx * 4], ax
    mov word ptr [IVT + ecx * 4 + 2], 0x2f00
    inc ecx
    cmp ecx, 256
    jb 2b
    DESC T8, STUBS, 0xffff, 0x9a, 0
    DESC T9, 0, 0xffff, 0x92, 0
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov eax, T9
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    .byte 0xea
    .long real_switch - stubs
    .word T8
    .code16
stubs:
real_flags: .word 0
real_traps: .byte 0
real_idtr: .word 0x3ff
    .long IVT
real_gdtr: .word 0xff
    .long gdt
real_switch:
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    .byte 0xea
    .word real_entry - stubs, 0x2f00
real_entry:
    mov ax, 0x3000
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ax, 0x4000
    mov ss, ax
    mov esp, 0x1000
    lidt cs:[real_idtr - stubs]
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    push word ptr cs:[real_flags - stubs]
    push 0x2000
    push 0
    iret
/* Back to 32-bit code, flat, at `resume`. */
real_leave:
    cli
    lgdt cs:[real_gdtr - stubs]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea
    .long leave_real
    .word KCODE
real_vectors:
    .rept 256
    call real_common /* three bytes each */
    .endr
real_common:
    pushad
    push ds
    push es
    mov bp, sp /* ES DS, registers, then where the call is from, IP CS flags */
    cld
    mov ax, [bp + 36]
    sub ax, offset real_vectors - stubs
    xor dx, dx
    mov cx, 3
    div cx
    dec ax
    cmp al, 0xfe
    je real_say
    cmp al, 0xff
    je real_leave
    mov si, ax
    mov cx, 2
    call real_hex
    real_field 'a', 38
    real_field 'c', 40
    real_field 'f', 42
    mov al, 'p'
    call real_name
    mov ax, ss
    mov cx, 4
    call real_hex
    mov al, ':'
    out 0xe9, al
    lea ax, [bp + 44]
    mov cx, 4
    call real_hex
    cmp si, 1
    jne 2f
    mov al, 'd'
    call real_name
    mov eax, dr6
    mov cx, 8
    call real_hex
    xor eax, eax
    mov dr6, eax
2:  mov al, 10
    out 0xe9, al
    cmp byte ptr cs:[real_traps - stubs], 0
    je real_leave
real_return:
    pop es
    pop ds
    popad
    add sp, 2
    iret
real_say:
    mov al, 'v'
    out 0xe9, al
    mov al, '='
    out 0xe9, al
    mov eax, [bp + 32]
    mov cx, 8
    call real_hex
    mov al, 10
    out 0xe9, al
    jmp real_return
/* Writes " x=". */
real_name:
    push ax
    mov al, ' '
    out 0xe9, al
    pop ax
    out 0xe9, al
    mov al, '='
    out 0xe9, al
    ret
/* The low cx digits of EAX. */
real_hex:
    mov edx, eax
    mov bx, cx
2:  dec bx
    mov cx, bx
    shl cx, 2
    mov eax, edx
    shr eax, cl
    and al, 15
    cmp al, 10
    jb 3f
    add al, 'a' - '0' - 10
3:  add al, '0'
    out 0xe9, al
    test bx, bx
    jnz 2b
    ret
stubs_end:
    .code32
leave_real:
    mov eax, KDATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, MAIN_STACK
    mov eax, BASE_CR0
    mov cr0, eax
    lidt [idtr]
    push 2
    popfd
    jmp dword ptr [resume]
real16_cases:

CASE entry
    REAL_TRY 2, nop
    REAL_TRY 0x0ed7, nop
CASE exceptions
    REAL_TRY 2, "div cx"
    REAL_TRY 2, "mov dword ptr [0], 0x00020001", "mov ax, 3", "bound ax, [0]"
    REAL_TRY 2, "mov al, 0x7f", "add al, 1", "into"
    REAL_TRY 2, ud2
    REAL_TRY 2, int3
    REAL_TRY 2, "int 0x0d"
    REAL_TRY 2, ".byte 0xf0", "nop"
    REAL_TRY 2, ".byte 0x8e, 0xc8"
CASE not_recognized
    .irp insn, "lar ax, bx", "lsl ax, bx", "verr ax", "verw ax", "sldt ax", "str ax", "lldt ax", "ltr ax", "arpl ax, bx", syscall
    REAL_TRY 2, "\insn"
    .endr
CASE recognized
    .irp insn, cli, sti, "smsw ax", "sgdt [bx]", "sidt [bx]", clts, "mov eax, cr0", "mov eax, dr7", wbinvd, cpuid, rdtsc, "in al, 0x80", "invlpg [bx]", fninit
    REAL_TRY 2, "\insn"
    .endr
CASE sysenter
    REAL_TRY 2, sysenter
    REAL_TRY 2, sysexit
CASE flags
    REAL_BEGIN 2
    push 0xfeff
    popf
    pushf
    pop ax
    push 2
    popf
    movzx eax, ax
    REAL_SAY
    pushd 0x003f7ed7
    popfd
    pushfd
    pop eax
    pushd 2
    popfd
    REAL_SAY
    REAL_END
CASE interrupt_clears_flags
    REAL_BEGIN 2
    push 0x3100
    pop es
    mov word ptr es:[0x60 * 4], 0x40
    mov word ptr es:[0x60 * 4 + 2], 0x2000
    pushd 0x47202
    popfd
    int 0x60
    pushfd
    pop eax
    pushd 2
    popfd
    REAL_SAY
    int 0xff
    .org 7b + 0x40
    pushfd
    pop eax
    REAL_SAY
    mov bp, sp
    mov ax, [bp + 4]
    movzx eax, ax
    REAL_SAY
    iret
    REAL_END
CASE single_step
    REAL_BEGIN 2
    REAL_TRAPS
    push 0x102
    popf
    nop
    mov ax, ss
    mov ss, ax
    nop
    int 0x42
    nop
    push 2
    popf
    nop
    REAL_END
CASE transfers
    REAL_BEGIN 2
    mov bp, sp
    .byte 0x9a
    .word 0x0020, 0x2000
    .org 7b + 0x10
    mov ax, bp
    sub ax, sp
    movzx eax, ax
    REAL_SAY
    .byte 0xea
    .word 0x0030, 0x2001
    .org 7b + 0x20
    mov eax, [esp]
    REAL_SAY
    add word ptr [esp], 0x10 - 7
    retf
    .org 7b + 0x40
    mov ax, cs
    movzx eax, ax
    REAL_SAY
    pushfd
    pushd 0x2000
    pushd 0x60
    iretd
    .org 7b + 0x60
    mov ax, cs
    movzx eax, ax
    REAL_SAY
    mov bx, sp
    push 1
    push 2
    push 0x2000
    push 0x80
    retf 4
    .org 7b + 0x80
    sub bx, sp
    movzx eax, bx
    REAL_SAY
    REAL_END
CASE wrap_and_high_memory
    mov dword ptr [0x100000 + 0x200000], 0
    mov eax, [0x100000]
    SAY eax
    REAL_BEGIN 2
    mov ax, 0xffff
    mov es, ax
    mov eax, es:[0x10]
    REAL_SAY
    mov sp, 0
    push 0x1234
    mov ax, sp
    movzx eax, ax
    mov sp, 0x1000
    REAL_SAY
    mov ax, [0xfffe]
    REAL_END
MANUAL_CASE limits
    REAL_TRY 2, "mov ax, [0xffff]"
    REAL_TRY 2, "mov ebx, 0x10000", "mov al, [ebx]"
    REAL_TRY 2, "mov al, [0xffff]"
    REAL_TRY 2, "mov ebx, 0xffff0000", "jmp ebx"
    REAL_TRY 2, ".byte 0x66, 0xea", ".long 0x00010000", ".word 0x2000"
    REAL_TRY 2, "pushd 0x2000", "pushd 0x10000", ".byte 0x66", "retf"
    REAL_TRY 2, "mov ax, ss:[0xffff]"
    REAL_TRY 2, "mov eax, [0xfffd]"
MANUAL_CASE code_runs_off_the_segment
    mov byte ptr [0x2ffff], 0x90
    REAL_TRY 2, "mov bx, 0xffff", "jmp bx"
    mov byte ptr [0x2fffe], 0xb8
    REAL_TRY 2, "mov bx, 0xfffe", "jmp bx"
MANUAL_CASE idt_limit
    REAL_BEGIN 2
    mov word ptr [0], 0x50 * 4 - 1
    mov dword ptr [2], IVT
    lidt [0]
    int 0x4f
    REAL_END
    REAL_BEGIN 2
    mov word ptr [0], 0x50 * 4 - 1
    mov dword ptr [2], IVT
    lidt [0]
    int 0x50
    REAL_END
CASE unreal_mode
    mov dword ptr [WINP + 0x123], 0x4444
    mov dword ptr [WINP + 0x5123], 0x5555
    REAL_BEGIN 2
    lgdt cs:[STUBS - 0x20000 + real_gdtr - stubs]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, KDATA
    mov gs, bx
    and al, 0xfe
    mov cr0, eax
    mov ebx, WINP + 0x123
    mov eax, gs:[ebx]
    REAL_SAY
    mov ax, 0x500
    mov gs, ax
    mov eax, gs:[ebx]
    REAL_SAY
    mov ax, gs
    movzx eax, ax
    REAL_SAY
    REAL_END
CASE protected_16_bit_without_reload
    REAL_BEGIN 2
    lgdt cs:[STUBS - 0x20000 + real_gdtr - stubs]
    mov dword ptr [0x10], 0x7777
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov eax, [0x10] /* DS and CS are still what they were */
    mov ecx, eax
    smsw bx
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    mov eax, ecx
    REAL_SAY
    movzx eax, bx
    and ax, 1
    REAL_SAY
    REAL_END
CASE lmsw
    REAL_BEGIN 2
    smsw ax
    or ax, 8
    lmsw ax
    smsw bx
    movzx eax, bx
    and eax, 0xf
    clts
    REAL_SAY
    REAL_END
MANUAL_CASE cr_writes
    REAL_TRY 2, "mov eax, cr0", "or eax, 0x80000000", "mov cr0, eax"
    REAL_TRY 2, "mov eax, cr0", "and eax, 0xffffffef", "mov cr0, eax"
    REAL_TRY 2, "mov eax, cr4", "or eax, 0x8000", "mov cr4, eax"
END_OF_CASES
