"""Frames from a kernel's own unwinding tables, read back by pyelftools."""

import io
import random
import struct

import pytest
from elftools.dwarf.callframe import FDE, RegisterRule
from elftools.elf.elffile import ELFFile

from hv.debug.orc import frame_section
from hv.debug.symbol import Symbol
from hv.debug.symbol_elf import Extra, build_elf, kernel_sections

TABLE = 0xFFFF_FFFF_8200_0000
TEXT = 0xFFFF_FFFF_8100_0000
PREVIOUS_SP, BP, SP, R10, BP_INDIRECT, SP_INDIRECT = 1, 4, 5, 6, 8, 9
RBX, RBP, RSP, RA = 3, 6, 7, 16
OLD = {"call": 0, "regs": 1, "partial": 2, "end": 4, "none": 0}
NEW = {"none": 0, "end": 1, "call": 2, "regs": 3, "partial": 4}

# Distance from TEXT, kind, register and offset of the stack pointer, and of the frame pointer.
ROWS = [
    (0x00, "call", SP, 8, 0, 0),
    (0x01, "call", SP, 16, PREVIOUS_SP, -16),
    (0x04, "call", BP, 16, PREVIOUS_SP, -16),
    (0x90, "call", SP, 8, 0, 0),
    (0xA0, "none", 0, 0, 0, 0),
    (0xB0, "regs", SP, 8, 0, 0),
    (0xC0, "partial", SP, 16, 0, 0),
    (0xD0, "call", BP_INDIRECT, -8, BP, -24),
    (0xE0, "call", SP_INDIRECT, 8, 0, 0),
    (0xF0, "call", R10, 0, 0, 0),
    (0x400, "end", 0, 0, 0, 0),
    (0x500, "none", 0, 0, 0, 0),
]


def tables(rows: list[tuple[int, str, int, int, int, int]], kinds: dict[str, int]) -> tuple[bytes, bytes]:
    ips = b"".join(
        struct.pack("<i", TEXT + distance - TABLE - 4 * number) for number, (distance, *_) in enumerate(rows)
    )
    entries = b"".join(
        struct.pack("<hhBB", sp_offset, bp_offset, sp | bp << 4, kinds[kind])
        for _, kind, sp, sp_offset, bp, bp_offset in rows
    )
    return ips, entries


def frames(section: bytes) -> list[FDE]:
    symbols = [Symbol(TEXT, "T", "_text"), Symbol(TABLE, "R", "_end")]
    extra = [Extra(".debug_frame", section)]
    elf = ELFFile(io.BytesIO(build_elf(symbols, kernel_sections(symbols, TEXT), extra)))
    return [entry for entry in elf.get_dwarf_info().CFI_entries() if isinstance(entry, FDE)]


def rules(section: bytes) -> dict[int, tuple[str, dict[int, RegisterRule]]]:
    """By distance from TEXT: the frame address as text, and each register's rule."""
    found = {}
    for entry in frames(section):
        for row in entry.get_decoded().table:
            cfa = row["cfa"]
            place = "expression" if cfa.expr is not None else f"{cfa.reg}+{cfa.offset}"
            found[row["pc"] - TEXT] = (
                place,
                {number: row[number] for number in row if number not in ("pc", "cfa")},
            )
    return found


@pytest.mark.parametrize("kinds", [OLD, NEW], ids=["before-linux-6.4", "linux-6.4"])
def test_every_entry_becomes_the_rule_that_it_says(kinds: dict[str, int]) -> None:
    # Most of a kernel is called; that tells the numbering.
    padding = [(0x1000 + 16 * n, "call", SP, 8 + 8 * (n % 3), 0, 0) for n in range(40)]
    section = frame_section(TABLE, *tables([*ROWS, *padding], kinds))
    assert section is not None
    found = rules(section)
    assert {at: place for at, (place, _) in found.items() if at < 0x400} == {
        0x00: "7+8",
        0x01: "7+16",
        0x04: "6+16",
        0x90: "7+8",
        0xB0: "7+8",
        0xC0: "7+16",
        0xD0: "expression",
        0xE0: "expression",
        0xF0: "10+0",
    }
    assert (found[0x01][1][RBP].type, found[0x01][1][RBP].arg) == ("OFFSET", -16)
    assert found[0x90][1][RBP].type == "SAME_VALUE"
    assert found[0x00][1][RBX].type == "UNDEFINED"
    assert found[0x00][1][RA].arg == -8
    saved = {number: found[0xB0][1][number].arg for number in (15, RBP, RBX, 0, 5, RA, RSP)}
    assert saved == {15: 0, RBP: 0x20, RBX: 0x28, 0: 0x50, 5: 0x70, RA: 0x80, RSP: 0x98}
    assert [found[0xC0][1][number].arg for number in (RA, RSP)] == [0, 0x18]
    assert found[0xD0][1][RBP].type == "EXPRESSION"
    assert found[0xD0][1][RBP].arg == [0x76, 0x68]  # DW_OP_breg6 -24
    [end] = [entry for entry in frames(section) if entry.header["initial_location"] == TEXT + 0x400]
    assert end.cie is not None
    assert end.cie.get_decoded().table[-1][RA].type == "UNDEFINED"


def test_places_without_an_entry_have_no_frame() -> None:
    section = frame_section(TABLE, *tables(ROWS, OLD))
    assert section is not None
    spans = [(fde.header["initial_location"] - TEXT, fde.header["address_range"]) for fde in frames(section)]
    assert spans == [(0, 0xA0), (0xB0, 0x10), (0xC0, 0x10), (0xD0, 0x330), (0x400, 0x100)]


def test_long_functions_are_several_descriptions_that_follow_each_other() -> None:
    rows = [(3 * n, "call", SP, 8 + 8 * (n % 9), 0, 0) for n in range(1000)]
    section = frame_section(TABLE, *tables(rows, OLD))
    assert section is not None
    places = {at: place for at, (place, _) in rules(section).items()}
    assert places == {3 * n: f"7+{8 + 8 * (n % 9)}" for n in range(1000)}
    ends = [fde.header["initial_location"] + fde.header["address_range"] for fde in frames(section)]
    assert [fde.header["initial_location"] for fde in frames(section)][1:] == ends[:-1]


def test_tables_that_cannot_be_are_refused() -> None:
    ips, entries = tables(ROWS, OLD)
    assert frame_section(TABLE, b"", b"") is None
    assert frame_section(TABLE, ips, entries[:-1]) is None
    assert frame_section(TABLE, ips[4:] + ips[:4], entries) is None
    assert frame_section(0, ips, entries) is None


def test_random_entries_give_a_section_that_can_be_read() -> None:
    rng = random.Random(5)
    for _ in range(50):
        count = rng.randrange(1, 40)
        places = sorted(rng.randrange(1 << 20) for _ in range(count))
        ips = b"".join(struct.pack("<i", TEXT + at - TABLE - 4 * n) for n, at in enumerate(places))
        section = frame_section(TABLE, ips, rng.randbytes(6 * count))
        assert section is not None
        rules(section)
