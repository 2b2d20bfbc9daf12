/*
 * op_muldiv.c - MUL IMUL DIV IDIV, AAA AAS AAM AAD DAA DAS.
 *
 * Flags that SDM vol. 2 leaves undefined: multiplications set CF and OF and keep SF, ZF, AF and PF, divisions keep all
 * flags. The decimal adjustments are described with each.
 */
#include "integer.h"

typedef __int128 s128;

/* ---- MUL, IMUL ---- */

SOURCE(mul, 8, u16 p = (u16)(get_8(c, 0) * b); put_16(c, R_RAX, p); product_flags(c, p > 0xff))
SOURCE(imul, 8, s16 p = (s16)((s8)get_8(c, 0) * (s8)b); put_16(c, R_RAX, (u16)p); product_flags(c, p != (s8)p))

#define MULTIPLY(N, UWIDE, SWIDE) \
    SOURCE(mul, N, \
        UWIDE p = (UWIDE)get_##N(c, R_RAX) * b; \
        put_##N(c, R_RAX, (U_##N)p); \
        put_##N(c, R_RDX, (U_##N)(p >> N)); \
        product_flags(c, p >> N != 0)) \
    SOURCE(imul, N, \
        SWIDE p = (SWIDE)(S_##N)get_##N(c, R_RAX) * (S_##N)b; \
        put_##N(c, R_RAX, (U_##N)p); \
        put_##N(c, R_RDX, (U_##N)(p >> N)); \
        product_flags(c, p != (S_##N)p)) \
    SOURCE_HOT(imul_GE, N, imul_into_##N(c, o->reg, get_##N(c, o->reg), b)) \
    SOURCE(imul_GEI, N, imul_into_##N(c, o->reg, b, (U_##N)o->imm))
MULTIPLY(16, u32, s32)
MULTIPLY(32, u64, s64)
MULTIPLY(64, u128, s128)

/* ---- DIV, IDIV: false means #DE; a quotient that does not fit is one too ---- */

static bool div_8(accel_cpu *c, u8 b) {
    u16 a = get_16(c, R_RAX);
    if (!b || a / b > 0xff) return false;
    put_16(c, R_RAX, (u16)(a / b | (a % b) << 8));
    return true;
}

static bool idiv_8(accel_cpu *c, u8 b) {
    s32 a = (s16)get_16(c, R_RAX), d = (s8)b;
    if (!d || a / d != (s8)(a / d)) return false;
    put_16(c, R_RAX, (u16)((u8)(a / d) | (u8)(a % d) << 8));
    return true;
}

#define DIVIDE(N, UWIDE, SWIDE) \
    static bool div_##N(accel_cpu *c, U_##N b) { \
        UWIDE a = (UWIDE)get_##N(c, R_RDX) << N | get_##N(c, R_RAX); \
        if (!b || a >> N >= b) return false; \
        put_##N(c, R_RAX, (U_##N)(a / b)); \
        put_##N(c, R_RDX, (U_##N)(a % b)); \
        return true; \
    } \
    static bool idiv_##N(accel_cpu *c, U_##N b) { \
        SWIDE a = (SWIDE)((UWIDE)get_##N(c, R_RDX) << N | get_##N(c, R_RAX)), d = (S_##N)b; \
        if (!d || (d == -1 && a == (SWIDE)((UWIDE)1 << (2 * N - 1)))) return false; \
        SWIDE q = a / d; \
        if (q != (S_##N)q) return false; \
        put_##N(c, R_RAX, (U_##N)q); \
        put_##N(c, R_RDX, (U_##N)(a % d)); \
        return true; \
    }
DIVIDE(16, u32, s32)
DIVIDE(32, u64, s64)

/* The host's division, within the range where it cannot trap. high < b. */
INLINE u64 divide_128(u64 high, u64 low, u64 b, u64 *remainder) {
    u64 quotient;
    __asm__("divq %4" : "=a"(quotient), "=d"(*remainder) : "a"(low), "d"(high), "r"(b) : "cc");
    return quotient;
}

static bool div_64(accel_cpu *c, u64 b) {
    u64 high = c->r[R_RDX], remainder;
    if (high >= b) return false; /* also b == 0 */
    c->r[R_RAX] = divide_128(high, c->r[R_RAX], b, &remainder);
    c->r[R_RDX] = remainder;
    return true;
}

static bool idiv_64(accel_cpu *c, u64 b) {
    u128 a = (u128)c->r[R_RDX] << 64 | c->r[R_RAX];
    bool negative = a >> 127, differ = negative != (bool)(b >> 63);
    if (negative) a = -a;
    if (b >> 63) b = -b;
    if ((u64)(a >> 64) >= b) return false;
    u64 remainder, quotient = divide_128((u64)(a >> 64), (u64)a, b, &remainder);
    if (quotient > BIT(63) - !differ) return false; /* the negative range is one longer */
    c->r[R_RAX] = differ ? -quotient : quotient;
    c->r[R_RDX] = negative ? -remainder : remainder; /* the sign of the dividend */
    return true;
}

#define DIVISION(name, N) \
    HANDLER(h_##name##_##N##_r) { \
        if (unlikely(!name##_##N(c, get_##N(c, o->rm)))) return raise_ex(c, o, EX_DE); \
        NEXT(c, o); \
    } \
    SLOW_HANDLER(h_##name##_##N##_m) { \
        U_##N b; \
        return rd_##N(c, o, &b) && (name##_##N(c, b) || set_fault(c, EX_DE, false, 0)); \
    }
#define DIVISIONS(N) DIVISION(div, N) DIVISION(idiv, N)
DIVISIONS(8)
DIVISIONS(16)
DIVISIONS(32)
DIVISIONS(64)

/* ---- decimal adjustment (SDM vol. 2, pseudocode of each) ---- */

INLINE bool af(const accel_cpu *c) { return c->flags_ah & F_AF; }

/* SF, ZF and PF by AL, OF clear. */
INLINE void decimal_flags(accel_cpu *c, bool carry, bool adjust) {
    result_flags_8(c, get_8(c, 0), carry, false);
    if (adjust) c->flags_ah |= F_AF;
}

INLINE void ascii_adjust(accel_cpu *c, int by) {
    bool adjust = (get_8(c, 0) & 15) > 9 || af(c);
    if (adjust) put_16(c, R_RAX, (u16)(c->r[R_RAX] + (u64)by));
    put_8(c, 0, get_8(c, 0) & 15);
    decimal_flags(c, adjust, adjust);
}
/* Undefined and chosen: OF clear, SF, ZF and PF by the result. */
HANDLER(h_aaa) { ascii_adjust(c, 0x106); NEXT(c, o); }
HANDLER(h_aas) { ascii_adjust(c, -0x106); NEXT(c, o); }

INLINE void decimal_adjust(accel_cpu *c, int sign) {
    u8 al = get_8(c, 0);
    bool low = (al & 15) > 9 || af(c), high = al > 0x99 || cf(c);
    bool carry = high || (low && (sign < 0 && al < 6));
    put_8(c, 0, (u8)(al + sign * ((low ? 6 : 0) + (high ? 0x60 : 0))));
    decimal_flags(c, carry, low);
}
/* Undefined and chosen: OF clear. */
HANDLER(h_daa) { decimal_adjust(c, 1); NEXT(c, o); }
HANDLER(h_das) { decimal_adjust(c, -1); NEXT(c, o); }

/* Undefined and chosen: OF, AF and CF clear. */
HANDLER(h_aam) {
    u8 al = get_8(c, 0), base = (u8)o->imm;
    if (unlikely(!base)) return raise_ex(c, o, EX_DE);
    put_16(c, R_RAX, (u16)((al / base) << 8 | al % base));
    decimal_flags(c, false, false);
    NEXT(c, o);
}
HANDLER(h_aad) {
    put_16(c, R_RAX, (u8)(get_8(c, 0) + get_8(c, 1) * (u8)o->imm));
    decimal_flags(c, false, false);
    NEXT(c, o);
}
