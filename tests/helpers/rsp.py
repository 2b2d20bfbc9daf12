"""A served toy target and a client that talks to it, over memory streams."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio
import trio.testing

import gdbstub
from gdbstub.client import Client
from gdbstub.server import serve_stream


@contextlib.asynccontextmanager
async def served(target: gdbstub.Target) -> AsyncIterator[trio.abc.Stream]:
    """A stream to a server of `target`; closing it is a lost connection."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, lambda _: target, theirs, gdbstub.Client("test", 1))
        yield ours
        await ours.aclose()


@contextlib.asynccontextmanager
async def connected(target: gdbstub.Target, features: bytes = b"swbreak+;hwbreak+") -> AsyncIterator[Client]:
    """A client that has negotiated `features` and no-ack mode, and not attached yet."""
    async with served(target) as stream:
        client = Client(stream)
        await client.start(features)
        yield client


async def answer(stream: trio.abc.Stream, data: bytes) -> bytes:
    """Send raw bytes and return all that comes back before everything rests; empty at end of stream."""
    received = bytearray()

    async def collect() -> None:
        while more := await stream.receive_some(1 << 20):
            received.extend(more)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        await stream.send_all(data)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return bytes(received)
