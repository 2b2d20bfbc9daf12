"""The kernel's symbol table in memory: layouts of several releases, and memory that only looks like one."""

import random
import struct

import pytest

from hv.debug.kallsyms import SIGNATURE_SIZE, decode, has_tables, signatures
from hv.debug.symbol import Symbol
from tests.helpers.kallsyms_image import BASE, Image, Layout, build

PER_CPU = [(0, "A", "fixed_percpu_data"), (0, "A", "__per_cpu_start"), (0x6000, "A", "cpu_tss_rw")]
KERNEL = [
    (BASE + 16 * n, "tTdDrRbBW"[n % 9], f"do_initer_{n}_cpu{'_of_spin_locking' * (n % 7)}")
    for n in range(1500)
]
BIG = (BASE + (1 << 20), "T", "x" * 300)


def found(data: bytes) -> list[Symbol] | None:
    """What `decode` makes of the first signature that it takes."""
    for place in signatures(data):
        table = decode(data, place)
        if table is not None:
            assert has_tables(data, place)
            return list(table.symbols)
    return None


def as_symbols(rows: list[tuple[int, str, str]]) -> list[Symbol]:
    return [Symbol(*row) for row in rows]


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: f"linux-{layout.value}")
@pytest.mark.parametrize("per_cpu", [True, False], ids=["absolute-per-cpu", "no-absolute"])
def test_symbols_are_those_that_the_build_wrote(layout: Layout, per_cpu: bool) -> None:
    rows = [*(PER_CPU if per_cpu else []), *KERNEL, BIG]
    noise = random.Random(4).randbytes(3000)
    image = build(rows, layout, per_cpu=per_cpu, before=noise, after=noise)
    assert found(image.data) == as_symbols(rows)


def test_the_relative_base_is_told_with_its_place() -> None:
    image = build(KERNEL, Layout.V6_5)
    [place] = signatures(image.data)
    table = decode(image.data, place)
    assert table is not None
    assert (table.relative_base, table.relative_base_at) == (BASE, image.relative_base)


def test_a_moved_kernel_has_the_same_symbols_at_other_addresses() -> None:
    image = build([*PER_CPU, *KERNEL], Layout.V4_20)
    moved = bytearray(image.data)
    struct.pack_into("<Q", moved, image.relative_base, BASE + 0x1A0_0000)
    expected = as_symbols([*PER_CPU, *[(address + 0x1A0_0000, kind, name) for address, kind, name in KERNEL]])
    assert found(bytes(moved)) == expected


def test_a_table_of_ascending_characters_is_no_token_table() -> None:
    ascii_table = b"\0".join(bytes([n]) for n in range(256)) + b"\0"
    assert list(signatures(bytes(4096) + ascii_table)) == []


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: f"linux-{layout.value}")
def test_a_signature_at_every_alignment_of_the_piece_is_seen(layout: Layout) -> None:
    image = build(KERNEL, layout)
    [place] = signatures(image.data)
    for cut in range(place - 1, place + SIGNATURE_SIZE + 1):
        pieces = [(0, image.data[: cut + SIGNATURE_SIZE]), (cut, image.data[cut:])]
        seen = {start + at for start, data in pieces for at in signatures(data)}
        assert seen == {place}


def damaged(image: Image, rng: random.Random) -> bytes:
    """The image with a few bytes changed, most of them where lengths and counts are."""
    data = bytearray(image.data)
    for _ in range(rng.choice([1, 1, 2, 5, 50])):
        near = rng.choice(
            [image.token_table, image.relative_base, 0, len(data) - 1, rng.randrange(len(data))]
        )
        at = min(max(0, near + rng.randrange(-64, 64)), len(data) - 1)
        data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) :]
    return bytes(data)


@pytest.mark.parametrize("layout", list(Layout), ids=lambda layout: f"linux-{layout.value}")
def test_damage_gives_other_symbols_or_none_but_never_an_error(layout: Layout) -> None:
    rng = random.Random(layout.value)
    image = build([*PER_CPU, *KERNEL[:400]], layout, before=rng.randbytes(2000), after=rng.randbytes(2000))
    outcomes = set()
    for _ in range(300):
        symbols = found(damaged(image, rng))
        assert symbols is None or all(0 <= s.address < 1 << 64 and s.name.isprintable() for s in symbols)
        outcomes.add(symbols is None)
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("at", "value"),
    [("count", 255), ("count", 1 << 21), ("count", (1 << 64) - 1), ("base", 0), ("base", (1 << 64) - 1)],
)
def test_counts_and_bases_that_cannot_be_are_refused(at: str, value: int) -> None:
    image = build(KERNEL, Layout.V4_20)
    data = bytearray(image.data)
    struct.pack_into("<Q", data, image.relative_base + (8 if at == "count" else 0), value)
    assert found(bytes(data)) is None


def test_many_tables_that_lead_nowhere_end_soon() -> None:
    """A count and a chain of names at every eighth byte: the work stays bounded."""
    image = build(KERNEL, Layout.V4_20)
    chain = bytes([8, ord("T"), *b"aaaaaaa"]) * 40_000
    traps = b"".join(struct.pack("<Q", 300_000) for _ in range(2000))
    data = traps + chain[: len(chain) // 8 * 8] + image.data[image.token_table :]
    [place] = signatures(data)
    assert decode(data, place) is None
