/*
 * op_string.c - MOVS CMPS SCAS LODS STOS INS OUTS, with REP, REPE and REPNE.
 *
 * One iteration is the unit: it is checked, done and committed (RSI, RDI, RCX) before the next begins, and each
 * one beyond the first costs a tick. Where the fast TLB has host pointers for the whole way, many iterations
 * are done at once, with the same result and the same ticks. (SDM vol. 1, "String Operations"; vol. 2, REP)
 */
#include "integer.h"

enum outcome { STRING_FAULT, STRING_DONE, STRING_MORE };

/* Does at least one and at most `max` iterations without RCX and ticks; returns how many, 0 with a fault or an exit set up.
 * Sets *stop when the comparison ends a repetition. */
typedef u64 run_fn(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop);

INLINE u64 index_of(const accel_cpu *c, const struct op *o, unsigned reg) { return cut_address(o, c->r[reg]); }

/* Only the part of the register that the address size names takes part; 32-bit writes clear the upper half. */
INLINE void add_index(accel_cpu *c, const struct op *o, unsigned reg, u64 by) {
    switch (OP_ASZ(o)) {
    case SZ16: put_16(c, reg, (u16)(c->r[reg] + by)); break;
    case SZ32: put_32(c, reg, (u32)(c->r[reg] + by)); break;
    default: c->r[reg] += by; break;
    }
}

INLINE bool is_down(const accel_cpu *c) { return c->flags & F_DF; }
INLINE s64 distance(const accel_cpu *c, unsigned size, u64 n) { return is_down(c) ? -(s64)(n * size) : (s64)(n * size); }

/* The loop around a run. A fault after the first iteration leaves those before it done; re-entry meets it again.
 * A device answer belongs to one iteration, so one that used an answer is the last of its visit. */
INLINE enum outcome repeat(accel_cpu *c, const struct op *o, unsigned size, run_fn *run) {
    bool stop = false;
    if (!OP_REP(o)) return run(c, o, size, 1, &stop) ? STRING_DONE : STRING_FAULT;
    u64 left = index_of(c, o, R_RCX), first = 1;
    u8 answers = c->answer_used;
    while (left) {
        u64 max = (c->budget > 0 ? (u64)c->budget : 0) + first;
        u64 n = run(c, o, size, left < max ? left : max, &stop);
        if (!n && first) return STRING_FAULT;
        if (!n) {
            c->answer_wanted = 0; /* re-entry asks the device again, unless a stop request comes first */
            return STRING_MORE;
        }
        c->budget -= (s64)(n - first);
        c->extra += n - first;
        add_index(c, o, R_RCX, -n);
        left -= n;
        first = 0;
        if (stop) break;
        if (left && (c->budget <= 0 || c->attention || c->answer_used != answers || atomic_load_explicit(&c->stop, memory_order_relaxed)))
            return STRING_MORE;
    }
    return STRING_DONE;
}

/* How many of `max` elements from seg:ea on, in the direction of DF, are plain host memory; *host: the first one.
 * They lie in one page, inside the segment, and before the index wraps. */
static u64 plain_run(accel_cpu *c, const struct op *o, int seg, u64 ea, unsigned size, u64 max, int acc, u8 **host) {
    u64 lin;
    if (!seg_linear(c, seg, ea, size, acc, &lin)) return 0;
    *host = acc == ACC_W ? fast_w(c, lin, size) : fast_r(c, lin, size);
    if (!*host) return 0;
    u64 offset = lin & 0xfff, n = is_down(c) ? offset / size + 1 : (4096 - offset) / size;
    if (OP_ASZ(o) != SZ64) {
        u64 end = OP_ASZ(o) == SZ32 ? 0x100000000ull : 0x10000ull;
        u64 before_wrap = is_down(c) ? ea / size + 1 : (end - ea) / size;
        if (n > before_wrap) n = before_wrap;
    }
    if (n > max) n = max;
    if (n > 1 && !is_code64(c)) {
        u64 low = is_down(c) ? ea - (n - 1) * size : ea;
        if (!seg_linear(c, seg, low, (unsigned)n * size, acc, &lin)) return 1;
    }
    return n;
}

INLINE u64 load(const u8 *p, unsigned size) {
    u64 v8;
    u32 v4;
    u16 v2;
    switch (size) {
    case 1: return *p;
    case 2: memcpy(&v2, p, 2); return v2;
    case 4: memcpy(&v4, p, 4); return v4;
    default: memcpy(&v8, p, 8); return v8;
    }
}

INLINE void store(u8 *p, unsigned size, u64 v) {
    switch (size) {
    case 1: *p = (u8)v; break;
    case 2: memcpy(p, &v, 2); break;
    case 4: memcpy(p, &v, 4); break;
    default: memcpy(p, &v, 8); break;
    }
}

static void put_acc(accel_cpu *c, unsigned size, u64 v) {
    switch (size) {
    case 1: put_8(c, 8 * R_RAX, (u8)v); break;
    case 2: put_16(c, R_RAX, (u16)v); break;
    default: c->r[R_RAX] = v; break; /* 4: v is below 2^32 */
    }
}

static void compare(accel_cpu *c, unsigned size, u64 a, u64 b) {
    switch (size) {
    case 1: alu_cmp_8(c, (u8)a, (u8)b); break;
    case 2: alu_cmp_16(c, (u16)a, (u16)b); break;
    case 4: alu_cmp_32(c, (u32)a, (u32)b); break;
    default: alu_cmp_64(c, a, b); break;
    }
}

INLINE u64 operand_mask(unsigned size) { return ~0ull >> (64 - 8 * size); }

/* REPE ends at the first difference, REPNE at the first match. */
INLINE bool ends_here(const struct op *o, bool equal) { return OP_REP(o) == REP_F3 ? !equal : equal; }

/* ---- MOVS ---- */

/* s and d are the first elements; the order of the elements shows where the two overlap ahead of the copy. */
static void copy_elements(u8 *d, const u8 *s, unsigned size, u64 n, bool down) {
    u64 bytes = n * size;
    if (down) {
        u8 *d_low = d - (bytes - size);
        const u8 *s_low = s - (bytes - size);
        if (d_low >= s_low || d_low + bytes <= s_low) memmove(d_low, s_low, bytes);
        else for (; n; n--, d -= size, s -= size) store(d, size, load(s, size));
    } else {
        if (d <= s || d >= s + bytes) memmove(d, s, bytes);
        else for (; n; n--, d += size, s += size) store(d, size, load(s, size));
    }
}

/* Both sides are checked before a device is read; the source's fault comes first. */
static bool movs_once(accel_cpu *c, const struct op *o, unsigned size, u64 si, u64 di) {
    u64 from, to, v;
    return seg_linear(c, o->seg, si, size, ACC_R, &from) && mem_probe_read(c, from, size) &&
           seg_linear(c, SEG_ES, di, size, ACC_W, &to) && mem_probe_write(c, o, to, size) &&
           mem_read(c, o, from, &v, size) && mem_write(c, o, to, &v, size);
}

static u64 movs(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop) {
    (void)stop;
    u64 si = index_of(c, o, R_RSI), di = index_of(c, o, R_RDI);
    u8 *s, *d;
    u64 n = plain_run(c, o, o->seg, si, size, max, ACC_R, &s);
    if (n) n = plain_run(c, o, SEG_ES, di, size, n, ACC_W, &d);
    if (n) copy_elements(d, s, size, n, is_down(c));
    else if (movs_once(c, o, size, si, di)) n = 1;
    else return 0;
    add_index(c, o, R_RSI, distance(c, size, n));
    add_index(c, o, R_RDI, distance(c, size, n));
    return n;
}

/* ---- STOS, LODS ---- */

static void fill_elements(u8 *d, unsigned size, u64 n, u64 v, bool down) {
    u64 bytes = n * size;
    u8 *low = down ? d - (bytes - size) : d;
    if ((v & operand_mask(size)) == ((v & 0xff) * 0x0101010101010101ull & operand_mask(size))) memset(low, (int)(v & 0xff), bytes);
    else for (; n; n--, low += size) store(low, size, v);
}

static u64 stos(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop) {
    (void)stop;
    u64 di = index_of(c, o, R_RDI), to;
    u8 *d;
    u64 n = plain_run(c, o, SEG_ES, di, size, max, ACC_W, &d);
    if (n) fill_elements(d, size, n, c->r[R_RAX], is_down(c));
    else if (seg_linear(c, SEG_ES, di, size, ACC_W, &to) && mem_write(c, o, to, &c->r[R_RAX], size)) n = 1;
    else return 0;
    add_index(c, o, R_RDI, distance(c, size, n));
    return n;
}

static u64 lods(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop) {
    (void)stop;
    u64 si = index_of(c, o, R_RSI), from, v = 0;
    u8 *s;
    u64 n = plain_run(c, o, o->seg, si, size, max, ACC_R, &s);
    if (n) v = load(s + distance(c, size, n - 1), size);
    else if (seg_linear(c, o->seg, si, size, ACC_R, &from) && mem_read(c, o, from, &v, size)) n = 1;
    else return 0;
    put_acc(c, size, v);
    add_index(c, o, R_RSI, distance(c, size, n));
    return n;
}

/* ---- SCAS, CMPS: the flags are those of the last comparison ---- */

static u64 scas(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop) {
    u64 di = index_of(c, o, R_RDI), acc = c->r[R_RAX] & operand_mask(size), at, v = 0, done = 0;
    u8 *d;
    u64 n = plain_run(c, o, SEG_ES, di, size, max, ACC_R, &d);
    s64 step = distance(c, size, 1);
    if (n) {
        for (; done < n && !*stop; done++, d += step) {
            v = load(d, size);
            *stop = ends_here(o, v == acc);
        }
    } else {
        if (!seg_linear(c, SEG_ES, di, size, ACC_R, &at) || !mem_read(c, o, at, &v, size)) return 0;
        *stop = ends_here(o, v == acc);
        done = 1;
    }
    compare(c, size, acc, v);
    add_index(c, o, R_RDI, distance(c, size, done));
    return done;
}

static bool cmps_once(accel_cpu *c, const struct op *o, unsigned size, u64 si, u64 di, u64 *a, u64 *b) {
    u64 left, right;
    return seg_linear(c, o->seg, si, size, ACC_R, &left) && mem_probe_read(c, left, size) &&
           seg_linear(c, SEG_ES, di, size, ACC_R, &right) && mem_probe_read(c, right, size) &&
           mem_read(c, o, left, a, size) && mem_read(c, o, right, b, size);
}

static u64 cmps(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop) {
    u64 si = index_of(c, o, R_RSI), di = index_of(c, o, R_RDI), a = 0, b = 0, done = 0;
    s64 step = distance(c, size, 1);
    u8 *s, *d;
    u64 n = plain_run(c, o, o->seg, si, size, max, ACC_R, &s);
    if (n) n = plain_run(c, o, SEG_ES, di, size, n, ACC_R, &d);
    if (n) {
        for (; done < n && !*stop; done++, s += step, d += step) {
            a = load(s, size);
            b = load(d, size);
            *stop = ends_here(o, a == b);
        }
    } else {
        if (!cmps_once(c, o, size, si, di, &a, &b)) return 0;
        *stop = ends_here(o, a == b);
        done = 1;
    }
    compare(c, size, a, b);
    add_index(c, o, R_RSI, distance(c, size, done));
    add_index(c, o, R_RDI, distance(c, size, done));
    return done;
}

/* ---- INS, OUTS: one element per visit of the device ---- */

static void describe_exit(accel_cpu *c, const struct op *o) {
    c->exit.string = 1;
    c->exit.rep = OP_REP(o) != REP_NONE;
}

static u64 ins(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop) {
    (void)max, (void)stop;
    u64 to, v;
    u16 port = get_16(c, R_RDX);
    if (!port_allowed(c, port, size) || !seg_linear(c, SEG_ES, index_of(c, o, R_RDI), size, ACC_W, &to) ||
        !mem_probe_write(c, o, to, size))
        return 0;
    if (!port_in(c, o, port, size, &v)) {
        describe_exit(c, o);
        return 0;
    }
    if (!mem_write(c, o, to, &v, size)) return 0;
    add_index(c, o, R_RDI, distance(c, size, 1));
    return 1;
}

static u64 outs(accel_cpu *c, const struct op *o, unsigned size, u64 max, bool *stop) {
    (void)max, (void)stop;
    u64 from, v = 0;
    u16 port = get_16(c, R_RDX);
    if (!port_allowed(c, port, size) || !seg_linear(c, o->seg, index_of(c, o, R_RSI), size, ACC_R, &from) ||
        !mem_read(c, o, from, &v, size))
        return 0;
    port_out(c, o, port, size, v);
    describe_exit(c, o);
    add_index(c, o, R_RSI, distance(c, size, 1));
    return 1;
}

/* ---- handlers ---- */

#define STRING_SIZE(name, N, size) \
    HANDLER(h_##name##_##N) { \
        switch (repeat_##name(c, o, size)) { \
        case STRING_DONE: END(c, o); \
        case STRING_MORE: return leave_rep(c, o); \
        default: return leave_fault(c, o); \
        } \
    }
#define STRING(name, wide) \
    static NOINLINE enum outcome repeat_##name(accel_cpu *c, const struct op *o, unsigned size) { return repeat(c, o, size, name); } \
    STRING_SIZE(name, 8, 1) \
    STRING_SIZE(name, 16, 2) \
    STRING_SIZE(name, 32, 4) \
    STRING_SIZE(name, 64, wide)
STRING(movs, 8)
STRING(stos, 8)
STRING(lods, 8)
STRING(scas, 8)
STRING(cmps, 8)
STRING(ins, 4) /* no port is wider than 32 bits */
STRING(outs, 4)
