import struct

import pytest

from hv.errors import ImageError
from hv.loaders import BootImage, BootMode, ImageKind
from hv.loaders.image import LoadRequest, Module
from hv.loaders.load import load_bytes
from tests.hv.loaders.images import MIB, elf, multiboot_header, note, pvh_note, read, read_string

CODE = b"\xf4\xeb\xfd" + b"\x90" * 61
KERNEL_BASE = 0xFFFFFFFF81000000


def load(
    data: bytes, *, ram: int = 64 * MIB, cmdline: bytes = b"", modules: tuple[Module, ...] = ()
) -> BootImage:
    return load_bytes(LoadRequest("kernel", data, ram, cmdline, modules, 0xE0000))


def refusal(data: bytes, **kwargs: object) -> str:
    with pytest.raises(ImageError) as caught:
        load(data, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pvh(bits: int = 64, **kwargs: object) -> bytes:
    segments = [(KERNEL_BASE if bits == 64 else 0xC1000000, 0x1000000, CODE, 0x4000)]
    return elf(segments, bits=bits, notes=pvh_note(0x1000010), **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [32, 64])
def test_pvh_kernel_is_entered_at_the_note_in_protected_mode(bits: int) -> None:
    image = load(pvh(bits))
    state = image.state
    assert image.kind is ImageKind.PVH
    assert image.entry == 0x1000010
    assert state.mode is BootMode.PROTECTED32
    assert state.cr0 == 0x11  # PE and the fixed ET
    assert (state.cr3, state.cr4, state.efer) == (0, 0, 0)
    assert (state.cs.base, state.cs.limit, state.cs.attributes & 0x409F) == (0, 0xFFFFFFFF, 0x409B)
    assert (state.ds.base, state.ds.limit, state.ds.attributes & 0x409F) == (0, 0xFFFFFFFF, 0x4093)
    assert (state.tr.base, state.tr.limit, state.tr.attributes & 0xF) == (0, 0x67, 0xB)
    assert read(image.chunks, 0x1000000, len(CODE)) == CODE
    assert image.load_bias == 0


def test_pvh_note_is_found_among_other_notes_and_may_have_eight_bytes() -> None:
    notes = (
        note(b"GNU", 3, b"id!!x")
        + note(b"Xen", 6, b"linux\0")
        + note(b"Xen", 18, struct.pack("<Q", 0x1000020))
    )
    assert load(elf([(0, 0x1000000, CODE, 64)], notes=notes)).entry == 0x1000020


def test_pvh_start_info_describes_the_machine() -> None:
    modules = (Module("initrd", b"I" * 5000, b"args"), Module("second", b"S", b""))
    image = load(pvh(), cmdline=b"quiet", modules=modules)
    info = struct.unpack("<IIIIQQQQII", read(image.chunks, image.state.rbx, 56))
    magic, version, flags, count, modlist, cmdline, rsdp, memmap, entries, reserved = info
    assert (magic, version, flags, count, reserved) == (0x336EC578, 1, 0, 2, 0)
    assert rsdp == 0xE0000
    assert read_string(image.chunks, cmdline) == b"quiet"
    first = struct.unpack("<QQQQ", read(image.chunks, modlist, 32))
    assert first[1] == 5000
    assert first[0] % 4096 == 0
    assert read(image.chunks, first[0], 5000) == b"I" * 5000
    assert read_string(image.chunks, first[2]) == b"args"
    table = [struct.unpack("<QQII", read(image.chunks, memmap + 24 * n, 24)) for n in range(entries)]
    assert table[0] == (0, 0x9FC00, 1, 0)
    assert table[-1] == (0x100000, 63 * MIB, 1, 0)


def multiboot(bits: int, flags: int = 3, entry: int = 0x100020) -> bytes:
    code = multiboot_header(flags).ljust(0x40, b"\x90")
    return elf([(0x100000, 0x100000, code, 0x2000)], bits=bits, entry=entry)


@pytest.mark.parametrize("bits", [32, 64])
def test_multiboot_kernel_gets_its_magic_and_information(bits: int) -> None:
    modules = (Module("a.bin", b"A" * 100, b"a.bin x=1"), Module("b.bin", b"B", b"b.bin"))
    image = load(multiboot(bits), cmdline=b"one two", modules=modules)
    state = image.state
    assert image.kind is ImageKind.MULTIBOOT
    assert image.entry == 0x100020
    assert state.mode is BootMode.PROTECTED32
    assert state.rax == 0x2BADB002
    assert state.cr0 & 0x80000001 == 1
    assert state.rflags & 0x20200 == 0
    info = read(image.chunks, state.rbx, 116)
    flags, lower, upper = struct.unpack_from("<III", info)
    assert flags == 0b10_0100_1101  # memory, command line, modules, memory map, loader name
    assert (lower, upper) == (639, 63 * 1024)
    cmdline, count, mods = struct.unpack_from("<III", info, 16)
    assert read_string(image.chunks, cmdline) == b"one two"
    assert read_string(image.chunks, struct.unpack_from("<I", info, 64)[0]) == b"hv"
    start, end, string, reserved = struct.unpack("<IIII", read(image.chunks, mods, 16))
    assert (count, start % 4096, end - start, reserved) == (2, 0, 100, 0)
    assert start >= 0x102000
    assert read(image.chunks, start, 100) == b"A" * 100
    assert read_string(image.chunks, string) == b"a.bin x=1"


def test_multiboot_memory_map_entries_carry_their_size() -> None:
    image = load(multiboot(32))
    length, gpa = struct.unpack_from("<II", read(image.chunks, image.state.rbx, 116), 44)
    entries = list(struct.iter_unpack("<IQQI", read(image.chunks, gpa, length)))
    assert entries[0] == (20, 0, 0x9FC00, 1)
    assert entries[-1] == (20, 0x100000, 63 * MIB, 1)


def test_multiboot_entry_is_translated_from_the_link_address() -> None:
    code = multiboot_header().ljust(0x40, b"\x90")
    data = elf([(0xC0100000, 0x100000, code, 0x1000)], bits=32, entry=0xC0100010)
    assert load(data).entry == 0x100010


def test_multiboot_addresses_replace_the_elf_headers() -> None:
    body = multiboot_header(0x10000, (0x200010, 0x200000, 0x200080, 0x201000, 0x200044))
    data = b"\x11" * 0x10 + body.ljust(0x70, b"\x22") + b"symbols, not loaded"
    image = load(data)
    assert image.kind is ImageKind.MULTIBOOT
    assert image.entry == 0x200044
    assert read(image.chunks, 0x200000, 0x90)[:0x80] == data[:0x80]
    assert image.segments[0].size == 0x1000


def test_multiboot_addresses_of_zero_mean_the_whole_file() -> None:
    data = multiboot_header(0x10000, (0x200000, 0x200000, 0, 0, 0x200020)).ljust(300, b"\x33")
    image = load(data)
    assert image.segments[0].size == 300
    assert read(image.chunks, 0x200000, 300) == data


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ((0x1FFFFF, 0x200000, 0, 0, 0x200000), "before the start"),
        ((0x200010, 0x200000, 0, 0, 0x200000), "before the start"),
        ((0x200000, 0x200000, 0x1FFFFF, 0, 0x200000), "out of order"),
        ((0x200000, 0x200000, 0x200080, 0x200040, 0x200000), "out of order"),
        ((0x200000, 0x200000, 0x300000, 0, 0x200000), "truncated"),
        ((0x200000, 0x200000, 0, 0, 0x1FFFFF), "none of its segments"),
        ((0xFFFFFF00, 0xFFFFFF00, 0, 0xFFFFFFFF, 0xFFFFFF00), "does not lie in"),
    ],
)
def test_wrong_multiboot_addresses_are_refused(addresses: tuple[int, ...], reason: str) -> None:
    assert reason in refusal(multiboot_header(0x10000, addresses).ljust(128, b"\0"))


def test_multiboot_header_must_be_aligned_early_and_add_up() -> None:
    for prefix in (b"\0" * 2, b"\0" * 8192):
        assert "not a guest image" in refusal(prefix + multiboot_header(0x10000, (0,) * 5))
    broken = bytearray(multiboot(32))
    at = broken.index(b"\x02\xb0\xad\x1b")
    broken[at + 8] ^= 1
    assert "neither a PVH note nor a Multiboot header" in refusal(bytes(broken))


def test_unknown_required_multiboot_features_are_refused() -> None:
    assert "flags 0x8" in refusal(multiboot(32, flags=0xB))


def test_multiboot_header_without_addresses_needs_an_elf_file() -> None:
    assert "without load addresses" in refusal(multiboot_header(3).ljust(64, b"\0"))
    assert "truncated Multiboot header" in refusal(multiboot_header(0x10000))


def test_pvh_note_wins_over_a_multiboot_header() -> None:
    code = multiboot_header().ljust(0x40, b"\x90")
    data = elf([(0x100000, 0x100000, code, 0x1000)], entry=0x100010, notes=pvh_note(0x100020))
    assert (load(data).kind, load(data).entry) == (ImageKind.PVH, 0x100020)


@pytest.mark.parametrize("size", [4, 5, 16, 63, 64, 100, 119, 175, 200])
def test_truncated_elf_files_are_refused(size: int) -> None:
    text = refusal(pvh()[:size])
    assert "truncated" in text or "not for x86" in text


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ([], "without anything to load"),
        ([(0, 0x100000, CODE, 32)], "larger than its memory"),
        ([(0, 64 * MIB - 0x1000, CODE, 0x1001)], "does not lie in the guest's RAM"),
        ([(0, 0xFFFF_FFFF_FFFF_F000, CODE, 0x2000)], "does not lie in the guest's RAM"),
        ([(0, 0xA0000, CODE, 64)], "does not lie in the guest's RAM"),
        ([(0, 0x1000000, CODE, 1 << 60)], "does not lie in the guest's RAM"),
        ([(0, 0, CODE, 64)], "overlaps the interrupt vectors"),
        ([(0x1, 0x1000000, CODE, 0x1000), (0x2, 0x1000FFF, CODE, 64)], "overlaps the segment linked at 0x1"),
    ],
)
def test_segments_that_cannot_be_placed_are_refused(
    segments: list[tuple[int, int, bytes, int]], reason: str
) -> None:
    entry_segment = [(0x10, 0x800000, CODE, 64)] if segments else []
    assert reason in refusal(elf(entry_segment + segments, notes=pvh_note(0x800000)))


def test_entry_outside_every_segment_is_refused() -> None:
    for entry in (0, 0xFFFFFF, 0x1000040):
        data = elf([(0, 0x1000000, CODE, 64)], notes=pvh_note(entry))
        assert "none of its segments" in refusal(data)
    high = elf([(0, 0x1000000, CODE, 64)], notes=note(b"Xen", 18, struct.pack("<Q", 1 << 40)))
    assert "above 4 GiB" in refusal(high)


def test_foreign_and_unlinked_elf_files_are_refused() -> None:
    assert "not for x86" in refusal(pvh(machine=183))
    assert "not for x86" in refusal(pvh(bits=32, machine=62))
    assert "not an executable" in refusal(pvh(e_type=1))
    big_endian = bytearray(pvh())
    big_endian[5] = 2
    assert "not for x86" in refusal(bytes(big_endian))


def test_program_header_counts_and_sizes_are_bounded() -> None:
    many = bytearray(pvh())
    struct.pack_into("<H", many, 56, 0xFFFF)
    assert "65535 program headers" in refusal(bytes(many))
    zero = bytearray(pvh())
    struct.pack_into("<H", zero, 54, 0)
    assert "program headers of 0 bytes" in refusal(bytes(zero))


def test_module_larger_than_the_room_left_is_refused() -> None:
    big = (Module("big", bytes(60 * MIB), b""),)
    assert "no room for the module big" in refusal(pvh(), modules=big)
    assert "no room for the module big" in refusal(
        multiboot(32), modules=(Module("big", bytes(64 * MIB), b""),)
    )
