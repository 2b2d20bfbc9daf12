"""The stream over an accepted socket."""

import socket

import pytest
import trio
import trio.testing

from gdbstub.listen import LINGER_S, Linger, SocketTransport


def pair() -> tuple[SocketTransport, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return SocketTransport(ours), theirs


async def test_what_arrives_is_received_and_the_end_is_empty() -> None:
    stream, peer = pair()
    peer.send(b"abc")
    assert await stream.receive_some() == b"abc"
    peer.close()
    assert await stream.receive_some() == b""
    await stream.aclose()


async def test_a_receiver_waits_for_its_peer() -> None:
    stream, peer = pair()
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await stream.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        peer.send(b"x")
    assert received == [b"x"]
    peer.close()
    await stream.aclose()


async def test_a_large_reply_waits_for_a_slow_reader_and_arrives_whole() -> None:
    stream, peer = pair()
    data = bytes(range(256)) * 10_000
    received = bytearray()

    async def read_slowly() -> None:
        while len(received) < len(data):
            await trio.lowlevel.wait_readable(peer)
            received.extend(peer.recv(50_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly)
        await stream.send_all(data)
    assert bytes(received) == data
    peer.close()
    await stream.aclose()


async def test_a_peer_that_left_is_a_broken_resource() -> None:
    stream, peer = pair()
    peer.close()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.aclose()


async def test_closing_wakes_who_waits() -> None:
    stream, peer = pair()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")
    peer.close()


async def test_a_client_that_always_has_data_lets_other_tasks_run() -> None:
    stream, peer = pair()
    peer.send(b"x" * 1000)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while turns < 50:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(100):
            await stream.receive_some(1)
        assert turns == 50
    peer.close()
    await stream.aclose()


def test_only_a_client_whose_requests_come_soon_is_awaited_awake() -> None:
    linger = Linger()
    assert not linger
    linger.waited(LINGER_S)
    assert linger
    linger.waited(1.0)
    assert not linger


def test_one_long_pause_among_short_ones_does_not_end_it() -> None:
    linger = Linger()
    for _ in range(6):
        linger.waited(LINGER_S / 2)
    linger.waited(1.0)
    assert linger
    for _ in range(1000):
        linger.waited(0.0)
    pauses = 0
    while linger:
        linger.waited(1.0)
        pauses += 1
    assert pauses <= 5
