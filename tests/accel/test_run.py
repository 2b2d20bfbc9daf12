"""How the core runs, stops and goes on: budgets, exits, faults, events."""

import pytest

from accel import ffi, lib
from tests.helpers.accel_machine import CODE, DATA, RAM, Machine

DEADLINE, INOUT, MMIO, HLT, MTRAP = 0, 2, 3, 4, 6
IRQ_WINDOW, EXCEPTION, TRIPLE_FAULT, WAIT = 11, 13, 17, 20
UNDEFINED, GENERAL_PROTECTION, PAGE_FAULT, DOUBLE_FAULT = 6, 13, 14, 8
HALTED, SHUTDOWN = 1, 2
LAST_PAGE = RAM - 0x1000
DEVICE = 0xFED00000


def code(text: str) -> bytes:
    return bytes.fromhex(text)


def map_page(machine: Machine, linear: int, entry: int) -> None:
    """Change a page-table entry behind the CPU's back; the linear address must not have been used."""
    machine.write(0x4000 + (linear >> 12) * 8, entry.to_bytes(8, "little"))


def device_at(machine: Machine, linear: int) -> None:
    map_page(machine, linear, DEVICE | 7)


# ---- ticks


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_run_stops_exactly_at_its_deadline(bits: int) -> None:
    machine = Machine(bits, code=b"\x90" * 100)
    start = machine["rip"]
    for n in (1, 2, 5, 33, 7):
        before = machine.ticks
        end = machine.run(n)
        assert (end.kind, machine.ticks - before) == (DEADLINE, n)
    assert machine["rip"] - start == 48


def test_deadline_in_the_past_does_nothing() -> None:
    machine = Machine(code=b"\x90" * 8)
    machine.run(3)
    assert machine.run(0).kind == DEADLINE
    assert machine["rip"] == CODE + 3


def test_faulting_instruction_is_no_tick_when_the_owner_takes_the_fault() -> None:
    machine = Machine(code=code("ffc0 ffc0 0f0b"))
    machine.control.exception_exit = 1 << UNDEFINED
    end = machine.run(100)
    assert (end.kind, end.vector, end.rip) == (EXCEPTION, UNDEFINED, CODE + 4)
    assert machine.ticks == 2
    assert machine["rax"] == 2


def test_monitor_trap_leaves_after_one_tick() -> None:
    machine = Machine(code=b"\x90" * 8)
    machine.control.monitor_trap = 1
    assert machine.run(100).kind == MTRAP
    assert (machine.ticks, machine["rip"]) == (1, CODE + 1)


def test_step_range_leaves_when_rip_is_outside() -> None:
    machine = Machine(code=code("90 ebfd") + b"\x90" * 8)  # nop; jmp -3
    machine.control.step_range = 1
    machine.control.step_start, machine.control.step_end = CODE, CODE + 3
    assert machine.run(50).kind == DEADLINE
    machine.write(CODE + 1, b"\x90\x90")
    end = machine.run(50)
    assert (end.kind, end.rip) == (MTRAP, CODE + 3)


# mov ecx,6; again: lea rax,[rip+sub]; call rax; test cl,1; jz even; nop; even: dec ecx; jnz again; jmp out;
# nop; sub: cld; ret; out: nop; jmp $
WALK = code("b906000000 488d050f000000 ffd0 f6c101 7401 90 ffc9 75ed eb03 90 fc c3 90 ebfe")


def walk_at(ticks: int) -> Machine:
    machine = Machine(code=WALK)
    machine.run(ticks)
    return machine


def step_out_of(machine: Machine, start: int, end: int, most: int) -> int | None:
    """Single steps until RIP leaves the range; None if it never does."""
    for _ in range(most):
        machine.run(1)
        if not start <= machine["rip"] < end:
            return machine.ticks
    return None


@pytest.mark.parametrize("first", range(12))
@pytest.mark.parametrize(
    ("start", "end"), [(0, 0x20), (5, 0x1D), (5, 0x16), (0xE, 0x16), (0, 0x13), (0x14, 0x15), (3, 3)]
)
def test_a_range_step_stops_where_single_steps_leave_the_range(first: int, start: int, end: int) -> None:
    stepped, machine = walk_at(first), walk_at(first)
    left_at = step_out_of(stepped, CODE + start, CODE + end, 200)
    machine.control.step_range = 1
    machine.control.step_start, machine.control.step_end = CODE + start, CODE + end
    left = machine.run(200)
    assert left.kind == (DEADLINE if left_at is None else MTRAP)
    assert machine.ticks == (first + 200 if left_at is None else left_at)
    machine.control.step_range = 0
    assert machine.save() == stepped.save()


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 17])
def test_a_range_step_cut_by_deadlines_ends_at_the_same_tick(piece: int) -> None:
    whole, parts = walk_at(1), walk_at(1)
    for machine in (whole, parts):
        machine.control.step_range = 1
        machine.control.step_start, machine.control.step_end = CODE + 5, CODE + 0x1D
    assert whole.run(1000).kind == MTRAP
    while parts.run(piece).kind != MTRAP:
        assert parts.ticks < whole.ticks
    assert parts.ticks == whole.ticks == 53
    assert parts.save() == whole.save()


def test_stop_request_ends_an_endless_loop() -> None:
    machine = Machine(code=code("ebfe"))
    lib.accel_stop(machine.cpu)
    end = machine.run(1 << 40)
    assert end.kind == lib.ACCEL_EXIT_KICK
    assert machine.run(10).kind == DEADLINE


# ---- string instructions


def copier(count: int) -> Machine:
    machine = Machine(code=code("f3a4 48ffc3"))  # rep movsb; inc rbx
    machine["rcx"], machine["rsi"], machine["rdi"] = count, DATA, DATA + 0x5000 - 40
    machine.write(DATA, bytes(range(1, 201)))
    return machine


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 50, 99])
def test_rep_is_the_same_however_often_it_is_cut(cut: int) -> None:
    whole, parts = copier(100), copier(100)
    whole.run(101)
    while parts.ticks < 101:
        parts.run(min(cut, 101 - parts.ticks))
        done = min(parts.ticks, 100)
        assert parts["rcx"] == 100 - done
        assert parts["rip"] == CODE + (0 if done < 100 else 2 if parts.ticks < 101 else 5)
    assert whole.read(DATA, 0x6000) == parts.read(DATA, 0x6000)
    assert whole.save() == parts.save()
    assert lib.accel_retired(parts.cpu) == 2


def test_rep_with_count_zero_is_one_tick() -> None:
    machine = copier(0)
    machine.run(1)
    assert (machine["rip"], machine["rsi"]) == (CODE + 2, DATA)


def test_overlapping_copy_propagates_its_first_byte() -> None:
    machine = copier(64)
    machine["rdi"] = DATA + 1
    machine.run(64)
    assert machine.read(DATA, 65) == b"\x01" * 65


def test_rep_that_faults_keeps_the_iterations_before() -> None:
    machine = copier(100)
    machine.control.exception_exit = 1 << PAGE_FAULT
    machine["rdi"] = RAM - 10
    end = machine.run(200)
    assert (end.kind, end.vector, end.value, end.error) == (EXCEPTION, PAGE_FAULT, RAM, 2)
    assert (machine["rcx"], machine["rsi"], machine["rip"]) == (90, DATA + 10, CODE)
    assert machine.read(RAM - 10, 10) == bytes(range(1, 11))


# ---- code that changes


def test_store_into_the_next_instruction_takes_effect_at_once() -> None:
    # mov byte [rip+1], 41h (the immediate of the next mov); mov al, 0
    machine = Machine(code=code("c605 01000000 41 b000 90"))
    machine.run(2)
    assert machine["rax"] & 0xFF == 0x41


def test_loop_that_patches_itself_counts_with_each_new_immediate() -> None:
    # L: add ebx, 1; inc byte [L+2]; dec ecx; jnz L
    machine = Machine(code=code("83c301 fe05f9ffffff ffc9 75f3"))
    machine["rcx"] = 10
    machine.run(40)
    assert machine["rbx"] == sum(range(1, 11))


def test_loader_write_replaces_decoded_code() -> None:
    machine = Machine(code=code("ffc0 ebfc"))
    machine.run(20)
    machine.write(CODE, code("ffc3"))
    before = machine["rax"]
    machine.run(20)
    assert machine["rax"] == before
    assert machine["rbx"] == 10


def test_instruction_over_a_page_edge_executes_and_notices_changes_in_both_pages() -> None:
    machine = Machine()
    at = CODE + 0xFFE
    machine.write(at, code("b844332211") + code("ebf9"))  # mov eax, 11223344h; jmp back
    machine["rip"] = at
    machine.run(2)
    assert machine["rax"] == 0x11223344
    machine.write(at + 4, b"\x99")
    machine.run(2)
    assert machine["rax"] == 0x99223344
    machine.write(at + 1, b"\x77")
    machine.run(2)
    assert machine["rax"] == 0x99223377


def test_fetch_from_an_absent_second_page_faults_at_that_page() -> None:
    machine = Machine()
    machine.control.exception_exit = 1 << PAGE_FAULT
    map_page(machine, CODE + 0x1000, 0)
    machine.write(CODE + 0xFFE, code("b844"))
    machine["rip"] = CODE + 0xFFE
    end = machine.run(1)
    assert (end.vector, end.value, end.error) == (PAGE_FAULT, CODE + 0x1000, 0x10)
    assert end.rip == CODE + 0xFFE


# ---- devices


def test_device_read_is_answered_and_executed_again() -> None:
    machine = Machine(code=code("8b07 ffc3"))  # mov eax, [rdi]; inc ebx
    device_at(machine, LAST_PAGE)
    machine["rdi"] = LAST_PAGE + 0x24
    end = machine.run(10)
    assert (end.kind, end.gpa, end.size, end.write, end.rip) == (MMIO, DEVICE + 0x24, 4, 0, CODE)
    assert machine.ticks == 0
    assert lib.accel_run(machine.cpu, 10, ffi.new("accel_exit *")) == lib.ACCEL_EBUSY
    machine.answer(0xCAFEF00D)
    assert machine.run(2).kind == DEADLINE
    assert (machine["rax"], machine["rbx"]) == (0xCAFEF00D, 1)


def test_device_read_modify_write_reads_once_and_writes_once() -> None:
    machine = Machine(code=code("0107 90"))  # add [rdi], eax
    device_at(machine, LAST_PAGE)
    machine["rdi"], machine["rax"] = LAST_PAGE, 5
    assert machine.run(10).write == 0
    machine.answer(37)
    end = machine.run(10)
    assert (end.kind, end.write, end.value, end.size, end.gpa) == (MMIO, 1, 42, 4, DEVICE)
    assert machine["rip"] == CODE + 2
    machine.run(1)
    assert machine["rip"] == CODE + 3


def test_port_read_and_write() -> None:
    machine = Machine(code=code("ec e642 66ed"))  # in al, dx; out 42h, al; in ax, dx
    machine["rdx"] = 0x3F8
    end = machine.run(10)
    assert (end.kind, end.number, end.size, end.write) == (INOUT, 0x3F8, 1, 0)
    machine.answer(0xAB)
    end = machine.run(10)
    assert (end.kind, end.number, end.size, end.write, end.value) == (INOUT, 0x42, 1, 1, 0xAB)
    end = machine.run(10)
    assert (end.number, end.size, end.write) == (0x3F8, 2, 0)
    machine.answer(0x1234)
    machine.run(1)
    assert machine["rax"] == 0x1234
    assert machine.ticks == 3


def test_repeated_output_leaves_once_for_each_element() -> None:
    machine = Machine(code=code("f36e 90"))  # rep outsb
    machine["rdx"], machine["rcx"], machine["rsi"] = 0x80, 3, DATA
    machine.write(DATA, b"xyz")
    ends = [machine.run(10) for _ in range(3)]
    assert [chr(e.value) for e in ends] == ["x", "y", "z"]
    assert (machine["rcx"], machine["rsi"], machine["rip"]) == (0, DATA + 3, CODE + 2)


# ---- waiting, events, faults


def test_halt_leaves_behind_the_instruction_and_then_waits() -> None:
    machine = Machine(code=code("f4 90"))
    end = machine.run(10)
    assert (end.kind, end.rip, machine["activity"], machine.ticks) == (HLT, CODE + 1, HALTED, 1)
    assert machine.run(10).kind == WAIT
    assert machine.ticks == 1


def test_interrupt_is_asked_for_only_when_it_can_be_taken() -> None:
    machine = Machine(code=code("90 fb 90 90"))  # nop; sti; nop; nop
    machine.control.intr_line = 1
    end = machine.run(10)
    assert (end.kind, end.rip) == (IRQ_WINDOW, CODE + 3)  # STI holds it back for one instruction
    machine.control.mask_hwintr = 1
    assert machine.run(1).kind == DEADLINE


def idt_entry(handler: int) -> bytes:
    low = handler & 0xFFFF | 8 << 16 | 0x8E00 << 32 | (handler >> 16 & 0xFFFF) << 48
    return low.to_bytes(8, "little") + (handler >> 32).to_bytes(8, "little")


def with_idt(machine: Machine, handlers: dict[int, int]) -> None:
    machine.write(
        0x9000, b"".join(idt_entry(handlers[v]) if v in handlers else bytes(16) for v in range(256))
    )
    machine["idtr_base"], machine["idtr_limit"] = 0x9000, 0xFFF
    machine.write(0x8000, (0).to_bytes(8, "little") + (0x00AF9B000000FFFF).to_bytes(8, "little"))
    machine["gdtr_base"], machine["gdtr_limit"] = 0x8000, 15


def test_injected_interrupt_wakes_a_halted_cpu_and_is_one_tick() -> None:
    machine = Machine(code=code("f4 90"))
    with_idt(machine, {0x30: CODE + 0x100})
    machine.run(1)
    k = machine.control
    k.inject_valid, k.inject_type, k.inject_vector, k.inject_has_error, k.inject_length = 1, 0, 0x30, 0, 0
    before = machine.ticks
    machine.run(1)
    assert (machine["rip"], machine.ticks - before, machine["activity"]) == (CODE + 0x100, 1, 0)
    assert int.from_bytes(machine.read(machine["rsp"], 8), "little") == CODE + 1


def test_exception_is_delivered_through_the_idt_with_its_error_code() -> None:
    machine = Machine(code=code("8b07"))
    with_idt(machine, {PAGE_FAULT: CODE + 0x200})
    machine["rdi"] = RAM + 0x123
    machine.run(1)
    assert (machine["rip"], machine["cr2"]) == (CODE + 0x200, RAM + 0x123)
    frame = machine.read(machine["rsp"], 16)
    assert (int.from_bytes(frame[:8], "little"), int.from_bytes(frame[8:], "little")) == (0, CODE)


def test_fault_without_any_handler_is_a_triple_fault_with_its_chain() -> None:
    machine = Machine(code=code("0f0b"))
    machine["idtr_limit"] = 0
    end = machine.run(10)
    assert (end.kind, machine["activity"]) == (TRIPLE_FAULT, SHUTDOWN)
    chain = ffi.new("accel_fault[8]")
    count = lib.accel_fault_chain(machine.cpu, chain, 8)
    # #UD, whose gate is beyond the limit: #GP; again: #DF; again: shutdown.
    nested = [GENERAL_PROTECTION, GENERAL_PROTECTION, DOUBLE_FAULT, GENERAL_PROTECTION]
    assert [chain[i].vector for i in range(count)] == [UNDEFINED, *nested]
    errors = [UNDEFINED * 8 + 3, GENERAL_PROTECTION * 8 + 3, 0, DOUBLE_FAULT * 8 + 3]
    assert [chain[i].error for i in range(1, count)] == errors
    assert machine.run(10).kind == WAIT


def test_trap_flag_raises_debug_trap_after_one_instruction() -> None:
    machine = Machine(code=b"\x90" * 4)
    with_idt(machine, {1: CODE + 0x300})
    machine["eflags"] = machine["eflags"] | 0x100
    machine.run(2)
    assert machine["rip"] == CODE + 0x300
    assert machine["dr6"] & 0x4000
    assert int.from_bytes(machine.read(machine["rsp"], 8), "little") == CODE + 1


@pytest.mark.parametrize("msr", [0x10, 0x3B])
def test_a_written_tsc_is_told_after_the_write_and_only_when_it_moves(msr: int) -> None:
    m = Machine(code=b"\x0f\x30\x90\x90")  # wrmsr; nop; nop
    m["rcx"], m["rdx"], m["rax"] = msr, 0, 0x5000
    told = m.run(3)
    assert (told.kind, told.rip, m.ticks) == (lib.ACCEL_EXIT_TSC, CODE + 2, 1)
    assert m["tsc_adjust"] == 0x5000
    m["rip"], m["rax"] = CODE, m["tsc_adjust"]
    if msr == 0x3B:
        assert m.run(3).kind == lib.ACCEL_EXIT_DEADLINE


def test_a20_gate_acts_on_translations_that_are_cached() -> None:
    # mov al, fs:[10h]: FS:10h is 100000h, at 0 with the gate closed
    m = Machine(16, code=bytes.fromhex("64a01000 ebfa"))
    m["fs"] = 0xFFFF
    m.write(0, b"\x11")
    m.write(0x100000, b"\x22")
    seen = []
    for gate in (1, 0, 1):
        lib.accel_a20(m.machine, gate)
        m.run(2)
        seen.append(m["rax"] & 0xFF)
    assert seen == [0x22, 0x11, 0x22]


def test_segment_limit_that_the_owner_lowers_is_checked_at_once() -> None:
    m = Machine(32, code=bytes.fromhex("a000000200"))  # mov al, [20000h]
    m.control.exception_exit = 1 << 13
    m["ds_limit"] = 0xFFFF
    done = m.run()
    assert (done.kind, done.vector) == (lib.ACCEL_EXIT_EXCEPTION, 13)


def test_a_page_walk_that_writes_into_decoded_code_is_noticed() -> None:
    """The immediate of a MOV is the entry that maps a page; touching the page sets its accessed bit."""
    machine = Machine(code=code("8a0c2500000200"))  # mov cl, [20000h]
    entry = 0x4000 + 8 * 0x20
    machine.write(entry - 1, b"\xb8")  # mov eax, imm32; also bits 56 to 63 of the entry before
    for place, eax in ((entry - 1, 0x20007), (CODE, 0x20007), (entry - 1, 0x20027)):
        machine["rip"] = place
        machine.run(1)
        assert machine["rax"] == eax


def test_an_interrupt_that_waits_finds_the_halt_behind_sti() -> None:
    machine = Machine(code=code("fb f4 90"))
    with_idt(machine, {0x40: CODE + 0x100})
    machine.control.intr_line = 1
    end = machine.run(10)
    assert (end.kind, end.rip, machine["activity"]) == (HLT, CODE + 2, HALTED)
    end = machine.run(10)
    assert (end.kind, end.rip, machine["activity"]) == (IRQ_WINDOW, CODE + 2, HALTED)
    machine.control.inject_type, machine.control.inject_vector, machine.control.inject_valid = 0, 0x40, 1
    machine.run(1)
    assert (machine["rip"], machine["activity"]) == (CODE + 0x100, 0)
    assert int.from_bytes(machine.read(machine["rsp"], 8), "little") == CODE + 2


@pytest.mark.parametrize(("part", "expected"), [(0xFFE, 0x22223333), (0, 0x33331111)])
def test_an_instruction_that_crosses_into_an_alias_of_its_own_page_sees_writes_to_both_parts(
    part: int, expected: int
) -> None:
    machine = Machine(code=code("66890b"))  # mov [rbx], cx
    page = DATA & ~0xFFF
    map_page(machine, LAST_PAGE - 0x1000, page | 7)
    map_page(machine, LAST_PAGE, page | 7)
    machine.write(page + 0xFFD, code("b8 1111"))  # mov eax, 22221111h in two parts of one page
    machine.write(page, code("2222"))
    seen = []
    for start in (LAST_PAGE - 3, CODE, LAST_PAGE - 3):
        machine["rbx"], machine["rcx"], machine["rip"] = page + part, 0x3333, start
        machine.run(1)
        seen.append(machine["rax"])
    assert seen == [0x22221111, 0x22221111, expected]
