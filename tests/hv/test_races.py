"""What comes at the wrong moment: quits, stops and errors between two threads, clients that go in the middle.

Each moment is brought about: the machine thread waits in a request, or a function waits before it goes on.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import gdbstub
from gdbstub.client import Client
from gdbstub.server import serve_stream
from gdbstub.target import (
    BreakpointKind,
    Continue,
    Detach,
    Event,
    Exited,
    ResumePlan,
    Stop,
    StopReason,
    ThreadAction,
)
from hv import session
from hv.cli import run
from hv.console import NullConsole
from hv.debug.breakpoints import MACHINE, ExecutionPoint
from hv.debug.nonstop import NonStopRun
from hv.debug.run_control import RunControl
from hv.engines.base import AddressSpace
from hv.engines.soft import SoftEngine
from hv.outcomes import Goal, Kicked, Outcome
from tests.helpers.bare_target import CODE, CONTINUE, Machine, machine
from tests.helpers.patience import HANG_S, until
from tests.hv.loaders.images import boot_sector

QUIT = 143


class Heard:
    """A listener of run control: the events it was told, and the wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._told = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._told.set()

    def wait(self) -> list[Event]:
        """All events, when there is one."""
        assert self._told.wait(HANG_S)
        return self.events


class HeldUp:
    """The machine thread of `m`, which runs, waits in a request until `release`."""

    def __init__(self, m: Machine) -> None:
        self._released = threading.Event()
        m.control.submit(lambda: self._released.wait(HANG_S))

    def release(self) -> None:
        """Let it go on."""
        self._released.set()


# --- between the end of a run and its report ---------------------------------------------------------------


def test_a_quit_that_comes_after_the_last_event_ends_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with machine() as m:
        heard, ended = Heard(), m.control._run_to_event

        def quit_behind_it() -> Event:
            event = ended()
            m.control.quit(QUIT, "")
            return event

        monkeypatch.setattr(m.control, "_run_to_event", quit_behind_it)
        assert m.control.resume(CONTINUE, heard) is None
        m.control.interrupt()
        assert heard.wait() == [Exited(QUIT)]
        assert [ending.status for ending in m.endings] == [QUIT]


def test_a_quit_that_comes_with_the_last_halt_ends_the_machine() -> None:
    with machine() as m:
        told: list[Event] = []
        going = NonStopRun(m.control, told.append)
        m.control.submit(lambda: going.start(ResumePlan((ThreadAction(Continue(), 1),))))
        with m.control.owner.lock:
            going.go()
            m.control.submit(lambda: going.halt([1]))
            m.control.quit(QUIT, "")
        assert going.stands is not None
        going.stands.result(HANG_S)
        assert told == [Stop(StopReason.INTERRUPT, 1), Exited(QUIT)]


def test_a_stop_request_survives_a_reset() -> None:
    with machine() as m:
        m.vm.scheduler.request_stop()
        m.vm.reset()
        assert isinstance(m.vm.run(Goal(until=m.vm.clock.now + 1000)), Kicked)


@pytest.mark.parametrize("inline", [True, False])
def test_an_error_of_the_host_ends_the_machine(inline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with machine() as m:
        heard, real = Heard(), m.vm.run

        def fail(goal: Goal) -> Outcome:
            if inline or goal.until is None:
                raise OSError(28, "No space left on device")
            return real(goal)

        monkeypatch.setattr(m.vm, "run", fail)
        event = m.control.resume(CONTINUE, heard)
        assert (event is not None) == inline
        assert ([event] if inline else heard.wait()) == [Exited(4)]
        assert [ending.text for ending in m.endings] == ["internal error"]


def test_nothing_is_freed_under_the_machine_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A task of the session fails while the guest runs."""
    controls: list[RunControl] = []
    busy: list[bool] = []
    free = SoftEngine.close

    class Noted(RunControl):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            controls.append(self)

    def close(engine: SoftEngine) -> None:
        busy.append(controls[0].owner.busy)
        free(engine)

    async def fail(self: NullConsole, *_: object) -> None:
        await until(lambda: controls[0].owner.busy)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(session, "RunControl", Noted)
    monkeypatch.setattr(SoftEngine, "close", close)
    monkeypatch.setattr(NullConsole, "read", fail)
    monkeypatch.setattr(NullConsole, "has_input", True)
    image = tmp_path / "loop.bin"
    image.write_bytes(boot_sector(b"\x40\xeb\xfd"))
    with pytest.raises(ExceptionGroup, match="Trio nursery"):
        run(["run", str(image), "--serial", "null"], lambda line: None)
    assert busy == [False]


# --- clients ---------------------------------------------------------------------------------------------


async def test_the_stop_of_a_free_run_is_shown_though_it_is_not_told_yet() -> None:
    with machine() as m:
        m.control.point_hits.expected = True
        token = trio.lowlevel.current_trio_token()
        m.control.run_freely(lambda event: token.run_sync_soon(m.lease.tell_all, event))
        point = ExecutionPoint(AddressSpace.LINEAR, CODE + 1)
        m.control.submit(lambda: m.control.points.add(MACHINE, point, BreakpointKind.SOFTWARE))
        while m.control.running:  # not a checkpoint, so that trio hears of it later
            time.sleep(0.001)  # noqa: ASYNC251
        stop = await m.target().attach()
        assert stop.reason is StopReason.SOFTWARE_BREAKPOINT
        assert m.lease.unseen is None


async def test_when_the_last_two_leave_at_once_nobody_is_waited_for() -> None:
    with machine() as m:
        holder, reader = m.target(1), m.target(2)
        seats = [m.lease.join(name, trio.lowlevel.checkpoint) for name in ("c1", "c2")]
        await holder.attach()
        await reader.look_on()
        assert await holder.resume(CONTINUE) is None
        held_up = HeldUp(m)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holder.detach, Detach.LOST)
            await trio.testing.wait_all_tasks_blocked()
            await reader.detach(Detach.LOST)
            m.lease.remove(seats[1])
            held_up.release()
        assert not m.control.debugged
        assert m.control.running


async def test_a_client_that_goes_while_it_attaches_leaves_the_machine_as_it_was() -> None:
    with machine() as m:
        m.control.run_freely()
        held_up = HeldUp(m)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_stream, lambda who: m.target(1), theirs, gdbstub.Client("c1", 1))
            client = Client(ours)
            await client.start(b"swbreak+")
            await client.send(b"?")
            await until(lambda: m.control.interrupted)
            await ours.aclose()
            nursery.cancel_scope.cancel()
            held_up.release()
        await until(lambda: not m.lease.seats)
        assert m.control.running
        assert not m.control.debugged


async def test_who_is_cancelled_while_taking_control_leaves_no_stop_for_later() -> None:
    with machine() as m:
        m.control.run_freely()
        held_up, target = HeldUp(m), m.target()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(target.take_control)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            held_up.release()
        assert not m.control.running
        assert await target.resume(CONTINUE) is None
        target.interrupt()
        with trio.fail_after(HANG_S):
            assert await target.wait_stop() == Stop(StopReason.INTERRUPT, 1)
        assert not m.control.running


async def test_who_follows_a_run_that_has_just_ended_is_told_its_end() -> None:
    with machine() as m:
        holder, reader = m.target(1), m.target(2)
        await holder.attach()
        assert await holder.resume(CONTINUE) is None
        m.control.quit(QUIT, "")
        with trio.fail_after(HANG_S):
            assert await holder.wait_stop() == Exited(QUIT)
            assert await reader.follow() == Exited(QUIT)
