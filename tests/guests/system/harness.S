/*
 * harness.S - the part that the bare-metal guests for system behaviour share: boot, a fresh environment for each case,
 * handlers that write what happened to the debug console (port 0xE9), the end through port 0xF4.
 *
 * With LONG defined for 64-bit mode (with LA57 too: 5-level paging), without it for 32-bit protected mode. A guest includes this file first, then has
 * its cases, then END_OF_CASES. Each case runs at CPL 0 with everything below in its initial state.
 *
 *   Selectors  08 code, 10 data, 18 user code 32, 20 user data, 28 user code 64 (32-bit guest: user code 32),
 *              30 code 32, 38 TSS, 48 LDT, from T0 = 58 on free for the case
 *   Linear     0 to 1 GiB is the physical memory of the supervisor; ALIAS + x the same for the user, x < 64 MiB;
 *              WIN + x is WINP + x through 4 KiB pages that belong to the case: entry n at PTE(n);
 *              the first ten are cleared for each case
 *   Stacks     case 90000-, privilege 0 of the TSS 70000-, IST1 60000-, IST2 50008-, user ALIAS + A0000-... downwards
 *
 * A record:  vv [err=] [cr2=] at= cs= fl= fr= [sp=] [vm=] [dr6=]   with the address relative to the case ("u+": to its alias)
 */
.intel_syntax noprefix

#define ALL_CASES 0x4c4c4121 /* in EBX at the start: also the cases that are not for QEMU */
#define ALIAS 0x08000000
#define WIN 0x40000000
#define WINP 0x400000
#define MAIN_STACK 0x90000
#define RSP0 0x70000
#define RSP1 0x68000
#define RSP2 0x64000
#define IST1 0x60000
#define IST2 0x50008
#define USER_STACK (ALIAS + 0x80000)
#define KCODE 0x08
#define KDATA 0x10
#define UCODE32 0x1b
#define UDATA 0x23
#define KCODE32 0x30
#define TSS 0x38
#define LDT 0x48
#define T0 0x58
#define T1 0x60
#define T2 0x68
#define T3 0x70
#define T4 0x78
#define T5 0x80
#define T6 0x88
#define T7 0x90
#define T8 0x98
#define T9 0xa0

#ifdef LONG
#define UCODE 0x2b
#define rAX rax
#define rBX rbx
#define rCX rcx
#define rDX rdx
#define rSI rsi
#define rDI rdi
#define rBP rbp
#define rSP rsp
#define W 8
#define PTE_SIZE 8
#define WORD_ quad
#define WPTR qword ptr
#define PUSHF pushfq
#define POPF popfq
#define IRET iretq
#define NATIVE .code64
#define GATE_SIZE 16
#define BASE_CR0 0x80010033
#ifdef LA57
#define BASE_CR4 0x16a0 /* PAE PGE OSFXSR OSXMMEXCPT LA57 */
#define BOOT_CR4 0x1020
#define TOP_TABLE pml5
#define BOOT_TABLE boot_pml5
#else
#define BASE_CR4 0x6a0 /* PAE PGE OSFXSR OSXMMEXCPT */
#define BOOT_CR4 0x20
#define TOP_TABLE pml4
#define BOOT_TABLE boot_pml4
#endif
#define BASE_EFER 0x901 /* SCE LME NXE */
#else
#define UCODE 0x2b
#define rAX eax
#define rBX ebx
#define rCX ecx
#define rDX edx
#define rSI esi
#define rDI edi
#define rBP ebp
#define rSP esp
#define W 4
#define PTE_SIZE 4
#define WORD_ long
#define WPTR dword ptr
#define PUSHF pushfd
#define POPF popfd
#define IRET iretd
#define NATIVE .code32
#define GATE_SIZE 8
#define BASE_CR0 0x80010033
#define BASE_CR4 0x690 /* PSE PGE OSFXSR OSXMMEXCPT */
#define TOP_TABLE pd0
#define BOOT_TABLE boot_pd
#endif
#define PTE(n) (ptw + (n) * PTE_SIZE)
#define GATE(v) (idt + (v) * GATE_SIZE)
#define FRAME (7 * W) /* of the handlers: saved registers, then vector, error, IP, CS, flags, SP, SS */

/* ---- what cases are written with ---------------------------------------------------------------------------- */

.macro CASE name, manual=0
    jmp case_done
case_\name:
    .pushsection .cases, "a"
    .long case_\name, 8f, \manual
    .popsection
    .pushsection .names, "a"
8:  .asciz "\name"
    .popsection
.endm

/* A case that QEMU does not survive or get right: skipped there, judged by the manual alone. */
.macro MANUAL_CASE name
    CASE \name, 1
.endm

.macro END_OF_CASES
    jmp case_done
last_case:
    .pushsection .cases, "a"
    .long last_case, 0, 0
    .popsection
.endm

/* One instruction that should fault; the case goes on behind it. Says "ok" when it does not. */
.macro FAULTS insn:vararg
    mov dword ptr [resume], offset 9f
    \insn
    call note_ok
9:
.endm

/* From here on handlers return to where they come from. */
.macro TRAPS
    mov dword ptr [resume], 0
.endm

/* Code at CPL 3, in the alias of the case. A fault or USER_END goes on behind USER_END at CPL 0. */
.macro USER_BEGIN flags=2, code=UCODE
    mov dword ptr [resume], offset 9f
#ifndef LONG
    push UDATA
    pop ds
    push UDATA
    pop es
#endif
    push UDATA
    push USER_STACK
    push \flags
    push \code
    push offset 7f + ALIAS
    IRET
7:
.endm
.macro USER_END
    int 0x41
9:
.endm

/* Prints v= and the accumulator, at any CPL. */
.macro SAY reg
    .ifnc \reg,rAX
    push rAX
    mov rAX, \reg
    .endif
    int 0x40
    .ifnc \reg,rAX
    pop rAX
    .endif
.endm

/* A descriptor of the case: base, limit (raw 20 bits), access byte, flags nibble. */
.macro DESC sel, base, limit, access, flags
    mov dword ptr [gdt + \sel], ((\limit) & 0xffff) | (((\base) & 0xffff) << 16)
    mov dword ptr [gdt + \sel + 4], (((\base) >> 16) & 0xff) | ((\access) << 8) | ((\limit) & 0xf0000) | ((\flags) << 20) | ((\base) & 0xff000000)
.endm

/* PTE of window page n: physical page and flags given. */
.macro SET_PTE n, value
    mov dword ptr [PTE(\n)], \value
#ifdef LONG
    mov dword ptr [PTE(\n) + 4], 0
#endif
    invlpg [WIN + (\n) * 0x1000]
.endm

.macro CR4_SET bits
    mov rAX, cr4
    or rAX, \bits
    mov cr4, rAX
.endm

/* ---- boot -------------------------------------------------------------------------------------------------------- */

.section .boot, "ax"
.code32
    .long 0x1badb002, 0, -0x1badb002
    .globl _start
_start:
    cli
    cld
    mov esp, MAIN_STACK
    xor eax, eax
    cmp ebx, ALL_CASES
    sete al
    mov [all_cases], eax
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    mov esi, offset gdt_master
    mov edi, offset gdt
    mov ecx, 0x100 / 4
    rep movsd
    lgdt [gdtr]
    lidt [idtr]
#ifdef LONG
    mov dword ptr [boot_pml5], offset boot_pml4 + 3
    mov dword ptr [boot_pml4], offset boot_pdpt + 3
    mov dword ptr [boot_pdpt], offset boot_pd + 3
    mov ecx, 512
    mov eax, 0x83
    mov edi, offset boot_pd
2:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop 2b
    mov eax, BOOT_CR4
    mov cr4, eax
    mov eax, offset BOOT_TABLE
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, BASE_CR0
    mov cr0, eax
#else
    mov eax, 0x83
    mov edi, offset boot_pd
    mov ecx, 256
2:  stosd
    add eax, 0x400000
    loop 2b
#endif
    mov eax, KDATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    .byte 0xea
    .long native
    .word KCODE
.text
NATIVE
native:
    mov dword ptr [index], 0
next_case:
    mov esp, MAIN_STACK
    imul eax, [index], 12
    inc dword ptr [index]
    mov ebx, [case_table + rAX]
    mov [cur_start], ebx
    mov esi, [case_table + rAX + 4]
    test esi, esi
    jz finish
    mov ecx, [case_table + rAX + 12]
    mov [cur_end], ecx
    mov edx, [case_table + rAX + 8]
    cmp edx, [all_cases]
    ja next_case
    push rSI
    call reset
    pop rSI
    push rSI
    mov esi, offset text_case
    call puts
    pop rSI
    call puts
    call newline
    mov dword ptr [resume], offset case_abort
    mov dword ptr [count], 0
    mov dword ptr [keep_dr6], 0
    mov dword ptr [show_rf], 0
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    xor eax, eax
    push 2
    POPF
    jmp WPTR [cur_start]

case_abort:
    mov esi, offset text_abort
    call puts
case_done:
    cld
    mov esp, MAIN_STACK
    jmp next_case
runaway:
    mov esi, offset text_runaway
    call puts
    mov esp, MAIN_STACK
    jmp next_case
finish:
    mov esi, offset text_end
    call puts
    xor eax, eax
    out 0xf4, al
2:  hlt
    jmp 2b

/* ---- the environment of a case --------------------------------------------------------------------------------------- */

reset:
    xor eax, eax
    mov dr7, rAX
    mov dr6, rAX
    mov eax, BASE_CR4
    mov cr4, rAX
    mov esi, offset gdt_master
    mov edi, offset gdt
    mov ecx, 0x100 / 4
    rep movsd
    lgdt [gdtr]
    call reset_idt
    lidt [idtr]
    call reset_tss
    mov eax, offset BOOT_TABLE
    mov cr3, rAX
    call reset_paging
    mov eax, offset TOP_TABLE
    mov cr3, rAX
    mov eax, BASE_CR0
    mov cr0, rAX
    mov rAX, cr4
    xor al, 0x80
    mov cr4, rAX /* global pages go too */
    xor al, 0x80
    mov cr4, rAX
#ifdef LONG
    mov ecx, 0xc0000080
    mov eax, BASE_EFER
    xor edx, edx
    wrmsr
#endif
    mov eax, TSS
    ltr ax
    xor eax, eax
    lldt ax
    mov fs, eax
    mov gs, eax
    mov eax, KDATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov edi, WIN
    mov ecx, 10 * 1024
    xor eax, eax
    rep stosd
    ret

reset_idt:
    mov edi, offset idt
    mov esi, offset vector_table
    xor ecx, ecx
2:  mov eax, [rSI]
    mov edx, 0x8e00
    cmp ecx, 3
    je 3f
    cmp ecx, 4
    je 3f
    cmp ecx, 0x40
    jb 4f
    cmp ecx, 0x42
    ja 4f
3:  mov edx, 0xee00
4:
#ifdef LONG
    cmp ecx, 8
    jne 5f
    mov dl, 1
5:
#endif
    mov [rDI], ax
    mov word ptr [rDI + 2], KCODE
    mov [rDI + 4], dx
    shr eax, 16
    mov [rDI + 6], ax
#ifdef LONG
    mov qword ptr [rDI + 8], 0
#endif
    add rDI, GATE_SIZE
    add rSI, 4
    inc ecx
    cmp ecx, 256
    jb 2b
    ret

reset_tss:
    mov edi, offset tss
    mov ecx, 0x2100 / 4
    xor eax, eax
    rep stosd
    mov edi, offset tss
#ifdef LONG
    mov dword ptr [rDI + 4], RSP0
    mov dword ptr [rDI + 12], RSP1
    mov dword ptr [rDI + 20], RSP2
    mov dword ptr [rDI + 36], IST1
    mov dword ptr [rDI + 44], IST2
#else
    mov dword ptr [rDI + 4], RSP0
    mov dword ptr [rDI + 8], KDATA
    mov dword ptr [rDI + 0x1c], offset TOP_TABLE
#endif
    mov word ptr [rDI + 102], 104
    ret

#ifdef LONG
reset_paging:
    mov edi, offset pml5
    mov ecx, 0x5000 / 4
    xor eax, eax
    rep stosd
    mov dword ptr [pml5], offset pml4 + 7
    mov dword ptr [pml4], offset pdpt + 7
    mov dword ptr [pdpt], offset pd0 + 7
    mov dword ptr [pdpt + 8], offset pdw + 7
    mov dword ptr [pdw], offset ptw + 7
    mov edi, offset pd0
    mov eax, 0x83
    mov ecx, 512
2:  mov [rDI], eax
    add rDI, 8
    add eax, 0x200000
    loop 2b
    mov edi, offset pd0 + (ALIAS >> 21) * 8
    mov eax, 0x87
    mov ecx, 32
2:  mov [rDI], eax
    add rDI, 8
    add eax, 0x200000
    loop 2b
    mov edi, offset ptw
    mov eax, WINP + 7
    mov ecx, 512
2:  mov [rDI], eax
    mov dword ptr [rDI + 4], 0
    add rDI, 8
    add eax, 0x1000
    loop 2b
    ret
#else
reset_paging:
    mov edi, offset pd0
    mov ecx, 1024
    xor eax, eax
    rep stosd
    mov edi, offset pd0
    mov eax, 0x83
    mov ecx, 256
2:  stosd
    add eax, 0x400000
    loop 2b
    mov edi, offset pd0 + (ALIAS >> 22) * 4
    mov eax, 0x87
    mov ecx, 16
2:  stosd
    add eax, 0x400000
    loop 2b
    mov dword ptr [pd0 + (WIN >> 22) * 4], offset ptw + 7
    mov edi, offset ptw
    mov eax, WINP + 7
    mov ecx, 1024
2:  stosd
    add eax, 0x1000
    loop 2b
    ret
#endif

/* ---- handlers ------------------------------------------------------------------------------------------------------------ */

.altmacro
.macro VECTOR n
    .pushsection .vectors, "a"
    .long vec_\n
    .popsection
vec_\n:
    .if (\n != 8) && (\n != 10) && (\n != 11) && (\n != 12) && (\n != 13) && (\n != 14) && (\n != 17)
    push 0
    .endif
    push \n
    jmp common
.endm
.section .vectors, "a"
vector_table:
.text
.set n, 0
.rept 256
    VECTOR %n
    .set n, n + 1
.endr
.noaltmacro

common:
    push rDI
    push rSI
    push rBP
    push rBX
    push rDX
    push rCX
    push rAX
    cld
    mov rBP, rSP
#ifndef LONG
    mov ecx, ds
    mov esi, es
    mov eax, KDATA
    mov ds, eax
    mov es, eax
    mov [saved_ds], ecx
    mov [saved_es], esi
#endif
    cmp WPTR [rBP + FRAME], 0x40
    je say
    cmp WPTR [rBP + FRAME], 0x41
    je leave_user
    inc dword ptr [count]
    cmp dword ptr [count], 40
    ja runaway
    call record
    cmp dword ptr [resume], 0
    je return
    jmp go_on
return:
#ifndef LONG
    mov ds, [saved_ds]
    mov es, ss:[saved_es]
#endif
    pop rAX
    pop rCX
    pop rDX
    pop rBX
    pop rBP
    pop rSI
    pop rDI
    add rSP, 2 * W
    IRET
say:
    mov esi, offset text_value
    call puts
    mov rAX, [rBP]
    mov ecx, 2 * W
    call hex
    call newline
    jmp return
leave_user:
    mov esi, offset text_done
    call puts
/* Continues the case at `resume` (if there is none: ends it), on its stack and with its registers. */
go_on:
    mov eax, [resume]
    test eax, eax
    jnz 2f
    mov eax, offset case_done
2:  mov [go_to], eax
    mov dword ptr [resume], offset case_abort
    push 2
    POPF
    pop rAX
    pop rCX
    pop rDX
    pop rBX
    pop rBP
    pop rSI
    pop rDI
    mov esp, KDATA
    mov ss, esp
    mov esp, MAIN_STACK
    jmp WPTR [go_to]

note_ok:
    PUSHF
    push rSI
    push rAX
    mov esi, offset text_ok
    call puts
    pop rAX
    pop rSI
    POPF
    ret

record:
    mov eax, [rBP + FRAME]
    mov ecx, 2
    call hex
    mov eax, [rBP + FRAME]
    lea rDX, [rBP + FRAME + 2 * W] /* where the frame starts */
    mov ebx, 0x27d00 /* vectors with an error code */
    bt ebx, eax
    jnc 2f
    cmp eax, 31
    ja 2f
    sub rDX, W
    push rDX
    mov esi, offset text_error
    call puts
    mov eax, [rBP + FRAME + W]
    mov ecx, 4
    call hex
    pop rDX
2:  push rDX
    cmp dword ptr [rBP + FRAME], 14
    jne 2f
    mov esi, offset text_cr2
    call puts
    mov rAX, cr2
    mov ecx, 2 * W
    call hex
2:  mov esi, offset text_at
    call puts
    mov rAX, [rBP + FRAME + 2 * W]
    call place
    mov esi, offset text_cs
    call puts
    mov eax, [rBP + FRAME + 3 * W]
    mov ecx, 4
    call hex
    mov esi, offset text_flags
    call puts
    mov eax, [rBP + FRAME + 4 * W]
    cmp dword ptr [show_rf], 0
    jne 2f
    and eax, 0xfffeffff
2:  mov ecx, 6
    call hex
    mov esi, offset text_frame
    call puts
    pop rAX
    mov ecx, 6
    call hex
#ifndef LONG
    test dword ptr [ebp + FRAME + 16], 0x20000
    jnz 2f
    test dword ptr [ebp + FRAME + 12], 3
    jz 3f
#endif
2:  mov esi, offset text_sp
    call puts
    mov eax, [rBP + FRAME + 6 * W]
    mov ecx, 4
    call hex
    mov al, ':'
    out 0xe9, al
    mov rAX, [rBP + FRAME + 5 * W]
    mov ecx, 2 * W
    call hex
#ifndef LONG
    test dword ptr [ebp + FRAME + 16], 0x20000
    jz 3f
    mov esi, offset text_segments /* ES DS FS GS of a virtual-8086 task */
    call puts
    mov ax, [ebp + FRAME + 28]
    shl eax, 16
    mov ax, [ebp + FRAME + 32]
    mov ecx, 8
    call hex
    mov ax, [ebp + FRAME + 36]
    shl eax, 16
    mov ax, [ebp + FRAME + 40]
    mov ecx, 8
    call hex
#endif
3:  cmp dword ptr [rBP + FRAME], 1
    jne 2f
    mov esi, offset text_dr6
    call puts
    mov rAX, dr6
    mov ecx, 8
    call hex
    cmp dword ptr [keep_dr6], 0
    jne 2f
    xor eax, eax
    mov dr6, rAX
2:  call newline
    ret

/* An address: relative to the case, to its alias, or as it is. */
place:
    mov ecx, [cur_start]
    mov rDX, rAX
    sub rDX, rCX
    mov ecx, [cur_end]
    sub ecx, [cur_start]
    cmp rDX, rCX
    jbe 2f
    sub rDX, ALIAS
    cmp rDX, rCX
    jbe 3f
    mov ecx, 2 * W
    jmp hex
3:  mov al, 'u'
    out 0xe9, al
2:  mov al, '+'
    out 0xe9, al
    mov rAX, rDX
    mov ecx, 3
    jmp hex

/* ---- text ---------------------------------------------------------------------------------------------------------------------- */

puts:
2:  mov al, [rSI]
    inc rSI
    test al, al
    jz 3f
    out 0xe9, al
    jmp 2b
3:  ret
newline:
    mov al, 10
    out 0xe9, al
    ret
/* The low ecx digits of rAX. */
hex:
    mov rDX, rAX
    mov ebx, ecx
2:  dec ebx
    mov ecx, ebx
    shl ecx, 2
    mov rAX, rDX
    shr rAX, cl
    and eax, 15
    cmp al, 10
    jb 3f
    add al, 'a' - '0' - 10
3:  add al, '0'
    out 0xe9, al
    test ebx, ebx
    jnz 2b
    ret

.section .names, "a"
text_case: .asciz "== "
text_abort: .asciz "abandoned\n"
text_runaway: .asciz "runaway\n"
text_end: .asciz "== end\n"
text_value: .asciz "v="
text_done: .asciz "done\n"
text_ok: .asciz "ok\n"
text_error: .asciz " err="
text_cr2: .asciz " cr2="
text_at: .asciz " at="
text_cs: .asciz " cs="
text_flags: .asciz " fl="
text_frame: .asciz " fr="
text_sp: .asciz " sp="
text_dr6: .asciz " dr6="
text_segments: .asciz " vm="

/* ---- tables ----------------------------------------------------------------------------------------------------------------------- */

.section .cases, "a"
case_table:
.data
.balign 16
gdt_master:
    .quad 0
#ifdef LONG
    .quad 0x00af9b000000ffff /* 08 code */
#else
    .quad 0x00cf9b000000ffff
#endif
    .quad 0x00cf93000000ffff /* 10 data */
    .quad 0x00cffb000000ffff /* 18 user code 32 */
    .quad 0x00cff3000000ffff /* 20 user data */
#ifdef LONG
    .quad 0x00affb000000ffff /* 28 user code 64 */
#else
    .quad 0x00cffb000000ffff
#endif
    .quad 0x00cf9b000000ffff /* 30 code 32 */
    .word 0x2067, tss_low, 0x8900 + tss_mid, 0 /* 38 TSS */
    .quad 0
    .word 0x00ff, ldt_low, 0x8200 + ldt_mid, 0 /* 48 LDT */
    .quad 0
    .fill (0x100 - 0x58) / 8, 8, 0
gdtr:
    .word 0xff
    .quad gdt
idtr:
    .word 256 * GATE_SIZE - 1
    .quad idt
cur_start: .quad 0
cur_end: .quad 0
index: .long 0
all_cases: .long 0
resume: .long 0
go_to: .quad 0
count: .long 0
keep_dr6: .long 0
show_rf: .long 0
saved_ds: .long 0
saved_es: .long 0
scratch: .fill 16, 4, 0

.bss
.balign 4096
.globl tss, ldt
gdt: .skip 0x1000
idt: .skip 0x1000
ldt: .skip 0x1000
tss: .skip 0x3000
boot_pd: .skip 0x1000
#ifdef LONG
boot_pml5: .skip 0x1000
boot_pml4: .skip 0x1000
boot_pdpt: .skip 0x1000
pml5: .skip 0x1000
pml4: .skip 0x1000
pdpt: .skip 0x1000
pd0: .skip 0x1000
pdw: .skip 0x1000
ptw: .skip 0x1000
#else
pd0: .skip 0x1000
ptw: .skip 0x1000
#endif
spare: .skip 0x4000 /* pages for tables of the case */
.text
