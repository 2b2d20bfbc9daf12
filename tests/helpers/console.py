"""A guest's serial console on the standard input and output of a child process."""

import os
import select
import subprocess
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from tests.helpers.patience import HANG_S

TIMEOUT_S: Final = HANG_S
"""How long a guest may be silent before a test gives up on it."""


class ConsoleError(AssertionError):
    """The guest did not print what was expected; the text ends with what it did print."""


class Console:
    """Runs `command` and talks to it: `expect` a text, `send` bytes, `wait` for its exit status.

    A context manager: leaving it kills the process when it still runs. `output` is everything that
    was printed so far.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.output = b""
        self._seen = 0
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def expect(self, text: str, timeout_s: float = TIMEOUT_S) -> str:
        """Wait until `text` is printed. Returns everything since the last `expect`, `text` included."""
        wanted = text.encode()
        deadline = time.monotonic() + timeout_s
        while (found := self.output.find(wanted, self._seen)) < 0:
            if not self._read(deadline):
                tail = self.output[-2000:].decode(errors="replace")
                raise ConsoleError(f"{text!r} did not come; the console ends with:\n{tail}")
        start, self._seen = self._seen, found + len(wanted)
        return self.output[start : self._seen].decode(errors="replace")

    def send(self, text: str) -> None:
        """Type `text`."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Read to the end and return the exit status."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self._process.wait(max(0.0, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        """Wait for more output; False at its end and at the deadline."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(descriptor, 65536) if ready else b""
        self.output += chunk
        return bool(chunk)


def qemu_command(*arguments: str, cpus: int = 1, memory: str = "256M") -> list[str]:
    """QEMU without hardware help, its first serial port on standard input and output."""
    return [
        *("qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-smp", str(cpus), "-m", memory, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        *arguments,
    ]
