"""Small images for the loader tests, built field by field from the specifications."""

import struct

MIB = 1 << 20
GIB = 1 << 30


def bzimage(
    *,
    version: int = 0x20F,
    xloadflags: int = 1,
    code: bytes = b"\x90" * 0x400,
    setup_sects: int = 2,
    relocatable: int = 1,
    alignment: int = 0x200000,
    pref_address: int = 0x1000000,
    init_size: int = 0x800000,
    initrd_addr_max: int = 0x7FFFFFFF,
    cmdline_size: int = 2047,
    loadflags: int = 0x01,
    syssize: int | None = None,
    name: bytes = b"6.1.0-test (x) #1\0",
) -> bytes:
    setup = bytearray(((setup_sects or 4) + 1) * 512)
    struct.pack_into("<BHI", setup, 0x1F1, setup_sects, 1, len(code) // 16 if syssize is None else syssize)
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x1EF] = 0xFF  # the sentinel, which must not reach the zero page
    struct.pack_into("<BB4sH", setup, 0x200, 0xEB, 0x6A, b"HdrS", version)
    struct.pack_into("<H", setup, 0x20E, 0x400 - 0x200)
    setup[0x211] = loadflags
    struct.pack_into("<I", setup, 0x214, 0x100000)
    struct.pack_into("<I", setup, 0x22C, initrd_addr_max)
    struct.pack_into("<IBBHI", setup, 0x230, alignment, relocatable, 21, xloadflags, cmdline_size)
    struct.pack_into("<Q", setup, 0x250, 0xDEAD0000)  # setup_data: hostile
    struct.pack_into("<QII", setup, 0x258, pref_address, init_size, 0)
    setup[0x400 : 0x400 + len(name)] = name
    return bytes(setup) + code


def note(owner: bytes, kind: int, desc: bytes) -> bytes:
    padded = owner + b"\0"
    return (
        struct.pack("<III", len(padded), len(desc), kind)
        + padded.ljust(-(-len(padded) // 4) * 4, b"\0")
        + desc.ljust(-(-len(desc) // 4) * 4, b"\0")
    )


def pvh_note(entry: int) -> bytes:
    return note(b"Xen", 18, struct.pack("<I", entry))


def elf(
    segments: list[tuple[int, int, bytes, int]],
    *,
    bits: int = 64,
    entry: int = 0x100000,
    notes: bytes = b"",
    machine: int | None = None,
    e_type: int = 2,
) -> bytes:
    """`segments`: (vaddr, paddr, file bytes, memory size)."""
    headers = [(1, data, vaddr, paddr, memsz) for vaddr, paddr, data, memsz in segments]
    if notes:
        headers.append((4, notes, 0, 0, len(notes)))
    ehsize, phsize = (64, 56) if bits == 64 else (52, 32)
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    machine = machine if machine is not None else (62 if bits == 64 else 3)
    at = ehsize + phsize * len(headers)
    table, body = b"", b""
    for kind, data, vaddr, paddr, memsz in headers:
        offset = at + len(body)
        if bits == 64:
            table += struct.pack("<IIQQQQQQ", kind, 7, offset, vaddr, paddr, len(data), memsz, 4)
        else:
            table += struct.pack("<IIIIIIII", kind, offset, vaddr, paddr, len(data), memsz, 7, 4)
        body += data
    word = "Q" if bits == 64 else "I"
    header = ident + struct.pack(
        f"<HHI{word}{word}{word}IHHHHHH",
        *(e_type, machine, 1, entry, ehsize, 0, 0, ehsize, phsize, len(headers), 0, 0, 0),
    )
    return header + table + body


def multiboot_header(flags: int = 0, addresses: tuple[int, ...] = ()) -> bytes:
    magic = 0x1BADB002
    return struct.pack(f"<III{len(addresses)}I", magic, flags, -(magic + flags) & 0xFFFFFFFF, *addresses)


def boot_sector(code: bytes = b"\xf4\xeb\xfd") -> bytes:
    """512 bytes with `code` at their start, where a boot sector begins."""
    return code.ljust(510, b"\0") + b"\x55\xaa"


def read(chunks: tuple[tuple[int, bytes], ...], gpa: int, size: int) -> bytes:
    """`size` bytes of guest memory after the chunks were written over zeroes."""
    memory = bytearray(size)
    for start, content in chunks:
        low, high = max(start, gpa), min(start + len(content), gpa + size)
        if low < high:
            memory[low - gpa : high - gpa] = content[low - start : high - start]
    return bytes(memory)


def read_string(chunks: tuple[tuple[int, bytes], ...], gpa: int) -> bytes:
    return read(chunks, gpa, 4096).partition(b"\0")[0]
