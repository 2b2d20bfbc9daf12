"""Stock gdb and several vCPUs: threads, breakpoints in all of them, steps of one, Ctrl-C."""

import re
from collections import Counter

from tests.e2e.conftest import Debug
from tests.e2e.gdb_driver import Gdb
from tests.e2e.machine import DEMO_PROMPT, demo_command


def test_threads_are_vcpus(debug: Debug) -> None:
    machine, gdb = debug("-c", "4")
    rows = re.findall(r"^[* ] +(\d+) +Thread 1\.\d+ \"(.*?)\"", gdb("info threads"), re.MULTILINE)
    assert rows == [(str(n + 1), f"vCPU {n}") for n in range(4)]
    # The three others wait for their start-up IPI.
    assert gdb("info threads").count("wait") == 3
    gdb.begin("continue")
    machine.expect("4 cpus.*demo> ")
    gdb.interrupt()
    assert "wait" not in gdb("info threads")
    for number in range(1, 5):
        gdb(f"thread {number}")
        assert gdb.value("((struct cpu *) $gs_base)->index") == number - 1
    backtraces = gdb("thread apply all backtrace")
    assert backtraces.count("ap_main") == 3
    assert "kmain" in backtraces


def test_every_vcpu_stops_at_a_breakpoint(debug: Debug) -> None:
    machine, gdb = debug("-c", "4")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    demo_command(machine, "busy 1")
    gdb.interrupt()
    gdb("break pick_task")
    # A vCPU arrives some fifty times in one quantum, so 300 stops are more than one turn of all.
    threads: Counter[int] = Counter()
    while not {2, 3, 4} <= threads.keys() and threads.total() < 300:
        threads[gdb.go("continue").thread] += 1
    assert {2, 3, 4} <= threads.keys()
    # Each stop is one arrival: the tasks picked are the stops.
    gdb("delete")
    gdb("break pick_task")
    counted = sum(gdb.value(f"worker_counters[{number}]") for number in range(4))
    for _ in range(50):
        gdb.go("continue")
    more = sum(gdb.value(f"worker_counters[{number}]") for number in range(4)) - counted
    assert 50 - 4 <= more <= 50 + 4


def test_a_breakpoint_of_one_thread_stops_only_that_one(debug: Debug) -> None:
    machine, gdb = debug("-c", "4")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    gdb.interrupt()
    gdb("break worker_step thread 3")
    assert {gdb.go("continue").thread for _ in range(5)} == {3}


def ticks(gdb: Gdb) -> dict[int, int]:
    """Each thread's tick counter."""
    counters = {}
    for thread in (1, 2, 3, 4):
        gdb(f"thread {thread}")
        counters[thread] = gdb.value("$ticks")
    return counters


def test_a_step_of_one_vcpu_lets_the_others_run(debug: Debug) -> None:
    machine, gdb = debug("-c", "4")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    demo_command(machine, "busy 1")
    gdb.interrupt()
    before = ticks(gdb)
    for thread in (2, 4, 2):
        gdb(f"thread {thread}")
        for _ in range(20):
            stop = gdb.go("stepi")
            assert (stop.reason, stop.thread) == ("end-stepping-range", thread)
    after = ticks(gdb)
    # To come from one to the other, the scheduler went round: the ones between had their turns.
    assert after[3] - before[3] > 1000
    assert after[2] - before[2] >= 40
    assert after[4] - before[4] >= 20


def test_a_locked_step_leaves_the_others_where_they_are(debug: Debug) -> None:
    machine, gdb = debug("-c", "4")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    demo_command(machine, "busy 1")
    gdb.interrupt()
    gdb("set scheduler-locking on")

    before = ticks(gdb)
    gdb("thread 3")
    for _ in range(50):
        assert gdb.go("stepi").thread == 3
    assert ticks(gdb) == before | {3: before[3] + 50}
    gdb("set scheduler-locking replay")
    gdb.begin("continue")
    assert "cpu 3" in demo_command(machine, "cpus")


def test_ctrl_c_in_a_busy_guest(debug: Debug) -> None:
    machine, gdb = debug("-c", "4")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    machine.type("spin 100000000\r")
    machine.expect("spin 100000000")
    for _ in range(5):
        stop = gdb.interrupt()
        assert stop.reason == "signal-received"
        assert stop.fields["signal-name"] == "SIGINT"
        gdb.begin("continue")
    gdb.interrupt()
    assert "shell_execute" in gdb("thread apply 1 backtrace")


def test_ctrl_c_in_an_idle_guest(debug: Debug) -> None:
    machine, gdb = debug("-c", "2", "--clock", "host")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    for _ in range(5):
        stop = gdb.interrupt()
        assert stop.fields["signal-name"] == "SIGINT"
        gdb.begin("continue")
    gdb.interrupt()
    assert gdb("info threads").count("halted") == 2
    # Nothing woke it: HLT is still waited on, and a key still wakes it.
    gdb.begin("continue")
    assert demo_command(machine, "fib 5") == "5\r\n"
