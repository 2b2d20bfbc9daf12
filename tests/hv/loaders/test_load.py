import os
import random
import struct
from pathlib import Path

import pytest

from hv.errors import ConfigError, HvError, ImageError
from hv.loaders import BootMode, ImageKind, load_image
from hv.loaders.image import LoadRequest, Module
from hv.loaders.load import load_bytes
from tests.hv.loaders.images import MIB, boot_sector, bzimage, elf, multiboot_header, pvh_note, read


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def refusal(path: str, **kwargs: object) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, ram_size=64 * MIB, **kwargs)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.path in text
    return text


def test_boot_sector_starts_at_7c00_in_real_mode(tmp_path: Path) -> None:
    data = boot_sector()
    image = load_image(write(tmp_path / "boot", data), ram_size=MIB)
    state = image.state
    assert image.kind is ImageKind.FLAT
    assert state.mode is BootMode.REAL
    assert (state.cs.selector, state.cs.base, state.rip) == (0, 0, 0x7C00)
    assert state.rdx & 0xFF == 0x80
    assert state.cr0 & 1 == 0
    assert (state.idtr.base, state.idtr.limit) == (0, 0x3FF)
    assert read(image.chunks, 0x7C00, 512) == data


def test_disk_images_and_cut_kernels_are_no_boot_sectors(tmp_path: Path) -> None:
    assert "single sector" in refusal(write(tmp_path / "disk", boot_sector() + bytes(512)))
    assert "truncated" in refusal(write(tmp_path / "cut", b"MZ" + boot_sector()[2:]))
    assert "no --append" in refusal(write(tmp_path / "boot", boot_sector()), cmdline="x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "not a guest image"),
        (bytes(4096), "not a guest image"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"\xfd7zXZ\0" + bytes(100), "xz"),
        (b"QFI\xfb" + bytes(100), "qcow2"),
        (b"MZ" + bytes(600), "EFI"),
        (bytes(16) + b"\xd6\x50\x52\xe8" + bytes(100), "Multiboot 2"),
        (b"", "is empty"),
    ],
)
def test_foreign_files_get_one_line_that_says_what_they_are(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in refusal(write(tmp_path / "file", data))


def test_what_is_not_a_readable_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "missing"))
    assert "directory" in refusal(str(tmp_path))
    assert "neither a regular file" in refusal("/dev/zero")
    assert "not a file name" in refusal_path("a\0b")


def refusal_path(path: str) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, ram_size=64 * MIB)
    return str(caught.value)


def test_oversized_files_are_refused_unread(tmp_path: Path) -> None:
    kernel, huge = write(tmp_path / "kernel", bzimage()), tmp_path / "huge"
    with open(huge, "wb") as file:
        file.truncate(5 << 30)
    assert "larger than" in refusal(str(huge))
    assert "larger than the guest's RAM (64 MiB)" in refusal(kernel, initrd=[str(huge)])


def test_image_can_come_through_a_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, boot_sector())
    os.close(write_end)
    try:
        image = load_image(f"/dev/fd/{read_end}", ram_size=MIB)
    finally:
        os.close(read_end)
    assert image.kind is ImageKind.FLAT


def test_module_names_and_arguments(tmp_path: Path) -> None:
    code = multiboot_header().ljust(64, b"\x90")
    kernel = write(tmp_path / "kernel", elf([(0x100000, 0x100000, code, 64)], bits=32))
    plain = write(tmp_path / "plain.bin", b"P")
    spaced = write(tmp_path / "with space", b"S")
    image = load_image(kernel, ram_size=64 * MIB, initrd=[f"{plain} x=1 y", spaced])
    info = read(image.chunks, image.state.rbx, 116)
    count, mods = struct.unpack_from("<II", info, 20)
    assert count == 2
    strings = [struct.unpack("<I", read(image.chunks, mods + 16 * n + 8, 4))[0] for n in range(2)]
    assert [read(image.chunks, s, 16).partition(b"\0")[0] for s in strings] == [b"x=1 y", b"with space"]


def test_impossible_arguments_are_configuration_errors(tmp_path: Path) -> None:
    kernel = write(tmp_path / "kernel", bzimage())
    for cmdline in ("a\0b", "c" * 70_000, "\ud800"):
        with pytest.raises(ConfigError):
            load_image(kernel, ram_size=64 * MIB, cmdline=cmdline)
    with pytest.raises(ConfigError):
        load_image(kernel, ram_size=1000)


def test_command_line_bytes_reach_the_guest_as_typed(tmp_path: Path) -> None:
    kernel = write(tmp_path / "kernel", bzimage())
    image = load_image(kernel, ram_size=64 * MIB, cmdline=os.fsdecode(b"caf\xc3\xa9 \xff"))
    assert any(content == b"caf\xc3\xa9 \xff\0" for _, content in image.chunks)


def test_the_same_request_gives_the_same_image() -> None:
    request = LoadRequest("k", bzimage(), 64 * MIB, b"x", (Module("i", b"i" * 99, b""),), 0xE0000)
    assert load_bytes(request) == load_bytes(request)


def test_errors_stay_on_one_line_whatever_the_path_is() -> None:
    error = ImageError("a\nb\x1b[2J" + "x" * 1000, "is bad")
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    assert str(error).endswith("is bad")


VALID = {
    "linux": bzimage(),
    "linux32": bzimage(xloadflags=0),
    "pvh": elf([(0, 0x1000000, b"\x90" * 64, 0x3000)], notes=pvh_note(0x1000000)),
    "multiboot": elf(
        [(0x100000, 0x100000, multiboot_header(3).ljust(64, b"\x90"), 0x2000)], bits=32, entry=0x100010
    ),
    "addresses": multiboot_header(0x10000, (0x200000, 0x200000, 0, 0x201000, 0x200020)).ljust(200, b"\0"),
    "boot sector": boot_sector(),
}
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)


@pytest.mark.parametrize("name", VALID)
def test_damaged_images_load_inside_ram_or_are_refused(name: str) -> None:
    rng = random.Random(name)
    ram = 64 * MIB
    modules = (Module("m", b"m" * 4000, b"m"),)
    refusals: list[str] = []
    for _ in range(1500):
        data = bytearray(VALID[name])
        start = rng.choice((0, 0x1F1)) if name.startswith("linux") else 0
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(start, min(len(data), start + 300))
            size = rng.choice((1, 1, 2, 4, 8))
            data[at : at + size] = bytes([rng.choice((*EXTREMES, rng.randrange(256)))]) * size
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            image = load_bytes(LoadRequest("k", bytes(data), ram, b"c", modules))
        except HvError as error:
            refusals.append(str(error))
            continue
        taken: list[tuple[int, int]] = []
        for gpa, content in image.chunks:
            end = gpa + len(content)
            assert 0x500 <= gpa < end <= 0x9FC00 or 0x100000 <= gpa < end <= ram
            assert not any(a < end and gpa < b for a, b in taken)
            taken.append((gpa, end))
        assert 0 <= image.entry < 1 << 32
    assert refusals
    assert not any("\n" in text for text in refusals)
