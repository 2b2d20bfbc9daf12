/*
 * board.c - see board.h.
 */
#include "board.h"
#include "input.h"

enum { GDT = 0x1000, LDT = 0x1200, TSS32 = 0x1400, TSS64 = 0x1800, TSS_TASK = 0x1c00, TSS16 = 0x1e00, IDT = 0x2000, HANDLERS = 0x3000,
       PML5 = 0x4000, PML4 = 0x5000, PDPT = 0x6000, PDPT_PAE = 0x6800, PD = 0x7000, PT = 0x8000, PD32 = 0x9000, PT32 = 0xa000,
       STACK0 = 0xbff0, STACK3 = 0xcff0, DATA = 0xd800 };
enum { S_CODE32 = 0x08, S_DATA = 0x10, S_CODE32_3 = 0x1b, S_DATA_3 = 0x23, S_CODE64 = 0x28, S_CODE64_3 = 0x33, S_CODE16 = 0x38,
       S_DOWN = 0x40, S_LDT = 0x48, S_TSS64 = 0x50, S_TASK = 0x60, S_CALL = 0x68, S_CALL_3 = 0x70, S_TASKGATE = 0x78, S_CONFORM = 0x80,
       S_ABSENT = 0x88, S_TSS16 = 0x90, S_CALL16 = 0x98, S_CALL64 = 0xa0, S_TSS32 = 0xb0, S_CODE16_3 = 0xbb };
enum { H_PLAIN = HANDLERS, H_ERROR = HANDLERS + 0x10, H_TASK = HANDLERS + 0x20, H_GATE16 = HANDLERS + 0x30, H_CALL = HANDLERS + 0x40,
       H_SYSCALL = HANDLERS + 0x50, H_SYSENTER = HANDLERS + 0x60, REAL_HANDLER = 0x500 };

static void put(u8 *ram, u64 at, u64 value, unsigned size) { memcpy(ram + at, &value, size); }

static u64 descriptor(u64 base, u64 limit, u64 ar) {
    return (limit & 0xffff) | (base & 0xffffff) << 16 | (ar & 0xf0ff) << 40 | (limit >> 16 & 15) << 48 | (base >> 24) << 56;
}
static u64 gate(u64 offset, u64 sel, u64 ar) { return (offset & 0xffff) | sel << 16 | (ar & 0xff) << 40 | (offset >> 16) << 48; }

/* ---- memory images, one per mode ------------------------------------------------------------------------------ */

static bool has_error(int vector) { return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 30; }

static void fill_gdt(u8 *ram, bool lm) {
    static const struct { u16 sel; u32 limit; u32 ar; } flat[] = {
        {S_CODE32, 0xfffff, 0xc09b}, {S_DATA, 0xfffff, 0xc093}, {S_CODE32_3, 0xfffff, 0xc0fb}, {S_DATA_3, 0xfffff, 0xc0f3},
        {S_CODE64, 0xfffff, 0xa09b}, {S_CODE64_3, 0xfffff, 0xa0fb}, {S_CODE16, 0xffff, 0x009b}, {S_DOWN, 0x0fff, 0x0097},
        {S_CONFORM, 0xfffff, 0xc09f}, {S_ABSENT, 0xfffff, 0xc01b}, {S_CODE16_3, 0xffff, 0x00fb},
    };
    for (unsigned i = 0; i < sizeof flat / sizeof *flat; i++) put(ram, GDT + (flat[i].sel & ~7), descriptor(0, flat[i].limit, flat[i].ar), 8);
    put(ram, GDT + S_LDT, descriptor(LDT, 0xff, 0x82), 8);
    put(ram, GDT + S_TSS64, descriptor(TSS64, 0x1ff, 0x8b), 8);
    put(ram, GDT + S_TSS32, descriptor(TSS32, 0x1ff, 0x8b), 8);
    if (lm) {
        put(ram, GDT + S_CALL64, gate(H_CALL, S_CODE64, 0xec), 8);
        return;
    }
    put(ram, GDT + S_TASK, descriptor(TSS_TASK, 0x67, 0xe9), 8);
    put(ram, GDT + S_CALL, gate(H_CALL, S_CODE32, 0x8c) | 2ull << 32, 8);
    put(ram, GDT + S_CALL_3, gate(H_CALL, S_CODE32, 0xec), 8);
    put(ram, GDT + S_TASKGATE, gate(0, S_TASK, 0xe5), 8);
    put(ram, GDT + S_TSS16, descriptor(TSS16, 0x2b, 0xe1), 8);
    put(ram, GDT + S_CALL16, gate(H_CALL, S_CODE16, 0xe4), 8);
    put(ram, LDT + 8, descriptor(0, 0xfffff, 0xc0f3), 8);
    put(ram, LDT + 16, descriptor(0, 0xfffff, 0xc0fb), 8);
}

static void fill_idt(u8 *ram, bool lm) {
    for (int v = 0; v < 256; v++) {
        u64 offset = has_error(v) ? H_ERROR : H_PLAIN, ar = v == 3 || v == 4 || v > 0x24 ? 0xee : 0x8e;
        if (v == 0x22) ar = 0xef;
        if (v == 0x23) ar = 0x6e;
        u64 low = gate(offset, lm ? S_CODE64 : S_CODE32, ar);
        if (!lm && v == 0x20) low = gate(0, S_TASK, 0xe5);
        if (!lm && v == 0x21) low = gate(H_GATE16, S_CODE32, 0xe6);
        if (lm && (v == 2 || v == 8 || v == 0x20)) low |= 1ull << 32;
        put(ram, IDT + (u64)v * (lm ? 16 : 8), low, 8);
    }
}

static void fill_handlers(u8 *ram, bool lm) {
    static const u8 real[] = {0x55, 0x89, 0xe5, 0xff, 0x46, 0x02, 0x5d, 0xcf};     /* push bp; mov bp,sp; inc word [bp+2]; pop bp; iret */
    static const u8 plain32[] = {0x83, 0x04, 0x24, 0x01, 0xcf};                    /* add dword [esp],1; iret */
    static const u8 error32[] = {0x83, 0xc4, 0x04, 0x83, 0x04, 0x24, 0x01, 0xcf};  /* add esp,4; ... */
    static const u8 gate16[] = {0x66, 0x83, 0x04, 0x24, 0x01, 0x66, 0xcf};
    static const u8 task[] = {0xcf, 0xeb, 0xfd};                                   /* iret; jmp back to it */
    static const u8 plain64[] = {0x48, 0x83, 0x04, 0x24, 0x01, 0x48, 0xcf};
    static const u8 error64[] = {0x48, 0x83, 0xc4, 0x08, 0x48, 0x83, 0x04, 0x24, 0x01, 0x48, 0xcf};
    static const u8 call32[] = {0xcb}, call64[] = {0x48, 0xcb};                    /* retf */
    static const u8 sysret[] = {0x48, 0x0f, 0x07}, sysexit[] = {0x0f, 0x35};
#define COPY(at, code) memcpy(ram + (at), code, sizeof code)
    COPY(REAL_HANDLER, real);
    COPY(H_TASK, task);
    COPY(H_GATE16, gate16);
    COPY(H_SYSCALL, sysret);
    COPY(H_SYSENTER, sysexit);
    if (lm) {
        COPY(H_PLAIN, plain64);
        COPY(H_ERROR, error64);
        COPY(H_CALL, call64);
    } else {
        COPY(H_PLAIN, plain32);
        COPY(H_ERROR, error32);
        COPY(H_CALL, call32);
    }
}

static void fill_tss(u8 *ram) {
    static const u64 segments[] = {S_DATA, S_CODE32, S_DATA, S_DATA, S_DATA, S_DATA};
    put(ram, TSS32 + 4, STACK0, 4), put(ram, TSS32 + 8, S_DATA, 4);
    put(ram, TSS32 + 0x1c, PD32, 4);
    put(ram, TSS32 + 102, 104 + 32, 2);
    put(ram, TSS64 + 4, STACK0, 8), put(ram, TSS64 + 36, STACK0 - 0x400, 8);
    put(ram, TSS64 + 102, 104, 2);
    for (int k = 0; k < 2; k++) memset(ram + (k ? TSS64 + 104 : TSS32 + 136) + 16, 0xff, 16);
    put(ram, TSS_TASK + 0x1c, PD32, 4), put(ram, TSS_TASK + 0x20, H_TASK, 4), put(ram, TSS_TASK + 0x24, 2, 4);
    put(ram, TSS_TASK + 0x38, STACK0 - 0x800, 4);
    for (int i = 0; i < 6; i++) put(ram, TSS_TASK + 0x48 + 4 * (u64)i, segments[i], 4);
    put(ram, TSS16 + 0x0e, H_TASK, 2), put(ram, TSS16 + 0x1a, STACK0 - 0xc00, 2);
    put(ram, TSS16 + 0x22, S_DATA, 2), put(ram, TSS16 + 0x24, S_CODE16, 2), put(ram, TSS16 + 0x26, S_DATA, 2), put(ram, TSS16 + 0x28, S_DATA, 2);
}

/* The first 2 MiB in 4 KiB pages at linear 0 and, through large pages and higher entries, at several other places. */
static void fill_page_tables(u8 *ram) {
    for (u64 page = 0; page < 512; page++) {
        u64 user = page >= 0xc ? 4 : 0;
        put(ram, PT + 8 * page, page << 12 | 3 | user, 8);
        put(ram, PT32 + 4 * page, page << 12 | 3 | user, 4);
    }
    static const struct { u64 table, entry, value; } wide[] = {
        {PML5, 0, PML4 | 7}, {PML5, 511, PML4 | 7}, {PML4, 0, PDPT | 7}, {PML4, 256, PDPT | 7}, {PML4, 511, PDPT | 0x7},
        {PDPT, 0, PD | 7}, {PDPT, 1, 0x87}, {PDPT, 2, PD | 5}, {PDPT, 3, PD | 7}, {PDPT, 511, PD | 7},
        {PDPT_PAE, 0, PD | 1}, {PDPT_PAE, 1, PD | 1}, {PDPT_PAE, 3, PD | 1},
        {PD, 0, PT | 7}, {PD, 1, 0x87}, {PD, 2, PT | 7}, {PD, 3, PD | 7}, {PD, 4, 0x187}, {PD, 511, PT | 7},
    };
    for (unsigned i = 0; i < sizeof wide / sizeof *wide; i++) put(ram, wide[i].table + 8 * wide[i].entry, wide[i].value, 8);
    static const struct { u64 entry, value; } narrow[] = {{0, PT32 | 7}, {1, 0x87}, {0x200, PT32 | 7}, {0x300, PD32 | 7}, {0x3ff, PT32 | 7}};
    for (unsigned i = 0; i < sizeof narrow / sizeof *narrow; i++) put(ram, PD32 + 4 * narrow[i].entry, narrow[i].value, 4);
}

static bool is_long_mode(unsigned mode) { return mode >= COMPAT16; }
static bool is_real_mode(unsigned mode) { return mode <= UNREAL; }

static const u8 *image_of(unsigned mode) {
    static u8 images[3][RAM_SIZE];
    static bool made;
    if (!made) {
        for (int kind = 0; kind < 3; kind++) {
            u8 *ram = images[kind];
            fill_gdt(ram, kind == 2);
            fill_idt(ram, kind == 2);
            fill_handlers(ram, kind == 2);
            fill_tss(ram);
            fill_page_tables(ram);
            for (u64 v = 0; v < 256; v++) put(ram, 4 * v, REAL_HANDLER, 4);
        }
        made = true;
    }
    return images[is_long_mode(mode) ? 2 : is_real_mode(mode) ? 0 : 1];
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void make_machine(struct board *b) {
    static u8 rom[ROM_SIZE];
    CHECK(accel_machine_new(&b->m) == ACCEL_OK, "no machine");
    CHECK(accel_slot_add(b->m, 0, RAM_SIZE, 0) == ACCEL_OK, "no RAM");
    CHECK(accel_slot_add(b->m, ROM_BASE, ROM_SIZE, ACCEL_SLOT_ROM) == ACCEL_OK, "no ROM");
    CHECK(accel_slot_add(b->m, HIGH_BASE, HIGH_SIZE, 0) == ACCEL_OK, "no high RAM");
    for (unsigned i = 0; i < ROM_SIZE; i++) rom[i] = (u8)mix(i);
    memcpy(b->m->slots[1].host, rom, ROM_SIZE);
}

/* Making a machine costs more than a run: it is kept, and all that a run can leave in it is cleared. */
static void clear_machine(struct board *b) {
    accel_machine *m = b->m;
    for (u32 i = 0; i < m->cpu_count; i++) free(m->cpus[i]);
    m->cpu_count = 0;
    for (u64 id = 0; id < POINT_IDS; id++) accel_break_remove(m, id), accel_watch_remove(m, id);
    block_flush_all(m);
    memset(m->hash, 0, sizeof *m->hash * (m->hash_mask + 1));
    m->a20_mask = ~0ull;
    m->epoch = 1;
    m->gen_counter = 0;
    for (u32 i = 0; i < m->slot_count; i++) memset(m->slots[i].pages, 0, (m->slots[i].size >> 12) * sizeof(struct page));
}

static void put_program(u8 *ram, const struct setup *s) {
    size_t size = s->size < PROGRAM_MAX ? s->size : PROGRAM_MAX;
    u64 end = PROGRAM + s->start + size;
    memcpy(ram + PROGRAM + s->start, s->program, size);
    ram[end] = 0xe9; /* jmp to the start */
    bool wide = s->mode >= PROTECTED32 && s->mode != COMPAT16;
    put(ram, end + 1, (u64)(PROGRAM + s->start) - (end + (wide ? 5 : 3)), wide ? 4 : 2);
}

static void flip_entries(u8 *ram, const struct setup *s) {
    for (unsigned i = 0; i < sizeof s->entry / sizeof *s->entry; i++) {
        u64 at = PML5 + (s->entry[i].at % ((STACK0 - PML5) / 8)) * 8, value;
        memcpy(&value, ram + at, 8);
        put(ram, at, value ^ s->entry[i].flip, 8);
    }
}

/* ---- CPUs ------------------------------------------------------------------------------------------------------- */

static u64 interesting(u64 *seed) {
    static const u64 values[] = {
        0, 1, 2, 7, 8, 0x40, 0x7f, 0x80, 0xff, ~0ull, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffffull,
        0x8000000000000000ull, DATA, DATA + 7, 0xdffc, 0x10000, 0x10ffe, 0x11ff9, STACK0 - 0x100, STACK3 - 0x80, PROGRAM, PROGRAM + 0x7ff, 0xeffd,
        ROM_BASE, ROM_BASE + 0xffc, 0x21000, 0x21ffe, 0x2f000, HIGH_BASE, HIGH_BASE + 0xffe, 0x20d800, 0x40010000, 0x8000d800ull,
        0xffff80000000d800ull, 0xffffff8000010000ull, 0x800000000000ull, PT, PT + 0x78, PT32 + 0x3c, GDT + 8, IDT, TSS32, 0x60, 0x1f0, 0xcfc, S_DATA_3, S_TASK,
    };
    u64 r = draw(seed);
    u64 v = values[r % (sizeof values / sizeof *values)];
    return r >> 60 == 0 ? draw(seed) : r >> 60 < 4 ? v + (r >> 32 & 15) : v;
}

static void set_segment(accel_cpu *c, int seg, u16 sel, u64 base, u32 limit, u32 ar) {
    c->seg[seg] = (struct segment){.base = base, .limit = limit, .ar = ar, .sel = sel};
}

static void set_segments(accel_cpu *c, const struct setup *s, unsigned cpl) {
    static const u32 code_ar[] = {[PROTECTED16] = 0x9b, [PROTECTED32] = 0xc09b, [PAGED32] = 0xc09b, [PAGED_PAE] = 0xc09b, [COMPAT16] = 0x9b,
                                  [COMPAT32] = 0xc09b, [LONG4] = 0xa09b, [LONG5] = 0xa09b, [LONG_FLAT_PKU] = 0xa09b};
    u32 ring = cpl << 5;
    bool lm64 = s->mode >= LONG4, code16 = s->mode == PROTECTED16 || s->mode == COMPAT16;
    u16 code = lm64 ? (cpl ? S_CODE64_3 : S_CODE64) : code16 ? (cpl ? S_CODE16_3 : S_CODE16) : cpl ? S_CODE32_3 : S_CODE32;
    u16 data = cpl ? S_DATA_3 : S_DATA;
    set_segment(c, SEG_CS, code, 0, code16 ? 0xffff : 0xffffffff, code_ar[s->mode] | ring);
    for (int seg = SEG_ES; seg <= SEG_GS; seg++)
        if (seg != SEG_CS) set_segment(c, seg, data, 0, 0xffffffff, (s->mode == PROTECTED16 ? 0x8093 : 0xc093) | ring);
    set_segment(c, SEG_LDTR, S_LDT, LDT, 0xff, 0x82);
    if (is_long_mode(s->mode)) set_segment(c, SEG_TR, S_TSS64, TSS64, 0x1ff, 0x8b);
    else set_segment(c, SEG_TR, S_TSS32, TSS32, 0x1ff, 0x8b);
    c->cpl = (u8)cpl;
}

static void set_real_segments(accel_cpu *c, const struct setup *s) {
    for (int seg = SEG_ES; seg <= SEG_GS; seg++) set_segment(c, seg, 0, 0, s->mode == UNREAL ? 0xffffffff : 0xffff, s->mode == VM86 ? 0xf3 : 0x93);
    if (s->mode == UNREAL) set_segment(c, SEG_FS, 0x1000, 0x10000, 0xffff, 0x93);
    if (s->mode == VM86) c->cpl = 3;
}

static void set_mode(accel_cpu *c, const struct setup *s) {
    unsigned cpl = s->mode == VM86 ? 3 : is_real_mode(s->mode) ? 0 : s->cpl & 1 ? 3 : 0;
    c->gdtr = (struct table){GDT, 0x1ff};
    c->idtr = is_real_mode(s->mode) ? (struct table){0, 0x3ff} : (struct table){IDT, is_long_mode(s->mode) ? 0xfff : 0x7ff};
    set_segments(c, s, cpl);
    if (s->mode <= VM86) set_real_segments(c, s);
    c->rip = PROGRAM + s->start;
    c->cr0 = CR0_ET | CR0_NE | (is_real_mode(s->mode) ? 0 : CR0_PE);
    u32 flags = s->flags & (F_ARITH | F_SYS) & ~(u32)(F_VM | F_VIF | F_VIP);
    set_rflags(c, flags | 2 | (s->mode == VM86 ? F_VM : 0));
    c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (is_long_mode(s->mode) || s->mode == PAGED_PAE) c->cr4 |= CR4_PAE;
    if (s->mode == PAGED32) c->cr4 |= CR4_PSE;
    if (s->mode == LONG5 && s->model == ACCEL_MODEL_MAX) c->cr4 |= CR4_LA57;
    if (s->mode >= PAGED32) c->cr0 |= CR0_PG;
    c->cr3 = s->mode == PAGED32 ? PD32 : s->mode == PAGED_PAE ? PDPT_PAE : c->cr4 & CR4_LA57 ? PML5 : PML4;
    c->efer = is_long_mode(s->mode) ? EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE : EFER_NXE;
    for (u64 i = 0; i < 4; i++) c->pdpte[i] = i == 2 ? 0 : PD | 1;
    if (c->model >= ACCEL_MODEL_V3) c->cr4 |= CR4_OSXSAVE, c->xcr0 = 7;
    update_mode(c);
    set_cr4(c, c->cr4 | (s->cr4 & ~(u64)CR4_LA57));
    if (!set_cr4(c, c->cr4 | (s->cr4 & (CR4_TSD | CR4_DE | CR4_VME | CR4_PVI)))) return;
    set_cr4(c, c->cr4 | (s->cr4 & (CR4_SMAP | CR4_PGE)));
    set_cr4(c, c->cr4 | (s->cr4 & (CR4_PKE | CR4_PCIDE | CR4_UMIP | CR4_FSGSBASE)));
    set_cr0(c, c->cr0 | (s->cr0 & (CR0_WP | CR0_AM | CR0_TS | CR0_MP | CR0_EM | CR0_CD)));
}

static void set_registers(accel_cpu *c, const struct setup *s, unsigned index) {
    u64 seed = mix(s->seed + index);
    for (int i = 0; i < 16; i++) c->r[i] = interesting(&seed);
    if (s->mode < LONG4)
        for (int i = 0; i < 16; i++) c->r[i] = i < 8 ? (u32)c->r[i] : 0;
    c->r[R_RSP] = (c->cpl == 3 ? STACK3 : STACK0) - 0x40 * index - (seed & 7);
    c->segbase[0] = 0;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 4; k++) {
            u64 v = interesting(&seed);
            memcpy(c->v[i] + 8 * k, &v, 8);
        }
    for (int i = 0; i < 8; i++) {
        u64 v = interesting(&seed), e = draw(&seed);
        memcpy(c->fpu.st[i], &v, 8);
        memcpy(c->fpu.st[i] + 8, &e, 2);
    }
    c->fpu.tag = (u8)draw(&seed);
    c->fpu.cw = 0x37f ^ (draw(&seed) & 0xf3f & draw(&seed));
    c->fpu.sw = (u16)(draw(&seed) & 0x3800);
    c->mxcsr = 0x1f80 ^ (u32)(draw(&seed) & draw(&seed) & 0xffc0);
    c->lstar = H_SYSCALL, c->cstar = H_SYSCALL, c->star = (u64)S_CODE64 << 32 | (u64)S_DATA_3 << 48, c->fmask = F_IF | F_TF;
    c->sysenter_cs = S_CODE32, c->sysenter_esp = STACK0, c->sysenter_eip = H_SYSENTER;
    c->kernel_gs_base = 0x10000;
    c->pkru = s->mode == LONG_FLAT_PKU ? (u32)draw(&seed) : 0;
    for (unsigned i = 0; i < 4; i++) c->dr[i] = s->dr[i];
    write_dr(c, 7, s->dr7);
}

static accel_cpu *make_cpu(struct board *b, const struct setup *s, unsigned index) {
    accel_cpu *c;
    CHECK(accel_cpu_new(b->m, index, s->cpus, s->model, 1000000000, s->seed, &c) == ACCEL_OK, "no CPU %u", index);
    c->ctl.activity = ACCEL_ACTIVE;
    set_mode(c, s);
    set_registers(c, s, index);
    update_mode(c);
    tlb_flush(c, true);
    return c;
}

void board_set_up(struct board *b, const struct setup *s) {
    if (b->m) clear_machine(b);
    else make_machine(b);
    u8 *ram = b->m->slots[0].host;
    u64 seed = ~s->seed;
    memcpy(ram, image_of(s->mode), RAM_SIZE);
    memset(b->m->slots[2].host, 0, HIGH_SIZE);
    for (u64 at = DATA; at < DATA + 0x200; at += 8) put(ram, at, interesting(&seed), 8);
    put_program(ram, s);
    flip_entries(ram, s);
    for (unsigned i = 0; i < BOARD_CPUS; i++) b->cpu[i] = i < s->cpus ? make_cpu(b, s, i) : NULL;
}

uint64_t board_memory_hash(const struct board *b) {
    u64 h = 0;
    for (u32 i = 0; i < 3; i++) {
        const struct slot *slot = &b->m->slots[i];
        for (u64 at = 0; at < slot->size; at += 8) {
            u64 v;
            memcpy(&v, slot->host + at, 8);
            h = (h ^ v) * 0x9e3779b97f4a7c15ull;
            h ^= h >> 29;
        }
    }
    return h;
}
