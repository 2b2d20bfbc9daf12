"""The software core behind the engine protocol: real instructions on the `bare` machine."""

import threading
import time
from collections.abc import Iterator

import pytest

from hv.debug.stops import fault_text
from hv.device import Registers
from hv.engines.base import Activity, AddressSpace, Branch, EventType, WatchAccess
from hv.engines.soft import SoftEngine
from hv.exits import (
    Bpt,
    BptSource,
    EventInFlight,
    ExceptionExit,
    Fault,
    TripleFault,
    Unhandled,
    Watch,
    WriteOrigin,
)
from hv.machines.bare import build_bare
from hv.outcomes import Goal, HaltedForever, Kicked, Reached, Stepped, Suspended, VcpuStopped
from hv.paging import writable_pieces
from hv.signals import SuspendReason
from hv.vm import Vm

CODE = 0x7C00


class Ports:
    """Notes accesses; reads give the number of accesses so far."""

    def __init__(self) -> None:
        self.log: list[tuple[int, int, int | None]] = []

    def read(self, offset: int, size: int) -> int:
        self.log.append((offset, size, None))
        return len(self.log)

    def write(self, offset: int, size: int, value: int) -> None:
        self.log.append((offset, size, value))


Machine = tuple[Vm, Ports]


@pytest.fixture
def machines() -> Iterator[list[Vm]]:
    made: list[Vm] = []
    yield made
    for vm in made:
        vm.close()


def real_mode(machines: list[Vm], code: str, **registers: int) -> Machine:
    """A machine that executes `code` (hex) at 0:7C00 in real mode, with a device at ports 10h-1Fh."""

    def boot(vm: Vm) -> None:
        vm.memory.write(CODE, bytes.fromhex(code), WriteOrigin.LOADER)
        vcpu = vm.vcpus[0]
        for name, value in {
            "cs": 0,
            "cs_base": 0,
            "rip": CODE,
            "rsp": 0x7000,
            "eflags": 2,
            **registers,
        }.items():
            vcpu.set(name, value)

    vm = build_bare(SoftEngine(), boot=boot)
    machines.append(vm)
    ports = Ports()
    device: Registers = ports
    vm.board.ports.add(0x10, 0x10, device, width=4)
    vm.board.mmio.add(0xFEB0_0000, 0x1000, device, width=8)
    return vm, ports


def test_port_accesses_reach_the_device_once_and_in_order(machines: list[Vm]) -> None:
    # mov al,55; out 10,al; in ax,12; mov bx,ax; in al,dx (dx=14); hlt
    vm, ports = real_mode(machines, "b055 e610 e512 89c3 ec f4", rdx=0x14)
    assert vm.run(Goal()) == HaltedForever()
    assert ports.log == [(0, 1, 0x55), (2, 2, None), (4, 1, None)]
    assert (vm.vcpus[0].get("rbx"), vm.vcpus[0].get("rax") & 0xFF) == (2, 3)
    assert vm.vcpus[0].cpu.ticks() == 6


def test_string_input_reads_once_per_iteration_and_each_is_a_tick(machines: list[Vm]) -> None:
    # rep insb; hlt
    vm, ports = real_mode(machines, "f36c f4", rcx=5, rdx=0x10, rdi=0x5000)
    assert vm.run(Goal()) == HaltedForever()
    assert vm.memory.read(0x5000, 6) == bytes([1, 2, 3, 4, 5, 0])
    assert len(ports.log) == 5
    assert vm.vcpus[0].cpu.ticks() == 6
    assert vm.vcpus[0].cpu.retired() == 2


def test_an_access_nobody_owns_reads_ones(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "e470 f4")  # in al,70; hlt
    vm.run(Goal())
    assert vm.vcpus[0].get("rax") & 0xFF == 0xFF
    assert vm.board.ports.unowned_reads == 1


def test_an_msr_that_nobody_owns_is_a_general_protection_fault(machines: list[Vm]) -> None:
    # IVT entry 13 -> 0:8000; mov ecx,12345678h; rdmsr. Handler: hlt
    vm, _ = real_mode(machines, "66b978563412 0f32")
    vm.memory.write(13 * 4, (0x8000).to_bytes(4, "little"), WriteOrigin.LOADER)
    vm.memory.write(0x8000, b"\x90\xf4", WriteOrigin.LOADER)
    assert vm.run(Goal()) == HaltedForever()
    assert vm.vcpus[0].get("rip") == 0x8002
    saved_ip = vm.memory.read(0x7000 - 6, 2)
    assert saved_ip == (CODE + 6).to_bytes(2, "little")
    vm.state_hash()


def test_a_breakpoint_stops_before_its_instruction_and_is_passed_over_once(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "40 40 40 ebfb")  # inc ax three times; jmp to the first
    vm.engine.add_breakpoint(7, AddressSpace.LINEAR, CODE + 1)
    for expected in (1, 4, 7):
        outcome = vm.run(Goal())
        assert outcome == VcpuStopped(0, Bpt(CODE + 1, BptSource.SET, 7, 0))
        assert vm.vcpus[0].get("rax") == expected
        vm.scheduler.pass_over.add(0)
    vm.engine.remove_breakpoint(7)
    assert vm.run(Goal(until=1_000)) == Reached()


def test_a_guests_breakpoint_leaves_only_with_the_capability(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "cc f4")
    vm.memory.write(3 * 4, (0x8000).to_bytes(4, "little"), WriteOrigin.LOADER)
    vm.memory.write(0x8000, b"\x40\xcf", WriteOrigin.LOADER)  # inc ax; iret
    vm.vcpus[0].set_capability("bpt_exit", True)
    assert vm.run(Goal()) == VcpuStopped(0, Bpt(CODE, BptSource.GUEST, 0, 1))
    assert vm.vcpus[0].get("rip") == CODE
    assert vm.vcpus[0].inject(EventType.SW_EXCEPTION, 3, length=1)
    assert vm.run(Goal()) == HaltedForever()
    assert vm.vcpus[0].get("rax") == 1
    assert vm.vcpus[0].get("rip") == CODE + 2


def test_a_watchpoint_reports_after_the_store(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "c606005042 f4")  # mov byte [5000],42; hlt
    vm.engine.add_watchpoint(3, AddressSpace.LINEAR, 0x5000, 1, WatchAccess.WRITE)
    outcome = vm.run(Goal())
    assert isinstance(outcome, VcpuStopped)
    assert isinstance(outcome.exit, Watch)
    hit = outcome.exit.hits[0]
    assert (hit.id, hit.address, hit.old, hit.new, hit.write) == (3, 0x5000, 0, 0x42, True)
    assert hit.origin is WriteOrigin.CPU
    assert vm.vcpus[0].get("rip") == CODE + 5


def test_a_triple_fault_keeps_the_state_and_names_its_faults(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "0f0b", idtr_limit=0)  # ud2 without a vector table
    outcome = vm.run(Goal())
    assert isinstance(outcome, VcpuStopped)
    assert isinstance(outcome.exit, TripleFault)
    assert {fault.vector for fault in outcome.exit.chain} >= {8, 13}
    assert all(fault.rip == CODE for fault in outcome.exit.chain)
    assert vm.vcpus[0].activity is Activity.SHUTDOWN
    assert vm.vcpus[0].get("rip") == CODE


def test_debug_exit_ends_the_machine(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "b021 e6f4 f4")
    assert vm.run(Goal()) == Suspended(SuspendReason.DEBUG_EXIT, 0x21)


def test_steps_are_single_instructions(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "40 40 e510 fb fa 9c 9d f4")
    lengths = []
    for _ in range(7):
        before = vm.vcpus[0].get("rip")
        assert vm.run(Goal(steps={0: None})) == Stepped(0)
        lengths.append(vm.vcpus[0].get("rip") - before)
    assert lengths == [1, 1, 2, 1, 1, 1, 1]


def test_kicked_inside_a_device_access_the_instruction_is_still_finished(machines: list[Vm]) -> None:
    vm, ports = real_mode(machines, "e410 e410 e410 f4")
    original = ports.read

    def read(offset: int, size: int) -> int:
        vm.scheduler.request_stop()
        return original(offset, size)

    vm.board.ports.remove(vm.board.ports._map[0x10])  # type: ignore[arg-type]
    ports.read = read  # type: ignore[method-assign]
    vm.board.ports.add(0x10, 0x10, ports, width=4)
    for count in (1, 2, 3):
        vm.run(Goal())
        assert len(ports.log) == count
        assert vm.vcpus[0].cpu.ticks() == count
        vm.state_hash()


def test_reads_through_the_cpus_view_stop_at_the_end_of_memory(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "f4")
    cpu = vm.vcpus[0].cpu
    assert cpu.read_linear(CODE, 1) == b"\xf4"
    assert len(cpu.read_linear((1 << 20) - 4, 16)) == 4
    assert cpu.read_linear(0xFEB0_0000, 4) == b""
    assert writable_pieces(vm.engine, cpu, (1 << 20) - 2, b"abcd") == 1 << 20
    assert writable_pieces(vm.engine, cpu, 0x1FFE, b"abcd") == [(0x1FFE, b"ab"), (0x2000, b"cd")]


def test_a_wide_access_to_a_device_is_unhandled_with_its_bytes(machines: list[Vm]) -> None:
    # movaps xmm0,[ebx] with SSE on and the device mapped flat: big real mode limit
    vm, _ = real_mode(machines, "67 0f2803 f4", rbx=0xFEB0_0000, cr4=0x200, ds_limit=0xFFFF_FFFF)
    outcome = vm.run(Goal())
    assert isinstance(outcome, VcpuStopped)
    assert isinstance(outcome.exit, Unhandled)
    assert outcome.exit.code.startswith(bytes.fromhex("670f2803"))


@pytest.mark.parametrize("name", ["nosuch", "", "RAX"])
def test_a_register_that_is_none_is_a_key_error(machines: list[Vm], name: str) -> None:
    vm, _ = real_mode(machines, "f4")
    with pytest.raises(KeyError):
        vm.vcpus[0].get(name)
    assert vm.vcpus[0].get_many(["rip", name])[1] is None


def test_many_registers_at_once_are_what_each_is_alone(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "f4", rax=0x1122334455667788, rdx=0xCAFE)
    cpu = vm.vcpus[0].cpu
    cpu.write_register("xmm3", bytes(range(16)))
    names = ("rdx", "xmm3", "eflags", "nosuch", "cs", "rax", "neither", "rdx")
    alone = tuple(None if cpu.register_size(name) is None else cpu.read_register(name) for name in names)
    assert cpu.read_registers(names) == alone
    assert alone[3] is alone[6] is None
    assert alone[1] == bytes(range(16))
    assert cpu.read_registers(()) == ()


def test_reads_through_page_tables_wrap_and_stop_where_nothing_is_mapped(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "f4")
    cpu = vm.vcpus[0].cpu
    vm.memory.write(0x3FFE, b"abcd", WriteOrigin.LOADER)
    assert cpu.read_linear(0x3FFE, 4) == b"abcd"
    assert cpu.read_linear(0x3FFE + (1 << 64), 4) == b"abcd"
    assert cpu.read_linear(0x3FFE, 0) == b""


def test_port_reads_are_fast(machines: list[Vm]) -> None:
    # mov ecx,30000; again: in al,dx; loop again; hlt
    vm, ports = real_mode(machines, "66b930750000 ec e2fd f4", rdx=0x10)
    start = time.thread_time()
    for _ in range(30_000):
        ports.read(0, 1)
    called = time.thread_time()
    vm.run(Goal())
    # Beside the device's own work; a loose bound, some ten is usual.
    assert time.thread_time() - called < 100 * (called - start)


def test_taken_branches_are_kept_while_the_trace_is_on(machines: list[Vm]) -> None:
    # jmp +2; hlt; hlt; jmp $
    vm, _ = real_mode(machines, "eb02 f4f4 ebfe")
    cpu = vm.vcpus[0].cpu
    cpu.control.branch_trace = 1
    vm.run(Goal(until=3))
    there = Branch(CODE + 4, CODE + 4)
    assert cpu.branches(100) == [there, there, Branch(CODE, CODE + 4)]
    assert (cpu.branches(1), cpu.branch_count()) == ([there], 3)
    cpu.resize_branches(64)
    assert cpu.branches(100) == []
    with pytest.raises(ValueError):
        cpu.resize_branches(0)


def test_an_exception_during_the_delivery_of_an_interrupt_names_it(machines: list[Vm]) -> None:
    vm, _ = real_mode(machines, "9090", idtr_limit=0x80)
    cpu = vm.vcpus[0].cpu
    cpu.control.exception_exit = 1 << 13
    vm.vcpus[0].inject(EventType.HWINTR, 0x40)
    outcome = vm.run(Goal())
    assert isinstance(outcome, VcpuStopped)
    interrupt, fault = Fault(0x40, None, 0, CODE, EventType.HWINTR), Fault(13, 0x203, 0, CODE)
    during = EventInFlight(EventType.HWINTR, 0x40, None)
    assert outcome.exit == ExceptionExit(CODE, 13, 0x203, 0, during, (interrupt, fault))
    assert [fault_text(f) for f in (interrupt, fault)] == [
        "interrupt 0x40 at 0x7c00",
        "#GP at 0x7c00, error 0x203",
    ]
    cpu.control.pass_exception = 1
    vm.run(Goal(until=vm.clock.now + 1))
    assert (cpu.ticks(), cpu.control.inflight_valid) == (1, 0)


def test_an_access_may_pass_a_timer_that_is_nearer_than_the_cpu_is_old(machines: list[Vm]) -> None:
    # out 10,al; out 10,al; hlt: two ticks of the CPU, two accesses of 500 ticks each
    vm, ports = real_mode(machines, "e610 e610 f4")
    fired: list[int] = []
    vm.clock.timer("early", lambda: fired.append(vm.clock.now)).arm(100)
    assert vm.run(Goal()) == HaltedForever()
    assert ports.log == [(0, 1, 0), (0, 1, 0)]
    assert fired == [501]


def test_a_refused_access_takes_no_time(machines: list[Vm]) -> None:
    # rdmsr, which ends at the #GP handler: hlt, at 0:0
    vm, _ = real_mode(machines, "0f32", rcx=0x1234_5678)
    vm.memory.write(0, b"\xf4", WriteOrigin.LOADER)
    assert vm.run(Goal()) == HaltedForever()
    assert vm.clock.now == 2  # the event and the halt


def test_a_stop_request_never_has_a_device_read_twice(machines: list[Vm]) -> None:
    # again: in al,dx; test al,1; jmp again
    vm, ports = real_mode(machines, "ec a801 ebfb", rdx=0x10)
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(0.0002):
            vm.scheduler.request_stop()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(3_000):
            assert isinstance(vm.run(Goal()), Kicked)
    finally:
        done.set()
        thread.join()
    assert len(ports.log) == (vm.vcpus[0].cpu.ticks() + 2) // 3
