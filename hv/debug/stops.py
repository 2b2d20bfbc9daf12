"""Sentences for a person about what happened to the machine, and the exit status that belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hv.engines.base import Branch, EventType
from hv.exits import Fault, TripleFault, Unhandled, Unimplemented
from hv.outcomes import Suspended
from hv.signals import SuspendReason

STATUS_OK: Final = 0
STATUS_HALTED: Final = 2
STATUS_TRIPLE_FAULT: Final = 3
STATUS_ERROR: Final = 4

# SDM vol. 3, table "Protected-Mode Exceptions and Interrupts".
EXCEPTION_NAMES: Final = {
    0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS",
    11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM", 20: "#VE",
    21: "#CP",
}  # fmt: skip
_PAGE_FAULT: Final = 14


@dataclass(frozen=True, slots=True)
class Ending:
    """How a machine ends: the process's exit status and why."""

    status: int
    text: str


def ending(suspended: Suspended) -> Ending:
    """The ending that belongs to a suspend reason."""
    match suspended.reason:
        case SuspendReason.POWEROFF:
            return Ending(STATUS_OK, "the guest powered off")
        case SuspendReason.RESET:
            return Ending(STATUS_OK, "the guest reset the machine")
        case SuspendReason.HALT:
            return Ending(STATUS_HALTED, "the guest is halted for ever")
        case SuspendReason.TRIPLEFAULT:
            return Ending(STATUS_TRIPLE_FAULT, "triple fault")
        case SuspendReason.DEBUG_EXIT:
            value = suspended.value
            return Ending((value << 1 | 1) & 0xFF, f"the guest wrote {value} to the debug exit port")


def fault_text(fault: Fault) -> str:
    """One event: its name, error code, and CR2 of a page fault."""
    name = EXCEPTION_NAMES.get(fault.vector, f"vector {fault.vector}")
    if fault.kind in (EventType.HWINTR, EventType.SWINTR):
        name = ("interrupt" if fault.kind == EventType.HWINTR else "INT") + f" {fault.vector:#x}"
    error = "" if fault.error is None else f", error {fault.error:#x}"
    cr2 = f", cr2 {fault.cr2:#x}" if fault.vector == _PAGE_FAULT else ""
    return f"{name} at {fault.rip:#x}{error}{cr2}"


def triple_fault_text(vcpu: int, exit_: TripleFault) -> str:
    """Which vCPU shut down, and the chain of faults that led to it."""
    chain = ", then ".join(fault_text(fault) for fault in exit_.chain)
    return f"vCPU {vcpu}: triple fault at {exit_.rip:#x}" + (f": {chain}" if chain else "")


def branches_text(branches: Sequence[Branch]) -> str:
    """The way to a place, newest branch first, a line each."""
    lines = [f"\n    {branch.source:#x} -> {branch.target:#x}" for branch in branches]
    return f"\nLast branches, newest first:{''.join(lines)}" if lines else ""


def stuck_text(vcpu: int, exit_: Unhandled | Unimplemented) -> str:
    """An instruction that cannot be carried out, with its bytes."""
    what = "is not implemented" if isinstance(exit_, Unimplemented) else "cannot be carried out on a device"
    return f"vCPU {vcpu}: the instruction at {exit_.rip:#x} {what}: {exit_.code.hex(' ')}"
