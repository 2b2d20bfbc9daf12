"""Stock gdb on its machine interface, driven by its prompts; a timeout is the last resort.

gdb ends each answer with the line ``(gdb)``, and says when the target starts to run and when it has
stopped; `Gdb` waits for these. Commands are those a person types: `-interpreter-exec console`.
"""

import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pygdbmi import gdbmiparser

from tests.helpers.gdb import gdb_path
from tests.helpers.patience import HANG_S

TIMEOUT_S: Final = HANG_S
"""How long gdb may be silent before a test gives up on it."""
_PROMPT: Final = b"(gdb) \n"
_SETTINGS: Final = (
    "set pagination off",
    "set confirm off",
    "set width 0",
    "set style enabled off",
    # A machine that runs many tests at once may take more than gdb's two seconds to make a large file.
    "set remotetimeout 20",
)


class GdbError(AssertionError):
    """gdb refused a command; the text is its message."""


class GdbSilentError(AssertionError):
    """gdb did not answer, or ended, while something was expected of it."""


@dataclass(frozen=True, slots=True)
class GdbStop:
    """A stop as gdb reports it: why, in which thread, and where. `fields` is the whole record."""

    reason: str
    thread: int
    address: int
    function: str
    fields: dict[str, Any] = field(default_factory=dict)


def _stop_from(fields: dict[str, Any]) -> GdbStop:
    frame = fields.get("frame", {})
    return GdbStop(
        reason=str(fields.get("reason", "")),
        thread=int(fields.get("thread-id", 0)),
        address=int(frame.get("addr", "0"), 0),
        function=str(frame.get("func", "")),
        fields=fields,
    )


class Gdb:
    """One gdb process. A context manager: leaving it kills the process when it still runs.

    `stop` is the last stop that gdb reported; `output` all text it printed, for a look at a failure.
    """

    def __init__(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> None:
        self.stop: GdbStop | None = None
        self.output = ""
        self.running = False
        self._timeout_s = timeout_s
        self._buffer = b""
        self._lines = 0
        self._tokens = itertools.count(1)
        self._process = subprocess.Popen(
            [gdb_path(), "-nx", "-q", "--interpreter=mi3", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._read_to_prompt()
        for setting in _SETTINGS:
            self(setting)

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

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    # --- what a person does ------------------------------------------------------------------------

    def __call__(self, command: str) -> str:
        """Type `command`, wait until it is done and any run that it began has stopped; what it printed."""
        text = self.begin(command)
        return text + self.wait() if self.running else text

    def go(self, command: str) -> GdbStop:
        """A command that makes the guest run: the stop that it ends with."""
        self.stop = None
        self(command)
        return self._last_stop(command)

    def _last_stop(self, command: str) -> GdbStop:
        if self.stop is None:
            raise GdbSilentError(f"{command!r} ended without a stop; gdb said:\n{self.output[-2000:]}")
        return self.stop

    def begin(self, command: str) -> str:
        """Type `command` and return when gdb has taken it; the guest may still run."""
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        return self._send(f'-interpreter-exec console "{quoted}"')

    def mi(self, command: str) -> str:
        """A command of the machine interface, with the wait of `__call__`."""
        text = self._send(command)
        return text + self.wait() if self.running else text

    def wait(self) -> str:
        """Wait for the running guest to stop; what gdb printed meanwhile."""
        text = ""
        while self.running:
            text += self._read_to_prompt()
        return text

    def interrupt(self) -> GdbStop:
        """Press Ctrl-C, at once, and wait for the stop."""
        self._process.send_signal(signal.SIGINT)
        self.wait()
        assert self.stop is not None
        return self.stop

    def value(self, expression: str) -> int:
        """The value of an integer expression."""
        return int(self(f"output/x {expression}"), 16)

    def quit(self) -> int:
        """Type `quit`; the exit status."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"-gdb-exit\n")
        self._process.stdin.flush()
        return self.wait_exit()

    def wait_exit(self) -> int:
        """Wait for the end of the process; its exit status."""
        return self._process.wait(self._timeout_s)

    def kill(self) -> None:
        """End gdb without a word to the server."""
        self._process.kill()
        self._process.wait()

    # --- the machine interface -----------------------------------------------------------------------

    def _send(self, line: str) -> str:
        token = next(self._tokens)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{token}{line}\n".encode())
        self._process.stdin.flush()
        return self._read_to_prompt(token)

    def _read_to_prompt(self, token: int | None = None) -> str:
        """Read up to the prompt that follows the result of `token`. Raises GdbError when that is an error."""
        text, result = "", None
        deadline = time.monotonic() + self._timeout_s
        while True:
            line = self._read_line(deadline)
            if line == _PROMPT:
                if token is None or result is not None:
                    break
                continue
            record = gdbmiparser.parse_response(line.decode(errors="replace").rstrip("\n"))
            payload = record["payload"]
            match record["type"]:
                case "console" | "target" | "log" | "output":
                    text += str(payload)
                    self.output += str(payload)
                case "notify":
                    self._note(str(record["message"]), payload)
                case "result" if record["token"] == token:
                    result = record
                case _:
                    pass
        if result is not None and result["message"] == "error":
            raise GdbError(result["payload"]["msg"])
        return text

    def _note(self, message: str, payload: dict[str, Any]) -> None:
        if message == "running":
            self.running = True
        elif message == "stopped":
            self.running = False
            self.stop = _stop_from(payload)

    def _read_line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while (end := self._buffer.find(b"\n") + 1) == 0:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 65536) if ready else b""
            if not chunk:
                what = "ended" if ready else "does not answer"
                raise GdbSilentError(f"gdb {what}; it printed:\n{self.output[-2000:]}{self._buffer!r}")
            self._buffer += chunk
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        return line


def run_batch(commands: Sequence[str], *arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    """Run `gdb -batch` over `commands`; its exit status and all it printed."""
    options = [option for command in ("set remotetimeout 20", *commands) for option in ("-ex", command)]
    done = subprocess.run(
        [gdb_path(), "-nx", "-q", "-batch", *arguments, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")
