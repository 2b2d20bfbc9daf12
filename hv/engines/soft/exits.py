"""What the core says when it leaves: `accel_exit` records as the dataclasses of `hv.exits`."""

from __future__ import annotations

from typing import Any, Final

from accel import ffi, lib
from hv.engines.base import EventType
from hv.errors import EngineError
from hv.exits import (
    Bpt,
    BptSource,
    CatchSource,
    Caught,
    Cr8,
    Deadline,
    EventInFlight,
    ExceptionExit,
    Exit,
    Fault,
    Hlt,
    IrqWindow,
    Kick,
    Mtrap,
    NmiWindow,
    Pause,
    Tpr,
    TripleFault,
    TscMoved,
    Unhandled,
    Unimplemented,
    Wait,
    Watch,
    WatchHit,
    Woken,
    WriteOrigin,
)

EXIT_NAMES: Final = (
    "deadline",
    "kick",
    "inout",
    "mmio",
    "hlt",
    "pause",
    "mtrap",
    "bpt",
    "db",
    "rdmsr",
    "wrmsr",
    "irq_window",
    "nmi_window",
    "exception",
    "tpr",
    "cr8",
    "watch",
    "triple_fault",
    "unhandled",
    "unimplemented",
    "wait",
    "tsc",
    "catch",
    "wake",
)
_MAX_HITS: Final = 64

KICK_EXIT: Final = Kick()
PLAIN_EXITS: Final[dict[int, Exit]] = {
    0: Deadline(),
    1: KICK_EXIT,
    4: Hlt(),
    5: Pause(),
    6: Mtrap(),
    11: IrqWindow(),
    12: NmiWindow(),
    14: Tpr(),
    20: Wait(),
    21: TscMoved(),
    23: Woken(),
}
"""Exits without a payload, by `enum accel_exit_kind`."""


def decode_exit(cpu: Any, record: Any) -> Exit:
    """The exit in `record`, the last of the core's `cpu`. EngineError for one that was not asked for."""
    kind = record.kind
    plain = PLAIN_EXITS.get(kind)
    if plain is not None:
        return plain
    rip = record.rip
    match EXIT_NAMES[kind]:
        case "bpt":
            return _breakpoint(cpu, record)
        case "exception":
            error = record.error if record.has_error else None
            during = _in_flight(lib.accel_cpu_control(cpu))
            chain = _chain(cpu) if during is not None else ()
            kind, length = record.number, record.inst_length
            return ExceptionExit(rip, record.vector, error, record.value, during, chain, kind, length)
        case "cr8":
            return Cr8(record.value)
        case "watch":
            return Watch(_hits(cpu))
        case "triple_fault":
            return TripleFault(rip, _chain(cpu))
        case "catch":
            source = CatchSource(record.source)
            return Caught(rip, source, record.number, bool(record.write), record.gpa, record.value)
        case "unhandled":
            return Unhandled(rip, bytes(record.bytes))
        case "unimplemented":
            return Unimplemented(rip, bytes(record.bytes))
        case name:
            raise EngineError(f"the core left with an exit that was not asked for: {name}")


def _breakpoint(cpu: Any, record: Any) -> Bpt:
    if record.source == lib.ACCEL_BPT_GUEST:
        interrupt = record.number == EventType.SWINTR
        return Bpt(record.rip, BptSource.GUEST, 0, record.bpt_length, interrupt=interrupt)
    others = () if record.number < 2 else _breakpoints(cpu)[1:]
    return Bpt(record.rip, BptSource.SET, record.id, record.bpt_length, others)


def _breakpoints(cpu: Any) -> tuple[int, ...]:
    ids = ffi.new("uint64_t[]", _MAX_HITS)
    return tuple(ids[0 : lib.accel_break_hits(cpu, ids, _MAX_HITS)])


def _hits(cpu: Any) -> tuple[WatchHit, ...]:
    hits = ffi.new("accel_hit[]", _MAX_HITS)
    count = lib.accel_watch_hits(cpu, hits, _MAX_HITS)
    return tuple(
        WatchHit(
            h.id, h.address, h.size, bool(h.write), WriteOrigin(h.origin), h.old_value, h.new_value, h.device
        )
        for h in hits[0:count]
    )


def _chain(cpu: Any) -> tuple[Fault, ...]:
    chain = ffi.new("accel_fault[]", lib.ACCEL_MAX_CHAIN)
    count = lib.accel_fault_chain(cpu, chain, lib.ACCEL_MAX_CHAIN)
    return tuple(
        Fault(f.vector, f.error if f.has_error else None, f.cr2, f.rip, f.type) for f in chain[0:count]
    )


def _in_flight(control: Any) -> EventInFlight | None:
    if not control.inflight_valid:
        return None
    error = control.inflight_error if control.inflight_has_error else None
    return EventInFlight(control.inflight_type, control.inflight_vector, error)
