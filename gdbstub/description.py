"""Register tables, and what follows from them: target.xml, the `g` layout, the `p` numbers.

A `Description` is a list of features, each a list of `Register` rows in the order of their numbers. The
registers of the features marked `general` form the `g` packet, concatenated in number order without
padding; they must come first. The others are read and written one by one (`p`, `P`), which the protocol
allows and which keeps large or rare state out of every stop. Source: *Debugging with GDB*, appendix
"Target Descriptions", and section "Packets" (`g`, `p`) of appendix "Remote Protocol".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from xml.sax.saxutils import quoteattr


@dataclass(frozen=True, slots=True)
class Register:
    """One row: a register as clients see it.

    `bits` is a multiple of 8. `type` names a predefined type or one defined in the same feature. `group`
    is what ``info registers GROUP`` shows. `save_restore` False keeps an inferior call from writing it
    back (gdb on x86 ignores that). A `read_only` register cannot be written by clients; a client that writes
    back what it has read is humoured. `generic`, `dwarf` and `encoding` are LLDB's attributes and omitted
    when None.
    """

    name: str
    bits: int
    type: str = "int"
    group: str | None = None
    save_restore: bool = True
    read_only: bool = False
    generic: str | None = None
    dwarf: int | None = None
    encoding: str | None = None

    @property
    def size(self) -> int:
        """Length in bytes on the wire (before hex)."""
        return self.bits // 8


@dataclass(frozen=True, slots=True)
class Field:
    """A bit field ``[start, end]`` of a flags type; `type` None is a plain number (or a flag if one bit)."""

    name: str
    start: int
    end: int
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Flags:
    """A register type made of named bits, `size` in bytes."""

    id: str
    size: int
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector type of `count` elements."""

    id: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class Union:
    """A union type: (name, type) pairs over the same bytes."""

    id: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Enumeration:
    """A register type with named values, `size` in bytes."""

    id: str
    size: int
    values: tuple[tuple[str, int], ...]


TypeDefinition = Flags | Vector | Union | Enumeration


@dataclass(frozen=True, slots=True)
class Feature:
    """A named set of registers. `general` puts them into the `g` packet."""

    name: str
    registers: tuple[Register, ...]
    types: tuple[TypeDefinition, ...] = ()
    general: bool = True


@dataclass(frozen=True, slots=True)
class Description:
    """The registers of a target. `expedited` names those sent along with every stop reply, and
    `program_counter` the one that `c ADDR` and `s ADDR` set. `triple` is the architecture in LLVM's words;
    with None LLDB is told nothing about it."""

    architecture: str
    features: tuple[Feature, ...]
    expedited: tuple[str, ...]
    program_counter: str
    osabi: str | None = "none"
    byte_order: Literal["little", "big"] = "little"
    triple: str | None = None
    registers: tuple[Register, ...] = field(init=False, repr=False)
    numbers: Mapping[str, int] = field(init=False, repr=False)
    general: tuple[Register, ...] = field(init=False, repr=False)
    general_names: tuple[str, ...] = field(init=False, repr=False)
    expedited_numbers: tuple[int, ...] = field(init=False, repr=False)
    general_size: int = field(init=False, repr=False)
    target_xml: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError when the tables contradict each other."""
        registers = tuple(register for feature in self.features for register in feature.registers)
        numbers = {register.name: number for number, register in enumerate(registers)}
        general = tuple(r for feature in self.features if feature.general for r in feature.registers)
        if len(numbers) != len(registers):
            raise ValueError("a register name occurs twice")
        if general != registers[: len(general)]:
            raise ValueError("general features must come before all others")
        if any(register.bits <= 0 or register.bits % 8 for register in registers):
            raise ValueError("register sizes are whole bytes")
        unknown = {*self.expedited, self.program_counter} - numbers.keys()
        if unknown:
            raise ValueError(f"not in the tables: {', '.join(sorted(unknown))}")
        derived = {
            "registers": registers,
            "numbers": MappingProxyType(numbers),
            "general": general,
            "general_names": tuple(register.name for register in general),
            "expedited_numbers": tuple(numbers[name] for name in self.expedited),
            "general_size": sum(register.size for register in general),
            "target_xml": "\n".join(_target_lines(self)).encode() + b"\n",
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def by_name(self, name: str) -> Register:
        """The register called `name`. Raises KeyError."""
        return self.registers[self.numbers[name]]

    def split_general(self, data: bytes) -> list[tuple[str, bytes]]:
        """Cut the contents of a `G` packet into registers. `data` is `general_size` bytes long."""
        values: list[tuple[str, bytes]] = []
        offset = 0
        for register in self.general:
            values.append((register.name, data[offset : offset + register.size]))
            offset += register.size
        return values


def _attributes(pairs: Sequence[tuple[str, object]]) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in pairs if value is not None)


def _type_lines(definition: TypeDefinition) -> Iterator[str]:
    match definition:
        case Vector(id, element, count):
            yield f"<vector{_attributes([('id', id), ('type', element), ('count', count)])}/>"
        case Union(id, fields):
            yield f"<union{_attributes([('id', id)])}>"
            for name, kind in fields:
                yield f"<field{_attributes([('name', name), ('type', kind)])}/>"
            yield "</union>"
        case Enumeration(id, size, values):
            yield f"<enum{_attributes([('id', id), ('size', size)])}>"
            for name, value in values:
                yield f"<evalue{_attributes([('name', name), ('value', value)])}/>"
            yield "</enum>"
        case Flags(id, size, bit_fields):
            yield f"<flags{_attributes([('id', id), ('size', size)])}>"
            for bits in bit_fields:
                pairs = [("name", bits.name), ("start", bits.start), ("end", bits.end), ("type", bits.type)]
                yield f"<field{_attributes(pairs)}/>"
            yield "</flags>"


def _register_line(register: Register, number: int) -> str:
    pairs: list[tuple[str, object]] = [
        ("name", register.name),
        ("bitsize", register.bits),
        ("type", register.type),
        ("regnum", number),
        ("group", register.group),
        ("save-restore", None if register.save_restore else "no"),
        ("generic", register.generic),
        ("dwarf_regnum", register.dwarf),
        ("encoding", register.encoding),
    ]
    return f"<reg{_attributes(pairs)}/>"


def _target_lines(description: Description) -> Iterator[str]:
    yield '<?xml version="1.0"?>'
    yield '<!DOCTYPE target SYSTEM "gdb-target.dtd">'
    yield '<target version="1.0">'
    yield f"<architecture>{description.architecture}</architecture>"
    if description.osabi is not None:
        yield f"<osabi>{description.osabi}</osabi>"
    number = 0
    for feature in description.features:
        yield f"<feature{_attributes([('name', feature.name)])}>"
        for definition in feature.types:
            yield from _type_lines(definition)
        for register in feature.registers:
            yield _register_line(register, number)
            number += 1
        yield "</feature>"
    yield "</target>"
