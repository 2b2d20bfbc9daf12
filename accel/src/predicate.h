/*
 * predicate.h - conditions of breakpoints and watchpoints.
 */
#ifndef PREDICATE_H
#define PREDICATE_H

#include "cpu.h"

/* Units of work: an instruction costs 1, a load LOAD_FUEL more. What one boundary may spend on all its points is a few
 * milliseconds. */
enum { LOAD_FUEL = 16, BOUNDARY_FUEL = 1 << 18 };
/* After so much in one slice the stop word is looked at: some ten milliseconds. */
enum { SLICE_FUEL = 1 << 22 };

/* Whether [code, code + count) is a program: see accel.h. Only such code may be run. */
bool predicate_verify(const accel_insn *code, size_t count);

/* Runs it; *fuel is what may be spent, and what is left. False: it met an error or found no fuel. */
bool predicate_run(accel_cpu *c, const accel_insn *code, int64_t *fuel, uint64_t *result);

#endif
