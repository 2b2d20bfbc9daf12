"""What a server of the GDB remote protocol does, case by case, whatever it debugs.

A case gets a prepared client (see `Context`) and asserts. It calls `need` for a feature that servers may
lack: one that is not advertised makes the case unsupported; an empty reply to one that is advertised fails.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from gdbstub import framing
from gdbstub.client import Client, StopInfo, parse_stop
from gdbstub.errors import ConnectionLostError
from tests.conformance.servers import AFTER_STORE, JUMP, PROGRAM, RAX, RIP, STORE, Server, Subject

OFFER = b"multiprocess+;swbreak+;hwbreak+;vContSupported+;no-resumed+;error-message+;xmlRegisters=i386"


class UnsupportedError(Exception):
    """The server does not have what the case is about, and does not say that it has."""


@dataclass(frozen=True, slots=True)
class Context:
    """A client that is connected and stands before the program; and the server's features."""

    subject: Subject
    client: Client
    features: frozenset[bytes]

    @property
    def server(self) -> Server:
        return self.subject.server

    async def request(self, payload: bytes, *, advertised: bytes | None = None) -> bytes:
        """Send; an empty reply is unsupported, or a failure when `advertised` is among the features."""
        reply = await self.client.request(payload)
        if not reply:
            assert advertised is None or advertised not in self.features, f"{advertised!r}, yet empty"
            raise UnsupportedError
        return reply

    def need(self, feature: bytes) -> None:
        """Go on only with a server that advertises `feature`."""
        if feature not in self.features:
            raise UnsupportedError

    async def resume(self, payload: bytes) -> StopInfo:
        """Resume and wait for the stop."""
        return parse_stop(await self.request(payload))

    async def pc(self) -> int:
        return await self.register(RIP)

    async def register(self, number: int) -> int:
        value = await self.client.request(b"p%x" % number)
        if not value:
            value = (await self.request(b"g"))[16 * number : 16 * number + 16]
        return int.from_bytes(bytes.fromhex(value.decode()), "little")

    async def thread(self) -> bytes:
        """The id of the thread that stands in the program, as the server writes it."""
        return (await self.request(b"qC"))[2:]


Case = Callable[[Context], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Add a case under `name`."""

    def add(function: Case) -> Case:
        CASES[name] = function
        return function

    return add


def is_error(reply: bytes) -> bool:
    return re.fullmatch(rb"E[0-9a-fA-F]{2}|E\..*", reply, re.DOTALL) is not None


async def quiet(client: Client, seconds: float = 0.2) -> bool:
    """Whether nothing comes."""
    with trio.move_on_after(seconds):
        await client.receive()
        return False
    return True


# --- negotiation and framing ------------------------------------------------------------------------


@case("qSupported names PacketSize in hex")
async def _(c: Context) -> None:
    sizes = [f.removeprefix(b"PacketSize=") for f in c.features if f.startswith(b"PacketSize=")]
    assert len(sizes) == 1
    assert int(sizes[0], 16) >= 0x400


@case("no-ack mode")
async def _(c: Context) -> None:
    c.need(b"QStartNoAckMode+")
    # The client has turned acknowledgements off: one now would be a stray byte in front of the reply.
    assert not c.client.acknowledges
    assert (await c.client.request(b"?")).startswith((b"T", b"S"))


@case("an unknown packet gets the empty reply")
async def _(c: Context) -> None:
    for payload in (b"vMustReplyEmpty", b"vUnknown", b"qUnknown", b"QUnknown"):
        assert await c.client.request(payload) == b""


@case("packets of reverse execution do no harm where there is none")
async def _(c: Context) -> None:
    for payload in (b"bs", b"bc"):
        if b"ReverseStep+" not in c.features:
            await c.client.send(payload)
    await trio.sleep(0.2)
    while not (await c.client.request(b"?")).startswith((b"T", b"S")):
        pass


@case("hostile packets do no harm")
async def _(c: Context) -> None:
    for payload in (
        b"mffffffffffffffffffffffffffffffff,1",
        b"Z0,",
        b"vCont;",
        b"p",
        b"P",
        b"Hgzz",
        b"qXfer:a:b",
    ):
        await c.client.request(payload)
    assert (await c.client.request(b"?")).startswith((b"T", b"S"))


@case("a damaged packet is asked for again")
async def _(c: Context) -> None:
    stream = await _fresh(c)
    await stream.send_all(b"+$qC#00")
    answer = b""
    while b"-" not in answer:
        data = await stream.receive_some(100)
        assert data, "the connection was closed"
        answer += data


async def _fresh(c: Context) -> trio.abc.Stream:
    """The stream of a client of its own, after the first has left."""
    await c.client.aclose()
    while True:
        try:
            return await c.subject.stream()
        except OSError:
            if c.server.name == "gdbserver":
                raise UnsupportedError from None
            await trio.sleep(0.05)


# --- registers and memory ---------------------------------------------------------------------------


@case("g gives the registers that p gives")
async def _(c: Context) -> None:
    general = bytes.fromhex((await c.request(b"g")).replace(b"x", b"0").decode())
    assert int.from_bytes(general[128:136], "little") == await c.pc() == c.server.code


@case("G writes what g reads")
async def _(c: Context) -> None:
    general = bytearray(bytes.fromhex((await c.request(b"g")).replace(b"x", b"0").decode()))
    general[0:8] = (0x1122334455).to_bytes(8, "little")
    assert await c.request(b"G" + bytes(general).hex().encode()) == b"OK"
    assert await c.register(RAX) in (0x1122334455, 0x22334455)


@case("a register number beyond the last is an error")
async def _(c: Context) -> None:
    assert is_error(await c.request(b"pfff0"))


@case("m reads, M writes")
async def _(c: Context) -> None:
    assert await c.request(b"M%x,3:7d2324" % c.server.data) == b"OK"
    assert await c.request(b"m%x,3" % c.server.data) == b"7d2324"


@case("m of what cannot be read is an error")
async def _(c: Context) -> None:
    assert is_error(await c.request(b"m%x,4" % c.server.unmapped))


@case("m of more than a packet holds is answered in part")
async def _(c: Context) -> None:
    reply = await c.request(b"m%x,fff" % c.server.code)
    assert not is_error(reply)
    assert len(reply) >= 2 * len(PROGRAM)


@case("X writes bytes, escaped ones too")
async def _(c: Context) -> None:
    assert await c.request(b"X%x,0:" % c.server.data) == b"OK"
    assert await c.request(b"X%x,6:}#$*\x00\xff" % c.server.data) == b"OK"
    assert await c.request(b"m%x,6" % c.server.data) == b"7d23242a00ff"


@case("x reads bytes")
async def _(c: Context) -> None:
    c.need(b"binary-upload+")
    reply = await c.request(b"x%x,4" % c.server.code, advertised=b"binary-upload+")
    assert reply == b"b" + PROGRAM[:4]


@case("MultiMemRead reads several ranges")
async def _(c: Context) -> None:
    request = b"MultiMemRead:ranges:%x,2,%x,2;" % (c.server.code, c.server.unmapped)
    c.need(b"MultiMemRead+")
    assert await c.request(request, advertised=b"MultiMemRead+") == b"2,0;" + PROGRAM[:2]


@case("qSearch:memory finds")
async def _(c: Context) -> None:
    request = b"qSearch:memory:%x;%x;" % (c.server.code, 64) + PROGRAM[3:7]
    assert await c.request(request) == b"1,%x" % (c.server.code + 3)


@case("qCRC computes gdb's sum")
async def _(c: Context) -> None:
    crc = 0xFFFFFFFF
    for byte in PROGRAM:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc >> 31 else crc << 1) & 0xFFFFFFFF
    assert await c.request(b"qCRC:%x,%x" % (c.server.code, len(PROGRAM))) == b"C%x" % crc


# --- threads and objects ----------------------------------------------------------------------------


@case("threads are listed and alive")
async def _(c: Context) -> None:
    listed = await c.request(b"qfThreadInfo")
    assert listed.startswith(b"m")
    for thread in listed[1:].split(b","):
        assert await c.request(b"T" + thread) == b"OK"
        assert await c.request(b"Hg" + thread) == b"OK"


@case("a thread that does not exist is an error")
async def _(c: Context) -> None:
    assert is_error(await c.request(b"Tp1.7fff" if b"multiprocess+" in c.features else b"T7fff"))


@case("qXfer:threads lists threads")
async def _(c: Context) -> None:
    c.need(b"qXfer:threads:read+")
    assert b"<thread " in await c.client.read_object(b"threads")


@case("qXfer:features comes in chunks of one document")
async def _(c: Context) -> None:
    c.need(b"qXfer:features:read+")
    whole = await c.client.read_object(b"features", b"target.xml", chunk=0x1000)
    assert await c.client.read_object(b"features", b"target.xml", chunk=37) == whole
    assert whole.startswith(b"<?xml")


@case("qXfer of an annex that is not there is an error")
async def _(c: Context) -> None:
    c.need(b"qXfer:features:read+")
    assert is_error(await c.request(b"qXfer:features:read:nothing.xml:0,100"))


@case("qXfer:exec-file names the program")
async def _(c: Context) -> None:
    c.need(b"qXfer:exec-file:read+")
    assert (await c.client.read_object(b"exec-file")).startswith(b"/")


@case("qXfer:osdata lists tables")
async def _(c: Context) -> None:
    c.need(b"qXfer:osdata:read+")
    assert b"<osdata" in await c.client.read_object(b"osdata")


@case("vFile opens, reads and closes")
async def _(c: Context) -> None:
    c.need(b"qXfer:exec-file:read+")
    path = await c.client.read_object(b"exec-file")
    opened = await c.request(b"vFile:open:%b,0,0" % path.hex().encode())
    reply = await c.request(b"vFile:pread:%b,4,0" % opened[1:])
    assert reply == b"F4;\x7fELF"
    assert await c.request(b"vFile:close:" + opened[1:]) == b"F0"


@case("qAttached answers")
async def _(c: Context) -> None:
    assert await c.request(b"qAttached") in (b"0", b"1")


@case("qRcmd answers")
async def _(c: Context) -> None:
    assert await c.request(b"qRcmd," + b"help".hex().encode())


# --- stepping and resuming --------------------------------------------------------------------------


@case("s steps one instruction")
async def _(c: Context) -> None:
    await c.request(b"Hc" + await c.thread())
    assert (await c.resume(b"s")).number == 5
    assert await c.pc() == c.server.code + 1


@case("vCont? lists c, C, s and S")
async def _(c: Context) -> None:
    assert {b"c", b"C", b"s", b"S"} <= {*(await c.request(b"vCont?")).split(b";")}


@case("vCont;s steps and the stop names thread and program counter")
async def _(c: Context) -> None:
    stop = await c.resume(b"vCont;s:" + await c.thread())
    assert (stop.kind, stop.number) == ("T", 5)
    assert "thread" in stop.keys
    assert int.from_bytes(stop.registers[RIP], "little") == c.server.code + 1


@case("vCont;r runs to the end of the range")
async def _(c: Context) -> None:
    if b"r" not in (await c.request(b"vCont?")).split(b";"):
        raise UnsupportedError
    range_ = b"vCont;r%x,%x:" % (c.server.code, c.server.code + AFTER_STORE)
    await c.resume(range_ + await c.thread())
    assert await c.pc() == c.server.code + AFTER_STORE


@case("an interrupt stops with SIGINT, once")
async def _(c: Context) -> None:
    await c.client.send(b"vCont;c")
    await trio.sleep(0.05)
    await c.client.interrupt()
    assert parse_stop(await c.client.receive()).number == 2
    await c.client.interrupt()
    assert await quiet(c.client)


@case("an interrupt while nothing runs does not stop the next step early")
async def _(c: Context) -> None:
    await c.client.interrupt()
    assert await quiet(c.client)
    assert (await c.resume(b"vCont;s:" + await c.thread())).number == 5
    assert await c.pc() == c.server.code + 1


# --- breakpoints and watchpoints --------------------------------------------------------------------


async def _breakpoint(c: Context, kind: int, key: str, offer: bytes) -> None:
    place = c.server.code + AFTER_STORE
    for _ in range(2):
        assert await c.request(b"Z%d,%x,1" % (kind, place), advertised=offer) == b"OK"
    stop = await c.resume(b"vCont;c")
    assert stop.number == 5
    assert await c.pc() == place
    if offer in c.features:
        assert key in stop.keys
    assert await c.request(b"z%d,%x,1" % (kind, place)) == b"OK"


@case("Z0 stops at its address, by name where advertised")
async def _(c: Context) -> None:
    await _breakpoint(c, 0, "swbreak", b"swbreak+")


@case("Z1 stops at its address, by name where advertised")
async def _(c: Context) -> None:
    await _breakpoint(c, 1, "hwbreak", b"hwbreak+")


@case("setting and clearing a breakpoint twice is as good as once")
async def _(c: Context) -> None:
    place = c.server.code + AFTER_STORE
    for request in (b"Z0,%x,1", b"Z0,%x,1", b"z0,%x,1", b"z0,%x,1"):
        assert await c.request(request % place) == b"OK"


@case("a breakpoint is not seen in memory")
async def _(c: Context) -> None:
    await c.request(b"Z0,%x,1" % (c.server.code + STORE))
    assert await c.request(b"m%x,%x" % (c.server.code, len(PROGRAM))) == PROGRAM.hex().encode()


@case("what is written over a breakpoint stays")
async def _(c: Context) -> None:
    place = c.server.code + AFTER_STORE
    await c.request(b"Z0,%x,1" % place)
    await c.request(b"M%x,1:f8" % place)
    await c.request(b"z0,%x,1" % place)
    assert await c.request(b"m%x,1" % place) == b"f8"


@case("a step off a breakpoint executes one instruction")
async def _(c: Context) -> None:
    await c.request(b"Z0,%x,1" % c.server.code)
    await c.resume(b"vCont;s:" + await c.thread())
    assert await c.pc() == c.server.code + 1


@case("a step behind an unexecuted breakpoint is told from a hit")
async def _(c: Context) -> None:
    """Without `swbreak` a client on x86 takes a stop behind a breakpoint for one at it."""
    for offset in (0, 1):
        await c.request(b"Z0,%x,1" % (c.server.code + offset))
    stop = await c.resume(b"vCont;s:" + await c.thread())
    if b"swbreak+" not in c.features:
        raise UnsupportedError
    assert stop.number == 5
    assert await c.pc() == c.server.code + 1


@case("an unknown kind of breakpoint gets the empty reply")
async def _(c: Context) -> None:
    assert await c.client.request(b"Z9,%x,1" % c.server.code) == b""


async def _watch(c: Context, kind: int, key: str) -> None:
    reply = await c.request(b"Z%d,%x,1" % (kind, c.server.data))
    if is_error(reply):
        raise UnsupportedError
    stop = await c.resume(b"vCont;c")
    assert stop.number == 5
    assert int(stop.keys[key], 16) == c.server.data
    assert await c.request(b"z%d,%x,1" % (kind, c.server.data)) == b"OK"


@case("Z2 stops after a write and names it")
async def _(c: Context) -> None:
    await _watch(c, 2, "watch")
    assert await c.pc() == c.server.code + AFTER_STORE


@case("Z3 stops after a read and names it")
async def _(c: Context) -> None:
    await _watch(c, 3, "rwatch")
    assert await c.pc() == c.server.code + JUMP


@case("Z4 stops after an access and names it")
async def _(c: Context) -> None:
    await _watch(c, 4, "awatch")


@case("five watchpoints at a time")
async def _(c: Context) -> None:
    for index in range(5):
        reply = await c.request(b"Z2,%x,1" % (c.server.data + 16 * index))
        if is_error(reply):
            raise UnsupportedError
    assert "watch" in (await c.resume(b"vCont;c")).keys


@case("a condition that is false does not stop")
async def _(c: Context) -> None:
    c.need(b"ConditionalBreakpoints+")
    # stop when register 0 is 3
    request = b"Z0,%x,1;X7,26000022031327" % (c.server.code + STORE)
    assert await c.request(request, advertised=b"ConditionalBreakpoints+") == b"OK"
    await c.resume(b"vCont;c")
    assert await c.register(RAX) == 3


@case("commands of a breakpoint print")
async def _(c: Context) -> None:
    c.need(b"BreakpointCommands+")
    text = b"hit\0"
    code = b"\x22\0\x22\0\x34\0" + len(text).to_bytes(2, "big") + text + b"\x27"
    commands = b"cmds:0,X%x,%b" % (len(code), code.hex().encode())
    assert await c.request(b"Z0,%x,1;%b" % (c.server.code + STORE, commands)) == b"OK"
    assert await c.request(b"Z1,%x,1" % (c.server.code + JUMP)) == b"OK"
    assert await c.pc() == c.server.code
    await c.resume(b"vCont;c")
    assert await c.pc() == c.server.code + JUMP


# --- modes and extensions ---------------------------------------------------------------------------


@case("multiprocess ids where offered")
async def _(c: Context) -> None:
    c.need(b"multiprocess+")
    assert (await c.request(b"qC")).startswith(b"QCp")
    assert b"thread:p" in await c.request(b"?")


@case("non-stop: the stop is a notification")
async def _(c: Context) -> None:
    c.need(b"QNonStop+")
    thread = await c.thread()
    c.client.keep_notifications = True
    assert await c.request(b"QNonStop:1", advertised=b"QNonStop+") == b"OK"
    reply = await c.request(b"?")
    while reply != b"OK":
        reply = await c.request(b"vStopped")
    assert await c.request(b"vCont;s:" + thread) == b"OK"
    told = await c.client.notification()
    while b"T05" not in told[:8]:
        told = await c.request(b"vStopped")
        if told == b"OK":
            told = await c.client.notification()
    assert await c.request(b"m%x,1" % c.server.code) == b"90"


@case("QThreadSuffixSupported, and p with a thread")
async def _(c: Context) -> None:
    assert await c.request(b"QThreadSuffixSupported") == b"OK"
    value = await c.request(b"p10;thread:" + await c.thread() + b";")
    assert value == c.server.code.to_bytes(8, "little").hex().encode()


@case("qHostInfo names a triple")
async def _(c: Context) -> None:
    assert b"triple:" in await c.request(b"qHostInfo")


@case("jThreadsInfo answers")
async def _(c: Context) -> None:
    assert (await c.request(b"jThreadsInfo")).startswith(b"[{")


@case("qMemoryRegionInfo covers an address")
async def _(c: Context) -> None:
    fields = dict(
        f.split(b":") for f in (await c.request(b"qMemoryRegionInfo:%x" % c.server.code)).split(b";") if f
    )
    start, size = int(fields[b"start"], 16), int(fields[b"size"], 16)
    assert start <= c.server.code < start + size


# --- leaving ----------------------------------------------------------------------------------------


@case("a second client gets an answer or is closed")
async def _(c: Context) -> None:
    try:
        other = await c.subject.client()
        await other.request(b"?")
    except (ConnectionLostError, OSError):
        return


@case("D is answered")
async def _(c: Context) -> None:
    reply = await c.request(b"D;1" if b"multiprocess+" in c.features else b"D")
    assert reply == b"OK" or is_error(reply)


@case("a new connection starts with acknowledgements")
async def _(c: Context) -> None:
    stream = await _fresh(c)
    await stream.send_all(b"+" + framing.frame(b"qC"))
    assert (await stream.receive_some(1)) == b"+"
