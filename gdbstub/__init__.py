"""A debug server, and a client, for the GDB Remote Serial Protocol.

It debugs anything that has the methods of `Target`; what a target has beyond them (breakpoints,
watchpoints, a monitor ...) is found by its methods and offered to clients. `docs/gdbstub.md` has a whole
target in thirty lines. The server is ``gdbstub.server.serve`` and the client ``gdbstub.client.Client``;
only these two modules need trio.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gdbstub.addresses import Address, AddressError, StdioAddress, TcpAddress, UnixAddress, parse_address
    from gdbstub.capabilities import (
        Block,
        BranchTrace,
        Libraries,
        Library,
        MemoryRegion,
        MemoryRegions,
        NonStop,
        Restart,
        Shared,
        SystemTables,
        Table,
        VirtualFiles,
    )
    from gdbstub.description import Description, Feature, Register
    from gdbstub.errors import (
        MemoryAccessError,
        ProtocolError,
        RegisterError,
        StubError,
        TargetBusyError,
        TargetError,
        TargetGoneError,
        ThreadNotFoundError,
        UnsupportedError,
    )
    from gdbstub.lease import Lease, Seat
    from gdbstub.signals import Signal
    from gdbstub.target import (
        Action,
        BreakpointKind,
        Breakpoints,
        Client,
        Conditions,
        Continue,
        Detach,
        Event,
        Exited,
        Killable,
        Killed,
        Monitor,
        Offsets,
        PhysicalMemory,
        RangeStepping,
        ResumePlan,
        SectionOffsets,
        Stay,
        Step,
        SteppingPolicy,
        StepPolicy,
        StepRange,
        Stop,
        StopReason,
        Target,
        TextOutput,
        ThreadAction,
        ThreadInfo,
        WatchHit,
        WatchKind,
        Watchpoints,
    )

__all__ = [
    "Action",
    "Address",
    "AddressError",
    "Block",
    "BranchTrace",
    "BreakpointKind",
    "Breakpoints",
    "Client",
    "Conditions",
    "Continue",
    "Description",
    "Detach",
    "Event",
    "Exited",
    "Feature",
    "Killable",
    "Killed",
    "Lease",
    "Libraries",
    "Library",
    "MemoryAccessError",
    "MemoryRegion",
    "MemoryRegions",
    "Monitor",
    "NonStop",
    "Offsets",
    "PhysicalMemory",
    "ProtocolError",
    "RangeStepping",
    "Register",
    "RegisterError",
    "Restart",
    "ResumePlan",
    "Seat",
    "SectionOffsets",
    "Shared",
    "Signal",
    "Stay",
    "StdioAddress",
    "Step",
    "StepPolicy",
    "StepRange",
    "SteppingPolicy",
    "Stop",
    "StopReason",
    "StubError",
    "SystemTables",
    "Table",
    "Target",
    "TargetBusyError",
    "TargetError",
    "TargetGoneError",
    "TcpAddress",
    "TextOutput",
    "ThreadAction",
    "ThreadInfo",
    "ThreadNotFoundError",
    "UnixAddress",
    "UnsupportedError",
    "VirtualFiles",
    "WatchHit",
    "WatchKind",
    "Watchpoints",
    "parse_address",
]

_HOMES: Final = ("target", "errors", "capabilities", "description", "addresses", "lease", "signals")


def __getattr__(name: str) -> Any:
    # Loaded when asked for: who imports one module of the package does not pay for all.
    if name in __all__:
        for home in _HOMES:
            module = importlib.import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
