"""Debuggers that leave, come back or die, and strangers who knock: the guest is unharmed."""

import contextlib
import re
import signal
import socket
import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Debug, StartGdb, StartMachine
from tests.e2e.gdb_driver import Gdb, GdbError, run_batch
from tests.e2e.machine import DEMO_PROMPT, Machine, demo_command, final_state
from tests.helpers.patience import HANG_S

RUBBISH_SIZE = 100 << 20


def still_answers(machine: Machine) -> None:
    """The guest's shell carries out a command."""
    assert demo_command(machine, "fib 15") == "610\r\n"


def stopped_at_the_prompt(debug: Debug) -> tuple[Machine, Gdb]:
    machine, gdb = debug("-c", "2")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    gdb.interrupt()
    gdb("break worker_step")
    gdb.go("continue")
    return machine, gdb


def test_detach_lets_the_guest_run_without_its_breakpoints(debug: Debug) -> None:
    machine, gdb = stopped_at_the_prompt(debug)
    gdb("detach")
    still_answers(machine)


def test_detach_before_the_first_instruction_starts_the_guest(debug: Debug) -> None:
    machine, gdb = debug()
    gdb("detach")
    machine.expect(DEMO_PROMPT)


def test_attach_again_stops_the_running_guest(debug: Debug, gdb: StartGdb, run: StartMachine) -> None:
    machine = run("--gdb", "127.0.0.1:0", "--no-wait")
    address = machine.address()
    machine.expect(DEMO_PROMPT)
    first = gdb()
    for _ in range(3):
        first(f"target remote {address}")
        assert first.value("$ticks") > 0
        first("detach")
        still_answers(machine)
    first.quit()
    second = gdb()
    second(f"target remote {address}")
    here = second.value("$ticks")
    assert second.go("stepi").reason == "end-stepping-range"
    assert second.value("$ticks") == here + 1


def test_disconnect_and_attach_again_finds_the_guest_running(debug: Debug) -> None:
    machine, gdb = stopped_at_the_prompt(debug)
    address = machine.address()
    gdb("disconnect")
    still_answers(machine)
    gdb("delete")
    gdb(f"target remote {address}")
    gdb.begin("continue")
    still_answers(machine)


def leave_by_quit(gdb: Gdb) -> None:
    assert gdb.quit() == 0


def leave_by_death(gdb: Gdb) -> None:
    gdb.kill()


def leave_running_by_death(gdb: Gdb) -> None:
    gdb("delete")
    gdb.begin("continue")
    gdb.kill()


@pytest.mark.parametrize("leave", [leave_by_quit, leave_by_death, leave_running_by_death])
def test_guest_runs_on_when_gdb_is_gone(debug: Debug, leave: Callable[[Gdb], None]) -> None:
    machine, gdb = stopped_at_the_prompt(debug)
    leave(gdb)
    still_answers(machine)
    machine.type("poweroff\r")
    assert machine.wait() == 0


def test_guest_runs_on_after_a_batch(run: StartMachine) -> None:
    machine = run("--gdb", "127.0.0.1:0", "--no-wait")
    machine.expect(DEMO_PROMPT)
    address = machine.address()
    status, text = run_batch([f"target remote {address}", "info registers rip", "stepi"])
    assert status == 0, text
    still_answers(machine)


def test_guest_that_was_never_continued_waits_for_the_next_debugger(debug: Debug, gdb: StartGdb) -> None:
    machine, first = debug()
    first("hbreak kmain")
    first.kill()
    second = gdb()
    address = machine.address()
    second(f"target remote {address}")
    assert second.value("$ticks") == 0
    assert machine.console.text == ""


def test_a_second_debugger_looks_on_while_the_first_works(debug: Debug, gdb: StartGdb) -> None:
    machine, first = debug()
    second = gdb()
    second(f"target remote {machine.address()}")
    assert second.value("$ticks") == first.value("$ticks") == 0
    with pytest.raises(GdbError, match=r"controlled by .*'monitor control take' takes it"):
        second("set $rax = 1")
    first("hbreak kmain")
    assert first.go("continue").function == "kmain"
    second("maintenance flush register-cache")
    assert second.value("$pc") == first.value("$pc")


def test_a_second_debugger_takes_control_and_it_comes_back_when_it_leaves(
    debug: Debug, gdb: StartGdb
) -> None:
    machine, first = debug("-c", "2")
    first("hbreak kmain")
    first.go("continue")
    second = gdb()
    second(f"target remote {machine.address()}")
    assert "control taken from 127.0.0.1:" in second("monitor control take")
    ticks = second.value("$ticks")
    assert second.go("stepi").reason == "end-stepping-range"
    assert second.value("$ticks") > ticks
    with pytest.raises(GdbError, match="controlled by"):
        first("set $rax = 1")
    second("detach")
    machine.expect(DEMO_PROMPT)
    assert "control is here" in first("monitor control take")
    assert first.go("stepi").reason == "end-stepping-range"


# --- strangers -------------------------------------------------------------------------------------------


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=HANG_S)
    connection.settimeout(HANG_S)
    return connection


def closed_by_the_server(connection: socket.socket) -> bool:
    """Whether the server ends the connection; whatever it says before is read."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def connect_and_close(port: int) -> None:
    connect(port).close()


def connect_and_reset(port: int) -> None:
    with connect(port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def http_request(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert closed_by_the_server(connection)


def tls_hello(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(bytes.fromhex("16030100c8010000c40303") + bytes(200))
        assert closed_by_the_server(connection)


def pluses(port: int) -> None:
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"+" * 8192)
        assert closed_by_the_server(connection)


def half_a_packet(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"$m0,")


def packets_with_wrong_checksums(port: int) -> None:
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"$k#00$vKill;1#00$D#00" * 400)
        assert closed_by_the_server(connection)


def rubbish(port: int) -> None:
    """100 MB that look like the start of a packet."""
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"$")
        chunk = b"A" * (1 << 20)
        for _ in range(RUBBISH_SIZE // len(chunk)):
            connection.sendall(chunk)
        assert closed_by_the_server(connection)


def questions_only(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"+$qSupported:swbreak+#7e")
        connection.recv(1 << 16)


STRANGERS = [
    connect_and_close,
    connect_and_reset,
    http_request,
    tls_hello,
    pluses,
    half_a_packet,
    packets_with_wrong_checksums,
    rubbish,
    questions_only,
]


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        found = re.search(r"VmRSS:\s+(\d+) kB", status.read())
    assert found is not None
    return int(found[1])


def test_strangers_change_nothing_before_the_first_instruction(run: StartMachine, gdb: StartGdb) -> None:
    machine = run("--gdb", "127.0.0.1:0")
    address = machine.address()
    before = resident_kib(machine.pid)
    for stranger in STRANGERS:
        stranger(port_of(address))
    assert resident_kib(machine.pid) - before < 16 << 10
    debugger = gdb()
    debugger(f"target remote {address}")
    assert debugger.value("$ticks") == 0
    assert machine.console.text == ""
    debugger("detach")
    machine.expect(DEMO_PROMPT)
    still_answers(machine)


# 40 s of the guest's time, most of it idle: it lasts seconds.
BOUNDED = ("-c", "2", "--max-ticks", "40_000_000_000", "--stats")
BOUNDED_STATUS = 4  # the end by --max-ticks


@pytest.fixture(scope="module")
def undisturbed() -> str:
    """How a run of `BOUNDED` ends when nobody looks."""
    with Machine(*BOUNDED) as machine:
        return final_state(machine, BOUNDED_STATUS)


def test_strangers_change_nothing_in_a_running_guest(run: StartMachine, undisturbed: str) -> None:
    """Not even the state in the end."""
    machine = run(*BOUNDED, "--gdb", "127.0.0.1:0", "--no-wait")
    port = port_of(machine.address())
    for stranger in STRANGERS:
        stranger(port)
        assert machine.alive
    assert final_state(machine, BOUNDED_STATUS) == undisturbed


def test_looking_stepping_and_stopping_change_nothing_in_the_guest(
    run: StartMachine, gdb: StartGdb, undisturbed: str
) -> None:
    """The law, seen from outside: the same state at the same tick as without a debugger."""
    machine = run(*BOUNDED, "--gdb", "127.0.0.1:0")
    debugger = gdb()
    debugger(f"target remote {machine.address()}")
    debugger("monitor step-policy unmasked")
    debugger("hbreak *0x100500")
    debugger("break *0xffffffff81000000")
    debugger("watch *(long *) 0x200000")
    debugger("tbreak *0x1005ac")  # kmain
    debugger.go("continue")
    for _ in range(20):
        debugger.go("stepi")
        debugger("x/8i $pc")
        debugger("x/64xb $sp")
        debugger("info registers")
    debugger("delete")
    debugger.begin("continue")
    machine.expect(DEMO_PROMPT)
    for _ in range(3):
        debugger.interrupt()
        debugger("info threads")
        for _ in range(20):
            debugger.go("stepi")
        debugger.begin("continue")
    debugger.interrupt()
    debugger("detach")
    assert final_state(machine, BOUNDED_STATUS) == undisturbed


def test_garbage_after_attaching_ends_that_session_only(run: StartMachine, gdb: StartGdb) -> None:
    machine = run("--gdb", "127.0.0.1:0", "--no-wait")
    port = port_of(machine.address())
    machine.expect(DEMO_PROMPT)
    for garbage in (b"$", b"$m0,4#00", b"\x00\xff" * 5000, b"}" * 9000, b"$" + b"A" * (1 << 20)):
        with connect(port) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"+$?#3f")
            connection.recv(1 << 16)
            connection.sendall(garbage)
        still_answers(machine)
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"+$?#3f")
        connection.recv(1 << 16)
        for _ in range(RUBBISH_SIZE >> 20):
            connection.sendall(b"A" * (1 << 20))
        assert closed_by_the_server(connection)
    still_answers(machine)
    debugger = gdb()
    debugger(f"target remote :{port}")
    assert debugger.value("$ticks") > 0


def test_sigterm_and_ctrl_c_end_hv_cleanly(run: StartMachine) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        started = time.monotonic()
        machine = run("--gdb", "127.0.0.1:0", "--no-wait")
        machine.expect(DEMO_PROMPT)
        began = time.monotonic()
        machine.signal(number)
        assert machine.wait() == 128 + number
        # At once; on a slow machine that is as slow as the beginning was.
        assert time.monotonic() - began < max(3, 5 * (began - started))
        assert "Traceback" not in machine.messages.join()
