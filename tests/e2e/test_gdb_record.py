"""Sessions of stock gdb that change the guest at its stops, recorded and replayed to the same state."""

import itertools
from pathlib import Path

from tests.e2e.conftest import StartGdb, StartMachine
from tests.e2e.machine import DEMO_PROMPT, final_state
from tests.helpers import system_guest


def test_calls_into_the_guest_and_jumps(
    run: StartMachine, gdb: StartGdb, demo_elf: Path, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    machine = run(str(demo_elf), "-c", "2", "--stats", "--record", log, "--gdb", "127.0.0.1:0")
    debugger = gdb(str(demo_elf))
    debugger(f"target remote {machine.address()}")
    debugger("break demand_map")
    for _ in range(3):
        debugger.go("continue")
        assert debugger.value("(unsigned long long)fib(12)") == 144
        debugger("set var $rcx = 1")
    debugger("delete")
    debugger("monitor catch exception")
    for _ in range(3):
        debugger.go("continue")
        assert debugger.value("(unsigned long long)fib(10)") == 55
    debugger("monitor catch delete all")
    debugger("break run_fib")
    debugger.begin("continue")
    machine.expect(DEMO_PROMPT)
    machine.type("fib 20\r")
    debugger.wait()
    debugger("delete")
    debugger("return")
    debugger("thread apply all stepi")  # a step of a halted one takes until its next interrupt
    debugger.begin("continue")
    machine.expect(DEMO_PROMPT)
    machine.type("poweroff\r")
    debugger.wait()
    recorded = final_state(machine, 0)
    assert final_state(run(str(demo_elf), "-c", "2", "--stats", "--replay", log), 0) == recorded


def test_changes_at_every_exception(run: StartMachine, gdb: StartGdb, tmp_path: Path) -> None:
    image, log = str(system_guest.build("long64", tmp_path)), str(tmp_path / "log")
    machine = run(image, "--stats", "--record", log, "--gdb", "127.0.0.1:0")
    debugger = gdb()
    debugger(f"target remote {machine.address()}")
    debugger("monitor catch delete 3")  # power-off: then the end is the machine's
    debugger("monitor catch exception")
    for number, command in enumerate(itertools.cycle(("continue", "continue", "stepi"))):
        if debugger.go(command).reason.startswith("exited"):
            break
        debugger(f"set $dr0 = {number}")
    assert number > 20
    recorded = final_state(machine, 1)
    assert final_state(run(image, "--stats", "--replay", log), 1) == recorded


def test_resets_after_the_end(run: StartMachine, gdb: StartGdb, demo_elf: Path, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    machine = run(str(demo_elf), "--stats", "--record", log, "--gdb", "127.0.0.1:0")
    debugger = gdb(str(demo_elf))
    debugger(f"target remote {machine.address()}")

    def begin() -> None:
        debugger.begin("continue")
        machine.expect(DEMO_PROMPT)

    begin()
    machine.type("crash\r")
    debugger.wait()
    debugger("set $rbx = 5")
    debugger("monitor reset")
    debugger("monitor catch reset")
    begin()
    machine.type("reboot\r")
    debugger.wait()
    debugger("set $rbx = 7")
    begin()
    machine.type("poweroff\r")
    debugger.wait()
    debugger("set $rbx = 9")
    assert debugger.go("continue").reason.startswith("exited")
    recorded = final_state(machine, 0)
    assert final_state(run(str(demo_elf), "--stats", "--replay", log), 0) == recorded
