"""Page tables read as a whole agree with the engine, page by page; and work is bounded."""

import contextlib
import random
from collections.abc import Generator, Iterator

import pytest

from gdbstub.capabilities import MemoryRegion
from hv.debug.regions import MAX_TABLES, paging_registers, region_at
from hv.engines.base import CpuModel
from hv.engines.soft import SoftEngine
from hv.exits import WriteOrigin
from hv.machines.bare import build_bare
from hv.page_tables import Leaf, PageWalk, layout_of
from hv.vm import Vm
from tests.helpers.paging_guest import MODES, NX, PS, P, Tables, U, W

RAM = 64 << 20


@pytest.fixture
def vm() -> Iterator[Vm]:
    made = build_bare(SoftEngine(), boot=lambda vm: None, ram=RAM, model=CpuModel.MAX)
    yield made
    made.close()


def done(search: Generator[None, None, MemoryRegion]) -> tuple[MemoryRegion, int]:
    """The region, and in how many slices it was found."""
    found: list[MemoryRegion] = []

    def run() -> Generator[None, None, None]:
        found.append((yield from search))

    slices = sum(1 for _ in run())
    return found[0], slices


def region(vm: Vm, address: int) -> MemoryRegion:
    return done(region_at(vm, 0, address))[0]


def leaves(vm: Vm, first: int = 0, *, backwards: bool = False) -> list[Leaf]:
    registers = paging_registers(vm, 0)
    layout = layout_of(registers)
    assert layout is not None
    walk = PageWalk(vm.engine.read_physical, registers, layout)
    return [leaf for leaf in walk.leaves(first, backwards=backwards) if leaf is not None]


def random_tables(mode: str, seed: int) -> Tables:
    """Pages of every size in a few places, with random rights, also ones that a reserved bit spoils."""
    rng = random.Random(f"{mode} {seed}")
    tables = Tables(mode)
    sizes = [shift for shift in tables.shifts if shift <= 30]
    if mode.startswith("PAE") or "without PSE" in mode:
        sizes.remove(tables.shifts[0])
    bits = 32 if tables.shifts[0] <= 30 else 48 if tables.shifts[0] == 39 else 57
    bases = [rng.getrandbits(bits) >> 22 << 22 for _ in range(6)] + [0, (1 << bits) - (1 << 22)]
    for base in bases:
        at = base
        for _ in range(rng.randrange(1, 30)):
            shift = rng.choice([12, 12, 12, *sizes])
            at = at >> shift << shift
            flags = rng.choice([P, 0]) | rng.choice([0, W]) | rng.choice([0, U]) | rng.choice([0x20, 0x60, 0])
            if tables.entry_size == 8:
                flags |= rng.choice([0, 0, NX]) | rng.choice([0] * 20 + [1 << 50])
            gpa = rng.randrange(0, 1 << 28) >> shift << shift
            with contextlib.suppress(KeyError):
                tables.map(at, gpa, flags, shift, tables=P | rng.choice([0, W]) | rng.choice([U, U, 0]))
            at = (at + (1 << shift)) % (1 << bits)
    return tables


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", MODES)
def test_every_page_and_its_rights_are_what_the_engine_says(vm: Vm, mode: str, seed: int) -> None:
    random_tables(mode, seed).use(vm)
    found = leaves(vm)
    assert found
    assert [leaf.linear for leaf in found] == sorted({leaf.linear for leaf in found})
    cpu = vm.vcpus[0].cpu
    for leaf in found:
        for offset in (0, (1 << leaf.shift) - 1):
            told = cpu.translate(leaf.linear + offset)
            assert told is not None, leaf
            assert told.gpa == leaf.gpa + offset
            assert told.page_shift == leaf.shift
            assert (told.writable, told.user, told.executable) == (
                leaf.writable, leaf.user, leaf.executable,
            )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", MODES)
def test_what_is_passed_over_is_not_mapped(vm: Vm, mode: str, seed: int) -> None:
    tables = random_tables(mode, seed)
    tables.use(vm)
    found = leaves(vm)
    cpu = vm.vcpus[0].cpu
    ends = [0, *(leaf.linear + (1 << leaf.shift) for leaf in found)]
    starts = [*(leaf.linear for leaf in found), 1 << 32 if tables.shifts[0] <= 30 else 1 << 64]
    rng = random.Random(seed)
    gaps = [(end, start) for end, start in zip(ends, starts, strict=True) if start > end]
    assert gaps
    for end, start in gaps:
        for address in (end, start - 1, rng.randrange(end, start), rng.randrange(end, start)):
            assert cpu.translate(address) is None, hex(address)


@pytest.mark.parametrize("mode", MODES)
def test_backwards_is_the_same_the_other_way_round(vm: Vm, mode: str) -> None:
    random_tables(mode, 9).use(vm)
    found = leaves(vm)
    assert leaves(vm, (1 << 64) - 1, backwards=True) == found[::-1]
    middle = found[len(found) // 2]
    inside = middle.linear + (1 << middle.shift) - 1
    assert leaves(vm, inside) == [leaf for leaf in found if leaf.linear >= middle.linear]
    assert leaves(vm, inside, backwards=True) == [leaf for leaf in found if leaf.linear <= inside][::-1]


@pytest.mark.parametrize("mode", MODES)
def test_regions_cover_the_space_and_each_is_found_from_all_its_addresses(vm: Vm, mode: str) -> None:
    random_tables(mode, 5).use(vm)
    cpu = vm.vcpus[0].cpu
    at, before = 0, None
    while at < 1 << 64:
        here = region(vm, at)
        assert here.start == at
        assert here.size > 0
        for address in (at + here.size - 1, at + here.size // 2):
            assert region(vm, address) == here
        told = cpu.translate(at)
        if at < 1 << 32 or len(MODES[mode][0]) > 3:
            assert here.readable is (told is not None)
        if told is not None and here.readable:
            assert (here.writable, here.executable) == (told.writable, told.executable)
        if before is not None:
            assert (before.readable, before.writable, before.executable, before.name) != (
                here.readable, here.writable, here.executable, here.name,
            )  # fmt: skip
        before = here
        at += here.size


def test_regions_of_a_kernel_like_layout(vm: Vm) -> None:
    tables = Tables("4-level")
    for page in range(3):
        tables.map(0x40_0000 + page * 0x1000, 0x20_0000 + page * 0x1000, P | U)
    tables.map(0x40_3000, 0x30_0000, P | U | W | NX)
    for page in range(4):
        tables.map(0xFFFF_8880_0000_0000 + (page << 21), page << 21, P | W | NX, 21)
    tables.map(0xFFFF_FFFF_FF5F_F000, 0xFEE0_0000, P | W | NX)
    tables.use(vm)
    assert region(vm, 0) == MemoryRegion(0, 0x40_0000)
    code = MemoryRegion(0x40_0000, 0x3000, readable=True, executable=True, name="user")
    assert region(vm, 0x40_0000) == region(vm, 0x40_2FFF) == code
    assert region(vm, 0x40_3000) == MemoryRegion(0x40_3000, 0x1000, readable=True, writable=True, name="user")
    hole = MemoryRegion(0x40_4000, 0xFFFF_8880_0000_0000 - 0x40_4000)
    assert region(vm, 0x40_4000) == region(vm, 1 << 47) == region(vm, 0xFFFF_8000_0000_0000) == hole
    direct = MemoryRegion(0xFFFF_8880_0000_0000, 4 << 21, readable=True, writable=True, name="supervisor")
    assert region(vm, 0xFFFF_8880_0060_0000) == direct
    device = region(vm, 0xFFFF_FFFF_FF5F_F123)
    assert (device.size, device.name) == (0x1000, "unmapped supervisor")
    assert region(vm, (1 << 64) - 1).start == 0xFFFF_FFFF_FF60_0000


def test_without_paging_it_is_physical_memory(vm: Vm) -> None:
    ram = MemoryRegion(0, RAM, readable=True, writable=True, executable=True, name="ram")
    assert region(vm, 0) == region(vm, RAM - 1) == ram
    assert region(vm, RAM) == region(vm, 1 << 40) == MemoryRegion(RAM, (1 << 64) - RAM)


def test_tables_that_name_themselves_are_left_in_time(vm: Vm) -> None:
    entry = (0x10_0000 | P | W | U).to_bytes(8, "little")
    tables = Tables("4-level")
    tables.map(0, 0, P)
    tables.use(vm)
    vm.memory.write(0x10_0000, entry * 512, WriteOrigin.LOADER)
    found, slices = done(region_at(vm, 0, 1 << 30))
    assert found.start <= 1 << 30 < found.start + found.size
    assert slices > 0
    assert found.size <= 2 * (MAX_TABLES + 1) * (512 << 12)


def test_tables_outside_memory_map_nothing(vm: Vm) -> None:
    tables = Tables("4-level")
    tables.map(0x1000, 0, P)
    tables.use(vm)
    vm.vcpus[0].set("cr3", 0x7FFF_FFFF_F000)
    assert leaves(vm) == []
    assert region(vm, 0x1000) == MemoryRegion(0, 1 << 64)


def test_a_large_page_is_one_step(vm: Vm) -> None:
    tables = Tables("4-level")
    tables.map(1 << 30, 1 << 30, P | W, 30)
    tables.use(vm)
    [leaf] = leaves(vm)
    assert (leaf.linear, leaf.shift, leaf.gpa, leaf.entry & PS) == (1 << 30, 30, 1 << 30, PS)
