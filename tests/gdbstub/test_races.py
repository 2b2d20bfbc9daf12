"""Things that happen at once: a stop while a job works, a client that goes while another comes."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import pytest
import trio
import trio.testing

import gdbstub
from gdbstub.client import Client
from gdbstub.framing import frame
from gdbstub.server import serve_stream
from gdbstub.target import Detach, Event, Exited, ResumePlan, Stop, StopReason, ThreadInfo
from tests.helpers.full_toy import FullToy, SharedMachine, SharedView
from tests.helpers.rsp import answer, connected, served
from tests.helpers.serve_toy import full_toy_with_programs, load_programs

FEATURES = b"swbreak+;hwbreak+;error-message+"
TAKE = b"qRcmd," + b"control take".hex().encode()
JOB = frame(b"qRcmd," + b"work".hex().encode())


class WorkingToy(FullToy):
    """A toy whose one command makes `event` happen, and then works until `go_on`."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        load_programs(self)
        self.go_on = trio.Event()
        self._event = event
        self._happen, self._happened = trio.open_memory_channel[Event](1)

    async def monitor(self, thread: int, command: str, write: Callable[[str], None]) -> None:
        """See `gdbstub.target.Monitor`."""
        self._happen.send_nowait(self._event)
        await self.go_on.wait()

    async def next_stop(self) -> Event:
        """See `gdbstub.capabilities.NonStop`."""
        return await self._happened.receive()


async def at_work(stream: trio.abc.Stream) -> bytes:
    """What comes from a server in non-stop mode, whose thread 1 runs, when a job has begun."""
    await answer(stream, b"+" + frame(b"qSupported") + b"+" + frame(b"QStartNoAckMode") + b"+")
    assert await answer(stream, frame(b"QNonStop:1") + frame(b"vCont;c:1")) == 2 * frame(b"OK")
    return await answer(stream, JOB)


async def test_in_non_stop_mode_a_stop_is_told_while_a_job_works() -> None:
    toy = WorkingToy(Stop(StopReason.SOFTWARE_BREAKPOINT, 1))
    async with served(toy) as stream:
        assert (await at_work(stream)).startswith(b"%Stop:T05thread:1;")
        toy.go_on.set()
        assert await answer(stream, b"") == frame(b"OK")
        assert await answer(stream, frame(b"vStopped")) == frame(b"OK")


async def test_in_non_stop_mode_the_end_that_comes_while_a_job_works_is_told_after_it() -> None:
    toy = WorkingToy(Exited(7))
    async with served(toy) as stream:
        assert await at_work(stream) == b""
        toy.go_on.set()
        assert await answer(stream, b"") == frame(b"OK") + frame(b"Stop:W07", start=b"%")
        assert (await answer(stream, frame(b"m1000,1"))).startswith(b"$E")


# --- control that moves -----------------------------------------------------------------------------


class QuietToy(FullToy):
    """A toy that does nothing when it runs, until it is interrupted. Its list of threads may take long."""

    def __init__(self) -> None:
        super().__init__()
        load_programs(self)
        self.stop = trio.Event()
        self.stops_at_once = True
        self.answers = trio.Event()
        self.answers.set()

    async def threads(self) -> Sequence[ThreadInfo]:
        """See `gdbstub.target.Target`."""
        await self.answers.wait()
        return await super().threads()

    async def resume(self, plan: ResumePlan) -> Event | None:
        """See `gdbstub.target.Target`."""
        self.plans.append(plan)
        self.stop = trio.Event()
        return None

    async def wait_stop(self) -> Event:
        """See `gdbstub.target.Target`."""
        await self.stop.wait()
        return Stop(StopReason.INTERRUPT, 1)

    def interrupt(self) -> None:
        """See `gdbstub.target.Target`."""
        if self.stops_at_once:
            self.stop.set()


class LeavingView(SharedView):
    """A view that takes its time to detach, and stops what it has set going."""

    def __init__(self, machine: SharedMachine, toy: QuietToy, let_go: trio.Event) -> None:
        super().__init__(machine)
        self._quiet, self._shared, self._let_go = toy, machine, let_go

    async def detach(self, how: Detach) -> None:
        """See `gdbstub.target.Target`."""
        await self._let_go.wait()
        if self._shared.running:
            self._quiet.stop.set()
            await self.wait_stop()
        await super().detach(how)


class Party:
    """A shared machine and its clients, c1, c2 ... in the order of `join`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.toy = QuietToy()
        self.machine = SharedMachine(self.toy)
        self.replies: list[bytes] = []
        self._nursery = nursery
        self._streams: dict[Client, trio.abc.SendStream] = {}

    async def join(self, target: SharedView | None = None, *, lockstep: bool = False) -> Client:
        """One more, who is attached. What is sent to one in lockstep waits until it is read."""
        pair = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
        ours, theirs = pair()
        number = len(self._streams) + 1
        view = cast(gdbstub.Target, target or self.machine.view())
        who = gdbstub.Client(f"c{number}", number)
        self._nursery.start_soon(serve_stream, lambda _: view, theirs, who)
        client = Client(ours)
        self._streams[client] = ours
        await client.start(FEATURES)
        await client.require(b"?")
        return client

    async def ask(self, client: Client, *requests: bytes) -> None:
        """Send all of them at once, and go on when everything rests."""
        await self._streams[client].send_all(b"".join(map(frame, requests)))
        await trio.testing.wait_all_tasks_blocked()

    @property
    def holder(self) -> str:
        """The name of who controls."""
        holder = self.machine.lease.holder
        return "" if holder is None else holder.name

    async def take(self, client: Client) -> None:
        """Take control, as far as that comes until everything rests; the reply goes to `replies`."""

        async def wait() -> None:
            self.replies.append(await client.request(TAKE))

        self._nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()


@contextlib.asynccontextmanager
async def party() -> AsyncIterator[Party]:
    """Everybody is sent home at the end."""
    async with trio.open_nursery() as nursery:
        yield Party(nursery)
        nursery.cancel_scope.cancel()


async def test_a_resume_that_waits_behind_the_stop_does_not_undo_the_move_of_control() -> None:
    async with party() as all_:
        first, second = await all_.join(), await all_.join()
        await all_.ask(first, b"vCont;c")
        await all_.ask(first, b"vCont;c")
        await all_.take(second)
        assert all_.replies == [b"OK"]
        assert (await first.receive()).startswith(b"T02thread:1;")
        assert (await first.receive()).startswith(b"E.the target is controlled by c2")
        assert len(all_.toy.plans) == 1
        assert not all_.machine.running


async def test_one_whose_resume_is_being_answered_is_stopped_before_control_moves() -> None:
    async with party() as all_:
        first, second = await all_.join(), await all_.join()
        all_.toy.answers = trio.Event()
        await all_.ask(first, b"vCont;c")
        await all_.take(second)
        assert all_.replies == []
        all_.toy.answers.set()
        await trio.testing.wait_all_tasks_blocked()
        assert all_.replies == [b"OK"]
        assert (await first.receive()).startswith(b"T02thread:1;")
        assert (await first.request(b"M2000,1:7f")).startswith(b"E.the target is controlled by c2")
        assert not all_.machine.running


async def test_one_who_is_at_a_job_by_then_keeps_control() -> None:
    async with party() as all_:
        first, second = await all_.join(), await all_.join()
        all_.toy.answers = trio.Event()
        await all_.ask(first, b"qfThreadInfo", b"qRcmd," + b"forever".hex().encode())
        await all_.take(second)
        all_.toy.answers.set()
        await trio.testing.wait_all_tasks_blocked()
        assert all_.replies == [b"E.c1 cannot give control away now"]
        assert await first.receive() == b"m1,2"
        await first.interrupt()
        assert (await first.receive()).startswith(b"E")
        assert await first.request(b"M2000,1:7f") == b"OK"


async def test_control_is_taken_from_one_who_follows_the_run_of_somebody_gone() -> None:
    async with party() as all_:
        first, second = await all_.join(), await all_.join()
        await all_.ask(first, b"vCont;c")
        await all_.ask(second, b"vCont;c")
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert all_.holder == "c2"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(all_.machine.view().wait_stop)  # nobody's run goes on
            third = await all_.join()
            await all_.take(third)
            assert all_.replies == [b"OK"]
            assert (await second.receive()).startswith(b"T02thread:1;")
        assert await third.request(b"M2000,1:7f") == b"OK"


@pytest.mark.parametrize("taken_first", [False, True])
async def test_control_of_one_who_vanishes_moves_when_it_has_let_go(taken_first: bool) -> None:
    async with party() as all_:
        let_go = trio.Event()
        all_.toy.stops_at_once = False
        first = await all_.join(LeavingView(all_.machine, all_.toy, let_go))
        second = await all_.join()
        await all_.ask(first, b"vCont;c")
        if taken_first:
            await all_.take(second)
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        if not taken_first:
            await all_.take(second)
        meanwhile = all_.holder, *all_.toy.detached
        let_go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert meanwhile == ("c1",)
        assert all_.toy.detached == [Detach.LOST]
        assert all_.replies == [b"OK"]
        assert await second.request(b"M2000,1:7f") == b"OK"


@pytest.mark.parametrize("requests", [[b"m1000,1"], [b"m1000,1", b"vCont;c"]])
async def test_control_is_taken_from_one_who_does_not_read(requests: list[bytes]) -> None:
    async with party() as all_:
        first, second = await all_.join(lockstep=True), await all_.join()
        await all_.ask(first, *requests)
        await all_.take(second)
        assert all_.replies == [b"OK"]
        assert await first.receive() == b"90"
        if len(requests) > 1:
            assert (await first.receive()).startswith(b"T02thread:1;")
        assert (await first.request(b"M2000,1:7f")).startswith(b"E.the target is controlled by c2")
        assert await second.request(b"M2000,1:7f") == b"OK"


# --- the end of a connection ------------------------------------------------------------------------


class AtTheEnd(trio.abc.Instrument):
    """Calls `say` whenever the last task of a nursery has ended and its parent has not gone on yet."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.calls = 0
        self.errors: list[Exception] = []
        self._say = say

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """See `trio.abc.Instrument`."""
        if task.parent_nursery is not None and not task.parent_nursery.child_tasks:
            self.calls += 1
            try:
                self._say("text of a breakpoint's command\n")
            except Exception as error:  # noqa: BLE001  (trio would hide it)
                self.errors.append(error)


async def test_what_the_target_says_while_a_connection_ends_is_no_error() -> None:
    toy = full_toy_with_programs()
    async with connected(toy) as client:
        await client.require(b"?")
        instrument = AtTheEnd(toy.console)
        trio.lowlevel.add_instrument(instrument)
        try:
            await client.aclose()
            await trio.testing.wait_all_tasks_blocked()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    assert toy.detached == [Detach.LOST]
    assert instrument.calls > 0
    assert instrument.errors == []
