"""What narrows a point down, as the core takes it."""

from __future__ import annotations

from typing import Any, Final

from accel import ffi, lib
from hv.engines.base import PointLimits, PredicateStep

_NO_REGISTER: Final = (1 << 64) - 1  # of no row: reading it is an error of the condition


def _code(steps: tuple[PredicateStep, ...]) -> Any:
    code = ffi.new("accel_insn[]", len(steps))
    for cell, step in zip(code, steps, strict=True):
        cell.op = step.op
        cell.value = step.value
        if step.op == lib.ACCEL_OP_REGISTER:
            number = lib.accel_reg_find(step.register.encode())
            cell.value = number if number >= 0 else _NO_REGISTER
    return code


def limits_record(limits: PointLimits) -> tuple[Any, list[Any]]:
    """An `accel_limits`, and what must live as long as it is used."""
    record = ffi.new("accel_limits *")
    named = (
        (lib.ACCEL_LIMIT_CR3, limits.cr3),
        (lib.ACCEL_LIMIT_CPL, limits.cpl),
        (lib.ACCEL_LIMIT_CPU, limits.cpu),
    )
    record.flags = sum(flag for flag, value in named if value is not None)
    record.cr3, record.cpl, record.cpu = limits.cr3 or 0, limits.cpl or 0, limits.cpu or 0
    record.ignore = limits.ignore
    codes = [_code(steps) for steps in limits.conditions]
    programs = ffi.new("accel_program[]", len(codes))
    for program, code in zip(programs, codes, strict=True):
        program.code, program.count = code, len(code)
    record.programs, record.program_count = programs, len(codes)
    return record, [programs, *codes]
