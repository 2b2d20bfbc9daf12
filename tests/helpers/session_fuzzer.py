"""A coverage-guided fuzzer of the debug server with a live target.

An input is a list of pieces, each sent as it stands: mostly well-framed packets. It runs against a fresh
`Subject`: a toy target with every capability, or a real machine (`machine_fuzzer.py`). Every line-to-line
edge in `gdbstub/` and `hv/debug/` that was not seen before makes it a parent of further inputs. After each
input the `Oracle` holds what no input may ever break:

* nothing but a clean end: no internal error is logged, nothing escapes, the end of the stream detaches;
* every byte of the answer belongs to a well-formed packet of bounded length;
* without a request that writes or runs, registers and memory are as before (`effects.py`);
* a real machine goes on as one that nobody debugs and to which happens what the log of influences says;
* breakpoints, watchpoints and non-stop mode are gone with the connection.

Coverage is taken with `sys.settrace`, in frames of these packages only.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Protocol

import trio
import trio.testing

import gdbstub
from gdbstub import framing, packets
from gdbstub.arch.x86_64 import x86_64
from gdbstub.description import Description
from gdbstub.errors import ProtocolError
from gdbstub.server import serve_stream
from gdbstub.session import PACKET_SIZE
from gdbstub.target import Target
from tests.helpers.effects import Effect, effect_of_stream
from tests.helpers.full_toy import FullToy
from tests.helpers.serve_toy import load_programs

GDBSTUB = str(Path(gdbstub.__file__).parent)
PACKAGES = (GDBSTUB, str(Path(GDBSTUB).parent / "hv" / "debug"))
MAX_PIECES = 40
MAX_ANSWER = 1 << 25
TIME_LIMIT_S = 300  # of what takes milliseconds: a hang
CHANGED = "the guest changed without being asked to"
Input = list[bytes]
Edge = tuple[int, int, int]

NAMES = sorted(packets.PACKET_NAMES)
SAMPLES = [
    *(
        b"?",
        b"g",
        b"G" + b"00" * 552,
        b"p0",
        b"p10;thread:2;",
        b"P0=1100000000000000",
        b"g;thread:1;",
        b"!",
        b"k",
    ),
    *(
        b"m1000,10",
        b"x1000,10",
        b"M3000,4:abcd0011",
        b"X3000,2:ab",
        b"X0,0:",
        b"mffff,10",
        b"x0,20000",
        b"m0,0",
    ),
    *(
        b"Hg1",
        b"Hg2",
        b"Hc2",
        b"Hg0",
        b"Hc-1",
        b"Hgp1.2",
        b"T1",
        b"T9",
        b"qC",
        b"qAttached:1",
        b"D",
        b"D1",
        b"R00",
    ),
    *(
        b"c",
        b"s",
        b"C05",
        b"S05;1000",
        b"vCont?",
        b"vCont;c",
        b"vCont;s:1",
        b"vCont;s:1;c",
        b"vCont;r1000,1005:1",
    ),
    *(b"vCont;t", b"vCont;c:2", b"vCont;t:2", b"vCont;C05:1;S05:2", b"vCtrlC", b"vStopped", b"QNonStop:1"),
    *(b"QNonStop:0", b"vRun;", b"vRun;2f62", b"vAttach;1", b"vKill;1", b"vMustReplyEmpty"),
    *(b"Z0,1003,1", b"z0,1003,1", b"Z1,1005,1;X3,220127", b"Z0,1003,1;X9,260000164022091327"),
    *(
        b"Z0,1003,1;cmds:0,Xf,2205220022003401000325640027",
        b"Z2,2000,4",
        b"Z3,2000,1",
        b"Z4,2000,1;X3,220027",
    ),
    *(b"qSupported:swbreak+;hwbreak+;error-message+;multiprocess+", b"QStartNoAckMode", b"qOffsets"),
    *(b"qfThreadInfo", b"qsThreadInfo", b"qThreadExtraInfo,2", b"qRcmd,68656c6c6f", b"qRcmd,666f7265766572"),
    *(b"qSearch:memory:0;10000;ab", b"qSearch:memory:0;ffffffffffff;zz", b"qCRC:1000,100"),
    *(
        b"qXfer:features:read:target.xml:0,100",
        b"qXfer:features:read:target.xml:100,fff",
        b"qXfer:threads:read::0,ff",
    ),
    *(b"qXfer:exec-file:read:1:0,ff", b"qXfer:osdata:read::0,ff", b"qXfer:osdata:read:vcpus:0,ff"),
    *(b"qXfer:btrace:read:all:0,ff", b"qXfer:btrace-conf:read::0,ff", b"Qbtrace:bts", b"Qbtrace:off"),
    *(
        b"Qbtrace-conf:bts:size=0x1000",
        b"qqemu.sstep",
        b"Qqemu.sstep=0x7",
        b"qqemu.sstepbits",
        b"qqemu.PhyMemMode",
    ),
    *(b"vFile:setfs:0", b"vFile:open:2f626f6f742f746f79,0,0", b"vFile:open:2f,0,0", b"vFile:pread:3,100,10"),
    *(
        b"vFile:close:3",
        b"vFile:fstat:3",
        b"vFile:stat:2f626f6f742f746f79",
        b"vFile:size:2f",
        b"vFile:unlink:2f",
    ),
    *(
        b"QThreadSuffixSupported",
        b"QListThreadsInStopReply",
        b"QEnableErrorStrings",
        b"qHostInfo",
        b"qProcessInfo",
    ),
    *(b"qGDBServerVersion", b"qEcho:1", b"jThreadsInfo", b"qThreadStopInfo2", b"qMemoryRegionInfo:1234"),
    *(b"MultiMemRead:ranges:1000,4,0,2;", b"QSaveRegisterState", b"QRestoreRegisterState:1"),
    b'jMultiBreakpoint:{"breakpoint_requests":["Z0,1003,1","z0,1003,1"]}',
]
"""Packets that mean something."""
ARGUMENTS = sorted({sample[len(name) :] for sample in SAMPLES for name in NAMES if sample.startswith(name)})
STARTS: list[Input] = [
    [b"+", b"?"],
    [b"+", b"QStartNoAckMode", b"?"],
    [b"+", b"qSupported:multiprocess+;swbreak+;error-message+", b"!", b"?"],
    [b"+", b"QNonStop:1", b"?", b"vStopped"],
    [b"+", b"QThreadSuffixSupported", b"QListThreadsInStopReply", b"QEnableErrorStrings", b"?"],
]


def pieces(start: Sequence[bytes]) -> Input:
    """`start` with its packets framed."""
    return [piece if piece in (b"+", b"-", b"\x03") else framing.frame(piece) for piece in start]


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that breaks a rule, and which."""

    data: Input
    why: str


class _Log(logging.Handler):
    """Keeps the first error that the server logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error = ""

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self.error = self.error or f"{record.getMessage()}: {cause!r}"


@dataclass
class Coverage:
    """Edges between lines of `gdbstub/`."""

    edges: set[Edge] = field(default_factory=set)
    _files: dict[int, str] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    _ours: dict[CodeType, bool] = field(default_factory=dict)

    def edges_of(self, package: str) -> int:
        """How many of the edges lie in a package."""
        return sum(self._files[edge[0]].startswith(package) for edge in self.edges)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Record while the block runs."""
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)
            self._last.clear()

    def _call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_filename.startswith(PACKAGES)
            self._files[id(code)] = code.co_filename
        return self._line if ours else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if event == "line":
            key = id(frame)
            self.edges.add((id(frame.f_code), self._last.get(key, 0), frame.f_lineno))
            self._last[key] = frame.f_lineno
        elif event == "return":
            self._last.pop(id(frame), None)
        return self._line


class Subject(Protocol):
    """What an input runs against."""

    @property
    def target(self) -> Target:
        """The target to serve."""

    @property
    def detached(self) -> bool:
        """Whether the connection has ended by a detach."""

    async def interrupted(self) -> None:
        """Give what runs the time to stop, so that what follows is not lost with the connection."""

    def left_behind(self) -> bool:
        """Whether something of the connection is still there."""

    def changed(self, stream: bytes) -> str:
        """What has become of the guest that a client did not ask for with `stream`; empty for nothing."""

    def close(self) -> None:
        """The end."""


class ToySubject:
    """A toy as a subject."""

    def __init__(self, target: FullToy) -> None:
        self.target = target
        self._before = self._state()

    @property
    def detached(self) -> bool:
        """See `Subject`."""
        return bool(self.target.detached)

    def _state(self) -> object:
        """Registers and memory."""
        return bytes(self.target.ram), [dict(registers) for registers in self.target.registers]

    async def interrupted(self) -> None:
        """See `Subject`."""

    def left_behind(self) -> bool:
        """See `Subject`."""
        toy = self.target
        return bool(toy.attached or toy.points or toy.watches or toy.is_non_stop)

    def changed(self, stream: bytes) -> str:
        """See `Subject`."""
        asked = effect_of_stream(stream) > Effect.LEAVES
        return CHANGED if not asked and self._state() != self._before else ""

    def close(self) -> None:
        """Nothing to do."""


def broken_answer(answer: bytes) -> str:
    """What is wrong with the bytes of an answer; empty when nothing is."""
    decoder = framing.Decoder(PACKET_SIZE, replies=True)
    decoder.receive_data(answer)
    try:
        while (unit := decoder.next_unit()) is not None:
            if isinstance(unit, framing.BadPacket):
                return "an answer with a wrong checksum"
    except ProtocolError as error:
        return f"an answer that is none: {error}"
    return "an answer that ends in the middle" if decoder.buffered else ""


async def _exchange(data: Input, subject: Subject) -> bytes:
    """Send the pieces, leave, and give what came back."""
    ours, theirs = trio.testing.memory_stream_pair()
    answer = bytearray()

    async def drain() -> None:
        while more := await ours.receive_some(1 << 20):
            answer.extend(more)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, lambda _: subject.target, theirs, gdbstub.Client("fuzz", 1))
        nursery.start_soon(drain)
        with contextlib.suppress(trio.BrokenResourceError):
            for piece in data:
                await ours.send_all(piece)
                for _ in range(4):
                    await trio.lowlevel.checkpoint()
                if piece.endswith(b"\x03"):
                    await subject.interrupted()
            await ours.send_eof()
    return bytes(answer)


async def verdict(
    data: Input, make_target: Callable[[], FullToy | Subject], coverage: Coverage | None = None
) -> str:
    """Run one input against a fresh target; what is wrong, or nothing."""
    made = make_target()
    subject: Subject = ToySubject(made) if isinstance(made, FullToy) else made
    try:
        return await _verdict(data, subject, coverage)
    finally:
        subject.close()


async def _verdict(data: Input, subject: Subject, coverage: Coverage | None) -> str:
    log = _Log()
    logger = logging.getLogger("gdbstub.server")
    logger.addHandler(log)
    propagate, logger.propagate = logger.propagate, False
    try:
        with (
            trio.move_on_after(TIME_LIMIT_S) as scope,
            coverage.taken() if coverage else contextlib.nullcontext(),
        ):
            answer = await _exchange(data, subject)
        if scope.cancelled_caught:
            return f"no end after {TIME_LIMIT_S} s"
    except Exception as error:  # noqa: BLE001  (whatever escapes is a finding)
        return f"escaped: {error!r}"
    finally:
        logger.removeHandler(log)
        logger.propagate = propagate
    if log.error:
        return log.error
    if subject.left_behind():
        return "something was left behind"
    if len(answer) > MAX_ANSWER:
        return f"an answer of {len(answer)} bytes"
    if changed := subject.changed(b"".join(data)):
        return changed
    return broken_answer(answer) if subject.detached else ""


def toy_to_fuzz(description: Description) -> FullToy:
    """A fresh target. The description, which takes long to make, is shared."""
    target = FullToy(description=description)
    target.slice_ticks = 5
    load_programs(target)
    return target


class Fuzzer:
    """Makes inputs, and keeps those that reach something new."""

    def __init__(
        self,
        seed: int,
        make_target: Callable[[Description], FullToy | Subject] = toy_to_fuzz,
        samples: Sequence[bytes] = (),
    ) -> None:
        self._samples = [*SAMPLES, *samples]
        self._rng = random.Random(seed)
        self._make_target = partial(make_target, x86_64())
        self.coverage = Coverage()
        self.corpus: list[Input] = []
        self.executed = 0

    async def search(self, *, inputs: int | None = None, seconds: float | None = None) -> Finding | None:
        """Go on until something is found or the bound is reached."""
        end = None if seconds is None else time.monotonic() + seconds
        started = self.executed
        while (inputs is None or self.executed - started < inputs) and (
            end is None or time.monotonic() < end
        ):
            data = self._next_input()
            known = len(self.coverage.edges)
            why = await verdict(data, self._make_target, self.coverage)
            self.executed += 1
            if why:
                return Finding(await self._shortened(data, why), why)
            if len(self.coverage.edges) > known:
                self.corpus.append(data)
        return None

    async def _shortened(self, data: Input, why: str) -> Input:
        """`data` without the pieces that `why` does not need."""
        kind, index = why[:30], 0
        while index < len(data):
            shorter = data[:index] + data[index + 1 :]
            if (await verdict(shorter, self._make_target))[:30] == kind:
                data = shorter
            else:
                index += 1
        return data

    def _next_input(self) -> Input:
        rng = self._rng
        if self.executed < len(STARTS):
            return pieces(STARTS[self.executed])
        if rng.random() < 0.2 or not self.corpus:
            data = pieces(rng.choice(STARTS))
            return data + [self._piece() for _ in range(rng.randrange(1, rng.choice((4, 12, MAX_PIECES))))]
        # Recent parents lead further than old ones.
        parent = self.corpus[-1 - min(int(rng.expovariate(0.05)), len(self.corpus) - 1)]
        data = list(parent)
        for _ in range(rng.randrange(1, 5)):
            self._mutate(data)
        return data[:MAX_PIECES]

    def _mutate(self, data: Input) -> None:
        rng = self._rng
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data.insert(at, self._piece())
            case 1:
                del data[at : at + 1]
            case 2:
                other = rng.choice(self.corpus)
                start = rng.randrange(len(other) + 1)
                data[at:at] = other[start : start + rng.randrange(1, 8)]
            case 3:
                data.append(self._piece())
            case _ if at < len(data):
                data[at] = self._changed(data[at])
            case _:
                data.insert(at, rng.choice((b"\x03", b"-", b"+")))

    def _piece(self) -> bytes:
        rng = self._rng
        payload = rng.choice(self._samples)
        if rng.random() < 0.2:
            payload = rng.choice(NAMES) + rng.choice(ARGUMENTS)
        if rng.random() < 0.05:
            return rng.choice((b"\x03", b"-", b"+"))
        # What runs holds up all that follows until it is interrupted.
        runs = payload.startswith((b"vCont;", b"c", b"C", b"qRcmd", b"qSearch"))
        return framing.frame(payload) + b"\x03" * (runs and rng.random() < 0.8)

    def _changed(self, piece: bytes) -> bytes:
        """A packet with another payload, or, rarely, damaged bytes."""
        rng = self._rng
        if rng.random() < 0.1 or not piece.startswith(b"$"):
            return self._damaged(piece)
        payload = piece[1:].rpartition(b"#")[0]
        with contextlib.suppress(ProtocolError):
            payload = framing.unescape(payload)
        if rng.random() < 0.3:
            name = next((n for n in reversed(NAMES) if payload.startswith(n)), payload[:1])
            return framing.frame(name + rng.choice(ARGUMENTS))
        return framing.frame(self._damaged(payload))

    def _damaged(self, data: bytes) -> bytes:
        rng, changed = self._rng, bytearray(data)
        for _ in range(rng.randrange(1, 3)):
            at = rng.randrange(len(changed) + 1)
            match rng.randrange(5):
                case 0:
                    changed[at : at + 1] = rng.randbytes(1)
                case 1:
                    del changed[at : at + rng.randrange(1, 4)]
                case 2:
                    changed[at:at] = changed[at : at + 8] * rng.randrange(1, 20)
                case 3:
                    changed[at : at + 1] = rng.choice((b"0", b"f", b"3", b",", b":", b";", b"-", b"}"))
                case _:
                    changed[at:at] = rng.choice((b"0", b"ffffffff", b",", b";", b":1", b";thread:2;"))
        return bytes(changed)
