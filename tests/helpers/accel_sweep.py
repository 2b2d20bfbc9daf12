"""Compare the core's decoder with iced-x86: legality and length of every opcode under every kind of prefix.

A disagreement is explained by `explain`, or it is a finding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import iced_x86
from iced_x86 import CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic

from accel import _gen, ffi, lib
from tests.helpers.accel_machine import Machine

MODEL_MAX = 3
UNDEFINED_OPCODE = 6
SLOT = 16
# What follows opcode and ModRM: SIB, displacement and immediate take their bytes from here.
FILLERS = (bytes.fromhex("25112233445566778899aabbcc"), bytes.fromhex("4c00fedcba98765432100f0000"))
LEGACY_MAPS = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
LEGACY_PREFIXES = (b"", b"\x66", b"\xf3", b"\xf2", b"\xf0", b"\x67", b"\x66\xf3", b"\x66\xf2")
# Bytes of the one-byte map that begin something longer: prefixes, escapes, VEX, EVEX, REX, REX2.
NOT_OPCODES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x0F, 0xC4, 0xC5, 0x62}
NOT_OPCODES_64 = {*range(0x40, 0x50), 0xD5}

# iced's feature names for those of features.def; None: every CPU here has it, or it needs no announcement.
FEATURES: dict[str, str | None] = {
    "SSE4_1": "SSE41", "SSE4_2": "SSE42", "CMPXCHG16B": "CX16", "FPU287": "FPU", "FPU387": "FPU",
    "HLE_OR_RTM": "RTM", "PAUSE": None, "CPUID": None, "MULTIBYTENOP": None, "RDPMC": None, "X64": None,
    "INTEL8086": None, "INTEL186": None, "INTEL286": None, "INTEL386": None, "INTEL486": None, "SMM": None,
    "SKINIT_OR_SVM": "SVM",
}  # fmt: skip


@functools.cache
def known_features() -> set[str]:
    """Features that some row of the tables has."""
    return {row.feature for row in _gen.read_rows() if row.feature != "-"}


@dataclass(frozen=True)
class Disagreement:
    """One encoding that the two decoders see differently; length 0: illegal."""

    data: bytes
    bits: int
    core: int
    iced: int
    row: str
    instruction: str

    def __str__(self) -> str:
        return (
            f"{self.data.hex()} {self.bits}-bit: core {self.core or 'illegal'} {self.row!r}, "
            f"iced {self.iced or 'illegal'} {self.instruction!r}"
        )


def modrm_values(full: bool) -> list[int]:
    """Every ModRM byte, or one of each kind for each reg field."""
    if full:
        return list(range(256))
    shapes = (0x00, 0x04, 0x05, 0x41, 0x86, 0xC0, 0xC1, 0xC5)
    return sorted({shape | reg << 3 for shape in shapes for reg in range(8)} | set(range(0xC0, 0x100)))


def legacy(bits: int, full: bool) -> Iterator[bytes]:
    """Encodings of the one-byte, 0F, 0F38 and 0F3A maps."""
    rexes = (b"", b"\x48", b"\x47") if bits == 64 else (b"",)
    values = modrm_values(full)
    for prefix in LEGACY_PREFIXES:
        for rex in rexes:
            for escape in LEGACY_MAPS:
                for opcode in range(256):
                    if not escape and opcode in NOT_OPCODES | (NOT_OPCODES_64 if bits == 64 else set()):
                        continue
                    if escape == b"\x0f" and opcode in (0x38, 0x3A):
                        continue
                    head = prefix + rex + escape + bytes((opcode,))
                    for value in values:
                        yield head + bytes((value,)) + FILLERS[value & 1]


def vex(bits: int, full: bool) -> Iterator[bytes]:
    """Encodings of the VEX maps: 2-byte and 3-byte prefix, all pp, L, W and some vvvv."""
    values = modrm_values(full)
    for vvvv in (15, 14):
        for low in range(8):  # L, pp
            tail = vvvv << 3 | low
            heads = [bytes((0xC5, 0x80 | tail))]
            heads += [bytes((0xC4, 0xE0 | m, w << 7 | tail)) for m in (1, 2, 3) for w in (0, 1)]
            for head in heads:
                for opcode in range(256):
                    for value in values:
                        yield head + bytes((opcode, value)) + FILLERS[value & 1]


FEATURE_NAMES = {getattr(CpuidFeature, n): n for n in dir(CpuidFeature) if n.isupper()}


def features_of(instruction: Instruction) -> set[str]:
    """The features that an instruction needs, in the names of features.def."""
    names = (FEATURE_NAMES[number] for number in instruction.cpuid_features())
    mapped = (FEATURES.get(name, name) for name in names)
    return {name for name in mapped if name is not None}


# Rows that decode more than is legal and refuse it when they execute, as `raises_undefined` shows.
REFUSED_LATER = {
    "MOV Ev,Sw": "segment register numbers 6 and 7 do not exist (SDM vol. 2, MOV)",
    "MOV Sw,Ew": "segment register numbers 6 and 7 do not exist; CS cannot be loaded (SDM vol. 2, MOV)",
    "MOV Rd,Cd": "control registers 1, 5, 6, 7 and 9 to 15 do not exist (SDM vol. 2, MOV)",
    "MOV Cd,Rd": "control registers 1, 5, 6, 7 and 9 to 15 do not exist (SDM vol. 2, MOV)",
    "MOV Rd,Dd": "debug registers 8 to 15 do not exist (SDM vol. 2, MOV)",
    "MOV Dd,Rd": "debug registers 8 to 15 do not exist (SDM vol. 2, MOV)",
    "UD Gv,Ev": "a prefix that the instruction does not take",
    "UD Ev": "a prefix that the instruction does not take",
}


def refused_later(row: str) -> str | None:
    """Why execution refuses what the row decodes, or None: it does not."""
    if "GATHER" in row:
        return "a gather needs VSIB and three registers that differ (SDM vol. 2, VGATHERDPS)"
    return REFUSED_LATER.get(row)


def explain(row: str, instruction: Instruction, core: int, iced: int) -> str | None:
    """Why the decoders may disagree about an encoding, or None."""
    if core and not iced:
        return refused_later(row)
    if core == 0 and features_of(instruction) - known_features():
        return "no CPU model has the feature"
    if core == 0 and instruction.mnemonic == Mnemonic.RSM:
        return "RSM is undefined outside system-management mode (SDM vol. 2, RSM)"
    return None


def raises_undefined(data: bytes, bits: int) -> bool:
    """Whether the core answers an encoding with #UD when it executes it at CPL 0."""
    machine = Machine(bits=bits, code=data)
    machine.control.exception_exit = 0xFFFFFFFF
    end = machine.run(1)
    return end.kind == lib.ACCEL_EXIT_EXCEPTION and end.vector == UNDEFINED_OPCODE


def sweep(bits: int, encodings: Iterator[bytes]) -> tuple[int, list[Disagreement], dict[str, int]]:
    """Decode all `encodings` with both; returns their number, the findings, and the count per explanation."""
    findings: list[Disagreement] = []
    reasons: dict[str, int] = {}
    total = 0
    seen: dict[str, int] = {}
    row = ffi.new("int *")
    decode, name = lib.accel_decode, lib.accel_row_name
    decoder_for = iced_x86.Decoder
    instruction = Instruction()
    while True:
        chunk = [e[:15].ljust(SLOT, b"\0") for _, e in zip(range(65536), encodings, strict=False)]
        if not chunk:
            return total, findings, reasons
        total += len(chunk)
        data = b"".join(chunk)
        buffer = ffi.from_buffer("uint8_t[]", data)
        decoder: Decoder = decoder_for(bits, data, DecoderOptions.NONE)
        for index in range(len(chunk)):
            at = index * SLOT
            core = decode(buffer + at, 15, bits, MODEL_MAX, row)
            decoder.position = at
            decoder.decode_out(instruction)
            iced = 0 if instruction.is_invalid else instruction.len
            if core == iced:
                continue
            text = ffi.string(name(row[0])).decode() if row[0] >= 0 else ""
            reason = explain(text, instruction, core, iced)
            if reason is not None and (core == 0 or refused(text, chunk[index], bits, seen)):
                reasons[reason] = reasons.get(reason, 0) + 1
                continue
            shown = f"{instruction}" if iced else ""
            findings.append(Disagreement(chunk[index], bits, core, iced, text, shown))


def refused(row: str, data: bytes, bits: int, seen: dict[str, int]) -> bool:
    """Execute one in a hundred of the encodings that only execution refuses."""
    seen[row] = seen.get(row, 0) + 1
    return seen[row] % 100 != 1 or raises_undefined(data[:15], bits)
