"""`monitor` commands that clients know from QEMU, in its words and formats: scripts read them by column.

The formats are those that QEMU 7.2 prints; tests compare the two on the same page tables and registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hv.debug.command import CommandContext, CommandError, reading
from hv.debug.qemu_registers import letters, registers_text
from hv.debug.regions import paging_registers
from hv.page_tables import LARGE, Layout, Leaf, PageWalk, layout_of
from hv.physical_map import MapRow, physical_map, port_map

MAX_LINES: Final = 1 << 16
"""Lines of one answer; a guest may map more pages than anybody wants to read."""


def _registers(context: CommandContext, words: Sequence[str]) -> None:
    vcpus = context.control.vm.vcpus
    match words:
        case []:
            chosen = [context.current]
        case ["-a"]:
            chosen = list(vcpus)
        case [word, *_]:
            number = context.number(word)
            if number >= len(vcpus):
                raise CommandError(f"there is no vCPU {number}")
            chosen = [vcpus[number]]
    for vcpu in chosen:
        for line in registers_text(vcpu, context.control.vm.board.a20):
            context.write(f"{line}\n")


# --- page tables -----------------------------------------------------------------------------------------


Show = Callable[[Layout, Iterator[Leaf | None]], Iterator[str | None]]


def _tables(show: Show) -> Callable[[CommandContext, Sequence[str]], Iterator[None]]:
    """A command over the pages of the current vCPU, in slices. An argument is another CR3."""

    def run(context: CommandContext, words: Sequence[str]) -> Iterator[None]:
        vm = context.control.vm
        cr3 = context.number(words[0]) if words else None
        registers = paging_registers(vm, context.vcpu, cr3=cr3)
        layout = layout_of(registers)
        if layout is None:
            context.write("PG disabled\n")
            return
        walk = PageWalk(vm.engine.read_physical, registers, layout)
        lines = 0
        for line in show(layout, walk.leaves()):
            if line is None:
                yield
                continue
            context.write(f"{line}\n")
            lines += 1
            if lines >= MAX_LINES:
                context.write(f"... more than {MAX_LINES} lines\n")
                return

    return run


_ENTRY_LETTERS: Final = (
    (1 << 63, "X"), (1 << 8, "G"), (1 << 7, "P"), (1 << 6, "D"), (1 << 5, "A"), (1 << 4, "C"), (1 << 3, "T"),
    (1 << 2, "U"), (1 << 1, "W"),
)  # fmt: skip
_ADDRESS_BITS: Final = (1 << 50) - (1 << 12)


def _tlb(layout: Layout, leaves: Iterator[Leaf | None]) -> Iterator[str | None]:
    for leaf in leaves:
        if leaf is None:
            yield None
            continue
        shift = 21 if leaf.shift == 22 else leaf.shift
        address = leaf.entry & _ADDRESS_BITS & -(1 << shift)
        # In an entry of the lowest level the bit of a large page means the cache.
        flags = leaf.entry if leaf.shift > 12 else leaf.entry & ~LARGE
        yield f"{leaf.linear:016x}: {address:016x} {letters(flags, _ENTRY_LETTERS)}"


def _mem(layout: Layout, leaves: Iterator[Leaf | None]) -> Iterator[str | None]:
    start, end, rights = 0, 0, ""
    limit = (1 << layout.bits) - 1

    def line() -> str:
        last = layout.canonical(end) if end <= limit else end
        return f"{layout.canonical(start):016x}-{last:016x} {end - start:016x} {rights}"

    for leaf in leaves:
        if leaf is None:
            yield None
            continue
        at = leaf.linear & limit
        here = f"{'u' if leaf.user else '-'}r{'w' if leaf.writable else '-'}"
        if rights and (at != end or here != rights):
            yield line()
            rights = ""
        if not rights:
            start, rights = at, here
        end = at + (1 << leaf.shift)
    if rights:
        yield line()


def _gva2gpa(context: CommandContext, words: Sequence[str]) -> None:
    [address] = context.numbers(words, 1)
    found = context.current.cpu.translate(address)
    context.write("Unmapped\n" if found is None else f"gpa: {found.gpa:#x}\n")


# --- memory ----------------------------------------------------------------------------------------------

_SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
_MAX_ITEMS: Final = 1 << 16


def _format_item(value: int, form: str, size: int) -> str:
    bits = 8 * size
    match form:
        case "x":
            return f"0x{value:0{bits // 4}x}"
        case "o":
            return f"{f'0{value:o}' if value else '0':>{(bits + 2) // 3}}"
        case "c":
            return f"'{_character(value & 0xFF)}'"
        case _:
            negative = form == "d" and value >> bits - 1
            return f"{value - (1 << bits) if negative else value:{(bits * 10 + 32) // 33}d}"


def _character(code: int) -> str:
    named = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r"}
    return named.get(chr(code), chr(code) if 32 <= code <= 126 else f"\\x{code:02x}")


def _parse_format(word: str) -> tuple[int, str, int]:
    """`/[count][form][size]`: count, form, size in bytes. Raises CommandError."""
    text = word.removeprefix("/")
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    form, size = "x", 4
    for letter in text[len(digits) :]:
        if letter in _SIZES:
            size = _SIZES[letter]
        elif letter in "xduoc":
            form = letter
        else:
            raise CommandError(f"{word!r} is no format; a count, one of x d u o c, one of b h w g")
    count = int(digits) if digits else 1
    if count > _MAX_ITEMS:
        raise CommandError(f"{count} is more than {_MAX_ITEMS}")
    return count, form, size


def _examine(physical: bool) -> Callable[[CommandContext, Sequence[str]], None]:
    def run(context: CommandContext, words: Sequence[str]) -> None:
        form = (1, "x", 4)
        if words and words[0].startswith("/"):
            form, words = _parse_format(words[0]), words[1:]
        [address] = context.numbers(words, 1)
        _dump(context, address, *form, physical=physical)

    return run


def _dump(context: CommandContext, at: int, count: int, form: str, size: int, *, physical: bool) -> None:
    vm = context.control.vm
    line = 8 if size == 1 else 16
    length = count * size
    item_size = 1 if form == "c" else size
    for offset in range(0, length, line):
        part = min(line, length - offset)
        address = (at + offset) % (1 << 64)
        if physical:
            data = vm.memory.read(address, part)
        else:
            data = context.current.cpu.read_linear(address, part)
        if data is None or len(data) < part:
            context.write(f"Cannot access memory at address {address:#x}\n")
            return
        items = [int.from_bytes(data[n : n + item_size], "little") for n in range(0, part, item_size)]
        shown = "".join(f" {_format_item(item, form, item_size)}" for item in items)
        context.write(f"{address:016x}:{shown}\n")


# --- the map of memory -----------------------------------------------------------------------------------


def _mtree(context: CommandContext, words: Sequence[str]) -> None:
    vm = context.control.vm
    spaces = (
        ("memory", "system", physical_map(vm.memory, vm.board, context.vcpu)),
        ("I/O", "io", port_map(vm.board)),
    )
    for number, (name, root, rows) in enumerate(spaces):
        context.write(f'FlatView #{number}\n AS "{name}", root: {root}\n Root memory region: {root}\n')
        for row in rows:
            context.write(f"  {_mtree_row(row)}\n")
        context.write("\n")


def _mtree_row(row: MapRow) -> str:
    kind = "ram" if row.is_ram else "i/o"
    return f"{row.start:016x}-{row.end - 1:016x} (prio 0, {kind}): {row.name}"


COMMANDS: Final = (
    reading("info registers", "[-a|VCPU]", "registers of the current vCPU", _registers),
    reading("info mem", "[CR3]", "what is mapped, with the rights, in runs", _tables(_mem)),
    reading("info tlb", "[CR3]", "every page that is mapped, with its entry", _tables(_tlb)),
    reading("info mtree", "", "physical memory and ports, and the devices there", _mtree),
    reading("gva2gpa", "ADDRESS", "where a linear address leads", _gva2gpa),
    reading("xp", "[/FMT] ADDRESS", "physical memory, as gdb's `x`", _examine(physical=True)),
    reading("x", "[/FMT] ADDRESS", "memory as the current vCPU sees it", _examine(physical=False)),
)
