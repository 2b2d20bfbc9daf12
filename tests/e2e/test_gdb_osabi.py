"""Which OSABI gdb takes, and what follows: with files as kernels are, and with one that says it is for Linux.

The description says "none" and has no feature `org.gnu.gdb.i386.linux`. Without this feature gdb's support
for Linux processes stays out, also where the file brings the OSABI in. So nothing is written to the guest
that the user has not asked for, and `info proc` has nothing to say. With `--gdb-tdesc linux` it shows the map
of memory, and still nothing is written to the guest.
"""

import struct
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import StartGdb, StartMachine
from tests.e2e.gdb_driver import Gdb, GdbError

# ELF: a note of type 1 (NT_GNU_ABI_TAG) by "GNU": Linux (0), 3.2.0.
ABI_TAG = struct.pack("<3I4s4I", 4, 16, 1, b"GNU\0", 0, 3, 2, 0)


def tagged(elf: Path, directory: Path) -> Path:
    """The program with the note of a program for Linux, which makes gdb take it for one."""
    note, made = directory / "note", directory / "tagged.elf"
    note.write_bytes(ABI_TAG)
    added = f".note.ABI-tag={note}"
    flags = ".note.ABI-tag=contents,readonly"
    subprocess.run(["objcopy", "--add-section", added, "--set-section-flags", flags, elf, made], check=True)
    return made


@pytest.fixture(params=["no file", "like a kernel", "for Linux"])
def gdb_with(
    request: pytest.FixtureRequest, run: StartMachine, gdb: StartGdb, demo_elf: Path, tmp_path: Path
) -> tuple[str, Gdb]:
    """What file gdb has, and gdb, connected, at the start of `kmain`."""
    kind = str(request.param)
    machine = run("--gdb", "127.0.0.1:0", "-c", "2")
    files = {"no file": [], "like a kernel": [str(demo_elf)], "for Linux": [str(tagged(demo_elf, tmp_path))]}
    debugger = gdb(*files[kind])
    if kind == "no file":
        debugger("set remote exec-event-feature-packet off")
        debugger("set remote pid-to-exec-file-packet off")
    debugger(f"target remote {machine.address()}")
    if kind == "no file":
        # Symbols without a program: they bring no OSABI.
        debugger(f"add-symbol-file {demo_elf}")
    debugger("hbreak kmain")
    debugger.go("continue")
    return kind, debugger


def text_of(gdb: Gdb) -> str:
    """The code of the guest, by its checksum and the bytes at its entry."""
    return gdb("monitor xp /512xb 0x100300") + gdb("x/256xb kmain")


@pytest.fixture
def linux_gdb(run: StartMachine, gdb: StartGdb, demo_elf: Path) -> Gdb:
    """A gdb that takes the machine for a Linux process, at the start of `kmain`."""
    machine = run("--gdb", "127.0.0.1:0", "-c", "2", "--gdb-tdesc", "linux")
    debugger = gdb(str(demo_elf))
    debugger(f"target remote {machine.address()}")
    debugger("hbreak kmain")
    debugger.go("continue")
    return debugger


def test_registers_are_the_machines_and_there_is_no_process(gdb_with: tuple[str, Gdb]) -> None:
    kind, gdb = gdb_with
    expected = "GNU/Linux" if kind == "for Linux" else "none"
    assert f'(currently "{expected}")' in gdb("show osabi")
    with pytest.raises(GdbError, match="Not supported on this target"):
        gdb("info proc mappings")
    assert gdb("print $orig_rax") == "$1 = void\n"
    before = gdb("info registers").splitlines()
    for change in ("$pc = $pc + 4", "$pc = $pc - 4", "$rax = $rax + 1", "$rax = $rax - 1"):
        gdb(f"set {change}")
    gdb("maintenance flush register-cache")
    assert gdb("info registers").splitlines() == before


def test_calls_and_finish_leave_the_code_as_it_is(gdb_with: tuple[str, Gdb]) -> None:
    _, gdb = gdb_with
    before = text_of(gdb)
    assert gdb("print ((unsigned long (*)(unsigned long)) fib)(10)") == "$1 = 55\n"
    gdb("hbreak apic_id")
    assert gdb.go("continue").function == "apic_id"
    gdb("finish")
    assert gdb.stop is not None
    assert gdb.stop.reason == "function-finished"
    assert text_of(gdb) == before


def test_a_step_over_a_breakpoint_runs_no_copy_of_the_instruction(gdb_with: tuple[str, Gdb]) -> None:
    _, gdb = gdb_with
    gdb("set displaced-stepping on")
    gdb("break *($pc + 1)")
    gdb("break *$pc")
    before = text_of(gdb)
    start = gdb.value("$pc")
    gdb("set debug displaced on")
    gdb.go("stepi")
    gdb.go("stepi")
    assert gdb.value("$pc") > start
    assert "displaced" not in gdb.output.replace("displaced-stepping", "").replace("debug displaced", "")
    assert text_of(gdb) == before


def test_a_linux_description_gives_the_map_of_memory(linux_gdb: Gdb) -> None:
    assert '(currently "GNU/Linux")' in linux_gdb("show osabi")
    shown = [line.split() for line in linux_gdb("info proc mappings").splitlines()]
    assert ["0x0", "0x10000000", "0x10000000", "0x0", "rwxp", "[supervisor]"] in shown
    # gdb sets this register when it sets the program counter of a Linux process.
    assert linux_gdb("print $orig_rax") == "$1 = -1\n"
    before = linux_gdb("info registers").splitlines()
    for change in ("$orig_rax = -1", "$pc = $pc + 4", "$pc = $pc - 4"):
        linux_gdb(f"set {change}")
    linux_gdb("maintenance flush register-cache")
    assert linux_gdb("info registers").splitlines() == before
    with pytest.raises(GdbError, match="Could not write register"):
        linux_gdb("set $orig_rax = 5")


def test_with_a_linux_description_nothing_is_written_into_the_program_either(linux_gdb: Gdb) -> None:
    gdb, before = linux_gdb, text_of(linux_gdb)
    assert gdb("print ((unsigned long (*)(unsigned long)) fib)(10)") == "$1 = 55\n"
    gdb("hbreak apic_id")
    assert gdb.go("continue").function == "apic_id"
    gdb("finish")
    gdb("set displaced-stepping on")
    gdb("break *$pc")
    start = gdb.value("$pc")
    gdb.go("stepi")
    assert gdb.value("$pc") > start
    assert text_of(gdb) == before
