"""`monitor` commands through stock gdb, beside QEMU's on the same guest."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Debug, StartMachine
from tests.e2e.gdb_driver import run_batch
from tests.e2e.machine import DEMO_PROMPT
from tests.helpers.qemu_monitor import qemu

SOURCE = Path(__file__).parents[1] / "guests" / "registers.S"


def build(directory: Path, *options: str) -> tuple[Path, dict[str, int]]:
    """The guest as a Multiboot image, and the addresses of its symbols."""
    obj, linked, image = (directory / name for name in ("registers.o", "registers.elf64", "registers.elf"))
    for command in (
        ["gcc", "-c", "-Wa,--fatal-warnings", *options, "-o", obj, SOURCE],
        ["ld", "-m", "elf_x86_64", "-z", "noexecstack", "-z", "max-page-size=4096", "--no-warn-rwx-segments",
         "--omagic", "-Ttext=0x100000", "-o", linked, obj],
        ["objcopy", "-I", "elf64-x86-64", "-O", "elf32-i386", linked, image],
    ):  # fmt: skip
        subprocess.run([str(word) for word in command], check=True)
    names = subprocess.run(["nm", linked], check=True, stdout=subprocess.PIPE, text=True).stdout
    return image, {name: int(at, 16) for at, _, name in (line.split() for line in names.splitlines())}


def shown_at(address: str, places: list[int], setting: str, commands: list[str]) -> list[str]:
    """What the monitor commands print when the guest has come to each of `places`."""
    script = [f"target remote {address}", "set confirm off"]
    for place in places:
        script += [f"hbreak *{place:#x}", "continue", setting]
        for command in commands:
            script += ["echo ===\\n", f"monitor {command}", "echo ---\\n"]
        script.append("delete")
        setting = "echo"
    status, text = run_batch([*script, "disconnect"])
    assert status == 0, text
    return re.findall(r"===\n(.*?)---\n", text.replace("\r\n", "\n"), re.DOTALL)


def _as_loaded(text: str) -> str:
    """QEMU keeps TR's type as it was before LTR made it busy, and that of LDTR when LLDT has unloaded it."""
    text = re.sub(r"^(TR .*) 00008900 (.*)avl$", r"\1 00008b00 \2busy", text, flags=re.MULTILINE)
    return re.sub(r"^(LDT=.*) 00008200 DPL=0 LDT$", r"\1 00000000", text, flags=re.MULTILINE)


@pytest.mark.parametrize("avx", [False, True])
def test_registers_are_shown_as_by_qemu(run: StartMachine, tmp_path: Path, avx: bool) -> None:
    image, symbols = build(tmp_path)
    places = [symbols["stop32"], symbols["stop64"]]
    setting = f"set *(int *){symbols['want_avx']:#x} = {int(avx)}"
    commands = ["info registers", "x /4xb $pc", "gva2gpa $pc"]
    with qemu(tmp_path, "-kernel", str(image)) as address:
        theirs = shown_at(address, places, setting, commands)
    machine = run(str(image), "--gdb", "127.0.0.1:0", "--cpu", "max", "-m", "64M")
    ours = shown_at(machine.address(), places, setting, commands)
    assert ours == [_as_loaded(text) for text in theirs]
    assert sum(f"{n}MM07=" in ours[3] for n in "XY") == 1
    assert ("YMM09=" in ours[3]) is avx


def test_what_pwndbg_asks_is_answered(debug: Debug) -> None:
    _, gdb = debug()
    gdb("hbreak kmain")
    gdb.go("continue")
    registers = gdb("monitor info registers")
    [base] = re.findall(r"^FS =[0-9a-f]{4} ([0-9a-f]{16}) ", registers, re.MULTILINE)
    assert int(base, 16) == gdb.value("$fs_base")
    rows = re.findall(
        r"^([0-9a-f]{16})-([0-9a-f]{16}) ([0-9a-f]{16}) ([u-]r[w-])$", gdb("monitor info mem"), re.M
    )
    pc = gdb.value("$pc")
    assert [r for r in rows if int(r[0], 16) <= pc < int(r[1], 16)]
    assert "ENABLE=" in gdb("maint packet Qqemu.sstepbits")
    assert "Text=" not in gdb("maint packet qOffsets")
    assert "info registers" in gdb("monitor help")


def test_the_way_that_the_guest_took_is_recorded(debug: Debug) -> None:
    _, gdb = debug()
    gdb("hbreak kmain")
    gdb.go("continue")
    gdb("record btrace bts")
    gdb("stepi 200")
    told = gdb("info record")
    assert "Recording format: Branch Trace Store." in told
    [count] = re.findall(r"Recorded (\d+) instructions in \d+ functions \(0 gaps\)", told)
    assert 100 <= int(count) <= 201
    assert "\tmov" in gdb("record instruction-history")
    assert "kmain" in gdb("record function-call-history 1,+5")
    gdb("reverse-stepi")
    before = gdb.value("$pc")
    gdb("stepi")
    assert gdb.value("$pc") != before
    gdb("record stop")
    gdb("stepi")


def test_info_os_shows_the_machine(debug: Debug) -> None:
    machine, gdb = debug("-c", "2")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    gdb.interrupt()
    assert re.findall(r"^(\w+) +\w", gdb("info os"), re.MULTILINE)[1:] == [
        "vcpus", "devices", "irqs", "memory", "exits",
    ]  # fmt: skip
    assert len(re.findall(r"^[01] +(?:running|halted) +0x", gdb("info os vcpus"), re.MULTILINE)) == 2
    assert re.search(r"^uart\.0 +port +0x3f8 +0x3ff", gdb("info os devices"), re.MULTILINE)
    assert re.search(r"^hpet +memory +0xfed00000 +0xfed003ff", gdb("info os devices"), re.MULTILINE)
    assert re.search(
        r"^4 +uart\.0 +(asserted)? +0x[0-9a-f]+ +fixed +edge +APIC 0", gdb("info os irqs"), re.MULTILINE
    )
    assert re.search(r"^0x100000 +0xfffffff +RAM", gdb("info os memory"), re.MULTILINE)
    assert re.search(r"^inout +[1-9]\d*", gdb("info os exits"), re.MULTILINE)


def test_memory_goes_to_a_file_only_where_the_user_allows_it(debug: Debug, tmp_path: Path) -> None:
    file = tmp_path / "memory"
    _, gdb = debug()
    start = gdb.value("$pc")
    refusal = "memsave is not allowed without --gdb-allow host-write\n"
    assert gdb(f"monitor memsave {start:#x} 16 {file}") == refusal
    assert not file.exists()
    _, gdb = debug("--gdb-allow", "host-write")
    assert gdb(f"monitor memsave {start:#x} 16 {file}") == f"16 bytes written to {file}\n"
    assert file.read_bytes()[0] == gdb.value("*(unsigned char *)$pc")
