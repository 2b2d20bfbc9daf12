/*
 * cpuid.c - CPUID (SDM vol. 2, CPUID): feature bits from features.def, the rest from the tables and formulas here.
 *
 * Identity. "GenuineIntel", because guests take the TSC and APIC timer frequencies of leaf 15H from that vendor only;
 * family 6, model 36H: an in-order core without speculative execution, which is what this is. Guests therefore know
 * that it needs no mitigation of speculation side channels; IA32_ARCH_CAPABILITIES says the same to the others.
 *
 * Topology. One thread per core, all cores in one package, initial APIC id = CPU number.
 */
#include "system.h"

enum { SIGNATURE = 0x00030661, BASIC_MAX = 0x16, HYPERVISOR_MAX = 0x40000000 };
#define EXTENDED_MAX 0x80000008u
#define CRYSTAL_HZ 1000000000ull /* also the clock of the local APIC timer */

enum { EAX, EBX, ECX, EDX };

static void feature_bits(const accel_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]) {
    for (int i = 0; i < FEAT_COUNT; i++)
        if (features[i].leaf == leaf && features[i].sub == sub && model_has(c, i)) out[features[i].reg] |= 1u << features[i].bit;
}

/* Bits of the APIC id that tell cores apart. */
static uint32_t core_bits(const accel_cpu *c) {
    uint32_t n = 0;
    while ((1u << n) < c->count) n++;
    return n;
}

static void leaf_1(const accel_cpu *c, uint32_t out[4]) {
    out[EAX] = SIGNATURE;
    out[EBX] = 8u << 8 | (1u << core_bits(c)) << 16 | c->index << 24; /* CLFLUSH line of 8 quadwords */
    if (c->count == 1) out[EDX] &= ~(1u << 28);
    if (!(c->apic_base & 0x800)) out[EDX] &= ~(1u << 9);
    if (c->cr4 & CR4_OSXSAVE) out[ECX] |= 1u << 27;
}

/* Deterministic cache parameters: type (1 data, 2 instruction, 3 unified), level, ways, sets; lines of 64 bytes. */
static void leaf_4(const accel_cpu *c, uint32_t sub, uint32_t out[4]) {
    static const struct { uint8_t type, level, ways; uint16_t sets; } caches[] = {{1, 1, 8, 64}, {2, 1, 8, 64}, {3, 2, 8, 1024}};
    if (sub >= sizeof caches / sizeof *caches) return;
    uint32_t cores = (1u << core_bits(c)) - 1;
    out[EAX] = caches[sub].type | (uint32_t)caches[sub].level << 5 | 1u << 8 | cores << 26;
    out[EBX] = 63 | (uint32_t)(caches[sub].ways - 1) << 22;
    out[ECX] = caches[sub].sets - 1u;
}

static void leaf_7(const accel_cpu *c, uint32_t out[4]) {
    if (c->cr4 & CR4_PKE) out[ECX] |= 1u << 4; /* OSPKE */
    out[EDX] |= 1u << 29;                       /* IA32_ARCH_CAPABILITIES exists */
}

/* Levels: 0 = thread (always one), 1 = core. */
static void leaf_b(const accel_cpu *c, uint32_t sub, uint32_t out[4]) {
    out[EDX] = c->index;
    out[ECX] = sub & 0xff;
    if (sub > 1) return;
    out[EAX] = sub == 0 ? 0 : core_bits(c);
    out[EBX] = sub == 0 ? 1 : c->count;
    out[ECX] |= (sub + 1) << 8;
}

/* XSAVE components of the model beyond x87 and SSE: bit, size, offset in the standard form. */
static const struct { uint8_t bit; int feature; uint16_t size, offset; } components[] = {
    {2, FEAT_AVX, 256, 576}, {9, FEAT_PKU, 8, 2688},
};
enum { COMPONENTS = sizeof components / sizeof *components };

static uint32_t area_size(uint64_t mask, bool compact) {
    uint32_t size = 576;
    for (int i = 0; i < COMPONENTS; i++) {
        if (!(mask >> components[i].bit & 1)) continue;
        size = compact ? size + components[i].size : (uint32_t)components[i].offset + components[i].size;
    }
    return size;
}

uint64_t xcr0_supported(const accel_cpu *c) {
    uint64_t mask = 3;
    for (int i = 0; i < COMPONENTS; i++)
        if (model_has(c, components[i].feature)) mask |= BIT(components[i].bit);
    return mask;
}

static void leaf_d(const accel_cpu *c, uint32_t sub, uint32_t out[4]) {
    if (!model_has(c, FEAT_XSAVE)) return;
    uint64_t supported = xcr0_supported(c);
    if (sub == 0) {
        out[EAX] = (uint32_t)supported;
        out[EBX] = area_size(c->xcr0, false);
        out[ECX] = area_size(supported, false);
        out[EDX] = (uint32_t)(supported >> 32);
    } else if (sub == 1) {
        if (model_has(c, FEAT_XSAVEC)) out[EBX] = area_size(c->xcr0, true);
    } else {
        for (int i = 0; i < COMPONENTS; i++)
            if (components[i].bit == sub && (supported >> sub & 1)) out[EAX] = components[i].size, out[EBX] = components[i].offset;
    }
}

static uint64_t gcd(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* TSC = crystal * EBX / EAX. Guests multiply kHz by EBX in 32 bits; where that would overflow, the leaf says
 * nothing and the guest calibrates. */
static void leaf_15(const accel_cpu *c, uint32_t out[4]) {
    uint64_t g = gcd(c->tsc_hz, CRYSTAL_HZ), numerator = c->tsc_hz / g;
    if (numerator > UINT32_MAX / (CRYSTAL_HZ / 1000)) return;
    out[EAX] = (uint32_t)(CRYSTAL_HZ / g);
    out[EBX] = (uint32_t)numerator;
    out[ECX] = CRYSTAL_HZ;
}

static void text(uint32_t out[4], const char *s, int first, int second, int third) {
    memcpy(&out[first], s, 4);
    memcpy(&out[second], s + 4, 4);
    memcpy(&out[third], s + 8, 4);
}

static void basic(accel_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]) {
    switch (leaf) {
    case 0x0:
        out[EAX] = BASIC_MAX;
        text(out, "GenuineIntel", EBX, EDX, ECX);
        break;
    case 0x1: leaf_1(c, out); break;
    case 0x2: out[EAX] = 0x0000ff01; break; /* FFH: see leaf 4 */
    case 0x4: leaf_4(c, sub, out); break;
    case 0x5:
        /* lines of 64 bytes, interrupts break though masked, one kind of C1 */
        if (model_has(c, FEAT_MONITOR)) out[EAX] = out[EBX] = 64, out[ECX] = 3, out[EDX] = 1u << 4;
        break;
    case 0x6: out[EAX] = 1u << 2; break; /* the APIC timer never stops */
    case 0x7:
        if (sub == 0) leaf_7(c, out);
        break;
    case 0xb: leaf_b(c, sub, out); break;
    case 0xd: leaf_d(c, sub, out); break;
    case 0x15: leaf_15(c, out); break;
    case 0x16:
        out[EAX] = out[EBX] = (uint32_t)(c->tsc_hz / 1000000) & 0xffff;
        out[ECX] = 100;
        break;
    default: break;
    }
}

static void extended(accel_cpu *c, uint32_t leaf, uint32_t out[4]) {
    static const char brand[48] = "hv software x86-64 CPU";
    switch (leaf) {
    case 0x80000000: out[EAX] = EXTENDED_MAX; break;
    case 0x80000001:
        if (!is_code64(c)) out[EDX] &= ~(1u << 11); /* SYSCALL exists in 64-bit mode only */
        break;
    case 0x80000002: case 0x80000003: case 0x80000004: memcpy(out, brand + 16 * (leaf - 0x80000002), 16); break;
    case 0x80000006: out[ECX] = 512u << 16 | 6u << 12 | 64; break; /* L2: 512 KiB, 8 ways, lines of 64 bytes */
    case 0x80000008: out[EAX] = MAXPHYADDR | (model_has(c, FEAT_LA57) ? 57u : 48u) << 8; break;
    default: break;
    }
}

/* A leaf beyond the basic and extended maxima answers like the highest basic leaf. */
void cpuid(accel_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]) {
    memset(out, 0, 16);
    if (leaf >> 28 == 4) {
        if (leaf != HYPERVISOR_MAX) return;
        out[EAX] = HYPERVISOR_MAX;
        text(out, "hv-accel-cpu", EBX, ECX, EDX);
        return;
    }
    if (leaf > BASIC_MAX && (leaf < 0x80000000u || leaf > EXTENDED_MAX)) leaf = BASIC_MAX;
    feature_bits(c, leaf, leaf == 7 || leaf == 0xd ? sub : 0, out);
    if (leaf <= BASIC_MAX) basic(c, leaf, sub, out);
    else extended(c, leaf, out);
}
