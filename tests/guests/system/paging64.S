/* paging64.S - cases of 4-level paging: rights, error codes, A and D bits, page sizes, invalidation, code in pages. */
#define LONG 1
#include "harness.S"

#define PG 0x5000 /* the page of most cases: entry 5 */
#define NX_HIGH 0x80000000

.macro SAY_ENTRY at
    mov rax, [\at]
    SAY rax
.endm

/* Sets entry 5 with the flags given and invalidates it. The page holds RET. */
.macro ENTRY5 low, high=0
    mov dword ptr [PTE(5)], WINP + PG + \low
    mov dword ptr [PTE(5) + 4], \high
    invlpg [WIN + PG]
.endm

/* The six accesses through entry 5, each with the fresh entry, each followed by the entry. */
.macro SIX_ACCESSES low, high=0, flags=2
    mov byte ptr [WINP + PG], 0xc3
    ENTRY5 \low, \high
    FAULTS mov eax, [WIN + PG]
    SAY_ENTRY PTE(5)
    ENTRY5 \low, \high
    FAULTS mov [WIN + PG + 8], eax
    SAY_ENTRY PTE(5)
    ENTRY5 \low, \high
    mov eax, WIN + PG
    FAULTS call rax
    SAY_ENTRY PTE(5)
    ENTRY5 \low, \high
    USER_BEGIN \flags
    mov eax, [WIN + PG]
    USER_END
    SAY_ENTRY PTE(5)
    ENTRY5 \low, \high
    USER_BEGIN \flags
    mov [WIN + PG + 8], eax
    USER_END
    SAY_ENTRY PTE(5)
    ENTRY5 \low, \high
    USER_BEGIN \flags
    mov eax, WIN + PG
    call rax
    USER_END
    SAY_ENTRY PTE(5)
.endm

.macro CR0_WP_OFF
    mov eax, BASE_CR0 & ~0x10000
    mov cr0, rax
.endm
.macro EFER_NX_OFF
    mov ecx, 0xc0000080
    mov eax, BASE_EFER & ~0x800
    xor edx, edx
    wrmsr
.endm

.macro GDT_BEFORE_PAGE n /* the entries up to 38 at the end of the page before, a supervisor's; T0 in page n */
    mov esi, offset gdt
    mov edi, WIN + (\n) * 0x1000 - 0x40
    mov ecx, 0x20
    rep movsd
    mov dword ptr [WIN + (\n) * 0x1000 + T0 - 0x40], 0x0000ffff
    mov dword ptr [WIN + (\n) * 0x1000 + T0 - 0x40 + 4], 0x00cf9300
    SET_PTE (\n-1), WINP+((\n-1)*0x1000)+3
    mov word ptr [scratch], 0xff
    mov dword ptr [scratch + 2], WIN + (\n) * 0x1000 - 0x40
    mov dword ptr [scratch + 6], 0
    lgdt [scratch]
.endm

CASE not_present
    SIX_ACCESSES 0
CASE not_present_other_bits
    SIX_ACCESSES 0xffe, 0xffffffff
CASE supervisor_read_only
    SIX_ACCESSES 1
CASE supervisor_writable
    SIX_ACCESSES 3
CASE user_read_only
    SIX_ACCESSES 5
CASE user_writable
    SIX_ACCESSES 7
CASE no_execute
    SIX_ACCESSES 7, NX_HIGH
CASE no_execute_supervisor
    SIX_ACCESSES 1, NX_HIGH
CASE read_only_without_wp
    CR0_WP_OFF
    SIX_ACCESSES 1
    SIX_ACCESSES 5
CASE nx_reserved_without_nxe
    EFER_NX_OFF
    SIX_ACCESSES 7, NX_HIGH
CASE no_fetch_bit_without_nxe
    EFER_NX_OFF
    SIX_ACCESSES 0
    SIX_ACCESSES 3
CASE smep
    CR4_SET 0x100000
    SIX_ACCESSES 7
    SIX_ACCESSES 3
CASE smep_without_nxe
    EFER_NX_OFF
    CR4_SET 0x100000
    SIX_ACCESSES 7
    SIX_ACCESSES 0
CASE smap
    CR4_SET 0x200000
    SIX_ACCESSES 7
    SIX_ACCESSES 5
    SIX_ACCESSES 3
CASE smap_with_ac
    CR4_SET 0x200000
    mov byte ptr [WINP + PG], 0xc3
    ENTRY5 7
    stac
    FAULTS mov eax, [WIN + PG]
    stac
    FAULTS mov [WIN + PG], al
    FAULTS mov [WIN + PG], al
    stac
    clac
    FAULTS mov [WIN + PG], al
    ENTRY5 5
    stac
    FAULTS mov [WIN + PG], al
    CR0_WP_OFF
    stac
    FAULTS mov [WIN + PG], al
    FAULTS mov eax, [WIN + PG]
MANUAL_CASE smap_implicit
    CR4_SET 0x200000
    stac
    GDT_BEFORE_PAGE 5
    ENTRY5 7
    mov eax, T0
    mov dword ptr [resume], offset 2f
    mov fs, eax
2:  lgdt [gdtr]
CASE pkeys
    CR4_SET 0x400000
    xor ecx, ecx
    xor edx, edx
    mov eax, 0x00000004 << 4 /* key 3: access disabled */
    wrpkru
    SIX_ACCESSES 7, 0x18000000
    xor ecx, ecx
    xor edx, edx
    mov eax, 0x00000080 /* key 3: write disabled */
    wrpkru
    SIX_ACCESSES 7, 0x18000000
    SIX_ACCESSES 7, 0x20000000
    SIX_ACCESSES 3, 0x18000000
    xor ecx, ecx
    xor edx, edx
    mov eax, 0x00000040
    wrpkru
    SIX_ACCESSES 5, 0x18000000
    SIX_ACCESSES 0, 0x18000000
    xor ecx, ecx
    rdpkru
    SAY rax
    CR0_WP_OFF
    mov eax, 0x00000080
    xor ecx, ecx
    xor edx, edx
    wrpkru
    SIX_ACCESSES 7, 0x18000000
    xor ecx, ecx
    xor edx, edx
    xor eax, eax
    wrpkru
CASE pkru_rules
    FAULTS rdpkru
    CR4_SET 0x400000
    mov ecx, 1
    FAULTS rdpkru
    FAULTS wrpkru
    mov ecx, 0
    mov edx, 1
    FAULTS wrpkru
CASE reserved_bits
    SIX_ACCESSES 7, 0x00080000
    mov dword ptr [pdw + 4], 0x00080000
    mov rax, cr3
    mov cr3, rax
    FAULTS mov eax, [WIN + PG]
    mov dword ptr [pdw + 4], 0
    mov dword ptr [pdpt + 12], 0x00080000
    mov rax, cr3
    mov cr3, rax
    FAULTS mov [WIN + PG], eax
CASE reserved_large
    mov dword ptr [pdw], WINP + 0x2087
    mov rax, cr3
    mov cr3, rax
    FAULTS mov eax, [WIN + PG]
    mov dword ptr [pdw], WINP + 0x100087
    FAULTS mov eax, [WIN + PG]
    mov dword ptr [pdw], WINP + 0x1087
    FAULTS mov eax, [WIN + PG]
    mov dword ptr [pdpt + 16], 0x00200087
    FAULTS mov eax, [WIN + 0x40000000]
    mov dword ptr [pdpt + 16], 0x20000087
    mov rax, cr3
    mov cr3, rax
    FAULTS mov eax, [WIN + 0x40000000]
    mov dword ptr [pml4 + 8], offset pdpt + 0x87
    movabs rbx, 0x8000000000
    FAULTS mov eax, [rbx]
CASE rights_of_all_levels
    .macro LEVELS l4, l3, l2, l1
    mov dword ptr [pml4 + 8], offset spare + 0 + \l4
    mov dword ptr [spare + 8], offset spare + 0x1000 + \l3
    mov dword ptr [spare + 0x1008], offset spare + 0x2000 + \l2
    mov dword ptr [spare + 0x2008], WINP + 0x6000 + \l1
    mov rax, cr3
    mov cr3, rax
    movabs rbx, 0x8040201000
    FAULTS mov eax, [rbx]
    FAULTS mov [rbx], eax
    USER_BEGIN
    movabs rbx, 0x8040201000
    mov eax, [rbx]
    USER_END
    USER_BEGIN
    movabs rbx, 0x8040201000
    mov [rbx], eax
    USER_END
    SAY_ENTRY pml4 + 8
    SAY_ENTRY spare + 8
    SAY_ENTRY spare + 0x1008
    SAY_ENTRY spare + 0x2008
    .endm
    mov edi, offset spare
    mov ecx, 0x4000 / 4
    xor eax, eax
    rep stosd
    LEVELS 7, 7, 7, 7
    LEVELS 5, 7, 7, 7
    LEVELS 7, 5, 7, 7
    LEVELS 7, 7, 5, 7
    LEVELS 7, 7, 7, 5
    LEVELS 3, 7, 7, 7
    LEVELS 7, 3, 7, 7
    LEVELS 7, 7, 3, 7
    LEVELS 0, 7, 7, 7
    LEVELS 7, 0, 7, 7
    LEVELS 7, 7, 0, 7
    LEVELS 7, 7, 7, 0
CASE nx_of_all_levels
    mov byte ptr [WINP + 0x6000], 0xc3
    mov dword ptr [pml4 + 8], offset spare + 7
    mov dword ptr [spare + 8], offset spare + 0x1000 + 7
    mov dword ptr [spare + 0x1008], offset spare + 0x2000 + 7
    mov dword ptr [spare + 0x2008], WINP + 0x6000 + 7
    movabs rbx, 0x8040201000
    FAULTS call rbx
    .irp at, "pml4 + 12", "spare + 12", "spare + 0x100c", "spare + 0x200c"
    mov dword ptr [\at], NX_HIGH
    mov rax, cr3
    mov cr3, rax
    FAULTS call rbx
    mov dword ptr [\at], 0
    .endr
    mov rax, cr3
    mov cr3, rax
    FAULTS call rbx
    mov dword ptr [pml4 + 8], 0
    mov edi, offset spare
    mov ecx, 0x4000 / 4
    xor eax, eax
    rep stosd
CASE large_page
    mov dword ptr [pdw + 8], WINP + 0x87
    mov dword ptr [WINP + PG + 0x1234], 0x1337
    FAULTS mov eax, [WIN + 0x200000 + PG + 0x1234]
    SAY rax
    SAY_ENTRY pdw + 8
    FAULTS mov [WIN + 0x200000], eax
    SAY_ENTRY pdw + 8
    mov dword ptr [pdw + 8], WINP + 0x83
    invlpg [WIN + 0x200000 + 0x155000]
    USER_BEGIN
    mov eax, [WIN + 0x200000 + PG]
    USER_END
    SAY_ENTRY pdw + 8
    mov dword ptr [pdw + 8], 0
    invlpg [WIN + 0x3ff000]
    FAULTS mov eax, [WIN + 0x200000 + PG]
    FAULTS mov eax, [WIN + 0x200000]
    FAULTS mov eax, [WIN + 0x300000]
CASE huge_page
    mov dword ptr [pdpt + 16], 0x87
    mov dword ptr [WINP + PG], 0x1337
    FAULTS mov eax, [WIN + 0x40000000 + WINP + PG]
    SAY rax
    SAY_ENTRY pdpt + 16
    FAULTS mov [WIN + 0x40000000 + WINP + PG], eax
    SAY_ENTRY pdpt + 16
    mov dword ptr [pdpt + 16], 0
    mov ebx, WIN + 0x40000000
    invlpg [rbx]
    FAULTS mov eax, [WIN + 0x40000000 + WINP + PG]
CASE accessed_and_dirty
    ENTRY5 7
    SAY_ENTRY PTE(5)
    SAY_ENTRY pdw
    mov eax, [WIN + PG]
    SAY_ENTRY PTE(5)
    mov [WIN + PG], eax
    SAY_ENTRY PTE(5)
    ENTRY5 7
    lock cmpxchg [WIN + PG], ecx
    SAY_ENTRY PTE(5)
    ENTRY5 7
    mov eax, 1
    cmpxchg [WIN + PG], ecx /* not equal: writes the old value */
    SAY_ENTRY PTE(5)
    ENTRY5 7
    test [WIN + PG], eax
    SAY_ENTRY PTE(5)
    ENTRY5 7
    cmp eax, eax
    cmovne eax, [WIN + PG]
    SAY_ENTRY PTE(5)
    ENTRY5 7
    prefetcht0 [WIN + PG]
    xor ecx, ecx
    mov edi, WIN + PG
    rep stosb
    SAY_ENTRY PTE(5)
    ENTRY5 5
    FAULTS mov [WIN + PG], eax
    SAY_ENTRY PTE(5)
CASE dirty_again
    ENTRY5 7
    mov [WIN + PG], eax
    and dword ptr [PTE(5)], ~0x60
    invlpg [WIN + PG]
    mov eax, [WIN + PG]
    SAY_ENTRY PTE(5)
    mov [WIN + PG], eax
    SAY_ENTRY PTE(5)
    and dword ptr [PTE(5)], ~0x60
    mov rax, cr3
    mov cr3, rax
    mov [WIN + PG], eax
    SAY_ENTRY PTE(5)
CASE page_table_in_its_own_page
    SET_PTE 6, 7
    mov eax, offset ptw + 7
    mov [PTE(6)], eax
    invlpg [WIN + 0x6000]
    mov rax, [WIN + 0x6000 + 6 * 8]
    SAY rax
    mov [WIN + 0x6000 + 7 * 8], rax
    mov rax, [WIN + 0x6000 + 6 * 8]
    SAY rax
CASE compare_without_match_needs_write
    ENTRY5 5
    mov eax, 1
    FAULTS cmpxchg [WIN + PG], ecx
    FAULTS lock cmpxchg8b [WIN + PG]
    FAULTS lock xadd [WIN + PG], eax
    FAULTS xchg [WIN + PG], eax
    FAULTS bts dword ptr [WIN + PG], 0
    FAULTS bt dword ptr [WIN + PG], 0
    FAULTS add dword ptr [WIN + PG], 0
    FAULTS neg dword ptr [WIN + PG]
    mov cl, 0
    FAULTS shl dword ptr [WIN + PG], cl
    FAULTS setc byte ptr [WIN + PG]
CASE crossing_access
    mov dword ptr [WINP + PG + 0xffc], 0x11111111
    SET_PTE 6, WINP + 0x6000
    mov dword ptr [resume], 0
    FAULTS mov rax, [WIN + 0x6000 - 4]
    FAULTS mov [WIN + 0x6000 - 4], rax
    FAULTS movups [WIN + 0x6000 - 1], xmm0
    FAULTS movups xmm0, [WIN + 0x6000 - 15]
    mov eax, [WINP + PG + 0xffc]
    SAY rax
    SET_PTE 5, 0
    FAULTS mov rax, [WIN + 0x6000 - 4]
    FAULTS mov [WIN + 0x6000 - 4], rax
    SET_PTE 5, WINP + PG + 7
    SET_PTE 6, WINP + 0x6005
    FAULTS mov [WIN + 0x6000 - 2], eax
    FAULTS add [WIN + 0x6000 - 2], eax
    FAULTS mov rax, [WIN + 0x6000 - 4]
    mov eax, [WINP + PG + 0xffc]
    SAY rax
    SET_PTE 6, WINP + 0x6003
    USER_BEGIN
    mov [WIN + 0x6000 - 2], eax
    USER_END
CASE crossing_where_address_bits_carry
    mov dword ptr [pd0 + 255 * 8], WINP + 0x83
    mov dword ptr [pd0 + 256 * 8], WINP + 0x200083
    mov rax, cr3
    mov cr3, rax
    mov dword ptr [WINP + 0x1ffffc], 0x11111111
    mov dword ptr [WINP + 0x200000], 0x22222222
    mov eax, [0x20000000]
    mov rax, [0x1ffffffc]
    SAY rax
    mov dword ptr [0x20000000], 0x33333333
    mov rbx, 0x5555555544444444
    mov [0x1ffffffc], rbx
    mov rax, [WINP + 0x1ffffc]
    SAY rax
    mov eax, [0]
    mov rbx, -4
    FAULTS mov rax, [rbx]
    mov rbx, -4
    FAULTS mov [rbx], rax
CASE crossing_push
    SET_PTE 5, 0
    mov byte ptr [GATE(14) + 4], 1
    mov rsp, WIN + 0x6004
    FAULTS push rax
    mov rsp, WIN + 0x5ffc
    FAULTS pop rax
    mov rsp, WIN + 0x6000
    FAULTS call case_abort
    mov rsp, WIN + 0x6008
    FAULTS enter 16, 0
CASE string_page_faults
    SET_PTE 6, 0
    mov edi, WIN + PG + 0xff0
    mov ecx, 0x20
    mov al, 0x55
    FAULTS rep stosb
    mov rax, rdi
    SAY rax
    SAY rcx
    mov eax, [WIN + PG + 0xffc]
    SAY rax
    mov esi, WIN + PG + 0xff3
    mov edi, WIN + 0x8000
    mov ecx, 0x20
    FAULTS rep movsd
    SAY rcx
    SAY rsi
    SAY rdi
    mov esi, WIN + 0x6010
    mov edi, WIN + PG
    mov ecx, 3
    std
    FAULTS rep movsq
    cld
    SAY rsi
    mov edi, WIN + PG + 0xff8
    mov ecx, 0x10
    mov eax, 0x55555555
    FAULTS repne scasd
    SAY rcx
    xor ecx, ecx
    mov edi, WIN + 0x6000
    FAULTS rep stosb
CASE invalidation
    mov dword ptr [WINP + 0x7000], 0x7777
    mov dword ptr [WINP + 0x8000], 0x8888
    SET_PTE 5, WINP + 0x7007
    mov eax, [WIN + PG]
    SAY rax
    SET_PTE 5, WINP + 0x8007
    mov eax, [WIN + PG]
    SAY rax
    mov dword ptr [PTE(5)], WINP + 0x7007
    mov rax, cr3
    mov cr3, rax
    mov eax, [WIN + PG]
    SAY rax
    mov dword ptr [PTE(5)], WINP + 0x8107 /* global */
    invlpg [WIN + PG]
    mov eax, [WIN + PG]
    SAY rax
    mov dword ptr [PTE(5)], WINP + 0x7107
    invlpg [WIN + PG + 0xfff]
    mov eax, [WIN + PG]
    SAY rax
    mov dword ptr [PTE(5)], WINP + 0x8007
    mov eax, BASE_CR4 & ~0x80
    mov cr4, rax
    mov eax, [WIN + PG]
    SAY rax
    mov dword ptr [PTE(5)], WINP + 0x7007
    mov eax, BASE_CR4
    mov cr4, rax
    mov eax, [WIN + PG]
    SAY rax
    mov dword ptr [PTE(5)], 0
    invlpg [WIN + PG]
    FAULTS mov eax, [WIN + PG]
    mov dword ptr [PTE(5)], WINP + 0x7007 /* not present is never cached */
    mov eax, [WIN + PG]
    SAY rax
CASE invalidation_of_table
    mov dword ptr [WINP + 0x7000], 0x7777
    mov dword ptr [WINP + PG], 0x5555
    mov eax, [WIN + PG]
    SAY rax
    mov edi, offset spare
    mov ecx, 0x1000 / 4
    xor eax, eax
    rep stosd
    mov dword ptr [spare + 5 * 8], WINP + 0x7007
    mov dword ptr [pdw], offset spare + 7
    invlpg [WIN + PG]
    mov eax, [WIN + PG]
    SAY rax
    FAULTS mov eax, [WIN + 0x9000]
MANUAL_CASE invpcid_types
    mov dword ptr [WINP + 0x7000], 0x7777
    mov dword ptr [WINP + 0x8000], 0x8888
    mov qword ptr [scratch], 0
    mov qword ptr [scratch + 8], WIN + PG
    SET_PTE 5, WINP + 0x7007
    mov eax, [WIN + PG]
    mov dword ptr [PTE(5)], WINP + 0x8007
    xor ebx, ebx
    invpcid rbx, [scratch]
    mov eax, [WIN + PG]
    SAY rax
    .irp type, 1, 2, 3
    SET_PTE 5, WINP + 0x7007
    mov eax, [WIN + PG]
    mov dword ptr [PTE(5)], WINP + 0x8007
    mov ebx, \type
    invpcid rbx, [scratch]
    mov eax, [WIN + PG]
    SAY rax
    .endr
    mov ebx, 4
    FAULTS invpcid rbx, [scratch]
    mov dword ptr [scratch], 0x1000
    xor ebx, ebx
    FAULTS invpcid rbx, [scratch]
    mov dword ptr [scratch], 1
    FAULTS invpcid rbx, [scratch]
    mov dword ptr [scratch], 0
    mov dword ptr [scratch + 12], 0x80000000
    FAULTS invpcid rbx, [scratch]
    USER_BEGIN
    invpcid rbx, [scratch]
    USER_END
MANUAL_CASE pcid_keeps_apart
    CR4_SET 0x20000
    mov dword ptr [WINP + 0x7000], 0x7777
    mov dword ptr [WINP + 0x8000], 0x8888
    SET_PTE 5, WINP + 0x7007
    mov eax, [WIN + PG] /* cached for PCID 0 */
    mov eax, offset TOP_TABLE + 1
    mov cr3, rax
    mov dword ptr [PTE(5)], WINP + 0x8007
    mov eax, [WIN + PG]
    SAY rax
    mov eax, offset TOP_TABLE /* bit 63 clear: PCID 0 is flushed */
    mov cr3, rax
    mov eax, [WIN + PG]
    SAY rax
    mov dword ptr [PTE(5)], WINP + 0x7007
    mov qword ptr [scratch], 0
    mov qword ptr [scratch + 8], 0
    mov ebx, 1
    invpcid rbx, [scratch]
    mov eax, [WIN + PG]
    SAY rax
    mov eax, BASE_CR4
    mov cr4, rax
CASE code_crosses_into_missing_page
    mov byte ptr [WINP + PG + 0xffe], 0xb8
    SET_PTE 6, 0
    mov eax, WIN + PG + 0xffe
    FAULTS jmp rax
    SET_PTE 6, WINP + 0x6007
    mov dword ptr [PTE(6) + 4], NX_HIGH
    invlpg [WIN + 0x6000]
    mov eax, WIN + PG + 0xffe
    FAULTS jmp rax
    mov byte ptr [WINP + PG + 0xfff], 0x90
    mov eax, WIN + PG + 0xfff
    FAULTS jmp rax
    mov dword ptr [PTE(5) + 4], NX_HIGH
    invlpg [WIN + PG]
    FAULTS jmp rax
CASE code_crosses_two_pages
    mov dword ptr [WINP + PG + 0xffc], 0xb8909090
    mov dword ptr [WINP + 0x6000], 0x12345678
    mov byte ptr [WINP + 0x6004], 0xc3
    mov dword ptr [WINP + 0x7000], 0x87654321
    mov byte ptr [WINP + 0x7004], 0xc3
    mov ebx, WIN + PG + 0xffc
    call rbx
    SAY rax
    call rbx
    SET_PTE 6, WINP + 0x7007
    call rbx
    SAY rax
    mov byte ptr [WINP + 0x7000], 0x99
    call rbx
    SAY rax
    mov byte ptr [WINP + PG + 0xfff], 0xb9
    mov eax, 0
    call rbx
    SAY rax
    SAY rcx
CASE code_through_alias_changes
    mov dword ptr [WINP + PG], 0x000001b8
    mov word ptr [WINP + PG + 4], 0xc300
    SET_PTE 6, WINP + PG + 7
    mov ebx, WIN + PG
    mov ecx, WIN + 0x6000
    call rbx
    SAY rax
    mov byte ptr [rcx + 1], 2
    call rbx
    SAY rax
    call rcx
    SAY rax
    mov byte ptr [WINP + PG + 1], 3
    call rbx
    SAY rax
    mov byte ptr [WINP + 0x7000 + 1], 4
    mov esi, WINP + PG
    mov edi, WINP + 0x7000
    mov ecx, 8
    rep movsb
    mov byte ptr [WINP + 0x7001], 5
    SET_PTE 5, WINP + 0x7007
    call rbx
    SAY rax
CASE code_changes_itself
    mov ebx, 3
2:  mov eax, 0
    inc dword ptr [2b + 1]
    SAY rax
    dec ebx
    jnz 2b
    mov byte ptr [3f], 0x40
3:  .byte 0x48, 0x90 /* patched to a lone REX and NOP */
    mov dword ptr [4f + 1], 0x1234
    jmp 4f
4:  mov eax, 0
    SAY rax
    mov dword ptr [2b + 1], 0
    mov dword ptr [4b + 1], 0
    mov byte ptr [3b], 0x48
CASE store_into_next_instruction
    mov byte ptr [2f], 0x41 /* INC by prefix change: 41 ff c3 = inc r11d */
    xor r11d, r11d
    xor ebx, ebx
    mov byte ptr [2f], 0x40
2:  .byte 0x41, 0xff, 0xc3
    SAY rbx
    SAY r11
    mov byte ptr [2b], 0x41
CASE rep_stos_over_itself
    mov dword ptr [WINP + PG], 0xaaf3 | 0x90900000
    mov dword ptr [WINP + PG + 4], 0xc3909090
    mov edi, WIN + PG + 2
    mov ecx, 3
    mov eax, 0x40
    mov ebx, WIN + PG
    call rbx
    SAY rcx
    mov rax, [WINP + PG]
    SAY rax
CASE remap_running_code
    mov edi, WINP + PG
    mov eax, 0x90909090
    mov ecx, 0x800
    rep stosd
    mov byte ptr [WINP + PG + 0x100], 0xc3
    mov dword ptr [WINP + 0x6000 + 0x100], 0x0001b990
    mov dword ptr [WINP + 0x6000 + 0x104], 0x90c30000
    /* invlpg [rbx] in the page itself, after the PTE was changed */
    mov dword ptr [WINP + PG + 0x10], 0x3b010f90
    mov dword ptr [WINP + 0x6000 + 0x10], 0x3b010f90
    mov ebx, WIN + PG
    xor ecx, ecx
    mov dword ptr [PTE(5)], WINP + 0x6007
    call rbx
    SAY rcx
CASE descriptor_on_missing_page
    GDT_BEFORE_PAGE 5
    SET_PTE 5, 0
    mov eax, T0
    mov dword ptr [resume], offset 2f
    mov fs, eax
2:  lgdt [gdtr]
CASE user_touches_supervisor_descriptor
    GDT_BEFORE_PAGE 5
    mov dword ptr [WIN + 0x5000 + T0 - 0x40 + 4], 0x00cff200
    SET_PTE 5, WINP + PG + 3
    USER_BEGIN
    mov eax, T0 + 3
    mov fs, eax
    USER_END
    lgdt [gdtr]
    mov rax, [WINP + PG + T0 - 0x40]
    SAY rax
    SAY_ENTRY PTE(5)
#ifndef LA57
END_OF_CASES
#endif
