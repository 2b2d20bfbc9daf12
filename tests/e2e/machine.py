"""`python -m hv run` as a process: its console, its messages, its debug server's address, its status."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from tests.helpers.patience import HANG_S

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = HANG_S
_ADDRESS: Final = r"target remote ([^\s']+)"


class MachineError(AssertionError):
    """The machine did not do what was expected; the text ends with what it printed."""


class Transcript:
    """All that a stream printed, collected by a thread, so that a full pipe never holds up the guest."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._data = b""
        self._ended = False
        self._seen = 0
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while chunk := os.read(self._stream.fileno(), 65536):
            with self._changed:
                self._data += chunk
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """All of it so far."""
        with self._changed:
            return self._data.decode(errors="replace")

    def expect(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Wait for the regular expression `pattern` after what earlier calls have matched."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = re.search(pattern.encode(), self._data[self._seen :], re.DOTALL)
                if found:
                    self._seen += found.end()
                    text = re.search(pattern, found.group().decode(errors="replace"), re.DOTALL)
                    assert text is not None
                    return text
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    why = "at its end" if self._ended else f"after {timeout_s:.0f} s"
                    tail = self._data[-2000:].decode(errors="replace")
                    raise MachineError(f"{pattern!r} did not come {why}; it printed:\n{tail}")

    def join(self, timeout_s: float = TIMEOUT_S) -> str:
        """Wait for the end of the stream; all of it."""
        self._thread.join(timeout_s)
        return self.text


def hv_command(*arguments: str) -> list[str]:
    """The command line of `hv` with these arguments."""
    return [sys.executable, "-m", "hv", *arguments]


class Machine:
    """`hv run` with `arguments`. A context manager: leaving it kills the process when it still runs.

    `console` is what the guest printed on its serial port, `messages` what `hv` printed on standard error.
    """

    def __init__(self, *arguments: str, timeout_s: float = TIMEOUT_S, closed_input: bool = False) -> None:
        self._timeout_s = timeout_s
        self._address = ""
        self._process = subprocess.Popen(
            hv_command("run", *arguments),
            stdin=subprocess.DEVNULL if closed_input else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.console = Transcript(self._process.stdout)
        self.messages = Transcript(self._process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.console.join()
        self.messages.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if error is not None:
            error.add_note(f"console:\n{self.console.text[-3000:]}\nmessages:\n{self.messages.text[-3000:]}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def address(self) -> str:
        """Where the debug server listens, as gdb's `target remote` takes it."""
        if not self._address:
            self._address = self.messages.expect(_ADDRESS, self._timeout_s)[1]
        return self._address

    def expect(self, pattern: str, timeout_s: float | None = None) -> re.Match[str]:
        """Wait for the guest to print something that matches `pattern`."""
        return self.console.expect(pattern, timeout_s or self._timeout_s)

    def type(self, text: str) -> None:
        """Type `text` on the guest's serial port."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def close_input(self) -> None:
        """End of file on standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end; the exit status."""
        return self._process.wait(timeout_s or self._timeout_s)


DEMO_PROMPT: Final = "demo> "


def final_state(machine: Machine, status: int) -> str:
    """The state hash and the tick that `--stats` prints at the end, which must have `status`."""
    assert machine.wait() == status
    found = re.search(r"state [0-9a-f]{64} at tick \d+", machine.messages.join())
    assert found is not None
    return found.group()


def demo_command(machine: Machine, line: str) -> str:
    """Type `line` at the demo guest's prompt; what it printed before the next prompt."""
    machine.type(f"{line}\r")
    machine.expect(re.escape(line) + "\r\n")
    return machine.expect(f"(.*?){DEMO_PROMPT}")[1]
