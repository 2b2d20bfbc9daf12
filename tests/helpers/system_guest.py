"""The bare-metal guests of `tests/guests/system`: built, run on the core and on QEMU, logs cut into cases.

A guest writes text on port 0xE9 and ends with a write to port 0xF4; it touches no other device. The core is
driven here without any board: memory, one CPU, and these two ports.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile

from accel import ffi, lib
from tests.helpers.patience import HANG_S

SOURCES: Final = Path(__file__).parent.parent / "guests" / "system"
MEMORY: Final = 64 << 20
ALL_CASES: Final = 0x4C4C4121
DEBUG_PORT: Final = 0xE9
EXIT_PORT: Final = 0xF4
MODEL_MAX: Final = 3
PHYSICAL: Final = 1
WATCH_ACCESS: Final = 3
MAX_TICKS: Final = 200_000_000

EXIT_NAMES: Final = (
    "deadline", "kick", "inout", "mmio", "hlt", "pause", "mtrap", "bpt", "db", "rdmsr", "wrmsr", "irq window",
    "nmi window", "exception", "tpr", "cr8", "watch", "triple fault", "unhandled", "unimplemented", "wait",
)  # fmt: skip


def _files(name: str, suffix: str) -> Iterator[str]:
    """The texts of a guest with this suffix: of the guest that it includes, then its own."""
    source = (SOURCES / f"{name}.S").read_text()
    included = re.findall(r'^#include "(\w+)\.S"', source, re.MULTILINE)
    for each in [*(other for other in included if other != "harness"), name]:
        path = SOURCES / f"{each}.{suffix}"
        yield path.read_text() if path.exists() else ""


def case_names(name: str) -> list[str]:
    """The cases of a guest, in their order."""
    text = "".join(_files(name, "S"))
    return re.findall(r"^(?:MANUAL_)?CASE (\w+)", text, re.MULTILINE)


def build(name: str, directory: Path) -> Path:
    """Assembles and links a guest as a multiboot ELF32 image."""
    obj, linked, image = (directory / f"{name}.{ext}" for ext in ("o", "elf64", "elf"))
    source = SOURCES / f"{name}.S"
    for command in (
        ["gcc", "-c", "-x", "assembler-with-cpp", "-Wa,--fatal-warnings", f"-I{SOURCES}", "-o", obj, source],
        ["ld", "-m", "elf_x86_64", "-z", "noexecstack", "-z", "max-page-size=4096", "--no-warn-rwx-segments",
         "-T", SOURCES / "link.ld", "-o", linked, obj],
        ["objcopy", "-I", "elf64-x86-64", "-O", "elf32-i386", linked, image],
    ):  # fmt: skip
        subprocess.run([str(word) for word in command], check=True)
    return image


def run_on_qemu(image: Path) -> str:
    """The log of a guest under QEMU's own CPU emulation."""
    log = image.with_suffix(".qemu")
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "64", "-kernel", str(image),
        "-nodefaults", "-display", "none", "-no-reboot",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-debugcon", f"file:{log}",
    ]  # fmt: skip
    try:
        subprocess.run(command, capture_output=True, timeout=HANG_S, check=False)
    except subprocess.TimeoutExpired:
        return log.read_text("ascii", "replace") + "\nstopped: timeout\n"
    return log.read_text("ascii", "replace")


class Machine:
    """One CPU of the core with 64 MiB of memory and nothing else."""

    def __init__(self) -> None:
        machine, cpu = ffi.new("accel_machine **"), ffi.new("accel_cpu **")
        assert lib.accel_machine_new(machine) == 0
        self.machine = ffi.gc(machine[0], lib.accel_machine_free)
        assert lib.accel_slot_add(self.machine, 0, MEMORY, 0) == 0
        assert lib.accel_cpu_new(self.machine, 0, 1, MODEL_MAX, 1_000_000_000, 0, cpu) == 0
        self.cpu = cpu[0]
        self.control = lib.accel_cpu_control(self.cpu)
        self.exit = ffi.new("accel_exit *")

    def set(self, name: str, value: int) -> None:
        """Sets a register of up to 8 bytes."""
        number = lib.accel_reg_find(name.encode())
        size = lib.accel_reg_size(number)
        assert lib.accel_reg_set(self.cpu, number, value.to_bytes(size, "little"), size) == 0, name

    def get(self, name: str) -> int:
        """Reads a register."""
        number = lib.accel_reg_find(name.encode())
        value = ffi.new("uint8_t[]", lib.accel_reg_size(number))
        assert lib.accel_reg_get(self.cpu, number, value, len(value)) == 0, name
        return int.from_bytes(bytes(value), "little")

    def write(self, gpa: int, data: bytes) -> None:
        """Writes physical memory."""
        assert lib.accel_phys_write(self.machine, gpa, data, len(data), 5) == 0

    def read(self, gpa: int, size: int) -> bytes:
        """Reads physical memory."""
        data = ffi.new("uint8_t[]", size)
        assert lib.accel_phys_read(self.machine, gpa, data, size) == 0
        return bytes(data)

    def load_multiboot(self, image: Path) -> None:
        """Loads an image; the CPU is in the state of the Multiboot Specification, "Machine state"."""
        with image.open("rb") as file:
            elf = ELFFile(file)
            for segment in elf.iter_segments("PT_LOAD"):
                self.write(segment["p_paddr"], segment.data())
            entry = elf["e_entry"]
        self.set("cr0", 0x11)
        for name, attr in (("cs", 0xC09B), ("ds", 0xC093), ("es", 0xC093), ("ss", 0xC093)):
            self.set(f"{name}_base", 0)
            self.set(f"{name}_limit", 0xFFFFFFFF)
            self.set(f"{name}_attr", attr)
        self.set("rip", entry)
        self.set("rax", 0x2BADB002)
        self.set("rbx", ALL_CASES)

    def step(self, until: int) -> str:
        """Runs to the next exit and returns its name.

        No run exceeds `until`, but for an event that was injected.
        """
        injected = self.control.inject_valid
        assert lib.accel_run(self.cpu, until, self.exit) == 0
        assert lib.accel_ticks(self.cpu) <= until + injected
        return EXIT_NAMES[self.exit.kind]


def _output(machine: Machine, ticks: int) -> Iterator[str]:
    end = lib.accel_ticks(machine.cpu) + MAX_TICKS
    while True:
        now = lib.accel_ticks(machine.cpu)
        kind = machine.step(min(now + ticks, end))
        if kind == "deadline" and now < end:
            continue
        if kind in ("watch", "bpt"):
            machine.control.skip_breakpoint = kind == "bpt"
            continue
        record = machine.exit
        if kind == "rdmsr" or (kind == "inout" and not record.write):
            lib.accel_answer(machine.cpu, (1 << 8 * record.size) - 1)
        elif kind in ("inout", "cr8"):
            if kind == "inout" and record.number == EXIT_PORT:
                return
            if kind == "inout" and record.number == DEBUG_PORT:
                yield chr(record.value & 0xFF)
        elif kind == "wrmsr":
            machine.control.inject_valid = 1
            machine.control.inject_type = 3
            machine.control.inject_vector = 13
            machine.control.inject_has_error = 1
            machine.control.inject_error = 0
        else:
            bytes_there = bytes(record.bytes).hex() if kind in ("unhandled", "unimplemented") else ""
            yield f"\nstopped: {kind} rip={record.rip:#x} {bytes_there}\n"
            return


def run_on_core(
    image: Path, ticks: int = MAX_TICKS, watched: range = range(0), breakpoints: Iterable[int] = ()
) -> str:
    """The log of a guest on the core, run in pieces of so many ticks.

    With a range of physical memory watched for all accesses, and breakpoints at addresses (linear and
    physical in turn); hits are passed over.
    """
    machine = Machine()
    machine.load_multiboot(image)
    if watched:
        first, size = watched.start, len(watched)
        assert lib.accel_watch_add(machine.machine, 1, PHYSICAL, first, size, WATCH_ACCESS) == 0
    for number, address in enumerate(breakpoints):
        assert lib.accel_break_add(machine.machine, number, number % 2, address) == 0
    return "".join(_output(machine, ticks))


def cut_into_cases(log: str) -> dict[str, list[str]]:
    """The lines of each case by its name."""
    cases: dict[str, list[str]] = {}
    for part in log.split("== ")[1:]:
        name, *lines = part.splitlines()
        cases[name] = [line for line in lines if line]
    return cases


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the manual says of a case that QEMU cannot judge."""

    clause: str
    lines: list[str]


def expectations(name: str) -> dict[str, Expectation]:
    """The cases of a guest that the manual judges: `== case: clause` and the lines of the log."""
    cases: dict[str, Expectation] = {}
    for part in "".join(_files(name, "expected")).split("== ")[1:]:
        head, *lines = part.splitlines()
        case, clause = head.split(": ", 1)
        cases[case] = Expectation(clause, [line for line in lines if line])
    return cases
