"""The machine as the debug server's target: attach and detach, memory, registers, commands."""

import pytest
import trio

from gdbstub.capabilities import Restart
from gdbstub.errors import (
    MemoryAccessError,
    RegisterError,
    TargetError,
    ThreadNotFoundError,
    UnsupportedError,
)
from gdbstub.target import (
    BreakpointKind,
    Breakpoints,
    Detach,
    Exited,
    Killable,
    Monitor,
    PhysicalMemory,
    RangeStepping,
    SteppingPolicy,
    StepPolicy,
    Stop,
    StopReason,
    Target,
    Watchpoints,
)
from hv.debug.records import RunState
from tests.helpers.bare_target import CODE, CONTINUE, STEP, machine, stopped
from tests.helpers.patience import HANG_S
from tests.helpers.rsp import connected


async def test_it_has_every_capability() -> None:
    with machine() as m:
        target = m.target()
        for protocol in (
            Target, Breakpoints, Watchpoints, RangeStepping, Monitor, Killable, SteppingPolicy,
            PhysicalMemory, Restart,
        ):  # fmt: skip
            assert isinstance(target, protocol)


async def test_a_machine_never_continued_stays_at_its_start_when_the_client_is_lost() -> None:
    with machine() as m:
        target = m.target()
        assert await target.attach() == Stop(StopReason.ATTACHED, 1)
        await target.detach(Detach.LOST)
        assert not m.control.running
        assert m.vm.clock.now == 0


async def test_a_running_machine_stops_at_attach_and_runs_on_afterwards() -> None:
    with machine() as m:
        m.control.run_freely()
        target = m.target()
        assert (await target.attach()).reason is StopReason.ATTACHED
        assert m.control.state is RunState.STOPPED
        before = m.vm.clock.now
        await target.detach(Detach.LOST)
        assert m.control.running
        again = m.target(2)
        await again.attach()
        assert m.vm.clock.now > before


@pytest.mark.parametrize(("how", "runs"), [(Detach.RESUME, True), (Detach.STAY, False), (Detach.LOST, True)])
async def test_what_runs_after_a_continued_machine_is_detached(how: Detach, runs: bool) -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE, 1)
        await stopped(target, CONTINUE)
        await target.detach(how)
        assert m.control.running is runs
        assert len(m.control.points) == 0


async def test_a_client_lost_in_the_middle_of_a_run_leaves_nothing_behind() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        await target.set_breakpoint(BreakpointKind.HARDWARE, 0x9999, 1)
        assert await target.resume(CONTINUE) is None
        with trio.fail_after(HANG_S):
            await target.detach(Detach.LOST)
        assert m.control.running
        assert len(m.control.points) == 0
        assert m.vm.vcpus[0].cpu.control.mask_hwintr == 0


async def test_interrupt_ends_a_run_with_sigint_and_the_thread() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        assert await target.resume(CONTINUE) is None
        target.interrupt()
        with trio.fail_after(HANG_S):
            assert await target.wait_stop() == Stop(StopReason.INTERRUPT, 1)


async def test_threads_are_vcpus_with_their_state() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        infos = await target.threads()
        assert [(info.id, info.name, info.detail) for info in infos] == [
            (1, "vCPU 0", "running"),
            (2, "vCPU 1", "waits for a startup IPI"),
        ]
        with pytest.raises(ThreadNotFoundError):
            await target.read_registers(3, ["rip"])


async def test_every_register_of_the_description_exists() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        names = [register.name for register in target.description.registers]
        values = await target.read_registers(1, names)
        sizes = [register.size for register in target.description.registers]
        assert [len(value) for value in values if value is not None] == sizes


async def test_registers_are_written_all_or_none() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        await target.write_registers(1, [("rax", b"\x2a" + bytes(7))])
        await stopped(target, STEP)
        assert m.vm.vcpus[0].get("rax") == 0x2B
        with pytest.raises(RegisterError):
            await target.write_registers(1, [("rbx", b"\1" * 8), ("ticks", b"\xff" * 8)])
        assert m.vm.vcpus[0].get("rbx") == 0
        present = await target.read_registers(1, ["ticks"])
        assert present[0] is not None
        await target.write_registers(1, [("ticks", present[0])])


async def test_memory_reads_give_the_readable_prefix_and_writes_all_or_nothing() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        assert await target.read_memory(1, CODE, 3) == b"\x40\xeb\xfd"
        assert len(await target.read_memory(1, 0xFFFFC, 64)) == 4
        with pytest.raises(MemoryAccessError):
            await target.read_memory(1, 1 << 40, 4)
        with pytest.raises(MemoryAccessError):
            await target.write_memory(1, 0xFFFFE, b"abcd")
        assert m.vm.memory.read(0xFFFFE, 2) == b"\0\0"
        await target.write_memory(1, CODE, b"\x90\x90")
        await stopped(target, STEP)
        assert m.vm.vcpus[0].get("rax") == 0
        assert await target.read_physical(CODE, 2) == b"\x90\x90"
        await target.write_physical(0xFEFFF, b"abc")
        assert await target.read_physical(0xFEFFF, 1 << 16) == b"abc" + bytes(0x100000 - 0xFF002)
        assert await target.read_physical(0xFFFFC, 64) == bytes(4)
        with pytest.raises(MemoryAccessError):
            await target.read_physical(0x100000, 4)
        with pytest.raises(MemoryAccessError):
            await target.write_physical(1 << 50, b"x")


async def test_step_policies() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        assert await target.step_policy() == StepPolicy.ENABLE | StepPolicy.NOIRQ
        await target.set_step_policy(StepPolicy.ENABLE)
        assert await target.step_policy() == StepPolicy.ENABLE
        everything = StepPolicy.ENABLE | StepPolicy.NOIRQ | StepPolicy.NOTIMER
        await target.set_step_policy(everything)
        assert await target.step_policy() == everything
        with pytest.raises(UnsupportedError):
            await target.set_step_policy(StepPolicy(0))
        await target.detach(Detach.STAY)
        assert m.control.steps.policy == StepPolicy.ENABLE | StepPolicy.NOIRQ


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("help", "info registers"),
        ("", "info registers"),
        ("info registers", "EIP=00007c00 EFL=00000002 [-------] CPL=0 II=0 A20=1"),
        ("info cpus", "* CPU #0"),
        ("info exits", ""),
        ("info stats", "instructions"),
        ("info time", "machine tick 0"),
        ("step-policy unmasked", "delivered"),
        ("step-policy maybe", "masked | unmasked"),
        ("reset", "first instruction"),
        ("frobnicate 'x y'", "no command"),
        ("unbalanced '", "quotation"),
        ("\x00\xff" * 500, "no command"),
    ],
)
async def test_monitor_commands(command: str, expected: str) -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        text: list[str] = []
        await target.monitor(1, command, text.append)
        assert expected in "".join(text)
        assert "".join(text) == "" or "".join(text).endswith("\n")


async def test_the_vcpu_of_monitor_commands_is_the_threads_or_the_one_chosen() -> None:
    with machine() as m:
        target, text = m.target(), list[str]()
        await target.attach()
        for thread, command, marked in (
            (1, "info cpus", "* CPU #0"),
            (2, "info cpus", "* CPU #1"),
            (2, "cpu 0", ""),
            (2, "info cpus", "* CPU #0"),
            (2, "cpu 7", "there is no vCPU 7"),
            (2, "cpu auto", ""),
            (2, "info cpus", "* CPU #1"),
        ):
            text.clear()
            await target.monitor(thread, command, text.append)
            assert marked in "".join(text)
            assert marked or not text


async def test_kill_ends_the_machine() -> None:
    with machine() as m:
        target = m.target()
        await target.attach()
        await target.kill()
        await target.detach(Detach.LOST)
        assert [ending.status for ending in m.endings] == [0]


async def test_a_session_over_the_wire() -> None:
    with machine() as m:
        async with connected(m.target()) as client:
            assert (await client.request(b"?")).startswith(b"T05")
            assert await client.require(b"Z0,7c01,1") == b"OK"
            stop = await client.resume(b"c")
            assert (stop.thread, "swbreak" in stop.keys) == (1, True)
            assert await client.read_memory(CODE, 3) == b"\x40\xeb\xfd"
            assert await client.require(b"z0,7c01,1") == b"OK"
            for _ in range(20):
                stop = await client.resume(b"vCont;s:1;c")
            assert m.vm.vcpus[0].cpu.ticks() == 1 + 20
            assert b"swbreak" not in await client.request(b"qRcmd,78")
        with trio.fail_after(HANG_S):
            await m.lease.wait_free()


async def test_restart_stands_before_the_first_instruction_and_keeps_breakpoints() -> None:
    with machine(b"\x40\xf4\xeb\xfd") as m:  # inc ax; hlt, with interrupts off
        target = m.target()
        await target.attach()
        await target.set_breakpoint(BreakpointKind.HARDWARE, CODE + 1, 1)
        assert (await stopped(target, CONTINUE)).reason is StopReason.HARDWARE_BREAKPOINT
        assert "halted for ever" in (await stopped(target, CONTINUE)).text
        for _ in range(2):
            assert await target.restart() == Stop(StopReason.ATTACHED, 1)
            assert m.vm.vcpus[0].get("rip") == CODE
            assert (await stopped(target, CONTINUE)).reason is StopReason.HARDWARE_BREAKPOINT
        assert m.endings == []


async def test_a_machine_that_is_gone_does_not_start_again() -> None:
    with machine(b"\xf4") as m:
        target = m.target()
        await target.attach()
        await stopped(target, CONTINUE)
        assert await target.resume(CONTINUE) == Exited(2)
        with pytest.raises(TargetError, match="ended"):
            await target.restart()
