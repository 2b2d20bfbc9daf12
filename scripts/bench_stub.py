"""Round trips of the debug server beside QEMU's and a bare trio echo, in the same run.

All sides talk over loopback TCP to the same client, which is as plain as can be: a blocking socket that
sends one packet, reads to its end, and sends the next. The echo answers every request with the very
bytes that our server answers, without looking at them: what is lost against it is lost in `gdbstub`.
Our server runs a target that does next to nothing (`tests.helpers.bench_target`), so that the protocol
is measured and not a processor. The rounds alternate between the sides and the medians are compared.
The result is one JSON object on standard output::

    {"ack_mode": "no-ack", "cases": [{"case": "step", "unit": "packets/s",
        "gdbstub": 17000, "echo": 15000, "qemu": 7900, "of_echo": 1.13, "of_qemu": 2.15}]}

`--target HOST:PORT` measures a server that runs already instead of ours.
"""

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
ROUNDS: Final = 5
ROUND_S: Final = 0.5
START_S: Final = 10.0
BULK_BYTES: Final = 16 << 20
QEMU_CHUNK: Final = 0x700
"""QEMU 7.2 answers a longer read with an error."""


class BenchError(Exception):
    """A side failed; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request sent again and again; or, with `bulk`, a read of 16 MiB in the largest chunks."""

    name: str
    payload: bytes
    ack: bool = False
    bulk: bool = False
    unit: str = "packets/s"


CASES: Final = (
    Case("step", b"vCont;s:1"),
    Case("step-others-run", b"vCont;s:1;c"),
    Case("step-ack", b"vCont;s:1", ack=True),
    Case("g", b"g"),
    Case("m-1KiB", b"m1000,400"),
    Case("m-4KiB", b"m1000,1000"),
    Case("m-4B", b"m1000,4"),
    Case("read-16MiB", b"", bulk=True, unit="bytes/s"),
)


def framed(payload: bytes) -> bytes:
    """`payload` as a packet."""
    return b"$%b#%02x" % (payload, sum(payload) & 0xFF)


class Peer:
    """The plain client."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout=START_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ack = b"+"

    def exchange(self, packet: bytes) -> bytes:
        """Send `packet` and read until one whole packet has come; that packet."""
        self._socket.sendall(packet)
        received = self._socket.recv(1 << 17)
        while received[-3:-2] != b"#" or b"$" not in received:
            more = self._socket.recv(1 << 17)
            if not more:
                raise BenchError("a server closed the connection")
            received += more
        return received[received.index(b"$") :]

    def start(self, *, ack: bool) -> None:
        """Negotiate. Without `ack`, try no-ack mode."""
        features = self.exchange(framed(b"qSupported:swbreak+;hwbreak+"))
        if not ack and b"QStartNoAckMode+" in features:
            self.exchange(b"+" + framed(b"QStartNoAckMode"))
            self._ack = b""
        self.exchange(self._ack + framed(b"?"))

    def request(self, payload: bytes) -> bytes:
        """The packet that carries `payload`, with the acknowledgement of what came before."""
        return self._ack + framed(payload)

    def close(self) -> None:
        """Leave."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Side:
    """A server that runs: its port, and the largest read it answers."""

    name: str
    port: int
    chunk: int
    binary: bool
    host: str = "127.0.0.1"


def rate(side: Side, case: Case) -> float:
    """Packets, or bytes, per second in one round; 0 when the side refuses the request."""
    peer = Peer(side.port, side.host)
    try:
        if side.name != "echo":
            peer.start(ack=case.ack)
        if case.bulk:
            return _bulk_rate(peer, side)
        packet = peer.request(case.payload)
        if peer.exchange(packet)[1:2] in b"E#":
            return 0.0
        count, begin = 0, time.perf_counter()
        while (now := time.perf_counter()) - begin < ROUND_S:
            for _ in range(20):
                peer.exchange(packet)
            count += 20
        return count / (now - begin)
    finally:
        peer.close()


def _bulk_rate(peer: Peer, side: Side) -> float:
    form = b"x%x,%x" if side.binary else b"m%x,%x"
    done, begin = 0, time.perf_counter()
    while done < BULK_BYTES:
        peer.exchange(peer.request(form % (0, side.chunk)))
        done += side.chunk
        if side.name == "qemu" and time.perf_counter() - begin > 2:
            break
    return done / (time.perf_counter() - begin)


@contextlib.contextmanager
def process(command: list[str]) -> Iterator[int]:
    """Run a server that prints ``HOST:PORT`` on standard error; gives the port."""
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as running:
        try:
            line = running.stderr.readline().decode() if running.stderr else ""
            if not line.rpartition(":")[2].strip().isdigit():
                raise BenchError(f"{command[0]} did not start: {line.strip()}")
            yield int(line.rpartition(":")[2])
        finally:
            running.terminate()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def qemu() -> Iterator[int]:
    """QEMU with its stub, in the firmware's first instructions; gives the port."""
    port = free_port()
    command = [
        *("qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-S", "-m", "64M"),
        *("-gdb", f"tcp:127.0.0.1:{port}", "-nodefaults"),
    ]
    try:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise BenchError("qemu-system-x86_64 is not installed") from None
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                Peer(port).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise BenchError("QEMU did not open its port") from None
                time.sleep(0.05)
        yield port
    finally:
        running.terminate()
        running.wait()


def measure(cases: list[Case], rounds: int, target: str | None) -> list[dict[str, object]]:
    """All rows of the result."""
    with contextlib.ExitStack() as stack:
        helper = [sys.executable, "-m", "tests.helpers.bench_target"]
        if target is None:
            ours = Side("gdbstub", stack.enter_context(process([*helper, "gdbstub"])), 0xF000, True)
        else:
            host, _, port = target.rpartition(":")
            ours = Side("gdbstub", int(port), 0xF000, True, host or "127.0.0.1")
        sides = [ours, Side("qemu", stack.enter_context(qemu()), QEMU_CHUNK, False)]
        rows = []
        for case in cases:
            echo = stack.enter_context(process([*helper, "echo", _answer_shape(ours, case)]))
            rows.append(_row(case, [*sides, Side("echo", echo, 0xF000, True)], rounds))
            print(json.dumps(rows[-1]), file=sys.stderr)
        return rows


def _answer_shape(side: Side, case: Case) -> str:
    """The length of our answer to `case` and whether it is acknowledged, for the echo's command line."""
    peer = Peer(side.port, side.host)
    try:
        peer.start(ack=case.ack)
        payload = b"x0,%x" % side.chunk if case.bulk else case.payload
        answer = peer.exchange(peer.request(payload))
        return f"{len(answer)}:{int(case.ack)}"
    finally:
        peer.close()


def _row(case: Case, sides: list[Side], rounds: int) -> dict[str, object]:
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            rates[side.name].append(rate(side, case))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    row: dict[str, object] = {
        "case": case.name,
        "unit": case.unit,
        "ack_mode": "ack" if case.ack else "no-ack; QEMU has ack only",
    }
    row |= {name: round(value) for name, value in medians.items()}
    row["of_echo"] = round(medians["gdbstub"] / medians["echo"], 2)
    row["of_qemu"] = round(medians["gdbstub"] / medians["qemu"], 2) if medians["qemu"] else None
    return row


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the debug server beside QEMU's; JSON on standard output")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], default=[])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each, {ROUNDS} by default")
    parser.add_argument("--target", metavar="HOST:PORT", help="a running server to measure instead of ours")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    try:
        rows = measure(cases, arguments.rounds, arguments.target)
    except (BenchError, OSError) as error:
        print(f"bench_stub: {error}", file=sys.stderr)
        return 1
    json.dump({"cases": rows}, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
