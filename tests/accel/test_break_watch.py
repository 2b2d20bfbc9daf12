"""Breakpoints and watchpoints of the debugger: sets of addresses that the guest cannot see."""

from accel import ffi, lib
from tests.helpers.accel_machine import CODE, DATA, RAM, Machine

DEADLINE, MTRAP, BPT, WATCH = 0, 6, 7, 16
LINEAR, PHYSICAL = 0, 1
ON_WRITE, ON_READ, ON_ACCESS = 1, 2, 3
BY_CPU, BY_WALK, BY_EVENT, BY_DMA = 0, 1, 2, 3
LAST_PAGE = RAM - 0x1000

# L: inc eax; inc ebx; inc ecx; jmp L
LOOP = bytes.fromhex("ffc0 ffc3 ffc1 ebf8")


def stop_at(machine: Machine, address: int, ident: int = 1, space: int = LINEAR) -> int:
    return int(lib.accel_break_add(machine.machine, ident, space, address))


def test_breakpoint_stops_before_its_instruction_without_a_tick() -> None:
    machine = Machine(code=LOOP)
    assert stop_at(machine, CODE + 4, 77) == 0
    end = machine.run(100)
    assert (end.kind, end.rip, end.id, end.inst_length) == (BPT, CODE + 4, 77, 0)
    assert (machine.ticks, machine["rcx"]) == (2, 0)


def test_breakpoint_hits_again_until_it_is_skipped() -> None:
    machine = Machine(code=LOOP)
    stop_at(machine, CODE + 4)
    machine.run(100)
    assert machine.run(100).kind == BPT
    assert machine.ticks == 2
    machine.control.skip_breakpoint = 1
    end = machine.run(100)
    assert (end.kind, machine.ticks) == (BPT, 6)  # once around
    assert machine.control.skip_breakpoint == 0


def test_step_over_a_breakpoint_executes_the_instruction_there() -> None:
    machine = Machine(code=LOOP)
    stop_at(machine, CODE)
    assert machine.run(1).kind == BPT
    machine.control.skip_breakpoint = 1
    assert machine.run(1).kind == DEADLINE
    assert (machine["rax"], machine["rip"]) == (1, CODE + 2)


def test_set_and_removed_breakpoints_reach_code_that_has_run() -> None:
    machine = Machine(code=LOOP)
    machine.run(1000)
    stop_at(machine, CODE + 2)
    assert machine.run(1000).kind == BPT
    assert lib.accel_break_remove(machine.machine, 1) == 0
    assert machine.run(1000).kind == DEADLINE
    assert lib.accel_break_remove(machine.machine, 1) == lib.ACCEL_ENOENT


def test_breakpoint_leaves_memory_alone() -> None:
    machine = Machine(code=LOOP)
    stop_at(machine, CODE)
    machine.run(10)
    assert machine.read(CODE, len(LOOP)) == LOOP


def alias(machine: Machine, linear: int, physical: int) -> None:
    machine.write(0x4000 + (linear >> 12) * 8, (physical | 7).to_bytes(8, "little"))


def test_linear_breakpoint_stops_one_alias_only_and_physical_both() -> None:
    for space, kinds in ((LINEAR, (BPT, DEADLINE)), (PHYSICAL, (BPT, BPT))):
        machine = Machine(code=LOOP)
        alias(machine, LAST_PAGE, CODE)
        stop_at(machine, CODE + 2, space=space)
        seen = []
        for start in (CODE, LAST_PAGE):
            machine["rip"] = start
            seen.append(machine.run(40).kind)
        assert tuple(seen) == kinds


def test_two_breakpoints_on_one_address_survive_the_removal_of_one() -> None:
    machine = Machine(code=LOOP)
    stop_at(machine, CODE + 2, 1)
    stop_at(machine, CODE + 2, 2)
    lib.accel_break_remove(machine.machine, 1)
    end = machine.run(10)
    assert (end.kind, end.id) == (BPT, 2)


def test_breakpoints_do_not_change_the_run() -> None:
    plain, watched = Machine(code=LOOP), Machine(code=LOOP)
    plain.run(1001)
    for offset in (0, 2, 4, 6):
        stop_at(watched, CODE + offset, offset + 1)
    stops = 0
    while watched.ticks < 1001:
        if watched.run(1001 - watched.ticks).kind == BPT:
            stops += 1
            watched.control.skip_breakpoint = 1
    assert stops == 1001
    assert plain.save() == watched.save()


# ---- watchpoints


def hits(machine: Machine) -> list[tuple[int, int, int, int, int, int, int]]:
    box = ffi.new("accel_hit[16]")
    count = lib.accel_watch_hits(machine.cpu, box, 16)
    return [
        (h.id, h.address, h.size, h.write, h.origin, h.old_value, h.new_value)
        for h in (box[i] for i in range(count))
    ]


def watch(machine: Machine, address: int, size: int, kind: int, space: int = LINEAR, ident: int = 5) -> None:
    assert lib.accel_watch_add(machine.machine, ident, space, address, size, kind) == 0


def test_written_watchpoint_reports_old_and_new_value_after_the_tick() -> None:
    machine = Machine(code=bytes.fromhex("8907 90"))  # mov [rdi], eax; nop
    machine["rdi"], machine["rax"] = DATA, 0x11223344
    machine.write(DATA, bytes.fromhex("ddccbbaa"))
    watch(machine, DATA, 4, ON_WRITE)
    end = machine.run(10)
    assert (end.kind, end.rip, machine.ticks) == (WATCH, CODE + 2, 1)
    assert hits(machine) == [(5, DATA, 4, 1, BY_CPU, 0xAABBCCDD, 0x11223344)]
    assert machine.run(1).kind == DEADLINE


def test_watch_of_one_byte_sees_the_wide_store_over_it_and_not_its_neighbour() -> None:
    for at, expected in ((DATA + 7, WATCH), (DATA + 8, DEADLINE)):
        machine = Machine(code=bytes.fromhex("488907 90 90"))
        machine["rdi"] = DATA
        watch(machine, at, 1, ON_WRITE)
        assert machine.run(2).kind == expected


def test_read_watch_ignores_writes_and_access_watch_sees_both() -> None:
    for kind, expected in (
        (ON_READ, [WATCH, DEADLINE]),
        (ON_WRITE, [DEADLINE, WATCH]),
        (ON_ACCESS, [WATCH, WATCH]),
    ):
        machine = Machine(code=bytes.fromhex("8b07 8907"))  # mov eax, [rdi]; mov [rdi], eax
        machine["rdi"] = DATA
        watch(machine, DATA, 4, kind)
        assert [machine.run(1).kind for _ in range(2)] == expected


def test_physical_watch_sees_every_alias() -> None:
    machine = Machine(code=bytes.fromhex("8907 90"))
    alias(machine, LAST_PAGE, DATA)
    machine["rdi"] = LAST_PAGE + 8
    watch(machine, DATA + 8, 1, ON_WRITE, PHYSICAL)
    assert machine.run(5).kind == WATCH


def test_repeated_store_stops_at_the_watched_element() -> None:
    machine = Machine(code=bytes.fromhex("f3aa 90"))  # rep stosb
    machine["rdi"], machine["rcx"], machine["rax"] = DATA, 100, 0x55
    watch(machine, DATA + 40, 1, ON_WRITE)
    assert machine.run(200).kind == WATCH
    assert (machine["rcx"], machine["rdi"]) == (59, DATA + 41)
    assert machine.run(59).kind == DEADLINE
    assert machine.read(DATA, 100) == b"\x55" * 100


def test_watch_set_on_a_page_in_use_takes_effect_at_once_and_ends_with_its_removal() -> None:
    machine = Machine(code=bytes.fromhex("8907 ebfc"))
    machine["rdi"] = DATA
    machine.run(1000)
    watch(machine, DATA, 4, ON_WRITE)
    assert machine.run(1000).kind == WATCH
    assert lib.accel_watch_remove(machine.machine, 5) == 0
    assert machine.run(1000).kind == DEADLINE


def test_stack_pushes_of_an_event_are_seen_with_their_origin() -> None:
    machine = Machine(code=bytes.fromhex("0f0b"))
    gate = (CODE + 0x100) & 0xFFFF | 8 << 16 | 0x8E00 << 32 | (CODE + 0x100 >> 16) << 48
    machine.write(0x9000 + 6 * 16, gate.to_bytes(8, "little") + bytes(8))
    machine["idtr_base"], machine["idtr_limit"] = 0x9000, 0xFFF
    machine.write(0x8008, (0x00AF9B000000FFFF).to_bytes(8, "little"))
    machine["gdtr_base"], machine["gdtr_limit"] = 0x8000, 15
    machine["rsp"] = DATA + 0x100
    watch(machine, DATA + 0x100 - 40, 8, ON_WRITE)
    end = machine.run(3)
    assert (end.kind, end.rip) == (WATCH, CODE + 0x100)
    assert [(h[3], h[4], h[6]) for h in hits(machine)] == [(1, BY_EVENT, CODE)]


def test_a_page_walk_that_sets_accessed_and_dirty_bits_is_a_write_with_its_own_origin() -> None:
    entry = 0x4000 + 8 * (DATA >> 12)
    machine = Machine(
        code=bytes.fromhex("a0 0000020000000000 a2 0000020000000000 90")
    )  # a load, then a store
    assert lib.accel_watch_add(machine.machine, 1, PHYSICAL, entry, 8, ON_WRITE) == 0
    hits = ffi.new("accel_hit[4]")
    for old, new in ((DATA | 0x07, DATA | 0x27), (DATA | 0x27, DATA | 0x67)):
        assert machine.run(10).kind == WATCH
        assert lib.accel_watch_hits(machine.cpu, hits, 4) == 1
        assert (hits[0].address, hits[0].origin) == (entry, BY_WALK)
        assert (hits[0].old_value, hits[0].new_value) == (old, new)
    assert machine.ticks == 2
