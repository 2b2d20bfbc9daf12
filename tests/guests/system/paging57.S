/* paging57.S - the cases of paging64.S under 5-level paging, and what is different there. */
#define LA57 1
#include "paging64.S"

#define LOWER_END 0x0100000000000000 /* the first address that is not canonical */

CASE fifth_level
    mov edi, offset spare
    mov ecx, 0x4000 / 4
    xor eax, eax
    rep stosd
    mov dword ptr [spare + 8], offset spare + 0x1007
    mov dword ptr [spare + 0x1008], offset spare + 0x2007
    mov dword ptr [spare + 0x2008], offset spare + 0x3007
    mov dword ptr [spare + 0x3008], WINP + 0x6007
    mov dword ptr [WINP + 0x6000], 0x1337
    movabs rbx, 0x0001008040201000 /* entry 1 of each level */
    FAULTS mov eax, [rbx]
    .irp rights, 7, 5, 3, 1
    mov dword ptr [pml5 + 8], offset spare + \rights
    mov rax, cr3
    mov cr3, rax
    FAULTS mov eax, [rbx]
    SAY rax
    FAULTS mov [rbx], eax
    USER_BEGIN
    movabs rbx, 0x0001008040201000
    mov eax, [rbx]
    USER_END
    movabs rbx, 0x0001008040201000
    SAY_ENTRY pml5+8
    .endr
    mov dword ptr [pml5 + 8], offset spare + 0x87 /* PS is reserved here */
    mov rax, cr3
    mov cr3, rax
    FAULTS mov eax, [rbx]
    mov dword ptr [pml5 + 8], 0
CASE canonical_addresses
    movabs rbx, 0x0000800000000000
    FAULTS mov eax, [rbx]
    movabs rbx, 0x00ffffffffffffff
    FAULTS mov al, [rbx]
    movabs rbx, LOWER_END
    FAULTS mov eax, [rbx]
    movabs rbx, 0xff00000000000000
    FAULTS mov eax, [rbx]
    movabs rbx, 0xfeffffffffffffff
    FAULTS mov al, [rbx]
    mov ecx, 0xc0000102
    xor eax, eax
    mov edx, 0x00800000
    FAULTS wrmsr
MANUAL_CASE five_levels_for_the_manual
    mov ecx, 0xc0000102
    xor eax, eax
    mov edx, 0x01000000
    FAULTS wrmsr
    mov rax, cr4
    xor eax, 0x1000
    FAULTS mov cr4, rax
    movabs rbx, LOWER_END
    FAULTS jmp rbx
END_OF_CASES
