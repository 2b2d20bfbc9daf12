"""Machines and debuggers that end with the test that started them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.gdb_driver import Gdb
from tests.e2e.machine import Machine

StartMachine = Callable[..., Machine]
StartGdb = Callable[..., Gdb]
Debug = Callable[..., tuple[Machine, Gdb]]


@pytest.fixture
def started() -> Iterator[contextlib.ExitStack]:
    """What ends with the test, the last started first."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def run(started: contextlib.ExitStack) -> StartMachine:
    """Start `hv run` with the arguments given."""
    return lambda *arguments, **options: started.enter_context(Machine(*arguments, **options))


@pytest.fixture
def gdb(started: contextlib.ExitStack) -> StartGdb:
    """Start a gdb with the arguments given."""
    return lambda *arguments: started.enter_context(Gdb(*arguments))


@pytest.fixture
def debug(run: StartMachine, gdb: StartGdb, demo_elf: Path) -> Debug:
    """Start the demo guest with a debug server and the arguments given, and a gdb that is connected to it."""

    def start(*arguments: str) -> tuple[Machine, Gdb]:
        machine = run("--gdb", "127.0.0.1:0", *arguments)
        debugger = gdb(str(demo_elf))
        debugger(f"target remote {machine.address()}")
        return machine, debugger

    return start
