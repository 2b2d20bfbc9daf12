"""Lifecycle, memory and state of a machine."""

import pytest

from hv.errors import ConfigError, SnapshotError
from hv.exits import WriteOrigin
from hv.memory import check_size, parse_size
from hv.outcomes import Goal, Reached, Suspended, VcpuStopped
from hv.signals import SuspendReason
from hv.vm import SavedVm
from tests.helpers.fake_vm import make_vm

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256M", 256 * MIB), ("4G", 4096 * MIB), ("2048K", 2 * MIB), ("512", 512 * MIB),
        ("1g", 1024 * MIB), ("64MiB", 64 * MIB),
    ],
)  # fmt: skip
def test_memory_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "12Q", "-5M", "1.5G", "0", "9999999T", "4G extra", "0x10M", "1025K"]
)
def test_impossible_memory_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


def test_memory_is_whole_pages() -> None:
    with pytest.raises(ConfigError):
        check_size(2 * MIB + 1)


@pytest.mark.parametrize(
    ("port", "reason", "value"),
    [(0xF4, SuspendReason.DEBUG_EXIT, 5), (0xF5, SuspendReason.RESET, 0), (0xF6, SuspendReason.POWEROFF, 0)],
)
def test_the_guest_suspends_the_machine(port: int, reason: SuspendReason, value: int) -> None:
    vm = make_vm({0: ("add", 1), 1: ("out", port, 5)}, vcpus=1)
    assert vm.run(Goal()) == Suspended(reason, value)
    # The instruction is complete, and nothing runs any more.
    assert vm.fake_engine.cpus[0].values["rip"] == 2
    assert vm.run(Goal()) == Suspended(reason, value)
    assert vm.fake_engine.cpus[0].count == 2


def test_the_first_reason_stands() -> None:
    vm = make_vm()
    assert vm.suspend(SuspendReason.POWEROFF)
    assert not vm.suspend(SuspendReason.RESET)
    assert vm.run(Goal()) == Suspended(SuspendReason.POWEROFF, 0)


def test_a_triple_fault_stops_with_the_state_kept_and_suspends() -> None:
    vm = make_vm({0: ("add", 7), 1: ("crash",)}, vcpus=1)
    outcome = vm.run(Goal())
    assert isinstance(outcome, VcpuStopped)
    assert vm.vcpus[0].get("rax") == 7
    assert vm.run(Goal()) == Suspended(SuspendReason.TRIPLEFAULT, 0)


def test_reset_starts_over_but_time_goes_on() -> None:
    vm = make_vm({0: ("add", 1), 1: ("store", 0x5000), 2: ("out", 0xF5, 0)}, vcpus=1)
    vm.run(Goal())
    before = vm.clock.now
    vm.reset()
    assert vm.suspended is None
    assert (vm.vcpus[0].get("rip"), vm.vcpus[0].get("rax"), vm.fake_board.resets) == (0, 0, 1)
    assert vm.memory.read(0x5000, 1) == b"\0"
    assert vm.clock.now == before


def test_never_written_and_written_with_zeros_are_the_same_state() -> None:
    vm = make_vm()
    empty = vm.state_hash()
    vm.memory.write(0x3000, b"\1", WriteOrigin.DEBUGGER)
    assert vm.state_hash() != empty
    vm.memory.write(0x3000, b"\0", WriteOrigin.DEBUGGER)
    assert vm.state_hash() == empty
    assert 3 not in vm.save().pages


def test_every_register_and_byte_is_in_the_hash() -> None:
    vm = make_vm()
    seen = {vm.state_hash()}
    vm.vcpus[1].set("rax", 1)
    seen.add(vm.state_hash())
    vm.memory.write(0xFFFFF, b"\1", WriteOrigin.DMA)
    seen.add(vm.state_hash())
    vm.clock.advance(1)
    seen.add(vm.state_hash())
    assert len(seen) == 4


def test_load_makes_memory_exactly_the_saved_one() -> None:
    source, target = make_vm(), make_vm()
    source.memory.write(0x2000, b"abc", WriteOrigin.LOADER)
    target.memory.write(0x9000, b"xyz", WriteOrigin.LOADER)
    target.load(source.save())
    assert target.memory.read(0x2000, 3) == b"abc"
    assert target.memory.read(0x9000, 3) == b"\0\0\0"
    assert target.state_hash() == source.state_hash()


def test_a_state_of_another_machine_is_refused() -> None:
    with pytest.raises(SnapshotError, match="vcpus"):
        make_vm(vcpus=1).load(make_vm(vcpus=2).save())


def test_a_page_outside_memory_is_refused_before_anything_changes() -> None:
    vm = make_vm()
    digest, saved = vm.state_hash(), vm.save()
    with pytest.raises(SnapshotError):
        vm.load(SavedVm(saved.state, {0: b"\1" * 4096, 1 << 40: b"\1" * 4096}))
    assert vm.state_hash() == digest


def test_registers_are_set_all_or_none() -> None:
    vcpu = make_vm().vcpus[0]
    with pytest.raises(ValueError, match="linear_pc"):
        vcpu.set_many([("rax", b"\1" * 8), ("linear_pc", bytes(7) + b"\1")])
    assert vcpu.get("rax") == 0
    with pytest.raises(KeyError):
        vcpu.set_many([("rax", b"\1" * 8), ("nosuch", b"")])
    assert vcpu.get("rax") == 0


def test_capabilities_have_bhyves_names() -> None:
    vcpu = make_vm().vcpus[0]
    for name in ("hlt_exit", "pause_exit", "mtrap_exit", "bpt_exit", "mask_hwintr"):
        vcpu.set_capability(name, True)
        assert vcpu.capability(name)
        vcpu.set_capability(name, False)
        assert not vcpu.capability(name)
    with pytest.raises(ConfigError):
        vcpu.capability("turbo")


def test_cr8_written_from_outside_reaches_the_interrupt_controller() -> None:
    vm = make_vm()
    vm.vcpus[1].set("cr8", 9)
    assert vm.fake_board.priority == [0, 9]
    vm.run(Goal(until=100))
    assert vm.vcpus[1].get("cr8") == 9


def test_a_run_ends_at_its_tick() -> None:
    vm = make_vm({0: ("jmp", 0)}, vcpus=1)
    assert vm.run(Goal(until=12_345)) == Reached()
    assert vm.clock.now == 12_345
