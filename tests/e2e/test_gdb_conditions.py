"""Stock gdb on the demo guest: conditions and dprintf in the target, and points of the machine."""

import re
from pathlib import Path

from tests.e2e.conftest import Debug, StartGdb, StartMachine
from tests.e2e.gdb_driver import Gdb
from tests.helpers.patience import HANG_S


def exits(gdb: Gdb, kind: str) -> int:
    found = re.search(rf"^{kind} +([\d,]+)", gdb("monitor info exits"), re.MULTILINE)
    return int(found[1].replace(",", "")) if found else 0


def test_a_condition_is_evaluated_in_the_target_without_an_exit(debug: Debug) -> None:
    _, gdb = debug()
    gdb("set breakpoint condition-evaluation target")
    gdb("break step_count if shared_counter == 500")
    stop = gdb.go("continue")
    assert (stop.reason, stop.function) == ("breakpoint-hit", "step_count")
    assert gdb.value("shared_counter") == 500
    assert exits(gdb, "bpt") == 1
    gdb("condition 1 shared_counter % 100 == 99 && ticks > 0")
    gdb.go("continue")
    assert (gdb.value("shared_counter"), exits(gdb, "bpt")) == (599, 2)


def test_a_condition_on_an_argument_and_a_register(debug: Debug) -> None:
    _, gdb = debug("-c", "1")
    gdb("set breakpoint condition-evaluation target")
    gdb("break fib if n == 7 && $rip == fib")
    assert gdb.go("continue").function == "fib"
    assert (gdb.value("n"), gdb.value("$rdi"), exits(gdb, "bpt")) == (7, 7, 1)


def test_a_condition_that_cannot_be_evaluated_stops(debug: Debug) -> None:
    _, gdb = debug()
    gdb("set breakpoint condition-evaluation target")
    gdb("break step_count if *(long *)0x123456789000 == 1")
    stop = gdb.go("continue")
    assert stop.function == "step_count"
    assert "Cannot access memory at address 0x123456789000" in gdb.output


def test_conditions_on_several_vcpus_lose_no_hit(debug: Debug) -> None:
    _, gdb = debug("-c", "4")
    gdb("set breakpoint condition-evaluation target")
    gdb("break step_count if shared_counter >= 1000")
    threads = set()
    for _ in range(12):
        threads.add(gdb.go("continue").thread)
    assert len(threads) > 1
    assert exits(gdb, "bpt") >= 12


def test_dprintf_prints_in_the_target_and_the_guest_runs_on(debug: Debug) -> None:
    _, gdb = debug()
    gdb("set dprintf-style agent")
    gdb("set breakpoint condition-evaluation target")
    gdb(r'dprintf step_count,"count %lu on %s\n", shared_counter, tasks[3].name')
    gdb("break fib if shared_counter == 20")
    gdb.go("continue")
    assert re.findall(r"count (\d+) on count\n", gdb.output) == [str(n) for n in range(20)]
    assert exits(gdb, "bpt") == 21


def test_a_point_of_the_machine_outlives_gdb_and_waits_for_the_next_one(
    debug: Debug, gdb: StartGdb, demo_elf: Path
) -> None:
    machine, first = debug()
    assert "1: break" in first("monitor break step_count if u64[shared_counter] == 700")
    first("hbreak kmain")
    first("detach")
    machine.messages.expect(
        r"vCPU \d: breakpoint 1 at 0x\w+, hit 1; the machine waits for a debugger", HANG_S
    )
    second = gdb(str(demo_elf))
    second(f"target remote {machine.address()}")
    assert (second.value("shared_counter"), second.value("$pc")) == (700, second.value("&step_count"))
    listed = second("monitor info breakpoints")
    assert re.search(r"break 0x\w+ if u64\[shared_counter\] == 700  \(machine\), 1 hits", listed), listed
    assert "debugger" not in listed  # the first one's went with it
    # What it stood for is said as soon as gdb prints it.
    assert "hit 1" not in second.output
    second("monitor delete")
    second.go("stepi")
    assert re.search(
        r"stopped before the debugger came: vCPU \d: breakpoint 1 at 0x\w+, hit 1\n", second.output
    )


def test_break_on_the_command_line_stops_before_any_debugger_sets_one(
    run: StartMachine, gdb: StartGdb, demo_elf: Path
) -> None:
    machine = run("--gdb", "127.0.0.1:0", "--break", "kmain", "--break", "fib after=2 if rdi == 4")
    debugger = gdb(str(demo_elf))
    debugger(f"target remote {machine.address()}")
    debugger.go("continue")
    assert debugger.value("$pc") == debugger.value("&kmain")
    debugger.go("continue")
    assert (debugger.value("$pc") - debugger.value("(long)&fib"), debugger.value("$rdi")) == (0, 4)
    assert "hit 3" in debugger.output


def test_a_watch_of_the_machine_for_changes(debug: Debug) -> None:
    _, gdb = debug()
    gdb("monitor watch shared_counter 8 changed after=99")
    gdb.go("continue")
    assert gdb.value("shared_counter") == 100
    assert re.search(r"watchpoint 1: write of 8 bytes at 0x\w+: 0x63 -> 0x64, hit 100", gdb.output)
