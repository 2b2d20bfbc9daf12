"""The decoder against iced-x86, and its answers to what is short or long."""

import pytest

from accel import ffi, lib
from tests.helpers import accel_sweep

MODEL_V1, MODEL_MAX = 0, 3


def decode(data: bytes, bits: int = 64, model: int = MODEL_MAX) -> int:
    return int(lib.accel_decode(data, len(data), bits, model, ffi.new("int *")))


@pytest.mark.parametrize("bits", [64, 32, 16])
@pytest.mark.parametrize("kind", ["legacy", "vex"])
def test_length_and_legality_agree_with_iced(
    bits: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encodings = {"legacy": accel_sweep.legacy, "vex": accel_sweep.vex}[kind](bits, full=False)
    total, findings, reasons = accel_sweep.sweep(bits, encodings)
    with capsys.disabled():
        print(f"\n  {bits}-bit {kind}: {total} encodings, explained: {reasons}", end="")
    assert [str(f) for f in findings[:20]] == []
    assert total > 500_000


@pytest.mark.parametrize("size", range(1, 10))
def test_truncated_instruction_asks_for_more(size: int) -> None:
    whole = bytes.fromhex("48b88877665544332211")
    assert decode(whole[:size]) < 0
    assert decode(whole) == 10


def test_sixteen_bytes_are_too_many() -> None:
    assert decode(b"\x66" * 14 + b"\x90") == 15
    assert decode(b"\x66" * 15 + b"\x90") == 0


def test_rex_counts_only_before_the_opcode() -> None:
    row = ffi.new("int *")
    assert lib.accel_decode(b"\x48\x66\xb8\x11\x22", 5, 64, MODEL_MAX, row) == 5


def test_model_without_the_feature_refuses_the_instruction() -> None:
    crc32 = bytes.fromhex("f20f38f0c0")
    assert decode(crc32) == 5
    assert decode(crc32, model=MODEL_V1) == 0
