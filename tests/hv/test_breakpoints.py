"""Breakpoints and watchpoints of the machine: in words, with limits and counts, and whose they are."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import trio

from gdbstub.agent import condition
from gdbstub.errors import TargetError
from gdbstub.predicate import Instruction, Op, verify
from gdbstub.target import BreakpointKind, Detach, Event, Stop, StopReason, WatchKind
from hv.debug.command import CommandContext
from hv.debug.commands import run_command
from hv.debug.planted import planted
from hv.engines.soft import SoftEngine
from hv.exits import WriteOrigin
from hv.outcomes import Goal, VcpuStopped
from tests.helpers.bare_target import CODE, CONTINUE, STEP, Machine, machine, stopped
from tests.helpers.patience import HANG_S

# L: inc ax; jmp L
LOOP = b"\x40\xeb\xfd"
# L: inc ax; mov [0x5000], ax; jmp L
STORING = bytes.fromhex("40 a30050 ebfa")
# mov ax, 1; mov [0x5000], ax; mov [0x5000], ax; inc ax; mov [0x5000], ax; jmp $
WRITES = bytes.fromhex("b80100 a30050 a30050 40 a30050 ebfe")
CELL = 0x5000


Make = Callable[[bytes], Machine]


@pytest.fixture(params=["a set of addresses", "planted"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes machines, with each of the two strategies for breakpoints."""
    with contextlib.ExitStack() as stack:

        def one(code: bytes) -> Machine:
            engine = planted(SoftEngine()) if request.param == "planted" else SoftEngine()
            return stack.enter_context(machine(code, engine))

        yield one


@pytest.fixture
def loop(make: Make) -> Machine:
    return make(LOOP)


@pytest.fixture
def storing(make: Make) -> Machine:
    return make(STORING)


def say(made: Machine, line: str) -> str:
    """What `monitor LINE` prints."""
    said: list[str] = []
    run_command(CommandContext(made.control, 0, said.append), line)
    return "".join(said)


def rax(made: Machine) -> int:
    return made.vm.vcpus[0].get("rax")


# ---- in words


async def test_a_breakpoint_of_the_machine_stops_with_a_sentence(loop: Machine) -> None:
    assert say(loop, f"break {CODE + 1:#x} after=4") == "1: break 0x7c01 after=4  (machine)\n"
    target = loop.target()
    await target.attach()
    stop = await stopped(target, CONTINUE)
    assert stop == Stop(StopReason.EVENT, 1, text="vCPU 0: breakpoint 1 at 0x7c01, hit 5")
    assert rax(loop) == 5
    assert say(loop, "info breakpoints") == "1    break 0x7c01 after=4  (machine), 5 hits\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("if rax == 77", 77),
        ("phys if rax >= 20 && (rax & 3) == 1", 21),
        ("cr3=0 cpl=0 vcpu=0", 1),
        ("if u16[0x7c00] == 0xeb40 || 0", 1),
        ("if rax > 5 after=2", None),
        ("vcpu=0 after=2 if eax_ == 1", None),
        ("cpl=3", 0),
        ("cr3=0x1000", 0),
        ("vcpu=1", 0),
        ("if rax == 0x10001", 0),
    ],
)
async def test_options_narrow_a_breakpoint_down(loop: Machine, options: str, expected: int | None) -> None:
    """`expected`: rax at the stop, 0 for no stop at all, None for words that are refused."""
    said = say(loop, f"break {CODE + 1:#x} {options}")
    assert said.startswith("1: break") is (expected is not None), said
    if expected is None:
        return
    target = loop.target()
    await target.attach()
    assert await target.resume(CONTINUE) is None or expected
    if expected:
        assert rax(loop) == expected
    else:
        target.interrupt()
        await target.wait_stop()
        assert say(loop, "info breakpoints").endswith("(machine), 0 hits\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("break", "an address is needed\n"),
        ("break nowhere", "'nowhere' is no address and no symbol\n"),
        ("break -1", "'-1' is no address and no symbol\n"),
        ("break 0x10000000000000000", "'0x10000000000000000' is no address and no symbol\n"),
        ("break 1 cpl=4", "'cpl=4' is out of range\n"),
        ("break 1 vcpu=2", "there is no vCPU 2\n"),
        ("break 1 after=-1", "'after=-1' is out of range\n"),
        ("break 1 sometimes", "'sometimes' is not understood\n"),
        ("break 1 w", "'w' is not understood\n"),
        ("break 1 if", "the condition is missing\n"),
        ("break 1 if rax ==", "'the end' is no register and no symbol\n"),
        ("break 1 if (rax", "')' is missing\n"),
        ("break 1 if rax rbx", "'rbx' does not belong there\n"),
        ("break 1 if xmm0", "'xmm0' is no register and no symbol\n"),
        ("break 1 if 1 ? 2", "'? 2' is not understood\n"),
        ("break 1 if " + "(" * 500, "too deep\n"),
        ("break 1 if " + "~" * 900 + "1", "too deep\n"),
        ("break 1 if " + "1+" * 498 + "1", None),
        ("break 1 if " + "1+" * 600 + "1", "a condition has at most 1000 characters\n"),
        ("watch 1", "an address and a length are needed\n"),
        ("watch 1 0", "an address and a length are needed\n"),
        ("watch 0xffffffffffffffff 2", "the range does not end\n"),
        ("delete 7", "the machine has no breakpoint '7'\n"),
        ("delete x", "the machine has no breakpoint 'x'\n"),
        ("info breakpoints", "no breakpoints and no watchpoints\n"),
    ],
)
def test_words_that_make_no_sense_say_so_and_set_nothing(loop: Machine, line: str, said: str | None) -> None:
    answer = say(loop, line)
    if said is None:
        assert answer.startswith("1: break 0x1 if 1+1+")
    else:
        assert answer == said
        assert len(loop.control.points) == 0


async def test_deleted_points_are_gone(loop: Machine) -> None:
    for offset in (0, 1, 1):
        say(loop, f"break {CODE + offset:#x}")
    assert say(loop, "delete 1 2") == ""
    assert say(loop, "info breakpoints") == "3    break 0x7c01  (machine), 0 hits\n"
    target = loop.target()
    await target.attach()
    await target.set_breakpoint(BreakpointKind.HARDWARE, CODE, 1)
    assert say(loop, "delete 4") == "the machine has no breakpoint '4'\n"
    say(loop, "delete")
    assert say(loop, "info breakpoints") == "4    break 0x7c00  (debugger 1), 0 hits\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("2", "vCPU 0: watchpoint 1: write of 2 bytes at 0x5000: 0x0 -> 0x1, hit 1"),
        ("1 changed phys", "vCPU 0: watchpoint 1: write of 1 bytes at physical 0x5000: 0x0 -> 0x1, hit 1"),
        ("4096 w after=1", "vCPU 0: watchpoint 1: write of 2 bytes at 0x5000: 0x1 -> 0x1, hit 2"),
        ("2 changed after=1", "vCPU 0: watchpoint 1: write of 2 bytes at 0x5000: 0x1 -> 0x2, hit 2"),
        ("8 a if u16[0x5000] == 2", "vCPU 0: watchpoint 1: write of 2 bytes at 0x5000: 0x1 -> 0x2, hit 1"),
    ],
)
async def test_watchpoints_of_the_machine(make: Make, options: str, text: str) -> None:
    made = make(WRITES)
    say(made, f"watch {CELL:#x} {options}")
    target = made.target()
    await target.attach()
    assert await stopped(target, CONTINUE) == Stop(StopReason.EVENT, 1, text=text)


# ---- whose they are


async def test_the_machines_points_stay_and_a_connections_go_with_it(loop: Machine) -> None:
    say(loop, f"break {CODE:#x} if rax == 9")
    first = loop.target(1)
    await first.attach()
    await first.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 1, 1)
    await first.set_watchpoint(WatchKind.WRITE, CELL, 2)
    say(loop, "reset")
    assert len(loop.control.points) == 3
    await first.detach(Detach.STAY)
    second = loop.target(2)
    await second.attach()
    assert [entry.owner for entry in loop.control.points] == [0]
    assert (await stopped(second, CONTINUE)).text == "vCPU 0: breakpoint 1 at 0x7c00, hit 1"
    assert rax(loop) == 9


async def test_with_nobody_attached_a_point_of_the_machine_stops_it_for_whoever_comes(loop: Machine) -> None:
    loop.control.point_hits.expected = True
    say(loop, f"break {CODE:#x} if rax == 30000")
    said: list[str] = []
    lease, token, done = loop.lease, trio.lowlevel.current_trio_token(), trio.Event()
    lease._announce = said.append

    def ended(event: Event) -> None:
        token.run_sync_soon(lease.tell_all, event)
        token.run_sync_soon(done.set)

    loop.control.run_freely(ended)
    with trio.fail_after(HANG_S):
        await done.wait()
    text = "vCPU 0: breakpoint 1 at 0x7c00, hit 1"
    assert said == [f"{text}; the machine waits for a debugger"]
    target = loop.target()
    assert await target.attach() == Stop(StopReason.EVENT, 1, text=text)
    assert rax(loop) == 30000


async def test_points_of_a_debugger_and_of_the_machine_at_one_address_are_one_stop(loop: Machine) -> None:
    say(loop, f"break {CODE + 1:#x}")
    target = loop.target()
    await target.attach()
    await target.set_breakpoint(BreakpointKind.HARDWARE, CODE + 1, 1)
    stop = await stopped(target, CONTINUE)
    assert stop.reason is StopReason.HARDWARE_BREAKPOINT
    assert stop.text == "vCPU 0: breakpoint 1 at 0x7c01, hit 1"
    await stopped(target, CONTINUE)
    assert rax(loop) == 2


async def test_an_owner_may_have_many_points_and_one_too_many_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hv.debug.breakpoints.MAX_POINTS", 3000)
    with machine(LOOP) as made:
        target = made.target()
        await target.attach()
        for n in range(3000):
            await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 0x10 + n * 0x333, 1)
        with pytest.raises(TargetError, match="are set already"):
            await target.set_watchpoint(WatchKind.WRITE, CELL, 1)
        say(made, f"break {CODE + 1:#x}")  # the machine's own
        assert (await stopped(target, CONTINUE)).text == "vCPU 0: breakpoint 3001 at 0x7c01, hit 1"
        await target.detach(Detach.STAY)
        assert [entry.owner for entry in made.control.points] == [0]


# ---- where they are


async def test_breakpoints_survive_code_that_is_loaded_over_them(loop: Machine) -> None:
    target = loop.target()
    await target.attach()
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 1, 1)
    say(loop, f"break {CODE + 3:#x} phys")
    await stopped(target, CONTINUE)
    # inc ax; nop; nop; inc ax; jmp L, written by a debugger and by a device
    await target.write_memory(1, CODE, bytes.fromhex("40 90 90"))
    loop.vm.memory.write_by_device("disk", CODE + 3, bytes.fromhex("40 ebfa"))
    places = []
    for _ in range(4):
        await stopped(target, CONTINUE)
        places.append(loop.vm.vcpus[0].get("rip") - CODE)
    assert places == [3, 1, 3, 1]
    assert loop.vm.memory.read(CODE, 6) == bytes.fromhex("40 90 90 40 eb fa")


async def test_a_jump_to_itself_stops_every_time_and_takes_one_tick(make: Make) -> None:
    made = make(b"\xeb\xfe")
    target = made.target()
    await target.attach()
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE, 1)
    ticks = []
    for _ in range(4):
        assert (await stopped(target, CONTINUE)).reason is StopReason.SOFTWARE_BREAKPOINT
        ticks.append(made.vm.vcpus[0].cpu.ticks())
    assert ticks == [0, 1, 2, 3]


async def test_memory_never_shows_a_breakpoint(loop: Machine) -> None:
    target = loop.target()
    await target.attach()
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE, 1)
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 0x400, 1)
    await stopped(target, CONTINUE)
    assert await target.read_memory(1, CODE - 2, 6) == b"\0\0" + LOOP + b"\0"
    assert await target.read_physical(CODE, 3) == LOOP
    saved = loop.vm.save()
    assert saved.pages[CODE >> 12][CODE & 0xFFF :][:3] == LOOP
    await target.write_memory(1, CODE + 0x3FF, b"\x11\x22\x33")
    assert await target.read_memory(1, CODE + 0x3FF, 3) == b"\x11\x22\x33"
    await target.clear_breakpoint(BreakpointKind.SOFTWARE, CODE + 0x400, 1)
    assert await target.read_memory(1, CODE + 0x3FF, 3) == b"\x11\x22\x33"


async def test_breakpoints_survive_code_that_the_guest_writes_over_them(make: Make) -> None:
    # mov byte [0x7c08], 0x40 (inc ax); mov byte [0x7c09], 0xcc: over two nops
    made = make(bytes.fromhex("c606087c40 90 90 90  90 90 ebfa"))
    target = made.target()
    await target.attach()
    for offset in (7, 8):
        await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + offset, 1)
    places = []
    for _ in range(4):
        assert (await stopped(target, CONTINUE)).reason is StopReason.SOFTWARE_BREAKPOINT
        places.append(made.vm.vcpus[0].get("rip") - CODE)
    assert places == [7, 8, 7, 8]
    assert rax(made) == 1
    assert made.vm.memory.read(CODE + 8, 1) == b"\x40"


async def test_a_guests_own_int3_is_told_from_a_breakpoint(make: Make) -> None:
    # int3; inc ax; jmp $ with a handler at 0x600: inc bx; iret
    made = make(bytes.fromhex("cc 40 ebfe"))
    made.vm.memory.write(3 * 4, (0x600).to_bytes(4, "little"), WriteOrigin.LOADER)
    made.vm.memory.write(0x600, bytes.fromhex("43 cf"), WriteOrigin.LOADER)
    target = made.target()
    await target.attach()
    for address in (CODE, CODE + 1, 0x601):
        await target.set_breakpoint(BreakpointKind.SOFTWARE, address, 1)
    seen = []
    for _ in range(3):
        assert (await stopped(target, CONTINUE)).reason is StopReason.SOFTWARE_BREAKPOINT
        seen.append((made.vm.vcpus[0].get("rip"), made.vm.vcpus[0].get("rbx"), rax(made)))
    assert seen == [(CODE, 0, 0), (0x601, 1, 0), (CODE + 1, 1, 0)]


async def test_a_reported_breakpoint_is_passed_over_until_a_tick_or_a_write_of_the_place(
    loop: Machine,
) -> None:
    target = loop.target()
    await target.attach()
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 1, 1)
    await stopped(target, CONTINUE)
    assert (await stopped(target, STEP)).reason is StopReason.STEP
    for name, size in (("rip", 8), ("cs", 4), ("cr3", 8)):
        await stopped(target, CONTINUE)
        before = rax(loop)
        pc = CODE + 1 if name == "rip" else 0
        value, other = (pc, 0x7000) if name != "cs" else (0, 1)
        await target.write_registers(1, [(name, other.to_bytes(size, "little"))])
        await target.write_registers(1, [(name, value.to_bytes(size, "little"))])
        await stopped(target, CONTINUE)
        assert rax(loop) == before, name


# ---- who touches watched memory


async def test_a_device_that_writes_watched_memory_is_named(loop: Machine) -> None:
    target = loop.target()
    await target.attach()
    await target.set_watchpoint(WatchKind.WRITE, CELL + 4, 2)
    say(loop, f"watch {CELL:#x} 4 phys changed")
    assert loop.vm.memory.write_by_device("virtio-blk 0", CELL, b"sector")
    first = await stopped(target, CONTINUE)
    second = await stopped(target, CONTINUE)
    by_debugger, by_machine = sorted((first, second), key=lambda stop: stop.reason is StopReason.EVENT)
    assert by_debugger.watch is not None
    assert (by_debugger.watch.address, by_debugger.text) == (CELL + 4, "written by virtio-blk 0")
    expected = "write of 4 bytes at physical 0x5000: 0x0 -> 0x74636573 by virtio-blk 0, hit 1"
    assert by_machine.text == f"vCPU 0: watchpoint 2: {expected}"
    assert loop.vm.vcpus[0].cpu.ticks() == 0


async def test_a_debuggers_own_accesses_touch_no_watchpoint(loop: Machine) -> None:
    target = loop.target()
    await target.attach()
    await target.set_watchpoint(WatchKind.ACCESS, CELL, 16)
    say(loop, f"watch {CELL:#x} 16 a phys")
    await target.write_memory(1, CELL, b"debugger")
    assert await target.read_memory(1, CELL, 8) == b"debugger"
    await target.write_physical(CELL, b"physical")
    loop.vm.memory.write(CELL, b"loader", WriteOrigin.LOADER)
    assert (await stopped(target, STEP)).reason is StopReason.STEP


# ---- conditions and commands of a debugger


def rax_is(value: int) -> bytes:
    """`rax == value` in agent bytecode."""
    return b"\x26\0\0\x22" + bytes([value]) + b"\x13\x27"


async def test_conditions_from_the_wire_are_judged_by_the_core(loop: Machine) -> None:
    target = loop.target()
    await target.attach()
    kind = BreakpointKind.SOFTWARE
    await target.set_breakpoint(kind, CODE + 1, 1)
    program = condition(rax_is(200), target.description)
    await target.set_conditions(kind, CODE + 1, 1, [program], [], False)
    await stopped(target, CONTINUE)
    assert rax(loop) == 200
    await target.set_conditions(kind, CODE + 1, 1, [], [], False)
    await stopped(target, CONTINUE)
    assert rax(loop) == 201


async def test_a_condition_reads_rip_as_the_linear_address(loop: Machine) -> None:
    target = loop.target()
    loop.vm.vcpus[0].set("cs_base", 0x1000)
    loop.vm.vcpus[0].set("rip", CODE - 0x1000)
    await target.attach()
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 1, 1)
    at = verify([Instruction(Op.REGISTER, 0, "rip"), Instruction(Op.CONSTANT, CODE + 1),
                 Instruction(Op.EQUAL), Instruction(Op.NOT), Instruction(Op.END)])  # fmt: skip
    await target.set_conditions(BreakpointKind.SOFTWARE, CODE + 1, 1, [at], [], False)
    await target.set_breakpoint(BreakpointKind.HARDWARE, CODE, 1)
    assert (await stopped(target, CONTINUE)).reason is StopReason.HARDWARE_BREAKPOINT
    assert (await stopped(target, CONTINUE)).reason is StopReason.HARDWARE_BREAKPOINT


async def test_conditions_of_watchpoints(storing: Machine) -> None:
    target = storing.target()
    await target.attach()
    await target.set_watchpoint(WatchKind.WRITE, CELL, 2)
    program = condition(rax_is(40), target.description)
    await target.set_conditions(WatchKind.WRITE, CELL, 2, [program], [], False)
    stop = await stopped(target, CONTINUE)
    assert (stop.reason, rax(storing)) == (StopReason.WATCHPOINT, 40)


@pytest.mark.parametrize(("code", "second"), [(LOOP, 1), (STORING, 1), (WRITES, 3)])
def test_points_conditions_and_counts_leave_the_run_alone(make: Make, code: bytes, second: int) -> None:
    hashes = []
    points = (
        f"break {CODE:#x} if u16[0x5000] == 3",
        f"break {CODE + second:#x} phys after=7",
        f"watch {CELL:#x} 2 a after=9",
        f"watch {CELL:#x} 2 changed phys if u16[0x5000] & 1",
    )
    for lines in ((), points):
        made = make(code)
        made.control.debugged = True
        stops = 0
        for line in lines:
            say(made, line)
        while isinstance(outcome := made.vm.run(Goal(until=5000)), VcpuStopped):
            stops += made.control.judge(outcome) is not None
        assert (stops > 0) is bool(lines)
        hashes.append(made.vm.state_hash())
    assert hashes[0] == hashes[1]


# ---- beside the guest's own breakpoints

# int3; int 3; inc ax; int3; jmp to the start; the handler counts in bx
OWN = bytes.fromhex("cc cd03 40 cc ebf9")
EVERYWHERE = (0, 1, 3, 4)
Seen = tuple[str, int, int]


def own_breakpoints(make: Make, *catches: str) -> Machine:
    made = make(OWN)
    made.vm.memory.write(3 * 4, (0x600).to_bytes(4, "little"), WriteOrigin.LOADER)
    made.vm.memory.write(0x600, bytes.fromhex("43 cf"), WriteOrigin.LOADER)
    for words in catches:
        assert say(made, f"catch {words}").startswith("catch ")
    return made


def seen(made: Machine, stop: Stop) -> Seen:
    """What stopped, the offset in the code, and how often the guest's handler has run."""
    what = "own" if "own INT3" in stop.text else "#BP" if "#BP" in stop.text else "point"
    cpu = made.vm.vcpus[0]
    return what, cpu.get("rip") - CODE, cpu.get("rbx")


@pytest.mark.parametrize(
    ("catches", "points", "expected"),
    [
        ((), (3,), [("point", 3, 2), ("point", 3, 5)]),
        (("int3",), (3,), [("own", 0, 0), ("own", 1, 1), ("point", 3, 2), ("own", 4, 2), ("own", 0, 3)]),
        (("exception bp",), (3,), [("#BP", 0, 0), ("point", 3, 2), ("#BP", 4, 2), ("#BP", 0, 3)]),
        (
            (),
            EVERYWHERE,
            [("point", 0, 0), ("point", 1, 1), ("point", 3, 2), ("point", 4, 2), ("point", 0, 3)],
        ),
        (
            ("int3",),
            EVERYWHERE,
            [
                ("point", 0, 0),
                ("own", 0, 0),
                ("point", 1, 1),
                ("own", 1, 1),
                ("point", 3, 2),
                ("point", 4, 2),
            ],
        ),
        (
            ("exception bp",),
            EVERYWHERE,
            [
                ("point", 0, 0),
                ("#BP", 0, 0),
                ("point", 1, 1),
                ("point", 3, 2),
                ("point", 4, 2),
                ("#BP", 4, 2),
            ],
        ),
    ],
)
async def test_points_beside_and_over_the_guests_own_breakpoints(
    make: Make, catches: tuple[str, ...], points: tuple[int, ...], expected: list[Seen]
) -> None:
    made = own_breakpoints(make, *catches)
    target = made.target()
    await target.attach()
    for offset in points:
        await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + offset, 1)
    assert [seen(made, await stopped(target, CONTINUE)) for _ in expected] == expected
    assert made.vm.memory.read(CODE, len(OWN)) == OWN


async def test_steps_over_points_at_the_guests_own_breakpoints_lead_into_the_handler(make: Make) -> None:
    made = own_breakpoints(make)
    target = made.target()
    await target.attach()
    for offset in (0, 1):
        await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + offset, 1)
    for offset, length in ((0, 1), (1, 2)):
        assert (await stopped(target, CONTINUE)).reason is StopReason.SOFTWARE_BREAKPOINT
        assert (await stopped(target, STEP)).reason is StopReason.STEP
        cpu = made.vm.vcpus[0]
        assert cpu.get("rip") == 0x600
        assert made.vm.memory.read(cpu.get("rsp"), 2) == (CODE + offset + length).to_bytes(2, "little")


async def test_a_catch_that_goes_leaves_the_points_alone(make: Make) -> None:
    made = own_breakpoints(make, "int3")
    target = made.target()
    await target.attach()
    await target.set_breakpoint(BreakpointKind.SOFTWARE, CODE + 3, 1)
    say(made, "catch delete all")
    assert [seen(made, await stopped(target, CONTINUE)) for _ in range(2)] == [
        ("point", 3, 2),
        ("point", 3, 5),
    ]
    assert made.vm.vcpus[0].cpu.control.bpt_exit == 0


@pytest.mark.parametrize("catches", [(), ("int3 log",), ("exception bp log",)])
def test_both_strategies_leave_a_run_with_own_breakpoints_alone(make: Make, catches: tuple[str, ...]) -> None:
    plain = own_breakpoints(make)
    plain.vm.run(Goal(until=1000))
    made = own_breakpoints(make, *catches)
    made.control.debugged = True
    say(made, f"break {CODE:#x} after=1000")
    say(made, f"break {CODE + 4:#x} if u16[0x5000] == 3")
    while made.vm.clock.now < 1000:
        outcome = made.vm.run(Goal(until=1000))
        assert not isinstance(outcome, VcpuStopped) or made.control.judge(outcome) is None
    assert made.vm.state_hash() == plain.vm.state_hash()
    assert bool(made.control.catches.log) is bool(catches)
