/* paging32.S - cases of 32-bit paging (4 KiB, 4 MiB, PSE-36) and of PAE paging. */
#include "harness.S"

#define PG 0x5000
.macro SAY_ENTRY at
    mov eax, [\at]
    SAY eax
.endm
.macro ENTRY5 low
    mov dword ptr [PTE(5)], WINP + PG + \low
    invlpg [WIN + PG]
.endm
.macro SIX_ACCESSES low
    mov byte ptr [WINP + PG], 0xc3
    ENTRY5 \low
    FAULTS mov eax, [WIN + PG]
    SAY_ENTRY PTE(5)
    ENTRY5 \low
    FAULTS mov [WIN + PG + 8], eax
    SAY_ENTRY PTE(5)
    ENTRY5 \low
    mov eax, WIN + PG
    FAULTS call eax
    SAY_ENTRY PTE(5)
    ENTRY5 \low
    USER_BEGIN
    mov eax, [WIN + PG]
    USER_END
    SAY_ENTRY PTE(5)
    ENTRY5 \low
    USER_BEGIN
    mov [WIN + PG + 8], eax
    USER_END
    SAY_ENTRY PTE(5)
    ENTRY5 \low
    USER_BEGIN
    mov eax, WIN + PG
    call eax
    USER_END
    SAY_ENTRY PTE(5)
.endm
/* PAE tables: PDPT in spare, page directory of the first GiB identical, of the second with the window at 1 GiB. */
#define PAE_PD0 (spare + 0x1000)
#define PAE_PD1 (spare + 0x2000)
#define PAE_PT (spare + 0x3000)
#define PAE_PTE(n) (PAE_PT + (n) * 8)
.macro PAE_ON nxe=1
    call pae_on
    .if \nxe
    mov ecx, 0xc0000080
    mov eax, 0x800
    xor edx, edx
    wrmsr
    .endif
.endm
.macro PAE_OFF
    call pae_off
.endm

    jmp paging32_cases
pae_on:
    mov edi, offset spare
    mov ecx, 0x4000 / 4
    xor eax, eax
    rep stosd
    mov dword ptr [spare], offset PAE_PD0 + 1
    mov dword ptr [spare + 8], offset PAE_PD1 + 1
    mov dword ptr [PAE_PD1], offset PAE_PT + 7
    mov edi, offset PAE_PD0
    mov eax, 0x83
    mov ecx, 512
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 2b
    mov edi, offset PAE_PD0 + (ALIAS >> 21) * 8
    mov eax, 0x87
    mov ecx, 32
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 2b
    mov edi, offset PAE_PT
    mov eax, WINP + 7
    mov ecx, 512
2:  mov [edi], eax
    add edi, 8
    add eax, 0x1000
    loop 2b
    mov eax, BASE_CR0 & 0x7fffffff
    mov cr0, eax
    mov eax, BASE_CR4 | 0x20
    mov cr4, eax
    mov eax, offset spare
    mov cr3, eax
    mov eax, BASE_CR0
    mov cr0, eax
    ret
pae_off:
    mov eax, BASE_CR0 & 0x7fffffff
    mov cr0, eax
    mov ecx, 0xc0000080
    xor eax, eax
    xor edx, edx
    wrmsr
    mov eax, BASE_CR4
    mov cr4, eax
    mov eax, offset pd0
    mov cr3, eax
    mov eax, BASE_CR0
    mov cr0, eax
    ret
paging32_cases:

CASE rights
    SIX_ACCESSES 0
    SIX_ACCESSES 1
    SIX_ACCESSES 3
    SIX_ACCESSES 5
    SIX_ACCESSES 7
CASE rights_without_wp
    mov eax, BASE_CR0 & ~0x10000
    mov cr0, eax
    SIX_ACCESSES 1
    SIX_ACCESSES 5
CASE smep_and_smap
    CR4_SET 0x300000
    SIX_ACCESSES 7
    SIX_ACCESSES 3
    SIX_ACCESSES 0
CASE directory_rights
    .irp rights, 1, 3, 5
    mov dword ptr [pd0 + (WIN >> 22) * 4], offset ptw + \rights
    mov eax, cr3
    mov cr3, eax
    SIX_ACCESSES 7
    SAY_ENTRY pd0+(WIN>>22)*4
    .endr
CASE four_megabytes
    mov dword ptr [pd0 + 0x104 * 4], WINP + 0x87
    mov dword ptr [WINP + 0x123450], 0x1337
    mov eax, [0x41000000 + 0x123450]
    SAY eax
    SAY_ENTRY pd0+0x104*4
    mov [0x41000000 + 0x3ffffc], eax
    SAY_ENTRY pd0+0x104*4
    USER_BEGIN
    mov eax, [0x41000000 + 0x123450]
    SAY eax
    USER_END
    mov dword ptr [pd0 + 0x104 * 4], 0
    mov ebx, 0x41200000
    invlpg [ebx]
    FAULTS mov eax, [0x41000000 + 0x123450]
CASE pse36
    mov dword ptr [pd0 + 0x104 * 4], WINP + 0x200087
    FAULTS mov eax, [0x41000000]
    mov dword ptr [pd0 + 0x104 * 4], WINP + 0x1087
    FAULTS mov eax, [0x41000000]
CASE invlpg_and_cr3
    mov dword ptr [WINP + 0x7000], 0x7777
    mov dword ptr [WINP + 0x8000], 0x8888
    SET_PTE 5, WINP+0x7007
    mov eax, [WIN + PG]
    SAY eax
    SET_PTE 5, WINP+0x8007
    mov eax, [WIN + PG]
    SAY eax
    mov dword ptr [PTE(5)], WINP + 0x7007
    mov eax, cr3
    mov cr3, eax
    mov eax, [WIN + PG]
    SAY eax
    mov dword ptr [PTE(5)], WINP + 0x8107
    invlpg [WIN + PG]
    mov eax, [WIN + PG]
    mov dword ptr [PTE(5)], WINP + 0x7007
    mov eax, BASE_CR0 & 0x7fffffff
    mov cr0, eax
    mov eax, BASE_CR0
    mov cr0, eax
    mov eax, [WIN + PG]
    SAY eax
CASE paging_off_and_on
    mov dword ptr [WINP + PG], 0x5555
    mov eax, BASE_CR0 & 0x7fffffff
    mov cr0, eax
    mov eax, [WINP + PG]
    mov ebx, eax
    mov eax, BASE_CR0
    mov cr0, eax
    SAY ebx
    mov eax, [WIN + PG]
    SAY eax
CASE pae_rights
    PAE_ON
    mov byte ptr [WINP + PG], 0xc3
    .irp high, 0, 0x80000000
    .irp low, 0, 1, 3, 5, 7
    mov dword ptr [PAE_PTE(5)], WINP + PG + \low
    mov dword ptr [PAE_PTE(5) + 4], \high
    invlpg [WIN + PG]
    FAULTS mov eax, [WIN + PG]
    FAULTS mov [WIN + PG + 8], eax
    mov eax, WIN + PG
    FAULTS call eax
    USER_BEGIN
    mov eax, [WIN + PG]
    USER_END
    USER_BEGIN
    mov eax, WIN + PG
    call eax
    USER_END
    SAY_ENTRY PAE_PTE(5)
    .endr
    .endr
    PAE_OFF
MANUAL_CASE pae_reserved
    PAE_ON 0
    mov dword ptr [PAE_PTE(5) + 4], 0x80000000
    FAULTS mov eax, [WIN + PG]
    PAE_OFF
    PAE_ON
    mov dword ptr [PAE_PTE(5) + 4], 0x10000
    FAULTS mov eax, [WIN + PG]
    mov dword ptr [PAE_PTE(6) + 4], 0x00100000
    FAULTS mov eax, [WIN + 0x6000]
    mov dword ptr [PAE_PD1 + 8], WINP + 0x2087
    FAULTS mov eax, [WIN + 0x200000]
    mov dword ptr [PAE_PD1 + 16], WINP + 0x87
    FAULTS mov eax, [WIN + 0x400000]
    SAY_ENTRY PAE_PD1+16
    PAE_OFF
MANUAL_CASE pae_pdptes_are_loaded_with_cr3
    PAE_ON
    mov dword ptr [WINP + PG], 0x5555
    mov dword ptr [spare + 8], 0
    FAULTS mov eax, [WIN + PG]
    SAY eax
    mov eax, cr3
    mov cr3, eax
    FAULTS mov eax, [WIN + PG]
    PAE_OFF
MANUAL_CASE pae_pdpte_reserved
    PAE_ON
    mov dword ptr [spare + 16], offset PAE_PD1 + 3
    mov eax, cr3
    FAULTS mov cr3, eax
    mov dword ptr [spare + 16], offset PAE_PD1 + 0x21
    FAULTS mov cr3, eax
    mov dword ptr [spare + 16], 0x1e6
    FAULTS mov cr3, eax
    mov dword ptr [spare + 16], offset PAE_PD1 + 0xe19
    FAULTS mov cr3, eax
    PAE_OFF
MANUAL_CASE cr3_and_cr4_outside_ia32e_mode
    mov eax, cr3
    or eax, 0x18
    mov cr3, eax
    mov eax, cr3
    and eax, 0xfff
    SAY eax
    mov eax, BASE_CR4 | 0x1000
    FAULTS mov cr4, eax
    mov eax, BASE_CR4 | 0x20000
    FAULTS mov cr4, eax
END_OF_CASES
