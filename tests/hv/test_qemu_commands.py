"""`monitor` commands in QEMU's format: on the same page tables and registers QEMU prints the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hv.debug.command import CommandContext
from hv.debug.commands import run_command
from hv.debug.commands_qemu import MAX_LINES
from hv.debug.run_control import RunControl
from hv.engines.base import CpuModel
from hv.engines.soft import SoftEngine
from hv.exits import WriteOrigin
from hv.machines.bare import build_bare
from hv.vm import Vm
from tests.helpers.paging_guest import MODES, NX, A, D, G, P, Tables, U, W
from tests.helpers.qemu_monitor import monitor

RAM = 64 << 20


@pytest.fixture
def vm() -> Iterator[Vm]:
    made = build_bare(SoftEngine(), boot=lambda vm: None, ram=RAM, model=CpuModel.MAX)
    yield made
    made.close()


def said(vm: Vm, command: str) -> str:
    text: list[str] = []
    run_command(CommandContext(RunControl(vm), 0, text.append), command)
    return "".join(text)


def layout(mode: str) -> Tables:
    """Small and large pages, rights that change, neighbours with the same ones, the ends of the space."""
    tables = Tables(mode)
    long = len(tables.shifts) > 3
    nx = NX if tables.entry_size == 8 and "without" not in mode else 0
    for page in range(3):
        tables.map(0x40_0000 + page * 0x1000, 0x20_0000 + page * 0x1000, P | U)
    tables.map(0x40_3000, 0x30_0000, P | U | W | nx)
    tables.map(0x40_4000, 0x30_8000, P | U | W | 0x80)
    tables.map(0x7FC0_0000, 0x31_0000, P | W | A | D | G | 0x18)
    tables.map(0x8040_0000, 0x31_0000, P | W | U, tables=P | W)
    tables.map(0x8080_0000, 0x31_0000, P | W | U, tables=P | U)
    if "32-bit without" not in mode:
        large = tables.shifts[-2]
        for page in range(3):
            tables.map(0xC000_0000 + (page << large), page << large, P | W | A | D | G, large)
    tables.map((1 << 64) - 0x1000 if long else 0xFFFF_F000, 0xF_F000, P | W)
    if long:
        tables.map(0x7FFF_FFFF_E000, 0x1000, P | U)
        tables.map(0xFFFF_8880_0000_0000, 0, P | W | A | D | nx, 30)
        tables.map(0xFFFF_8800_0000_0000, 0, P | W | A | D | nx, 21)
    return tables


@pytest.mark.parametrize("mode", MODES)
def test_page_tables_are_shown_as_by_qemu(vm: Vm, tmp_path: Path, mode: str) -> None:
    tables = layout(mode)
    commands = ["info mem", "info tlb", "gva2gpa 0x400abc", "gva2gpa 0x500000", "gva2gpa 0xc0000010"]
    if mode == "5-level":
        del commands[0]  # QEMU 7.2 does not come back from it
    theirs = monitor(tmp_path, tables.blobs(), tables.registers(), commands)
    if mode == "PAE":
        theirs[1] = theirs[1].replace(": 8", ": 0")  # where QEMU shows bit 63 as part of the address
    tables.use(vm)
    ours = [said(vm, command) for command in commands]
    assert ours == theirs
    assert len(ours[-4].splitlines()) > 8


def test_runs_under_5_level_paging_are_those_of_4_levels(vm: Vm) -> None:
    layout("5-level").use(vm)
    four = build_bare(SoftEngine(), boot=lambda vm: None, ram=RAM, model=CpuModel.MAX)
    layout("4-level").use(four)
    expected = said(four, "info mem")
    four.close()
    assert "fffffffffffff000-0001000000000000 0000000000001000 -rw\n" in expected
    assert said(vm, "info mem") == expected.replace("-0001000000000000", "-0200000000000000")


def test_memory_is_shown_as_by_qemu(vm: Vm, tmp_path: Path) -> None:
    data = b"Hello 'world'\\\n\0" + bytes(range(256)) + bytes.fromhex("ffffffffffffff7f 0080000000000080")
    formats = [form + size for form in "xduc" for size in "bhwg"]
    # QEMU goes on with the last format where none is given.
    commands = ["xp 0x100000", "xp /3 0x100000", "xp /2 0x100000+4", "xp/2xb 0x100000", "xp /8ob 0x100000"]
    commands += [f"xp /{count}{form} 0x100000" for count in (1, 5, 33) for form in formats]
    theirs = monitor(tmp_path, {0x10_0000: data}, {}, commands)
    vm.memory.write(0x10_0000, data, WriteOrigin.LOADER)
    assert [said(vm, command) for command in commands] == theirs


def test_without_paging_there_are_no_tables(vm: Vm, tmp_path: Path) -> None:
    commands = ["info mem", "info tlb", "gva2gpa 0x1234"]
    assert [said(vm, command) for command in commands] == monitor(tmp_path, {}, {}, commands)


def test_another_address_space_is_shown_by_its_cr3(vm: Vm) -> None:
    layout("4-level").use(vm)
    other = Tables("4-level", root=0x80_0000, next=0x80_1000)
    other.map(0x1234_5000, 0x6000, P | W)
    for at, page in other.blobs().items():
        vm.memory.write(at, page, WriteOrigin.LOADER)
    assert said(vm, "info mem 0x800000") == "0000000012345000-0000000012346000 0000000000001000 -rw\n"
    assert said(vm, "info tlb 0x800000") == "0000000012345000: 0000000000006000 --------W\n"


def test_an_endless_map_is_cut(vm: Vm) -> None:
    tables = Tables("4-level")
    tables.map(0, 0, P)
    tables.use(vm)
    entry = (0x10_0000 | P | W | U).to_bytes(8, "little")
    vm.memory.write(0x10_0000, entry * 512, WriteOrigin.LOADER)
    assert said(vm, "info tlb").splitlines()[MAX_LINES:] == [f"... more than {MAX_LINES} lines"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("gva2gpa", "1 number expected, not 0 words"),
        ("gva2gpa zz", "'zz' is not a number"),
        ("gva2gpa $nothing", "no register is called $nothing"),
        ("gva2gpa 0x10-0x4+$rax", "gpa: 0xc"),
        ("gva2gpa 99999999999999999999999", "is not a number"),
        ("gva2gpa ''", "a number is missing"),
        ("gva2gpa 1 2", "1 number expected, not 2 words"),
        ("xp /4q 0", "is no format"),
        ("xp /99999999x 0", "is more than"),
        ("xp 0xffffffffffffffff", "Cannot access memory at address 0xffffffffffffffff"),
        ("x /2xg 0xffffffffffffffff", "Cannot access memory"),
        ("info registers 7", "there is no vCPU 7"),
        ("info registers x", "is not a number"),
    ],
)
def test_wrong_words_are_told(vm: Vm, command: str, expected: str) -> None:
    vm.vcpus[0].set("rax", 0)
    assert expected in said(vm, command)


def test_devices_and_ram_are_in_the_map(vm: Vm) -> None:
    text = said(vm, "info mtree")
    assert "  0000000000000000-0000000003ffffff (prio 0, ram): ram\n" in text
    assert "  00000000000000e9-00000000000000e9 (prio 0, i/o): debug-console\n" in text
