"""The `pc` machine: the board, memory and CPUs wired into a `Vm`, with a guest image loaded.

The firmware tables and the image are written again at every reset, and the first CPU starts where the
image's boot protocol says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hv.access import IrqRow
from hv.device import ByteSink, Value
from hv.engines.base import CpuModel, Engine, EngineCpu
from hv.errors import ConfigError
from hv.exits import WriteOrigin
from hv.firmware.tables import firmware_chunks
from hv.inputlog import Recorder, Replay, make_header
from hv.irq.ioapic import RTE_LEVEL, RTE_MASKED
from hv.loaders.image import BootImage
from hv.machines import layout
from hv.machines.board import START_2026_S, Board, BoardHooks
from hv.memory import GuestMemory
from hv.registers import apply_boot_state, read_int
from hv.signals import A20Signal, InitSignal, NmiSignal, Signals, StartupSignal, SuspendReason, SuspendSignal
from hv.vm import Parts, Vm

_IER_RX: Final = 1 << 0
_MCR_RTS: Final = 1 << 1
MAX_VCPUS: Final = 16
DEFAULT_IPS: Final = 1_000_000_000
MAX_IPS: Final = 1_000_000_000_000
MIN_IPS: Final = 1_000_000
# SDM vol. 3, "IA32_MTRR_DEF_TYPE MSR": E, FE, default type write-back.
_MSR_MTRR_DEF_TYPE: Final = 0x2FF
_MTRR_ALL_WRITE_BACK: Final = 0xC06
CPU_MODELS: Final = {
    "x86-64-v1": CpuModel.V1,
    "x86-64-v2": CpuModel.V2,
    "x86-64-v3": CpuModel.V3,
    "max": CpuModel.MAX,
}


@dataclass(frozen=True, slots=True)
class PcConfig:
    """What a `pc` is made of. `ram` in bytes, `ips` machine ticks per second of guest time, `rtc_s` the
    guest's date at power-on in seconds since 1970."""

    ram: int = 256 << 20
    vcpus: int = 1
    cpu: str = "x86-64-v2"
    ips: int = DEFAULT_IPS
    rtc_s: int = START_2026_S
    seed: int = 0

    def check(self) -> None:
        """`ConfigError` for what cannot be built."""
        if not 1 <= self.vcpus <= MAX_VCPUS:
            raise ConfigError(f"{self.vcpus} vCPUs; 1 to {MAX_VCPUS} are possible", "-c")
        if self.cpu not in CPU_MODELS:
            raise ConfigError(f"no CPU model {self.cpu!r}; there are {', '.join(CPU_MODELS)}", "--cpu")
        if not MIN_IPS <= self.ips <= MAX_IPS:
            raise ConfigError(f"{self.ips} ticks per second are not between {MIN_IPS} and {MAX_IPS}", "--ips")
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError("a seed has 64 bits", "--seed")

    def as_state(self) -> dict[str, Value]:
        """As plain values, for saved states and input logs."""
        return {
            "machine": "pc",
            "ram": self.ram,
            "vcpus": self.vcpus,
            "cpu": self.cpu,
            "ips": self.ips,
            "rtc_s": self.rtc_s,
            "seed": self.seed,
        }


class PcBoard(Board):
    """The board with what the machine monitor asks of one (`hv.access.Board`)."""

    def room(self, uart: int) -> int:
        """See `hv.access.Board`."""
        return self.uarts[uart].room

    def listens(self, uart: int) -> bool:
        """See `hv.access.Board`. A driver that takes interrupts has enabled the receiver's; one that polls is
        believed to be ready after half a second, or, if it has asked for data (RTS) as a driver's early
        console does, after five.
        """
        port, tenths = self.uarts[uart], self.clock.now * 10 // self.clock.ips
        if port.ier & _IER_RX:
            return tenths >= 1
        return tenths >= (50 if port.mcr & _MCR_RTS else 5)

    def describe(self, part: str, vcpu: int) -> list[tuple[str, str]]:
        """See `hv.access.Board`."""
        return _DESCRIPTIONS[part](self, vcpu) if part in _DESCRIPTIONS else []

    def interrupts(self) -> list[IrqRow]:
        """See `hv.access.Board`."""
        entries = zip(self.ioapic.high, self.ioapic.low, self.ioapic.asserted, strict=True)
        return [
            IrqRow(
                gsi=pin,
                device=_DRIVERS.get(pin, ""),
                asserted=bool(asserted),
                masked=bool(low & RTE_MASKED),
                vector=low & 0xFF,
                delivery=_DELIVERY[low >> 8 & 7],
                trigger="level" if low & RTE_LEVEL else "edge",
                destination=high >> 24,
            )
            for pin, (high, low, asserted) in enumerate(entries)
        ]


# Intel 82093AA datasheet, "I/O Redirection Table Registers": delivery mode.
_DELIVERY: Final = ("fixed", "lowest", "SMI", "reserved", "NMI", "INIT", "reserved", "ExtINT")
_DRIVERS: Final = {
    layout.GSI_PIT: "pit",
    layout.IRQ_KEYBOARD: "i8042",
    layout.IRQ_COM2: "uart.1",
    layout.IRQ_COM1: "uart.0",
    layout.IRQ_RTC: "rtc",
    layout.IRQ_SCI: "acpi-pm",
}


def _vectors(bits: int) -> str:
    return " ".join(f"{vector:#x}" for vector in range(256) if bits >> vector & 1) or "none"


def _describe_lapic(board: PcBoard, vcpu: int) -> list[tuple[str, str]]:
    lapic = board.lapics[vcpu]
    mode = "x2APIC" if lapic.x2apic else "xAPIC" if lapic.enabled else "disabled"
    names = ("CMCI", "timer", "thermal", "performance", "LINT0", "LINT1", "error")
    return [
        ("mode", f"{mode}, software {'en' if lapic.software_enabled else 'dis'}abled, id {lapic.index}"),
        ("requested", _vectors(lapic.irr)),
        ("in service", _vectors(lapic.isr)),
        ("priorities", f"TPR {lapic.tpr:#x} PPR {lapic.ppr:#x}"),
        *((f"LVT {name}", f"{lvt:#010x}") for name, lvt in zip(names, lapic.lvt, strict=True)),
    ]


def _describe_ioapic(board: PcBoard, vcpu: int) -> list[tuple[str, str]]:
    entries = zip(board.ioapic.high, board.ioapic.low, strict=True)
    return [(f"pin {pin}", f"{high:08x} {low:08x}") for pin, (high, low) in enumerate(entries)]


def _describe_pic(board: PcBoard, vcpu: int) -> list[tuple[str, str]]:
    rows = []
    for name, chip in (("master", board.pics.master), ("slave", board.pics.slave)):
        state = chip.save()
        shown = " ".join(
            f"{key} {value:#04x}"
            for key in ("irr", "isr", "imr", "elcr")
            if isinstance(value := state.get(key), int)
        )
        rows.append((name, shown))
    return rows


_DESCRIPTIONS: Final[dict[str, Callable[[PcBoard, int], list[tuple[str, str]]]]] = {
    "lapic": _describe_lapic,
    "ioapic": _describe_ioapic,
    "pic": _describe_pic,
}


def _hooks(signals: Signals, console: ByteSink, debug_console: ByteSink) -> BoardHooks:
    def suspend(reason: SuspendReason) -> None:
        signals.put(SuspendSignal(reason))

    return BoardHooks(
        power_off=lambda: suspend(SuspendReason.POWEROFF),
        reset=lambda kind: suspend(SuspendReason.RESET),
        debug_exit=lambda value: signals.put(SuspendSignal(SuspendReason.DEBUG_EXIT, value)),
        nmi=lambda vcpu: signals.put(NmiSignal(vcpu)),
        init=lambda vcpu: signals.put(InitSignal(vcpu)),
        sipi=lambda vcpu, vector: signals.put(StartupSignal(vcpu, vector)),
        irq_changed=signals.interrupts_changed,
        a20=lambda enabled: signals.put(A20Signal(enabled)),
        com1=console,
        debug_console=debug_console,
    )


def image_digest(image: BootImage) -> str:
    """A digest of everything that an image puts into a machine."""
    digest = hashlib.blake2b(repr(image.state).encode(), digest_size=32)
    for gpa, data in image.chunks:
        digest.update(gpa.to_bytes(8, "little") + len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def log_header(config: PcConfig, image: BootImage) -> dict[str, Value]:
    """The header of an input log for this machine."""
    return make_header(config.as_state(), {"image": image_digest(image)})


def build_pc(
    config: PcConfig,
    image: BootImage,
    engine: Engine,
    *,
    console: ByteSink,
    debug_console: ByteSink | None = None,
    host_clock: bool = False,
    recorder: Recorder | None = None,
    replay: Replay | None = None,
) -> Vm:
    """A wired machine that stands before its first instruction.

    `console` gets what the guest writes to COM1, `debug_console` what it writes to port E9h (default:
    the same). Raises `ConfigError`, and `ReplayError` when `replay` was recorded on another machine.
    """
    config.check()
    if replay is not None:
        replay.check(log_header(config, image))
    memory = GuestMemory(engine, config.ram)
    signals = Signals()
    cpus: list[EngineCpu] = []
    board = PcBoard(
        config.vcpus,
        config.ips,
        _hooks(signals, console, debug_console or console),
        tsc_hz=lambda: config.ips,
        tsc_offset=lambda vcpu: read_int(cpus[vcpu], "tsc_adjust"),
        rtc_start_s=config.rtc_s,
    )
    model = CPU_MODELS[config.cpu]
    cpus += [engine.add_cpu(n, config.vcpus, model, config.ips, config.seed) for n in range(config.vcpus)]

    def boot(vm: Vm) -> None:
        for gpa, data in (*firmware_chunks(config.vcpus), *image.chunks):
            if not memory.write(gpa, data, WriteOrigin.LOADER):
                raise ConfigError(f"{len(data)} bytes at {gpa:#x} do not fit into the guest's memory", "-m")
        for cpu in cpus:  # as firmware leaves them: without MTRRs Linux gives up the PAT, too
            cpu.write_msr(_MSR_MTRR_DEF_TYPE, _MTRR_ALL_WRITE_BACK)
        apply_boot_state(cpus[0], image.state)

    parts = Parts(engine, cpus, board, signals, memory, boot)
    return Vm(parts, config.as_state(), host_clock=host_clock, recorder=recorder, replay=replay)
