"""The toy machine with every capability that the debug server knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gdbstub.evaluator import EvaluationError, evaluate, holds
from gdbstub.predicate import Program
from gdbstub.target import BreakpointKind, Stop, WatchKind
from tests.helpers.toy_target import RAM_SIZE, ToyTarget

PointKey = tuple[BreakpointKind | WatchKind, int, int]


class FullToy(ToyTarget):
    """See `tests.helpers.toy_target` for the machine."""

    def __init__(self, threads: int = 2) -> None:
        super().__init__(threads=threads)
        self.conditions: dict[PointKey, tuple[Sequence[Program], Sequence[Program], bool]] = {}
        self.console: Callable[[str], None] = lambda text: None

    def set_console(self, write: Callable[[str], None]) -> None:
        self.console = write

    async def set_conditions(
        self,
        kind: BreakpointKind | WatchKind,
        address: int,
        size: int,
        conditions: Sequence[Program],
        commands: Sequence[Program],
        persist: bool,
    ) -> None:
        self.conditions[kind, address, size] = (conditions, commands, persist)

    def _register_reader(self, thread: int) -> Callable[[str], int | None]:
        values = self.registers[thread - 1]
        return lambda name: None if name == "tsc_aux" else int.from_bytes(values[name], "little")

    def _memory(self, address: int, length: int) -> bytes | None:
        return bytes(self.ram[address : address + length]) if address + length <= RAM_SIZE else None

    def _counts(self, thread: int, key: PointKey) -> bool:
        """Whether a point that is hit stops; runs its commands."""
        conditions, commands, _ = self.conditions.get(key, ((), (), False))
        read_register = self._register_reader(thread)
        if not holds(conditions, read_register, self._memory):
            return False
        for program in commands:
            try:
                evaluate(program, read_register, self._memory, write=self.console)
            except EvaluationError as error:
                self.console(f"{error}\n")
        return not commands

    def _breakpoint(self, thread: int) -> Stop | None:
        hit = super()._breakpoint(thread)
        kinds = [kind for kind, address in self.points if address == self._pc(thread)]
        # All of them: each runs its commands.
        counts = [self._counts(thread, (kind, self._pc(thread), 1)) for kind in kinds]
        return hit if any(counts) else None

    def _watched(self, thread: int, address: int, kinds: tuple[WatchKind, WatchKind]) -> Stop | None:
        hit = super()._watched(thread, address, kinds)
        if hit is None:
            return None
        touched = [w for w in self.watches if w[0] in kinds and w[1] <= address < w[1] + w[2]]
        counts = [self._counts(thread, watch) for watch in touched]
        return hit if any(counts) else None
