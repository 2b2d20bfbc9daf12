"""A small machine for tests of the core: RAM at 0, one CPU in the mode asked for, registers by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accel import ffi, lib

CODE = 0x10000
DATA = 0x20000
STACK = 0x30000
TABLES = 0x40000
RAM = 0x200000

# Access rights as in a descriptor's high dword, shifted right by 8 (VMX layout).
CODE_RIGHTS = {64: 0xA09B, 32: 0xC09B, 16: 0x009B}
DATA_RIGHTS = 0xC093
TSC_HZ = 1_000_000_000


@dataclass(frozen=True)
class Exit:
    """What `accel_exit` said."""

    kind: int
    rip: int
    number: int
    gpa: int
    value: int
    size: int
    write: int
    vector: int
    error: int
    has_error: int
    id: int
    inst_length: int


class Machine:
    """One CPU with flat segments: bits 64 or 32 in long mode with paging, 16 in real mode.

    Linear addresses up to RAM are mapped to themselves in 4 KiB pages; page tables start at 1000H.
    """

    def __init__(self, bits: int = 64, cpl: int = 0, model: int = 3, code: bytes = b"") -> None:
        box = ffi.new("accel_machine **")
        assert lib.accel_machine_new(box) == 0
        self.machine: Any = ffi.gc(box[0], lib.accel_machine_free)
        assert lib.accel_slot_add(self.machine, 0, RAM, 0) == 0
        cpu = ffi.new("accel_cpu **")
        assert lib.accel_cpu_new(self.machine, 0, 1, model, TSC_HZ, 0, cpu) == 0
        self.cpu: Any = cpu[0]
        self.control: Any = lib.accel_cpu_control(self.cpu)
        self._exit = ffi.new("accel_exit *")
        if bits == 16:
            self._real_mode()
        else:
            self._long_mode(bits, cpl)
        self["rsp"] = STACK
        self.write(CODE, code)

    def _real_mode(self) -> None:
        self["cs"] = CODE >> 4
        self["rip"] = 0

    def _long_mode(self, bits: int, cpl: int) -> None:
        pages = [0x4000 + (n << 12) for n in range(RAM >> 21 or 1)]
        self.write(0x1000, (0x2007).to_bytes(8, "little"))
        self.write(0x2000, (0x3007).to_bytes(8, "little"))
        self.write(0x3000, b"".join((p | 7).to_bytes(8, "little") for p in pages))
        for n, page in enumerate(pages):
            entries = [((n << 21) + (k << 12)) | 7 for k in range(512)]
            self.write(page, b"".join(e.to_bytes(8, "little") for e in entries))
        self["cr4"] = 0x20
        self["cr3"] = 0x1000
        self["efer"] = 0xD01
        self["cr0"] = 0x80050033
        self["cr4"] = 0x40620
        self["xcr0"] = 7
        ring = cpl << 5
        self["cs"], self["cs_base"], self["cs_limit"] = 8 | cpl, 0, 0xFFFFFFFF
        self["cs_attr"] = CODE_RIGHTS[bits] | ring
        for name in ("ss", "ds", "es"):
            self[name], self[f"{name}_base"], self[f"{name}_limit"] = 0x10 | cpl, 0, 0xFFFFFFFF
            self[f"{name}_attr"] = DATA_RIGHTS | ring
        self["cpl"] = cpl
        self["rip"] = CODE

    def _number(self, name: str) -> tuple[int, int]:
        number = lib.accel_reg_find(name.encode())
        assert number >= 0, name
        return number, lib.accel_reg_size(number)

    def __getitem__(self, name: str) -> int:
        number, size = self._number(name)
        buffer = ffi.new("uint8_t[]", size)
        assert lib.accel_reg_get(self.cpu, number, buffer, size) == 0
        return int.from_bytes(bytes(buffer), "little")

    def __setitem__(self, name: str, value: int) -> None:
        number, size = self._number(name)
        status = lib.accel_reg_set(self.cpu, number, value.to_bytes(size, "little"), size)
        assert status == 0, (name, hex(value), status)

    def write(self, address: int, data: bytes) -> None:
        """Write physical memory as the loader would."""
        if data:
            assert lib.accel_phys_write(self.machine, address, data, len(data), lib.ACCEL_ORIGIN_LOADER) == 0

    def read(self, address: int, size: int) -> bytes:
        """Read physical memory."""
        buffer = ffi.new("uint8_t[]", size)
        assert lib.accel_phys_read(self.machine, address, buffer, size) == 0
        return bytes(buffer)

    def handle(self, vector: int, target: int, ist: int = 0) -> None:
        """64-bit mode: an interrupt gate for `vector` to `target`, in an IDT and with a GDT of our own."""
        self["idtr_base"], self["idtr_limit"] = TABLES, 0xFFF
        low = target & 0xFFFF | 8 << 16 | (0x8E00 | ist) << 32 | (target >> 16 & 0xFFFF) << 48
        self.write(TABLES + 16 * vector, low.to_bytes(8, "little") + bytes(8))
        self["gdtr_base"], self["gdtr_limit"] = TABLES + 0x1000, 0x17
        self.write(TABLES + 0x1008, (0x00AF9B000000FFFF).to_bytes(8, "little"))
        self.write(TABLES + 0x1010, (0x00CF93000000FFFF).to_bytes(8, "little"))

    @property
    def ticks(self) -> int:
        """Ticks of the CPU."""
        return int(lib.accel_ticks(self.cpu))

    def run(self, ticks: int = 1) -> Exit:
        """Run at most `ticks` more."""
        assert lib.accel_run(self.cpu, self.ticks + ticks, self._exit) == 0
        e = self._exit
        return Exit(*(getattr(e, name) for name in Exit.__dataclass_fields__))

    def answer(self, value: int) -> None:
        """Answer the read of the last exit."""
        assert lib.accel_answer(self.cpu, value) == 0

    def save(self) -> bytes:
        """The canonical state."""
        buffer = ffi.new("uint8_t[]", lib.accel_cpu_save_size())
        assert lib.accel_cpu_save(self.cpu, buffer, len(buffer)) == 0
        return bytes(buffer)

    def load(self, state: bytes) -> int:
        """Load a canonical state; the status."""
        return int(lib.accel_cpu_load(self.cpu, state, len(state)))
