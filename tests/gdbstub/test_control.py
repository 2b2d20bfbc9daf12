"""Processes (extended-remote), non-stop mode, files, tables and branch traces, over the wire."""

import struct

import pytest
import trio
import trio.testing

from gdbstub.capabilities import Library
from gdbstub.client import Client, parse_stop
from gdbstub.errors import ConnectionLostError, RemoteError
from gdbstub.framing import frame
from gdbstub.replies import StopReply
from gdbstub.target import Detach, Stop, StopReason
from tests.helpers.full_toy import FILES, FullToy
from tests.helpers.rsp import answer, connected, served
from tests.helpers.serve_toy import full_toy_with_programs, toy_with_programs

MULTIPROCESS = b"swbreak+;hwbreak+;multiprocess+;error-message+"


# --- process ids ------------------------------------------------------------------------------------


async def test_thread_ids_name_the_process_for_a_client_that_knows_processes() -> None:
    async with connected(full_toy_with_programs(), MULTIPROCESS) as client:
        assert (await client.request(b"?")).startswith(b"T05thread:p1.1;")
        assert await client.request(b"qC") == b"QCp1.1"
        assert await client.request(b"qfThreadInfo") == b"mp1.1,p1.2"
        assert b'<thread id="p1.2"' in await client.read_object(b"threads")
        assert await client.request(b"Hgp1.2") == b"OK"
        assert await client.request(b"p10") == b"0011000000000000"
        assert (await client.request(b"vCont;s:p1.1;c:p1.-1")).startswith(b"T05thread:p1.1;")
        assert await client.request(b"qAttached:1") == b"1"
        assert (await client.request(b"Hgp2.1")).startswith(b"E")


async def test_the_end_names_the_process() -> None:
    target = full_toy_with_programs()
    target.powered_off = True
    async with connected(target, MULTIPROCESS) as client:
        assert await client.request(b"vCont;c") == b"W07;process:1"


async def test_a_target_without_processes_has_plain_thread_ids() -> None:
    async with connected(toy_with_programs(), MULTIPROCESS) as client:
        assert b"multiprocess" not in await client.start(MULTIPROCESS)
        assert await client.request(b"qC") == b"QC1"


# --- extended-remote --------------------------------------------------------------------------------


async def test_in_extended_mode_a_detached_client_stays_and_comes_back() -> None:
    target = full_toy_with_programs()
    async with connected(target, MULTIPROCESS) as client:
        assert await client.request(b"!") == b"OK"
        assert await client.request(b"D;1") == b"OK"
        assert target.detached == [Detach.RESUME]
        assert not target.attached
        assert await client.request(b"?") == b"W00;process:1"
        assert await client.request(b"g") == b"E.detached; 'attach 1' or 'run' comes back"
        assert (await client.request(b"vAttach;2")).startswith(b"E")
        assert (await client.request(b"vAttach;1")).startswith(b"T05thread:p1.1;")
        assert len(await client.require(b"g")) == 2 * 552
    assert target.detached == [Detach.RESUME, Detach.LOST]


@pytest.mark.parametrize(("request_", "reply"), [(b"k", None), (b"vKill;1", b"OK")])
async def test_in_extended_mode_a_killed_target_stands_until_it_is_run_again(
    request_: bytes, reply: bytes | None
) -> None:
    target = full_toy_with_programs()
    async with connected(target, MULTIPROCESS) as client:
        await client.require(b"!")
        await client.resume(b"vCont;s:1")
        await client.send(request_)
        if reply is not None:
            assert await client.receive() == reply
        assert (await client.request(b"vRun;")).startswith(b"T05thread:p1.1;core:0;10:0010000000000000;")
        assert target.restarts == 1
    assert not target.killed
    assert target.detached == [Detach.STAY, Detach.LOST]


async def test_run_starts_the_loaded_program_and_no_other() -> None:
    target = full_toy_with_programs()
    async with connected(target, MULTIPROCESS) as client:
        await client.require(b"!")
        await client.resume(b"vCont;s:1")
        assert (await client.request(b"vRun;" + b"/boot/toy".hex().encode())).startswith(b"T05")
        assert (await client.request(b"vRun;" + b"/bin/sh".hex().encode())) == (
            b"E.only the loaded program can be run"
        )
        assert target.restarts == 1


async def test_restart_is_not_answered_and_the_stop_is_the_new_one() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        await client.resume(b"vCont;s:1")
        await client.send(b"R00")
        assert parse_stop(await client.request(b"?")).registers[16] == b"\x00\x10\0\0\0\0\0\0"
        assert target.restarts == 1


async def test_without_extended_mode_detaching_ends_the_connection() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        await client.request(b"?")
        assert await client.request(b"D1") == b"OK"
        with pytest.raises(ConnectionLostError):
            await client.request(b"?")
    assert target.detached == [Detach.STAY]


@pytest.mark.parametrize("request_", [b"!", b"vRun;", b"vAttach;1", b"R00", b"QNonStop:1", b"vCtrlC"])
async def test_a_target_that_cannot_start_again_or_run_threads_apart_says_nothing(request_: bytes) -> None:
    async with connected(toy_with_programs()) as client:
        assert await client.request(request_) == b""


# --- non-stop ---------------------------------------------------------------------------------------


class Notified:
    """A non-stop client: replies and notifications apart."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._client = Client(stream)
        self._client.keep_notifications = True
        self.request = self._client.request

    async def start(self) -> None:
        await self._client.start()
        assert await self.request(b"QNonStop:1") == b"OK"

    async def notification(self) -> bytes:
        return await self._client.notification()


async def test_non_stop_is_announced() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert b"QNonStop+" in await client.start()
        assert await client.request(b"vCont?") == b"vCont;c;C;s;S;r;t"


async def test_the_first_question_tells_all_threads_that_stand() -> None:
    async with served(full_toy_with_programs()) as stream:
        client = Notified(stream)
        await client.start()
        assert (await client.request(b"?")).startswith(b"T05thread:1;")
        assert await client.request(b"vStopped") == b"OK"
        assert (await client.notification()).startswith(b"Stop:T00thread:2;")
        assert await client.request(b"vStopped") == b"OK"
        assert await client.request(b"vStopped") == b"OK"


async def test_a_thread_is_read_while_another_runs_and_its_stop_is_a_notification() -> None:
    target = full_toy_with_programs()
    async with served(target) as stream:
        client = Notified(stream)
        await client.start()
        assert await client.request(b"vCont;c:2") == b"OK"
        assert (await client.request(b"?")).startswith(b"T05thread:1;")
        assert await client.request(b"vStopped") == b"OK"
        assert await client.request(b"m1000,1") == b"90"
        assert await client.request(b"Z0,1005,1") == b"OK"
        assert await client.request(b"vCont;c:1") == b"OK"
        assert (await client.notification()).startswith(b"Stop:T05thread:1;")
        assert await client.request(b"vStopped") == b"OK"
        assert await client.request(b"vCont;t:2") == b"OK"
        assert (await client.notification()).startswith(b"Stop:T00thread:2;")
        assert await client.request(b"vStopped") == b"OK"


async def test_stops_that_were_not_fetched_wait_in_line() -> None:
    async with served(full_toy_with_programs()) as stream:
        client = Notified(stream)
        await client.start()
        assert await client.request(b"vCont;s:1;s:2") == b"OK"
        first = await client.notification()
        await trio.testing.wait_all_tasks_blocked()
        second = await client.request(b"vStopped")
        assert {first[5:17], second[:12]} == {b"T05thread:1;", b"T05thread:2;"}
        assert await client.request(b"vStopped") == b"OK"


async def test_a_resume_of_all_does_not_mean_a_thread_whose_stop_was_not_fetched() -> None:
    async with served(full_toy_with_programs()) as stream:
        client = Notified(stream)
        await client.start()
        assert await client.request(b"vCont;s:1;s:2") == b"OK"
        first = await client.notification()
        await trio.testing.wait_all_tasks_blocked()
        second = await client.request(b"vStopped")
        assert await client.request(b"vCont;c") == b"OK"
        # Only the one whose stop was fetched runs now: the other is the only one that stands.
        assert await client.request(b"?") == second
        assert await client.request(b"vStopped") == b"OK"
        assert await client.request(b"vCont;t") == b"OK"
        assert (await client.notification())[8:17] == first[8:17]
        assert await client.request(b"vStopped") == b"OK"


async def test_ctrl_c_stops_all_threads_with_the_interrupt_signal() -> None:
    async with served(full_toy_with_programs()) as stream:
        client = Notified(stream)
        await client.start()
        await client.request(b"vCont;c")
        assert await client.request(b"vCtrlC") == b"OK"
        first = await client.notification()
        await trio.testing.wait_all_tasks_blocked()
        second = await client.request(b"vStopped")
        assert {first[5:17], second[:12]} == {b"T02thread:1;", b"T02thread:2;"}


async def test_back_in_all_stop_mode_everything_stands() -> None:
    target = full_toy_with_programs()
    async with served(target) as stream:
        client = Notified(stream)
        await client.start()
        await client.request(b"vCont;c")
        assert await client.request(b"QNonStop:0") == b"OK"
        assert not target.is_non_stop
        assert (await client.request(b"vCont;s:1")).startswith(b"T05thread:1;")


async def test_a_plan_of_all_stop_mode_means_another_thing_in_non_stop_mode() -> None:
    target = full_toy_with_programs()
    async with served(target) as stream:
        client = Notified(stream)
        await client.start()
        assert await client.request(b"QNonStop:0") == b"OK"
        assert (await client.request(b"vCont;s:1")).startswith(b"T05thread:1;")
        assert await client.request(b"QNonStop:1") == b"OK"
        assert await client.request(b"vCont;s:1") == b"OK"
        assert (await client.notification()).startswith(b"Stop:T05thread:1;")


async def test_the_end_of_the_machine_is_a_notification() -> None:
    target = full_toy_with_programs()
    target.ram[0x1001] = 0xF4
    async with served(target) as stream:
        client = Notified(stream)
        await client.start()
        await client.request(b"vCont;c:1")
        assert (await client.notification()).startswith(b"Stop:T05thread:1;")


@pytest.mark.parametrize("request_", [b"c", b"s", b"R00", b"vRun;"])
async def test_requests_of_all_stop_mode_are_refused_in_non_stop_mode(request_: bytes) -> None:
    async with served(full_toy_with_programs()) as stream:
        client = Notified(stream)
        await client.start()
        assert (await client.request(request_)).startswith(b"E")


async def test_losing_a_non_stop_client_detaches() -> None:
    target = full_toy_with_programs()
    async with served(target) as stream:
        client = Notified(stream)
        await client.start()
        await client.request(b"vCont;c")
    assert target.detached == [Detach.LOST]
    assert not target.is_non_stop


# --- files ------------------------------------------------------------------------------------------


async def read_file(client: Client, path: str) -> bytes:
    opened = await client.request(b"vFile:open:%b,0,0" % path.encode().hex().encode())
    assert opened[:1] == b"F"
    assert opened[1:].isalnum()
    found = bytearray()
    while True:
        reply = await client.request(b"vFile:pread:%b,ffff,%x" % (opened[1:], len(found)))
        size, _, data = reply[1:].partition(b";")
        assert int(size, 16) == len(data)
        if not data:
            break
        found += data
    assert await client.request(b"vFile:close:" + opened[1:]) == b"F0"
    return bytes(found)


async def test_files_are_read_whole() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert await client.request(b"vFile:setfs:0") == b"F0"
        assert await read_file(client, "/proc/1/maps") == FILES["/proc/1/maps"]
        assert await read_file(client, "/boot/toy") == FILES["/boot/toy"]
        assert await client.request(b"vFile:size:" + b"/boot/toy".hex().encode()) == b"F%x" % len(
            FILES["/boot/toy"]
        )
        assert await client.request(b"vFile:exists:" + b"/boot/toy".hex().encode()) == b"F,1"
        assert await client.request(b"vFile:exists:" + b"/boot".hex().encode()) == b"F,0"


async def test_a_file_has_the_size_and_mode_that_stat_tells() -> None:
    async with connected(full_toy_with_programs()) as client:
        opened = await client.request(b"vFile:open:%b,0,0" % b"/boot/toy".hex().encode())
        for request in (b"vFile:fstat:" + opened[1:], b"vFile:stat:" + b"/boot/toy".hex().encode()):
            header, _, data = (await client.request(request)).partition(b";")
            assert header == b"F40"
            fields = struct.unpack(">7I3Q3I", data)
            assert (fields[2], fields[7]) == (0o100444, len(FILES["/boot/toy"]))


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"vFile:open:%b,0,0" % b"/etc/passwd".hex().encode(), b"F-1,2"),
        (b"vFile:open:%b,0,0" % b"../proc/1/maps".hex().encode(), b"F-1,2"),
        (b"vFile:open:%b,601,1ff" % b"/proc/1/maps".hex().encode(), b"F-1,1e"),
        (b"vFile:open:%b,2,0" % b"/proc/1/maps".hex().encode(), b"F-1,1e"),
        (b"vFile:pread:3,10,0", b"F-1,9"),
        (b"vFile:close:ffffffff", b"F-1,9"),
        (b"vFile:fstat:7", b"F-1,9"),
        (b"vFile:stat:" + b"/etc".hex().encode(), b"F-1,2"),
        (b"vFile:unlink:" + b"/boot/toy".hex().encode(), b"F-1,1e"),
        (b"vFile:pwrite:3,0,x", b"F-1,1e"),
        (b"vFile:readlink:" + b"/boot/toy".hex().encode(), b"F-1,1e"),
    ],
)
async def test_nothing_but_the_table_is_opened_and_nothing_is_written(request_: bytes, reply: bytes) -> None:
    async with connected(full_toy_with_programs()) as client:
        assert await client.request(request_) == reply


async def test_open_files_are_bounded_and_closed_by_a_detach() -> None:
    async with connected(full_toy_with_programs(), MULTIPROCESS) as client:
        await client.require(b"!")
        request = b"vFile:open:%b,0,0" % b"/proc/1/maps".hex().encode()
        replies = [await client.request(request) for _ in range(20)]
        assert len({*replies} - {b"F-1,18"}) == 16
        assert replies[-1] == b"F-1,18"
        await client.require(b"D;1")
        await client.require(b"vAttach;1")
        assert await client.request(request) == b"F3"


async def test_the_name_of_the_program_is_told() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert b"qXfer:exec-file:read+" in await client.start()
        assert await client.read_object(b"exec-file", b"1") == b"/boot/toy"
        assert await client.request(b"qXfer:exec-file:read:2:0,100") == b"E00"


async def test_libraries_are_listed_as_they_are_now() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        assert b"qXfer:libraries:read+" in await client.start()
        assert b"<library-list>\n</library-list>" in await client.read_object(b"libraries")
        target.loaded.append(Library("/lib & <more>", (0x3000, 0xFFFF_FFFF_8100_0000)))
        listed = await client.read_object(b"libraries")
        assert b'<library name="/lib &amp; &lt;more&gt;">' in listed
        assert b'<segment address="0x3000"/><segment address="0xffffffff81000000"/></library>' in listed
        assert await client.request(b"qXfer:libraries:read:x:0,100") == b"E00"


def test_a_change_of_the_libraries_is_a_stop_that_names_it() -> None:
    reply = StopReply(Stop(StopReason.LIBRARY, 2)).payload(frozenset())
    assert reply == b"T05thread:2;library:;"


# --- tables and branch traces -----------------------------------------------------------------------


async def test_tables_are_listed_and_read() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert b"qXfer:osdata:read+" in await client.start()
        types = await client.read_object(b"osdata")
        assert b'<column name="Type">vcpus</column>' in types
        table = await client.read_object(b"osdata", b"vcpus")
        assert b'<column name="State">runs &amp; &lt;runs&gt;</column>' in table
        assert table.count(b"<item>") == 2
        assert await client.request(b"qXfer:osdata:read:none:0,100") == b"E00"


async def test_a_branch_trace_is_turned_on_sized_read_and_turned_off() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        features = await client.start()
        for token in (b"Qbtrace:bts+", b"Qbtrace:off+", b"Qbtrace-conf:bts:size+", b"qXfer:btrace:read+"):
            assert token in features.split(b";")
        for annex in (b"btrace:read:all", b"btrace-conf:read:"):
            with pytest.raises(RemoteError):
                await client.require(b"qXfer:%b:0,100" % annex)
        assert await client.request(b"Qbtrace-conf:bts:size=2000") == b"OK"
        assert (await client.request(b"Qbtrace-conf:bts:size=ffffffff")).startswith(b"E")
        await client.require(b"Hg2")
        assert await client.request(b"Qbtrace:bts") == b"OK"
        assert target.traced == {2: 0x2000}
        assert b'<bts size="0x2000"/>' in await client.read_object(b"btrace-conf")
        trace = await client.read_object(b"btrace", b"all")
        assert trace.index(b'<block begin="0x1001" end="0x1100"/>') < trace.index(b'end="0x1008"')
        assert await client.read_object(b"btrace", b"new") == trace
        assert await client.request(b"qXfer:btrace:read:delta:0,100") == b"E00"
        assert await client.request(b"Qbtrace:off") == b"OK"
        assert target.traced == {}


@pytest.mark.parametrize(
    "request_",
    [
        b"qXfer:exec-file:read::0,100",
        b"qXfer:osdata:read::0,100",
        b"qXfer:btrace:read:all:0,100",
        b"Qbtrace:bts",
        b"Qbtrace-conf:bts:size=1000",
        b"vFile:setfs:0",
        b"vFile:open:2f,0,0",
    ],
)
async def test_a_target_without_them_has_no_files_tables_or_traces(request_: bytes) -> None:
    async with connected(toy_with_programs()) as client:
        assert await client.request(request_) == b""


async def test_documents_kept_for_a_client_are_bounded() -> None:
    class ManyTables(FullToy):
        made = 0

        async def table(self, name: str) -> None:
            return None

    async with served(ManyTables()) as stream:
        flood = b"".join(frame(b"qXfer:osdata:read:%d:0,1" % n) for n in range(500))
        assert (await answer(stream, b"+" + frame(b"?") + flood)).count(b"E00") == 500
