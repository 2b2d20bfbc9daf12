from itertools import pairwise

import pytest

from hv.errors import ConfigError
from hv.firmware.e820 import E820Entry, E820Type, memory_map, pack_e820

MIB = 1 << 20
GIB = 1 << 30


def ranges(ram_size: int) -> list[tuple[int, int, int]]:
    return [(e.base, e.end, int(e.type)) for e in memory_map(ram_size)]


def test_256_mib_is_one_range_below_640_kib_and_one_above_1_mib() -> None:
    assert ranges(256 * MIB) == [
        (0, 0x9FC00, 1),
        (0x9FC00, 0xA0000, 2),
        (0xE0000, 0x100000, 2),
        (0x100000, 0x10000000, 1),
    ]


def test_ram_beyond_3_gib_continues_at_4_gib() -> None:
    assert ranges(4 * GIB)[-2:] == [(0x100000, 0xC0000000, 1), (0x1_0000_0000, 0x1_4000_0000, 1)]
    assert ranges(3 * GIB)[-1] == (0x100000, 0xC0000000, 1)


def test_ranges_are_ordered_and_do_not_overlap() -> None:
    for size in (MIB, 2 * MIB, 3 * GIB + 4096, 64 * GIB):
        spans = ranges(size)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_listed_ram_is_all_ram_but_the_legacy_megabyte() -> None:
    for size in (2 * MIB, 5 * GIB):
        ram = sum(end - start for start, end, kind in ranges(size) if kind == 1)
        assert ram == size - (MIB - 0x9FC00)


@pytest.mark.parametrize("size", [0, -4096, 4096, MIB - 4096, MIB + 1, (1 << 40) + 4096])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigError) as caught:
        memory_map(size)
    assert caught.value.option == "-m"
    assert "\n" not in str(caught.value)


def test_entries_are_packed_into_20_bytes() -> None:
    packed = pack_e820([E820Entry(0x100000, 0x200000, E820Type.ACPI)])
    assert packed.hex() == "0000100000000000" + "0000200000000000" + "03000000"
