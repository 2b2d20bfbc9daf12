"""More that a target may have, each a Protocol; and `Capabilities`, which finds out what one has.

The rules of `gdbstub.target` hold here too: every method is called in the server's task tree, with checked
arguments, between `attach` and `detach`, and may raise a `TargetError`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from gdbstub.lease import Lease
from gdbstub.target import (
    Breakpoints,
    Conditions,
    Event,
    Killable,
    Monitor,
    Offsets,
    PhysicalMemory,
    RangeStepping,
    ResumePlan,
    SteppingPolicy,
    Stop,
    Target,
    TextOutput,
    Watchpoints,
)


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """``[start, start + size)`` with one set of permissions; with none of them nothing is mapped there."""

    start: int
    size: int
    readable: bool = False
    writable: bool = False
    executable: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Library:
    """A program loaded beside the main one: the name of its file, and the addresses of its segments."""

    name: str
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of ``info os``: its columns' names, and rows as long."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions executed one after the other without a branch taken: the addresses of the first and of
    the last one."""

    begin: int
    end: int


@runtime_checkable
class MemoryRegions(Protocol):
    """`qMemoryRegionInfo`: the map of memory as a thread sees it."""

    async def memory_region(self, thread: int, address: int) -> MemoryRegion:
        """The region that `address` lies in; where nothing is mapped, the whole gap."""
        ...


@runtime_checkable
class Restart(Protocol):
    """`R`, `vRun`: start again from the beginning. Makes extended-remote mode available."""

    async def restart(self) -> Stop:
        """Reset, keep breakpoints, and stand before the first instruction."""
        ...


@runtime_checkable
class VirtualFiles(Protocol):
    """`vFile` and `qXfer:exec-file`: texts and images under names of the target's choice, read-only.

    No name ever reaches a file system.
    """

    async def read_file(self, path: str) -> bytes | None:
        """The contents of `path` now; None when there is no such name."""
        ...

    async def executable(self) -> str | None:
        """The name of the program that is loaded, if it is one of the files."""
        ...


@runtime_checkable
class Libraries(Protocol):
    """`qXfer:libraries`: programs that come while the target runs. A client reads their symbols from the
    target's files."""

    async def libraries(self) -> Sequence[Library]:
        """The list as it is now. A client that has asked can be told of changes: `StopReason.LIBRARY`."""
        ...


@runtime_checkable
class SystemTables(Protocol):
    """`qXfer:osdata`: ``info os``."""

    async def tables(self) -> Sequence[tuple[str, str]]:
        """Name and description of each table."""
        ...

    async def table(self, name: str) -> Table | None:
        """The table as it is now; None for an unknown name."""
        ...


@runtime_checkable
class BranchTrace(Protocol):
    """``record btrace bts``: the way that a thread took."""

    async def set_branch_trace(self, thread: int, size: int | None) -> None:
        """Begin to record `thread`, keeping about `size` bytes (16 a block), or end it (None)."""
        ...

    async def branch_trace(self, thread: int) -> Sequence[Block]:
        """What is recorded, newest first; the first block ends at the program counter."""
        ...


@runtime_checkable
class NonStop(Protocol):
    """`QNonStop`: threads run and stop one by one, and requests are served meanwhile.

    In this mode `resume`, `wait_stop` and `interrupt` are not called.
    """

    async def set_non_stop(self, on: bool) -> None:
        """Enter or leave the mode. Leaving stops every thread and drops events not collected. Raises
        `TargetError`, as when others are connected."""
        ...

    async def start(self, plan: ResumePlan) -> None:
        """Set threads going, those that stand and for which the plan has something other than `Stay`. A
        thread that runs already goes on with what it does."""
        ...

    async def halt(self, threads: Sequence[int]) -> None:
        """Ask each of these that runs to stop, with `StopReason.INTERRUPT`. Does not wait."""
        ...

    async def next_stop(self) -> Event:
        """Wait for the next thread's stop; the others go on. Cancelling loses nothing."""
        ...


@runtime_checkable
class Shared(Protocol):
    """Several clients at once: one controls, the others look on.

    With it the server joins `lease` before it attaches. Only the connection in control gets `attach`, or
    `take_control` when it was looking on; one that looks on gets `look_on`. All get `detach` at their end,
    which for one that looks on changes nothing for the others.
    """

    @property
    def lease(self) -> Lease:
        """The one lease of everybody at this target."""
        ...

    async def look_on(self) -> Stop:
        """Come in without control and change nothing; how the target stands, or last stood."""
        ...

    async def take_control(self) -> Stop:
        """This connection has the lease now: stop the target, as `attach` does."""
        ...

    async def give_up_control(self) -> None:
        """Another gets the lease. The target stands; this connection's breakpoints, watchpoints and
        policies end."""
        ...

    def runs(self) -> bool:
        """Whether the target runs now, whoever set it going."""
        ...

    async def follow(self) -> Event:
        """Wait for the end of what runs now. Cancelling loses nothing."""
        ...

    def only_reads(self, command: str) -> bool:
        """Whether a monitor command changes nothing, so that one who looks on may give it."""
        ...


@runtime_checkable
class Relayout(Protocol):
    """A `description` that may follow the processor's mode.

    A client keeps the layout that it has read, so `description` changes only when it reads anew.
    """

    async def latch_description(self, thread: int) -> None:
        """A client begins to read the description: it is now the one for how `thread` stands."""
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The optional Protocols that a target satisfies; None for one that it lacks."""

    breakpoints: Breakpoints | None = None
    watchpoints: Watchpoints | None = None
    range_stepping: RangeStepping | None = None
    monitor: Monitor | None = None
    killable: Killable | None = None
    stepping_policy: SteppingPolicy | None = None
    physical_memory: PhysicalMemory | None = None
    offsets: Offsets | None = None
    conditions: Conditions | None = None
    text_output: TextOutput | None = None
    memory_regions: MemoryRegions | None = None
    restart: Restart | None = None
    virtual_files: VirtualFiles | None = None
    libraries: Libraries | None = None
    system_tables: SystemTables | None = None
    branch_trace: BranchTrace | None = None
    non_stop: NonStop | None = None
    shared: Shared | None = None
    relayout: Relayout | None = None

    @classmethod
    def of(cls, target: Target) -> Capabilities:
        """Find out what `target` can do."""
        has: dict[str, Any] = {
            n: target for n, protocol in _PROTOCOLS.items() if isinstance(target, protocol)
        }
        found = cls(**has)
        if found.range_stepping is not None and not found.range_stepping.steps_ranges:
            found = dataclasses.replace(found, range_stepping=None)
        return found

    @property
    def processes(self) -> bool:
        """Whether clients see a process, 1: there is something to run again, or files that belong to it."""
        return self.restart is not None or self.virtual_files is not None


_PROTOCOLS: dict[str, type] = {
    "breakpoints": Breakpoints,
    "watchpoints": Watchpoints,
    "range_stepping": RangeStepping,
    "monitor": Monitor,
    "killable": Killable,
    "stepping_policy": SteppingPolicy,
    "physical_memory": PhysicalMemory,
    "offsets": Offsets,
    "conditions": Conditions,
    "text_output": TextOutput,
    "memory_regions": MemoryRegions,
    "restart": Restart,
    "virtual_files": VirtualFiles,
    "libraries": Libraries,
    "system_tables": SystemTables,
    "branch_trace": BranchTrace,
    "non_stop": NonStop,
    "shared": Shared,
    "relayout": Relayout,
}
"""Field to Protocol."""
