/*
 * predicate.c - programs that decide whether a breakpoint stops: verification and evaluation.
 *
 * The operations are those of *Debugging with GDB*, appendix "The GDB Agent Expression Mechanism", with names
 * resolved. Verification knows the depth of the stack at every instruction and that all jumps go forward, so evaluation
 * checks neither and ends after at most `count` steps. Nothing here changes what the guest sees or will see.
 */
#include "exec.h"
#include "predicate.h"
#include "mxcsr.h"

/* ---- verification -------------------------------------------------------------------------------------- */

/* Words that an operation pops and pushes; PICK depends on its value. */
static const struct { u8 pops, pushes; } effects[] = {
    [ACCEL_OP_CONSTANT] = {0, 1}, [ACCEL_OP_REGISTER] = {0, 1}, [ACCEL_OP_LOAD] = {1, 1}, [ACCEL_OP_LOAD_SIGNED] = {1, 1},
    [ACCEL_OP_SIGN_EXTEND] = {1, 1}, [ACCEL_OP_ZERO_EXTEND] = {1, 1}, [ACCEL_OP_ADD ... ACCEL_OP_XOR] = {2, 1},
    [ACCEL_OP_INVERT] = {1, 1}, [ACCEL_OP_NOT] = {1, 1}, [ACCEL_OP_EQUAL ... ACCEL_OP_LESS_UNSIGNED] = {2, 1},
    [ACCEL_OP_JUMP] = {0, 0}, [ACCEL_OP_JUMP_IF] = {1, 0}, [ACCEL_OP_DUPLICATE] = {1, 2}, [ACCEL_OP_POP] = {1, 0},
    [ACCEL_OP_SWAP] = {2, 2}, [ACCEL_OP_PICK] = {0, 1}, [ACCEL_OP_ROTATE] = {3, 3}, [ACCEL_OP_PRINT] = {0, 0}, [ACCEL_OP_END] = {1, 1},
};

static bool operand_ok(const accel_insn *i, size_t at, size_t count) {
    switch (i->op) {
    case ACCEL_OP_LOAD: case ACCEL_OP_LOAD_SIGNED: return i->value == 1 || i->value == 2 || i->value == 4 || i->value == 8;
    case ACCEL_OP_SIGN_EXTEND: case ACCEL_OP_ZERO_EXTEND: return i->value >= 1 && i->value <= 64;
    case ACCEL_OP_JUMP: case ACCEL_OP_JUMP_IF: return i->value > at && i->value < count;
    case ACCEL_OP_PICK: return i->value < ACCEL_MAX_DEPTH;
    case ACCEL_OP_PRINT: return false;
    default: return i->op <= ACCEL_OP_END;
    }
}

/* Instruction `at` is reached with `depth` words (stored one higher; 0: not yet reached). */
static bool reach(u8 *depths, size_t at, unsigned depth) {
    if (depths[at] && depths[at] != depth + 1) return false;
    depths[at] = (u8)(depth + 1);
    return true;
}

bool predicate_verify(const accel_insn *code, size_t count) {
    u8 depths[ACCEL_MAX_CODE + 1] = {1};
    if (!code || !count || count > ACCEL_MAX_CODE) return false;
    for (size_t at = 0; at < count; at++) {
        const accel_insn *i = &code[at];
        if (!depths[at]) continue; /* nothing leads here */
        unsigned depth = depths[at] - 1u;
        if (!operand_ok(i, at, count)) return false;
        unsigned pops = effects[i->op].pops;
        if (depth < (i->op == ACCEL_OP_PICK ? i->value + 1 : pops)) return false;
        depth += effects[i->op].pushes - pops;
        if (depth > ACCEL_MAX_DEPTH) return false;
        if (i->op == ACCEL_OP_END) continue;
        if ((i->op == ACCEL_OP_JUMP || i->op == ACCEL_OP_JUMP_IF) && !reach(depths, i->value, depth)) return false;
        if (i->op != ACCEL_OP_JUMP && !reach(depths, at + 1, depth)) return false;
    }
    return !depths[count];
}

/* ---- evaluation ------------------------------------------------------------------------------------------ */

static u64 sign_extend(u64 v, unsigned bits) { return (u64)((s64)(v << (64 - bits)) >> (64 - bits)); }

/* Through the page tables as they are, not through the TLB: what a debugger reads. */
static bool load(accel_cpu *c, u64 lin, unsigned size, u64 *value) {
    u8 bytes[8] = {0};
    for (unsigned done = 0; done < size;) {
        unsigned n = 4096 - (unsigned)((lin + done) & 0xfff);
        if (n > size - done) n = size - done;
        accel_walk walk;
        if (accel_translate(c, lin + done, &walk) || accel_phys_read(c->m, walk.gpa, bytes + done, n)) return false;
        done += n;
    }
    memcpy(value, bytes, 8);
    return true;
}

static u64 divide_signed(u64 a, u64 b) { return b == ~0ull ? -a : (u64)((s64)a / (s64)b); }
static u64 remainder_signed(u64 a, u64 b) { return b == ~0ull ? 0 : (u64)((s64)a % (s64)b); }

static u64 binary(u32 op, u64 a, u64 b) {
    switch (op) {
    case ACCEL_OP_ADD: return a + b;
    case ACCEL_OP_SUB: return a - b;
    case ACCEL_OP_MULTIPLY: return a * b;
    case ACCEL_OP_DIVIDE_SIGNED: return divide_signed(a, b);
    case ACCEL_OP_DIVIDE_UNSIGNED: return a / b;
    case ACCEL_OP_REMAINDER_SIGNED: return remainder_signed(a, b);
    case ACCEL_OP_REMAINDER_UNSIGNED: return a % b;
    case ACCEL_OP_SHIFT_LEFT: return b < 64 ? a << b : 0;
    case ACCEL_OP_SHIFT_RIGHT_SIGNED: return (u64)((s64)a >> (b < 64 ? b : 63));
    case ACCEL_OP_SHIFT_RIGHT_UNSIGNED: return b < 64 ? a >> b : 0;
    case ACCEL_OP_AND: return a & b;
    case ACCEL_OP_OR: return a | b;
    case ACCEL_OP_XOR: return a ^ b;
    case ACCEL_OP_EQUAL: return a == b;
    case ACCEL_OP_LESS_SIGNED: return (s64)a < (s64)b;
    default: return a < b; /* LESS_UNSIGNED */
    }
}

static bool divides(u32 op) { return op >= ACCEL_OP_DIVIDE_SIGNED && op <= ACCEL_OP_REMAINDER_UNSIGNED; }

bool predicate_run(accel_cpu *c, const accel_insn *code, int64_t *fuel, uint64_t *result) {
    u64 stack[ACCEL_MAX_DEPTH + 1], *top = stack; /* the top word; below the first lies one of no meaning */
    u64 word;
    for (const accel_insn *i = code;; i++) {
        if (--*fuel < 0) return false;
        switch (i->op) {
        case ACCEL_OP_CONSTANT: *++top = i->value; break;
        case ACCEL_OP_REGISTER:
            mxcsr_get(c);
            if (!reg_value(c, i->value, ++top)) return false;
            break;
        case ACCEL_OP_LOAD: case ACCEL_OP_LOAD_SIGNED:
            *fuel -= LOAD_FUEL;
            if (!load(c, *top, (unsigned)i->value, top)) return false;
            if (i->op == ACCEL_OP_LOAD_SIGNED) *top = sign_extend(*top, 8 * (unsigned)i->value);
            break;
        case ACCEL_OP_SIGN_EXTEND: *top = sign_extend(*top, (unsigned)i->value); break;
        case ACCEL_OP_ZERO_EXTEND: *top &= ~0ull >> (64 - i->value); break;
        case ACCEL_OP_INVERT: *top = ~*top; break;
        case ACCEL_OP_NOT: *top = !*top; break;
        case ACCEL_OP_JUMP: i = code + i->value - 1; break;
        case ACCEL_OP_JUMP_IF: if (*top--) i = code + i->value - 1; break;
        case ACCEL_OP_DUPLICATE: word = *top, *++top = word; break;
        case ACCEL_OP_POP: top--; break;
        case ACCEL_OP_SWAP: word = top[0], top[0] = top[-1], top[-1] = word; break;
        case ACCEL_OP_PICK: word = top[-(s64)i->value], *++top = word; break;
        case ACCEL_OP_ROTATE: word = top[0], top[0] = top[-1], top[-1] = top[-2], top[-2] = word; break;
        case ACCEL_OP_END: *result = *top; return true;
        default:
            word = *top--;
            if (!word && divides(i->op)) return false;
            *top = binary(i->op, *top, word);
        }
    }
}

int accel_evaluate(accel_cpu *c, const accel_insn *code, size_t count, uint64_t *result) {
    if (!predicate_verify(code, count)) return ACCEL_EINVAL;
    s64 fuel = BOUNDARY_FUEL;
    u64 value;
    if (!predicate_run(c, code, &fuel, &value)) return ACCEL_EFAULT;
    *result = value;
    return ACCEL_OK;
}
