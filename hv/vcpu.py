"""One virtual CPU as the monitor handles it: registers, capabilities, events, state.

It does not run itself; `hv.scheduler` decides when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from hv.access import Board
from hv.engines.base import Activity, EngineCpu, EventType
from hv.errors import ConfigError
from hv.registers import read_int, write_int

# Capabilities by bhyve's names, and the control-block field behind each.
CAPABILITIES: Final = {
    "hlt_exit": "hlt_exit",
    "pause_exit": "pause_exit",
    "mtrap_exit": "monitor_trap",
    "bpt_exit": "bpt_exit",
    "mask_hwintr": "mask_hwintr",
}
_STATES: Final = {
    Activity.ACTIVE: "running",
    Activity.HALTED: "halted",
    Activity.SHUTDOWN: "shut down",
    Activity.WAIT_SIPI: "waits for a startup IPI",
}
_VECTOR_DF: Final = 8
_VECTORS: Final = 32


class Vcpu:
    """vCPU `index`, whose APIC id is the same number."""

    def __init__(self, index: int, cpu: EngineCpu, board: Board) -> None:
        self.index = index
        self.cpu = cpu
        self._board = board

    @property
    def activity(self) -> Activity:
        """What the CPU is doing."""
        return Activity(self.cpu.control.activity)

    @property
    def state(self) -> str:
        """`activity` for a person."""
        return _STATES[self.activity]

    def get(self, name: str) -> int:
        """A register as an unsigned integer. KeyError."""
        return read_int(self.cpu, name)

    @property
    def code_base(self) -> int:
        """What to add to an offset in the code segment for its linear address."""
        return self.get("linear_pc") - self.get("rip")

    def set(self, name: str, value: int) -> None:
        """Set one register. KeyError, ValueError."""
        write_int(self.cpu, name, value)
        self._follow(name)

    def get_many(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """The registers' bytes; None where there is none of that name."""
        return self.cpu.read_registers(tuple(names))

    def set_many(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Set registers, all or nothing. KeyError, ValueError: then every register is as it was."""
        before, changed = self.cpu.save(), []
        try:
            for name, value in values:
                if self.cpu.read_register(name) != value:
                    self.cpu.write_register(name, value)
                    changed.append(name)
        except (KeyError, ValueError):
            self.cpu.load(before)
            raise
        for name in changed:
            self._follow(name)

    def _follow(self, name: str) -> None:
        if name == "cr8":
            self._board.set_task_priority(self.index, self.get(name))
        elif name == "tsc_adjust":
            self._board.tsc_moved(self.index)

    def capability(self, name: str) -> bool:
        """Whether a capability is on. `ConfigError` for an unknown name."""
        return bool(getattr(self.cpu.control, self._field(name)))

    def set_capability(self, name: str, on: bool) -> None:
        """Switch a capability. `ConfigError` for an unknown name."""
        setattr(self.cpu.control, self._field(name), int(on))

    def _field(self, name: str) -> str:
        if name not in CAPABILITIES:
            raise ConfigError(f"no capability is called {name!r}")
        return CAPABILITIES[name]

    def inject(self, kind: EventType, vector: int, error: int | None = None, length: int = 0) -> bool:
        """Have an event delivered before the next instruction; False if one waits already.

        `length` is that of the instruction that raises a software event: the saved RIP is behind it.
        ValueError for an exception vector beyond 31 and for #DF, which only arises from other faults.
        """
        if kind is EventType.EXCEPTION and (not 0 <= vector < _VECTORS or vector == _VECTOR_DF):
            raise ValueError(f"exception {vector} cannot be injected")
        control = self.cpu.control
        if control.inject_valid:
            return False
        control.inject_type = kind
        control.inject_vector = vector
        control.inject_has_error = int(error is not None)
        control.inject_error = error or 0
        control.inject_length = length
        control.inject_valid = 1
        return True
