"""Output that is written by a thread of its own: a reader that takes nothing holds up the guest only.

The guest is held back by a short wait for each piece of its output, after which it goes on: so whoever
wants the machine between two ticks, a debugger or a signal, gets it. Trio's thread never waits.
"""

from __future__ import annotations

import os
import select
import threading
from typing import Final

import trio

_ENOUGH: Final = 1 << 16  # unwritten bytes from which on the guest is held back
_MOST: Final = 1 << 24  # no more are kept: only a debugger that goes on and on without a reader gets here
_HOLD_S: Final = 0.05
_POLL_S: Final = 0.5  # how soon the thread sees that nobody wants the rest
_CHUNK: Final = 1 << 14


class Outlet:
    """The way out through a descriptor, of which it has a copy: whoever opened it may close it at any time.

    Methods may be called from any thread.
    """

    def __init__(self, fd: int) -> None:
        """Raises OSError."""
        self._fd = os.dup(fd)
        self._changed = threading.Condition()
        self._queue = bytearray()
        self._ending = False
        self._gone = False  # nobody will read any more
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Have `data` written, later if need be. Never raises."""
        with self._changed:
            if len(self._queue) >= _ENOUGH and not trio.lowlevel.in_trio_run():
                self._changed.wait_for(lambda: self._gone or len(self._queue) < _ENOUGH, _HOLD_S)
            if not self._gone and len(self._queue) < _MOST:
                if not self._queue:  # then the thread waits
                    self._changed.notify_all()
                self._queue += data

    def drop(self) -> None:
        """Nobody wants what is not written yet, nor what may come."""
        with self._changed:
            self._gone = True
            self._queue.clear()
            self._changed.notify_all()

    def finish(self, patience_s: float | None) -> None:
        """Wait until all is written, at most so long; there is no more."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(patience_s)

    # --- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while chunk := self._next():
                self._write_some(chunk)
        except OSError:
            pass
        self.drop()
        os.close(self._fd)

    def _next(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ending or self._gone)
            return bytes(self._queue[:_CHUNK])

    def _write_some(self, chunk: bytes) -> None:
        try:
            written = os.write(self._fd, chunk)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll(_POLL_S * 1000)
            return
        with self._changed:
            del self._queue[:written]
            self._changed.notify_all()
