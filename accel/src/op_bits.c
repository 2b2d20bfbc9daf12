/*
 * op_bits.c - BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT, CRC32, BMI1, BMI2, ADCX ADOX.
 *
 * Flags that SDM vol. 2 leaves undefined: BT and its kin change CF only. BSF and BSR clear CF, OF, SF and AF and set PF
 * by the result (by zero when the source is zero). TZCNT and LZCNT clear OF, SF, AF and PF. ANDN, BLSx, BEXTR and BZHI clear
 * AF and set PF (BEXTR: and SF) by the result.
 */
#include "integer.h"

/* ---- BT, BTS, BTR, BTC ---- */

INLINE void set_cf(accel_cpu *c, bool v) { c->flags_ah = (u8)((c->flags_ah & ~F_CF) | v); }

/* A register bit offset is signed and reaches beyond the operand in memory: it selects the word, then the bit in it. */
#define WORD_OF(N, bit) cut_address(o, op_ea(c, o) + (u64)((s64)(S_##N)(bit) >> (N == 16 ? 4 : N == 32 ? 5 : 6)) * (N / 8))

#define BIT_TEST(N, form, bit, ea) \
    HANDLER(h_bt_##form##_##N##_r) { \
        set_cf(c, (get_##N(c, o->rm) >> ((bit) & (N - 1))) & 1); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_bt_##form##_##N##_m) { \
        u64 lin; \
        U_##N a; \
        if (!seg_linear(c, o->seg, ea, sizeof a, ACC_R, &lin) || !rd_at_##N(c, o, lin, &a)) return false; \
        set_cf(c, (a >> ((bit) & (N - 1))) & 1); \
        return true; \
    }
#define BIT_CHANGE(name, N, form, bit, ea, value) \
    HANDLER(h_##name##_##form##_##N##_r) { \
        U_##N a = get_##N(c, o->rm), mask = (U_##N)((U_##N)1 << ((bit) & (N - 1))); \
        set_cf(c, a & mask); \
        put_##N(c, o->rm, (U_##N)(value)); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##form##_##N##_m) { \
        u64 lin; \
        U_##N a, mask = (U_##N)((U_##N)1 << ((bit) & (N - 1))); \
        if (!seg_linear(c, o->seg, ea, sizeof a, ACC_W, &lin) || !mem_probe_write(c, o, lin, sizeof a) || !rd_at_##N(c, o, lin, &a)) \
            return false; \
        wr_at_##N(c, o, lin, (U_##N)(value)); \
        set_cf(c, a & mask); \
        return true; \
    }
#define BIT_FORMS(N, form, bit, ea) \
    BIT_TEST(N, form, bit, ea) \
    BIT_CHANGE(bts, N, form, bit, ea, a | mask) \
    BIT_CHANGE(btr, N, form, bit, ea, a & ~mask) \
    BIT_CHANGE(btc, N, form, bit, ea, a ^ mask)
#define BIT_SIZE(N) \
    BIT_FORMS(N, EG, get_##N(c, o->reg), WORD_OF(N, get_##N(c, o->reg))) \
    BIT_FORMS(N, EI, o->imm, op_ea(c, o))
BIT_SIZE(16)
BIT_SIZE(32)
BIT_SIZE(64)

/* ---- bit scans and counts ---- */

/* A zero source leaves the whole destination register as it was (SDM vol. 2, BSF). */
#define SCAN(name, N, index) \
    SOURCE(name, N, \
        if (b) { \
            U_##N found = (U_##N)(index); \
            put_##N(c, o->reg, found); \
            result_flags_##N(c, found, false, false); \
            c->flags_ah &= (u8)~F_ZF; \
        } else { \
            result_flags_##N(c, 0, false, false); \
        })
#define FLAG_BYTE 2 /* what LAHF gives with all flags clear */
INLINE void count_flags(accel_cpu *c, bool carry, bool zero) {
    c->flags_ah = (u8)(FLAG_BYTE | (carry ? F_CF : 0) | (zero ? F_ZF : 0));
    c->flags_of = 0;
}
#define COUNT(name, N, count, carry) \
    SOURCE(name, N, U_##N v = (U_##N)(count); count_flags(c, carry, v == 0); put_##N(c, o->reg, v))
#define COUNTS(N) \
    SCAN(bsf, N, __builtin_ctzll(b)) \
    SCAN(bsr, N, 63 - __builtin_clzll(b)) \
    COUNT(tzcnt, N, b ? __builtin_ctzll(b) : N, b == 0) \
    COUNT(lzcnt, N, b ? __builtin_clzll(b) - (64 - N) : N, b == 0) \
    SOURCE(popcnt, N, put_##N(c, o->reg, (U_##N)__builtin_popcountll(b)); count_flags(c, false, b == 0))
COUNTS(16)
COUNTS(32)
COUNTS(64)

/* ---- CRC32: the Castagnoli polynomial 11EDC6F41H, bits reflected, four bits at a time ---- */

static const u32 crc_nibble[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};
static u32 crc32c(u32 crc, u64 data, unsigned bits) {
    for (; bits; bits -= 4, data >>= 4) crc = (crc >> 4) ^ crc_nibble[(crc ^ data) & 15];
    return crc;
}

#define CRC(name, N, M) \
    HANDLER(h_##name##_##N##_r) { \
        put_32(c, o->reg, crc32c(get_32(c, o->reg), get_##M(c, o->rm), M)); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##N##_m) { \
        U_##M b; \
        if (!rd_##M(c, o, &b)) return false; \
        put_32(c, o->reg, crc32c(get_32(c, o->reg), b, M)); \
        return true; \
    }
CRC(crc32_B, 32, 8)
CRC(crc32_B, 64, 8)
CRC(crc32_V, 16, 16)
CRC(crc32_V, 32, 32)
CRC(crc32_V, 64, 64)

/* ---- BMI1, BMI2: v is the operand in VEX.vvvv ---- */

#define V(N) get_##N(c, o->vvvv)
#define TO_REG(N, value, carry) U_##N v = (U_##N)(value); result_flags_##N(c, v, carry, false); put_##N(c, o->reg, v)
#define TO_VVVV(N, value, carry) U_##N v = (U_##N)(value); result_flags_##N(c, v, carry, false); put_##N(c, o->vvvv, v)

INLINE u64 extract(u64 a, u64 control, unsigned width) {
    unsigned start = control & 0xff, length = (control >> 8) & 0xff;
    a = start < width ? a >> start : 0;
    return length < 64 ? a & (BIT(length) - 1) : a;
}

static u64 deposit(u64 a, u64 mask) {
    u64 v = 0;
    for (; mask; mask &= mask - 1, a >>= 1)
        if (a & 1) v |= mask & -mask;
    return v;
}

static u64 gather(u64 a, u64 mask) {
    u64 v = 0;
    for (unsigned i = 0; mask; mask &= mask - 1, i++)
        if (a & mask & -mask) v |= BIT(i);
    return v;
}

#define ZERO_HIGH(N) (((V(N)) & 0xff) < N ? b & (((U_##N)1 << (V(N) & (N - 1))) - 1) : b)

#define BMI(N, DOUBLE) \
    SOURCE(andn, N, TO_REG(N, ~V(N) & b, false)) \
    SOURCE(bextr, N, TO_REG(N, extract(b, V(N), N), false)) \
    SOURCE(blsr, N, TO_VVVV(N, b & (b - 1), b == 0)) \
    SOURCE(blsmsk, N, TO_VVVV(N, b ^ (b - 1), b == 0)) \
    SOURCE(blsi, N, TO_VVVV(N, b & -b, b != 0)) \
    SOURCE(bzhi, N, TO_REG(N, ZERO_HIGH(N), (V(N) & 0xff) >= N)) \
    SOURCE(shlx, N, put_##N(c, o->reg, b << (V(N) & (N - 1)))) \
    SOURCE(shrx, N, put_##N(c, o->reg, b >> (V(N) & (N - 1)))) \
    SOURCE(sarx, N, put_##N(c, o->reg, (U_##N)((S_##N)b >> (V(N) & (N - 1))))) \
    SOURCE(rorx, N, put_##N(c, o->reg, b >> (o->imm & (N - 1)) | b << (-o->imm & (N - 1)))) \
    SOURCE(pdep, N, put_##N(c, o->reg, (U_##N)deposit(V(N), b))) \
    SOURCE(pext, N, put_##N(c, o->reg, (U_##N)gather(V(N), b))) \
    /* When both destinations are the same register it gets the high half. */ \
    SOURCE(mulx, N, \
        DOUBLE v = (DOUBLE)b * get_##N(c, R_RDX); \
        put_##N(c, o->vvvv, (U_##N)v); \
        put_##N(c, o->reg, (U_##N)(v >> N)))
BMI(32, u64)
BMI(64, u128)

/* ---- ADCX, ADOX: additions whose carry is CF or OF, and nothing else changes ---- */

#define CARRY_ADD(name, N, carry_in, statement) \
    SOURCE(name, N, \
        u128 sum = (u128)get_##N(c, o->reg) + b + carry_in; \
        bool carry = (bool)((sum >> N) & 1); \
        put_##N(c, o->reg, (U_##N)sum); \
        statement)
#define CARRY_ADDS(N) \
    CARRY_ADD(adcx, N, cf(c), set_cf(c, carry)) \
    CARRY_ADD(adox, N, (c->flags_of ? 1 : 0), c->flags_of = carry)
CARRY_ADDS(32)
CARRY_ADDS(64)
