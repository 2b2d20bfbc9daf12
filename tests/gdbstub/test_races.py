"""Things that happen at once: a stop while a job works, a client that goes while another comes."""

from collections.abc import Callable

import trio

from gdbstub.framing import frame
from gdbstub.target import Event, Exited, Stop, StopReason
from tests.helpers.full_toy import FullToy
from tests.helpers.rsp import answer, served
from tests.helpers.serve_toy import load_programs

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
