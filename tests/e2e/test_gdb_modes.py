"""16-bit and 32-bit code in stock gdb: layouts that the user can choose, and one that follows the mode."""

import re
import subprocess
from pathlib import Path

import pytest

from hv.debug.target_settings import MODES_SCRIPT
from tests.e2e.conftest import StartGdb, StartMachine
from tests.e2e.test_gdb_monitor import build

SOURCE = Path(__file__).parents[1] / "guests" / "modes.S"
AUTO = ("--gdb", "127.0.0.1:0", "--gdb-tdesc")


@pytest.fixture
def sector(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """The boot sector that goes through the modes, and the addresses of its symbols."""
    obj, linked, image = (tmp_path / name for name in ("modes.o", "modes.elf", "modes.img"))
    for command in (
        ["gcc", "-c", "-Wa,--fatal-warnings", "-o", obj, SOURCE],
        ["ld", "-m", "elf_x86_64", "-z", "noexecstack", "-Ttext=0x7c00", "-o", linked, obj],
        ["objcopy", "-O", "binary", linked, image],
    ):
        subprocess.run([str(word) for word in command], check=True)
    names = subprocess.run(["nm", linked], check=True, stdout=subprocess.PIPE, text=True).stdout
    return image, {name: int(at, 16) for at, _, name in (line.split() for line in names.splitlines())}


def test_a_boot_sector_is_debugged_as_16_bit_code(
    run: StartMachine, gdb: StartGdb, sector: tuple[Path, dict[str, int]]
) -> None:
    image, symbols = sector
    machine = run(str(image), *AUTO, "i8086")
    address = machine.address()
    assert re.search(r"gdb -ex 'target remote \S+'\n", machine.messages.text)
    debugger = gdb()
    debugger(f"target remote {address}")
    assert debugger.value("$pc") == 0x7C00
    assert "cli" in debugger("x/i $pc")
    debugger(f"break *{symbols['in16']:#x}")
    debugger.go("continue")
    assert "\tinc    %ax\n" in debugger("x/i $pc")
    assert debugger.value("$eax") & 0xFFFF == 0x1616
    debugger("set $ax = 0x4242")
    debugger.go("stepi")
    assert debugger.value("$ax") == 0x4243
    assert "\tret" in debugger("x/i $pc")
    debugger.go("stepi")
    assert "lgdt" in debugger("x/i $pc")
    assert "real" in debugger("print $mode")
    assert debugger.value("$cs_limit") == 0xFFFF


def test_a_32_bit_guest_is_debugged_as_32_bit_code(run: StartMachine, gdb: StartGdb, tmp_path: Path) -> None:
    image, symbols = build(tmp_path)
    machine = run(str(image), *AUTO, "i386", "--cpu", "max")
    debugger = gdb(str(image))
    debugger(f"target remote {machine.address()}")
    debugger("break *stop32")
    assert debugger.go("continue").function == "stop32"
    assert debugger.value("$eax") == 0xA1A1A1A1
    assert debugger.value("$ebx") == 0xB2B2B2B2
    assert debugger.value("$eip") == symbols["stop32"]
    assert "0x3fa0" in debugger("info registers mxcsr") or debugger.value("$mxcsr") == 0x3FA0
    debugger("set $ebx = 7")
    debugger.go("stepi")
    debugger.go("stepi")
    debugger.go("stepi")
    assert "\tmov    %eax,%cr3\n" in debugger("x/i $pc")
    assert debugger.value("$ebx") == 7
    assert "11223344" in debugger("print/x $xmm3.v4_int32[0]")
    assert "Register" not in debugger("info all-registers").splitlines()[0]


MODES = [
    # where, the instruction there, what is read of RAX, how gdb calls the architecture
    ("in16", "inc    %ax", "$ax", 0x1616, "i8086"),
    ("in32", "inc    %eax", "$eax", 0x32323232, "i386"),
    ("in64", "inc    %rax", "$rax", 0x6464646464646464, "i386:x86-64"),
    ("compat32", "inc    %eax", "$eax", 0x64646465, "i386"),
    ("compat16", "inc    %ax", "$ax", 0x6466, "i8086"),
    ("again64", "inc    %rax", "$rax", None, "i386:x86-64"),
]


def test_the_layout_follows_the_mode(
    run: StartMachine, gdb: StartGdb, sector: tuple[Path, dict[str, int]]
) -> None:
    image, symbols = sector
    machine = run(str(image), *AUTO, "auto")
    address = machine.address()
    assert f"-x {MODES_SCRIPT}\n" in machine.messages.text
    debugger = gdb()
    debugger(f"target remote {address}")
    debugger(f"source {MODES_SCRIPT}")
    for name, instruction, register, value, architecture in MODES:
        debugger(f"hbreak *{symbols[name]:#x}")
        debugger.go("continue")
        assert debugger.value("$pc") == symbols[name]
        assert f'"{architecture}"' in debugger("show architecture")
        assert f"\t{instruction}\n" in debugger("x/i $pc")
        if value is not None:
            assert debugger.value(register) == value
        before = debugger.value(register)
        debugger.go("stepi")
        assert debugger.value(register) == before + 1
    assert "truncated" not in debugger.output.lower()
    assert "warning" not in debugger.output.lower().replace("warning: no executable", "")


def test_64_bit_registers_in_every_mode_are_the_default(
    run: StartMachine, gdb: StartGdb, sector: tuple[Path, dict[str, int]]
) -> None:
    image, symbols = sector
    machine = run(str(image), "--gdb", "127.0.0.1:0")
    debugger = gdb()
    debugger(f"target remote {machine.address()}")
    for name, _, _, value, _ in MODES:
        debugger(f"hbreak *{symbols[name]:#x}")
        debugger.go("continue")
        assert debugger.value("$rip") == symbols[name]
        if value is not None:
            assert debugger.value("$rax") & value == value
