/*
 * op_crypto.c - AES, PCLMULQDQ, SHA and GFNI, legacy and VEX forms (SDM vol. 2). Computed in plain C: the host need
 * not have them.
 */
#pragma GCC target("sse4.2")
#include "avx.h"

/* ---- GF(2^8) with the polynomial x^8 + x^4 + x^3 + x + 1 ---- */

static u8 gf_mul(u8 a, u8 b) {
    u8 r = 0;
    for (; b; b >>= 1) {
        if (b & 1) r ^= a;
        a = (u8)(a << 1 ^ (a & 0x80 ? 0x1b : 0));
    }
    return r;
}
static u8 gf_inverse(u8 a) { /* a^254; 0 for 0 */
    u8 r = 1, square = a;
    for (int i = 1; i < 8; i++) {
        square = gf_mul(square, square);
        r = gf_mul(r, square);
    }
    return r;
}
static void gf_multiply(u8 *d, const u8 *a, const u8 *b) {
    for (unsigned i = 0; i < 16; i++) d[i] = gf_mul(a[i], b[i]);
}
/* Bit i of a result byte is the parity of the byte and row 7 - i of its quadword's matrix, plus bit i of imm. */
static void gf_affine(u8 *d, const u8 *p, const u8 *s, u8 imm, bool inverse) {
    u8 r[16];
    for (unsigned j = 0; j < 16; j++) {
        u8 x = inverse ? gf_inverse(p[j]) : p[j];
        r[j] = imm;
        for (unsigned i = 0; i < 8; i++) r[j] ^= (u8)(__builtin_parity(s[(j & 8) + 7 - i] & x) << i);
    }
    memcpy(d, r, 16);
}

/* ---- AES (FIPS 197) ---- */

static const u8 sbox[256] = {
    0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76,
    0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0, 0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0,
    0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f, 0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
    0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07, 0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75,
    0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0, 0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84,
    0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
    0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8,
    0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5, 0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2,
    0xcd, 0x0c, 0x13, 0xec, 0x5f, 0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
    0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88, 0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb,
    0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c, 0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79,
    0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
    0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a,
    0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e, 0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e,
    0xe1, 0xf8, 0x98, 0x11, 0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
    0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68, 0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
};
static const u8 inverse_sbox[256] = {
    0x52, 0x09, 0x6a, 0xd5, 0x30, 0x36, 0xa5, 0x38, 0xbf, 0x40, 0xa3, 0x9e, 0x81, 0xf3, 0xd7, 0xfb,
    0x7c, 0xe3, 0x39, 0x82, 0x9b, 0x2f, 0xff, 0x87, 0x34, 0x8e, 0x43, 0x44, 0xc4, 0xde, 0xe9, 0xcb,
    0x54, 0x7b, 0x94, 0x32, 0xa6, 0xc2, 0x23, 0x3d, 0xee, 0x4c, 0x95, 0x0b, 0x42, 0xfa, 0xc3, 0x4e,
    0x08, 0x2e, 0xa1, 0x66, 0x28, 0xd9, 0x24, 0xb2, 0x76, 0x5b, 0xa2, 0x49, 0x6d, 0x8b, 0xd1, 0x25,
    0x72, 0xf8, 0xf6, 0x64, 0x86, 0x68, 0x98, 0x16, 0xd4, 0xa4, 0x5c, 0xcc, 0x5d, 0x65, 0xb6, 0x92,
    0x6c, 0x70, 0x48, 0x50, 0xfd, 0xed, 0xb9, 0xda, 0x5e, 0x15, 0x46, 0x57, 0xa7, 0x8d, 0x9d, 0x84,
    0x90, 0xd8, 0xab, 0x00, 0x8c, 0xbc, 0xd3, 0x0a, 0xf7, 0xe4, 0x58, 0x05, 0xb8, 0xb3, 0x45, 0x06,
    0xd0, 0x2c, 0x1e, 0x8f, 0xca, 0x3f, 0x0f, 0x02, 0xc1, 0xaf, 0xbd, 0x03, 0x01, 0x13, 0x8a, 0x6b,
    0x3a, 0x91, 0x11, 0x41, 0x4f, 0x67, 0xdc, 0xea, 0x97, 0xf2, 0xcf, 0xce, 0xf0, 0xb4, 0xe6, 0x73,
    0x96, 0xac, 0x74, 0x22, 0xe7, 0xad, 0x35, 0x85, 0xe2, 0xf9, 0x37, 0xe8, 0x1c, 0x75, 0xdf, 0x6e,
    0x47, 0xf1, 0x1a, 0x71, 0x1d, 0x29, 0xc5, 0x89, 0x6f, 0xb7, 0x62, 0x0e, 0xaa, 0x18, 0xbe, 0x1b,
    0xfc, 0x56, 0x3e, 0x4b, 0xc6, 0xd2, 0x79, 0x20, 0x9a, 0xdb, 0xc0, 0xfe, 0x78, 0xcd, 0x5a, 0xf4,
    0x1f, 0xdd, 0xa8, 0x33, 0x88, 0x07, 0xc7, 0x31, 0xb1, 0x12, 0x10, 0x59, 0x27, 0x80, 0xec, 0x5f,
    0x60, 0x51, 0x7f, 0xa9, 0x19, 0xb5, 0x4a, 0x0d, 0x2d, 0xe5, 0x7a, 0x9f, 0x93, 0xc9, 0x9c, 0xef,
    0xa0, 0xe0, 0x3b, 0x4d, 0xae, 0x2a, 0xf5, 0xb0, 0xc8, 0xeb, 0xbb, 0x3c, 0x83, 0x53, 0x99, 0x61,
    0x17, 0x2b, 0x04, 0x7e, 0xba, 0x77, 0xd6, 0x26, 0xe1, 0x69, 0x14, 0x63, 0x55, 0x21, 0x0c, 0x7d,
};

/* Row r of the state (bytes r, r + 4, ...) rotates left by r columns, or right. */
static void substitute_and_shift(u8 *r, const u8 *s, const u8 *box, unsigned step) {
    for (unsigned i = 0; i < 16; i++) r[i] = box[s[(i + step * (i & 3)) & 15]];
}
static void mix_columns(u8 *s, u8 m0, u8 m1, u8 m2, u8 m3) {
    for (unsigned i = 0; i < 16; i += 4) {
        u8 c[4];
        memcpy(c, s + i, 4);
        for (unsigned k = 0; k < 4; k++)
            s[i + k] = gf_mul(c[k], m0) ^ gf_mul(c[(k + 1) & 3], m1) ^ gf_mul(c[(k + 2) & 3], m2) ^ gf_mul(c[(k + 3) & 3], m3);
    }
}
#define MIX(s) mix_columns(s, 2, 3, 1, 1)
#define UNMIX(s) mix_columns(s, 14, 11, 13, 9)

static void add_key(u8 *d, const u8 *r, const u8 *key) {
    for (unsigned i = 0; i < 16; i++) d[i] = r[i] ^ key[i];
}
static void aes_enc(u8 *d, const u8 *p, const u8 *key, bool last) {
    u8 r[16];
    substitute_and_shift(r, p, sbox, 4);
    if (!last) MIX(r);
    add_key(d, r, key);
}
static void aes_dec(u8 *d, const u8 *p, const u8 *key, bool last) {
    u8 r[16];
    substitute_and_shift(r, p, inverse_sbox, 12);
    if (!last) UNMIX(r);
    add_key(d, r, key);
}
static void aes_imc(u8 *d, const u8 *s) {
    u8 r[16];
    memcpy(r, s, 16);
    UNMIX(r);
    memcpy(d, r, 16);
}
static u32 sub_word(u32 v) {
    return sbox[v & 255] | (u32)sbox[v >> 8 & 255] << 8 | (u32)sbox[v >> 16 & 255] << 16 | (u32)sbox[v >> 24] << 24;
}
INLINE u32 ror32(u32 v, unsigned n) { return v >> n | v << (32 - n); }
INLINE u32 rol32(u32 v, unsigned n) { return v << n | v >> (32 - n); }
static void aes_keygen(u8 *d, const u8 *s, u8 rcon) {
    u32 x1 = sub_word(ld4u(s + 4)), x3 = sub_word(ld4u(s + 12));
    st4u(d, x1);
    st4u(d + 4, ror32(x1, 8) ^ rcon);
    st4u(d + 8, x3);
    st4u(d + 12, ror32(x3, 8) ^ rcon);
}

/* ---- carry-less product: imm[0] and imm[4] select the quadwords ---- */

static void clmul(u8 *d, const u8 *p, const u8 *s, unsigned imm) {
    u128 a = ld8u(p + (imm & 1 ? 8 : 0)), r = 0;
    u64 b = ld8u(s + (imm & 0x10 ? 8 : 0));
    for (; b; b >>= 1, a <<= 1)
        if (b & 1) r ^= a;
    memcpy(d, &r, 16);
}

/* ---- SHA: element 3 is the highest dword ---- */

struct words { u32 w[4]; };
static struct words words(const u8 *p) {
    struct words r;
    memcpy(&r, p, 16);
    return r;
}
static void put_words(u8 *d, u32 w3, u32 w2, u32 w1, u32 w0) {
    struct words r = {{w0, w1, w2, w3}};
    memcpy(d, &r, 16);
}
static void sha1_nexte(u8 *d, const u8 *s) {
    struct words a = words(d), b = words(s);
    put_words(d, b.w[3] + rol32(a.w[3], 30), b.w[2], b.w[1], b.w[0]);
}
static void sha1_msg1(u8 *d, const u8 *s) {
    struct words a = words(d), b = words(s);
    put_words(d, a.w[1] ^ a.w[3], a.w[0] ^ a.w[2], b.w[3] ^ a.w[1], b.w[2] ^ a.w[0]);
}
static void sha1_msg2(u8 *d, const u8 *s) {
    struct words a = words(d), b = words(s);
    u32 w16 = rol32(a.w[3] ^ b.w[2], 1);
    put_words(d, w16, rol32(a.w[2] ^ b.w[1], 1), rol32(a.w[1] ^ b.w[0], 1), rol32(a.w[0] ^ w16, 1));
}
INLINE u32 choose(u32 x, u32 y, u32 z) { return (x & y) ^ (~x & z); }
INLINE u32 majority(u32 x, u32 y, u32 z) { return (x & y) ^ (x & z) ^ (y & z); }
static void sha1_rnds4(u8 *dst, const u8 *s, unsigned imm) {
    static const u32 constant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    struct words x = words(dst), w = words(s);
    u32 a = x.w[3], b = x.w[2], c = x.w[1], d = x.w[0], e = 0;
    for (unsigned i = 0; i < 4; i++) {
        u32 f = (imm & 3) == 0 ? choose(b, c, d) : (imm & 3) == 2 ? majority(b, c, d) : b ^ c ^ d;
        u32 next = f + rol32(a, 5) + w.w[3 - i] + e + constant[imm & 3];
        e = d, d = c, c = rol32(b, 30), b = a, a = next;
    }
    put_words(dst, a, b, c, d);
}
static void sha256_rnds2(u8 *dst, const u8 *s, const u8 *wk) {
    struct words x = words(dst), y = words(s), k = words(wk);
    u32 a = y.w[3], b = y.w[2], c = x.w[3], d = x.w[2], e = y.w[1], f = y.w[0], g = x.w[1], h = x.w[0];
    for (unsigned i = 0; i < 2; i++) {
        u32 t = h + (ror32(e, 6) ^ ror32(e, 11) ^ ror32(e, 25)) + choose(e, f, g) + k.w[i];
        u32 u = (ror32(a, 2) ^ ror32(a, 13) ^ ror32(a, 22)) + majority(a, b, c);
        h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
    }
    put_words(dst, a, b, e, f);
}
INLINE u32 small0(u32 v) { return ror32(v, 7) ^ ror32(v, 18) ^ v >> 3; }
INLINE u32 small1(u32 v) { return ror32(v, 17) ^ ror32(v, 19) ^ v >> 10; }
static void sha256_msg1(u8 *d, const u8 *s) {
    struct words a = words(d), b = words(s);
    put_words(d, a.w[3] + small0(b.w[0]), a.w[2] + small0(a.w[3]), a.w[1] + small0(a.w[2]), a.w[0] + small0(a.w[1]));
}
static void sha256_msg2(u8 *d, const u8 *s) {
    struct words a = words(d), b = words(s);
    u32 w16 = a.w[0] + small1(b.w[2]), w17 = a.w[1] + small1(b.w[3]);
    put_words(d, a.w[3] + small1(w17), a.w[2] + small1(w16), w17, w16);
}

/* ---- rows: d and p are the same register in the legacy forms ---- */

#define LEGACY(name, statement) \
    static void sse_##name(accel_cpu *c, const struct op *o, const u8 *s) { \
        u8 *d = c->v[o->reg]; \
        const u8 *p = d; \
        (void)p; \
        statement; \
    } \
    SLOW_HANDLER(h_##name##_r) { sse_##name(c, o, c->v[o->rm]); return true; } \
    SLOW_HANDLER(h_##name##_m) { \
        alignas(16) u8 s[16]; \
        if (!vec_read(c, o, s, 16, 16)) return false; \
        sse_##name(c, o, s); \
        return true; \
    }
#define BOTH(name, statement) \
    LEGACY(name, statement) \
    AVX_RUN(v##name, statement) \
    SLOW_HANDLER(h_v##name##_r) { run_v##name(c, o, c->v[o->rm]); return true; } \
    AVX_M(v##name, avx_width(o), 1)
BOTH(aesenc, aes_enc(d, p, s, false))
BOTH(aesenclast, aes_enc(d, p, s, true))
BOTH(aesdec, aes_dec(d, p, s, false))
BOTH(aesdeclast, aes_dec(d, p, s, true))
BOTH(aesimc, aes_imc(d, s))
BOTH(aeskeygen, aes_keygen(d, s, (u8)o->imm))
BOTH(pclmulqdq, clmul(d, p, s, (unsigned)o->imm))
BOTH(gf2p8mulb, gf_multiply(d, p, s))
BOTH(gf2p8affine, gf_affine(d, p, s, (u8)o->imm, false))
BOTH(gf2p8affinei, gf_affine(d, p, s, (u8)o->imm, true))
LEGACY(sha1nexte, sha1_nexte(d, s))
LEGACY(sha1msg1, sha1_msg1(d, s))
LEGACY(sha1msg2, sha1_msg2(d, s))
LEGACY(sha1rnds4, sha1_rnds4(d, s, (unsigned)o->imm))
LEGACY(sha256rnds2, sha256_rnds2(d, s, c->v[0]))
LEGACY(sha256msg1, sha256_msg1(d, s))
LEGACY(sha256msg2, sha256_msg2(d, s))
