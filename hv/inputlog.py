"""The one door through which the outside world reaches a guest, and the log of what passed it.

Every influence (`hv.inputs`) is stamped with the machine tick at which it takes effect, optionally
recorded, and applied. As there is exactly one settled state per machine tick, the stamp alone says
where in the guest's history it belongs: a replay applies each item when the clock shows its stamp.

File format, a sequence of CBOR items (RFC 8949): a map

    {"format": "hv-inputs", "version": 1, "machine": {...}, "images": {name: blake2b-256 hex}}

then one array per influence, `[tick, kind, field, ...]` with the fields of its dataclass, and at the
end `[tick, "end"]`.
"""

from __future__ import annotations

import dataclasses
import io
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import cbor2

from hv.begun import Begun, BegunTicks
from hv.clock import MachineClock
from hv.device import Value, child
from hv.errors import ConfigError, ReplayError
from hv.inputs import (
    Advance,
    BegunTick,
    ConsoleInput,
    HeldTicks,
    Influence,
    InjectEvent,
    IrqHeld,
    IrqMask,
    MachineReset,
    MemoryWrite,
    MsrWrite,
    PortAccess,
    RegisterWrite,
    SwitchVcpu,
)

FORMAT: Final = "hv-inputs"
VERSION: Final = 1
MAX_LOG_SIZE: Final = 1 << 30
_END: Final = "end"
_KINDS: Final[dict[str, type[Any]]] = {
    "console": ConsoleInput,
    "registers": RegisterWrite,
    "memory": MemoryWrite,
    "irq-held": IrqHeld,
    "irq-mask": IrqMask,
    "held-ticks": HeldTicks,
    "begun": BegunTick,
    "switch": SwitchVcpu,
    "advance": Advance,
    "inject": InjectEvent,
    "port": PortAccess,
    "msr": MsrWrite,
    "reset": MachineReset,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}

Header: TypeAlias = "Mapping[str, Value]"


def make_header(machine: Mapping[str, Value], images: Mapping[str, str]) -> dict[str, Value]:
    """The header of a log for a machine made from `machine` with images of these digests."""
    return {"format": FORMAT, "version": VERSION, "machine": dict(machine), "images": dict(images)}


class Recorder:
    """Writes a log. Each item is flushed, so that a log is complete up to a crash of the host."""

    def __init__(self, path: str, header: Header) -> None:
        try:
            self._file: BinaryIO = open(path, "wb")  # noqa: SIM115  closed by close()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}", "--record") from None
        self._write(dict(header))

    def _write(self, item: object) -> None:
        self._file.write(cbor2.dumps(item))
        self._file.flush()

    def add(self, tick: int, item: Influence) -> None:
        """Record one influence."""
        fields = [getattr(item, field.name) for field in dataclasses.fields(item)]
        self._write([tick, _NAMES[type(item)], *fields])

    def close(self, tick: int) -> None:
        """The run ended at `tick`."""
        if not self._file.closed:
            self._write([tick, _END])
            self._file.close()


class Replay:
    """A log that was read completely and checked: its header, its items and the tick of its end."""

    def __init__(self, header: Header, items: list[tuple[int, Influence]], end: int | None) -> None:
        self.header = header
        self.end = end
        self._items = deque(items)

    def __len__(self) -> int:
        """Items not applied yet."""
        return len(self._items)

    @classmethod
    def read(cls, path: str) -> Replay:
        """Read and check a log. `ReplayError`, one line, unless it is a complete log of this version."""
        try:
            if Path(path).stat().st_size > MAX_LOG_SIZE:
                raise ReplayError(f"{path} is larger than any input log")
            data = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            raise ReplayError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        stream = io.BytesIO(data)
        header = _check_header(path, _next_item(path, stream))
        items: list[tuple[int, Influence]] = []
        last = 0
        while stream.tell() < len(data):
            raw = _next_item(path, stream)
            tick, name = _stamp(path, raw, last)
            if name == _END:
                return cls(header, items, tick)
            items.append((tick, _decode(path, name, raw[2:])))
            last = tick
        return cls(header, items, None)

    def check(self, expected: Header) -> None:
        """`ReplayError` unless the log was recorded on a machine with this header."""
        for part in ("machine", "images"):
            here, there = child(FORMAT, expected, part), child(FORMAT, self.header, part)
            for key in sorted({*here, *there}, key=str):
                if here.get(key) != there.get(key):
                    was, now = there.get(key), here.get(key)
                    raise ReplayError(f"the log was recorded with {part} {key} = {was!r}, here it is {now!r}")

    def next_stamp(self) -> int | None:
        """The tick of the next item."""
        return self._items[0][0] if self._items else None

    def take(self) -> Influence:
        """The next item, which is thereby done."""
        return self._items.popleft()[1]


def _next_item(path: str, stream: io.BytesIO) -> Any:
    try:
        return cbor2.load(stream)
    except (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError, RecursionError):
        raise ReplayError(f"{path} is not an input log, or it is cut off") from None


def _check_header(path: str, raw: object) -> Header:
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ReplayError(f"{path} is not an input log")
    if raw.get("version") != VERSION:
        raise ReplayError(
            f"{path} is an input log of version {raw.get('version')!r}, this program reads {VERSION}"
        )
    if not isinstance(raw.get("machine"), dict) or not isinstance(raw.get("images"), dict):
        raise ReplayError(f"{path} has an incomplete header")
    return raw


def _stamp(path: str, raw: object, last: int) -> tuple[int, str]:
    if (
        not isinstance(raw, list)
        or len(raw) < 2
        or not isinstance(raw[0], int)
        or not isinstance(raw[1], str)
    ):
        raise ReplayError(f"{path} has a malformed entry")
    if raw[0] < last:
        raise ReplayError(f"{path} has entries out of order", raw[0])
    return raw[0], raw[1]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "int": _is_int,
    "bool": lambda value: isinstance(value, bool),
    "bytes": lambda value: isinstance(value, bytes),
    "int | None": lambda value: value is None or _is_int(value),
    "tuple[tuple[str, bytes], ...]": lambda value: all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], bytes)
        for pair in value
    ),
}


def _decode(path: str, name: str, raw: list[Any]) -> Influence:
    kind = _KINDS.get(name)
    if kind is None:
        raise ReplayError(f"{path} has an entry of unknown kind {name!r}")
    fields = dataclasses.fields(kind)
    values = [_pairs(value) if isinstance(value, list) else value for value in raw]
    if len(values) != len(fields) or not all(
        _CHECKS[str(field.type)](value) for field, value in zip(fields, values, strict=True)
    ):
        raise ReplayError(f"{path} has a malformed entry of kind {name!r}")
    item: Influence = kind(*values)
    return item


def _pairs(value: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


class InputDoor:
    """Stamps, records and applies influences; or, in a replay, applies those of the log and no others."""

    def __init__(
        self,
        clock: MachineClock,
        apply: Callable[[Influence], int | None],
        begun: BegunTicks,
        *,
        recorder: Recorder | None = None,
        replay: Replay | None = None,
    ) -> None:
        self.replay = replay
        self.recorder = recorder
        self.passed = 0
        """How many influences there have been."""
        self._clock = clock
        self._apply = apply
        self._begun = begun

    @property
    def replaying(self) -> bool:
        """Whether the guest may be influenced by the log only."""
        return self.replay is not None

    def submit(self, item: Influence) -> int | None:
        """Apply `item` at the present tick; what came of it, if it is one that answers. `ReplayError` in a
        replay."""
        if self.replay is not None:
            raise ReplayError("the guest cannot be changed while a log is replayed")
        self.log_begun()
        tick = self._clock.now
        self.passed += 1
        answer = self._apply(item)
        self._record(tick, item)
        return answer

    def apply_within(self, item: Begun) -> None:
        """Apply `item`, part of a tick that is begun; recorded if that is, now or before it ends."""
        self._apply(item)
        if self._begun.holds(item.vcpu):
            self._begun.add(self._clock.now, item)
        else:
            self._record(self._clock.now, item)

    def log_begun(self) -> None:
        """Record the ticks that are begun: something else is about to happen before they are done."""
        for tick, item in self._begun.take():
            self._record(tick, item)

    def note(self, item: Influence) -> None:
        """Record `item`, which was carried out at the present tick, after `log_begun`. Not in a replay."""
        self.passed += 1
        self._record(self._clock.now, item)

    def _record(self, tick: int, item: Influence) -> None:
        if self.recorder is not None:
            self.recorder.add(tick, item)

    def next_stamp(self) -> int | None:
        """The machine tick at which the replay must look in again."""
        return None if self.replay is None else self.replay.next_stamp()

    def apply_due(self) -> None:
        """Apply the log's items for the present tick. `ReplayError` when one's tick has passed unseen."""
        if self.replay is None:
            return
        while (stamp := self.replay.next_stamp()) is not None and stamp <= self._clock.now:
            if stamp < self._clock.now:
                raise ReplayError("the replay does not follow the log: an input was missed", stamp)
            item = self.replay.take()
            try:
                self._apply(item)
            except (IndexError, KeyError, OverflowError, ValueError):
                what = f"the log has an entry of kind {_NAMES[type(item)]!r} that this machine cannot take"
                raise ReplayError(what, stamp) from None

    def close(self) -> None:
        """The run is over."""
        self.log_begun()
        if self.recorder is not None:
            self.recorder.close(self._clock.now)
