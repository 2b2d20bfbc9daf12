"""What hits of breakpoints and watchpoints become: stops, or text that their commands print.

The engine has judged limits and conditions already. A point with commands runs them and the machine goes on.
The machine's own points stop it also when nobody is attached, if a debugger can come; one that does not know
them is told in words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gdbstub.evaluator import EvaluationError, evaluate
from gdbstub.target import BreakpointKind, Stop, StopReason, WatchHit
from hv.debug.breakpoints import MACHINE, BreakpointTable, Entry, ExecutionPoint, WatchPoint
from hv.debug.records import PendingStop
from hv.debug.register_names import engine_name
from hv.engines.base import AddressSpace
from hv.exits import Bpt, Watch, WriteOrigin
from hv.exits import WatchHit as EngineHit
from hv.vm import Vm

Console = Callable[[str], None]


def _nowhere(text: str) -> None:
    """The console of an owner without one."""


class PointHits:
    """The hits of one machine's points; on its owner's thread. `attached` says that somebody debugs it."""

    def __init__(self, vm: Vm, points: BreakpointTable) -> None:
        self.consoles: dict[int, Console] = {}
        """Where the commands of an owner's points print."""
        self.expected = False
        """Whether somebody may still come to debug it."""
        self._vm = vm
        self._points = points

    # --- breakpoints -------------------------------------------------------------------------------

    def breakpoints(self, vcpu: int, left: Bpt, *, attached: bool) -> Stop | None:
        """The stop of a breakpoint exit; None: go on."""
        found = self._entries(left.ids, attached=attached)
        stopping = [each for each in found if not self._commands(vcpu, each)]
        stops = [each.on_hit(vcpu) for each in stopping if each.on_hit is not None]
        usual = [each for each in stopping if each.on_hit is None]
        if usual:
            return self._breakpoint(vcpu, usual)
        return next((stop for stop in stops if stop is not None and attached), None)

    def _entries(self, numbers: tuple[int, ...], *, attached: bool) -> list[Entry]:
        """Those of `numbers` that still exist and mean something now."""
        found = (self._points.entry(number) for number in numbers)
        return [each for each in found if each is not None and (attached or self._stands_alone(each))]

    def _stands_alone(self, entry: Entry) -> bool:
        return entry.on_hit is not None or (self.expected and entry.owner == MACHINE)

    def _breakpoint(self, vcpu: int, entries: list[Entry]) -> Stop:
        kinds = {entry.kind for entry in entries}
        own = [entry for entry in entries if entry.owner == MACHINE]
        text = "; ".join(self._sentence(vcpu, entry) for entry in own)
        if BreakpointKind.SOFTWARE in kinds:
            return Stop(StopReason.SOFTWARE_BREAKPOINT, vcpu + 1, text=text)
        if BreakpointKind.HARDWARE in kinds:
            return Stop(StopReason.HARDWARE_BREAKPOINT, vcpu + 1, text=text)
        return Stop(StopReason.EVENT, vcpu + 1, text=text)

    def _sentence(self, vcpu: int, entry: Entry) -> str:
        hits = self._points.hits(entry.number)
        physical = "physical " if entry.point.space is AddressSpace.PHYSICAL else ""
        return f"vCPU {vcpu}: breakpoint {entry.number} at {physical}{entry.point.address:#x}, hit {hits}"

    # --- watchpoints -------------------------------------------------------------------------------

    def watchpoints(self, vcpu: int, left: Watch, *, attached: bool) -> list[PendingStop]:
        """One stop per watchpoint hit by the last tick; of several accesses to one the last counts."""
        last = {hit.id: hit for hit in left.hits}
        stops = []
        for entry in self._entries(tuple(last), attached=attached):
            if self._commands(vcpu, entry):
                continue
            stop = entry.on_hit(vcpu) if entry.on_hit else self._watchpoint(vcpu, entry, last[entry.number])
            if stop is not None and (attached or entry.on_hit is None):
                stops.append(PendingStop(stop, None if entry.on_hit else entry.number))
        return stops

    def _watchpoint(self, vcpu: int, entry: Entry, hit: EngineHit) -> Stop | None:
        if isinstance(entry.point, ExecutionPoint):
            return None
        if entry.owner != MACHINE:
            by = "" if hit.origin is WriteOrigin.CPU else f"written by {self._by(hit)}"
            return Stop(
                StopReason.WATCHPOINT, vcpu + 1, watch=WatchHit(entry.point.kind, hit.address), text=by
            )
        return Stop(StopReason.EVENT, vcpu + 1, text=self._access(vcpu, entry, entry.point, hit))

    def _by(self, hit: EngineHit) -> str:
        match hit.origin:
            case WriteOrigin.DMA:
                return self._vm.memory.device_name(hit.device)
            case WriteOrigin.WALK:
                return "the page walk (accessed or dirty bit)"
            case WriteOrigin.EVENT:
                return "the delivery of an event"
            case _:
                return hit.origin.name.lower()

    def _access(self, vcpu: int, entry: Entry, point: WatchPoint, hit: EngineHit) -> str:
        physical = "physical " if point.space is AddressSpace.PHYSICAL else ""
        where = f"{hit.size} bytes at {physical}{hit.address:#x}"
        what = f"read of {where}: {hit.old:#x}"
        if hit.write:
            what = f"write of {where}: {hit.old:#x} -> {hit.new:#x}"
        by = "" if hit.origin is WriteOrigin.CPU else f" by {self._by(hit)}"
        return f"vCPU {vcpu}: watchpoint {entry.number}: {what}{by}, hit {self._points.hits(entry.number)}"

    # --- commands ----------------------------------------------------------------------------------

    def _commands(self, vcpu: int, entry: Entry) -> bool:
        """Run what `entry` has of commands; whether it has any."""
        registers, cpu = self._vm.vcpus[vcpu], self._vm.vcpus[vcpu].cpu
        write = self.consoles.get(entry.owner, _nowhere)

        def read_register(name: str) -> int | None:
            try:
                return registers.get(engine_name(name))
            except KeyError:
                return None

        def read_memory(address: int, length: int) -> bytes | None:
            data = cpu.read_linear(address, length)
            return data if len(data) == length else None

        for program in entry.commands:
            try:
                evaluate(program, read_register, read_memory, write=write)
            except EvaluationError as error:
                write(f"breakpoint commands at {entry.point.address:#x}: {error}\n")
        return bool(entry.commands)


def console_in_thread(write: Console, elsewhere: Callable[[Console, str], None]) -> Console:
    """A console that may be called from any thread, for a `write` that belongs to the present one;
    `elsewhere(write, text)` has the present thread call it."""
    home = threading.get_ident()

    def put(text: str) -> None:
        if threading.get_ident() == home:
            write(text)
        else:
            elsewhere(write, text)

    return put
