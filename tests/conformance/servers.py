"""The servers that the suite runs against: ours on a toy target, Debian's gdbserver, QEMU's stub.

Each starts fresh for every case and is prepared alike: the program of `PROGRAM` lies at `code`, the program
counter is there, and rdi and rbx point to `data`. The bytes do the same in 16-bit and in 64-bit mode.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from gdbstub.client import Client
from tests.helpers.patience import HANG_S

# nop; inc eax; mov [rdi],al; nop; mov al,[rdi]; jmp to the inc (16 bits: ax, [bx])
PROGRAM = bytes.fromhex("90 ffc0 8807 90 8a07 ebf7")
RAX, RBX, RDI, RIP = 0, 1, 5, 16
STORE, AFTER_STORE, LOAD, JUMP = 3, 5, 6, 8
"""Offsets of instructions in the program."""
ROOT = Path(__file__).parents[2]
SOURCE = """
.globl _start
.text
_start: .fill 4000, 1, 0x90
.data
.fill 4096, 1, 0
"""


class MissingServerError(Exception):
    """A server's program is not installed."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to start a server and where the program goes; `patches` are for the general registers."""

    name: str
    version: Sequence[str]
    command: Callable[[int, Path], Sequence[str]]
    code: int
    data: int
    unmapped: int
    patches: tuple[tuple[int, bytes], ...] = ()


def _ours(port: int, scratch: Path) -> Sequence[str]:
    return (sys.executable, "-m", "tests.conformance.serve_toy", str(port))


def _gdbserver(port: int, scratch: Path) -> Sequence[str]:
    program, source = scratch / "program", scratch / "program.S"
    if not program.exists():
        source.write_text(SOURCE)
        link = ("-Wl,-Ttext=0x401000,-Tdata=0x402000,--build-id=none", "-nostdlib", "-static", "-no-pie")
        subprocess.run(["gcc", *link, "-o", str(program), str(source)], check=True)
    return ("gdbserver", "--no-startup-with-shell", f"127.0.0.1:{port}", str(program))


def _qemu(port: int, scratch: Path) -> Sequence[str]:
    return (
        *("qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-nodefaults", "-S", "-m", "16M"),
        *("-smp", "2", "-gdb", f"tcp:127.0.0.1:{port}"),
    )


SERVERS = (
    Server("gdbstub", (sys.executable, "-c", "print('this project')"), _ours, 0x1000, 0x2000, 0x123456789),
    Server("gdbserver", ("gdbserver", "--version"), _gdbserver, 0x401000, 0x402000, 0x10),
    # The selector of cs stands at 140; written in real mode it moves the base from ffff0000 to 0.
    Server("QEMU", ("qemu-system-x86_64", "--version"), _qemu, 0x1000, 0x2000, 1 << 40, ((140, bytes(4)),)),
)


def version(server: Server) -> str:
    """The first line that the server says about itself."""
    try:
        done = subprocess.run(server.version, capture_output=True, check=True, cwd=ROOT)
    except FileNotFoundError:
        raise MissingServerError(f"{server.version[0]} is missing") from None
    return done.stdout.decode().splitlines()[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Subject:
    """A server that runs, and connections to it."""

    def __init__(self, server: Server, port: int, process: trio.Process) -> None:
        self.server = server
        self._port = port
        self._process = process
        self._streams: list[trio.abc.Stream] = []

    async def stream(self) -> trio.abc.Stream:
        """A new connection."""
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        self._streams.append(stream)
        return stream

    async def client(self) -> Client:
        """A client on a new connection."""
        return Client(await self.stream())

    async def prepare(self, client: Client, features: frozenset[bytes]) -> None:
        """Put the program and the registers where the cases expect them."""
        await client.require(b"?")
        if b"qXfer:features:read+" in features:
            # Some servers know single registers only after this.
            await client.read_object(b"features", b"target.xml")
        await client.require(b"M%x,%x:%b" % (self.server.code, len(PROGRAM), PROGRAM.hex().encode()))
        await client.require(b"M%x,8:0000000000000000" % self.server.data)
        general = bytearray(bytes.fromhex((await client.require(b"g")).replace(b"x", b"0").decode()))
        values = ((RAX, 0), (RBX, self.server.data), (RDI, self.server.data), (RIP, self.server.code))
        for number, value in values:
            general[8 * number : 8 * number + 8] = value.to_bytes(8, "little")
        for offset, data in self.server.patches:
            general[offset : offset + len(data)] = data
        await client.require(b"G" + bytes(general).hex().encode())

    def died(self) -> bool:
        """Whether the server's process has ended by a signal."""
        return (self._process.poll() or 0) < 0

    async def aclose(self) -> None:
        """Close all connections."""
        for stream in self._streams:
            await trio.aclose_forcefully(stream)


@contextlib.asynccontextmanager
async def running(server: Server, scratch: Path) -> AsyncIterator[Subject]:
    """A fresh server."""
    port = _free_port()
    try:
        process = await trio.lowlevel.open_process(
            list(server.command(port, scratch)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
    except FileNotFoundError:
        raise MissingServerError(f"{server.name} is missing") from None
    subject = Subject(server, port, process)
    try:
        await _wait_listening(port)
        yield subject
    finally:
        with trio.CancelScope(shield=True):
            await subject.aclose()
            if process.returncode is None:
                process.kill()
            await process.wait()


def _listens(port: int) -> bool:
    """Whether somebody listens. A connection would be one client too many for some servers."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


async def _wait_listening(port: int) -> None:
    with trio.fail_after(HANG_S):
        while not _listens(port):  # noqa: ASYNC110  (nothing tells when another process listens)
            await trio.sleep(0.01)
