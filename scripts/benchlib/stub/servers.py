"""The servers that are compared, each as a process: ours on the real machine, QEMU's, and a bare echo."""

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.benchlib.build import ROOT
from scripts.benchlib.process import RunError, environment
from scripts.benchlib.sides import image_command

START_S: Final = 10.0
_PORT: Final = re.compile(r":(\d+)'?\s*$")


@contextlib.contextmanager
def _announced(command: list[str]) -> Iterator[int]:
    """Run a server that says its port at the end of a line on standard error; gives the port."""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as running:
        try:
            for line in running.stderr or ():
                if (match := _PORT.search(line.decode())) is not None:
                    yield int(match[1])
                    return
            raise RunError(f"{' '.join(command[:4])} ended before it served")
        finally:
            running.terminate()


def ours(
    image: Path | None, line: str, *options: str, cpus: int = 1
) -> contextlib.AbstractContextManager[int]:
    """`hv run` with its debug server; without an image the demo guest. Gives the port."""
    served = ("--gdb", "127.0.0.1:0", "--serial", "null", "-m", "64M", "-c", str(cpus), *options)
    program = (str(image), "--append", line) if image is not None else ()
    return _announced([sys.executable, "-m", "hv", "run", *program, *served])


def echo(length: int, ack: bool) -> contextlib.AbstractContextManager[int]:
    """A bare trio server whose every answer is a packet of `length` bytes."""
    return _announced([sys.executable, "-m", "scripts.benchlib.stub.echo", f"{length}:{int(ack)}"])


@contextlib.contextmanager
def qemu(image: Path, line: str) -> Iterator[int]:
    """QEMU's stub, the guest before its first instruction; gives the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = image_command("tcg", image, line)
    command[command.index("stdio")] = "null"
    try:
        running = subprocess.Popen(
            [*command, "-S", "-gdb", f"tcp:127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise RunError("qemu-system-x86_64 is not installed") from None
    try:
        _wait_for(port)
        yield port
    finally:
        running.terminate()
        running.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RunError("QEMU did not open its port") from None
            time.sleep(0.05)
