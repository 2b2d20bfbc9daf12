"""Stock gdb against the toy target with every capability."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from gdbstub.addresses import parse_address
from gdbstub.arch.x86_64 import x86_64
from gdbstub.server import serve
from tests.helpers.full_toy import FullToy
from tests.helpers.gdb import gdb
from tests.helpers.serve_toy import full_toy_with_programs, load_programs

WAIT = "python import time; time.sleep(1)"


@pytest.fixture
def target() -> FullToy:
    return full_toy_with_programs()


@pytest.fixture
async def name(target: FullToy) -> AsyncIterator[str]:
    """Where `target` is served."""
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(partial(serve, lambda _: target, [parse_address("0")]))
        yield address
        nursery.cancel_scope.cancel()


async def test_threads_run_and_stop_one_by_one_in_non_stop_mode(
    target: FullToy, name: str, tmp_path: Path
) -> None:
    text = await gdb(
        [
            "set non-stop on",
            f"target remote {name}",
            "break *0x1005",
            # The stop of the other thread, which gdb has not looked at, ends this command.
            "continue",
            WAIT,
            "continue -a&",
            WAIT,
            "info threads",
            "interrupt -a",
            WAIT,
        ],
        tmp_path,
    )
    assert "Internal error" not in text
    assert "internal-error" not in text
    assert 'Thread 1.1 "vCPU 0"' in text
    assert 'Thread 2 "vCPU 1" stopped.' in text
    assert 'Thread 1.2 "vCPU 1" (toy) (running)' in text
    assert not target.is_non_stop


async def test_a_step_over_a_breakpoint_in_non_stop_mode_writes_nothing_into_the_program(
    tmp_path: Path,
) -> None:
    """With the OSABI none gdb does not run a copy of the instruction elsewhere."""
    target = FullToy(threads=1)
    load_programs(target)
    before = bytes(target.ram[:0x2000])
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(partial(serve, lambda _: target, [parse_address("0")]))
        text = await gdb(
            [
                "set non-stop on",
                f"target remote {address}",
                "break *0x1003",
                "continue",
                "continue",
                "p $rax",
                "stepi",
                "p $rip",
            ],
            tmp_path,
        )
        nursery.cancel_scope.cancel()
    assert text.count("Breakpoint 1, 0x0000000000001003") == 2
    assert "$1 = 2\n" in text
    assert "0x1005" in text
    assert bytes(target.ram[:0x2000]) == before


async def test_a_program_is_detached_from_attached_to_run_and_killed_in_one_session(
    target: FullToy, name: str, tmp_path: Path
) -> None:
    text = await gdb(
        [
            f"target extended-remote {name}",
            "stepi",
            "detach",
            "attach 1",
            "p $rip",
            "break *0x1003",
            "run",
            "p $rip",
            "kill",
            "info threads",
            "starti",
            "p $rip",
        ],
        tmp_path,
    )
    assert "$1 = (void (*)()) 0x1001" in text
    assert 'Thread 1 "vCPU 0" hit Breakpoint 1, 0x0000000000001003' in text
    assert "[Inferior 1 (process 1) killed]\nNo threads." in text
    assert "$3 = (void (*)()) 0x1000" in text
    assert target.restarts == 2
    assert not target.killed


async def test_tables_are_shown_by_info_os(name: str, tmp_path: Path) -> None:
    text = await gdb([f"target remote {name}", "info os", "info os vcpus"], tmp_path)
    assert "vcpus      the vcpus" in text
    assert "0          runs & <runs>" in text


async def test_branches_are_recorded(target: FullToy, name: str, tmp_path: Path) -> None:
    text = await gdb(
        [
            f"target remote {name}",
            "record btrace bts",
            "stepi",
            "stepi",
            "record instruction-history",
            "info record",
            "record stop",
        ],
        tmp_path,
    )
    assert "0x0000000000001008:\tjmp    0x1001\n" in text
    assert "Recorded 12 instructions in 1 functions (0 gaps)" in text
    assert target.traced == {}


async def test_the_program_is_found_without_being_named(name: str, tmp_path: Path) -> None:
    text = await gdb([f"target remote {name}", "info files"], tmp_path)
    assert "Reading symbols from target:/boot/toy..." in text
    assert "not in executable format" not in text


async def test_the_memory_map_of_process_1_is_shown_with_the_linux_description(
    target: FullToy, name: str, tmp_path: Path
) -> None:
    target._description = x86_64(linux=True)
    for registers in target.registers:
        registers["orig_rax"] = bytes(8)
    text = await gdb([f"target remote {name}", "info proc mappings"], tmp_path)
    assert "0x1000             0x2000     0x1000        0x0  r-xp   [toy code]" in text
