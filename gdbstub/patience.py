"""Keeps a client waiting while the answer to its request takes long. trio.

gdb gives a request up when nothing comes for three times its `remotetimeout` of 2 seconds, and then takes the
late answer for that to its next request; LLDB gives up after 5 seconds. But any byte between two packets
makes gdb wait as long again, and a plus sign is the one that means nothing there; LLDB discards it, and waits
anew, too.

Source: gdb's `remote.c` (`getpkt_or_notif_sane_1`), LLDB's `GDBRemoteCommunication.cpp` (`ReadPacket`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

QUIET_S: Final = 0.5
"""A client that waits hears something after twice this time at most, and so often from then on."""


class Patience:
    """Of one connection. `say_wait` sends what is there to send, and the plus sign.

    Whoever answers a request calls `begun` and `done` around it, and waits for `saying` before it sends;
    while a job works, `working` is true.
    """

    def __init__(self, say_wait: Callable[[], Awaitable[None]], working: Callable[[], bool]) -> None:
        self._say_wait = say_wait
        self._working = working
        self._requests = 0
        self._answering = False
        self.saying: trio.Event | None = None
        """Set when the word that is being sent is out; None when none is."""
        self._parked: trio.Event | None = None

    def begun(self) -> None:
        """A request is being answered from now on."""
        self._requests += 1
        self._answering = True
        if self._parked is not None:
            self._parked.set()
            self._parked = None

    def done(self) -> None:
        """It is answered, or a job goes on with it."""
        self._answering = False

    async def run(self) -> None:
        """For ever; no timer runs while the client asks nothing."""
        while True:
            before = self._requests
            await trio.sleep(QUIET_S)
            if before != self._requests:
                continue
            if self._answering or self._working():
                self.saying = trio.Event()
                try:
                    await self._say_wait()
                finally:
                    self.saying.set()
                    self.saying = None
            else:
                self._parked = trio.Event()
                await self._parked.wait()
