"""Stock gdb finds symbols by itself: the demo's, and those of a Debian kernel with KASLR on.

The kernel comes without a debug package; what it says in /proc/kallsyms is what gdb must say.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hv.debug.symbols import KERNEL_SCRIPT
from tests.e2e.conftest import StartGdb, StartMachine
from tests.e2e.gdb_driver import Gdb
from tests.e2e.linux import linux_arguments, shell, to_shell
from tests.e2e.machine import DEMO_PROMPT, ROOT, Machine
from tests.helpers.patience import HANG_S

# One of each section, and one that is counted from the start of a CPU's area.
NAMES = ("__x64_sys_getppid", "linux_banner", "jiffies_64", "start_kernel", "cpu_tss_rw")
PER_CPU = "cpu_tss_rw"
LINKED_AT = 0xFFFF_FFFF_8100_0000


@pytest.fixture
def kernel(run: StartMachine, linux_kernel: Path, linux_initramfs: Path) -> Machine:
    """The kernel on four vCPUs, before its first instruction."""
    arguments = linux_arguments(linux_kernel, linux_initramfs, "quiet")
    return run(*arguments, "-c", "4", "--gdb", "127.0.0.1:0")


def in_the_guest(machine: Machine) -> dict[str, int]:
    """Where the guest itself says that the symbols are."""
    printed = shell(machine, f"grep -wE '{'|'.join(NAMES[:3])}' /proc/kallsyms")
    printed += "\n" + shell(machine, f"grep -wE '{'|'.join(NAMES[3:])}' /proc/kallsyms")
    found = re.findall(r"^([0-9a-f]{16}) \w (\w+)$", printed, re.MULTILINE)
    return {name: int(address, 16) for address, name in found}


def in_gdb(gdb: Gdb) -> dict[str, int]:
    return {name: gdb.value(f"(unsigned long) &{name}") for name in NAMES}


def test_symbols_of_a_kernel_that_runs_come_with_the_connection(kernel: Machine, gdb: StartGdb) -> None:
    address = kernel.address()
    starter = gdb()
    starter(f"target remote {address}")
    starter("detach")
    to_shell(kernel)
    expected = in_the_guest(kernel)
    debugger = gdb()
    debugger(f"target remote {address}")
    assert in_gdb(debugger) == expected
    assert expected[PER_CPU] < 1 << 20
    assert expected["start_kernel"] > LINKED_AT + (1 << 20)
    slide = debugger.value("(unsigned long) &_text") - LINKED_AT
    assert slide > 0
    told = debugger("monitor symbols")
    assert f"Linux kernel at {LINKED_AT + slide:#x}, moved by {slide:#x}\n" in told
    assert debugger("x/s &linux_banner").split('"')[1].startswith("Linux version 6.")
    asked = debugger(f"monitor info symbol {expected['jiffies_64'] + 4:#x}")
    assert asked in (f"{name} + 4 at {expected['jiffies_64'] + 4:#x}\n" for name in ("jiffies", "jiffies_64"))
    assert debugger("monitor info address linux_banner") == f"linux_banner: {expected['linux_banner']:#x}\n"


def test_a_file_that_gdb_has_is_moved_to_where_the_kernel_is(
    kernel: Machine, gdb: StartGdb, tmp_path: Path
) -> None:
    address = kernel.address()
    first = gdb()
    first(f"target remote {address}")
    first(f"source {KERNEL_SCRIPT}")
    file = tmp_path / "symbols"
    first(f"remote get /vmlinux {file}")
    expected = in_gdb(first)
    first("detach")
    # qOffsets moves the one segment of the file, wherever it was, and no per-CPU symbol.
    second = gdb(str(file))
    second(f"target remote {address}")
    assert in_gdb(second) == expected


def test_a_script_loads_symbols_when_the_kernel_is_mapped(kernel: Machine, gdb: StartGdb) -> None:
    assert f" -x {KERNEL_SCRIPT}" in kernel.messages.expect(r"debug server: gdb [^\n]*", HANG_S)[0]
    debugger = gdb()
    debugger(f"target remote {kernel.messages.text.split('target remote ')[1].split(chr(39))[0]}")
    assert debugger.value("$ticks") == 0
    debugger(f"source {KERNEL_SCRIPT}")
    addresses = in_gdb(debugger)
    assert kernel.console.text == ""
    debugger("break start_kernel")
    stop = debugger.go("continue")
    assert (stop.function, stop.address) == ("start_kernel", addresses["start_kernel"])
    debugger("delete")
    debugger.begin("continue")
    to_shell(kernel)
    assert in_the_guest(kernel) == addresses
    assert addresses[PER_CPU] < 1 << 20


def test_a_breakpoint_waits_for_the_kernel_without_a_script(kernel: Machine, gdb: StartGdb) -> None:
    debugger = gdb()
    debugger(f"target remote {kernel.address()}")
    debugger("set breakpoint pending on")
    debugger("break start_kernel")
    stop = debugger.go("continue")
    assert stop.function == "start_kernel"
    assert re.findall(r"^#\d+ +(?:0x\w+ in )?(\w+) \(", debugger("backtrace"), re.MULTILINE) == [
        "start_kernel",
        "secondary_startup_64_no_verify",
    ]
    addresses = in_gdb(debugger)
    assert addresses["start_kernel"] == stop.address
    assert addresses[PER_CPU] < 1 << 20
    assert "/vmlinux" in debugger("info sharedlibrary")


def test_no_kernel_no_symbols(kernel: Machine, gdb: StartGdb) -> None:
    debugger = gdb()
    debugger(f"target remote {kernel.address()}")
    assert debugger("monitor symbols") == "no symbols are known\n"
    assert debugger("monitor info symbol 0xffffffff81000000") == "no symbol at 0xffffffff81000000\n"
    assert "no address is known" in debugger("monitor info address start_kernel")


def test_symbols_end_with_the_kernel(kernel: Machine, gdb: StartGdb) -> None:
    debugger = gdb()
    debugger(f"target remote {kernel.address()}")
    debugger(f"source {KERNEL_SCRIPT}")
    assert "Linux kernel at" in debugger("monitor symbols")
    debugger("monitor reset")
    assert debugger("monitor symbols") == "no symbols are known\n"
    debugger("hv-kernel")
    assert debugger.value("$pc") >> 31 == 0x1_FFFF_FFFF
    assert "Linux kernel at" in debugger("monitor symbols")


def test_the_demo_is_served_under_its_name(run: StartMachine, gdb: StartGdb, demo_elf: Path) -> None:
    machine = run("--gdb", "127.0.0.1:0")
    debugger = gdb()
    debugger(f"target remote {machine.address()}")
    assert f'Symbols from "target:/{demo_elf.name}"' in debugger("info files")
    debugger("tbreak page_fault")
    assert debugger.go("continue").function == "page_fault"
    address = debugger.value("(unsigned long) &shared_counter")
    assert debugger(f"monitor info symbol {address:#x}") == f"shared_counter at {address:#x}\n"
    debugger.begin("continue")
    machine.expect(DEMO_PROMPT)


def test_the_map_of_memory_is_a_file(
    run: StartMachine, gdb: StartGdb, demo_elf: Path, tmp_path: Path
) -> None:
    machine = run("--gdb", "127.0.0.1:0")
    debugger = gdb(str(demo_elf))
    debugger(f"target remote {machine.address()}")
    debugger("tbreak shell")
    debugger.go("continue")
    file = tmp_path / "maps"
    debugger(f"remote get /proc/1/maps {file}")
    rows = re.findall(
        r"^([0-9a-f]{8,16})-([0-9a-f]{8,16}) (r[w-][x-]p) 0{8} 00:00 0 \[(.*)\]$",
        file.read_text(),
        re.MULTILINE,
    )
    assert len(rows) == len(file.read_text().splitlines())
    places = [(int(start, 16), int(end, 16)) for start, end, _, _ in rows]
    assert places == sorted(places)
    code, data = debugger.value("(unsigned long) &page_fault"), debugger.value("(unsigned long) &ticks")
    [code_rights] = [row[2] for row, (start, end) in zip(rows, places, strict=True) if start <= code < end]
    [data_rights] = [row[2] for row, (start, end) in zip(rows, places, strict=True) if start <= data < end]
    assert code_rights[2] == "x"
    assert data_rights[1] == "w"


def test_a_script_counts_who_calls_a_function() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/calls", "page_fault", "-n", "5", "--", "-c", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r" +5  page_fault < exception < trap_dispatch < \S+ < run_task.*\n", done.stdout)
