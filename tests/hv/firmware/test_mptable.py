import struct
from itertools import pairwise

from hv.firmware.mptable import build_mptable
from hv.firmware.tables import firmware_chunks


def test_floating_pointer_leads_to_the_configuration_table() -> None:
    (pointer_gpa, pointer), (table_gpa, table) = build_mptable(2)
    assert 0xF0000 <= pointer_gpa < 0x100000
    assert pointer_gpa % 16 == 0
    assert pointer[:4] == b"_MP_"
    assert struct.unpack_from("<I", pointer, 4)[0] == table_gpa
    assert pointer[8] * 16 == len(pointer)
    assert sum(pointer) & 0xFF == 0
    assert table[:4] == b"PCMP"
    assert sum(table) & 0xFF == 0
    assert struct.unpack_from("<H", table, 4)[0] == len(table)


def test_entry_count_and_sizes_agree() -> None:
    table = build_mptable(3)[1][1]
    sizes = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}
    offset, kinds = 44, []
    while offset < len(table):
        kinds.append(table[offset])
        offset += sizes[table[offset]]
    assert offset == len(table)
    assert len(kinds) == struct.unpack_from("<H", table, 34)[0]
    assert kinds.count(0) == 3
    assert kinds == sorted(kinds)


def test_only_the_first_processor_is_the_boot_processor() -> None:
    table = build_mptable(3)[1][1]
    assert [table[44 + 20 * n + 3] for n in range(3)] == [3, 1, 1]


def test_too_many_processors_leave_the_table_out() -> None:
    assert build_mptable(256) == []


def test_firmware_chunks_do_not_overlap_and_include_the_bios_data_area() -> None:
    chunks = dict(firmware_chunks(16))
    assert struct.unpack_from("<HH", chunks[0x400]) == (0x3F8, 0x2F8)
    assert struct.unpack_from("<H", chunks[0x400], 0xE)[0] == 0x9FC0
    assert struct.unpack_from("<H", chunks[0x400], 0x13)[0] == 639
    spans = sorted((gpa, gpa + len(content)) for gpa, content in chunks.items())
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
