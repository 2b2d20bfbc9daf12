"""Stock gdb on the demo guest: `monitor catch`, and steps with timers held."""

import collections
import itertools
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import Debug, StartGdb, StartMachine
from tests.e2e.machine import DEMO_PROMPT, demo_command, final_state
from tests.helpers import system_guest


def test_a_page_fault_is_a_stop_with_a_sentence_and_the_guest_goes_on(debug: Debug) -> None:
    machine, gdb = debug("-c", "2")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    gdb.interrupt()
    number = re.search(r"catch (\d+)", gdb("monitor catch exception #PF"))
    assert number is not None
    printed = len(gdb.output)
    stop = gdb.go("continue")
    assert stop.fields["signal-name"] == "SIGSEGV"
    said = gdb.output[printed:]
    assert re.search(r"vCPU \d: #PF at 0x\w+, error 0x0, cr2 0x\w+ \(supervisor read, not present\)", said)
    assert stop.function in {"step_touch", "run_task"}
    gdb(f"monitor catch delete {number[1]}")
    gdb.begin("continue")
    assert demo_command(machine, "fib 10") == "55\r\n"


def test_a_mode_switch_of_a_starting_processor_is_caught(debug: Debug) -> None:
    _, gdb = debug("-c", "2")
    gdb("monitor catch mode")
    seen: list[tuple[int, tuple[str, str]]] = []
    while len(seen) < 5:
        printed = len(gdb.output)
        stop = gdb.go("continue")
        seen.append((stop.thread, re.findall(r"vCPU \d: (.*?) after (.*?);", gdb.output[printed:])[0]))
    assert (1, ("64-bit mode", "compatibility mode")) in seen
    assert (2, ("protected mode without paging", "real mode")) in seen


def test_steps_with_timers_held_take_no_time(debug: Debug) -> None:
    machine, gdb = debug("-c", "2", "--ips", "1000000")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    gdb.interrupt()
    gdb("maintenance packet Qqemu.sstep=0x7")
    assert "machine time stands still" in gdb("monitor step-policy")
    gdb("break fib")
    gdb.begin("continue")
    machine.type("fib 20\r")
    gdb.wait()
    gdb("delete")
    before = gdb("monitor info time")
    ticks = gdb.value("$ticks")
    for _ in range(300):
        gdb("stepi")
    assert gdb.value("$ticks") == ticks + 300
    assert gdb("monitor info time") == before
    gdb("monitor step-policy masked")
    gdb("stepi")
    assert gdb("monitor info time") != before


@pytest.mark.parametrize(
    ("guest", "catches", "nested"),
    [
        (
            "long64",
            ("exception #PF", "exception #GP", "exception #DF"),
            {"#DF 13", "#DF 14", "#PF 14", "#GP 14"},
        ),
        ("long64", ("exception all", "int3"), {"#PF 6", "#PF 13", "#GP 80"}),
        ("prot32", ("exception all",), {"#DF 13", "#DF 11", "#NP 13"}),
        ("debug64", ("exception all",), set()),
        ("vm86", ("exception all",), {"#GP 48", "#GP 66"}),
    ],
)
def test_caught_exceptions_leave_the_guest_as_it_is(
    run: StartMachine, gdb: StartGdb, tmp_path: Path, guest: str, catches: tuple[str, ...], nested: set[str]
) -> None:
    """Also those that the delivery of another event raises: "#DF 13" is a double fault out of a #GP."""
    image = system_guest.build(guest, tmp_path)
    undisturbed = final_state(
        run(str(image), "--stats", closed_input=True), 1
    )  # the guest wrote 0 to port F4h
    machine = run(str(image), "--stats", "--gdb", "127.0.0.1:0")
    debugger = gdb()
    debugger(f"target remote {machine.address()}")
    debugger("monitor catch delete 3")  # power-off: then the end is the machine's
    for catch in catches:
        debugger(f"monitor catch {catch}")
    reasons = collections.Counter[str]()
    # A step delivers what was caught, or stops again at what its delivery raises.
    for command in itertools.cycle(("continue", "stepi", "stepi")):
        stop = debugger.go(command)
        reasons[stop.reason] += 1
        if stop.reason.startswith("exited"):
            break
    assert final_state(machine, 1) == undisturbed
    assert reasons["signal-received"] > 10
    assert reasons["end-stepping-range"] > 10
    said = re.findall(r"vCPU 0: (#\w+) at .* in the delivery of vector (\d+)", debugger.output)
    assert nested <= {" ".join(pair) for pair in said}
