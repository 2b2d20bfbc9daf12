"""A small asynchronous client of the protocol, for tests, scripts and the conformance suite.

`ClientSession` is the pure half: bytes in, replies out. `Client` joins it to a trio stream. It sends one
request at a time and does not try to understand targets; it knows the shapes of a few replies.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Self

import trio

from gdbstub import framing
from gdbstub.errors import ConnectionLostError, ProtocolError, RemoteError

MAX_REPLY = 1 << 22
"""Longest reply taken, as it stands on the wire."""


class ClientSession:
    """Framing and acknowledgement at the client's end. Pure."""

    def __init__(self, max_reply: int = MAX_REPLY) -> None:
        self.acknowledge = True
        self._decoder = framing.Decoder(max_reply, replies=True)
        self._output = bytearray()
        self._last_frame = b""

    def send(self, payload: bytes) -> None:
        """Queue a request."""
        self._last_frame = framing.frame(payload)
        self._output += self._last_frame

    def send_interrupt(self) -> None:
        """Queue the interrupt byte."""
        self._output += b"\x03"

    def receive_data(self, data: bytes | bytearray) -> None:
        """Add bytes from the server."""
        self._decoder.receive_data(data)

    def next_packet(self) -> framing.Packet | framing.Notification | None:
        """The next packet or notification, or None. Raises ProtocolError."""
        while (unit := self._decoder.next_unit()) is not None:
            match unit:
                case framing.Packet():
                    if self.acknowledge:
                        self._output += b"+"
                    return unit
                case framing.Notification():
                    return unit
                case framing.BadPacket() if self.acknowledge:
                    self._output += b"-"
                case framing.Nack() if self.acknowledge:
                    self._output += self._last_frame
                case _:
                    pass
        return None

    def take_output(self) -> bytes:
        """What has to be sent now."""
        output = bytes(self._output)
        self._output.clear()
        return output


@dataclass(frozen=True, slots=True)
class StopInfo:
    """A stop or end reply taken apart: `kind` is ``S T W X``, `number` the signal or status, `registers`
    number to value, `keys` everything else (``thread``, ``swbreak``, ...)."""

    kind: str
    number: int
    registers: dict[int, bytes] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def thread(self) -> int:
        """The thread that stopped, 0 when the reply names none."""
        return int(self.keys.get("thread", "0"), 16)


def parse_stop(reply: bytes) -> StopInfo:
    """Take a stop reply apart. Raises ValueError for anything else."""
    text = reply.decode("ascii")
    kind, number = text[:1], int(text[1:3], 16)
    if kind not in ("S", "T", "W", "X"):
        raise ValueError(f"not a stop reply: {text[:60]!r}")
    registers: dict[int, bytes] = {}
    keys: dict[str, str] = {}
    for pair in text[3:].split(";") if kind == "T" else ():
        name, _, value = pair.partition(":")
        try:
            registers[int(name, 16)] = bytes.fromhex(value)
        except ValueError:
            keys[name] = value
    keys.pop("", None)
    return StopInfo(kind, number, registers, keys)


class Client:
    """A client on a stream, closed at the end of an ``async with``. `console` collects console text that
    the server sent, and with
    `keep_notifications` set its notifications wait for `notification`."""

    def __init__(self, stream: trio.abc.Stream, session: ClientSession | None = None) -> None:
        self.console = bytearray()
        self.keep_notifications = False
        self._notifications: deque[bytes] = deque()
        self._stream = stream
        self._session = session or ClientSession()

    @property
    def acknowledges(self) -> bool:
        """Whether packets are acknowledged: until no-ack mode is negotiated."""
        return self._session.acknowledge

    async def send(self, payload: bytes) -> None:
        """Send a request and do not wait for its reply."""
        self._session.send(payload)
        await self._flush()

    async def _flush(self) -> None:
        try:
            await self._stream.send_all(self._session.take_output())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLostError("the server went away") from error

    async def receive(self) -> bytes:
        """The next reply that is not console text. Raises ConnectionLostError, ProtocolError."""
        while True:
            packet = self._session.next_packet()
            if packet is None:
                await self._flush()
                await self._receive_some()
            elif isinstance(packet, framing.Notification):
                if self.keep_notifications:
                    self._notifications.append(packet.payload)
            else:
                payload = packet.payload
                if payload[:1] == b"O" and payload != b"OK":
                    self.console += bytes.fromhex(payload[1:].decode("ascii"))
                    continue
                await self._flush()
                return payload

    async def notification(self) -> bytes:
        """The next notification, which `keep_notifications` has to ask for. Raises ConnectionLostError."""
        while not self._notifications:
            packet = self._session.next_packet()
            if packet is None:
                await self._flush()
                await self._receive_some()
            elif isinstance(packet, framing.Notification):
                self._notifications.append(packet.payload)
            else:
                raise ProtocolError("a reply that nothing asked for")
        return self._notifications.popleft()

    async def _receive_some(self) -> None:
        try:
            data = await self._stream.receive_some(1 << 16)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLostError("the server went away") from error
        if not data:
            raise ConnectionLostError("the server closed the connection")
        self._session.receive_data(data)

    async def request(self, payload: bytes) -> bytes:
        """Send a request and wait for its reply."""
        await self.send(payload)
        return await self.receive()

    async def require(self, payload: bytes) -> bytes:
        """As `request`; raises RemoteError when the reply is empty or an error."""
        reply = await self.request(payload)
        if not reply or reply.startswith(b"E.") or (len(reply) == 3 and reply.startswith(b"E")):
            raise RemoteError(payload, reply)
        return reply

    async def interrupt(self) -> None:
        """Send the interrupt byte."""
        self._session.send_interrupt()
        await self._flush()

    async def start(self, features: bytes = b"swbreak+;hwbreak+", *, no_ack: bool = True) -> bytes:
        """Negotiate; gives the server's features."""
        reply = await self.require(b"qSupported:" + features)
        if no_ack and b"QStartNoAckMode+" in reply:
            await self.require(b"QStartNoAckMode")
            self._session.acknowledge = False
        return reply

    async def read_memory(self, address: int, length: int) -> bytes:
        """Read memory with `m`. Raises RemoteError."""
        return bytes.fromhex((await self.require(b"m%x,%x" % (address, length))).decode("ascii"))

    async def write_memory(self, address: int, data: bytes) -> None:
        """Write memory with `X`. Raises RemoteError."""
        await self.require(b"X%x,%x:%b" % (address, len(data), data))

    async def read_register(self, number: int) -> bytes:
        """Read a register with `p`. Raises RemoteError."""
        return bytes.fromhex((await self.require(b"p%x" % number)).decode("ascii"))

    async def resume(self, request: bytes) -> StopInfo:
        """Send a resume request and wait for its stop. Raises RemoteError."""
        return parse_stop(await self.require(request))

    async def read_object(self, name: bytes, annex: bytes = b"", chunk: int = 0x1000) -> bytes:
        """Read a whole `qXfer` object. Raises RemoteError."""
        data = bytearray()
        while True:
            part = await self.require(b"qXfer:%b:read:%b:%x,%x" % (name, annex, len(data), chunk))
            data += part[1:]
            if part.startswith(b"l"):
                return bytes(data)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
