"""What every part with state has in common, and the helper that writes and checks saved state.

A saved state is a `dict` of plain values (`State`): it starts with `kind` and `version`, its keys
keep the order of the device's field table, and it holds neither caches nor host objects. Equal
machines therefore give equal states, which can be hashed and written as CBOR.

A device lists its registers once, as a tuple of `Field`, and inherits the rest from `FieldDevice`:

    fields = (Field("irr", bits=8), Field("poll", bits=None), Field("nvram", bits=8, count=128))
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, TypeAlias

from hv.errors import SnapshotError

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[str, Value] | None"
State: TypeAlias = "dict[str, Value]"
ByteSink: TypeAlias = Callable[[bytes], None]

UNBOUNDED: Final = 0  # Field.bits of an integer of any size and sign


class Registers(Protocol):
    """A register file as a bus sees it: byte offsets from its first address, sizes in bytes."""

    def read(self, offset: int, size: int) -> int:
        """The register's value, with the side effects that the datasheet gives a read."""
        ...

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the register."""
        ...


class Stateful(Protocol):
    """Anything that names its state's kind and version."""

    @property
    def kind(self) -> str:
        """The part's name in saved states."""
        ...

    @property
    def version(self) -> int:
        """The version of its saved state's layout."""
        ...


class Device(Stateful, Protocol):
    """A part with state. `reset` is the power-on or machine reset, not a bus reset of one function."""

    def reset(self) -> None:
        """Put every register into its power-on state."""
        ...

    def save(self) -> State:
        """The whole state as plain values."""
        ...

    def load(self, state: Mapping[str, Value]) -> None:
        """Take over a saved state without raising edges; `SnapshotError` if it does not fit."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """One saved attribute: an unsigned integer of `bits` bits, or a flag when `bits` is None.

    With `count`, a list of that many such integers (a `bytearray` when the attribute is one); with
    `most`, one of any length up to it. `limit`, where given, is the first value that is too large
    although it fits into `bits`.
    """

    name: str
    bits: int | None
    count: int | None = None
    limit: int | None = None
    most: int | None = None


def header(part: Stateful) -> State:
    """The first two entries of every saved state."""
    return {"kind": part.kind, "version": part.version}


def check_header(part: Stateful, state: Mapping[str, Value]) -> None:
    """Raise `SnapshotError` unless `state` was saved by the same kind and version of part."""
    kind = state.get("kind")
    if kind != part.kind:
        raise SnapshotError(f"the saved state is of kind {kind!r}", part.kind)
    version = state.get("version")
    if version != part.version or isinstance(version, bool):
        found = version if isinstance(version, int) else None
        raise SnapshotError(f"saved state version {version!r}, expected {part.version}", part.kind, found)


def save_fields(part: Stateful, fields: Sequence[Field]) -> State:
    """Header and the listed attributes of `part`, as plain values."""
    state = header(part)
    for field in fields:
        value: Any = getattr(part, field.name)
        if isinstance(value, bytearray):
            state[field.name] = bytes(value)
        elif isinstance(value, list):
            state[field.name] = list(value)
        elif field.bits is None:
            state[field.name] = bool(value)
        else:
            state[field.name] = int(value)
    return state


def load_fields(part: Stateful, fields: Sequence[Field], state: Mapping[str, Value]) -> None:
    """Check header and every field first, then set the attributes, so that a bad state changes nothing."""
    check_header(part, state)
    values: list[tuple[str, Any]] = []
    for field in fields:
        if field.name not in state:
            raise SnapshotError(f"field {field.name!r} is missing", part.kind)
        values.append((field.name, _checked(part, field, state[field.name])))
    for name, value in values:
        current = getattr(part, name)
        if isinstance(current, (list, bytearray)):
            current[:] = value
        else:
            setattr(part, name, value)


def _checked(part: Stateful, field: Field, value: Value) -> Value:
    if field.count is None and field.most is None:
        _check_one(part, field, value)
        return value
    if not isinstance(value, (list, bytes)):
        raise SnapshotError(f"field {field.name!r} is not a list", part.kind)
    if (field.count is not None and len(value) != field.count) or (
        field.most is not None and len(value) > field.most
    ):
        raise SnapshotError(f"field {field.name!r} has {len(value)} values", part.kind)
    for item in value:
        _check_one(part, field, item)
    return value


def _check_one(part: Stateful, field: Field, value: Value) -> None:
    if field.bits is None:
        if not isinstance(value, bool):
            raise SnapshotError(f"field {field.name!r} is not a flag", part.kind)
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise SnapshotError(f"field {field.name!r} is not an integer", part.kind)
    if field.bits == UNBOUNDED:
        return
    limit = field.limit if field.limit is not None else 1 << field.bits
    if not 0 <= value < limit:
        raise SnapshotError(f"field {field.name!r} is out of range", part.kind)


class FieldDevice:
    """A device whose whole state is the attributes listed in `fields`."""

    kind: ClassVar[str]
    version: ClassVar[int]
    fields: ClassVar[tuple[Field, ...]]

    def save(self) -> State:
        """The registers in the order of `fields`."""
        return save_fields(self, self.fields)

    def load(self, state: Mapping[str, Value]) -> None:
        """Take over saved registers; timers are restored by the clock, lines without edges."""
        load_fields(self, self.fields, state)
        self.restored()

    def restored(self) -> None:
        """Recompute what the registers determine: caches, and line levels through `restore`."""


def child(what: str, state: Mapping[str, Value], name: str) -> dict[str, Value]:
    """The saved state stored under `name` inside another one; `SnapshotError` when it is not a map."""
    value = state.get(name)
    if not isinstance(value, dict):
        raise SnapshotError(f"part {name!r} is missing", what)
    return value
