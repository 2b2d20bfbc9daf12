"""The command behind `scripts/oracle`: a campaign of the instruction oracle."""

from __future__ import annotations

import argparse
import sys

from tests.helpers import accel_oracle


def main() -> int:
    """Parse the command line, run, print; status 1 when anything differed."""
    parser = argparse.ArgumentParser(prog="oracle", description="Compare the core with the host CPU.")
    parser.add_argument("--cases", type=int, default=200_000, help="cases in all (default 200000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the generator (default 1)")
    parser.add_argument("--rows", default="*", help="mnemonics, comma separated, with shell wildcards")
    parser.add_argument("--limit", type=int, default=1, help="differences shown per row (default 1)")
    arguments = parser.parse_args()
    try:
        outcome = accel_oracle.run(arguments.cases, arguments.seed, arguments.rows, arguments.limit)
    except accel_oracle.OracleError as error:
        print(f"oracle: {error}", file=sys.stderr)
        return 2
    for line in [*outcome.differences, *outcome.rows, outcome.total]:
        print(line)
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
