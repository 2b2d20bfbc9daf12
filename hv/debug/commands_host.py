"""`monitor` commands that touch the host: files that are written or read by the name that the user gives.

A client on the wire may give them only if `--gdb-allow` names their class.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from hv.debug.command import Command, CommandContext, CommandError, Touch
from hv.inputs import MemoryWrite
from hv.snapshot import write_snapshot

_SLICE: Final = 1 << 20
"""Bytes copied before others have a turn."""
_MAX_SIZE: Final = 1 << 40


@contextlib.contextmanager
def _host_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _save(context: CommandContext, words: Sequence[str], *, physical: bool) -> Iterator[None]:
    if len(words) != 3:
        raise CommandError("an address, a size and a file are expected")
    (at, size), path = context.numbers(words[:2], 2), words[2]
    if size > _MAX_SIZE:
        raise CommandError(f"{size:#x} bytes are too many")
    with _host_errors(path), open(path, "wb") as file:
        for offset in range(0, size, _SLICE):
            length = min(_SLICE, size - offset)
            if physical:
                data = context.control.vm.memory.read(at + offset, length)
            else:
                data = context.current.cpu.read_linear(at + offset, length)
            if data is None or len(data) < length:
                raise CommandError(f"there is no memory at {at + offset + len(data or b''):#x}")
            file.write(data)
            yield
    context.write(f"{size} bytes written to {path}\n")


def _memsave(context: CommandContext, words: Sequence[str]) -> Iterator[None]:
    return _save(context, words, physical=False)


def _pmemsave(context: CommandContext, words: Sequence[str]) -> Iterator[None]:
    return _save(context, words, physical=True)


def _load(context: CommandContext, words: Sequence[str]) -> Iterator[None]:
    if len(words) != 2:
        raise CommandError("an address and a file are expected")
    (at,), path, vm = context.numbers(words[:1], 1), words[1], context.control.vm
    total = 0
    with _host_errors(path), open(path, "rb") as file:
        while data := file.read(_SLICE):
            if vm.memory.read(at + total, len(data)) is None:
                raise CommandError(f"there is no memory for {len(data)} bytes at {at + total:#x}")
            vm.door.submit(MemoryWrite(at + total, data))
            total += len(data)
            yield
    context.write(f"{total} bytes read from {path}\n")


def _savevm(context: CommandContext, words: Sequence[str]) -> None:
    if len(words) != 1:
        raise CommandError("a file is expected")
    write_snapshot(words[0], context.control.vm.save())
    context.write(f"snapshot of tick {context.control.vm.clock.now:,} written to {words[0]}\n")


_WRITES: Final = Touch.HOST_WRITE
COMMANDS: Final = (
    Command("memsave", "ADDRESS SIZE FILE", "memory to a file", _memsave, _WRITES, only_reads=True),
    Command("pmemsave", "ADDRESS SIZE FILE", "RAM to a file", _pmemsave, _WRITES, only_reads=True),
    Command("savevm", "FILE", "the machine's whole state to a file", _savevm, _WRITES, only_reads=True),
    Command("pmemload", "ADDRESS FILE", "a file to physical memory", _load, Touch.HOST_READ),
)
