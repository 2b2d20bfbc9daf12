"""The demo guest as an image, and its behaviour on a machine that nobody here wrote (QEMU)."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import capstone
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import NoteSegment

from hv.guests import GuestBuildError, build_demo, demo_source_dir
from tests.helpers.console import Console, qemu_command
from tests.helpers.patience import HANG_S

XEN_ELFNOTE_PHYS32_ENTRY = 18  # Xen public header elfnote.h
PROMPT = "demo> "
TOUR = Path(__file__).resolve().parents[2] / "scripts" / "tour.gdb"


def run(console: Console, command: str) -> str:
    """Type a command at the prompt; return what it printed."""
    console.send(f"{command}\r")
    console.expect(f"{command}\r\n")
    return console.expect(PROMPT).removesuffix(PROMPT)


@pytest.fixture
def demo(demo_elf: Path) -> Iterator[Console]:
    with Console(qemu_command("-kernel", str(demo_elf), cpus=2)) as console:
        console.expect(PROMPT)
        yield console


def loadable_bytes(path: Path) -> list[tuple[int, bytes]]:
    with path.open("rb") as file:
        segments = ELFFile(file).iter_segments(type="PT_LOAD")
        return [(segment["p_paddr"], segment.data()) for segment in segments]


def test_pvh_note_names_the_32_bit_entry_point(demo_elf: Path) -> None:
    with demo_elf.open("rb") as file:
        elf = ELFFile(file)
        segments = [segment for segment in elf.iter_segments() if isinstance(segment, NoteSegment)]
        notes = [note for segment in segments for note in segment.iter_notes()]
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        named = symbols.get_symbol_by_name("pvh_entry")
        assert named is not None
        entry = named[0]["st_value"]
        assert elf["e_entry"] == entry
    assert [(note["n_name"], int(note["n_type"])) for note in notes] == [("Xen", XEN_ELFNOTE_PHYS32_ENTRY)]
    assert int.from_bytes(notes[0]["n_descdata"], "little") == entry


def test_image_is_loaded_where_it_is_linked(demo_elf: Path) -> None:
    with demo_elf.open("rb") as file:
        segments = list(ELFFile(file).iter_segments(type="PT_LOAD"))
        assert [segment["p_vaddr"] for segment in segments] == [segment["p_paddr"] for segment in segments]
        assert min(segment["p_paddr"] for segment in segments) == 0x10_0000
        assert max(segment["p_paddr"] + segment["p_memsz"] for segment in segments) < 0x40_0000


def test_code_uses_no_floating_point_and_no_vector_registers(demo_elf: Path) -> None:
    with demo_elf.open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text")
        assert text is not None
        code, address = text.data(), text["sh_addr"]
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.skipdata = True
    operands = " ".join(instruction.op_str for instruction in disassembler.disasm(code, address))
    assert re.findall(r"\b(?:[xyz]mm\d+|mm\d|st\(\d\))", operands) == []


def test_symbols_worth_a_breakpoint_or_a_watchpoint_have_debug_information(demo_elf: Path) -> None:
    with demo_elf.open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        names = {
            entry.attributes["DW_AT_name"].value.decode()
            for unit in dwarf.iter_CUs()
            for entry in unit.iter_DIEs()
            if entry.tag in ("DW_TAG_subprogram", "DW_TAG_variable", "DW_TAG_structure_type")
            and "DW_AT_name" in entry.attributes
        }
    assert {"kmain", "fib", "page_fault", "timer_interrupt", "worker", "shell_execute"} <= names
    assert {"ticks", "page_faults", "shared_counter", "worker_counters", "cpus", "task"} <= names


def test_loaded_bytes_do_not_depend_on_where_it_was_built(demo_elf: Path, tmp_path: Path) -> None:
    elsewhere = build_demo(tmp_path, source_prefix=".", werror=True)
    assert loadable_bytes(elsewhere) == loadable_bytes(demo_elf)
    assert str(demo_source_dir().parent).encode() not in elsewhere.read_bytes()


def test_second_build_of_the_same_sources_compiles_nothing(tmp_path: Path) -> None:
    first = build_demo(tmp_path).stat().st_mtime_ns
    assert build_demo(tmp_path).stat().st_mtime_ns == first


def test_missing_compiler_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GuestBuildError, match=r"^gcc is not installed"):
        build_demo(tmp_path)


def test_debug_information_names_sources_that_exist(demo_elf: Path) -> None:
    with demo_elf.open("rb") as file:
        units = [unit.get_top_DIE().attributes for unit in ELFFile(file).get_dwarf_info().iter_CUs()]
    paths = {Path(unit["DW_AT_name"].value.decode()) for unit in units}
    sources = demo_source_dir().resolve()
    assert paths == {*sources.glob("*.c"), *sources.glob("*.S")}


def test_timer_ticks_and_page_faults_go_on(demo: Console) -> None:
    numbers = r"(\d+) ticks, (\d+) page faults, shared counter (\d+)"
    first = re.search(numbers, run(demo, "ticks"))
    run(demo, "spin 20")
    second = re.search(numbers, run(demo, "ticks"))
    assert first is not None
    assert second is not None
    assert int(second[1]) - int(first[1]) >= 20
    assert int(second[2]) > int(first[2])
    assert int(second[3]) > int(first[3])


def test_each_processor_takes_its_own_timer_interrupts_and_does_its_own_work(demo: Console) -> None:
    run(demo, "spin 5")
    rows = re.findall(
        r"cpu (\d+): apic id \d+, (\d+) ticks, (\d+) page faults, (\d+) steps", run(demo, "cpus")
    )
    assert [int(row[0]) for row in rows] == [0, 1]
    assert all(int(number) > 0 for row in rows for number in row[1:])


def test_sixteen_processors_start(demo_elf: Path) -> None:
    with Console(qemu_command("-kernel", str(demo_elf), cpus=16)) as console:
        assert "16 cpus, 100 timer ticks a second" in console.expect(PROMPT)


def test_shell_computes_and_touches_memory(demo: Console) -> None:
    assert run(demo, "fib 20") == "6765\r\n"
    assert re.fullmatch(r"touched 0x80000[0-9a-f]{5}, \d+ page faults\r\n", run(demo, "fault"))
    run(demo, "poke 0x80000 0x1122334455667788")
    assert run(demo, "peek 0x80000") == "0x1122334455667788\r\n"
    assert run(demo, "peek 0x9000000000") == "0x9000000000 cannot be read\r\n"


@pytest.mark.parametrize("vector", [0, 3, 6, 13])
def test_raised_exception_comes_back_to_the_shell(demo: Console, vector: int) -> None:
    assert run(demo, f"raise {vector}") == f"exception {vector} raised and handled\r\n"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("nonsense", "no command nonsense; try help"),
        ("fib", "usage: fib N"),
        ("fib x", "usage: fib N"),
        ("fib 31", "at most 30"),
        ("", ""),
    ],
)
def test_shell_answers_bad_lines_with_one_line(demo: Console, line: str, answer: str) -> None:
    assert run(demo, line).rstrip("\r\n") == answer


@pytest.mark.parametrize(
    ("command", "status"), [("poweroff", 0), ("reboot", 0), ("crash", 0), ("exit 21", 43)]
)
def test_machine_ends_with_the_status_of_the_command(demo: Console, command: str, status: int) -> None:
    demo.send(f"{command}\r")
    assert demo.wait() == status
    assert "still on" not in demo.output.decode()


def test_boot_sector_counts_prints_and_leaves(bootsector: Path) -> None:
    image = f"file={bootsector},format=raw,snapshot=on"
    with Console(qemu_command("-drive", image)) as console:
        console.expect("boot sector counted to 1000\r\n")
        assert console.wait() == (0x2A << 1) | 1


def test_every_step_of_the_gdb_tour_holds_on_another_machine(demo_elf: Path) -> None:
    qemu = ["exec", *qemu_command("-kernel", str(demo_elf), cpus=2), "-serial", "null", "-S", "-gdb", "stdio"]
    server = shlex.join(qemu).replace("-serial stdio ", "")
    gdb = ["gdb", "-q", "-nx", "-batch", str(demo_elf), "-ex", f"target remote | {server}", "-x", str(TOUR)]
    done = subprocess.run(
        gdb, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    # QEMU may be gone before gdb has written the last byte of its final `kill`.
    killed = "Terminated via GDBstub" in done.stderr and done.stderr.rstrip().endswith("Broken pipe.")
    assert done.returncode == 0 or killed, done.stdout + done.stderr
    assert "--- The end of the tour." in done.stdout
    assert "The end of the tour." in done.stdout
    assert re.search(r"#\d+ +<signal handler called>\n#\d+ .* in step_touch ", done.stdout)
