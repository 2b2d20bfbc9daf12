"""The verbs of `verbs.toml`: what a debugger is told, and what must come of it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.scenarios.drivers import Debugger

VCPUS = 4
_MAX_STOPS = 200
_FILE = Path(__file__).with_name("verbs.toml")


def break_on_every_cpu(debugger: Debugger, function: str) -> None:
    debugger.break_at(function)
    seen: set[int] = set()
    for _ in range(_MAX_STOPS):
        debugger.go_on()
        place = debugger.place()
        assert place.function == function
        seen.add(place.thread)
        if len(seen) == VCPUS:
            break
    assert seen == set(range(1, VCPUS + 1))
    debugger.clear()


def step_instructions(debugger: Debugger, function: str, count: int) -> None:
    debugger.break_at(function)
    debugger.go_on()
    debugger.clear()
    first = debugger.place()
    places = []
    for _ in range(count):
        debugger.step()
        places.append(debugger.place())
    assert {place.thread for place in places} == {first.thread}
    assert len({first.address, *[place.address for place in places]}) == count + 1


def finish(debugger: Debugger, function: str, caller: str) -> None:
    debugger.break_at(function)
    debugger.go_on()
    debugger.clear()
    thread = debugger.place().thread
    debugger.finish()
    place = debugger.place()
    assert (place.thread, place.function) == (thread, caller)


def watch(debugger: Debugger, variable: str, size: int) -> None:
    address = debugger.address(variable)
    before = debugger.read(address, size)
    debugger.watch(address, size)
    for number in range(1, 4):
        debugger.go_on()
        assert debugger.read(address, size) >= before + number
    debugger.clear()


def break_on_a_condition(
    debugger: Debugger, function: str, condition: str, register: str, value: int
) -> None:
    debugger.break_at(function, condition)
    for _ in range(3):
        debugger.go_on()
        assert debugger.place().function == function
        assert debugger.register(register) == value
    debugger.clear()


def backtraces(debugger: Debugger, outer: str) -> None:
    found, place = debugger.backtraces(), debugger.place()
    assert found.keys() == set(range(1, VCPUS + 1))
    assert all(found.values())
    assert found[place.thread][0] == place.function
    assert outer in found[place.thread][1:]


def modify_a_variable(debugger: Debugger, variable: str, size: int, value: int) -> None:
    address = debugger.address(variable)
    assert debugger.read(address, size) != value
    debugger.write(address, size, value)
    assert debugger.read(address, size) == value


def modify_a_register(debugger: Debugger, register: str, value: int) -> None:
    before = debugger.register(register)
    assert before != value
    debugger.set_register(register, value)
    assert debugger.register(register) == value
    debugger.set_register(register, before)
    assert debugger.register(register) == before


VERBS: dict[str, Callable[..., None]] = {
    "break on every cpu": break_on_every_cpu,
    "step instructions": step_instructions,
    "finish": finish,
    "watch": watch,
    "break on a condition": break_on_a_condition,
    "backtraces": backtraces,
    "modify a variable": modify_a_variable,
    "modify a register": modify_a_register,
    "detach": lambda debugger: debugger.detach(),
}
"""Name in the file to what is done."""


def steps(guest: str) -> list[tuple[str, dict[str, Any]]]:
    """The verbs of the file and their arguments, for one of its guests."""
    data = tomllib.loads(_FILE.read_text())
    words = data["guests"][guest]
    return [
        (step["verb"], {key: _filled(value, words) for key, value in step.items() if key != "verb"})
        for step in data["steps"]
    ]


def _filled(value: object, words: Mapping[str, object]) -> object:
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        return words[value[1:-1]]
    return value


def play(debugger: Debugger, guest: str) -> None:
    """Carry out the whole file; an error says at which verb."""
    for verb, arguments in steps(guest):
        try:
            VERBS[verb](debugger, **arguments)
        except Exception as error:
            error.add_note(f"verb: {verb} {arguments}")
            raise
