"""How a debugged guest ends: a stop with a sentence, everything still there, then the exit status."""

import re
from pathlib import Path

import pytest

from tests.e2e.conftest import Debug, StartGdb, StartMachine
from tests.e2e.gdb_driver import Gdb
from tests.e2e.machine import DEMO_PROMPT, Machine
from tests.hv.loaders.images import boot_sector

# cli; hlt; jmp to the hlt
HALT_FOR_EVER = bytes.fromhex("fa f4 eb fd")


def type_line(machine: Machine, gdb: Gdb, line: str) -> str:
    """Let the guest carry out `line`, which stops it; what gdb printed."""
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    printed = len(gdb.output)
    machine.type(f"{line}\r")
    gdb.wait()
    return gdb.output[printed:]


def ends_with(machine: Machine, gdb: Gdb, status: int) -> None:
    """One more resume ends the process, and gdb sees the same status."""
    stop = gdb.go("continue")
    if status:
        assert (stop.reason, int(stop.fields["exit-code"], 8)) == ("exited", status)
    else:
        assert stop.reason == "exited-normally"
    assert gdb("info threads") == "No threads.\n"
    assert machine.wait() == status


def test_power_off(debug: Debug) -> None:
    machine, gdb = debug("-c", "2")
    text = type_line(machine, gdb, "poweroff")
    assert "powered off" in text
    assert gdb.stop is not None
    assert gdb.stop.fields["signal-name"] == "SIGTRAP"
    assert "power_off" in gdb("thread apply 1 backtrace")
    assert gdb.value("cpus_online") == 2
    ends_with(machine, gdb, 0)


def test_reset_without_reboot(debug: Debug) -> None:
    machine, gdb = debug("-c", "1", "--no-reboot")
    text = type_line(machine, gdb, "reboot")
    assert "reset" in text
    assert "reboot" in gdb("backtrace")
    ends_with(machine, gdb, 0)


def test_reset_with_reboot_starts_again_and_breakpoints_hold(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    gdb("hbreak kmain")
    gdb.go("continue")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    machine.type("reboot\r")
    gdb.wait()
    assert gdb.stop is not None
    assert (gdb.stop.reason, gdb.stop.function) == ("breakpoint-hit", "kmain")
    gdb("delete")
    gdb.begin("continue")
    machine.expect(f"hv demo guest.*{DEMO_PROMPT}")


def test_triple_fault_keeps_everything_and_says_the_chain(debug: Debug) -> None:
    machine, gdb = debug("-c", "2")
    text = type_line(machine, gdb, "crash")
    assert "riple fault" in text
    # INT3 finds no IDT entry; nor does #GP for that, which makes #DF; nor does #DF.
    chain = re.findall(r"(#\w+) at (0x[0-9a-f]+), error (0x[0-9a-f]+)", text)
    at = f"{gdb.value('$pc'):#x}"
    assert chain == [("#GP", at, "0x1a"), ("#GP", at, "0x6b"), ("#DF", at, "0x0"), ("#GP", at, "0x43")]
    assert gdb.stop is not None
    assert gdb.stop.thread == 1
    assert gdb.stop.function == "triple_fault"
    assert "int3" in gdb("x/i $pc")
    assert gdb.value("$idtr_limit") == 0
    names = gdb("backtrace")
    assert names.index("triple_fault") < names.index("run_crash") < names.index("kmain")
    ends_with(machine, gdb, 3)


def test_halted_for_ever(run: StartMachine, gdb: StartGdb, tmp_path: Path) -> None:
    image = tmp_path / "halt.bin"
    image.write_bytes(boot_sector(HALT_FOR_EVER))
    machine = run(str(image), "--gdb", "127.0.0.1:0", "--serial", "null")
    debugger = gdb()
    debugger(f"target remote {machine.address()}")
    text = debugger("continue")
    assert "halted for ever" in text
    assert debugger.stop is not None
    assert debugger.stop.fields["signal-name"] == "SIGTRAP"
    assert debugger.value("$rip") in {0x7C01, 0x7C02}
    ends_with(machine, debugger, 2)


def test_debug_exit(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    text = type_line(machine, gdb, "exit 42")
    assert "42" in text
    ends_with(machine, gdb, 85)


@pytest.mark.parametrize("status", [0])
def test_kill_ends_the_process(debug: Debug, status: int) -> None:
    machine, gdb = debug()
    gdb("kill")
    assert machine.wait() == status


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("poweroff", 0, ""),
        ("crash", 3, "triple fault"),
        ("exit 0", 1, ""),
        ("exit 42", 85, ""),
    ],
)
def test_exit_status_without_a_debugger(run: StartMachine, line: str, status: int, words: str) -> None:
    machine = run("-c", "2")
    machine.expect(DEMO_PROMPT)
    machine.type(f"{line}\r")
    assert machine.wait() == status
    assert words in machine.messages.join()


def test_reset_ends_with_no_reboot_and_starts_again_without(run: StartMachine) -> None:
    machine = run("--no-reboot")
    machine.expect(DEMO_PROMPT)
    machine.type("reboot\r")
    assert machine.wait() == 0
    machine = run()
    machine.expect(DEMO_PROMPT)
    machine.type("reboot\r")
    machine.expect(f"hv demo guest.*{DEMO_PROMPT}")
    assert machine.alive


def test_halted_for_ever_without_a_debugger(run: StartMachine, tmp_path: Path) -> None:
    image = tmp_path / "halt.bin"
    image.write_bytes(boot_sector(HALT_FOR_EVER))
    machine = run(str(image), "--serial", "null")
    assert machine.wait() == 2
    assert "halted for ever" in machine.messages.join()


def test_boot_sector_prints_and_ends_with_its_status(run: StartMachine, bootsector: Path) -> None:
    machine = run(str(bootsector))
    assert machine.wait() == 85  # (0x2a << 1) | 1
    assert machine.console.join().strip()


@pytest.mark.parametrize("line", ["poweroff", "crash"])
def test_a_machine_that_ended_starts_again_in_the_same_session(
    run: StartMachine, gdb: StartGdb, demo_elf: Path, line: str
) -> None:
    machine = run("--gdb", "127.0.0.1:0", "-c", "2")
    debugger = gdb(str(demo_elf))
    debugger(f"target extended-remote {machine.address()}")
    debugger("hbreak kmain")
    assert debugger.go("continue").function == "kmain"
    type_line(machine, debugger, line)
    stop = debugger.go("run")  # its breakpoints are still there
    assert (stop.reason, stop.function) == ("breakpoint-hit", "kmain")
    assert re.findall(r"Thread 1\.\d+ ", debugger("info threads")) == ["Thread 1.1 ", "Thread 1.2 "]
    debugger.begin("continue")
    machine.expect(f"hv demo guest.*{DEMO_PROMPT}")


def test_monitor_reset_starts_again_after_a_power_off(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    type_line(machine, gdb, "poweroff")
    assert "before its first instruction" in gdb("monitor reset")
    gdb("maintenance flush register-cache")
    assert gdb.value("$pc") == gdb.value("&pvh_entry")
    gdb.begin("continue")
    machine.expect(f"hv demo guest.*{DEMO_PROMPT}")
