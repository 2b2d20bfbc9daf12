"""Who controls a target that several look at. Pure: whoever connects (a debug session, a prompt, a control
socket) joins, gets a `Seat`, and leaves.

The first to join controls; when the one in control leaves, the next in order of arrival has it. `Seat.take`
moves control: the holder's own `give_up` is awaited first and leaves the target standing still.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gdbstub.errors import TargetBusyError


class Seat:
    """One participant's place at a `Lease`. Made by `Lease.join`."""

    def __init__(self, lease: Lease, name: str, give_up: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._lease = lease
        self._give_up = give_up

    @property
    def controls(self) -> bool:
        """Whether control lies here."""
        return self._lease.holder is self

    async def take(self) -> None:
        """Move control here. Raises `TargetBusyError` while another moves it, and what the holder's
        `give_up` raises; control then stays."""
        await self._lease.move(self)

    async def give_up(self) -> None:
        """Called by the lease only: another takes control."""
        await self._give_up()

    def leave(self) -> None:
        """Go. Control, if it lies here, passes to the next. Harmless when repeated."""
        self._lease.remove(self)


class Lease:
    """Control over one target, and everybody who is connected to it, in order of arrival."""

    def __init__(self) -> None:
        self._seats: list[Seat] = []
        self._holder: Seat | None = None
        self._moving = False

    @property
    def holder(self) -> Seat | None:
        """Who controls; None when nobody is there."""
        return self._holder

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Everybody, in order of arrival."""
        return tuple(self._seats)

    def join(self, name: str, give_up: Callable[[], Awaitable[None]]) -> Seat:
        """Take part. The first one controls."""
        seat = Seat(self, name, give_up)
        self._seats.append(seat)
        if self._holder is None and not self._moving:
            self._holder = seat
        return seat

    async def move(self, seat: Seat) -> None:
        """See `Seat.take`."""
        before = self._holder
        if before is seat:
            return
        if self._moving:
            raise TargetBusyError("somebody who is taking control now")
        self._moving = True
        try:
            if before is not None:
                await before.give_up()
            # No await from here on: the one before may answer its client again.
            if seat in self._seats:
                self._holder = seat
        finally:
            self._moving = False
            if self._holder not in self._seats:
                self._pass_on()

    def remove(self, seat: Seat) -> None:
        """See `Seat.leave`."""
        if seat in self._seats:
            self._seats.remove(seat)
            if self._holder is seat:
                self._pass_on()

    def _pass_on(self) -> None:
        self._holder = self._seats[0] if self._seats and not self._moving else None
