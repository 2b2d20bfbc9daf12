"""Fuzz the debug server, guided by coverage, against a live toy target or, with `--machine`, a real machine:
`bare`, or `pc`, which has interrupts.

Ends with status 0 after `--minutes` without a finding, or with 1 and the shortest input that was found. How
it works and what counts as a finding is in `tests/helpers/session_fuzzer.py`.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import trio  # noqa: E402

from tests.helpers.machine_fuzzer import SAMPLES, busy_to_fuzz, machine_to_fuzz  # noqa: E402
from tests.helpers.session_fuzzer import GDBSTUB, Fuzzer  # noqa: E402

REPORT_S = 30.0
MACHINES = {"bare": machine_to_fuzz, "pc": busy_to_fuzz}


def main() -> int:
    """Fuzz for as long as asked."""
    parser = argparse.ArgumentParser(description="fuzz the debug server")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, 60 by default")
    parser.add_argument("--seed", type=int, default=1, help="start of the random numbers, 1 by default")
    parser.add_argument(
        "--machine", nargs="?", const="bare", choices=MACHINES, help="a real machine, not a toy target"
    )
    arguments = parser.parse_args()
    if arguments.machine:
        fuzzer = Fuzzer(arguments.seed, MACHINES[arguments.machine], SAMPLES)
    else:
        fuzzer = Fuzzer(arguments.seed)
    end = time.monotonic() + 60 * arguments.minutes
    while (left := end - time.monotonic()) > 0:
        finding = trio.run(partial(fuzzer.search, seconds=min(REPORT_S, left)))
        print(
            f"{fuzzer.executed} inputs, {len(fuzzer.corpus)} kept, {len(fuzzer.coverage.edges)} edges",
            file=sys.stderr,
        )
        if finding is not None:
            print(f"fuzz_session: {finding.why}\n" + "\n".join(map(repr, finding.data)))
            return 1
    ours = fuzzer.coverage.edges_of(GDBSTUB)
    others = len(fuzzer.coverage.edges) - ours
    print(f"{ours} edges in gdbstub/, {others} in hv/debug/, nothing found in {fuzzer.executed} inputs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
