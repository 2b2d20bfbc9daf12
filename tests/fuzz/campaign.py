"""Run a fuzzer of the core: `python -m tests.fuzz.campaign TARGET --minutes 60`, by `scripts/fuzz_core`.

The inputs worth keeping stay in `build/fuzz/corpus_TARGET`, so a later run goes on where this one ended; a
finding is written to `build/fuzz/finding_TARGET-...` and named. `--coverage` then replays what was kept on a
build that counts lines.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from accel._build import SRC
from tests.fuzz.build import OUT, TARGETS, build
from tests.fuzz.seeds import SEEDS

MAX_LENGTH: Final = {"decode": 20, "program": 300, "api": 600}
SECONDS_PER_INPUT: Final = 25
"""An input that takes longer is a finding: the longest legitimate ones take a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found: inputs executed, edges of the core reached, and the report of a finding."""

    executed: int
    edges: int
    finding: str | None


def corpus(target: str, directory: Path) -> Path:
    """The directory of inputs to start from, with the seeds in it."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]()):
        (directory / f"seed-{number:04}").write_bytes(seed)
    return directory


def fuzz(
    fuzzer: Path, directory: Path, *, seed: int = 1, seconds: int = 0, inputs: int = -1, echo: bool = False
) -> Result:
    """Run until the time or the number of inputs is used up, or something is found."""
    target = fuzzer.name
    command = [
        str(fuzzer), f"-seed={seed}", f"-max_total_time={seconds}", f"-runs={inputs}", "-len_control=0",
        f"-max_len={MAX_LENGTH[target]}", f"-timeout={SECONDS_PER_INPUT}", "-rss_limit_mb=2048",
        "-print_final_stats=1", f"-artifact_prefix={fuzzer.parent}/finding_{target}-", str(directory),
    ]  # fmt: skip
    env = os.environ | {
        "ASAN_OPTIONS": "detect_leaks=1:handle_abort=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    edges = executed = 0
    tail: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=env) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.match(r"#(\d+)\s.*cov: (\d+)", line):
                executed, edges = int(found[1]), int(found[2])
                if echo and " pulse " in line:
                    print(line, end="", file=sys.stderr, flush=True)
            elif not line.startswith(("#", "\tNEW_FUNC")):
                tail = [*tail, line][-80:]
    return Result(executed, edges, "".join(tail) if process.returncode else None)


def coverage(target: str, directory: Path) -> str:
    """A table of the lines, functions and regions of the core that the inputs of a corpus reach."""
    fuzzer = build(target, profile=True)
    raw, merged = OUT / f"{target}.profraw", OUT / f"{target}.profdata"
    env = os.environ | {"LLVM_PROFILE_FILE": str(raw)}
    subprocess.run([fuzzer, "-runs=0", directory], check=True, capture_output=True, env=env)
    subprocess.run(["llvm-profdata", "merge", "-sparse", raw, "-o", merged], check=True)
    report = ["llvm-cov", "report", str(fuzzer), f"-instr-profile={merged}", str(SRC)]
    return subprocess.run(report, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Fuzz for as long as asked; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="fuzz_core", description="fuzz the core, guided by coverage")
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, 60 by default")
    parser.add_argument("--seed", type=int, default=1, help="start of the random numbers, 1 by default")
    parser.add_argument("--coverage", action="store_true", help="print which lines the kept inputs reach")
    parser.add_argument("--fresh", action="store_true", help="forget the inputs of earlier runs")
    arguments = parser.parse_args()
    target = arguments.target
    directory = OUT / f"corpus_{target}"
    if arguments.fresh:
        shutil.rmtree(directory, ignore_errors=True)
    result = None
    if arguments.minutes:
        fuzzer = build(target)
        seconds = max(1, round(60 * arguments.minutes))
        result = fuzz(fuzzer, corpus(target, directory), seed=arguments.seed, seconds=seconds, echo=True)
        print(f"{target}: {result.executed} inputs, {result.edges} edges of the core")
        print(result.finding or f"{target}: nothing found in {arguments.minutes:g} minutes")
    if arguments.coverage:
        print(coverage(target, directory))
    return int(result is not None and result.finding is not None)


if __name__ == "__main__":
    sys.exit(main())
