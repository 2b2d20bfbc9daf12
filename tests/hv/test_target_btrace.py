"""Branch traces of the machine: the blocks that were executed, newest first, and nothing left behind."""

import pytest
import trio

from gdbstub.capabilities import Block
from gdbstub.errors import TargetError, ThreadNotFoundError
from gdbstub.target import BreakpointKind, Continue, Detach, ResumePlan, Step, ThreadAction
from hv.debug.target_btrace import MAX_BLOCKS, MIN_BLOCKS
from tests.helpers.bare_target import CODE, CONTINUE, Machine, machine, stopped
from tests.helpers.patience import HANG_S

STEP = ResumePlan((ThreadAction(Step(), 1), ThreadAction(Continue())))
LOOP = b"\x40\x90\xeb\xfc"  # 0: inc ax; 1: nop; 2: jmp 0


async def traced(m: Machine, size: int, steps: int) -> list[Block]:
    target = m.target()
    await target.attach()
    await target.set_branch_trace(1, size)
    for _ in range(steps):
        await stopped(target, STEP)
    return list(await target.branch_trace(1))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (0, [(0, 0)]),
        (1, [(0, 1)]),
        (2, [(0, 2)]),
        (3, [(0, 0), (0, 2)]),
        (5, [(0, 2), (0, 2)]),
        (6, [(0, 0), (0, 2), (0, 2)]),
    ],
)
async def test_blocks_end_at_the_program_counter_and_begin_where_the_recording_did(
    steps: int, expected: list[tuple[int, int]]
) -> None:
    with machine(LOOP) as m:
        blocks = await traced(m, 1 << 16, steps)
        assert blocks == [Block(CODE + begin, CODE + end) for begin, end in expected]


async def test_the_oldest_is_forgotten_when_the_ring_is_full() -> None:
    with machine(LOOP) as m:
        blocks = await traced(m, 16, 300)
        assert blocks == [Block(CODE, CODE)] + [Block(CODE, CODE + 2)] * (MIN_BLOCKS - 1)


async def test_no_client_gets_more_memory_than_is_good() -> None:
    with machine(LOOP) as m:
        target = m.target()
        await target.attach()
        await target.set_branch_trace(1, 1 << 24)
        await target.set_breakpoint(BreakpointKind.HARDWARE, 0x9999, 1)
        assert await target.resume(CONTINUE) is None
        with trio.fail_after(HANG_S):
            while len(await target.branch_trace(1)) < MAX_BLOCKS:
                pass
        target.interrupt()
        await target.wait_stop()
        assert len(await target.branch_trace(1)) == MAX_BLOCKS


async def test_a_recording_ends_and_begins_anew() -> None:
    with machine(LOOP) as m:
        await traced(m, 1 << 16, 30)
        target = m.target()
        with pytest.raises(TargetError, match="not recorded"):
            await target.branch_trace(1)
        with pytest.raises(ThreadNotFoundError):
            await target.set_branch_trace(9, 64)
        await target.set_branch_trace(1, 64)
        await target.set_branch_trace(1, 64)
        assert await target.branch_trace(1) == [Block(CODE, CODE)]
        await target.set_branch_trace(1, None)
        with pytest.raises(TargetError, match="not recorded"):
            await target.branch_trace(1)


def recorded(m: Machine) -> list[int]:
    return [vcpu.cpu.control.branch_trace for vcpu in m.vm.vcpus]


async def test_a_client_that_goes_takes_its_recordings_along() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        for thread in (1, 2):
            await target.set_branch_trace(thread, 1 << 16)
        assert recorded(m) == [1, 1]
        await target.detach(Detach.STAY)
        assert recorded(m) == [0, 0]


async def test_a_recording_and_the_way_to_a_triple_fault_do_not_end_each_other() -> None:
    with machine(LOOP) as m:
        target = m.target()
        await target.attach()
        m.control.debugged = True
        await target.set_branch_trace(1, 1 << 16)
        assert recorded(m) == [1, 0]
        await stopped(target, STEP)
        assert recorded(m) == [1, 1]
        await target.set_branch_trace(1, None)
        assert recorded(m) == [1, 1]
        await target.set_branch_trace(2, 1 << 16)
        m.control.catches.remove(None)
        assert recorded(m) == [0, 1]


async def test_a_recording_leaves_the_run_as_it_is() -> None:
    hashes = []
    for size in (None, 64, 1 << 16):
        with machine(LOOP) as m:
            target = m.target()
            await target.attach()
            await target.set_branch_trace(1, size)
            for _ in range(100):
                await stopped(target, STEP)
            hashes.append(m.vm.state_hash())
    assert len(set(hashes)) == 1
