"""The benchmark image and its tools: every kernel computes the same everywhere and has the stated length."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from scripts.benchlib.build import ROOT, Programs, build
from scripts.benchlib.kernels import KERNELS, Unit
from scripts.benchlib.linux import LINUX_CASES, measure_phase, parse_statistics
from scripts.benchlib.process import Finished, Line, RunError, run
from scripts.benchlib.profiler import parse_callgrind, parse_perf, parts
from scripts.benchlib.report import compare, failures, table
from scripts.benchlib.sides import check_markers, image_command
from scripts.benchlib.suite import Row

XEN_ELFNOTE_PHYS32_ENTRY = 18  # Xen public header elfnote.h
GOOD, BAD = (0x10 << 1) | 1, (0x11 << 1) | 1  # isa-debug-exit: (value << 1) | 1
FEW, MANY = 200, 300

# Instructions per iteration, counted by hand in the sources, with the handlers' and without event deliveries.
COUNTED = {
    "alu": 10, "ldst": 10, "call": 17, "indirect": 6, "sse2": 16, "x87": 12,
    "patch": 7, "fault": 20, "cr3": 20, "int": 5, "port": 3,
}  # fmt: skip
COMPILED = ("sha256", "mix")
EVERYWHERE = ("alu", "ldst", "call", "indirect", "sse2", "x87", "patch", "movsb", *COMPILED)
PRIVILEGED = ("fault", "cr3", "int", "port")


def iterations(name: str) -> tuple[int, int]:
    return (1, 3) if name in (*COMPILED, "movsb") else (FEW, MANY)


def line_of(names: tuple[str, ...]) -> str:
    return " ".join(f"run={name} iters={count}" for name in names for count in iterations(name))


ALL = f"{line_of((*EVERYWHERE, *PRIVILEGED))} run=avx2 iters=100 run=delay iters=2"


def ends(finished: Finished) -> dict[tuple[str, int], tuple[str, int]]:
    """Result and TSC counts by kernel and iterations."""
    found = {}
    count = 0
    for line in finished.lines:
        match line.text.split():
            case ["bench", "begin", _, number]:
                count = int(number)
            case ["bench", "end", name, result, tsc]:
                found[name, count] = (result, int(tsc))
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return build(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def on_qemu(programs: Programs) -> Finished:
    """QEMU, its TSC advancing by one per instruction."""
    return run([*image_command("tcg", programs.image, ALL), "-icount", "shift=0,sleep=off"], cwd=ROOT)


@pytest.fixture(scope="module")
def on_hv(programs: Programs) -> Finished:
    return run(image_command("hv", programs.image, ALL), cwd=ROOT)


@pytest.fixture(scope="module")
def on_host(programs: Programs) -> Finished:
    return run([str(programs.native), *line_of(EVERYWHERE).split()], cwd=ROOT)


def test_image_has_a_pvh_note_for_its_entry_point(programs: Programs) -> None:
    with programs.image.open("rb") as file:
        elf = ELFFile(file)
        assert elf.elfclass == 64
        segments = [segment for segment in elf.iter_segments() if isinstance(segment, NoteSegment)]
        notes = [note for segment in segments for note in segment.iter_notes()]
        assert [(note["n_name"], int(note["n_type"])) for note in notes] == [
            ("Xen", XEN_ELFNOTE_PHYS32_ENTRY)
        ]
        assert int.from_bytes(notes[0]["n_descdata"], "little") == elf["e_entry"]


@pytest.mark.parametrize("place", ["on_qemu", "on_hv", "on_host"])
def test_every_kernel_comes_to_its_end(place: str, request: pytest.FixtureRequest) -> None:
    finished: Finished = request.getfixturevalue(place)
    check_markers(finished, 0 if place == "on_host" else GOOD)
    names = EVERYWHERE if place == "on_host" else (*EVERYWHERE, *PRIVILEGED)
    wanted = {(name, count) for name in names for count in iterations(name)}
    assert wanted <= ends(finished).keys()


@pytest.mark.parametrize("name", EVERYWHERE)
def test_kernel_computes_the_same_on_qemu_our_core_and_the_host(
    name: str, on_qemu: Finished, on_hv: Finished, on_host: Finished
) -> None:
    for count in iterations(name):
        results = {ends(finished)[name, count][0] for finished in (on_qemu, on_hv, on_host)}
        assert len(results) == 1


def test_results_are_those_of_an_independent_computation(on_hv: Finished) -> None:
    results = {key: int(result, 16) for key, (result, _) in ends(on_hv).items()}
    message = bytes(7 * i & 0xFF for i in range(4096))
    for count in (1, 2, 3):
        digest = hashlib.sha256(message).digest()
        message = digest + message[32:]
        if count in (1, 3):
            assert results["sha256", count] == int.from_bytes(digest[:8], "big")
    last_word = ((1 << 17) - 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    assert results["movsb", 1] == last_word
    assert results["patch", MANY] == sum(range(1, MANY + 1))
    assert results["int", MANY] == MANY
    assert results["fault", MANY] == sum(step % 16 for step in range(MANY))
    assert results["cr3", MANY] == MANY * sum(range(16)) + (MANY // 2) * 16 * 100


@pytest.mark.parametrize(("name", "count"), COUNTED.items())
def test_instructions_per_iteration_are_as_stated(name: str, count: int, on_qemu: Finished) -> None:
    taken = ends(on_qemu)
    assert taken[name, MANY][1] - taken[name, FEW][1] == count * (MANY - FEW)
    assert next(kernel.instructions for kernel in KERNELS if kernel.name == name) == count


def test_ticks_of_our_core_are_the_instructions_and_events_that_qemu_counts(
    on_qemu: Finished, on_hv: Finished
) -> None:
    ours, theirs = ends(on_hv), ends(on_qemu)
    events = {"fault": MANY - FEW}  # a delivery is a tick
    for name in ("alu", "ldst", "call", "indirect", "sse2", "x87", "patch", "fault", "cr3", "int", *COMPILED):
        few, many = iterations(name)
        counted = theirs[name, many][1] - theirs[name, few][1]
        assert ours[name, many][1] - ours[name, few][1] == counted + events.get(name, 0), name


def test_repeated_moves_are_one_tick_each(on_hv: Finished) -> None:
    taken = ends(on_hv)
    assert taken["movsb", 3][1] - taken["movsb", 1][1] == 2 * (0x100000 + 5)


def test_avx2_is_skipped_where_the_processor_has_none(on_hv: Finished, on_qemu: Finished) -> None:
    assert on_hv.find("bench skip avx2 the processor has no AVX2")
    assert ("avx2", 100) in ends(on_qemu)


def test_waiting_takes_its_time_in_the_guest(on_hv: Finished) -> None:
    counts = ends(on_hv)["delay", 2][1]
    assert 2_000_000 * 0.99 <= counts <= 2_000_000 * 1.1  # 1 ms each at 10^9 counts a second


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("run=nonsense iters=1", "no kernel nonsense"),
        ("run=alu iters=0", "no iterations for alu"),
        ("iters=5", "no kernel "),
        ("quiet", "nothing to run"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_a_bad_status(line: str, error: str, programs: Programs) -> None:
    on_core = run(image_command("hv", programs.image, line), cwd=ROOT)
    native = run([str(programs.native), *line.split()], cwd=ROOT)
    for finished, status in ((on_core, BAD), (native, 1)):
        assert finished.status == status
        assert len(finished.lines) == 1
        assert finished.lines[0].text.startswith(f"bench error {error}")
        with pytest.raises(RunError, match=error):
            check_markers(finished, GOOD)


@pytest.mark.parametrize("side", ["hv", "tcg"])
@pytest.mark.parametrize("cpus", [1, 4])
def test_shared_out_work_is_done_on_all_processors(side: str, cpus: int, programs: Programs) -> None:
    whole = run([str(programs.native), "run=alu", f"iters={12_000 // cpus}"])
    each = int(ends(whole)["alu", 12_000 // cpus][0], 16)
    finished = run(image_command(side, programs.image, "run=robin iters=12000", cpus=cpus), cwd=ROOT)
    check_markers(finished, GOOD)
    assert int(ends(finished)["robin", 12_000][0], 16) == each * cpus % (1 << 64)


# --- the tools -----------------------------------------------------------------------------------------


def test_lines_are_stamped_when_they_arrive() -> None:
    program = "import time; print('one', flush=True); time.sleep(0.2); print('two', end='', flush=True)"
    finished = run([sys.executable, "-c", program])
    assert [line.text for line in finished.lines] == ["one", "two"]
    assert finished.lines[1].at_s - finished.lines[0].at_s >= 0.19
    assert finished.status == 0
    assert finished.cpu_s > 0


def test_a_silent_program_is_ended_at_its_time_limit() -> None:
    with pytest.raises(RunError, match="did not end within 0 s"):
        run(["sleep", "60"], timeout_s=0.2)


def test_a_missing_program_is_one_line() -> None:
    with pytest.raises(RunError, match="no-such-program is not installed"):
        run(["no-such-program"])


def test_phases_are_measured_between_lines_and_not_on_the_echoed_command_line() -> None:
    case = next(case for case in LINUX_CASES if case.name == "linux-work")
    lines = (
        Line(0.5, 0.4, 'Command line: console=ttyS0 hvtest="echo mark-0; echo mark-1"'),
        Line(2.0, 1.5, "mark-0"),
        Line(3.5, 2.5, "mark-1"),
        Line(4.5, 3.5, "mark-2"),
    )
    finished = Finished(lines, "", 0, 5.0, 4.0)
    loop = measure_phase(case.phases[0], finished)
    assert (loop.value, loop.cpu_s) == (1.5, 1.0)
    with pytest.raises(RunError, match="mark-3"):
        measure_phase(case.phases[2], finished)


def test_statistics_are_read_with_and_without_shares() -> None:
    said = (
        "hv: 1,400,699,762 instructions in 8.31 s: 168.5 MIPS; guest time 1.20 s\n"
        "hv: 37,612 exits\n"
        "hv:   inout                37,000   12.5 %\n"
        "hv:   hlt                     612\n"
        "hv: state 00ff at tick 17\n"
    )
    found = parse_statistics(said)
    assert found is not None
    assert (found.instructions, found.mips) == (1_400_699_762, 168.5)
    assert found.exits == {"inout": 37_000, "hlt": 612}
    assert found.shares == {"inout": 0.125}
    assert parse_statistics("hv: no such file") is None


def test_perf_and_callgrind_reports_are_read() -> None:
    perf = (
        " 60.50%\t_core.cpython-311-x86_64-linux-gnu.so\t[.] h_mov_EG_32_r  \t-  -\n"
        " 30.00%\tlibpython3.11.so.1.0\t[.] _PyEval_EvalFrameDefault\t-  -\n"
        "  5.25%\t[kernel.kallsyms]\t[k] clear_page\t-  -\n"
    )
    costs = list(parse_perf(perf))
    assert (costs[0].share, costs[0].function) == (0.605, "h_mov_EG_32_r")
    assert parts(costs) == pytest.approx({"core": 0.605, "python": 0.3, "host kernel": 0.0525})
    grind = "1,234 (12.34%)  accel/src/mmu.c:mmu_translate [/x/accel/_core.cpython-311-x86_64-linux-gnu.so]\n"
    (cost,) = parse_callgrind(grind)
    assert (cost.share, cost.function) == (0.1234, "mmu_translate")
    assert cost.where.startswith("_core.")


def row(case: str, **more: object) -> Row:
    return {"case": case, "what": "work", "unit": Unit.MIPS.value, **more}


def test_table_says_what_is_missed_and_what_failed() -> None:
    missed = {"speed_vs_tcg": 0.249, "target": ">= 0.3 x tcg", "met": False}
    rows = [
        row("mix", hv={"figure": 330.2}, tcg={"figure": 1326.0}, **missed),
        row("alu", hv={"error": "ended with status 4: no"}, tcg={"figure": 2648.0}),
    ]
    lines = list(table(rows))
    assert lines[1].split() == [
        *("mix", "work", "330", "1,326", "MIPS", "0.249", ">=", "0.3", "x", "tcg", "MISSED"),
    ]
    assert "failed" in lines[2]
    assert lines[3] == "alu hv: ended with status 4: no"
    assert failures(rows)
    assert not failures(rows[:1])


def test_a_slowdown_beyond_five_percent_is_told() -> None:
    before = [row("mix", speed_vs_tcg=0.4), row("x87", speed_vs_tcg=1.0), row("gone", speed_vs_tcg=1.0)]
    after = [row("mix", speed_vs_tcg=0.37), row("x87", speed_vs_tcg=0.96), row("new", speed_vs_tcg=0.1)]
    assert list(compare(before, after)) == ["mix work: speed_vs_tcg 0.4 -> 0.37"]


def test_bench_names_its_cases_and_refuses_others() -> None:
    command = [sys.executable, "-m", "scripts.bench"]
    listed = subprocess.run([*command, "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {line.split()[0] for line in listed.stdout.splitlines()}
    assert {kernel.name for kernel in KERNELS} <= names
    refused = subprocess.run(
        [*command, "--only", "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr == "bench: no case is called nonsense; --list names them\n"


def test_sources_are_built_again_only_when_they_changed(tmp_path: Path) -> None:
    first = build(tmp_path)
    stamp = first.image.stat().st_mtime_ns
    assert build(tmp_path).image.stat().st_mtime_ns == stamp
    (tmp_path / "bench.elf.stamp").write_text("other")
    assert build(tmp_path).image.stat().st_mtime_ns > stamp
