"""Unmasked overflow and underflow of SSE and AVX: PE is about the value, not about what would be stored.

SDM vol. 1, "Numeric Overflow Exception", "Numeric Underflow Exception" and the appendix "Guidelines for
Writing SIMD Floating-Point Exception Handlers". The flags are the manual's; test_oracle.py asks the host.
"""

import struct

import pytest

from accel import lib
from tests.helpers.accel_machine import CODE, Machine

UE, OE, PE = 0x10, 0x08, 0x20
MASKED, OM, UM = 0x1F80, 0x400, 0x800
EXCEPTION_XM = 19

ADDPS, MULPS, MULSD, DIVSS, HADDPS = "0f58c1", "0f59c1", "f20f59c1", "f30f5ec1", "f20f7cc1"
CVTSD2SS, VCVTPS2PH, VFMADD213SD, DPPD = "f20f5ac1", "c4e3791dca04", "c4e2e9a8c1", "660f3a41c131"
MAX_FLOAT, MIN_FLOAT, MIN_DOUBLE = 3.4028234663852886e38, 2.0**-126, 2.0**-1022


def floats(*values: float) -> int:
    return int.from_bytes(struct.pack(f"<{len(values)}f", *values), "little")


def doubles(*values: float) -> int:
    return int.from_bytes(struct.pack(f"<{len(values)}d", *values), "little")


CASES = [
    (MULPS, OM, floats(MAX_FLOAT, 0), floats(2, 0), OE),
    (MULPS, OM, floats(MAX_FLOAT, 0), floats(3, 0), OE | PE),
    (MULPS, OM, floats(MAX_FLOAT, 1.1), floats(2, 1.1), OE | PE),  # another element is inexact
    (MULPS, UM, floats(MAX_FLOAT, 1), floats(2, 1), None),  # masked: infinity is inexact
    (MULPS, UM, floats(MIN_FLOAT, 0), floats(0.5, 0), UE),
    (MULPS, UM, floats(MIN_FLOAT * 1.5, 0), floats(2.0**-23, 0), UE),  # stored it would lose a bit
    (MULPS, UM, floats(MIN_FLOAT * 1.1, 0), floats(1.1 / 4, 0), UE | PE),
    (MULSD, UM, doubles(MIN_DOUBLE), doubles(2.0**-1022), UE),
    (DIVSS, UM, floats(MIN_FLOAT), floats(2.0**100), UE),
    (DIVSS, UM, floats(MIN_FLOAT), floats(3), UE | PE),
    (ADDPS, OM, floats(MAX_FLOAT), floats(MAX_FLOAT), OE),
    (ADDPS, OM, floats(MAX_FLOAT), floats(MAX_FLOAT / 2), OE | PE),
    (HADDPS, OM, floats(0, 0, MAX_FLOAT, MAX_FLOAT), floats(0, 0, 0, 0), OE),
    (CVTSD2SS, OM, doubles(0), doubles(2.0**200), OE),
    (CVTSD2SS, UM, doubles(0), doubles(2.0**-200 * 1.1), UE | PE),
    (VCVTPS2PH, OM, 0, floats(65536.0, 0, 0, 0), OE),
    (VCVTPS2PH, OM, 0, floats(65537.0, 0, 0, 0), OE | PE),
    (VFMADD213SD, UM, doubles(MIN_DOUBLE), doubles(0), UE),  # xmm2 is 1/4
    (DPPD, UM, doubles(MIN_DOUBLE, 1), doubles(0.25, 1), UE),
]  # fmt: skip


@pytest.mark.parametrize(("code", "unmask", "first", "second", "raised"), CASES)
def test_precision_flag_of_an_unmasked_overflow_or_underflow(
    code: str, unmask: int, first: int, second: int, raised: int | None
) -> None:
    machine = Machine(code=bytes.fromhex(code))
    machine.control.exception_exit = 1 << EXCEPTION_XM
    machine["mxcsr"] = MASKED & ~unmask
    machine["xmm0"], machine["xmm1"], machine["xmm2"] = first, second, doubles(0.25)
    end = machine.run(1)
    if raised is None:
        assert end.kind == lib.ACCEL_EXIT_DEADLINE
        assert machine["mxcsr"] & (OE | PE) == OE | PE
        return
    assert (end.kind, end.vector) == (lib.ACCEL_EXIT_EXCEPTION, EXCEPTION_XM)
    assert machine["mxcsr"] == MASKED & ~unmask | raised
    assert (machine["rip"], machine["xmm0"]) == (CODE, first)
