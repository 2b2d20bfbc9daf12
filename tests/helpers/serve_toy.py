"""Serve a toy target in a process of its own: ``python -m tests.helpers.serve_toy ADDRESS``.

Prints the bound addresses on standard error, one line each. The program: thread 1 counts in eax and stores it
to 0x2000 for ever; thread 2 jumps to itself.
"""

import sys

import trio

from gdbstub.addresses import parse_address
from gdbstub.server import serve
from tests.helpers.full_toy import FullToy
from tests.helpers.toy_target import ToyTarget

# 1000 nop; 1001 inc eax; 1003 mov [rdi],al; 1005 nop; 1006 mov al,[rdi]; 1008 jmp 1001
COUNTING = bytes.fromhex("90 ffc0 8807 90 8a07 ebf7")
SPINNING = bytes.fromhex("ebfe")


def load_programs(target: ToyTarget) -> None:
    """Load both threads' code."""
    target.ram[0x1000 : 0x1000 + len(COUNTING)] = COUNTING
    target.ram[0x1100 : 0x1100 + len(SPINNING)] = SPINNING
    for registers in target.registers:
        registers["rdi"] = (0x2000).to_bytes(8, "little")
        registers["cr0"] = (0x8000_0011).to_bytes(8, "little")
        registers["eflags"] = (0x246).to_bytes(4, "little")


def toy_with_programs() -> ToyTarget:
    """A toy target with both threads' code loaded."""
    target = ToyTarget()
    load_programs(target)
    return target


def full_toy_with_programs() -> FullToy:
    """The same with every capability."""
    target = FullToy()
    load_programs(target)
    return target


async def main() -> None:
    """Serve until the client on standard input leaves, or for ever."""
    target = toy_with_programs()
    async with trio.open_nursery() as nursery:
        for name in await nursery.start(serve, lambda _: target, [parse_address(sys.argv[1])]):
            print(name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    trio.run(main)
