"""`monitor` commands that do to the machine what its own code could: ports and model-specific registers.

They pass through the machine's door for outside influences: recorded, and the same again in a replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hv.debug.command import Command, CommandContext, CommandError, reading
from hv.inputs import MsrWrite, PortAccess

_PORT_SIZES: Final = (1, 2, 4)
_MAX_PORT: Final = 0xFFFF
_MAX_MSR: Final = 0xFFFF_FFFF


def _port(port: int, size: int) -> tuple[int, int]:
    if port > _MAX_PORT:
        raise CommandError(f"{port:#x} is no port")
    if size not in _PORT_SIZES:
        raise CommandError(f"a port access has 1, 2 or 4 bytes, not {size}")
    return port, size


def _in(context: CommandContext, words: Sequence[str]) -> None:
    numbers = context.numbers(words, 1, 2)
    port, size = _port(numbers[0], numbers[1] if len(numbers) > 1 else 1)
    value = context.control.vm.door.submit(PortAccess(port, size, None)) or 0
    context.write(f"port {port:#06x}: {value:#0{2 * size + 2}x}\n")


def _out(context: CommandContext, words: Sequence[str]) -> None:
    numbers = context.numbers(words, 2, 3)
    port, size = _port(numbers[0], numbers[2] if len(numbers) > 2 else 1)
    if numbers[1] >> 8 * size:
        raise CommandError(f"{numbers[1]:#x} does not fit into {size} bytes")
    context.control.vm.door.submit(PortAccess(port, size, numbers[1]))


def _msr(number: int) -> int:
    if number > _MAX_MSR:
        raise CommandError(f"{number:#x} is no MSR")
    return number


def _read_msr(context: CommandContext, words: Sequence[str]) -> None:
    msr = _msr(*context.numbers(words, 1))
    value = context.current.cpu.read_msr(msr)
    if value is None:
        value = context.control.vm.board.read_msr(context.vcpu, msr)
    if value is None:
        raise CommandError(f"this machine has no MSR {msr:#x} that can be read")
    context.write(f"MSR {msr:#x}: {value:#018x}\n")


def _write_msr(context: CommandContext, words: Sequence[str]) -> None:
    msr, value = context.numbers(words, 2)
    if not context.control.vm.door.submit(MsrWrite(context.vcpu, _msr(msr), value)):
        raise CommandError(f"MSR {msr:#x} cannot be {value:#x}")


COMMANDS: Final = (
    Command("in", "PORT [BYTES]", "read an I/O port, with all that it does to the device", _in),
    Command("out", "PORT VALUE [BYTES]", "write an I/O port", _out),
    reading("read-msr", "NUMBER", "a model-specific register of the current vCPU", _read_msr),
    Command("write-msr", "NUMBER VALUE", "set a model-specific register of the current vCPU", _write_msr),
)
