"""Scheduling and the determinism law, on the toy CPU."""

import random

import pytest

from hv.engines.base import Activity
from hv.exits import Wait
from hv.inputs import ConsoleInput
from hv.outcomes import Goal, HaltedForever, Idle, Kicked, Outcome, Reached, Stepped
from tests.helpers.fake_board import IPI, TIMER
from tests.helpers.fake_engine import IF, VECTORS, Program
from tests.helpers.fake_vm import BUSY, FakeVm, make_vm

END = 300_000
QUANTUM = 50_000


def run_to(vm: FakeVm, tick: int) -> None:
    while vm.clock.now < tick:
        outcome = vm.run(Goal(until=tick))
        assert isinstance(outcome, Reached | Kicked)


def fingerprint(vm: FakeVm) -> tuple[int, str]:
    return vm.clock.now, vm.state_hash()


@pytest.fixture(scope="module")
def uncut() -> tuple[int, str]:
    vm = make_vm()
    run_to(vm, END)
    return fingerprint(vm)


def program(*operations: tuple[object, ...], at: int = 0) -> Program:
    return dict(enumerate(operations, at))


def loop(*, length: int = 1) -> Program:
    return program(*[("add", 1)] * length, ("jmp", 0))


def test_two_runs_are_equal(uncut: tuple[int, str]) -> None:
    vm = make_vm()
    run_to(vm, END)
    assert fingerprint(vm) == uncut


@pytest.mark.parametrize("seed", range(6))
def test_a_run_cut_at_any_tick_equals_an_uncut_run(seed: int, uncut: tuple[int, str]) -> None:
    vm, dice, tick = make_vm(), random.Random(seed), 0
    while tick < END:
        tick = min(END, tick + dice.choice((1, 2, 5, 40, 333, 2_000, 20_000)))
        run_to(vm, tick)
    assert fingerprint(vm) == uncut


@pytest.mark.parametrize("seed", range(3))
def test_kicks_change_nothing(seed: int, uncut: tuple[int, str]) -> None:
    vm, dice = make_vm(), random.Random(seed)
    for tick in sorted(dice.randrange(END) for _ in range(200)):
        vm.scheduler.request_stop()
        run_to(vm, tick)
    run_to(vm, END)
    assert fingerprint(vm) == uncut


@pytest.mark.parametrize("seed", range(3))
def test_unmasked_steps_change_nothing(seed: int, uncut: tuple[int, str]) -> None:
    vm, dice = make_vm(), random.Random(seed)
    for tick in sorted(dice.randrange(END - 5_000) for _ in range(40)):
        run_to(vm, tick)
        for _ in range(10):
            outcome = vm.run(Goal(until=END, steps={dice.randrange(2): None}))
            assert isinstance(outcome, Stepped | Reached)
    run_to(vm, END)
    assert fingerprint(vm) == uncut


@pytest.mark.parametrize("seed", range(3))
def test_a_state_loaded_into_a_fresh_machine_goes_on_alike(seed: int, uncut: tuple[int, str]) -> None:
    vm, dice = make_vm(), random.Random(seed)
    for tick in sorted(dice.randrange(END) for _ in range(20)):
        run_to(vm, tick)
        saved, digest = vm.save(), vm.state_hash()
        vm = make_vm()
        vm.load(saved)
        assert vm.state_hash() == digest
    run_to(vm, END)
    assert fingerprint(vm) == uncut


def test_quanta_are_equal_and_in_turn() -> None:
    start: Program = {**loop(length=9), **program(("add", 1), ("jmp", 0), at=0x10000)}
    vm = make_vm(start)
    for cpu in vm.fake_engine.cpus:
        cpu.block.activity = Activity.ACTIVE
    vm.fake_engine.cpus[1].values["cs_base"] = 0x10000
    run_to(vm, 2 * QUANTUM)
    assert [cpu.count for cpu in vm.fake_engine.cpus] == [QUANTUM, QUANTUM]
    assert (vm.scheduler.current, vm.scheduler.remaining) == (0, QUANTUM)


def two_busy_cpus(first: Program, second: Program) -> FakeVm:
    vm = make_vm({**first, **program(*(second[address] for address in sorted(second)), at=0x10000)})
    for cpu in vm.fake_engine.cpus:
        cpu.block.activity = Activity.ACTIVE
    vm.fake_engine.cpus[1].values["cs_base"] = 0x10000
    return vm


def test_whole_quanta_do_not_ask_what_cannot_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = two_busy_cpus(loop(length=9), program(("add", 1), ("jmp", 0)))
    asked: list[int] = []
    ask = vm.board.interrupt_pending

    def noted(vcpu: int) -> bool:
        asked.append(vcpu)
        return ask(vcpu)

    monkeypatch.setattr(vm.board, "interrupt_pending", noted)
    run_to(vm, 10 * QUANTUM)
    assert [cpu.count for cpu in vm.fake_engine.cpus] == [5 * QUANTUM] * 2
    assert len(asked) <= 5


def test_a_quantum_that_ends_early_among_whole_ones_goes_on_where_it_was_left() -> None:
    writes = program(*[("add", 1)] * (2 * QUANTUM), ("out", 0, 7), ("pause",), ("jmp", 0))
    cut, uncut = two_busy_cpus(loop(length=9), writes), two_busy_cpus(loop(length=9), writes)
    while cut.clock.now < 12 * QUANTUM:
        run_to(cut, cut.clock.now + 997)
    run_to(uncut, cut.clock.now)
    assert fingerprint(uncut) == fingerprint(cut)
    assert uncut.scheduler.save() == cut.scheduler.save()


def test_a_halt_among_whole_quanta_ends_the_turn() -> None:
    halts = program(("sti",), *[("add", 1)] * (7 * QUANTUM // 2), ("hlt",), ("jmp", 1))
    cut, uncut = two_busy_cpus(loop(length=9), halts), two_busy_cpus(loop(length=9), halts)
    while cut.clock.now < 12 * QUANTUM:
        run_to(cut, cut.clock.now + 997)
    run_to(uncut, cut.clock.now)
    assert fingerprint(uncut) == fingerprint(cut)
    assert uncut.scheduler.save() == cut.scheduler.save()


def test_a_stop_request_ends_whole_quanta(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = two_busy_cpus(loop(length=9), loop(length=9))
    cpu = vm.fake_engine.cpus[1]
    take_turn = cpu.take_turn

    def kicked(now: int, ticks: int) -> bool:
        vm.scheduler.request_stop()
        return take_turn(now, ticks)

    monkeypatch.setattr(cpu, "take_turn", kicked)
    assert isinstance(vm.run(Goal()), Kicked)


def test_a_lone_cpu_is_not_interrupted_at_quantum_ends() -> None:
    vm = make_vm(loop(length=5), vcpus=1)
    run_to(vm, 10 * QUANTUM + 7)
    assert vm.fake_engine.cpus[0].entries < 3
    assert vm.scheduler.remaining == QUANTUM - 7


def test_pause_yields_only_to_a_cpu_that_can_run() -> None:
    spin = program(("pause",), ("jmp", 0))
    vm = make_vm({**spin, **program(("add", 1), ("jmp", 0), at=0x10000)})
    vm.run(Goal(until=1))
    assert vm.scheduler.current == 0
    vm.fake_engine.cpus[1].block.activity = Activity.ACTIVE
    vm.fake_engine.cpus[1].values["cs_base"] = 0x10000
    vm.run(Goal(until=vm.clock.now + 3))
    assert vm.scheduler.current == 1


def test_pause_costs_machine_time() -> None:
    vm = make_vm(program(("pause",), ("jmp", 0)), vcpus=1)
    vm.run(Goal(steps={0: None}))
    assert vm.clock.now == 1 + 1_000


def test_device_access_costs_machine_time_and_is_stamped_exactly() -> None:
    vm = make_vm(program(("add", 1), ("add", 1), ("out", 0x40, 9), ("jmp", 3)), vcpus=1)
    for _ in range(3):
        vm.run(Goal(steps={0: None}))
    # Armed at tick 3, when the instruction has retired; then the access is charged.
    assert vm.clock.now == 3 + 500
    assert vm.clock.next_deadline() == 3 + 900


def test_an_interrupt_is_taken_at_the_first_boundary_that_allows_it() -> None:
    code: Program = {
        **program(("out", 0x40, 1), ("add", 1), ("add", 1), ("sti",), ("add", 10), ("add", 100), ("jmp", 6)),
        VECTORS + TIMER: ("jmp", VECTORS + TIMER),
    }
    vm = make_vm(code, vcpus=1)
    vm.run(Goal(until=510))
    cpu = vm.fake_engine.cpus[0]
    # STI shadows one instruction: the first addition behind it still runs.
    assert cpu.values["rax"] == 1 + 1 + 10
    assert cpu.values["rip"] == VECTORS + TIMER
    assert cpu.stack[0][0] == 5


def test_a_halted_cpu_wakes_at_the_timer_and_time_jumps() -> None:
    code = {**program(("out", 0x40, 200), ("sti",), ("hlt",), ("jmp", 3)), VECTORS + TIMER: ("iret",)}
    vm = make_vm(code, vcpus=1)
    vm.run(Goal(steps={0: None}))
    armed = vm.clock.now - 500
    for _ in range(3):
        vm.run(Goal(steps={0: None}))
    assert vm.clock.now == armed + 20_000 + 1
    assert vm.fake_engine.cpus[0].values["rip"] == VECTORS + TIMER


def test_under_the_host_clock_an_idle_machine_asks_to_wait() -> None:
    vm = make_vm(program(("out", 0x40, 200), ("sti",), ("hlt",)), vcpus=1, host_clock=True)
    assert vm.run(Goal()) == Idle(1 + 20_000)
    assert vm.run(Goal()) == Idle(1 + 20_000)


def test_halted_without_a_timer_waits_for_input() -> None:
    vm = make_vm(program(("sti",), ("hlt",), ("jmp", 1)), vcpus=1)
    assert vm.run(Goal()) == Idle(None)
    vm.door.submit(ConsoleInput(0, b"x"))
    assert vm.run(Goal(steps={0: None})) == Stepped(0)


def test_halted_with_interrupts_disabled_is_for_ever() -> None:
    vm = make_vm(program(("out", 0x41, 1), ("cli",), ("hlt",)), vcpus=1)
    assert vm.run(Goal()) == HaltedForever()


def test_startup_wakes_only_a_cpu_that_waits_for_it() -> None:
    vm = make_vm(program(("out", 0x81, 1), ("jmp", 1)))
    vm.run(Goal(until=600))
    cpu = vm.fake_engine.cpus[1]
    assert (cpu.block.activity, cpu.values["cs"], cpu.values["cs_base"]) == (Activity.ACTIVE, 0x1000, 0x10000)


def test_a_second_ipi_with_the_same_vector_is_a_second_interrupt() -> None:
    code: Program = {
        **program(("out", 0x81, 1), ("pause",), ("out", 0x80, 1), ("pause",), ("out", 0x80, 1), ("pause",),
                  ("jmp", 5)),
        **program(("sti",), ("add", 0), ("jmp", 1), at=0x10000),
        VECTORS + IPI: ("add", 1),
        VECTORS + IPI + 1: ("iret",),
    }  # fmt: skip
    vm = make_vm(code)
    run_to(vm, 400_000)
    assert vm.fake_engine.cpus[1].values["rax"] == 2


def test_a_masked_step_holds_an_interrupt_back_and_leaves_it_pending() -> None:
    code = {**program(("out", 0x40, 1), ("sti",), ("add", 1), ("jmp", 2)), VECTORS + TIMER: ("iret",)}
    vm = make_vm(code, vcpus=1)
    vm.run(Goal(until=502))
    cpu = vm.fake_engine.cpus[0]
    assert vm.fake_board.pending == [[TIMER]]
    for _ in range(20):
        assert vm.run(Goal(steps={0: None}, masked=True)) == Stepped(0)
        assert cpu.values["rip"] < 4
    assert cpu.block.mask_hwintr == 0
    assert vm.run(Goal(steps={0: None})) == Stepped(0)
    assert cpu.values["rip"] == VECTORS + TIMER


def test_a_masked_step_over_a_halt_stops_behind_it_and_the_next_wakes_in_the_handler() -> None:
    code = {**program(("out", 0x40, 99), ("sti",), ("hlt",), ("add", 1)), VECTORS + TIMER: ("iret",)}
    vm = make_vm(code, vcpus=1)
    cpu = vm.fake_engine.cpus[0]
    for _ in range(3):
        vm.run(Goal(steps={0: None}, masked=True))
    assert (cpu.values["rip"], cpu.block.activity) == (3, Activity.HALTED)
    assert vm.run(Goal(steps={0: None}, masked=True)) == Stepped(0)
    assert cpu.values["rip"] == VECTORS + TIMER


def test_a_range_step_ends_outside_the_range() -> None:
    vm = make_vm(program(*[("add", 1)] * 9, ("jmp", 0)), vcpus=1)
    assert vm.run(Goal(steps={0: (0, 6)})) == Stepped(0)
    assert vm.fake_engine.cpus[0].values["rip"] == 6


def test_a_restricted_run_executes_the_allowed_cpu_only() -> None:
    vm = make_vm(BUSY)
    run_to(vm, 20_000)
    before = [cpu.count for cpu in vm.fake_engine.cpus]
    other = 1 - vm.scheduler.current
    vm.fake_engine.cpus[other].block.activity = Activity.ACTIVE
    assert vm.run(Goal(steps={other: None}, allowed=frozenset({other}))) == Stepped(other)
    moved = [cpu.count - old for cpu, old in zip(vm.fake_engine.cpus, before, strict=True)]
    assert moved[other] == 1
    assert moved[1 - other] == 0


def test_a_frozen_machine_whose_only_free_cpu_cannot_wake_just_waits() -> None:
    vm = make_vm(BUSY)
    assert vm.run(Goal(allowed=frozenset({1}))) == Idle(None)
    assert vm.clock.now == 0


def test_a_stray_wait_exit_does_not_stop_the_machine() -> None:
    vm = make_vm(loop(), vcpus=1)
    vm.fake_engine.cpus[0].exits.append(Wait())
    assert vm.run(Goal(until=50)) == Reached()


def test_the_interrupt_flag_decides_whether_a_pending_interrupt_wakes() -> None:
    vm = make_vm(program(("hlt",), ("jmp", 0)), vcpus=1)
    outcome: Outcome = vm.run(Goal())
    assert outcome == HaltedForever()
    vm.fake_board.raise_irq(0, TIMER)
    assert vm.run(Goal()) == HaltedForever()
    vm.fake_engine.cpus[0].values["eflags"] = IF
    assert vm.run(Goal(steps={0: None})) == Stepped(0)
