"""Requests: one frozen dataclass per packet; `gdbstub.packets` parses them. Pure.

Numbers are hex on the wire. Source: *Debugging with GDB*, appendix "Remote Protocol", sections "Packets",
"vCont packet", "General Query Packets"; QEMU's documentation "GDB usage" for the `qqemu` packets.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdbstub.fields import ALL_THREADS, ANY_THREAD
from gdbstub.requests_control import ControlRequest
from gdbstub.requests_lldb import LldbRequest


@dataclass(frozen=True, slots=True)
class Unknown:
    """A packet that has no row."""


@dataclass(frozen=True, slots=True)
class Supported:
    """``qSupported:feature;...`` with the client's features as sent: ``swbreak+``, ``xmlRegisters=i386``."""

    features: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class StartNoAckMode:
    """``QStartNoAckMode``."""


@dataclass(frozen=True, slots=True)
class StopQuery:
    """``?``."""


@dataclass(frozen=True, slots=True)
class ReadGeneral:
    """``g``. This and its like may name a `thread` of their own, as LLDB does: ``g;thread:1;``."""

    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class WriteGeneral:
    """``G XX...``."""

    data: bytes
    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class ReadRegister:
    """``p n``."""

    number: int
    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class WriteRegister:
    """``P n=r``."""

    number: int
    value: bytes
    thread: int = ANY_THREAD


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """``m addr,length`` or, `binary`, ``x addr,length``."""

    address: int
    length: int
    binary: bool = False


@dataclass(frozen=True, slots=True)
class WriteMemory:
    """``M addr,length:XX...`` or ``X addr,length:bytes``."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SelectThread:
    """``H op thread``; `operation` is ``g`` or ``c``."""

    operation: str
    thread: int


@dataclass(frozen=True, slots=True)
class ThreadAlive:
    """``T thread``."""

    thread: int


@dataclass(frozen=True, slots=True)
class CurrentThread:
    """``qC``."""


@dataclass(frozen=True, slots=True)
class FirstThreads:
    """``qfThreadInfo``."""


@dataclass(frozen=True, slots=True)
class NextThreads:
    """``qsThreadInfo``."""


@dataclass(frozen=True, slots=True)
class ThreadExtra:
    """``qThreadExtraInfo,thread``."""

    thread: int


@dataclass(frozen=True, slots=True)
class AttachedQuery:
    """``qAttached``."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """``qXfer:object:read:annex:offset,length``."""

    object: str
    annex: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class LegacyResume:
    """``c``, ``s``, ``C sig``, ``S sig``, each with an optional address to go on from."""

    step: bool
    signal: int
    address: int | None


@dataclass(frozen=True, slots=True)
class ContQuery:
    """``vCont?``."""


@dataclass(frozen=True, slots=True)
class ContAction:
    """One action of ``vCont``: `kind` is one of ``c C s S r t``; `start` and `end` belong to ``r``."""

    kind: str
    thread: int = ALL_THREADS
    signal: int = 0
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Cont:
    """``vCont;action[:thread];...``."""

    actions: tuple[ContAction, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """``Z type,addr,kind`` (`insert`) or ``z type,addr,kind``. `extra` is what follows a semicolon."""

    insert: bool
    type: int
    address: int
    kind: int
    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class DetachRequest:
    """``D`` or ``D;pid``; LLDB's ``D1`` (`stay`) leaves the target stopped."""

    stay: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """``k`` (no answer) or ``vKill;pid`` (`answered`)."""

    answered: bool


@dataclass(frozen=True, slots=True)
class MonitorCommand:
    """``qRcmd,command``."""

    command: str


@dataclass(frozen=True, slots=True)
class OffsetsQuery:
    """``qOffsets``."""


@dataclass(frozen=True, slots=True)
class SearchMemory:
    """``qSearch:memory:address;length;pattern``."""

    address: int
    length: int
    pattern: bytes


@dataclass(frozen=True, slots=True)
class MemoryCrc:
    """``qCRC:addr,length``."""

    address: int
    length: int


@dataclass(frozen=True, slots=True)
class StepBitsQuery:
    """``qqemu.sstepbits`` (also asked with a capital Q)."""


@dataclass(frozen=True, slots=True)
class StepPolicyQuery:
    """``qqemu.sstep``."""


@dataclass(frozen=True, slots=True)
class SetStepPolicy:
    """``Qqemu.sstep=mask``."""

    mask: int


@dataclass(frozen=True, slots=True)
class PhysicalQuery:
    """``qqemu.PhyMemMode``."""


@dataclass(frozen=True, slots=True)
class SetPhysical:
    """``Qqemu.PhyMemMode:0`` or ``:1``."""

    on: bool


Request = (
    Unknown
    | Supported
    | StartNoAckMode
    | StopQuery
    | ReadGeneral
    | WriteGeneral
    | ReadRegister
    | WriteRegister
    | ReadMemory
    | WriteMemory
    | SelectThread
    | ThreadAlive
    | CurrentThread
    | FirstThreads
    | NextThreads
    | ThreadExtra
    | AttachedQuery
    | Transfer
    | LegacyResume
    | ContQuery
    | Cont
    | Point
    | DetachRequest
    | Kill
    | MonitorCommand
    | OffsetsQuery
    | SearchMemory
    | MemoryCrc
    | StepBitsQuery
    | StepPolicyQuery
    | SetStepPolicy
    | PhysicalQuery
    | SetPhysical
    | LldbRequest
    | ControlRequest
)
