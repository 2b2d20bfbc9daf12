"""The board: every device of the `pc` machine, wired; no processor and no memory.

`Board` owns the machine clock, both buses, the interrupt controllers and the devices, and tells the rest of
the machine what it cannot do itself through `BoardHooks`. The addresses are in `hv.machines.layout`.

Wiring of interrupts: each ISA interrupt goes to the 8259 pair and to the I/O APIC input of the same
number (IRQ 0 to input 2); inputs 16-23 go to the I/O APIC alone. The pair's output is LINT0 of vCPU 0,
which starts in virtual wire mode, LINT1 of every local APIC is NMI.

Before each entry the vCPU loop asks `interrupt_pending`, whose answer is remembered until something
changes, and calls `acknowledge` at the moment it injects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hv.bus import MmioBus, PortBus
from hv.clock import MachineClock
from hv.device import ByteSink, Device, Registers, State, Value, check_header, child, header
from hv.devices.acpi_pm import AcpiPm
from hv.devices.hpet import Hpet
from hv.devices.i8042 import I8042
from hv.devices.pci.host import PciHost
from hv.devices.pit8254 import Pit8254
from hv.devices.pmtimer import PmTimer
from hv.devices.ports import DebugConsole, DebugExit, FastA20, PostCode, ResetControl, ResetKind
from hv.devices.rtc146818 import Rtc146818
from hv.devices.uart16550 import Uart16550
from hv.errors import SnapshotError
from hv.irq.apicbus import ApicBus, ApicHooks
from hv.irq.ioapic import IoApic
from hv.irq.lapic import Lapic
from hv.irq.line import Line
from hv.irq.pic8259 import Pic8259Pair
from hv.irq.pirq import PirqRouter
from hv.machines import layout

ISA_IRQS: Final = tuple(irq for irq in range(16) if irq != layout.IRQ_CASCADE)
PCI_PINS: Final = tuple(range(16, layout.IOAPIC_PINS))
START_2026_S: Final = 1_767_225_600  # 2026-01-01 00:00 UTC


def _ignore_bytes(data: bytes) -> None:
    """A sink that nobody listens to."""


@dataclass(frozen=True, slots=True)
class BoardHooks:
    """What the board asks of the machine. Processors are named by index.

    `power_off`, `reset` (how), `debug_exit` (value written) are requests of the guest. `init` and `sipi`
    are messages to a vCPU whose local APIC has done its part; `sipi` is to be ignored by one that does not
    wait for it. `nmi` makes one NMI pending. `irq_changed` says that `interrupt_pending` of a vCPU may
    have another answer. `a20` has the level of the A20 gate. The sinks take console output as it comes.
    None of them is called by `Board.load`.
    """

    power_off: Callable[[], None]
    reset: Callable[[ResetKind], None]
    debug_exit: Callable[[int], None]
    nmi: Callable[[int], None]
    init: Callable[[int], None]
    sipi: Callable[[int, int], None]
    irq_changed: Callable[[int], None]
    a20: Callable[[bool], None]
    com1: ByteSink = _ignore_bytes
    com2: ByteSink = _ignore_bytes
    debug_console: ByteSink = _ignore_bytes


def _no_offset(vcpu: int) -> int:
    return 0


class Board:
    """All devices for `vcpus` processors at `ips` machine ticks per second.

    `rtc_start_s` is the guest's date at power-on in seconds since 1970. `tsc_hz()` is the frequency of the
    time-stamp counters and `tsc_offset(vcpu)` what the guest added to one of them (see
    `hv.irq.lapic_timer`), which `tsc_moved` has to follow. `phys_bits` is the physical address width that
    CPUID announces.
    """

    kind: Final = "board"
    version: Final = 1

    def __init__(
        self,
        vcpus: int,
        ips: int,
        hooks: BoardHooks,
        *,
        tsc_hz: Callable[[], int],
        tsc_offset: Callable[[int], int] = _no_offset,
        rtc_start_s: int = START_2026_S,
        phys_bits: int = 40,
    ) -> None:
        self.hooks = hooks
        self.clock = MachineClock(ips)
        self.ports = PortBus()
        self.mmio = MmioBus(vcpus)
        self._dirty = [True] * vcpus
        self._pending = [False] * vcpus
        self._wire_processors(vcpus, tsc_hz, tsc_offset, phys_bits)
        self._wire_lines()
        self._make_devices(rtc_start_s)
        self._place_devices()
        self.parts: Mapping[str, Device] = self._name_parts()
        self._set_up_as_firmware()

    # --- Construction ---------------------------------------------------------------------------------

    def _wire_processors(
        self, vcpus: int, tsc_hz: Callable[[], int], tsc_offset: Callable[[int], int], phys_bits: int
    ) -> None:
        hooks = self.hooks
        self.apic_bus = ApicBus(ApicHooks(hooks.init, hooks.sipi, hooks.nmi, self._changed))

        def make(index: int) -> Lapic:
            def moved() -> None:
                self.mmio.set_local(index, lapic.mmio_base, lapic)

            lapic = Lapic(
                index, self.apic_bus, self.clock, tsc_hz, lambda: tsc_offset(index), moved, phys_bits
            )
            moved()
            return lapic

        self.lapics = [make(index) for index in range(vcpus)]
        self.ioapic = IoApic(self.apic_bus)
        self.pics = Pic8259Pair(lambda level: self.lapics[0].set_lint(0, level))

    def _wire_lines(self) -> None:
        def line(name: str, irq: int | None, pin: int) -> Line:
            made = Line(name)
            if irq is not None:
                made.connect(lambda level: self.pics.set_irq(irq, level))
            made.connect(lambda level: self.ioapic.set_pin(pin, level))
            return made

        self.isa: Mapping[int, Line] = {
            irq: line(f"irq.{irq}", irq, layout.GSI_PIT if irq == layout.IRQ_PIT else irq) for irq in ISA_IRQS
        }
        self.pci_lines: Mapping[int, Line] = {pin: line(f"gsi.{pin}", None, pin) for pin in PCI_PINS}

    def _make_devices(self, rtc_start_s: int) -> None:
        clock, isa, hooks = self.clock, self.isa, self.hooks
        self.pit = Pit8254(clock, isa[layout.IRQ_PIT].driver())
        self.rtc = Rtc146818(clock, isa[layout.IRQ_RTC].driver(), rtc_start_s)
        self.hpet = Hpet(clock, self.pci_lines, self.apic_bus.msi)
        self.pm_timer = PmTimer(clock)
        self.acpi_pm = AcpiPm(isa[layout.IRQ_SCI].driver(), hooks.power_off)
        self.uarts = (
            Uart16550(clock, "uart.0", isa[layout.IRQ_COM1].driver(), hooks.com1),
            Uart16550(clock, "uart.1", isa[layout.IRQ_COM2].driver(), hooks.com2),
        )
        self.fast_a20 = FastA20(self._reset_processors, self._a20_changed)
        self._a20_level = True
        self.i8042 = I8042(isa[layout.IRQ_KEYBOARD].driver(), self._reset_processors, self._a20_changed)
        self.reset_control = ResetControl(hooks.reset)
        self.pci = PciHost(PirqRouter(isa), self.reset_control)
        self.debug_exit = DebugExit(hooks.debug_exit)
        self.debug_console = DebugConsole(hooks.debug_console)
        self.post_code = PostCode()

    def _place_devices(self) -> None:
        keyboard = (_At(self.i8042, 0), _At(self.i8042, 1))
        rows: tuple[tuple[int, int, Registers, int, str], ...] = (
            (layout.PORT_PIC1, 2, self.pics.master, 1, "pic.master"),
            (layout.PORT_PIT, 4, self.pit, 1, "pit"),
            (layout.PORT_I8042_DATA, 1, keyboard[0], 1, "i8042"),
            (layout.PORT_NMISC, 1, self.pit.port61, 1, "port61"),
            (layout.PORT_I8042_CMD, 1, keyboard[1], 1, "i8042"),
            (layout.PORT_RTC, 2, self.rtc, 1, "rtc"),
            (layout.PORT_POST, 1, self.post_code, 1, "post-code"),
            (layout.PORT_FAST_A20, 1, self.fast_a20, 1, "fast-a20"),
            (layout.PORT_PIC2, 2, self.pics.slave, 1, "pic.slave"),
            (layout.PORT_DEBUG_CONSOLE, 1, self.debug_console, 1, "debug-console"),
            (layout.PORT_DEBUG_EXIT, 4, self.debug_exit, 4, "debug-exit"),
            (layout.PORT_COM2, 8, self.uarts[1], 1, "uart.1"),
            (layout.PORT_COM1, 8, self.uarts[0], 1, "uart.0"),
            (layout.PORT_ELCR, 2, self.pics.elcr, 1, "elcr"),
            (layout.PORT_PM1A_EVT, 6, self.acpi_pm, 2, "acpi-pm"),
            (layout.PORT_PM_TIMER, 4, self.pm_timer, 4, "pm-timer"),
            (layout.PORT_PCI_CONFIG_ADDR, 4, self.pci.address, 4, "pci-address"),
            (layout.PORT_PCI_CONFIG_DATA, 4, self.pci.data, 4, "pci-data"),
        )
        for port, size, registers, width, name in rows:
            self.ports.add(port, size, registers, width=width, name=name)
        self.mmio.add(layout.IOAPIC_BASE, layout.IOAPIC_SIZE, self.ioapic, width=4, name="ioapic")
        self.mmio.add(layout.HPET_BASE, layout.HPET_SIZE, self.hpet, width=8, name="hpet")

    def _name_parts(self) -> Mapping[str, Device]:
        """Everything with state besides the clock, in the order of reset and load."""
        return {
            "pit": self.pit,
            "rtc": self.rtc,
            "hpet": self.hpet,
            "pm-timer": self.pm_timer,
            "acpi-pm": self.acpi_pm,
            "uart.0": self.uarts[0],
            "uart.1": self.uarts[1],
            "i8042": self.i8042,
            "fast-a20": self.fast_a20,
            "reset-control": self.reset_control,
            "pci": self.pci,
            "debug-exit": self.debug_exit,
            "debug-console": self.debug_console,
            "post-code": self.post_code,
            "pics": self.pics,
            "ioapic": self.ioapic,
            **{f"lapic.{lapic.index}": lapic for lapic in self.lapics},
        }

    def _set_up_as_firmware(self) -> None:
        """What PC firmware has done before it starts a boot loader: virtual wire mode, a level SCI."""
        self.lapics[0].enter_virtual_wire()
        sci = 1 << layout.IRQ_SCI - 8
        self.pics.elcr.write(1, 1, sci)

    # --- The guest's requests -------------------------------------------------------------------------

    def _reset_processors(self) -> None:
        self.hooks.reset(ResetKind.INIT)

    @property
    def a20(self) -> bool:
        """Level of the A20 gate: on while either of its two drivers has it on."""
        return self.fast_a20.a20 or self.i8042.a20

    def _a20_changed(self, level: bool) -> None:
        if self._a20_level != self.a20:
            self._a20_level = self.a20
            self.hooks.a20(self._a20_level)

    # --- Interrupts to the processors -----------------------------------------------------------------

    def _changed(self, vcpu: int) -> None:
        self._dirty[vcpu] = True
        self.hooks.irq_changed(vcpu)

    def interrupt_pending(self, vcpu: int) -> bool:
        """Whether a maskable interrupt could be injected into `vcpu` now, given its task priority."""
        if self._dirty[vcpu]:
            self._dirty[vcpu] = False
            lapic = self.lapics[vcpu]
            self._pending[vcpu] = lapic.extint or lapic.pending_vector() is not None
        return self._pending[vcpu]

    def acknowledge(self, vcpu: int) -> int | None:
        """`vcpu` takes its interrupt at this moment: the vector, or None when there is none.

        An ExtINT request goes before the local APIC's: its vector is what the 8259 pair says now.
        """
        lapic = self.lapics[vcpu]
        if lapic.extint:
            return self.pics.ack()
        vector = lapic.pending_vector()
        if vector is not None:
            lapic.accept(vector)
        return vector

    def task_priority(self, vcpu: int) -> int:
        """CR8 of `vcpu`: the class of its task priority register, 0 to 15."""
        return self.lapics[vcpu].tpr >> 4

    def set_task_priority(self, vcpu: int, value: int) -> None:
        """The guest wrote CR8; the low bits of the register become 0, as the SDM says of such a write."""
        self.lapics[vcpu].set_tpr((value & 0xF) << 4)

    def tsc_moved(self, vcpu: int) -> None:
        """The TSC of `vcpu` was written: its deadline timer is due at another time."""
        self.lapics[vcpu].timer.tsc_changed()

    def read_msr(self, vcpu: int, msr: int) -> int | None:
        """An MSR of the local APIC; None stands for #GP, also for an MSR that is not the board's."""
        return self.lapics[vcpu].read_msr(msr)

    def write_msr(self, vcpu: int, msr: int, value: int) -> bool:
        """Likewise; False stands for #GP."""
        return self.lapics[vcpu].write_msr(msr, value)

    def inject_nmi(self) -> None:
        """A pulse on LINT1 of every local APIC, unless port 70h masks NMI."""
        if self.rtc.nmi_masked:
            return
        for lapic in self.lapics:
            lapic.set_lint(1, True)
            lapic.set_lint(1, False)

    def receive(self, uart: int, data: bytes) -> None:
        """Bytes arrive at a serial port (0 is COM1); what exceeds `uarts[uart].room` is lost."""
        self.uarts[uart].receive(data)

    # --- State ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Machine reset: every device at power-on state; time, date and CMOS RAM go on."""
        for part in self.parts.values():
            part.reset()
        self._set_up_as_firmware()

    def save(self) -> State:
        """Clock and all parts by name."""
        parts: dict[str, Value] = {name: part.save() for name, part in self.parts.items()}
        return header(self) | {"clock": self.clock.save(), "parts": parts}

    def load(self, state: Mapping[str, Value]) -> None:
        """Restore everything; no hook is called and no edge raised.

        SnapshotError if the state is of a machine with other parts; the board may then be half loaded and
        must be loaded again or thrown away.
        """
        check_header(self, state)
        parts = child(self.kind, state, "parts")
        if set(parts) != set(self.parts):
            raise SnapshotError("the saved machine has other devices or vCPUs", self.kind)
        for name, part in self.parts.items():
            part.load(child(self.kind, parts, name))
        self.clock.load(child(self.kind, state, "clock"))
        self._a20_level = self.a20
        self._dirty[:] = [True] * len(self._dirty)


class _At:
    """One register of a device whose registers are not adjacent on the bus."""

    def __init__(self, registers: Registers, offset: int) -> None:
        self._registers = registers
        self._offset = offset

    def read(self, offset: int, size: int) -> int:
        """Read it."""
        return self._registers.read(self._offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write it."""
        self._registers.write(self._offset, size, value)
