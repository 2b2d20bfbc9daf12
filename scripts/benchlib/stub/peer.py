"""The plain client of the debug server's benchmarks: a blocking socket that sends one packet and waits."""

import socket
import time
from typing import Final

from scripts.benchlib.process import RunError

TIMEOUT_S: Final = 30.0
_CHUNK: Final = 1 << 17


def framed(payload: bytes) -> bytes:
    """`payload` as a packet."""
    return b"$%b#%02x" % (payload, sum(payload) & 0xFF)


class Peer:
    """One connection. `chunk` is the largest read that the server answers, `binary` that it knows ``x``."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ack = b"+"
        self.features: frozenset[bytes] = frozenset()

    def exchange(self, packet: bytes) -> bytes:
        """Send `packet` and read until one whole packet has come; that packet. RunError at the end."""
        self._socket.sendall(packet)
        return self.receive()

    def receive(self) -> bytes:
        """The next packet."""
        received = b""
        while received[-3:-2] != b"#" or b"$" not in received:
            more = self._socket.recv(_CHUNK)
            if not more:
                raise RunError("a debug server closed the connection")
            received += more
        return received[received.index(b"$") :]

    def start(self, *, ack: bool = False) -> None:
        """Negotiate, and attach. Without `ack`, in no-ack mode where the server has it."""
        offer = b"qSupported:swbreak+;hwbreak+;ConditionalBreakpoints+"
        self.features = frozenset(self.exchange(framed(offer))[1:-3].split(b";"))
        if not ack and b"QStartNoAckMode+" in self.features:
            self.exchange(b"+" + framed(b"QStartNoAckMode"))
            self._ack = b""
        self.exchange(self._ack + framed(b"?"))

    def request(self, payload: bytes) -> bytes:
        """The packet that carries `payload`, with the acknowledgement of what came before."""
        return self._ack + framed(payload)

    def ask(self, payload: bytes) -> bytes:
        """Send `payload`; the payload of the answer. RunError for an error reply."""
        answer = self.exchange(self.request(payload))[1:-3]
        if answer[:1] == b"E" or not answer:
            raise RunError(f"{payload.decode()} was answered with {answer.decode()!r}")
        return answer

    def run_to(self, address: int) -> None:
        """Continue to the instruction at `address`."""
        point = b"0,%x,1" % address
        self.ask(b"Z" + point)
        self.ask(b"vCont;c")
        self.ask(b"z" + point)

    def run_for(self, seconds: float) -> None:
        """Continue, and interrupt after `seconds`."""
        self._socket.sendall(self.request(b"vCont;c"))
        time.sleep(seconds)
        self._socket.sendall(b"\x03")
        self.receive()

    def register(self, number: int) -> int:
        """A 64-bit register by its number; from ``g``, which every server knows."""
        start = number * 16
        return int.from_bytes(bytes.fromhex(self.ask(b"g")[start : start + 16].decode()), "little")

    def rate(self, packet: bytes, seconds: float) -> float:
        """How many times a second `packet` is answered."""
        count, begin = 0, time.perf_counter()
        while (now := time.perf_counter()) - begin < seconds:
            for _ in range(20):
                self.exchange(packet)
            count += 20
        return count / (now - begin)

    def close(self) -> None:
        """Leave."""
        self._socket.close()
