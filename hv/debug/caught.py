"""What was caught, in a sentence, and whether it is a stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gdbstub.arch.x86_vectors import VECTOR_SIGNALS
from gdbstub.signals import Signal
from gdbstub.target import Stop, StopReason
from hv.debug.catch import Catch, CatchTable, Kind, events_of
from hv.debug.records import Intercepted
from hv.debug.stops import fault_text
from hv.engines.base import EventType
from hv.exits import Bpt, CatchSource, Caught, DeviceAccessed, ExceptionExit, Fault, Touched
from hv.inputs import InjectEvent
from hv.vm import Vm

_VECTOR_BP: Final = 3
_VECTOR_PF: Final = 14
_MODES: Final = (
    "?", "real mode", "virtual-8086 mode", "protected mode without paging", "protected mode with paging",
    "compatibility mode", "64-bit mode",
)  # fmt: skip


class Events:
    """The guest's events for its debugger. `attached` says whether somebody is there to see a stop."""

    def __init__(self, vm: Vm, catches: CatchTable, attached: Callable[[], bool]) -> None:
        self._vm = vm
        self._catches = catches
        self._attached = attached

    def _stop(
        self, catch: Catch | None, vcpu: int, text: str, signal: Signal = Signal.SIGTRAP
    ) -> Stop | None:
        if catch is None:
            return None
        text = f"vCPU {vcpu}: {text}"
        if catch.log:
            self._catches.log.append(f"{self._vm.clock.now:>16,}  {text}")
            return None
        return Stop(StopReason.EVENT, vcpu + 1, signal, text=text) if self._attached() else None

    def exception(self, vcpu: int, left: ExceptionExit) -> tuple[Intercepted, Stop | None]:
        """An intercepted exception: how it goes on, and the stop before."""
        fault = left.vector == _VECTOR_PF
        event = InjectEvent(vcpu, EventType(left.kind), left.vector, left.error, left.length)
        text = fault_text(Fault(left.vector, left.error, left.value, left.rip)) + _why(left)
        if left.kind == EventType.PRIV_SW_EXCEPTION:
            text += " (ICEBP)"
        if left.during is not None:
            text += f", in the delivery of vector {left.during.vector}"
        signal = VECTOR_SIGNALS.get(left.vector, Signal.SIGTRAP)
        stop = self._stop(self._catches.find(Kind.EXCEPTION, left.vector), vcpu, text, signal)
        if left.during is not None:
            return Intercepted(left.rip, None), stop
        return Intercepted(left.rip, event, left.value if fault else None, self._vm.door.passed), stop

    def int3(self, vcpu: int, left: Bpt) -> tuple[Intercepted, Stop | None]:
        """The guest's own breakpoint; an INT3 may also be caught as the exception that it raises."""
        kind = EventType.SWINTR if left.interrupt else EventType.SW_EXCEPTION
        catch = self._catches.find(Kind.INT3)
        if catch is None and not left.interrupt:
            raised = ExceptionExit(left.rip, _VECTOR_BP, None, 0, kind=kind, length=left.length)
            return self.exception(vcpu, raised)
        event = InjectEvent(vcpu, kind, _VECTOR_BP, None, left.length)
        stop = self._stop(catch, vcpu, f"the guest's own INT3 at {left.rip:#x}")
        return Intercepted(left.rip, event, passed=self._vm.door.passed), stop

    def caught(self, vcpu: int, left: Caught) -> Stop | None:
        """An event that the engine reports."""
        where = f"; next is {left.rip:#x}"
        match left.source:
            case CatchSource.CR3:
                text = f"CR3 changes from {left.old:#x} to {left.new:#x}"
                return self._stop(self._catches.find(Kind.CR3, left.new), vcpu, text + where)
            case CatchSource.MODE:
                text = f"{_MODES[left.new]} after {_MODES[left.old]}"
                return self._stop(self._catches.find(Kind.MODE), vcpu, text + where)
            case _:
                catch = self._catches.find(Kind.MSR, left.number, write=left.write)
                text = f"{'WRMSR' if left.write else 'RDMSR'} {left.number:#x}: {left.new:#x}"
                return self._stop(catch, vcpu, text + where)

    def device(self, vcpu: int, left: DeviceAccessed) -> Stop | None:
        """Device accesses of one instruction; one stop for all."""
        where = f"; next is {self._vm.vcpus[vcpu].get('rip'):#x}"
        stops = []
        for touched in left.touched:
            found = (self._catches.find(*event) for event in events_of(touched))
            catch = next((each for each in found if each is not None), None)
            stops.append(self._stop(catch, vcpu, self._access(touched, vcpu) + where))
        return next((stop for stop in stops if stop is not None), None)

    def _access(self, touched: Touched, vcpu: int) -> str:
        if touched.space == "msr":
            name = "WRMSR" if touched.write else "RDMSR"
            return f"{name} of {touched.address:#x}, which does not exist: #GP"
        board, value = self._vm.board, touched.value or 0
        if touched.space == "port":
            what = f"OUT of {value:#x} to" if touched.write else f"IN of {value:#x} from"
            device = board.ports.owner(touched.address)
            where = f"port {touched.address:#x}"
        else:
            what = f"write of {value:#x} to" if touched.write else f"read of {value:#x} from"
            owner = board.mmio.find(touched.address, vcpu)
            device = None if owner is None else owner.name
            where = f"device memory {touched.address:#x}"
        return f"{what} {where} ({touched.size} bytes, {device or 'no device'})"


def _why(left: ExceptionExit) -> str:
    """What a page fault's error code says (SDM vol. 3, "Page-Fault Exceptions")."""
    if left.vector != _VECTOR_PF or left.error is None:
        return ""
    access = "fetch" if left.error & 0x10 else "write" if left.error & 2 else "read"
    who = "user" if left.error & 4 else "supervisor"
    why = "not allowed" if left.error & 1 else "not present"
    return f" ({who} {access}, {why})"
