"""What one client is sent: all that its session queues, in that order. trio.

Sending has a lock of its own. Whoever wants to answer, or to take control away, does not wait for a client
that does not read.
"""

from __future__ import annotations

import trio

from gdbstub.patience import Patience
from gdbstub.session import Session, State


async def acquire(lock: trio.Lock) -> None:
    """As ``lock.acquire()``; the uncontended case spares a pass through the scheduler, which a step would
    notice."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()


class Outbox:
    """Of one connection, two of whose tasks are `flush` and `patience.run`."""

    def __init__(self, stream: trio.abc.Stream, session: Session) -> None:
        self._stream = stream
        self._session = session
        self.patience = Patience(self._say_wait, lambda: session.state is State.BUSY)
        self._said = trio.Event()
        self._sending = False
        self._lock = trio.Lock()

    async def send(self) -> None:
        """Send all that is queued, after what is being sent already."""
        await acquire(self._lock)
        try:
            if (saying := self.patience.saying) is not None:
                await saying.wait()
            if self._session.output_size:
                self._sending = True
                await self._stream.send_all(self._session.take_output())
                self._sending = False
        finally:
            self._lock.release()

    def say(self, text: str) -> None:
        """The target says `text`. Called by trio itself, maybe when the connection is about to end: starts no
        task and raises nothing, which would end the whole process."""
        if self._session.state is not State.CLOSED:
            self._session.say(text)
            self._said.set()

    async def flush(self) -> None:
        """Send what the target says, for ever."""
        while True:
            await self._said.wait()
            self._said = trio.Event()
            await self.send()

    async def _say_wait(self) -> None:
        """The client waits for a request that takes long; if it is sent something anyway, that does."""
        if not self._sending:
            self._session.keep_waiting()
            await self._stream.send_all(self._session.take_output())
