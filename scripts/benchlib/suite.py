"""Measuring: every case on every side, in turn, and the rows that come of it.

A row is what the JSON file holds of one figure:

    {"case": "mix", "what": "...", "unit": "MIPS", "command_line": "run=mix iters=8000",
     "instructions": 57674,
     "hv":  {"figure": 800.1, "seconds": 0.577, "runs_s": [0.577, ...], "cpu_s": 0.57,
             "iterations": 8000},
     "tcg": {...}, "native": {...},
     "speed_vs_tcg": 0.33, "speed_vs_native": 0.08, "target": ">= 0.3 x tcg", "met": true}

`cpu_s` is the CPU time of all threads of the process, which other load on the machine changes less.
`speed_vs_X` is the other side's time over ours: 2 is twice as fast as X. A side that failed has
{"error": "one line"} instead of figures.
"""

import dataclasses
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from scripts.benchlib.build import Programs
from scripts.benchlib.kernels import Aim, Kernel, Unit, command_line
from scripts.benchlib.linux import (
    LinuxCase,
    Measure,
    Phase,
    PhaseTime,
    linux_case_name,
    measure_phase,
    parse_statistics,
    run_linux,
)
from scripts.benchlib.process import Finished, RunError
from scripts.benchlib.sides import Sample, Skipped, run_kernel

Row = dict[str, Any]
STARTUP_BOUND_S: Final = 0.3
_DIGITS: Final = 4
_Result = TypeVar("_Result")


def significant(value: float) -> float:
    """`value` with as many digits as a measurement deserves."""
    return float(f"{value:.{_DIGITS}g}")


# --- kernels -------------------------------------------------------------------------------------------


def measure_kernel(
    kernel: Kernel, programs: Programs, sides: Sequence[str], runs: int, instructions: int
) -> tuple[Row, list[Sample]]:
    """The row of `kernel`, whose iterations have `instructions` each, and the samples on our side."""
    usable = [side for side in sides if kernel.native or side != "native"]
    samples, errors = _collect(kernel.name, usable, runs, lambda side: run_kernel(side, programs, kernel))
    row: Row = {
        "case": kernel.name,
        "what": kernel.what,
        "unit": kernel.unit.value,
        "command_line": command_line(kernel, "hv"),
    }
    if instructions:
        row["instructions"] = instructions
    for side, error in errors.items():
        row[side] = {"error": error}
    per_iteration: dict[str, float] = {}
    for side, taken in samples.items():
        seconds = statistics.median(sample.seconds for sample in taken)
        iterations = kernel.iterations_on(side)
        per_iteration[side] = seconds / iterations
        row[side] = {
            "figure": significant(kernel.figure(per_iteration[side], instructions)),
            "seconds": significant(seconds),
            "runs_s": [significant(sample.seconds) for sample in taken],
            "cpu_s": significant(statistics.median(sample.cpu_s for sample in taken)),
            "iterations": iterations,
        }
    _compare(row, per_iteration)
    _check_results(row, kernel, samples)
    _judge_kernel(row, kernel)
    return row, samples.get("hv", [])


def measure_robin(kernel: Kernel, programs: Programs, runs: int) -> Row:
    """The row of a `kernel` that shares its work out among several vCPUs: its speed relative to one."""
    variants = {"one": dataclasses.replace(kernel, cpus=1), "many": kernel}
    samples, errors = _collect(
        kernel.name, tuple(variants), runs, lambda name: run_kernel("hv", programs, variants[name])
    )
    row: Row = {
        "case": kernel.name,
        "what": kernel.what,
        "unit": kernel.unit.value,
        "command_line": command_line(kernel, "hv"),
        "cpus": kernel.cpus,
    }
    if errors:
        row["hv"] = {"error": next(iter(errors.values()))}
    else:
        seconds = {name: statistics.median(each.seconds for each in taken) for name, taken in samples.items()}
        row["hv"] = {
            "figure": significant(seconds["one"] / seconds["many"]),
            "seconds": significant(seconds["many"]),
            "runs_s": [significant(sample.seconds) for sample in samples["many"]],
            "one_cpu_runs_s": [significant(sample.seconds) for sample in samples["one"]],
        }
    _judge_kernel(row, kernel)
    return row


def _check_results(row: Row, kernel: Kernel, samples: dict[str, list[Sample]]) -> None:
    """Runs of equally many iterations must have computed the same."""
    results: dict[int, set[str]] = {}
    for side, taken in samples.items():
        results.setdefault(kernel.iterations_on(side), set()).update(sample.result for sample in taken)
    if any(len(found) > 1 for found in results.values()):
        row["error"] = f"different results: {', '.join(sorted(set().union(*results.values())))}"


def _judge_kernel(row: Row, kernel: Kernel) -> None:
    target = kernel.target
    if target is None:
        return
    if target.aim is Aim.TCG_SPEED:
        row["target"] = f">= {target.bound:g} x tcg"
        if "speed_vs_tcg" in row:
            row["met"] = row["speed_vs_tcg"] >= target.bound
        return
    more = kernel.unit.more_is_better
    row["target"] = f"{'>=' if more else '<='} {target.bound:g} {kernel.unit.value}"
    figure = row.get("hv", {}).get("figure")
    if figure is not None:
        row["met"] = figure >= target.bound if more else figure <= target.bound


def startup_row(samples: Sequence[Sample]) -> Row | None:
    """From the start of `hv run` to the first line of the image, over all `samples`."""
    if not samples:
        return None
    times = sorted(sample.startup_s for sample in samples)
    seconds = statistics.median(times)
    return {
        "case": "startup",
        "what": "process start to the guest's first line",
        "unit": "s",
        "hv": {"figure": significant(seconds), "seconds": significant(seconds), "runs": len(times)},
        "target": f"<= {STARTUP_BOUND_S:g} s",
        "met": seconds <= STARTUP_BOUND_S,
    }


# --- Linux ---------------------------------------------------------------------------------------------


def measure_linux(case: LinuxCase, cpus: int, sides: Sequence[str], runs: int) -> list[Row]:
    """One row per phase of `case`. Statistics come from one more run of ours, which is not timed."""
    name = linux_case_name(case, cpus)
    usable = [side for side in sides if side in case.sides]

    def once(side: str) -> list[PhaseTime]:
        finished = run_linux(side, case, cpus)
        return [measure_phase(phase, finished) for phase in case.phases]

    taken, errors = _collect(name, usable, runs, once)
    rows = [_phase_row(name, case, cpus, index, taken, errors) for index in range(len(case.phases))]
    if "hv" in taken:
        try:
            rows[-1]["statistics"] = _statistics(run_linux("hv", case, cpus, "--stats"))
        except RunError as error:
            rows[-1]["error"] = str(error)
    return rows


def _phase_row(
    name: str,
    case: LinuxCase,
    cpus: int,
    index: int,
    taken: dict[str, list[list[PhaseTime]]],
    errors: dict[str, str],
) -> Row:
    phase = case.phases[index]
    row: Row = {
        "case": name,
        "what": phase.name,
        "unit": phase.measure.value,
        "command_line": case.append,
        "cpus": cpus,
    }
    for side, error in errors.items():
        row[side] = {"error": error}
    medians: dict[str, float] = {}
    for side, runs in taken.items():
        phases = [run[index] for run in runs]
        medians[side] = statistics.median(each.value for each in phases)
        row[side] = {
            "figure": significant(medians[side]),
            "runs": [significant(each.value) for each in phases],
            "cpu_s": significant(statistics.median(each.cpu_s for each in phases)),
        }
    if phase.measure is Measure.SECONDS:
        _compare(row, medians)
    _judge_phase(row, phase, medians)
    return row


def _judge_phase(row: Row, phase: Phase, medians: dict[str, float]) -> None:
    if phase.bound is None:
        return
    if phase.measure is Measure.CORE_SHARE:
        row["target"] = f"<= {phase.bound:g} {phase.measure.value}"
        if "hv" in medians:
            row["met"] = medians["hv"] <= phase.bound
        return
    row["target"] = f">= 1/{phase.bound:g} x tcg"
    if "hv" in medians and "tcg" in medians:
        row["met"] = medians["hv"] <= phase.bound * medians["tcg"]


def _statistics(finished: Finished) -> Row:
    found = parse_statistics(finished.errors)
    if found is None:
        raise RunError("hv run --stats printed no statistics")
    exits = {
        kind: {"count": count} | ({"share": found.shares[kind]} if kind in found.shares else {})
        for kind, count in found.exits.items()
    }
    return {"instructions": found.instructions, "mips": found.mips, "exits": exits}


# --- both ----------------------------------------------------------------------------------------------


def _collect(
    what: str, sides: Sequence[str], runs: int, once: Callable[[str], _Result]
) -> tuple[dict[str, list[_Result]], dict[str, str]]:
    """Call `once` with each side in turn, `runs` times; a side that fails is not tried again."""
    done: dict[str, list[_Result]] = {}
    errors: dict[str, str] = {}
    for number in range(runs):
        for side in sides:
            if side in errors:
                continue
            try:
                done.setdefault(side, []).append(once(side))
            except (RunError, Skipped) as error:
                errors[side] = str(error)
                del done[side]
                _progress(f"{what} {side}: {error}")
            else:
                _progress(f"{what} {side} {number + 1}/{runs}")
    return done, errors


def _compare(row: Row, seconds: dict[str, float]) -> None:
    for side in ("tcg", "native"):
        if "hv" in seconds and side in seconds:
            row[f"speed_vs_{side}"] = significant(seconds[side] / seconds["hv"])


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def instruction_counts(kernels: Sequence[Kernel], counted: dict[str, int]) -> dict[str, int]:
    """Instructions per iteration by kernel; `counted` has those that a compiler made. 0: not counted."""
    return {kernel.name: kernel.instructions or counted.get(kernel.name, 0) for kernel in kernels}


def uncounted(kernels: Sequence[Kernel]) -> list[str]:
    """The kernels whose instructions per iteration a run has to tell."""
    return [kernel.name for kernel in kernels if kernel.instructions is None and kernel.unit is Unit.MIPS]
