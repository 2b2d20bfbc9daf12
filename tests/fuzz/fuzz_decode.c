/*
 * fuzz_decode.c - fuzzer of the decoder.
 *
 *     input: mode key u32 | model u8 | bytes
 *
 * Checked besides memory errors: the decision needs no byte behind the instruction, is the same however many more
 * bytes there are, and every field that handlers use as an index is in its range.
 */
#include "cpu.h"
#include "input.h"

enum { LONGEST = 15, ILLEGAL = 0, MORE = -1, TOO_LONG = -2, BYTE_OFFSETS = 16 * 8 };

static const uint32_t KEY_BITS = K_CODE | K_SS32 | K_CPL3 | K_PE | K_VM | K_FLAT | K_EM | K_SSE | K_AVX | K_SINGLE | K_BP | K_AC | K_TS |
                                 K_MP | K_CPL0;

/* A copy of exactly so many bytes: one read behind it is found. */
static int decode_exactly(const uint8_t *bytes, unsigned size, uint32_t key, int model, struct decoded *out) {
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    int n = decode(copy, size, key, model, out);
    free(copy);
    return n;
}

static void check_fields(const struct decoded *d, int length) {
    const struct op *o = &d->op;
    CHECK(o->fn, "no handler");
    CHECK(d->length == o->len && o->len && o->len <= LONGEST, "length %u, op %u", d->length, o->len);
    CHECK(length == ILLEGAL || length == o->len, "returned %d, op %u", length, o->len);
    CHECK(o->reg < BYTE_OFFSETS && o->rm < BYTE_OFFSETS, "registers %u and %u", o->reg, o->rm);
    CHECK(o->base < R_COUNT && o->index < R_COUNT && o->scale < 4, "address %u + %u << %u", o->base, o->index, o->scale);
    CHECK(o->seg < SEG_COUNT, "segment %u", o->seg);
    CHECK(length == ILLEGAL || (d->row < accel_row_count() && accel_row_name(d->row)), "row %u", d->row);
    CHECK(length == ILLEGAL || decode_slow_form(d), "no slow form");
}

static void check_public(const uint8_t *bytes, unsigned size, int bits, int model) {
    int row, n = accel_decode(bytes, size, bits, model, &row);
    CHECK(n <= LONGEST && n >= MORE, "length %d", n);
    CHECK((n > 0) == (row >= 0) && row < accel_row_count(), "length %d, row %d", n, row);
}

static bool same(const struct decoded *a, const struct decoded *b) {
    return !memcmp(&a->op, &b->op, sizeof a->op) && a->row == b->row && a->length == b->length && a->ends == b->ends && a->relative == b->relative;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int widths[] = {16, 32, 64, 64};
    struct input in = {data, size};
    uint32_t key = take32(&in) & KEY_BITS;
    int model = take8(&in) & 3;
    if ((key & K_CODE) == K_CODE) key ^= 1;
    key |= (uint32_t)model << K_MODEL_SHIFT;
    unsigned all = in.left > LONGEST ? LONGEST : (unsigned)in.left;
    struct decoded full, part;
    int length = decode_exactly(in.at, all, key, model, &full);
    CHECK(length != TOO_LONG || all == LONGEST, "too long in %u bytes", all);
    CHECK(length != MORE || all < LONGEST, "more than %u bytes wanted", all);
    if (length >= 0) check_fields(&full, length);
    for (unsigned n = 0; n < all; n++) {
        int shorter = decode_exactly(in.at, n, key, model, &part);
        if (shorter == MORE) {
            CHECK(length <= ILLEGAL || n < full.length, "wants more at %u, has %u", n, full.length);
            continue;
        }
        CHECK(shorter == length && same(&part, &full), "%d of %u bytes, %d of %u", shorter, n, length, all);
        CHECK(length == ILLEGAL || n >= full.length, "%u bytes from %u", full.length, n);
    }
    check_public(in.at, all, widths[key & K_CODE], model);
    return 0;
}
