"""LLDB: its packets one by one, and stock LLDB against the toy target. A missing LLDB is a failure."""

import json
import subprocess
from collections.abc import Sequence
from functools import partial

import pytest
import trio

from gdbstub.addresses import parse_address
from gdbstub.client import Client
from gdbstub.errors import RemoteError
from gdbstub.server import serve
from gdbstub.target import Detach
from tests.helpers.full_toy import FullToy
from tests.helpers.gdb import lldb_path
from tests.helpers.patience import HANG_S
from tests.helpers.rsp import connected
from tests.helpers.serve_toy import full_toy_with_programs, toy_with_programs


async def lldb(target: FullToy, commands: Sequence[str], before: Sequence[str] = ()) -> str:
    """Run LLDB over `before`, then over `commands`, connected to `target`, and return all it printed."""
    async with trio.open_nursery() as nursery:
        [name] = await nursery.start(partial(serve, lambda _: target, [parse_address("0")]))
        script = [*before, f"gdb-remote {name.rpartition(':')[2]}", *commands]
        with trio.fail_after(HANG_S):
            done = await trio.run_process(
                [lldb_path(), "--no-lldbinit", "-b", *(part for line in script for part in ("-o", line))],
                stdin=b"",
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        nursery.cancel_scope.cancel()
    text: str = done.stdout.decode()
    return text


async def started(client: Client) -> None:
    """Say what LLDB says first."""
    for option in (b"QThreadSuffixSupported", b"QListThreadsInStopReply", b"QEnableErrorStrings"):
        assert await client.request(option) == b"OK"


async def test_lldb_knows_the_machine_and_its_threads() -> None:
    text = await lldb(full_toy_with_programs(), ["target list", "thread list", "process status"])
    assert "arch=x86_64-unknown-none" in text or "arch=x86_64" in text
    assert "pid=1," in text
    assert "thread #1: tid = 0x0001, 0x0000000000001000, name = 'vCPU 0'" in text
    assert "thread #2: tid = 0x0002, 0x0000000000001100, name = 'vCPU 1'" in text
    assert "->  0x1000: nop" in text


async def test_lldb_breaks_and_steps() -> None:
    commands = ["breakpoint set -a 0x1003", "continue", "si", "si", "continue", "register read rax rip"]
    text = await lldb(full_toy_with_programs(), commands)
    assert text.count("stop reason = breakpoint 1.1") == 2
    assert text.count("stop reason = instruction step into") == 2
    assert "rax = 0x0000000000000002" in text
    assert "rip = 0x0000000000001003" in text


async def test_lldb_watches() -> None:
    text = await lldb(
        full_toy_with_programs(),
        ["watchpoint set expression -w write -s 1 -- 0x2000", "continue", "continue", "register read rip"],
    )
    assert "old value: 0\nnew value: 1\n" in text
    assert "old value: 1\nnew value: 2\n" in text
    assert "stop reason = watchpoint 1" in text
    assert "rip = 0x0000000000001005" in text


async def test_lldb_reads_and_writes_registers_and_memory() -> None:
    target = full_toy_with_programs()
    text = await lldb(
        target,
        [
            "register write rax 77",
            "register write efer 0x500",
            "register read rax efer cr0",
            "register read arg1 pc",
            "thread select 2",
            "register read rip",
            "memory write 0x3000 0x41 0x42",
            "memory read -c 4 0x3000",
            "memory region 0x1234",
            "memory region 0",
        ],
    )
    assert "rax = 0x000000000000004d" in text
    assert "efer = 0x0000000000000500" in text
    assert "cr0 = 0x0000000080000011" in text
    assert "rdi = 0x0000000000002000" in text
    assert "rip = 0x0000000000001100" in text
    assert "0x00003000: 41 42 00 00" in text
    assert "[0x0000000000001000-0x0000000000002000) r-x code" in text
    assert "[0x0000000000000000-0x0000000000001000) ---" in text
    assert target.registers[0]["efer"] == (0x500).to_bytes(8, "little")


@pytest.mark.parametrize(("option", "how"), [("1", Detach.STAY), ("0", Detach.RESUME)])
async def test_lldb_detaches_and_leaves_it_stopped_or_running(option: str, how: Detach) -> None:
    target = full_toy_with_programs()
    text = await lldb(target, [f"process detach -s {option}"])
    assert "Process 1 detached" in text
    assert target.detached == [how]


async def test_lldb_sees_why_the_machine_stopped() -> None:
    target = full_toy_with_programs()
    target.ram[0x1001] = 0xF4
    text = await lldb(target, ["continue"])
    assert "vCPU halted for ever" in text


async def test_host_and_process_are_described_without_a_process_of_the_host() -> None:
    async with connected(full_toy_with_programs()) as client:
        host = dict(f.split(":") for f in (await client.request(b"qHostInfo")).decode().strip(";").split(";"))
        assert bytes.fromhex(host["triple"]) == b"x86_64-unknown-none"
        assert (host["ptrsize"], host["endian"], host["vm-page-size"]) == ("8", "little", "4096")
        assert host["watchpoint_exceptions_received"] == "after"
        process = await client.request(b"qProcessInfo")
        assert process.startswith(b"pid:1;parent-pid:0;triple:")
        assert await client.request(b"qGDBServerVersion") == b"name:gdbstub;version:1;"
        assert await client.request(b"qEcho:17") == b"qEcho:17"
        assert await client.request(b"qSupportsDetachAndStayStopped:") == b"OK"


async def test_a_thread_suffix_names_the_thread_of_one_packet() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        await started(client)
        assert await client.request(b"p10;thread:0002;") == b"0011000000000000"
        assert await client.request(b"p10") == b"0010000000000000"
        assert (await client.request(b"g;thread:2;"))[256:272] == b"0011000000000000"
        assert await client.request(b"P0=0100000000000000;thread:2;") == b"OK"
        assert target.registers[1]["rax"] == (1).to_bytes(8, "little")
        assert (await client.request(b"p10;thread:7;")).startswith(b"E03;")


async def test_stops_list_the_threads_and_name_their_reason() -> None:
    async with connected(full_toy_with_programs()) as client:
        await started(client)
        reply = await client.request(b"?")
        assert b"threads:1,2;thread-pcs:1000,1100;" in reply
        assert b"reason:" not in reply
        assert b"reason:trace;" in await client.request(b"vCont;s:1")
        await client.request(b"Z0,1003,1")
        assert b"reason:breakpoint;" in await client.request(b"vCont;c")
        await client.request(b"z0,1003,1")
        await client.send(b"vCont;c")
        await client.interrupt()
        assert b"reason:signal;" in await client.receive()


async def test_an_event_is_described_in_its_stop() -> None:
    target = full_toy_with_programs()
    target.ram[0x1000] = 0xF4
    async with connected(target) as client:
        await started(client)
        reply = await client.request(b"vCont;c")
    assert b"reason:exception;description:" + b"vCPU halted for ever".hex().encode() + b";" in reply


async def test_a_plain_client_gets_no_keys_of_lldb() -> None:
    async with connected(full_toy_with_programs()) as client:
        stop = await client.resume(b"vCont;s:1")
        assert set(stop.keys) == {"thread", "core"}


async def test_a_bystander_stands_without_a_signal() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert (await client.request(b"qThreadStopInfo1")).startswith(b"T05thread:1;")
        assert (await client.request(b"qThreadStopInfo2")).startswith(b"T00thread:2;")
        assert (await client.request(b"qThreadStopInfo9")).startswith(b"E")


async def test_all_threads_come_in_one_document() -> None:
    async with connected(full_toy_with_programs()) as client:
        await started(client)
        await client.request(b"vCont;s:1")
        first, second = json.loads(await client.request(b"jThreadsInfo"))
    assert (first["tid"], first["name"], first["reason"], first["signal"]) == (1, "vCPU 0", "trace", 5)
    assert first["registers"]["16"] == "0110000000000000"
    assert (second["tid"], second["signal"]) == (2, 0)
    assert "reason" not in second


async def test_errors_have_texts_once_lldb_asked_for_them() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert await client.request(b"mfffff,1") == b"E0e"
        assert await client.request(b"QEnableErrorStrings") == b"OK"
        assert await client.request(b"mfffff,1") == b"E0e;" + b"memory at 0xfffff: not mapped".hex().encode()


async def test_memory_regions_are_told_also_where_nothing_is() -> None:
    async with connected(full_toy_with_programs()) as client:
        assert await client.request(b"qMemoryRegionInfo") == b"OK"
        reply = await client.request(b"qMemoryRegionInfo:1234")
        assert reply == b"start:1000;size:1000;permissions:rx;name:636f6465;"
        assert await client.request(b"qMemoryRegionInfo:fffffffff") == b"start:10000;size:ffffffffffff0000;"
    async with connected(toy_with_programs()) as client:
        assert await client.request(b"qMemoryRegionInfo:0") == b""


async def test_many_ranges_are_read_at_once() -> None:
    target = full_toy_with_programs()
    target.ram[0x3000:0x3004] = b"}#$*"
    async with connected(target) as client:
        assert await client.request(b"MultiMemRead:ranges:3000,4,0,0,1000,2;") == b"4,0,2;}#$*\x90\xff"
        assert await client.request(b"MultiMemRead:ranges:fffff,4,fffe,10;options:;") == b"0,2;\0\0"
        huge = await client.request(b"MultiMemRead:ranges:0,10000,0,ffffffffffffffff;")
        assert huge.startswith(b"10000,0;")
        assert (await client.request(b"MultiMemRead:ranges:0;")).startswith(b"E")


async def test_many_breakpoints_are_set_at_once_and_each_has_its_result() -> None:
    target = full_toy_with_programs()
    points = ["Z0,1003,1", "Z1,1005,1;X3,220027", "z0,1003,1", "Z0,zz,1", "Z2,2000,0", "Z9,0,0", "g", "D"]
    request = b"jMultiBreakpoint:" + json.dumps({"breakpoint_requests": points}).encode()
    async with connected(target) as client:
        results = json.loads(await client.request(request))["results"]
    assert results[:3] == ["OK", "OK", "OK"]
    assert [result[:1] for result in results[3:5]] == ["E", "E"]
    assert results[5:] == ["", "", ""]


async def test_a_saved_register_state_is_good_for_one_time() -> None:
    target = full_toy_with_programs()
    async with connected(target) as client:
        assert await client.request(b"QSaveRegisterState;thread:1;") == b"1"
        await client.request(b"P0=ff00000000000000")
        assert await client.request(b"QRestoreRegisterState:1;thread:1;") == b"OK"
        assert target.registers[0]["rax"] == bytes(8)
        with pytest.raises(RemoteError):
            await client.require(b"QRestoreRegisterState:1;thread:1;")
        for number in range(16):
            assert (await client.request(b"QSaveRegisterState")) == b"%d" % (number + 1)
        with pytest.raises(RemoteError):
            await client.require(b"QSaveRegisterState")
