"""Servers for `scripts/bench_stub.py`: ``gdbstub``, or ``echo LENGTH:ACK``, on a port of the system's choice.

``gdbstub`` serves a target whose steps, registers and memory cost as little as Python allows. ``echo`` is a
bare trio server: whatever comes, it sends the same reply, `LENGTH` bytes long.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import trio

from gdbstub.addresses import parse_address
from gdbstub.arch.x86_64 import x86_64
from gdbstub.server import serve
from gdbstub.target import Detach, Event, ResumePlan, Stop, StopReason, ThreadInfo

MEMORY_SIZE = 1 << 20


class BenchTarget:
    """Two threads that stop at once, whatever they are asked to do."""

    def __init__(self) -> None:
        self.description = x86_64()
        self._values = {r.name: bytes(range(r.size)) for r in self.description.registers}
        self._memory = bytes(range(256)) * (MEMORY_SIZE // 256)
        self._stop = Stop(StopReason.STEP, 1)
        self._threads = [ThreadInfo(1, "vCPU 0", core=0), ThreadInfo(2, "vCPU 1", core=1)]

    async def attach(self) -> Stop:
        return self._stop

    async def detach(self, how: Detach) -> None: ...

    async def threads(self) -> Sequence[ThreadInfo]:
        return self._threads

    async def read_registers(self, thread: int, names: Sequence[str]) -> Sequence[bytes | None]:
        return list(map(self._values.__getitem__, names))

    async def write_registers(self, thread: int, values: Sequence[tuple[str, bytes]]) -> None: ...

    async def read_memory(self, thread: int, address: int, length: int) -> bytes:
        return self._memory[address : address + length]

    async def write_memory(self, thread: int, address: int, data: bytes) -> None: ...

    async def resume(self, plan: ResumePlan) -> Event | None:
        return self._stop

    async def wait_stop(self) -> Event:
        return self._stop

    def interrupt(self) -> None: ...


async def serve_gdbstub() -> None:
    """Serve the target until the process ends."""
    target = BenchTarget()
    async with trio.open_nursery() as nursery:
        for name in await nursery.start(serve, lambda _: target, [parse_address("0")]):
            print(name, file=sys.stderr, flush=True)


async def serve_echo(length: int, ack: bool) -> None:
    """Answer every arrival with `length` bytes, an acknowledgement before them if `ack`."""
    packet = b"+" * ack + b"$" + b"0" * (length - 4) + b"#00"

    async def answer(stream: trio.SocketStream) -> None:
        try:
            while await stream.receive_some(1 << 16):
                await stream.send_all(packet)
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", file=sys.stderr, flush=True)
    await trio.serve_listeners(answer, listeners)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["gdbstub"]:
            trio.run(serve_gdbstub)
        case ["echo", shape]:
            size, _, acknowledged = shape.partition(":")
            trio.run(partial(serve_echo, int(size), acknowledged == "1"))
        case _:
            sys.exit("usage: bench_target gdbstub | echo LENGTH:ACK")
