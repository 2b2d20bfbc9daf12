import struct
from itertools import pairwise

import pytest

from hv.errors import ImageError
from hv.loaders import BootImage, BootMode, ImageKind
from hv.loaders.image import LoadRequest, Module
from hv.loaders.load import load_bytes
from tests.hv.loaders.images import GIB, MIB, bzimage, read, read_string


def load(data: bytes, *, ram: int = 256 * MIB, cmdline: bytes = b"", initrd: bytes = b"") -> BootImage:
    modules = (Module("initrd", initrd, b""),) if initrd else ()
    return load_bytes(LoadRequest("vmlinuz", data, ram, cmdline, modules, 0xE0000))


def zero_page(image: BootImage) -> bytes:
    return read(image.chunks, image.state.rsi, 4096)


def refusal(data: bytes, **kwargs: object) -> str:
    with pytest.raises(ImageError) as caught:
        load(data, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_kernel_is_entered_in_long_mode_200h_past_its_preferred_address() -> None:
    code = bytes(range(256)) * 4
    image = load(bzimage(code=code))
    assert image.kind is ImageKind.LINUX64
    assert image.entry == 0x1000200
    assert read(image.chunks, 0x1000000, len(code)) == code
    state = image.state
    assert state.mode is BootMode.LONG64
    assert state.cr0 & 0x80000001 == 0x80000001
    assert state.cr4 == 0x20
    assert state.efer == 0x500
    assert state.rflags == 2


def test_segments_are_the_documented_selectors_and_match_the_gdt() -> None:
    state = load(bzimage()).state
    chunks = load(bzimage()).chunks
    assert [s.selector for s in (state.cs, state.ss, state.ds, state.es)] == [0x10, 0x18, 0x18, 0x18]
    gdt = read(chunks, state.gdtr.base, state.gdtr.limit + 1)
    assert gdt[0x10:0x18].hex() == "ffff0000009baf00"
    assert gdt[0x18:0x20].hex() == "ffff00000093cf00"


def test_page_tables_map_ram_and_4_gib_to_themselves() -> None:
    for ram, gib in ((256 * MIB, 4), (4 * GIB, 5)):
        image = load(bzimage(), ram=ram)
        for address in (0, 0x1000200, 0xFEE00000, gib * GIB - 1):
            assert translate(image, address) == address
        with pytest.raises(LookupError):
            translate(image, gib * GIB)


def translate(image: BootImage, address: int) -> int:
    table = image.state.cr3
    for shift in (39, 30, 21):
        (entry,) = struct.unpack("<Q", read(image.chunks, table + (address >> shift & 511) * 8, 8))
        if entry & 3 != 3:
            raise LookupError(hex(address))
        if shift == 21:
            assert entry & 0x80
            return int((entry & ~0x1FFFFF) | (address & 0x1FFFFF))
        table = entry & ~0xFFF
    raise AssertionError


def test_zero_page_has_the_header_and_the_loader_fields() -> None:
    image = load(bzimage(), cmdline=b"console=ttyS0")
    page = zero_page(image)
    assert page[0x202:0x206] == b"HdrS"
    assert page[0x1EF] == 0  # sentinel
    assert page[0x210] == 0xFF  # type_of_loader
    assert page[0x211] == 0x01  # LOADED_HIGH only
    assert struct.unpack_from("<I", page, 0x214)[0] == 0x1000000
    assert struct.unpack_from("<Q", page, 0x70)[0] == 0xE0000
    assert struct.unpack_from("<Q", page, 0x250)[0] == 0  # setup_data
    assert read_string(image.chunks, struct.unpack_from("<I", page, 0x228)[0]) == b"console=ttyS0"
    assert struct.unpack_from("<II", page, 0x218) == (0, 0)


def test_zero_page_lists_the_memory() -> None:
    page = zero_page(load(bzimage(), ram=4 * GIB))
    entries = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * n) for n in range(page[0x1E8])]
    assert entries == [
        (0, 0x9FC00, 1),
        (0x9FC00, 0x400, 2),
        (0xE0000, 0x20000, 2),
        (0x100000, 0xBFF00000, 1),
        (0x1_0000_0000, 0x40000000, 1),
    ]


def test_initrd_lies_as_high_as_the_kernel_allows() -> None:
    initrd = b"i" * 5000
    for ram, top in ((256 * MIB, 0x10000000), (4 * GIB, 0x80000000)):
        image = load(bzimage(), ram=ram, initrd=initrd)
        gpa, size = struct.unpack_from("<II", zero_page(image), 0x218)
        assert (gpa, size) == (top - 0x2000, 5000)
        assert read(image.chunks, gpa, size) == initrd


def test_several_initrds_are_joined_at_multiples_of_four() -> None:
    modules = (Module("a", b"12345", b""), Module("b", b"xyz", b""))
    image = load_bytes(LoadRequest("vmlinuz", bzimage(), 256 * MIB, b"", modules))
    gpa, size = struct.unpack_from("<II", zero_page(image), 0x218)
    assert read(image.chunks, gpa, size) == b"12345\0\0\0xyz"


def test_chunks_lie_in_ram_and_do_not_overlap() -> None:
    for ram in (32 * MIB, 256 * MIB, 64 * GIB):
        image = load(bzimage(), ram=ram, cmdline=b"c" * 2000, initrd=b"i" * MIB)
        spans = sorted((gpa, gpa + len(content)) for gpa, content in image.chunks)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert spans[0][0] >= 0x1000
        assert not any(start < 0x100000 and end > 0x98000 for start, end in spans)
        assert spans[-1][1] <= min(ram, 0xC0000000)


def test_kernel_moves_down_where_memory_is_short() -> None:
    image = load(bzimage(init_size=0x600000), ram=16 * MIB)
    assert image.entry == 0x200200


def test_kernel_that_cannot_move_is_loaded_at_1_mib() -> None:
    image = load(bzimage(relocatable=0, alignment=0))
    assert image.entry == 0x100200


def test_32_bit_kernel_is_entered_in_protected_mode() -> None:
    image = load(bzimage(xloadflags=0))
    state = image.state
    assert image.kind is ImageKind.LINUX32
    assert state.mode is BootMode.PROTECTED32
    assert image.entry == 0x1000000
    assert state.cr0 == 0x11
    assert (state.rbx, state.rbp, state.rdi) == (0, 0, 0)
    assert (state.cs.selector, state.ds.selector, state.cs.limit) == (0x10, 0x18, 0xFFFFFFFF)
    assert zero_page(image)[0x202:0x206] == b"HdrS"


def test_setup_sects_of_zero_means_four() -> None:
    image = load(bzimage(setup_sects=0, code=b"K" * 0x400))
    assert read(image.chunks, 0x1000000, 4) == b"KKKK"


def test_description_is_the_version_string_made_printable() -> None:
    assert load(bzimage()).description == "Linux 6.1.0-test (x) #1"
    assert load(bzimage(name=b"6\n\x1b[31m\0")).description == "Linux 6\\n\\x1b[31m"


def test_load_bias_is_unknown_because_the_kernel_moves_itself() -> None:
    assert load(bzimage()).load_bias is None


@pytest.mark.parametrize("size", [0x206, 0x263, 0x600, 0x7FF, 0x9F0])
def test_truncated_kernels_are_refused_at_every_length(size: int) -> None:
    assert "truncated" in refusal(bzimage()[:size])


def test_the_last_paragraph_of_a_kernel_need_not_be_whole() -> None:
    whole = bzimage()
    assert read(load(whole[:-15]).chunks, 0x1000000, 4) == read(load(whole).chunks, 0x1000000, 4)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 0x209}, "boot protocol 2.09"),
        ({"loadflags": 0}, "zImage"),
        ({"code": b""}, "no protected-mode code"),
        ({"code": b"x" * 0x200}, "too short"),
        ({"alignment": 0}, "alignment"),
        ({"alignment": 0x300000}, "alignment"),
        ({"init_size": 0xFFFFFFFF}, "below 4 GiB"),
        ({"init_size": 0x20000000}, "does not lie in the guest's RAM"),
        ({"relocatable": 0, "pref_address": 0xFFFF_FFFF_FFFF_F000}, "below 4 GiB"),
        ({"syssize": 0xFFFFFFFF}, "truncated"),
    ],
)
def test_damaged_headers_are_refused(fields: dict[str, int], reason: str) -> None:
    assert reason in refusal(bzimage(**fields))  # type: ignore[arg-type]


def test_absurd_preferred_address_falls_back_to_the_lowest_one() -> None:
    assert load(bzimage(pref_address=0xFFFF_FFFF_FFE0_0000)).entry == 0x200200


def test_command_line_longer_than_the_kernel_takes_is_refused() -> None:
    assert "at most 100 bytes, not 101" in refusal(bzimage(cmdline_size=100), cmdline=b"c" * 101)
    load(bzimage(cmdline_size=100), cmdline=b"c" * 100)


def test_initrd_that_does_not_fit_is_refused() -> None:
    assert "no room for the initrd" in refusal(bzimage(), ram=25 * MIB, initrd=b"i" * (20 * MIB))
    assert "no room for the initrd" in refusal(bzimage(initrd_addr_max=0), initrd=b"i")
