"""Recognising an image and loading it: the one entry point of the package."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hv.errors import ConfigError, ImageError
from hv.firmware.acpi import RSDP_GPA
from hv.loaders.elf import is_elf, parse_elf
from hv.loaders.files import MAX_IMAGE_SIZE, read_file
from hv.loaders.flat import is_boot_sector, load_flat
from hv.loaders.image import BootImage, LoadRequest, Module
from hv.loaders.linux import is_linux, load_linux
from hv.loaders.multiboot import find_header, load_multiboot
from hv.loaders.pvh import load_pvh, phys32_entry

MAX_CMDLINE: Final = 0x1_0000
_MAX_MODULES: Final = 64
_KNOWN: Final = "a Linux bzImage, an ELF kernel with a PVH note or Multiboot header, or a boot sector"

# First bytes of what people try first, and what to do about it.
_FOREIGN: Final = (
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first"),
    (b"\xfd7zXZ\x00", "is compressed with xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first"),
    (b"QFI\xfb", "is a qcow2 disk image", f"give {_KNOWN}"),
    (b"MZ", "is an EFI program or a truncated Linux kernel", f"give {_KNOWN}"),
    (b"!<arch>\n", "is an archive of object files", "link it first"),
    (b"070701", "is a cpio archive", "give it with --initrd"),
)
_MULTIBOOT2_MAGIC: Final = b"\xd6\x50\x52\xe8"
_MULTIBOOT2_SEARCH: Final = 0x8000


def load_image(
    path: str | os.PathLike[str],
    *,
    ram_size: int,
    cmdline: str = "",
    initrd: Sequence[str | os.PathLike[str]] = (),
    rsdp_gpa: int = RSDP_GPA,
) -> BootImage:
    """Read and load the image at `path` for a machine with `ram_size` bytes of RAM.

    `initrd` names the files given to the guest beside it: `FILE`, or `FILE ARGUMENTS` for a
    Multiboot or PVH module with a command line. `rsdp_gpa` is told to the guest.
    Raises `ImageError` or `ConfigError`, each one line, and has no other effect.
    """
    arguments = _cmdline_bytes(cmdline)
    if len(initrd) > _MAX_MODULES:
        raise ConfigError(f"{len(initrd)} files; at most {_MAX_MODULES} are possible", "--initrd")
    name = os.fspath(path)
    data = read_file(name, MAX_IMAGE_SIZE, "any kernel")
    modules = tuple(_read_module(os.fspath(spec), ram_size) for spec in initrd)
    return load_bytes(LoadRequest(name, data, ram_size, arguments, modules, rsdp_gpa))


def load_bytes(request: LoadRequest) -> BootImage:
    """Load an image whose files have been read. Pure: the same request gives the same image.

    An ELF file's PVH note is preferred over its Multiboot header, as it is made for this use.
    """
    data = request.data
    if is_linux(data):
        return load_linux(request)
    elf = parse_elf(request.path, data) if is_elf(data) else None
    if elf is not None and (entry := phys32_entry(elf)) is not None:
        return replace(load_pvh(request, elf, entry), elf=data)
    header = find_header(data)
    if header is not None:
        image = load_multiboot(request, header, elf)
        return image if elf is None else replace(image, elf=data)
    if elf is None and is_boot_sector(data):
        return load_flat(request)
    raise _unknown(request, is_elf_file=elf is not None)


def _unknown(request: LoadRequest, *, is_elf_file: bool) -> ImageError:
    if _MULTIBOOT2_MAGIC in request.data[:_MULTIBOOT2_SEARCH]:
        what = "has a Multiboot 2 header only"
        return ImageError(request.path, what, "add a Multiboot 1 header or a PVH note")
    if is_elf_file:
        what = "is an ELF executable with neither a PVH note nor a Multiboot header"
        return ImageError(request.path, what, "a Linux vmlinux has the note with CONFIG_PVH")
    for magic, what, advice in _FOREIGN:
        if request.data.startswith(magic):
            return ImageError(request.path, what, advice)
    return ImageError(request.path, "is not a guest image", f"give {_KNOWN}")


def _cmdline_bytes(text: str) -> bytes:
    """The command line as the bytes that the user typed."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ConfigError("the command line cannot be encoded as UTF-8", "--append") from None
    if b"\0" in encoded:
        raise ConfigError("a command line cannot contain a zero byte", "--append")
    if len(encoded) >= MAX_CMDLINE:
        raise ConfigError(f"{len(encoded)} bytes; at most {MAX_CMDLINE - 1} are possible", "--append")
    return encoded


def _read_module(spec: str, ram_size: int) -> Module:
    """`FILE` or `FILE ARGUMENTS`; a file whose name has a space in it wins."""
    path, arguments = spec, ""
    if " " in spec and not os.path.exists(spec):
        path, _, arguments = spec.partition(" ")
    cmdline = _cmdline_bytes(arguments or os.path.basename(path))
    return Module(path, read_file(path, ram_size, "the guest's RAM"), cmdline)
