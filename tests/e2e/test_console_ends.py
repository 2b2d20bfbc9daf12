"""A guest that prints for ever, and nobody reads: it can be interrupted, ended and left all the same."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import termios
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gdbstub.framing import frame
from tests.e2e.machine import ROOT, hv_command
from tests.helpers.patience import HANG_S
from tests.hv.loaders.images import boot_sector

# mov dx,3f8; mov al,'A'; out dx,al; jmp $-1
ENDLESS = bytes.fromhex("baf803 b041 ee ebfd")


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "boot.bin"
    path.write_bytes(boot_sector(ENDLESS))
    return str(path)


class Unread:
    """`hv run` with a standard output that nobody reads, `full` from the start or soon."""

    def __init__(self, *arguments: str, full: bool) -> None:
        self.reader, writer = os.pipe()
        if full:
            os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)))
        self.process = subprocess.Popen(
            hv_command("run", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        os.close(writer)

    def announced(self) -> bytes:
        """What it says before it starts the guest."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def wait_until_stuck(self) -> None:
        """Until it has printed and no more comes; to be early here lets the test find less."""
        deadline = time.monotonic() + HANG_S
        before, now = -1, 0
        while before != now or not now:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            count = array("i", [0])
            fcntl.ioctl(self.reader, termios.FIONREAD, count)
            before, now = now, count[0]

    def ended_by(self, number: signal.Signals) -> tuple[int, bytes]:
        """The status and the messages after this signal."""
        self.process.send_signal(number)
        _, messages = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, messages

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.reader)


SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])


@pytest.fixture
def start(image: str) -> Iterator[Callable[..., Unread]]:
    """Starts `hv` with such a guest; it is gone after the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, full: bool) -> Unread:
            unread = Unread(image, *arguments, full=full)
            stack.callback(unread.close)
            return unread

        yield start


@SIGNALS
def test_a_signal_ends_it(start: Callable[..., Unread], number: signal.Signals) -> None:
    unread = start(full=False)
    unread.wait_until_stuck()
    assert unread.ended_by(number) == (128 + number, b"")


@SIGNALS
def test_a_signal_ends_it_from_the_first_tick(
    start: Callable[..., Unread], number: signal.Signals, tmp_path: Path
) -> None:
    """The first ticks run in the thread that looks after everything else."""
    unread = start("--gdb", f"unix:{tmp_path / 'gdb'}", "--no-wait", full=True)
    assert b"debug server" in unread.announced()
    assert unread.ended_by(number) == (128 + number, b"")


def test_a_debugger_interrupts_it(start: Callable[..., Unread], tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    unread = start("--gdb", f"unix:{path}", full=True)
    assert b"debug server" in unread.announced()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(HANG_S)
        client.connect(str(path))
        stream = client.makefile("rwb", buffering=0)
        stream.write(frame(b"?"))
        assert stream.read(4)[:3] == b"+$T"
        stream.write(b"+" + frame(b"c"))
        stream.write(b"\x03")
        received = b""
        while b"$T02" not in received:
            received += stream.read(1)
