"""A small board for tests: a timer, a controller without priorities, a serial input, an exit port.

    out 0x40, n   timer interrupt (vector 0x20) after 100 * n ticks, once; 0 disarms
    out 0x41, n   the same, periodically
    in  0x60      oldest received byte, 0 if none; a received byte raises vector 0x24
    out 0x80, v   interrupt 0x30 to vCPU v       out 0x81, v   INIT and startup at 0x10000 to vCPU v
    out 0xf4, v   debug exit                     out 0xf5, v   reset      out 0xf6, v   power-off

Timer and serial interrupts go to vCPU 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from hv.access import IrqRow
from hv.bus import MmioBus, PortBus
from hv.clock import MachineClock
from hv.device import State, Value
from hv.signals import InitSignal, Signals, StartupSignal, SuspendReason, SuspendSignal

TIMER = 0x20
SERIAL = 0x24
IPI = 0x30


class FakeBoard:
    """See the module."""

    def __init__(self, vcpus: int, signals: Signals, ips: int = 1_000_000_000) -> None:
        self.clock = MachineClock(ips)
        self.ports = PortBus()
        self.a20 = True
        self.mmio = MmioBus(vcpus)
        self.signals = signals
        self.pending: list[list[int]] = [[] for _ in range(vcpus)]
        self.received: list[int] = []
        self.output = bytearray()
        self.period = 0
        self.priority = [0] * vcpus
        self.resets = 0
        self._timer = self.clock.timer("test", self._fire)
        self.ports.add(0x40, 0x100, self, width=1, name="test")

    def raise_irq(self, vcpu: int, vector: int) -> None:
        if vector not in self.pending[vcpu]:
            self.pending[vcpu].append(vector)
            self.signals.interrupts_changed(vcpu)

    def _fire(self) -> None:
        if self.period:
            self._timer.arm((self._timer_due or 0) + self.period)
            self._timer_due = (self._timer_due or 0) + self.period
        self.raise_irq(0, TIMER)

    _timer_due: int | None = None

    def read(self, offset: int, size: int) -> int:
        return self.received.pop(0) if offset + 0x40 == 0x60 and self.received else 0

    def write(self, offset: int, size: int, value: int) -> None:
        match offset + 0x40:
            case 0x40 | 0x41 as port:
                self.period = 100 * value if port == 0x41 else 0
                self._timer_due = self.clock.now + 100 * value
                self._timer.arm(self._timer_due) if value else self._timer.disarm()
            case 0x50:
                self.output.append(value)
            case 0x80:
                self.raise_irq(value, IPI)
            case 0x81:
                self.signals.put(InitSignal(value))
                self.signals.put(StartupSignal(value, 0x10))
            case 0xF4:
                self.signals.put(SuspendSignal(SuspendReason.DEBUG_EXIT, value))
            case 0xF5:
                self.signals.put(SuspendSignal(SuspendReason.RESET))
            case 0xF6:
                self.signals.put(SuspendSignal(SuspendReason.POWEROFF))

    def interrupt_pending(self, vcpu: int) -> bool:
        return bool(self.pending[vcpu])

    def acknowledge(self, vcpu: int) -> int | None:
        self.signals.interrupts_changed(vcpu)
        return self.pending[vcpu].pop(0) if self.pending[vcpu] else None

    def task_priority(self, vcpu: int) -> int:
        return self.priority[vcpu]

    def set_task_priority(self, vcpu: int, value: int) -> None:
        self.priority[vcpu] = value

    def tsc_moved(self, vcpu: int) -> None:
        pass

    def read_msr(self, vcpu: int, msr: int) -> int | None:
        return None

    def write_msr(self, vcpu: int, msr: int, value: int) -> bool:
        return False

    def receive(self, uart: int, data: bytes) -> None:
        self.received += data
        self.raise_irq(0, SERIAL)

    def room(self, uart: int) -> int:
        return 64

    def listens(self, uart: int) -> bool:
        return True

    def describe(self, part: str, vcpu: int) -> list[tuple[str, str]]:
        return [("part", part)]

    def interrupts(self) -> list[IrqRow]:
        return []

    def reset(self) -> None:
        self.resets += 1
        self.pending = [[] for _ in self.pending]
        self.received.clear()
        self._timer.disarm()

    def save(self) -> State:
        pending: list[Value] = [list(vectors) for vectors in self.pending]
        received: list[Value] = list(self.received)
        return {
            "clock": self.clock.save(), "pending": pending, "received": received,
            "period": self.period, "due": self._timer_due,
        }  # fmt: skip

    def load(self, state: Mapping[str, Value]) -> None:
        clock, pending, received = state["clock"], state["pending"], state["received"]
        assert isinstance(clock, dict)
        assert isinstance(pending, list)
        assert isinstance(received, list)
        self.clock.load(clock)
        self.pending = [[v for v in one if isinstance(v, int)] for one in pending if isinstance(one, list)]
        self.received = [byte for byte in received if isinstance(byte, int)]
        period, due = state["period"], state["due"]
        assert isinstance(period, int)
        self.period = period
        self._timer_due = due if isinstance(due, int) else None
