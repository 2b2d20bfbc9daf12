/*
 * input.h - what the fuzzers of the core share: reading an input piece by piece, a hash, and a check that ends the
 * process so that libFuzzer keeps the input.
 */
#ifndef INPUT_H
#define INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An input that is used up reads as zeros. */
struct input { const uint8_t *at; size_t left; };

static inline uint64_t take(struct input *in, size_t bytes) {
    uint64_t v = 0;
    size_t n = bytes < in->left ? bytes : in->left;
    memcpy(&v, in->at, n);
    in->at += n;
    in->left -= n;
    return v;
}
static inline uint8_t take8(struct input *in) { return (uint8_t)take(in, 1); }
static inline uint16_t take16(struct input *in) { return (uint16_t)take(in, 2); }
static inline uint32_t take32(struct input *in) { return (uint32_t)take(in, 4); }
static inline uint64_t take64(struct input *in) { return take(in, 8); }

/* splitmix64: one step of the sequence, and a hash of what was and what comes. */
static inline uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}
static inline uint64_t draw(uint64_t *state) { return mix((*state)++); }

#define CHECK(condition, ...) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__); \
            fprintf(stderr, "\n"); \
            abort(); \
        } \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
