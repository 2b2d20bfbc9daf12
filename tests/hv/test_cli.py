"""The command line: statuses, one-line errors, recording, the terminal."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from hv.cli import parse_date
from hv.errors import ConfigError
from tests.helpers.patience import HANG_S
from tests.hv.loaders import images

TIMEOUT_S = HANG_S


def boot_sector(directory: Path, code: str) -> str:
    """A 512-byte image with `code` (hex) at 0:7C00."""
    path = directory / "boot.bin"
    path.write_bytes(images.boot_sector(bytes.fromhex(code)))
    return str(path)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hv", "run", *arguments]


def hv(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.mark.parametrize(
    ("code", "arguments", "status"),
    [
        ("b003 e6f4 f4", (), 7),  # debug exit, value 3
        ("b006 bafc0c 90 baf90c ee f4", ("--no-reboot",), 0),  # CF9 reset
        ("ba0404 b80034 ef f4", (), 0),  # ACPI S5
        ("fa f4", (), 2),  # cli; hlt
        ("0f011e007d 0f0b", (), 3),  # lidt [7d00]: limit 0; ud2
        ("ebfe", ("--max-ticks", "100_000"), 4),
    ],
)
def test_exit_statuses(tmp_path: Path, code: str, arguments: tuple[str, ...], status: int) -> None:
    done = hv(boot_sector(tmp_path, code), *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)


def test_serial_output_goes_to_standard_output(tmp_path: Path) -> None:
    # mov dx,3f8; 'h' 'i'; debug exit 0
    done = hv(boot_sector(tmp_path, "baf803 b068 ee b069 ee b000 e6f4"))
    assert (done.stdout, done.returncode) == ("hi", 1)


def test_serial_input_reaches_the_guest_before_it_is_lost(tmp_path: Path) -> None:
    # poll LSR for data; read it; debug exit with it
    done = hv(boot_sector(tmp_path, "bafd03 ec a801 74fb baf803 ec e6f4 f4"), stdin="!")
    assert done.returncode == (ord("!") << 1 | 1) & 0xFF


def test_serial_to_a_file(tmp_path: Path) -> None:
    target = tmp_path / "console"
    hv(boot_sector(tmp_path, "baf803 b068 ee b000 e6f4"), "--serial", f"file:{target}")
    assert target.read_bytes() == b"h"


def connected(path: Path) -> socket.socket:
    """A connection to the socket at `path`, which is about to appear and to listen."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(TIMEOUT_S)
        try:
            peer.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            peer.close()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return peer


def test_serial_over_a_unix_socket(tmp_path: Path) -> None:
    # echo one received byte, then debug exit with it
    image = boot_sector(tmp_path, "bafd03 ec a801 74fb baf803 ec ee e6f4 f4")
    path = tmp_path / "serial"
    with subprocess.Popen(command(image, "--serial", f"unix:{path}")) as process:
        with connected(path) as peer:
            assert path.stat().st_mode & 0o777 == 0o600
            peer.sendall(b"A")
            assert peer.recv(1) == b"A"
        assert process.wait(TIMEOUT_S) == (ord("A") << 1 | 1) & 0xFF
    assert not path.exists()


def test_statistics_say_what_was_done(tmp_path: Path) -> None:
    done = hv(boot_sector(tmp_path, "b9ffff e2fe b000 e6f4"), "--stats")
    assert re.search(r"65,5\d\d instructions in \d+\.\d+ s: \d+\.\d MIPS", done.stderr)
    assert re.search(r"inout +1 +\d+\.\d %$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ("/nonexistent",),
        ("/",),
        ("/dev/null",),
        (__file__,),
        ("-m", "12Q"),
        ("-m", "1"),
        ("-m", "999999T"),
        ("-c", "0"),
        ("-c", "17"),
        ("-c", "two"),
        ("--cpu", "z80"),
        ("--gdb", "99999"),
        ("--gdb", "nowhere:"),
        ("--gdb", "unix:/nonexistent/socket"),
        ("--serial", "modem"),
        ("--serial", "file:/nonexistent/x"),
        ("--serial", "stdio", "--gdb", "stdio"),
        ("--initrd", "/nonexistent"),
        ("--append", "x" * 70_000),
        ("--rtc", "yesterday"),
        ("--rtc", "0001-01-01"),
        ("--seed", "-1"),
        ("--ips", "0"),
        ("--ips", "1" + "0" * 400),
        ("--max-ticks", "0x"),
        ("--replay", "/nonexistent"),
        ("--replay", __file__),
        ("--record", "/nonexistent/x"),
        ("--record", "a", "--replay", "b"),
        ("--symbols", __file__),
        ("--no-wait",),
        ("--gdb-allow", "host-read"),
        ("--gdb", "0", "--gdb-allow", "everything"),
        ("--clock", "cuckoo"),
        ("--frobnicate",),
        ("one", "two"),
        ("a\x1b[31m\nb",),
    ],
)
def test_bad_input_is_one_line_and_status_4(arguments: tuple[str, ...]) -> None:
    done = hv(*arguments)
    assert done.returncode == 4
    assert done.stdout == ""
    assert re.fullmatch(r"hv: [^\n\x1b]+\n", done.stderr)


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = hv(boot_sector(tmp_path, "f4"), "--gdb", str(port))
    assert done.returncode == 4
    assert re.fullmatch(r"hv: --gdb: cannot listen on [^\n]+\n", done.stderr)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01", 1_767_225_600),
        ("1970-01-01T00:00:01", 1),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600),
    ],
)
def test_dates(text: str, seconds: int) -> None:
    assert parse_date(text) == seconds
    with pytest.raises(ConfigError):
        parse_date(f"{text}x")


def state_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1]


def test_a_recorded_session_replays_to_the_same_state(tmp_path: Path) -> None:
    image = boot_sector(tmp_path, "bafd03 ec a801 74fb baf803 ec ee e6f4 f4")
    log = str(tmp_path / "log")
    recorded = hv(image, "--record", log, "--stats", stdin="?")
    replayed = hv(image, "--replay", log, "--stats", stdin="other input")
    assert (replayed.returncode, replayed.stdout) == (recorded.returncode, recorded.stdout)
    assert state_line(replayed) == state_line(recorded)
    other = hv(boot_sector(tmp_path, "bafd03 ec a801 74fb baf803 ec ee e6f4 90 f4"), "--replay", log)
    assert other.returncode == 4
    assert len(other.stderr.splitlines()) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("code", ["ebfe", "fbf4ebfd"])
def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals, status: int, code: str) -> None:
    # Print first, so that the test knows when the guest runs.
    image = boot_sector(tmp_path, "baf803 b068 ee" + code)
    with subprocess.Popen(
        command(image), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"h"
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (status, b"")


def test_a_terminal_is_raw_while_the_guest_runs_and_restored(tmp_path: Path) -> None:
    image = boot_sector(tmp_path, "baf803 b068 ee ebfe")
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    with subprocess.Popen(
        command(image), stdin=follower, stdout=follower, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        ready, _, _ = select.select([leader], [], [], TIMEOUT_S)
        assert ready
        assert os.read(leader, 1) == b"h"
        during = termios.tcgetattr(follower)
        assert not during[3] & (termios.ECHO | termios.ICANON)
        os.write(leader, b"\x01x")  # Ctrl-A x
        process.wait(TIMEOUT_S)
    assert process.returncode == 0
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


def test_help_is_on_standard_output() -> None:
    done = hv("--help")
    assert done.returncode == 0
    assert "--record" in done.stdout


def reply(client: socket.socket) -> bytes:
    """The next packet that is not console text, acknowledged."""
    while True:
        received = b""
        while re.search(rb"#..", received) is None:
            received += client.recv(1)
        if not received.lstrip(b"+").startswith(b"$O"):
            return received.lstrip(b"+")
        client.sendall(b"+")


def test_the_debug_server_leaves_the_guest_alone_until_a_packet_comes(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    image = boot_sector(tmp_path, "b003 e6f4 f4")
    with subprocess.Popen(
        command(image, "--gdb", f"unix:{path}", "--serial", "null"), stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert b"debug server" in process.stderr.readline()
        assert path.stat().st_mode & 0o777 == 0o600
        for greeting in (b"", b"GET / HTTP/1.0\r\n\r\n"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
                probe.sendall(greeting)
        time.sleep(0.1)
        assert process.poll() is None
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"$vCont;c#a8")
            assert reply(client).startswith(b"$T05")
            client.sendall(b"+$c#63")
            assert reply(client).startswith(b"$W07")
        assert process.wait(TIMEOUT_S) == 7
    assert not path.exists()


def test_a_run_without_a_debugger_loads_no_debug_server() -> None:
    """It would be a tenth of the time to the guest's first instruction."""
    loaded = "import sys, hv.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "gdbstub.target" in modules
    assert not {"gdbstub.description", "gdbstub.server", "hv.debug.server", "xml.sax"} & set(modules)
