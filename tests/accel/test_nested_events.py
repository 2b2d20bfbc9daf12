"""Exceptions raised while another event is delivered: what they make together, the chain, leaving on them.

(SDM vol. 3, "Double Fault Exception (#DF)"; "VM-Exit Information for Events during Event Delivery".)
"""

from collections.abc import Callable

import pytest

from accel import ffi, lib
from tests.helpers.accel_machine import CODE, RAM, STACK, Machine

DEADLINE, EXCEPTION, TRIPLE_FAULT = 0, 13, 17
UD, DF, GP, PF = 6, 8, 13, 14
HWINTR, HARD = 0, 3
HANDLER = CODE + 0x800
ALL = 0xFFFFFFFF


def chain(machine: Machine) -> list[tuple[int, int, int | None, int]]:
    """Type, vector, error code, CR2."""
    box = ffi.new("accel_fault[8]")
    count = lib.accel_fault_chain(machine.cpu, box, 8)
    return [(f.type, f.vector, f.error if f.has_error else None, f.cr2) for f in box[0:count]]


def flight(machine: Machine) -> tuple[int, int, int]:
    control = machine.control
    return control.inflight_valid, control.inflight_type, control.inflight_vector


def inject(machine: Machine, kind: int, vector: int, error: int | None = None) -> None:
    control = machine.control
    control.inject_type, control.inject_vector = kind, vector
    control.inject_has_error, control.inject_error = int(error is not None), error or 0
    control.inject_valid = 1


def undefined(*handled: int) -> Machine:
    """UD2, with handlers for the vectors given (each a jump to itself)."""
    machine = Machine(code=b"\x0f\x0b")
    machine.write(HANDLER, b"\xeb\xfe" * 64)
    for vector in handled:
        machine.handle(vector, HANDLER + 2 * vector)
    machine["idtr_limit"] = 16 * max(handled) + 15 if handled else 0
    return machine


def absent(*handled: int) -> Machine:
    """A load from an address that is not mapped, on a stack that is not; #DF switches to one that is."""
    machine = undefined(*handled)
    machine.write(CODE, bytes.fromhex("8b042510004000"))  # mov eax, [400010h]
    machine["rsp"] = RAM + 0x1000
    machine["tr_base"], machine["tr_limit"] = 0x50000, 0x67
    machine.write(0x50024, STACK.to_bytes(8, "little"))
    machine.handle(DF, HANDLER + 2 * DF, ist=1)
    return machine


def interrupted(*handled: int) -> Machine:
    """An interrupt that finds no gate."""
    machine = undefined(*handled)
    machine.write(CODE, b"\x90" * 16)
    inject(machine, HWINTR, 0xF0)
    return machine


def test_the_chain_of_a_triple_fault_names_every_exception() -> None:
    machine = undefined()
    end = machine.run(10)
    assert (end.kind, end.vector, end.error, machine.ticks) == (TRIPLE_FAULT, GP, 0x43, 1)
    assert chain(machine) == [
        (HARD, UD, None, 0),
        (HARD, GP, 0x33, 0),
        (HARD, GP, 0x6B, 0),
        (HARD, DF, 0, 0),
        (HARD, GP, 0x43, 0),
    ]


def test_a_page_fault_that_makes_a_double_fault_leaves_its_address_in_cr2() -> None:
    machine = absent(PF, DF)
    machine.run(1)
    assert (machine["rip"], machine["cr2"]) == (HANDLER + 2 * DF, RAM + 0xFF8)


def test_the_chain_shows_both_page_faults() -> None:
    machine = absent(PF)
    machine.write(0x40000 + 16 * DF, bytes(16))
    assert machine.run(1).kind == TRIPLE_FAULT
    assert chain(machine)[:3] == [
        (HARD, PF, 0, 0x400010),
        (HARD, PF, 2, RAM + 0xFF8),
        (HARD, DF, 0, RAM + 0xFF8),
    ]


def test_an_intercepted_nested_exception_says_what_was_in_flight() -> None:
    machine = absent(PF, DF)
    machine.control.exception_exit = 1 << PF
    end = machine.run(10)
    assert (end.kind, end.value, flight(machine)) == (EXCEPTION, 0x400010, (0, 0, 0))
    machine["cr2"] = end.value
    inject(machine, HARD, PF, end.error)
    end = machine.run(10)
    assert (end.kind, end.vector, end.value, end.error) == (EXCEPTION, PF, RAM + 0xFF8, 2)
    assert (flight(machine), machine["rip"], machine.ticks) == ((1, HARD, PF), CODE, 0)
    assert chain(machine) == [(HARD, PF, 0, 0x400010), (HARD, PF, 2, RAM + 0xFF8)]


def test_an_event_in_flight_is_delivered_again_and_succeeds_when_its_obstacle_is_gone() -> None:
    machine = interrupted(GP, DF)
    machine.control.exception_exit = 1 << GP
    end = machine.run(10)
    assert (end.kind, end.vector, end.error, flight(machine)) == (EXCEPTION, GP, 0x783, (1, HWINTR, 0xF0))
    assert machine.run(10).kind == EXCEPTION
    machine.handle(0xF0, HANDLER)
    assert (machine.run(1).kind, machine["rip"], machine.ticks) == (DEADLINE, HANDLER, 1)
    assert flight(machine) == (0, 0, 0)


def test_an_exception_injected_beside_an_event_in_flight_makes_a_double_fault_with_it() -> None:
    machine = absent(PF, DF)
    machine.control.exception_exit = 1 << PF
    end = machine.run(10)
    machine["cr2"] = end.value
    inject(machine, HARD, PF, end.error)
    end = machine.run(10)
    machine["cr2"] = end.value
    inject(machine, HARD, PF, end.error)
    machine.run(1)
    assert (machine["rip"], machine["cr2"], flight(machine)) == (HANDLER + 2 * DF, RAM + 0xFF8, (0, 0, 0))


def go_on(machine: Machine, ticks: int) -> list[int]:
    """Run through all exception exits as a monitor would; their vectors."""
    seen: list[int] = []
    while True:
        end = machine.run(ticks - machine.ticks)
        if end.kind != EXCEPTION:
            return seen
        seen.append(end.vector)
        if machine.control.inflight_valid:
            machine.control.pass_exception = 1
            continue
        if end.vector == PF:
            machine["cr2"] = end.value
        inject(machine, HARD, end.vector, end.error if end.has_error else None)


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: undefined(UD), [UD]),
        (lambda: undefined(GP), [UD, GP]),
        (lambda: undefined(), [UD, GP, GP, DF, GP]),
        (lambda: absent(PF, DF), [PF, PF, DF]),
        (lambda: interrupted(GP), [GP]),
        (lambda: interrupted(DF), [GP, GP, DF]),
        (lambda: interrupted(), [GP, GP, DF, GP]),
    ],
)
@pytest.mark.parametrize("bits", [ALL, 1 << DF, 1 << GP])
def test_intercepted_exceptions_leave_the_run_as_it_is(
    make: Callable[[], Machine], seen: list[int], bits: int
) -> None:
    plain, watched = make(), make()
    watched.control.exception_exit = bits
    plain.run(5)
    assert go_on(watched, 5) == [vector for vector in seen if bits >> vector & 1]
    assert plain.save() == watched.save()


def test_an_event_in_flight_is_saved_and_loaded() -> None:
    machine = interrupted(GP)
    machine.control.exception_exit = 1 << GP
    machine.run(5)
    other = undefined(GP)
    assert other.load(machine.save()) == 0
    assert flight(other) == (1, HWINTR, 0xF0)
    other.run(1)
    assert other["rip"] == HANDLER + 2 * GP
