"""The core's registers by name, and reading many of them in one call."""

from __future__ import annotations

import struct
from typing import Any, Final

from accel import ffi, lib
from hv.errors import EngineError

_MAX_SELECTIONS: Final = 256


class Selection:
    """Registers that are read together. `None` in place of a row: a name that the core does not have."""

    def __init__(self, rows: list[tuple[int, int] | None]) -> None:
        known = [row for row in rows if row is not None]
        self._numbers = ffi.new("int[]", [number for number, _ in known])
        self._count = len(known)
        self._size = sum(size for _, size in known)
        self._values = ffi.new("uint8_t[]", self._size)
        self._buffer = ffi.buffer(self._values)
        self._unpack = struct.Struct("".join(f"{size}s" for _, size in known)).unpack
        self._absent = [place for place, row in enumerate(rows) if row is None]

    def read(self, cpu: Any) -> tuple[bytes | None, ...]:
        """The values on the core's `cpu`, in the order asked for."""
        if lib.accel_regs_get(cpu, self._numbers, self._count, self._values, self._size) != lib.ACCEL_OK:
            raise EngineError("the core refused to read its registers")
        values: tuple[bytes | None, ...] = self._unpack(self._buffer)
        if self._absent:
            spread = list(values)
            for place in self._absent:
                spread.insert(place, None)
            return tuple(spread)
        return values


class RegisterTable:
    """`rows`: (number, size in bytes) by name, as regs.def has them."""

    def __init__(self) -> None:
        names = [ffi.string(lib.accel_reg_name(number)).decode() for number in range(lib.accel_reg_count())]
        self.rows = {name: (number, int(lib.accel_reg_size(number))) for number, name in enumerate(names)}
        self._selections: dict[tuple[str, ...], Selection] = {}

    def select(self, names: tuple[str, ...]) -> Selection:
        """The registers `names` together; the same names come again and again, and are looked up once."""
        selection = self._selections.get(names)
        if selection is None:
            if len(self._selections) >= _MAX_SELECTIONS:
                self._selections.clear()
            selection = self._selections[names] = Selection([self.rows.get(name) for name in names])
        return selection
