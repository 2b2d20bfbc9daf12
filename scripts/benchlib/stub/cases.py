"""What is measured of the debug server: each case as a function from the benchmark image to figures by side.

The servers debug the benchmark image, stopped in the loop of its integer kernel, over loopback TCP and
with the same plain client. Rounds alternate between the sides.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from scripts.benchlib.process import RunError
from scripts.benchlib.stub.peer import Peer
from scripts.benchlib.stub.servers import echo, ours, qemu

ROUND_S: Final = 0.5
BULK_BYTES: Final = 16 << 20
RANGE_ITERATIONS: Final = 10_000
WATCH_ITERATIONS: Final = 3_000_000
CONNECTIONS: Final = 20
SETTLE_S: Final = 1.5  # for a guest to reach its work, or its idle loop
_FOREVER: Final = "run=alu iters=4000000000"
_OURS_CHUNK: Final = 0xF000
_QEMU_CHUNK: Final = 0x700  # QEMU 7.2 answers a longer read with an error
_LOOP_INSTRUCTIONS: Final = 10
_RDI: Final = 5
_QUIET_PAGE: Final = 0x100000  # start-up code, which has run
# reg 0; const32 DEADBEEF; equal; end
_FALSE: Final = bytes.fromhex("260000 24deadbeef 13 27")

Figures = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function of the image."""

    address: int
    size: int


def symbol(image: Path, name: str) -> Symbol:
    """Where `name` is. RunError if the image has no such function."""
    with image.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        found = table.get_symbol_by_name(name) if isinstance(table, SymbolTableSection) else None
        if not found:
            raise RunError(f"the image has no {name}")
        return Symbol(found[0]["st_value"], found[0]["st_size"])


def _alternate(sides: dict[str, Callable[[], float]], rounds: int) -> Figures:
    figures: Figures = {name: [] for name in sides}
    for _ in range(rounds):
        for name, once in sides.items():
            figures[name].append(once())
    return figures


@contextlib.contextmanager
def _client(port: int, *, ack: bool = False) -> Iterator[Peer]:
    peer = Peer(port)
    try:
        peer.start(ack=ack)
        yield peer
    finally:
        peer.close()


def packets(payload: bytes, *, ack: bool = False) -> Callable[[Path, int], Figures]:
    """Round trips a second with `payload`, in the kernel's loop."""

    def measure(image: Path, rounds: int) -> Figures:
        with contextlib.ExitStack() as stack:
            ports = {
                "hv": stack.enter_context(ours(image, _FOREVER)),
                "qemu": stack.enter_context(qemu(image, _FOREVER)),
            }
            peers = {name: stack.enter_context(_client(port, ack=ack)) for name, port in ports.items()}
            for peer in peers.values():
                peer.run_to(symbol(image, "kernel_alu").address)
            answer = peers["hv"].exchange(peers["hv"].request(payload))
            peers["echo"] = Peer(stack.enter_context(echo(len(answer), ack)))
            asked = peers["hv"].request(payload)

            def rate(name: str) -> float:
                packet = asked if name == "echo" else peers[name].request(payload)
                if peers[name].exchange(packet)[1:2] in b"E#":
                    return 0.0
                return peers[name].rate(packet, ROUND_S)

            return _alternate({name: lambda name=name: rate(name) for name in peers}, rounds)  # type: ignore[misc]

    return measure


def bulk(image: Path, rounds: int) -> Figures:
    """Bytes a second when 16 MiB of memory are read in the largest pieces."""

    def read(peer: Peer, form: bytes, chunk: int) -> float:
        begin = time.perf_counter()
        for address in range(0, BULK_BYTES, chunk):
            peer.exchange(peer.request(form % (address, min(chunk, BULK_BYTES - address))))
        return BULK_BYTES / (time.perf_counter() - begin)

    with contextlib.ExitStack() as stack:
        hv = stack.enter_context(_client(stack.enter_context(ours(image, _FOREVER))))
        other = stack.enter_context(_client(stack.enter_context(qemu(image, _FOREVER))))
        sides = {
            "hv": lambda: read(hv, b"x%x,%x", _OURS_CHUNK),
            "qemu": lambda: read(other, b"m%x,%x", _QEMU_CHUNK),
        }
        return _alternate(sides, rounds)


def range_step(image: Path, rounds: int) -> Figures:
    """Steps a second in one range step over the kernel's 100,000 instructions."""
    kernel = symbol(image, "kernel_alu")
    packet = b"vCont;r%x,%x:1" % (kernel.address, kernel.address + kernel.size)
    rates = []
    with ours(image, " ".join([f"run=alu iters={RANGE_ITERATIONS}"] * rounds)) as port, _client(port) as peer:
        for _ in range(rounds):
            peer.run_to(kernel.address)
            begin = time.perf_counter()
            peer.ask(packet)
            rates.append(RANGE_ITERATIONS * _LOOP_INSTRUCTIONS / (time.perf_counter() - begin))
    return {"hv": rates}


def false_condition(image: Path, rounds: int) -> Figures:
    """How often a second a breakpoint in the loop evaluates its condition, which is false."""
    kernel = symbol(image, "kernel_alu")
    loop = kernel.address + 16  # three instructions of five bytes, aligned
    rates = []
    with ours(image, _FOREVER) as port, _client(port) as peer:
        peer.run_to(loop)
        peer.ask(b"Z0,%x,1;X%x,%b" % (loop, len(_FALSE), _FALSE.hex().encode()))
        for _ in range(rounds):
            before, begin = peer.register(_RDI), time.perf_counter()
            peer.run_for(ROUND_S)
            seconds = time.perf_counter() - begin
            rates.append((before - peer.register(_RDI)) / seconds)
    return {"hv": rates}


def quiet_watch(image: Path, rounds: int) -> Figures:
    """Per cent by which the load-and-store kernel is slower with a watchpoint on a page nobody writes."""
    kernel = symbol(image, "kernel_ldst")
    runs = 4 * rounds
    point = b"2,%x,8" % _QUIET_PAGE
    taken: dict[bool, list[float]] = {False: [], True: []}
    with ours(image, " ".join([f"run=ldst iters={WATCH_ITERATIONS}"] * runs)) as port, _client(port) as peer:
        for run in range(runs):
            watched = bool(run % 2)
            peer.run_to(kernel.address)
            stack = peer.register(7)
            back = int.from_bytes(bytes.fromhex(peer.ask(b"m%x,8" % stack).decode()), "little")
            if watched:
                peer.ask(b"Z" + point)
            begin = time.perf_counter()
            peer.run_to(back)
            taken[watched].append(time.perf_counter() - begin)
            if watched:
                peer.ask(b"z" + point)
    return {"hv": [(statistics.median(taken[True]) / statistics.median(taken[False]) - 1) * 100]}


def connecting(*options: str, line: str | None = None) -> Callable[[Path, int], Figures]:
    """Milliseconds from connecting to the answer to ``?``, while four vCPUs run `line`, or the demo guest."""

    def measure(image: Path, rounds: int) -> Figures:
        times = []
        with ours(image if line else None, line or "", "--no-wait", *options, cpus=4) as port:
            time.sleep(SETTLE_S)
            for _ in range(CONNECTIONS):
                begin = time.perf_counter()
                with _client(port) as peer:
                    times.append((time.perf_counter() - begin) * 1000)
                    peer.ask(b"D")
                time.sleep(0.02)
        return {"hv": times}

    return measure


_GDB_SCRIPT: Final = """
import time
count, begin = 0, time.perf_counter()
while time.perf_counter() - begin < {seconds}:
    for _ in range(20):
        gdb.execute("stepi", to_string=True)
    count += 20
print("rate", count / (time.perf_counter() - begin))
"""


def gdb_steps(image: Path, rounds: int) -> Figures:
    """``stepi`` commands a second, of stock gdb."""

    def rate(port: int) -> float:
        script = _GDB_SCRIPT.format(seconds=ROUND_S)
        command = [
            *("gdb", "-nx", "-q", "--batch", "-ex", f"target remote 127.0.0.1:{port}"),
            *("-ex", "hbreak kernel_alu", "-ex", "continue", "-ex", "delete"),
            *("-ex", f"python exec({script!r})", "-ex", "disconnect", str(image)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        found = [text.split()[1] for text in done.stdout.splitlines() if text.startswith("rate ")]
        if not found:
            raise RunError(f"gdb: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
        return float(found[0])

    def once(server: Callable[[Path, str], contextlib.AbstractContextManager[int]]) -> float:
        with server(image, _FOREVER) as port:
            return rate(port)

    return _alternate({"hv": lambda: once(ours), "qemu": lambda: once(qemu)}, rounds)
