"""Hostile clients: whatever they send, the server answers or closes, and the target is left alone."""

import random

import pytest
import trio
import trio.testing

import gdbstub
from gdbstub import framing
from gdbstub.packets import PACKET_NAMES
from gdbstub.server import serve_stream
from tests.helpers.patience import HANG_S
from tests.helpers.serve_toy import toy_with_programs

SEEDS = range(150)
PACKETS_PER_SESSION = 60
MAX_REPLY_BYTES = 1 << 25
ENDING = {b"k", b"D", b"vKill"}
NAMES = sorted(PACKET_NAMES - ENDING) * 4 + sorted(ENDING)
ARGUMENTS = [
    *(b"", b"0", b"1", b"-1", b"p1.1", b"1000,10", b"1000,4:00112233", b"1000,4:abcd"),
    *(b"10=0000000000000000", b"g1", b"c1", b";s:1;c", b";c", b";r1000,1005:1", b"?", b"0,1003,1"),
    *(b":features:read:target.xml:0,100", b":threads:read::0,ffff", b":memory:0;10000;ab", b"=0x7"),
    *(b",68656c6c6f", b",666f7265766572", b"2,2000,4", b":1000,100", b"ffffffffffffffff,1"),
    *(b"0,ffffffffffffffff", b":swbreak+;hwbreak+;error-message+", b":1"),
]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """`data` with up to three bytes changed, removed, repeated or inserted."""
    changed = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1:
                del changed[at : at + rng.randrange(4)]
            case 2:
                changed[at:at] = changed[at : at + 8] * rng.randrange(20)
            case _:
                changed[at:at] = rng.choice((b"0", b"f", b",", b":", b";", b"-", b"}", b"\xff"))
    return bytes(changed)


def hostile_stream(rng: random.Random) -> bytes:
    """Mostly well-framed packets with odd contents, and some noise between them."""
    stream = bytearray(b"+" + framing.frame(b"qSupported"))
    for _ in range(PACKETS_PER_SESSION):
        payload = mutated(rng, rng.choice(NAMES) + rng.choice(ARGUMENTS))
        match rng.randrange(12):
            case 0:
                stream += mutated(rng, framing.frame(payload))
            case 1:
                stream += rng.choice((b"\x03", b"-", b"+", b"\x03\x03", b"--", rng.randbytes(8)))
            case 2:
                stream += framing.frame(rng.randbytes(rng.randrange(300)))
            case 3:
                stream += b"\x03" + framing.frame(payload)
            case _:
                stream += framing.frame(payload) + b"\x03" * rng.randrange(2)
    return bytes(stream)


async def served_bytes(stream: bytes, rng: random.Random) -> int:
    """Send `stream` in pieces to a fresh server and leave; how many bytes came back."""
    target = toy_with_programs()
    ours, theirs = trio.testing.memory_stream_pair()
    received = 0

    async def drain() -> None:
        nonlocal received
        while data := await ours.receive_some(1 << 16):
            received += len(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, lambda _: target, theirs, gdbstub.Client("fuzz", 1))
        nursery.start_soon(drain)
        position = 0
        try:
            while position < len(stream):
                size = rng.choice((1, 7, 100, 5000))
                await ours.send_all(stream[position : position + size])
                position += size
                await trio.lowlevel.checkpoint()
            await ours.send_eof()
        except trio.BrokenResourceError:
            pass
    assert not target.attached
    assert len(target.detached) <= 1
    assert len(target.ram) == 0x10000
    return received


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_stream_of_packets_breaks_a_session(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    with trio.fail_after(HANG_S):
        received = await served_bytes(hostile_stream(rng), rng)
    assert received < MAX_REPLY_BYTES
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("seed", range(20))
async def test_no_noise_breaks_a_session(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    noise = bytes(rng.choice(b"+$#\x03}*?gm0123456789abcdef,:") for _ in range(20_000))
    with trio.fail_after(HANG_S):
        received = await served_bytes(noise, rng)
    assert received < MAX_REPLY_BYTES
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_hundred_megabytes_without_a_packet_are_not_kept() -> None:
    sent = 0
    ours, theirs = trio.testing.memory_stream_pair()

    async def flood() -> None:
        nonlocal sent
        await ours.send_all(b"$X0,6400000:")
        for _ in range(100):
            await ours.send_all(bytes(1 << 20))
            await trio.testing.wait_all_tasks_blocked()
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, lambda _: toy_with_programs(), theirs, gdbstub.Client("flood", 1))
        with pytest.raises(trio.BrokenResourceError):
            await flood()
    assert sent <= 1
