"""Stock gdb against the toy target: what a person sees."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

import gdbstub
from gdbstub.addresses import parse_address
from gdbstub.server import serve
from tests.helpers.gdb import gdb
from tests.helpers.serve_toy import full_toy_with_programs, toy_with_programs
from tests.helpers.toy_target import ToyTarget


@pytest.fixture
def target() -> ToyTarget:
    return toy_with_programs()


@pytest.fixture
async def remote(target: ToyTarget, nursery: trio.Nursery) -> str:
    """The gdb command that connects to `target`."""
    open_target: Callable[[gdbstub.Client], gdbstub.Target] = lambda _: target  # noqa: E731
    [name] = await nursery.start(partial(serve, open_target, [parse_address("0")]))
    return f"target remote {name}"


async def test_registers_are_shown_by_their_groups(remote: str, tmp_path: Path) -> None:
    text = await gdb(
        [
            remote,
            "info registers",
            "echo ---\\n",
            "info registers cr0",
            *(
                "p $rip",
                "p $xmm0.v4_int32",
                "p $st0",
                "p $eflags",
                "p $mode",
                "p $tsc_aux",
                "p $ax",
            ),
            "info float",
        ],
        tmp_path,
    )
    shown, rest = text.split("---\n")
    assert "rip            0x1000              0x1000" in shown
    assert "fs_base        0x0                 0" in shown
    assert "efer           0x0                 [ ]" in shown
    assert "mode           0x6                 long64" in shown
    assert "linear_pc " in shown
    assert "tr_attr " in shown
    assert "cr0            0x80000011          [ PE ET PG ]" in rest
    assert "$1 = (void (*)()) 0x1000" in rest
    assert "$2 = {0, 0, 0, 0}" in rest
    assert "$3 = 0\n$4 = [ PF ZF IF IOPL=0 ]\n$5 = long64\n$6 = <unavailable>\n$7 = 0\n" in rest
    assert "R7: Valid" in rest
    assert "warning: Mal" not in text


async def test_memory_and_registers_are_changed(target: ToyTarget, remote: str, tmp_path: Path) -> None:
    text = await gdb(
        [
            remote,
            "x/4xb 0x1000",
            "x/3i $pc",
            "set {unsigned char[5]}0x3000 = {0x7d, 0x23, 0x24, 0x2a, 0x03}",
            "x/5xb 0x3000",
            "set $rax = 0x1122334455667788",
            "set $cr0 |= 0x10000",
            "set $xmm3.v2_int64[1] = 0x42",
            "try set $mode = 3",
            "try x/xb 0x123456789",
            "find /b 0, 0x8000, 0x88, 0x07",
        ],
        tmp_path,
    )
    assert "0x1000:\t0x90\t0xff\t0xc0\t0x88" in text
    assert "=> 0x1000:\tnop\n   0x1001:\tinc    %eax\n   0x1003:\tmov    %al,(%rdi)" in text
    assert "0x3000:\t0x7d\t0x23\t0x24\t0x2a\t0x03" in text
    assert "register mode: cannot be written" in text
    assert "Cannot access memory at address 0x123456789" in text
    assert "0x1003\n1 pattern found." in text
    assert target.ram[0x3000:0x3005] == b"}#$*\x03"
    assert target.registers[0]["rax"] == bytes.fromhex("8877665544332211")
    assert target.registers[0]["cr0"] == (0x8001_0011).to_bytes(8, "little")
    assert target.registers[0]["xmm3"][8] == 0x42


async def test_breakpoints_steps_and_watchpoints_stop_where_they_should(remote: str, tmp_path: Path) -> None:
    text = await gdb(
        [
            remote,
            "break *0x1003",
            "continue",
            "stepi",
            "p $rax",
            "hbreak *0x1006",
            "continue",
            "info breakpoints",
            "delete",
            "watch *(unsigned char *)0x2000",
            "continue",
            "delete",
            "rwatch *(unsigned char *)0x2000",
            "continue",
            "delete",
            "info threads",
            "thread 2",
            "stepi",
            "p $rip",
            "break *0x1001 if $rax == 9",
            "continue",
            "p $rax",
        ],
        tmp_path,
    )
    assert 'Thread 1 "vCPU 0" hit Breakpoint 1, 0x0000000000001003 in ?? ()' in text
    assert "0x0000000000001005 in ?? ()\n$1 = 1" in text
    assert 'Thread 1 "vCPU 0" hit Breakpoint 2, 0x0000000000001006 in ?? ()' in text
    assert text.count("breakpoint already hit 1 time") == 2
    assert "Old value = 1 '\\001'\nNew value = 2 '\\002'" in text
    assert "Hardware read watchpoint 4: *(unsigned char *)0x2000\n\nValue = 2 '\\002'" in text
    assert '* 1    Thread 1 "vCPU 0" (toy)' in text
    assert "$2 = (void (*)()) 0x1100" in text
    assert "$3 = 9" in text
    assert "SIGTRAP" not in text


async def test_a_breakpoint_after_a_one_byte_instruction_does_not_move_the_program_counter(
    remote: str, tmp_path: Path
) -> None:
    """Without the key `swbreak` gdb takes the stop at 1001 for one of the breakpoint at 1000."""
    text = await gdb([remote, "break *0x1000", "break *0x1001", "stepi", "p $rip"], tmp_path)
    assert "$1 = (void (*)()) 0x1001" in text


async def test_a_function_is_called_and_the_clock_not_turned_back(
    target: ToyTarget, remote: str, tmp_path: Path
) -> None:
    """gdb writes all registers back after the call, also those that the call has moved on."""
    target.ram[0x4000:0x4003] = bytes.fromhex("ffc0 c3")
    call = "p ((int (*) (void)) 0x4000) ()"
    text = await gdb([remote, "set $rsp = 0x8000", "set $rax = 41", call, "p $rip"], tmp_path)
    # Before such a call the ABI wants the number of vector arguments in al: none.
    assert "$1 = 1\n$2 = (void (*)()) 0x1000\n" in text
    assert target.registers[0]["ticks"] == (2).to_bytes(8, "little")
    assert target.registers[0]["rax"] == (41).to_bytes(8, "little")


async def test_power_off_is_a_stop_with_a_sentence_and_then_an_exit(
    target: ToyTarget, remote: str, tmp_path: Path
) -> None:
    target.ram[0x1001] = 0xF4
    text = await gdb([remote, "continue", "p $rip", "continue"], tmp_path)
    assert "vCPU halted for ever\n\nThread 1 " in text
    assert "$1 = (void (*)()) 0x1002" in text
    assert "exited with code 07" in text


async def test_monitor_and_maintenance_packets(target: ToyTarget, remote: str, tmp_path: Path) -> None:
    text = await gdb(
        [
            remote,
            "monitor hello",
            "try monitor fail",
            "maint packet Qqemu.sstepbits",
            "maint packet Qqemu.sstep=0x5",
            "maint packet qqemu.sstep",
            "maint packet bs",
            "maint packet qCRC:1000,1",
        ],
        tmp_path,
    )
    assert "hello from thread 1\n" in text
    assert "no such luck\n" in text
    assert 'received: "ENABLE=1,NOIRQ=2,NOTIMER=4"' in text
    assert 'received: "0x5"' in text
    assert 'received: ""' in text


async def test_conditions_and_dprintf_are_evaluated_by_the_server(tmp_path: Path) -> None:
    target = full_toy_with_programs()
    async with trio.open_nursery() as nursery:
        [name] = await nursery.start(partial(serve, lambda _: target, [parse_address("0")]))
        text = await gdb(
            [
                f"target remote {name}",
                "break *0x1003 if $rax == 300 || *(unsigned char *) 0x2000 > 200",
                "set dprintf-style agent",
                'dprintf *0x1008,"rax is %#lx\\n", $rax',
                "condition 2 $rax < 3",
                "continue",
                "p $rax",
            ],
            tmp_path,
        )
        nursery.cancel_scope.cancel()
    assert "rax is 0x1\nrax is 0x2\n" in text
    assert "hit Breakpoint 1, 0x0000000000001003" in text
    assert "$1 = 202" in text
    # One resume for all the hits.
    assert len([plan for plan in target.plans if len(plan.actions) == 1]) == 1


async def test_leaving_and_coming_back(target: ToyTarget, remote: str, tmp_path: Path) -> None:
    text = await gdb([remote, "stepi", "detach", remote, "p $rip", "disconnect", remote, "p $rip"], tmp_path)
    assert text.count("(void (*)()) 0x1001") == 2
    # The end of a batch detaches, since the server says that it was attached to.
    assert [how.value for how in target.detached] == ["resume", "lost", "resume"]
    assert not target.killed


async def test_the_kill_command_kills(target: ToyTarget, remote: str, tmp_path: Path) -> None:
    await gdb([remote, "kill"], tmp_path)
    assert target.killed


async def test_a_second_gdb_is_told_who_is_there(target: ToyTarget, remote: str, tmp_path: Path) -> None:
    await target.attach()
    text = await gdb([f"try {remote}"], tmp_path)
    assert "the target is controlled by the first client" in text


async def test_a_busy_target_is_interrupted(target: ToyTarget, remote: str, tmp_path: Path) -> None:
    text = await gdb(
        [
            "set remotetimeout 10",
            remote,
            "python",
            "import os, signal, threading, time",
            "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()",
            "end",
            "continue",
            "p 6 * 7",
        ],
        tmp_path,
    )
    assert "received signal SIGINT, Interrupt." in text
    assert "$1 = 42" in text


async def test_gdb_starts_the_server_on_a_pipe(tmp_path: Path) -> None:
    text = await gdb(
        [
            f"target remote | exec {sys.executable} -m tests.helpers.serve_toy stdio",
            "stepi",
            "p $rip",
            "detach",
        ],
        tmp_path,
    )
    assert "$1 = (void (*)()) 0x1001" in text
