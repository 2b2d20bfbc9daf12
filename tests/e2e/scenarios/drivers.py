"""Debuggers as a person drives them, behind one face: gdb's console and machine interface, LLDB's console."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.gdb_driver import Gdb
from tests.helpers.gdb import gdb_path, lldb_path
from tests.helpers.patience import HANG_S

TIMEOUT_S = HANG_S


@dataclass(frozen=True, slots=True)
class Place:
    """Where the debugger's current thread stands. `thread` is the vCPU's number and 1."""

    thread: int
    address: int
    function: str


class Debugger(Protocol):
    """What a scenario's verbs ask of a client. Every call waits until the guest stands again."""

    def connect(self, address: str) -> None:
        """Connect to the server and stop the guest."""

    def place(self) -> Place:
        """Where the current thread stands."""

    def address(self, name: str) -> int:
        """A symbol's address."""

    def break_at(self, function: str, condition: str = "") -> None:
        """Set a breakpoint."""

    def watch(self, address: int, size: int) -> None:
        """Set a watchpoint for writes."""

    def clear(self) -> None:
        """Delete all breakpoints and watchpoints."""

    def go_on(self) -> None:
        """Continue to the next stop."""

    def step(self) -> None:
        """One instruction of the current thread."""

    def finish(self) -> None:
        """Out of the current function."""

    def backtraces(self) -> dict[int, list[str]]:
        """The functions of each thread's frames, innermost first."""

    def read(self, address: int, size: int) -> int:
        """An integer in memory."""

    def write(self, address: int, size: int, value: int) -> None:
        """Set an integer in memory."""

    def register(self, name: str) -> int:
        """A register of the current thread."""

    def set_register(self, name: str, value: int) -> None:
        """Set a register of the current thread."""

    def detach(self) -> None:
        """Leave; the guest runs on."""


class Console:
    """A program that reads commands from a pipe. `mark` is a command that prints its argument."""

    def __init__(self, command: list[str], mark: str) -> None:
        self._mark = mark
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __call__(self, command: str) -> str:
        """Give a command and wait until it is done; what it printed."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._process.stdin.write(f"{command}\n{self._mark.format(number)}\n".encode())
        self._process.stdin.flush()
        return self._read_to(rf"\nmark {number} done\n")

    def _read_to(self, pattern: str) -> str:
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + TIMEOUT_S
        while (found := re.search(pattern.encode(), self._buffer)) is None:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 65536) if ready else b""
            assert chunk, f"no answer; it printed: {self._buffer.decode(errors='replace')[-2000:]}"
            self._buffer += chunk
        text, self._buffer = self._buffer[: found.start()], self._buffer[found.end() :]
        return text.decode(errors="replace")


_C_TYPES = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long"}


class Commands:
    """A debugger by its commands; `run` carries one out and returns what it printed."""

    step_command = "stepi"

    def __init__(self, run: Callable[[str], str]) -> None:
        self._run = run

    def _search(self, pattern: str, command: str) -> re.Match[str]:
        printed = self._run(command)
        found = re.search(pattern, printed)
        assert found is not None, f"{command}: {printed}"
        return found

    def go_on(self) -> None:
        self._run("continue")

    def step(self) -> None:
        self._run(self.step_command)

    def finish(self) -> None:
        self._run("finish")

    def detach(self) -> None:
        self._run("detach")


class GdbCommands(Commands):
    """gdb by its commands."""

    def connect(self, address: str) -> None:
        for setting in ("pagination off", "confirm off", "width 0", "remotetimeout 20"):
            self._run(f"set {setting}")
        self._run(f"target remote {address}")

    def place(self) -> Place:
        thread, address = self._search(r"at (\d+) (\w+)", r'printf "at %d %lx\n", $_thread, $pc').groups()
        function = self._search(r"(\w+)( \+ \d+)? in section", "info symbol $pc")[1]
        return Place(int(thread), int(address, 16), function)

    def _value(self, expression: str) -> int:
        return int(self._search(r"is (\w+)\.", f'printf "is %lx.\\n", {expression}')[1], 16)

    def address(self, name: str) -> int:
        return self._value(f"(unsigned long) &{name}")

    def break_at(self, function: str, condition: str = "") -> None:
        self._run(f"break {function}" + (f" if {condition}" if condition else ""))

    def watch(self, address: int, size: int) -> None:
        self._run(f"watch *({_C_TYPES[size]} *) {address:#x}")

    def clear(self) -> None:
        self._run("delete")

    def backtraces(self) -> dict[int, list[str]]:
        printed = self._run("thread apply all backtrace 4")
        parts = re.split(r"^Thread (\d+) ", printed, flags=re.MULTILINE)[1:]
        return {
            int(number): re.findall(r"^#\d+ +(?:0x\w+ in )?([\w?.]+) \(", text, re.MULTILINE)
            for number, text in zip(parts[::2], parts[1::2], strict=True)
        }

    def read(self, address: int, size: int) -> int:
        return self._value(f"(unsigned long) *({_C_TYPES[size]} *) {address:#x}")

    def write(self, address: int, size: int, value: int) -> None:
        self._run(f"set var *({_C_TYPES[size]} *) {address:#x} = {value:#x}")

    def register(self, name: str) -> int:
        return self._value(f"(unsigned long) ${name}")

    def set_register(self, name: str, value: int) -> None:
        self._run(f"set var ${name} = {value:#x}")


class LldbCommands(Commands):
    """LLDB by its commands. It needs the program's file."""

    step_command = "thread step-inst"

    def __init__(self, run: Callable[[str], str], program: Path) -> None:
        super().__init__(run)
        self._program = program

    def connect(self, address: str) -> None:
        self._run("script lldb.debugger.SetAsync(False)")
        for setting in ("stop-line-count-before 0", "stop-line-count-after 0", "stop-disassembly-count 0"):
            self._run(f"settings set {setting}")
        self._run(f"target create {self._program}")
        self._run(f"gdb-remote {address.rpartition(':')[2]}")

    def place(self) -> Place:
        line = self._search(r"\* thread #\d+: tid = 0x(\w+), 0x(\w+) [^`]*`(\w+)", "thread list")
        return Place(int(line[1], 16), int(line[2], 16), line[3])

    def address(self, name: str) -> int:
        return int(self._search(r"range = \[(0x\w+)", f"image lookup -v -s {name}")[1], 16)

    def break_at(self, function: str, condition: str = "") -> None:
        self._run(f"breakpoint set -n {function}" + (f" -c '{condition}'" if condition else ""))

    def watch(self, address: int, size: int) -> None:
        self._run(f"watchpoint set expression -w write -s {size} -- {address:#x}")

    def clear(self) -> None:
        self._run("breakpoint delete -f")
        self._run("watchpoint delete -f")

    def backtraces(self) -> dict[int, list[str]]:
        printed = self._run("thread backtrace all -c 4")
        parts = re.split(r"^[* ] thread #.*?'vCPU (\d+)'", printed, flags=re.MULTILINE)[1:]
        return {
            int(number) + 1: re.findall(r"frame #\d+: 0x\w+(?: [^`\n]*`(\w+))?", text)
            for number, text in zip(parts[::2], parts[1::2], strict=True)
        }

    def read(self, address: int, size: int) -> int:
        return int(self._search(r": (0x\w+)", f"memory read -s {size} -f x -c 1 {address:#x}")[1], 16)

    def write(self, address: int, size: int, value: int) -> None:
        self._run(f"memory write -s {size} {address:#x} {value:#x}")

    def register(self, name: str) -> int:
        return int(self._search(rf"{name} = (0x\w+)", f"register read {name}")[1], 16)

    def set_register(self, name: str, value: int) -> None:
        self._run(f"register write {name} {value:#x}")


def _files(program: Path | None) -> list[str]:
    return [] if program is None else [str(program)]


@contextlib.contextmanager
def gdb_console(program: Path | None) -> Iterator[Debugger]:
    """Stock gdb, its command line."""
    console = Console([gdb_path(), "-nx", "-q", *_files(program)], r"echo \nmark {} done\n")
    with contextlib.closing(console):
        yield GdbCommands(console)


@contextlib.contextmanager
def gdb_machine_interface(program: Path | None) -> Iterator[Debugger]:
    """gdb by its machine interface, read with pygdbmi's parser."""
    with Gdb(*_files(program), timeout_s=TIMEOUT_S) as gdb:
        yield GdbCommands(gdb)


@contextlib.contextmanager
def lldb_console(program: Path | None) -> Iterator[Debugger]:
    """Stock LLDB, its command line."""
    assert program is not None
    console = Console([lldb_path(), "--no-lldbinit", "--no-use-colors"], r'script print("\nmark {} done")')
    with contextlib.closing(console):
        yield LldbCommands(console, program)


DEBUGGERS = {"gdb": gdb_console, "gdb-mi": gdb_machine_interface, "lldb": lldb_console}
"""Name to driver."""
