"""Debuggers' names of registers, and the engine's.

What debuggers call the program counter is a linear address; in the 32-bit layouts they see the low halves of
registers.
"""

from __future__ import annotations

from typing import Final

LOW_SIZE: Final = 4
LOW_HALVES: Final = {
    f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip")
}
"""Name of a low half to the whole register's."""
CONSTANTS: Final = {"orig_rax": b"\xff" * 8}
"""Registers that no CPU has. A debugger for Linux processes wants to know from orig_rax which system call is
to be begun again: none."""


def engine_name(name: str) -> str:
    """The engine's name for what a debugger calls `name`, when it is read."""
    whole = LOW_HALVES.get(name, name)
    return "linear_pc" if whole == "rip" else whole
