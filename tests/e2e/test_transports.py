"""Ways to the debug server: TCP on the loopback, a Unix socket, a pipe; and the sessions shown to users."""

import os
import re
import shlex
import socket
import stat
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import StartGdb, StartMachine
from tests.e2e.gdb_driver import GdbStop, run_batch
from tests.e2e.machine import DEMO_PROMPT, ROOT, demo_command, hv_command
from tests.helpers.gdb import gdb_path
from tests.helpers.patience import HANG_S
from tests.hv.loaders.images import boot_sector

TIMEOUT_S = HANG_S


def test_a_number_is_a_port_on_the_loopback_only(run: StartMachine) -> None:
    machine = run("--gdb", "0")
    port = int(machine.address().removeprefix(":"))
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    local = {row.split()[1] for row in listening.splitlines() if f":{port:04X} " in row and " 0A " in row}
    assert local == {f"0100007F:{port:04X}"}


def test_unix_socket_for_its_owner_only(run: StartMachine, gdb: StartGdb, tmp_path: Path) -> None:
    path = tmp_path / "debug.sock"
    machine = run("--gdb", f"unix:{path}")
    machine.messages.expect("target remote", TIMEOUT_S)
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    debugger = gdb("hv/guests/demo/demo.elf")
    debugger(f"target remote {path}")
    debugger("hbreak kmain")
    assert debugger.go("continue").function == "kmain"
    debugger("detach")
    machine.expect(DEMO_PROMPT)
    machine.type("poweroff\r")
    assert machine.wait() == 0
    assert not path.exists()


def test_unix_socket_left_behind_by_a_dead_process_is_replaced(run: StartMachine, tmp_path: Path) -> None:
    path = tmp_path / "debug.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    machine = run("--gdb", f"unix:{path}")
    machine.messages.expect("target remote", TIMEOUT_S)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_gdb_starts_hv_on_a_pipe(gdb: StartGdb, demo_elf: Path) -> None:
    debugger = gdb(str(demo_elf))
    command = shlex.join(hv_command("run", "-c", "2", "--gdb", "stdio"))
    debugger(f"target remote | exec {command}")
    assert debugger.value("$ticks") == 0
    debugger("break page_fault")
    assert debugger.go("continue").function == "page_fault"
    debugger("delete")
    debugger.begin("continue")
    assert debugger.interrupt().fields["signal-name"] == "SIGINT"
    debugger("kill")
    assert debugger.quit() == 0


def test_gdb_waits_for_an_hv_that_starts_slowly(demo_elf: Path) -> None:
    """It asks again meanwhile, and must not hear an answer for each time."""
    command = shlex.join(hv_command("run", "--gdb", "stdio"))
    status, text = run_batch(
        ["set remotetimeout 1", f"target remote | sleep 2.5; exec {command}", "hbreak kmain", "continue"],
        str(demo_elf),
    )
    assert status == 0, text
    assert "Breakpoint 1, kmain" in text


def test_the_guest_ends_with_its_pipe(tmp_path: Path) -> None:
    """Nobody can come back to a guest on a pipe, so it does not stay behind."""
    log = tmp_path / "serial.log"
    pid_file = tmp_path / "pid"
    command = shlex.join(hv_command("run", "--gdb", "stdio", "--serial", f"file:{log}"))
    status, text = run_batch(
        [f"target remote | echo $$ >{pid_file}; exec {command}", "tbreak shell", "continue", "detach"],
        str(ROOT / "hv/guests/demo/demo.elf"),
    )
    assert status == 0, text
    assert "Temporary breakpoint 1, shell" in text
    assert log.read_text().startswith("hv demo guest")
    assert not Path(f"/proc/{pid_file.read_text().strip()}/exe").exists()


def test_a_breakpoint_of_the_machine_waits_for_nobody_when_the_one_client_has_left(tmp_path: Path) -> None:
    image = tmp_path / "boot.bin"
    # mov ecx, 4000000h; dec ecx; jnz; nop (the breakpoint); mov al, 0; out 0F4h, al
    code = bytes.fromhex("66b900000004 6649 75fc 90 b000 e6f4 f4")
    image.write_bytes(boot_sector(code))
    log = str(tmp_path / "serial.log")
    options = ("--gdb", "stdio", "--serial", f"file:{log}", "--break", "0x7c0a")
    done = subprocess.run(
        hv_command("run", str(image), *options),
        input=b"+$?#3f$D#44",
        capture_output=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith(b"$OK#9a")


def test_serial_port_on_a_unix_socket(run: StartMachine, tmp_path: Path) -> None:
    path = tmp_path / "serial.sock"
    machine = run("--serial", f"unix:{path}", "--gdb", "127.0.0.1:0")
    machine.address()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(TIMEOUT_S)
        console.connect(str(path))
        with socket.create_connection(
            ("127.0.0.1", int(machine.messages.text.split(":")[-1].rstrip("'\n")))
        ) as it:
            it.sendall(b"+$?#3f$D#44")
            it.settimeout(TIMEOUT_S)
            while it.recv(4096):
                pass
        seen = b""
        while DEMO_PROMPT.encode() not in seen:
            seen += console.recv(4096)
        console.sendall(b"exit 3\r")
    assert machine.wait() == 7


def test_the_tour_runs_to_its_end(demo_elf: Path) -> None:
    command = shlex.join(hv_command("run", "-c", "2", "--gdb", "stdio", "--serial", "null"))
    done = subprocess.run(
        [
            *(gdb_path(), "-q", "-nx", "-batch", str(demo_elf)),
            *("-ex", f"target remote | exec {command}", "-x", "scripts/tour.gdb"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The end of the tour" in done.stdout
    assert "rror" not in done.stderr


def test_run_without_arguments_and_without_a_terminal_is_the_tour() -> None:
    done = subprocess.run(
        ["scripts/run"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        env=os.environ | {"HV_VENV": sys.prefix},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The end of the tour" in done.stdout


def readme_session() -> tuple[list[str], str, list[str]]:
    """The first block of the README: the arguments of hv, the program for gdb, what is typed."""
    block = (ROOT / "README.md").read_text().split("```")[1]
    start, debugger, *rest = block.strip().splitlines()
    arguments = re.fullmatch(r"\$ scripts/run (.*) &", start)
    program = re.fullmatch(r"\$ gdb (\S+)", debugger)
    assert arguments is not None
    assert program is not None
    assert all(line.startswith("(gdb) ") for line in rest)
    return shlex.split(arguments[1]), program[1], [line.removeprefix("(gdb) ") for line in rest]


def test_the_session_in_the_readme_works(run: StartMachine, gdb: StartGdb) -> None:
    arguments, program, commands = readme_session()
    assert 2 + len(commands) == 8
    port = arguments[arguments.index("--gdb") + 1]
    arguments[arguments.index("--gdb") + 1] = "127.0.0.1:0"
    machine = run(*arguments)
    debugger = gdb(str(ROOT / program))
    connect = f"target remote :{port}"
    assert commands[0] == connect
    debugger(f"target remote {machine.address()}")
    stops = [debugger.go(command) if command == "continue" else debugger(command) for command in commands[1:]]
    places = [(stop.reason, stop.function) for stop in stops if isinstance(stop, GdbStop)]
    assert places == [("breakpoint-hit", "page_fault"), ("watchpoint-trigger", "step_count")]


def test_serial_output_to_a_file(run: StartMachine, tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    machine = run("--serial", f"file:{log}", "--max-ticks", "200000000")
    assert machine.wait() == 4
    assert log.read_bytes().endswith(DEMO_PROMPT.encode())
    assert machine.console.join() == ""


def test_two_machines_at_once(run: StartMachine) -> None:
    machines = [run("--gdb", "0", "--no-wait") for _ in range(2)]
    for machine in machines:
        machine.expect(DEMO_PROMPT)
        assert demo_command(machine, "fib 9") == "34\r\n"
    assert machines[0].address() != machines[1].address()
