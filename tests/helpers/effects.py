"""What each packet may do to the guest: the table that the session's fuzzers judge by."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from typing import Any, Final

from gdbstub import framing, packets, requests, requests_control, requests_lldb
from gdbstub.errors import ProtocolError, RequestError
from gdbstub.session import PACKET_SIZE


class Effect(enum.IntEnum):
    """The most that something may do to the guest; each includes those before it."""

    LOOKS = 0
    """Nothing: it is the same at the same tick."""
    LEAVES = 1
    """It goes on by itself."""
    RUNS = 2
    """It runs, or some of it; what is held back meanwhile is an influence."""
    WRITES = 3
    """It becomes another."""


REQUESTS: Final[dict[type[Any], Effect]] = {
    requests.Unknown: Effect.LOOKS,
    requests.Supported: Effect.LOOKS,
    requests.StartNoAckMode: Effect.LOOKS,
    requests.StopQuery: Effect.LOOKS,
    requests.AttachedQuery: Effect.LOOKS,
    requests.SelectThread: Effect.LOOKS,
    requests.ThreadAlive: Effect.LOOKS,
    requests.CurrentThread: Effect.LOOKS,
    requests.FirstThreads: Effect.LOOKS,
    requests.NextThreads: Effect.LOOKS,
    requests.ThreadExtra: Effect.LOOKS,
    requests.Transfer: Effect.LOOKS,
    requests.MonitorCommand: Effect.LOOKS,  # a target's commands may do more
    requests.OffsetsQuery: Effect.LOOKS,
    requests.StepBitsQuery: Effect.LOOKS,
    requests.StepPolicyQuery: Effect.LOOKS,
    requests.SetStepPolicy: Effect.LOOKS,
    requests.PhysicalQuery: Effect.LOOKS,
    requests.SetPhysical: Effect.LOOKS,
    requests.ReadGeneral: Effect.LOOKS,
    requests.WriteGeneral: Effect.WRITES,
    requests.ReadRegister: Effect.LOOKS,
    requests.WriteRegister: Effect.WRITES,
    requests.ReadMemory: Effect.LOOKS,
    requests.WriteMemory: Effect.WRITES,
    requests.SearchMemory: Effect.LOOKS,
    requests.MemoryCrc: Effect.LOOKS,
    requests.ContQuery: Effect.LOOKS,
    requests.Cont: Effect.RUNS,
    requests.LegacyResume: Effect.RUNS,  # WRITES with an address
    requests.Point: Effect.LOOKS,
    requests.DetachRequest: Effect.LEAVES,
    requests.Kill: Effect.LOOKS,
    requests_lldb.EnableOption: Effect.LOOKS,
    requests_lldb.HostInfo: Effect.LOOKS,
    requests_lldb.ProcessInfo: Effect.LOOKS,
    requests_lldb.ServerVersion: Effect.LOOKS,
    requests_lldb.DetachStopped: Effect.LOOKS,
    requests_lldb.Echo: Effect.LOOKS,
    requests_lldb.ThreadsInfo: Effect.LOOKS,
    requests_lldb.ThreadStop: Effect.LOOKS,
    requests_lldb.RegionQuery: Effect.LOOKS,
    requests_lldb.ReadMany: Effect.LOOKS,
    requests_lldb.PointMany: Effect.LOOKS,
    requests_lldb.SaveRegisters: Effect.LOOKS,
    requests_lldb.RestoreRegisters: Effect.WRITES,
    requests_control.ExtendedMode: Effect.LOOKS,
    requests_control.RestartRequest: Effect.WRITES,
    requests_control.RunProgram: Effect.WRITES,
    requests_control.AttachTo: Effect.LOOKS,
    requests_control.SetNonStop: Effect.LOOKS,
    requests_control.NextStop: Effect.LOOKS,
    requests_control.CtrlC: Effect.LOOKS,
    requests_control.BranchTraceRequest: Effect.LOOKS,
    requests_control.BranchTraceSize: Effect.LOOKS,
    requests_control.FileSystem: Effect.LOOKS,
    requests_control.FileOpen: Effect.LOOKS,
    requests_control.FileClose: Effect.LOOKS,
    requests_control.FileRead: Effect.LOOKS,
    requests_control.FileStat: Effect.LOOKS,
    requests_control.FileSize: Effect.LOOKS,
    requests_control.FileChange: Effect.LOOKS,
}
"""Of each request that has a handler."""


def effect_of(request: object) -> Effect:
    """The effect of a request. KeyError for one without a row."""
    if isinstance(request, requests.LegacyResume) and request.address is not None:
        return Effect.WRITES
    return REQUESTS[type(request)]


def effect_of_stream(stream: bytes, effect: Callable[[object], Effect] = effect_of) -> Effect:
    """The most that the requests which a server may find in `stream` do."""
    decoder = framing.Decoder(PACKET_SIZE)
    decoder.verify = False
    decoder.receive_data(stream)
    most = Effect.LOOKS
    try:
        while (unit := decoder.next_unit()) is not None:
            if isinstance(unit, framing.Packet):
                with contextlib.suppress(RequestError):
                    most = max(most, effect(packets.parse(unit.payload)))
    except ProtocolError:
        # A server that verifies checksums may have dropped the packet which ends it here.
        return Effect.WRITES
    return most
