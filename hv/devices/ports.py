"""Single-register devices of a PC and of test guests.

Sources: 82371SB (PIIX3) datasheet, "Reset Control Register" (CF9h); IBM PS/2 Hardware Interface Technical
Reference, "System Control Port A" (92h); the POST code port 80h; QEMU's documented `isa-debug-exit` and
debug console (the Bochs "port E9 hack") conventions.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from hv.device import ByteSink, Field, FieldDevice

FAST_A20: Final = 1 << 1
FAST_RESET: Final = 1 << 0
CF9_FULL: Final = 1 << 3
CF9_CPU: Final = 1 << 2
CF9_SYSTEM: Final = 1 << 1


class ResetKind(Enum):
    """What a guest asked to reset: the whole machine, or the processors only."""

    HARD = "hard"
    INIT = "init"


class FastA20(FieldDevice):
    """Port 92h: the A20 gate (bit 1) and the fast reset (a rising edge of bit 0). A20 is on at first."""

    kind = "fast-a20"
    version = 1
    fields = (Field("value", 8),)

    def __init__(self, reset: Callable[[], None], a20: Callable[[bool], None]) -> None:
        self._reset = reset
        self._a20 = a20
        self.value = FAST_A20

    def reset(self) -> None:
        """A20 on."""
        self._set(FAST_A20)

    @property
    def a20(self) -> bool:
        """Level of this gate's A20 output."""
        return bool(self.value & FAST_A20)

    def read(self, offset: int, size: int) -> int:
        """The value last written."""
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        """Both bits act on their change."""
        rising = value & ~self.value & FAST_RESET
        self._set(value)
        if rising:
            self._reset()

    def _set(self, value: int) -> None:
        before, self.value = self.value, value
        if (before ^ value) & FAST_A20:
            self._a20(self.a20)


class ResetControl(FieldDevice):
    """Port CF9h: a rising edge of bit 2 resets, the whole machine if bit 1 or bit 3 is set."""

    kind = "reset-control"
    version = 1
    fields = (Field("value", 8),)

    def __init__(self, reset: Callable[[ResetKind], None]) -> None:
        self._reset = reset
        self.value = 0

    def reset(self) -> None:
        """All bits clear."""
        self.value = 0

    def read(self, offset: int, size: int) -> int:
        """The type bits; the reset bit never stays."""
        return self.value

    def write(self, offset: int, size: int, value: int) -> None:
        """Set the type, or reset."""
        self.value = value & (CF9_SYSTEM | CF9_FULL)
        if value & CF9_CPU:
            self._reset(ResetKind.HARD if value & (CF9_SYSTEM | CF9_FULL) else ResetKind.INIT)


class DebugExit(FieldDevice):
    """Port F4h: a write of v ends the run, with process status (v << 1) | 1. Reads 0."""

    kind = "debug-exit"
    version = 1
    fields = ()

    def __init__(self, exit_: Callable[[int], None]) -> None:
        self._exit = exit_

    def reset(self) -> None:
        """It has no state."""

    def read(self, offset: int, size: int) -> int:
        """Always 0."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the run with `value`."""
        self._exit(value)


class DebugConsole(FieldDevice):
    """Port E9h: each byte written goes to `sink`; reads give E9h, by which guests detect it."""

    kind = "debug-console"
    version = 1
    fields = ()

    def __init__(self, sink: ByteSink) -> None:
        self.sink = sink

    def reset(self) -> None:
        """It has no state."""

    def read(self, offset: int, size: int) -> int:
        """The detection value."""
        return 0xE9

    def write(self, offset: int, size: int, value: int) -> None:
        """Send a byte."""
        self.sink(bytes((value,)))


class PostCode(FieldDevice):
    """Port 80h: holds the last POST code; kernels write it as a delay."""

    kind = "post-code"
    version = 1
    fields = (Field("code", 8),)

    def __init__(self) -> None:
        self.code = 0

    def reset(self) -> None:
        """No code."""
        self.code = 0

    def read(self, offset: int, size: int) -> int:
        """The last code."""
        return self.code

    def write(self, offset: int, size: int, value: int) -> None:
        """Show a code."""
        self.code = value
