"""One client's session: negotiation, acknowledgement, selected threads, and the order of things. Pure.

The owner moves bytes and calls the target::

    session.receive_data(data)            bytes in
    while (event := session.next_event()) is not None:
        ...                               a request, or Interrupted
    session.send(reply)                   queue a reply
    stream.send_all(session.take_output())

While the target runs, or a long request works, packets wait (bounded) and only the interrupt byte passes.
`next_event` raises ProtocolError when the connection has to end.

::

    UNATTACHED --ATTACHED--> IDLE --RESUMED-----> RUNNING --STOPPED--> IDLE
                             IDLE --JOB_STARTED-> BUSY ----JOB_DONE--> IDLE
                             RUNNING --ENDED----> ENDED      any --CLOSED--> CLOSED
                             IDLE --LEFT--------> DETACHED --ATTACHED--> IDLE

In non-stop mode the session stays IDLE while threads run, and `NonStopState` knows who does.

Source: *Debugging with GDB*, appendix "Remote Protocol", sections "Overview", "Interrupts" and
"Packet Acknowledgment".
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from gdbstub import framing
from gdbstub.errors import ProtocolError, RequestError, StubError
from gdbstub.fields import ANY_THREAD
from gdbstub.lease import Seat
from gdbstub.packets import parse
from gdbstub.replies import Console, Features, Reply
from gdbstub.requests import Cont, Request
from gdbstub.target import Exited, Killed, ResumePlan, Stop

PACKET_SIZE = 0x20000
"""Largest payload in either direction, in bytes as they stand on the wire."""
NEGOTIATED = frozenset({b"swbreak+", b"hwbreak+", b"error-message+", b"multiprocess+", b"no-resumed+"})
"""The client's features that are remembered."""
MAX_CONSOLE = 1 << 22
"""Bytes of console output that may wait to be sent."""
DEFAULT_TRACE_SIZE = 1 << 16
"""Bytes of branch trace until the client names another size."""
_OPENING = b"qSupported"
_UNSAID = 1 << 14
_REMEMBERED = 16
_CACHED = 256
_CACHED_LENGTH = 64


class State(enum.Enum):
    """What the session waits for."""

    # Members are single: the identity is the hash, and cheaper than the name's.
    __hash__ = object.__hash__
    UNATTACHED = "unattached"
    IDLE = "idle"
    RUNNING = "running"
    BUSY = "busy"
    DETACHED = "detached"
    ENDED = "ended"
    CLOSED = "closed"


class Step(enum.Enum):
    """What happened to a session."""

    __hash__ = object.__hash__
    ATTACHED = "attached"
    RESUMED = "resumed"
    STOPPED = "stopped"
    ENDED = "ended"
    LEFT = "left"
    JOB_STARTED = "job started"
    JOB_DONE = "job done"
    CLOSED = "closed"


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.UNATTACHED, Step.ATTACHED): State.IDLE,
    (State.IDLE, Step.RESUMED): State.RUNNING,
    (State.IDLE, Step.JOB_STARTED): State.BUSY,
    (State.BUSY, Step.JOB_DONE): State.IDLE,
    (State.RUNNING, Step.STOPPED): State.IDLE,
    (State.RUNNING, Step.ENDED): State.ENDED,
    (State.IDLE, Step.ENDED): State.ENDED,
    (State.IDLE, Step.LEFT): State.DETACHED,
    (State.ENDED, Step.LEFT): State.DETACHED,
    (State.DETACHED, Step.ATTACHED): State.IDLE,
    **{(state, Step.CLOSED): State.CLOSED for state in State},
}
"""Every allowed step; any other is a bug of the owner."""


_RESUMES = (b"vCont;", b"c", b"C", b"s", b"S")


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The client wants what is going on to end (the byte 0x03)."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A known packet that does not parse; `text` says why."""

    text: str


SessionEvent = Request | Malformed | Interrupted


class NonStopState:
    """Who runs in non-stop mode, and which stops the client has not fetched yet."""

    def __init__(self, stops: dict[int, Stop]) -> None:
        self.stops = stops
        """The last stop of each thread that stands."""
        self.halted: set[int] = set()
        """Threads asked to stop by ``vCont;t``, whose stop is no signal."""
        self.queue: deque[Stop | Exited | Killed] = deque()
        """Stops to tell; while `told`, the client knows of the first."""
        self.told = False
        self.later: list[Stop] = []
        """Stops that become notifications once the client has fetched the first."""

    def unfetched(self) -> set[int]:
        """Threads that stand, and the client cannot know it yet."""
        return {stop.thread for stop in (*self.queue, *self.later) if isinstance(stop, Stop)}


class Session:
    """The protocol's state for one connection. Everything here is forgotten with the connection."""

    def __init__(self, *, run_length: bool = False, packet_size: int = PACKET_SIZE) -> None:
        self.state = State.UNATTACHED
        self.packet_size = packet_size
        self.features: Features = frozenset()
        self.last_event: Stop | Exited | Killed | None = None
        self.selected_general = ANY_THREAD
        self.selected_continue = ANY_THREAD
        self.physical = False
        self.transfers: dict[tuple[str, str], bytes] = {}
        self.threads_left: list[int] = []
        self.output_size = 0
        """How many bytes `take_output` would give."""
        self.cores: dict[int, int | None] = {}
        self.last_plan: tuple[Cont, int, ResumePlan] | None = None
        self.options: Features = frozenset()
        self.extended = False
        self.seat: Seat | None = None
        self.looks_on = False
        self.non_stop: NonStopState | None = None
        self.saved_registers: dict[int, tuple[tuple[str, bytes], ...]] = {}
        self.files: dict[int, bytes] = {}
        self.traced: set[int] = set()
        self.trace_size = DEFAULT_TRACE_SIZE
        self._unsaid = ""
        self._parsed: dict[bytes, Request] = {}
        self._given: dict[tuple[int, str], deque[bytes]] = {}
        self._run_length = run_length
        self._acknowledge = True
        self._decoder = framing.Decoder(packet_size, greeting=True)
        self._held: deque[bytes] = deque()
        self._early_interrupt = False
        self._held_size = 0
        self._output: list[bytes] = []
        self._last_frame = b""
        self._opening: bytes | None = b""  # the first packet, until the client has seen an answer

    def advance(self, step: Step) -> None:
        """Take one step of `TRANSITIONS`. Raises StubError for one that is not there."""
        after = TRANSITIONS.get((self.state, step))
        if after is None:
            raise StubError(f"'{step.value}' cannot happen to a session that is {self.state.value}")
        self.state = after
        if self._unsaid and after is State.RUNNING:
            text, self._unsaid = self._unsaid, ""
            self.say(text)

    def stopped(self, event: Stop | Exited | Killed) -> None:
        """The plan ended. Selects the thread that stopped."""
        self.advance(Step.STOPPED if isinstance(event, Stop) else Step.ENDED)
        self._early_interrupt = False  # it was for this run, which was shorter
        self.noted(event)

    def attached(self, stop: Stop) -> None:
        """The target is attached and stands still.

        No client prints a text that comes with its first answers: why the target stood already is said when
        it goes on.
        """
        self.advance(Step.ATTACHED)
        self.noted(stop)
        if stop.text:
            self.say(f"stopped before the debugger came: {stop.text.rstrip()}\n")

    def noted(self, event: Stop | Exited | Killed) -> None:
        """The target stands there now: the plan ended, it was restarted, or stopped as control moved."""
        self.last_event = event
        self.selected_general = event.thread if isinstance(event, Stop) else ANY_THREAD
        self.selected_continue = ANY_THREAD

    def remember(self, thread: int, register: str, value: bytes) -> None:
        """Note a value of a read-only register that the client has seen."""
        self._given.setdefault((thread, register), deque(maxlen=_REMEMBERED)).append(value)

    def has_given(self, thread: int, register: str, value: bytes) -> bool:
        """Whether `value` is one of those last noted."""
        return value in self._given.get((thread, register), ())

    def negotiate(self, offered: Features) -> None:
        """Replace the client's features by those it offers now."""
        self.features = (offered & NEGOTIATED) | self.options

    def enable(self, option: bytes) -> None:
        """Turn on one of LLDB's options, for good."""
        self.options |= {option}
        self.features |= {option}

    def stop_acknowledging(self) -> None:
        """Enter no-ack mode. The reply to the request that asks for it is still acknowledged."""
        self._acknowledge = False
        self._decoder.verify = False

    def receive_data(self, data: bytes | bytearray) -> None:
        """Add bytes from the client. Raises ProtocolError when too many packets wait already."""
        payload = None if self._opening is not None else self._decoder.receive_packet(data)
        if payload is None:
            self._decoder.receive_data(data)
        else:
            if self._acknowledge:
                self._queue(b"+")
            self._hold(payload)

    def _repeats_opening(self, payload: bytes) -> bool:
        """Whether `payload` is the first packet once more, sent before its answer could come.

        gdb repeats a packet that is not acknowledged within its `remotetimeout` of 2 seconds; a server that
        it starts itself, on a pipe, may take longer. A second answer would be taken for that to the next
        packet, and so on for ever.
        """
        if self._opening == b"" and payload.startswith(_OPENING):
            self._opening = payload
            return False
        if payload == self._opening:
            return True
        self._opening = None
        return False

    def _hold(self, payload: bytes) -> None:
        self._held.append(payload)
        self._held_size += len(payload)
        if self._held_size > self.packet_size or len(self._held) > framing.MAX_GARBAGE:
            raise ProtocolError("too many packets while the target runs")

    def next_event(self) -> SessionEvent | None:
        """The next thing to do, or None when more bytes are needed. Raises ProtocolError."""
        if self.state is State.CLOSED:
            return None
        if self.state in (State.RUNNING, State.BUSY):
            return self._next_interrupt()
        if self._held:
            payload = self._held.popleft()
            self._held_size -= len(payload)
            return self._take(payload)
        while (unit := self._decoder.next_unit()) is not None:
            if isinstance(unit, framing.Interrupt):
                self._early_interrupt = True
            if (payload_or_none := self._receive(unit)) is not None:
                return self._take(payload_or_none)
        return None

    def _take(self, payload: bytes) -> Request | Malformed:
        """The packet `payload` is what happens next.

        An interrupt that comes while the program is stopped counts for the resume right behind it (GDB
        manual, "Interrupts"); gdb sends the byte first when Ctrl-C follows `continue` at once.
        """
        self._early_interrupt = self._early_interrupt and payload.startswith(_RESUMES)
        return self._parse(payload)

    def _next_interrupt(self) -> Interrupted | None:
        if self._early_interrupt and self.state is State.RUNNING:
            self._early_interrupt = False
            return Interrupted()
        while (unit := self._decoder.next_unit()) is not None:
            if isinstance(unit, framing.Interrupt):
                return Interrupted()
            if (payload := self._receive(unit)) is not None:
                self._hold(payload)
        return None

    def _receive(self, unit: framing.Unit) -> bytes | None:
        """Acknowledge `unit`; the payload if it is a packet."""
        match unit:
            case framing.Packet(payload):
                if self._opening is not None and self._repeats_opening(payload):
                    return None
                if self._acknowledge:
                    self._queue(b"+")
                return payload
            case framing.Ack() if self._opening:
                self._opening = None
            case framing.BadPacket() if self._acknowledge:
                self._queue(b"-")
            case framing.Nack() if self._acknowledge:
                self._queue(self._last_frame)
            case _:
                pass
        return None

    def _parse(self, payload: bytes) -> Request | Malformed:
        request = self._parsed.get(payload)
        if request is not None:
            return request
        try:
            request = parse(payload)
        except RequestError as error:
            return Malformed(str(error))
        if len(payload) <= _CACHED_LENGTH:
            if len(self._parsed) >= _CACHED:
                self._parsed.clear()
            self._parsed[payload] = request
        return request

    def send(self, reply: Reply) -> None:
        """Queue a reply."""
        self._last_frame = framing.frame(
            reply.payload(self.features), run_length=self._run_length, plain=reply.plain
        )
        self._queue(self._last_frame)

    def say(self, text: str) -> None:
        """Queue `text` for the client's console; while no plan runs, keep it for the next one.

        What a client does not fetch is dropped beyond `MAX_CONSOLE` bytes.
        """
        if self.state is not State.RUNNING:
            self._unsaid = (self._unsaid + text)[:_UNSAID]
        elif self.output_size <= MAX_CONSOLE:
            data = text.encode("utf-8", "replace")
            size = self.packet_size // 2 - 1
            for start in range(0, len(data), size):
                self.send(Console(data[start : start + size]))

    def keep_waiting(self) -> None:
        """Queue a sign of life for a client that waits."""
        self._queue(b"+")

    def notify(self, reply: Reply) -> None:
        """Queue `reply` as a stop notification. Nothing acknowledges it."""
        payload = b"Stop:" + reply.payload(self.features)
        self._queue(framing.frame(payload, start=b"%", plain=reply.plain))

    def _queue(self, data: bytes) -> None:
        self._output.append(data)
        self.output_size += len(data)

    def take_output(self) -> bytes:
        """What has to be sent now; each byte is given out once."""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        self.output_size = 0
        return output
