"""Searching guest memory for a kernel: pieces, hostile memory, and what it costs the machine."""

import random
import struct

import pytest

from hv.debug.kallsyms import WINDOW_BEFORE
from hv.debug.kernel_search import Span, locate, merged
from hv.debug.symbol import Symbol
from hv.debug.symbols import SymbolIndex, elf_symbols
from tests.helpers.kallsyms_image import BASE, Layout, build

MIB = 1 << 20
LINKED = 0xFFFF_FFFF_8100_0000
ROWS = [(BASE, "T", "_text"), *[(BASE + 16 * n, "t", f"function_{n}") for n in range(1, 700)]]


class Memory:
    """Physical memory in a dict of pieces; counts what is read."""

    def __init__(self, *pieces: tuple[int, bytes]) -> None:
        self.pieces = pieces
        self.reads: list[Span] = []

    async def read(self, gpa: int, size: int) -> bytes:
        self.reads.append((gpa, size))
        data = bytearray(size)
        for start, piece in self.pieces:
            low, high = max(gpa, start), min(gpa + size, start + len(piece))
            if low < high:
                data[low - gpa : high - gpa] = piece[low - start : high - start]
        return bytes(data)


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: f"linux-{layout.value}")
async def test_a_kernel_is_found_wherever_its_table_lies(layout: Layout) -> None:
    image = build(ROWS, layout)
    # Its token table across the end of a piece, across that of a page, in the middle.
    for at in (20 * MIB - image.token_table - 200 & ~7, 20 * MIB + 0xF00, 20 * MIB + 0x8_0000):
        memory = Memory((at, image.data))
        kernel = await locate(memory.read, [(18 * MIB, 24 * MIB)], LINKED)
        assert kernel is not None
        assert [(s.address, s.kind, s.name) for s in kernel.symbols] == ROWS
        assert (kernel.text, kernel.slide) == (BASE, BASE - LINKED)
        assert max(size for _, size in memory.reads) <= MIB + 64
        base_gpa = at + image.relative_base
        assert kernel.proofs[0] == (base_gpa, struct.pack("<Q", BASE))


async def test_the_file_as_linked_has_the_addresses_of_the_link() -> None:
    image = build([(0, "A", "__per_cpu_start"), (0x40, "A", "cpu_tss_rw"), *ROWS], Layout.V6_2)
    kernel = await locate(Memory((4 * MIB, image.data)).read, [(0, 8 * MIB)], LINKED)
    assert kernel is not None
    places = {symbol.name: symbol.address for symbol in elf_symbols(kernel.elf(linked=True))}
    assert places["_text"] == LINKED
    assert places["function_5"] == LINKED + 5 * 16
    assert places["cpu_tss_rw"] == 0x40
    moved = {symbol.name: symbol.address for symbol in elf_symbols(kernel.elf())}
    assert moved["function_5"] == BASE + 5 * 16
    assert moved["hv_kernel_slide"] == BASE - LINKED


async def test_a_table_that_leads_nowhere_does_not_hide_the_next() -> None:
    image = build(ROWS, Layout.V4_20)
    decoy = image.data[image.token_table :]
    memory = Memory((2 * MIB, decoy), (WINDOW_BEFORE + 4 * MIB, image.data))
    kernel = await locate(memory.read, [(0, WINDOW_BEFORE + 6 * MIB)], LINKED)
    assert kernel is not None
    assert kernel.text == BASE


async def test_memory_full_of_signatures_ends_the_search_soon() -> None:
    signature = b"\0" + b"".join(b"%d\0" % digit for digit in range(10)) + b"x"
    memory = Memory((0, signature * (4 * MIB // len(signature))))
    assert await locate(memory.read, [(0, 4 * MIB)], LINKED) is None
    assert len(memory.reads) < 60


async def test_many_tables_that_lead_nowhere_end_the_search() -> None:
    image = build(ROWS[:300], Layout.V4_20)
    decoy = image.data[image.token_table :]
    memory = Memory(*[(n * 8192, decoy) for n in range(2000)])
    assert await locate(memory.read, [(0, 16 * MIB)], LINKED) is None
    assert sum(size for _, size in memory.reads) < 400 * MIB


async def test_noise_is_no_kernel() -> None:
    memory = Memory((0, random.Random(3).randbytes(3 * MIB)))
    assert await locate(memory.read, [(0, 3 * MIB)], LINKED) is None


def test_spans_that_touch_become_one() -> None:
    assert merged([(8, 12), (0, 4), (4, 6), (9, 10), (20, 20)]) == [(0, 6), (8, 12)]


def test_an_address_belongs_to_the_symbol_before_it() -> None:
    index = SymbolIndex([Symbol(0x2000, "T", "b"), Symbol(0x1000, "T", "a"), Symbol(0x1000, "T", "alias")])
    assert index.at(0xFFF) is None
    assert index.at(0x1000) == (Symbol(0x1000, "T", "a"), 0)
    assert index.at(0x1FFF) == (Symbol(0x1000, "T", "a"), 0xFFF)
    assert index.at(0x2000 + MIB) is None
    assert index.named("alias") == Symbol(0x1000, "T", "alias")
    assert index.named("c") is None


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF" + bytes(200), b"no ELF file at all"])
def test_a_damaged_file_has_no_symbols(data: bytes) -> None:
    assert elf_symbols(data) == []
