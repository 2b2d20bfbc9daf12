/*
 * guest.c - executes the same cases on the core: long mode, paging with linear = physical, CPL 3.
 *
 * Only accel.h is used. The segment registers and control registers are those that Linux gives a process.
 */
#include <stdlib.h>
#include "accel.h"
#include "oracle.h"

static accel_machine *machine;
static accel_cpu *cpu;
static accel_control *control;
static u8 base_data[DATA_SIZE];
static int reg_gpr[16], reg_rip, reg_eflags, reg_fs_base, reg_gs_base, reg_ymm, reg_mxcsr, reg_fctrl, reg_fstat, reg_ftag, reg_st;
static int reg_cs, reg_cs_attr, reg_pointer[5];
static u8 bits_now;

static void die(const char *what) {
    fprintf(stderr, "oracle: %s\n", what);
    exit(2);
}

static int find(const char *name) {
    int n = accel_reg_find(name);
    if (n < 0) die(name);
    return n;
}

static void set(int number, u64 value) {
    if (accel_reg_set(cpu, number, &value, (size_t)accel_reg_size(number))) die(accel_reg_name(number));
}

static u64 get(int number) {
    u64 value = 0;
    accel_reg_get(cpu, number, &value, (size_t)accel_reg_size(number));
    return value;
}

static void set_name(const char *name, u64 value) { set(find(name), value); }

/* Page tables at 0: PML4, PDPT, PD, PT for the 2 MiB that hold code and data. */
static void make_tables(void) {
    enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40 };
    const u64 nx = 1ull << 63;
    u64 table[4][512] = {0};
    table[0][0] = 0x1000 | P | W | U | A;
    table[1][0] = 0x2000 | P | W | U | A;
    table[2][CODE_AT >> 21] = 0x3000 | P | W | U | A;
    for (u64 a = CODE_AT; a < CODE_AT + CODE_SIZE; a += PAGE) table[3][a >> 12 & 511] = a | P | U | A;
    for (u64 a = DATA_AT; a < DATA_AT + DATA_SIZE; a += PAGE) table[3][a >> 12 & 511] = a | P | W | U | A | D | nx;
    table[3][RONLY_AT >> 12 & 511] = RONLY_AT | P | U | A | nx;
    if (accel_phys_write(machine, 0, table, sizeof table, ACCEL_ORIGIN_LOADER)) die("page tables");
}

static void enter_long_mode(void) {
    set_name("cr4", 0x20);
    set_name("cr3", 0);
    set_name("efer", 0xd01); /* SCE LME LMA NXE */
    set_name("cr0", 0x80050033);
    set_name("cr4", 0x350ea0); /* PAE PGE OSFXSR OSXMMEXCPT UMIP FSGSBASE OSXSAVE SMEP SMAP */
    u64 xcr0 = 7;
    if (accel_reg_set(cpu, find("xcr0"), &xcr0, 8)) set_name("xcr0", 3); /* a model without AVX */
    static const char *const flat[] = {"ss", "ds", "es"};
    char name[16];
    for (int i = 0; i < 3; i++) {
        set_name(flat[i], 0x2b);
        snprintf(name, sizeof name, "%s_base", flat[i]);
        set_name(name, 0);
        snprintf(name, sizeof name, "%s_limit", flat[i]);
        set_name(name, 0xffffffff);
        snprintf(name, sizeof name, "%s_attr", flat[i]);
        set_name(name, 0xc0f3);
    }
    static const char *const null[] = {"fs", "gs"};
    for (int i = 0; i < 2; i++) {
        set_name(null[i], 0);
        snprintf(name, sizeof name, "%s_limit", null[i]);
        set_name(name, 0);
        snprintf(name, sizeof name, "%s_attr", null[i]);
        set_name(name, 0x10000);
    }
    set_name("cs_base", 0);
    set_name("cs_limit", 0xffffffff);
}

static void set_bits(u8 bits) {
    if (bits == bits_now) return;
    set(reg_cs, bits == 64 ? 0x33 : 0x23);
    set(reg_cs_attr, bits == 64 ? 0xa0fb : 0xc0fb);
    set_name("cpl", 3);
    bits_now = bits;
}

int guest_start(int model) {
    if (accel_machine_new(&machine) || accel_slot_add(machine, 0, 0x10000, 0) || accel_slot_add(machine, CODE_AT, CODE_SIZE, 0) ||
        accel_slot_add(machine, DATA_AT, DATA_SIZE + PAGE, 0) || accel_cpu_new(machine, 0, 1, model, 1000000000, 0, &cpu))
        return -1;
    control = accel_cpu_control(cpu);
    control->exception_exit = 0xffffffff;
    static const char *const gprs[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    for (int i = 0; i < 16; i++) reg_gpr[i] = find(gprs[i]);
    reg_rip = find("rip"), reg_eflags = find("eflags"), reg_fs_base = find("fs_base"), reg_gs_base = find("gs_base");
    reg_ymm = find("ymm0"), reg_mxcsr = find("mxcsr"), reg_fctrl = find("fctrl"), reg_fstat = find("fstat");
    reg_ftag = find("ftag"), reg_st = find("st0"), reg_cs = find("cs"), reg_cs_attr = find("cs_attr");
    static const char *const pointers[] = {"fiseg", "fioff", "foseg", "fooff", "fop"};
    for (int i = 0; i < 5; i++) reg_pointer[i] = find(pointers[i]);
    make_tables();
    enter_long_mode();
    set_bits(64);
    u8 fill[CODE_SIZE];
    memset(fill, 0xcc, sizeof fill);
    return accel_phys_write(machine, CODE_AT, fill, sizeof fill, ACCEL_ORIGIN_LOADER);
}

void guest_base(const u8 *base, const u8 *ronly) {
    memcpy(base_data, base, DATA_SIZE);
    if (accel_phys_write(machine, RONLY_AT, ronly, PAGE, ACCEL_ORIGIN_LOADER)) die("read-only page");
}

static void load(const struct state *s) {
    for (int i = 0; i < 16; i++) set(reg_gpr[i], s->gpr[i]);
    set(reg_rip, s->rip);
    set(reg_eflags, s->flags | FL_IF | 2);
    set(reg_fs_base, s->fs_base);
    set(reg_gs_base, s->gs_base);
    for (int i = 0; i < 16; i++) accel_reg_set(cpu, reg_ymm + i, s->ymm[i], 32);
    set(reg_mxcsr, s->mxcsr);
    for (int i = 0; i < 5; i++) set(reg_pointer[i], 0); /* AMD does not save the pointers unless an exception is pending */
    set(reg_fctrl, s->fcw);
    set(reg_fstat, s->fsw);
    u32 tags = 0;
    for (int i = 0; i < 8; i++)
        if (!(s->ftw >> i & 1)) tags |= 3u << (2 * i);
    set(reg_ftag, tags);
    for (int i = 0; i < 8; i++) accel_reg_set(cpu, reg_st + i, s->st[i], 10);
}

static void store(struct state *s) {
    for (int i = 0; i < 16; i++) s->gpr[i] = get(reg_gpr[i]);
    s->rip = get(reg_rip);
    s->flags = get(reg_eflags);
    s->fs_base = get(reg_fs_base);
    s->gs_base = get(reg_gs_base);
    for (int i = 0; i < 16; i++) accel_reg_get(cpu, reg_ymm + i, s->ymm[i], 32);
    s->mxcsr = (u32)get(reg_mxcsr);
    s->fcw = (u16)get(reg_fctrl);
    s->fsw = (u16)get(reg_fstat);
    u64 tags = get(reg_ftag);
    s->ftw = 0;
    for (int i = 0; i < 8; i++)
        if ((tags >> (2 * i) & 3) != 3) s->ftw |= (u8)(1 << i);
    for (int i = 0; i < 8; i++) accel_reg_get(cpu, reg_st + i, s->st[i], 10);
}

void guest_run(const struct oracle_case *k, struct result *out) {
    set_bits(k->bits);
    load(&k->in);
    u64 at = k->in.rip, room = CODE_AT + CODE_SIZE - at;
    if (at - CODE_AT < CODE_SIZE)
        accel_phys_write(machine, at, k->bytes, k->length < room ? k->length : room, ACCEL_ORIGIN_LOADER);
    accel_phys_write(machine, DATA_AT, base_data, DATA_SIZE, ACCEL_ORIGIN_LOADER);
    for (int i = 0; i < 3; i++)
        if (k->patch[i].size) accel_phys_write(machine, DATA_AT + k->patch[i].at, k->patch[i].bytes, k->patch[i].size, ACCEL_ORIGIN_LOADER);
    accel_exit e;
    if (accel_run(cpu, accel_ticks(cpu) + 1, &e)) die("accel_run refused");
    struct state *s = &out->s;
    store(s);
    s->outcome = e.kind == ACCEL_EXIT_DEADLINE ? STEPPED : e.kind == ACCEL_EXIT_EXCEPTION ? FAULTED : LEFT;
    s->vector = s->outcome == FAULTED ? e.vector : s->outcome == LEFT ? (u8)e.kind : 0;
    s->error = s->outcome == FAULTED && e.has_error ? e.error : 0;
    s->cr2 = s->outcome == FAULTED && e.vector == 14 ? e.value : 0;
    if (accel_phys_read(machine, DATA_AT, out->data, DATA_SIZE)) die("data pages");
    /* whatever is left behind must not reach the next case */
    control->activity = ACCEL_ACTIVE;
    control->inject_valid = 0;
}

int guest_row(const struct oracle_case *k) {
    int row;
    return accel_decode(k->bytes, k->length, k->bits, ACCEL_MODEL_MAX, &row) > 0 ? row : -1;
}

const char *guest_row_name(int row) { return accel_row_name(row); }
int guest_row_count(void) { return accel_row_count(); }
