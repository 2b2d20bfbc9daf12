"""Stock gdb on the demo guest: stop, look, step, change, go on."""

import re

import pytest

from tests.e2e.conftest import Debug
from tests.e2e.gdb_driver import Gdb, GdbError, GdbStop
from tests.e2e.machine import DEMO_PROMPT, Machine

TIMER_VECTOR = 0x30  # hv/guests/demo/layout.h, VECTOR_PIT
APIC_TIMER_VECTOR = 0x31
TRAMPOLINE = 0x8000  # where the demo's processors start, in real mode
DEMAND_BASE = 0x80_0000_0000
PAGES_PER_WINDOW = 512
INTERRUPT_FLAG = 1 << 9
# With a million machine ticks a second, the demo's timer interrupt comes every 10,000 ticks.
FAST_TIMER = ("--ips", "1000000")
TIMER_PERIOD = 10_000


def to_prompt(machine: Machine, gdb: Gdb) -> None:
    """Let the guest come to its shell, and stop it there."""
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    gdb.interrupt()


def test_nothing_has_run_when_gdb_comes(debug: Debug) -> None:
    machine, gdb = debug()
    assert gdb.stop is not None
    assert gdb.stop.function == "pvh_entry"
    assert gdb.value("$pc") == gdb.value("&pvh_entry")
    assert gdb.value("$ticks") == 0
    assert machine.console.text == ""
    assert gdb.go("stepi").address == gdb.value("&pvh_entry") + 1  # CLI has one byte
    assert gdb.value("$ticks") == 1


@pytest.mark.parametrize("command", ["break", "hbreak"])
def test_breakpoint_in_real_mode_is_hit_by_code_that_was_not_there_when_it_was_set(
    debug: Debug, command: str
) -> None:
    machine, gdb = debug("-c", "2")
    assert gdb.value(f"*(long *) {TRAMPOLINE:#x}") == 0
    gdb(f"{command} *{TRAMPOLINE:#x}")
    stop = gdb.go("continue")
    # gdb knows no segments: $pc is the linear address, where it has its breakpoint, and not IP, which is 0.
    assert (stop.reason, stop.thread) == ("breakpoint-hit", 2)
    assert gdb.value("$pc") == TRAMPOLINE
    assert gdb.value("$cs_base") == TRAMPOLINE
    assert gdb("print $mode").endswith("= real\n")
    assert gdb.value("*(long *) 0x8000") != 0
    gdb("delete")
    gdb.begin("continue")
    machine.expect("2 cpus.*demo> ")


@pytest.mark.parametrize("command", ["break", "hbreak"])
def test_breakpoint_set_before_paging_is_on_is_hit_after(debug: Debug, command: str) -> None:
    _, gdb = debug()
    assert gdb.value("$cr0") & 0x8000_0000 == 0
    gdb(f"{command} kmain")
    stop = gdb.go("continue")
    assert (stop.reason, stop.function) == ("breakpoint-hit", "kmain")
    assert gdb.value("$cr0") & 0x8000_0001 == 0x8000_0001


def test_watchpoint_on_an_address_that_is_not_mapped_yet(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    with pytest.raises(GdbError, match="Cannot access memory"):
        gdb(f"x/xg {DEMAND_BASE:#x}")
    to_prompt(machine, gdb)
    page = (gdb.value("windows[0].next_page") + 2) % PAGES_PER_WINDOW
    address = DEMAND_BASE + page * 0x1000
    with pytest.raises(GdbError, match="Cannot access memory"):
        gdb(f"x/xg {address:#x}")
    gdb(f"watch *(unsigned long *) {address:#x}")
    stop = gdb.go("continue")
    assert stop.reason == "watchpoint-trigger"
    assert stop.function in {"step_touch", "run_task"}


def requested(gdb: Gdb) -> set[int]:
    """The interrupt vectors that wait in the current vCPU's local APIC."""
    line = re.search(r"requested +(.*)", gdb("monitor info lapic"))
    assert line is not None
    return set() if line[1].strip() == "none" else {int(word, 16) for word in line[1].split()}


def step(gdb: Gdb, count: int) -> list[GdbStop]:
    """Step the current thread `count` times; the stops."""
    stops = []
    for _ in range(count):
        gdb.mi("-exec-step-instruction")
        assert gdb.stop is not None
        stops.append(gdb.stop)
    return stops


def to_the_end_of_a_timer_period(gdb: Gdb) -> None:
    """Continue thread 1 to a place with interrupts enabled, just before a timer interrupt is due."""
    gdb("thread 1")
    # Filling a page runs for more than a period without interrupts; let that task do something shorter.
    gdb("set var tasks[2].step = step_fib")
    for _ in range(20):
        due = timer_interrupt(gdb) + TIMER_PERIOD
        if abs(timer_interrupt(gdb) - due) > 200:
            continue  # this one or the one before was late: another vCPU ran, or interrupts were off
        due += TIMER_PERIOD
        gdb(f"tbreak fib thread 1 if $tsc > {due - 500}")
        gdb.go("continue")
        if gdb.value("$tsc") < due - 10:
            break
    else:
        pytest.fail("no two timer interrupts came in time")
    assert gdb.value("$eflags") & INTERRUPT_FLAG


def timer_interrupt(gdb: Gdb) -> int:
    """Continue to the handler of thread 1's next timer interrupt; the time then."""
    gdb("tbreak timer_interrupt thread 1")
    gdb.go("continue")
    return gdb.value("$tsc")


@pytest.mark.parametrize("vcpus", [1, 4])
def test_a_thousand_steps_under_a_running_timer_never_land_in_its_handler(debug: Debug, vcpus: int) -> None:
    machine, gdb = debug("-c", str(vcpus), *FAST_TIMER)
    to_prompt(machine, gdb)
    gdb.begin("continue")
    machine.type("spin 1000000\r")
    machine.expect("spin 1000000")
    gdb.interrupt()
    to_the_end_of_a_timer_period(gdb)
    entry = gdb.value("&trap_stubs") + 16 * TIMER_VECTOR
    ticks_before = gdb.value("ticks")
    stops = []
    while TIMER_VECTOR not in requested(gdb):
        stops += step(gdb, 100)
        assert len(stops) <= 1000, "no timer interrupt came"
    stops += step(gdb, 1000)
    assert {(stop.reason, stop.thread) for stop in stops} == {("end-stepping-range", 1)}
    assert entry not in {stop.address for stop in stops}
    assert "timer_interrupt" not in {stop.function for stop in stops}
    assert gdb.value("ticks") == ticks_before
    # The interrupt was held back, not lost.
    assert requested(gdb) == {TIMER_VECTOR}
    stepped_to = gdb.value("$ticks")
    gdb("tbreak timer_interrupt thread 1")
    assert gdb.go("continue").function == "timer_interrupt"
    assert gdb.value("$ticks") - stepped_to < 100


def test_unmasked_steps_follow_the_timer_interrupt(debug: Debug) -> None:
    machine, gdb = debug("-c", "1", *FAST_TIMER)
    to_prompt(machine, gdb)
    gdb.begin("continue")
    machine.type("spin 1000000\r")
    machine.expect("spin 1000000")
    gdb.interrupt()
    to_the_end_of_a_timer_period(gdb)
    assert "delivered" in gdb("monitor step-policy unmasked")
    entry = gdb.value("&trap_stubs") + 16 * TIMER_VECTOR
    for _ in range(10):
        stops = step(gdb, 100)
        if entry in {stop.address for stop in stops}:
            break
    else:
        pytest.fail("1,000 steps did not enter the handler")
    assert "timer_interrupt" in {stop.function for stop in stops + step(gdb, 100)}
