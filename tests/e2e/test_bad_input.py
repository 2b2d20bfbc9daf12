"""What cannot be run: one clear line on standard error, exit status 4, nothing started."""

import gzip
import os
import pty
import re
import signal
import socket
import subprocess
import termios
import time
from pathlib import Path

import pytest

import hv.cli
from tests.e2e.conftest import StartMachine
from tests.e2e.machine import DEMO_PROMPT, ROOT, hv_command
from tests.helpers.patience import HANG_S

TIMEOUT_S = HANG_S


def refused(*arguments: str) -> str:
    """The one line with which the program refuses to run `arguments`."""
    done = subprocess.run(
        hv_command("run", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("hv: ")
    return checked(line.removeprefix("hv: "))


def refused_here(*arguments: str) -> str:
    """`refused` without a process of its own, for many cases. What is not refused ends after one tick."""
    lines: list[str] = []
    assert hv.cli.run(["run", "--max-ticks", "1", *arguments], lines.append) == 4
    [line] = lines
    return checked(line)


def checked(line: str) -> str:
    """`line`, if it is one that a user should see."""
    assert 10 < len(line) < 400
    assert line.isprintable()
    for sign_of_a_bug in ("Traceback", "Error(", "Errno", "<", "None"):
        assert sign_of_a_bug not in line
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-c", "0"], r"-c.*between 1 and 16"),
        (["-c", "17"], r"-c.*between 1 and 16"),
        (["-c", "many"], r"-c.*not a number"),
        (["-c", "²"], r"-c.*not a number"),
        (["-c", "9" * 5000], r"-c.*not a number"),
        (["-m", "0"], r"-m"),
        (["-m", "-1M"], r"-m"),
        (["-m", "1K"], r"-m"),
        (["-m", "256X"], r"-m"),
        (["-m", "1000000T"], r"-m"),
        (["-m", "9" * 400 + "G"], r"-m"),
        (["-m", ""], r"-m"),
        (["--cpu", "pentium"], r"--cpu.*pentium.*x86-64-v2"),
        (["--gdb", "99999"], r"--gdb"),
        (["--gdb", "-1"], r"--gdb"),
        (["--gdb", "host:port"], r"--gdb"),
        (["--gdb", "unix:"], r"--gdb"),
        (["--gdb", "unix:" + "x" * 300], r"--gdb"),
        (["--gdb", "unix:/nonexistent/dir/sock"], r"--gdb"),
        (["--gdb", ""], r"--gdb"),
        (["--gdb", "192.0.2.1:0"], r"--gdb"),
        (["--gdb", "no-such-host.invalid:1234"], r"--gdb"),
        (["--gdb", "stdio", "--serial", "stdio"], r"--serial stdio"),
        (["--no-wait"], r"--no-wait.*--gdb"),
        (["--gdb-allow", "host-read"], r"--gdb-allow.*--gdb"),
        (["--gdb", "0", "--gdb-allow", "all"], r"--gdb-allow.*'all'.*host-read"),
        (["--serial", "nowhere"], r"--serial.*nowhere"),
        (["--serial", "file:"], r"--serial"),
        (["--serial", "file:/nonexistent/log"], r"--serial.*No such file"),
        (["--serial", "file:/"], r"--serial"),
        (["--serial", "unix:/nonexistent/sock"], r"--serial"),
        (["--symbols", "/nonexistent"], r"--symbols.*No such file"),
        (["--symbols", "README.md"], r"--symbols.*not an ELF file"),
        (["--clock", "sundial"], r"clock.*sundial"),
        (["--ips", "0"], r"--ips"),
        (["--ips", "1e9"], r"--ips"),
        (["--rtc", "yesterday"], r"--rtc.*yesterday"),
        (["--rtc", "1969-12-31"], r"--rtc"),
        (["--rtc", "0001-01-01T00:00:00+14:00"], r"--rtc"),
        (["--seed", "-1"], r"--seed"),
        (["--seed", "0x1ffffffffffffffff"], r"--seed"),
        (["--max-ticks", "0"], r"--max-ticks"),
        (["--record", "/nonexistent/log"], r"/nonexistent/log"),
        (["--replay", "/nonexistent/log"], r"/nonexistent/log"),
        (["--replay", "README.md"], r"README.md"),
        (["--replay", "/dev/null"], r"/dev/null"),
        (["--record", "/tmp/a", "--replay", "/tmp/b"], r"--record"),
        (["--frobnicate"], r"frobnicate"),
        (["one", "two"], r"two"),
        (["--gdb"], r"--gdb"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_options(arguments: list[str], says: str) -> None:
    serial = () if "--serial" in arguments else ("--serial", "null")
    assert re.search(says, refused_here(*arguments, *serial))


@pytest.mark.parametrize("arguments", [["-c", "17"], ["--frobnicate"], ["--gdb", "99999"], ["/nonexistent"]])
def test_refusal_is_one_line_of_the_program(arguments: list[str]) -> None:
    refused(*arguments)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("/nonexistent", "No such file"),
        ("tests", "is a directory"),
        ("/dev/zero", "neither a regular file nor a pipe"),
        ("", "No such file"),
        ("bad\0name", "not a file name"),
        ("a\nb\x1b[31m", "No such file"),
        ("README.md", "README.md"),
        ("/bin/true", "/bin/true"),
    ],
)
def test_images_that_are_none(image: str, says: str) -> None:
    assert says in refused_here(image)


@pytest.mark.parametrize("size", [0, 1, 16, 511, 512, 1024, 4096, 100_000, 7_000_000])
def test_truncated_kernel(linux_kernel: Path, tmp_path: Path, size: int) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(linux_kernel.read_bytes()[:size])
    assert "vmlinuz: " in refused_here(str(image))


@pytest.mark.parametrize("size", [0, 1, 16, 63, 64, 100, 4096, 8000])
def test_truncated_elf(demo_elf: Path, tmp_path: Path, size: int) -> None:
    image = tmp_path / "demo.elf"
    image.write_bytes(demo_elf.read_bytes()[:size])
    assert "demo.elf: " in refused_here(str(image))


def test_foreign_images(tmp_path: Path) -> None:
    for name, data in {
        "script": b"#!/bin/sh\n",
        "archive.gz": gzip.compress(b"x" * 100_000),
        "elf32-arm": b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\0\x28\0" + bytes(1000),
        "zeros": bytes(1 << 20),
        "text": b"hello world " * 1000,
    }.items():
        image = tmp_path / name
        image.write_bytes(data)
        assert f"{name}: " in refused_here(str(image))


def test_initrd(linux_kernel: Path, tmp_path: Path) -> None:
    assert "No such file" in refused_here(str(linux_kernel), "--initrd", "/nonexistent")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 40)
    assert "large" in refused_here(str(linux_kernel), "--initrd", str(large))


def test_kernel_that_does_not_fit(linux_kernel: Path) -> None:
    line = refused_here(str(linux_kernel), "-m", "16M")
    assert re.search("-m|memory|RAM", line)


def test_command_line_that_is_too_long(linux_kernel: Path) -> None:
    assert "--append: 100000 bytes" in refused_here(str(linux_kernel), "--append", "x" * 100_000)


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = refused("--gdb", f"127.0.0.1:{port}")
    assert str(port) in line
    assert "in use" in line


def test_unix_socket_in_use(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert "in use" in refused_here("--gdb", f"unix:{path}", "--serial", "null")
    plain = tmp_path / "file"
    plain.write_text("precious")
    refused_here("--gdb", f"unix:{plain}", "--serial", "null")
    refused_here("--serial", f"unix:{plain}")
    assert plain.read_text() == "precious"


def test_recording_of_another_machine(tmp_path: Path) -> None:
    log = tmp_path / "log"
    subprocess.run(
        hv_command("run", "--record", str(log), "--max-ticks", "1000000"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert re.search(r"vcpus\b.* 2\b.* 3\b", refused_here("--replay", str(log), "-c", "3"))
    cut = tmp_path / "cut"
    cut.write_bytes(log.read_bytes()[:20])
    assert "cut" in refused_here("--replay", str(cut))


def test_reader_of_standard_output_that_leaves_is_no_accident() -> None:
    shell = " ".join(hv_command("run", "--max-ticks", "200000000")) + " | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"{shell}; exit ${{PIPESTATUS[0]}}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout == "hv demo gu"
    assert done.returncode in (4, 141)
    assert len(done.stderr.splitlines()) <= 1


# --- the terminal -----------------------------------------------------------------------------------------


class Terminal:
    """`hv run` on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            hv_command("run", *arguments),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            cwd=ROOT,
            start_new_session=True,
        )
        self.seen = b""

    def expect(self, text: bytes) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self.seen += os.read(self.master, 4096)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize("way", ["poweroff", "crash", "SIGTERM", "SIGINT", "ctrl-a x"])
def test_terminal_is_raw_while_the_guest_runs_and_restored_after(way: str) -> None:
    terminal = Terminal("--clock", "virtual")
    try:
        terminal.expect(DEMO_PROMPT.encode())
        during = termios.tcgetattr(terminal.slave)
        assert during[3] & (termios.ICANON | termios.ECHO) == 0
        match way:
            case "SIGTERM" | "SIGINT":
                terminal.process.send_signal(getattr(signal, way))
            case "ctrl-a x":
                os.write(terminal.master, b"\x01x")
            case _:
                os.write(terminal.master, way.encode() + b"\r")
        status = terminal.process.wait(TIMEOUT_S)
        assert status == {"poweroff": 0, "crash": 3, "SIGTERM": 143, "SIGINT": 130, "ctrl-a x": 0}[way]
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_terminal_is_restored_after_an_error() -> None:
    terminal = Terminal("--gdb", "192.0.2.1:0")
    try:
        assert terminal.process.wait(TIMEOUT_S) == 4
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_end_of_input_is_not_the_end_of_the_guest(run: StartMachine) -> None:
    machine = run("-c", "1")
    machine.expect(DEMO_PROMPT)
    machine.type("spin 10\rpoweroff\r")
    machine.close_input()
    assert machine.wait() == 0
