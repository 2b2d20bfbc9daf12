"""Assembles `cases.S`, runs it on the core or on QEMU, and reads the log that it writes to port 0xE9."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from accel import ffi, lib
from tests.helpers.patience import HANG_S

SOURCE = Path(__file__).with_name("cases.S")
ROM_SIZE = 0x10000
RF = 1 << 16
TICK_LIMIT = 2_000_000


@dataclass(frozen=True, slots=True)
class Caught:
    """An exception as its handler saw it; `flags` without the arithmetic flags."""

    vector: int
    error: int
    ip: int
    cs: int
    flags: int


Entry = Caught | int
"""An exception or a value that a case printed."""

Log = dict[int, list[Entry]]
"""What each case printed, by number."""


def assemble(directory: Path, *, strict: bool) -> bytes:
    """The ROM image, 64 KiB."""
    obj, elf, image = directory / "cases.o", directory / "cases.elf", directory / "cases.bin"
    define = ["-DSTRICT"] if strict else []
    subprocess.run(["gcc", *define, "-c", "-o", str(obj), str(SOURCE)], check=True)
    link = ["ld", "-m", "elf_x86_64", "-Ttext=0xf0000", "-e", "0xf0000"]
    subprocess.run([*link, "-o", str(elf), str(obj)], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", str(elf), str(image)], check=True)
    data = image.read_bytes()
    assert len(data) == ROM_SIZE
    return data


def parse(data: bytes) -> tuple[Log, bool]:
    """The log of a run, and whether the ROM came to its end."""
    log: Log = {}
    entries: list[Entry] = []
    position = 0
    while position < len(data):
        kind = data[position : position + 1]
        position += 1
        if kind == b"C":
            entries = log.setdefault(struct.unpack_from("<H", data, position)[0], [])
            position += 2
        elif kind == b"V":
            entries.append(struct.unpack_from("<I", data, position)[0])
            position += 4
        elif kind == b"E":
            entries.append(Caught(*struct.unpack_from("<BIIHI", data, position)))
            position += 15
        else:
            return log, kind == b"Z"
    return log, False


class Machine:
    """A machine of the core with 640 KiB of RAM, the ROM at its two addresses, and ports 0xE9 and 0xF4."""

    def __init__(self, image: bytes, model: int = 1) -> None:
        out = ffi.new("accel_machine **")
        assert lib.accel_machine_new(out) == lib.ACCEL_OK
        self.machine = ffi.gc(out[0], lib.accel_machine_free)
        assert lib.accel_slot_add(self.machine, 0, 0xA0000, 0) == lib.ACCEL_OK
        for base in (0xF0000, 0xFFFF0000):
            assert lib.accel_slot_add(self.machine, base, ROM_SIZE, lib.ACCEL_SLOT_ROM) == lib.ACCEL_OK
            self.write(base, image)
        cpu = ffi.new("accel_cpu **")
        assert lib.accel_cpu_new(self.machine, 0, 1, model, 10**9, 0, cpu) == lib.ACCEL_OK
        self.cpu = cpu[0]
        self.output = bytearray()
        self.exit = ffi.new("accel_exit *")

    def write(self, gpa: int, data: bytes) -> None:
        """Writes physical memory."""
        status = lib.accel_phys_write(self.machine, gpa, data, len(data), lib.ACCEL_ORIGIN_LOADER)
        assert status == lib.ACCEL_OK

    def run(self, until: int = TICK_LIMIT) -> str:
        """Runs to a tick, to the end of the ROM (`end`) or to an exit that nobody serves (its number)."""
        while True:
            assert lib.accel_run(self.cpu, until, self.exit) == lib.ACCEL_OK
            kind = self.exit.kind
            if kind == lib.ACCEL_EXIT_DEADLINE:
                return "deadline"
            if kind == lib.ACCEL_EXIT_CR8:
                continue
            if kind != lib.ACCEL_EXIT_INOUT:
                return f"exit {kind} at {self.exit.rip:#x}"
            if not self.exit.write:
                assert lib.accel_answer(self.cpu, 0xE9 if self.exit.number == 0xE9 else 0xFF) == lib.ACCEL_OK
            elif self.exit.number == 0xE9:
                self.output.append(self.exit.value & 0xFF)
            elif self.exit.number == 0xF4:
                return "end"

    def save(self) -> bytes:
        """The canonical state of the CPU."""
        size = lib.accel_cpu_save_size()
        buffer = ffi.new("uint8_t[]", size)
        assert lib.accel_cpu_save(self.cpu, buffer, size) == lib.ACCEL_OK
        return bytes(ffi.buffer(buffer))

    def load(self, state: bytes) -> int:
        """Loads a saved state; the status."""
        status: int = lib.accel_cpu_load(self.cpu, state, len(state))
        return status

    def ram(self) -> bytes:
        """All of RAM."""
        buffer = ffi.new("uint8_t[]", 0xA0000)
        assert lib.accel_phys_read(self.machine, 0, buffer, 0xA0000) == lib.ACCEL_OK
        return bytes(ffi.buffer(buffer))

    def get(self, name: str) -> int:
        """A register by name."""
        number = lib.accel_reg_find(name.encode())
        assert number >= 0, name
        size = lib.accel_reg_size(number)
        buffer = ffi.new("uint8_t[]", size)
        assert lib.accel_reg_get(self.cpu, number, buffer, size) == lib.ACCEL_OK
        return int.from_bytes(bytes(ffi.buffer(buffer)), "little")

    def set(self, name: str, value: int) -> int:
        """Writes a register by name; the status."""
        number = lib.accel_reg_find(name.encode())
        assert number >= 0, name
        size = lib.accel_reg_size(number)
        status: int = lib.accel_reg_set(self.cpu, number, value.to_bytes(size, "little"), size)
        return status


def run_core(image: bytes) -> tuple[Log, bool]:
    """The log of the core."""
    machine = Machine(image)
    machine.run()
    return parse(bytes(machine.output))


def run_qemu(image: bytes, directory: Path) -> tuple[Log, bool]:
    """The log of QEMU's TCG."""
    rom, output = directory / "rom.bin", directory / "qemu.log"
    rom.write_bytes(image)
    qemu = shutil.which("qemu-system-x86_64")
    assert qemu, "qemu-system-x86_64 is missing (Debian package qemu-system-x86)"
    subprocess.run(
        [
            qemu, "-M", "pc,accel=tcg", "-cpu", "Nehalem", "-m", "16", "-nodefaults", "-display", "none",
            "-no-reboot", "-bios", str(rom), "-debugcon", f"file:{output}",
            "-device", "isa-debug-exit,iobase=0xf4",
        ],
        timeout=HANG_S, check=False,
    )  # fmt: skip
    return parse(output.read_bytes())
