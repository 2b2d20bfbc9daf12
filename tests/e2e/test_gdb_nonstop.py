"""Stock gdb in non-stop mode on the demo guest with four vCPUs."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import StartGdb, StartMachine
from tests.e2e.gdb_driver import TIMEOUT_S, Gdb
from tests.e2e.machine import DEMO_PROMPT, demo_command


def states(gdb: Gdb) -> dict[int, str]:
    """Each thread by gdb's number: "running", or the function that it stands in."""
    text = gdb.begin("info threads")
    rows = re.findall(r'^[* ] +(\d+) +Thread 1\.\d+ "vCPU \d" \([^)]*\) +(.*)$', text, re.MULTILINE)
    return {int(number): "running" if row == "(running)" else _function(row) for number, row in rows}


def _function(row: str) -> str:
    found = re.search(r"(\w+) \(", row)
    return found[1] if found else row


def until(gdb: Gdb, holds: Callable[[dict[int, str]], bool]) -> dict[int, str]:
    """Look at the threads until `holds` is true of them."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds(now := states(gdb)):
        assert time.monotonic() < deadline, now
    return now


def standing(now: dict[int, str]) -> set[int]:
    """The threads that do not run."""
    return {thread for thread, where in now.items() if where != "running"}


def test_vcpus_run_and_stop_one_by_one(run: StartMachine, gdb: StartGdb, demo_elf: Path) -> None:
    machine = run("--gdb", "127.0.0.1:0", "--no-wait", "-c", "4")
    debugger = gdb(str(demo_elf))
    machine.expect(DEMO_PROMPT)
    debugger.begin("set mi-async on")
    debugger.begin("set non-stop on")
    debugger.begin(f"target remote {machine.address()}")
    assert len(until(debugger, lambda now: standing(now) == {1, 2, 3, 4})) == 4
    debugger.begin("continue -a&")
    until(debugger, lambda now: not standing(now))
    # The guest serves its console while gdb looks at it.
    assert demo_command(machine, "fib 10") == "55\r\n"
    # One is stopped, and the others go on.
    debugger.begin("thread 3")
    debugger.begin("interrupt")
    until(debugger, lambda now: standing(now) == {3})
    before = debugger.value("$ticks")
    assert demo_command(machine, "fib 10") == "55\r\n"
    assert debugger.value("$ticks") == before
    # One runs into a breakpoint by itself, set while the others run.
    debugger.begin("break worker_step thread 3")
    debugger.begin("continue&")
    until(debugger, lambda now: standing(now) == {3} and now[3] == "worker_step")
    debugger.begin("delete")
    for _ in range(3):
        debugger.begin("stepi&")
        until(debugger, lambda now: standing(now) == {3})
    assert debugger.value("$ticks") > before
    debugger.begin("interrupt -a")
    until(debugger, lambda now: standing(now) == {1, 2, 3, 4})
    debugger.begin("continue -a&")
    assert demo_command(machine, "fib 5") == "5\r\n"
    debugger.begin("detach")
    assert demo_command(machine, "fib 6") == "8\r\n"
