"""Build the core and the demo guest beside their sources, as far as they have changed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hv.guests import GuestBuildError, build_demo, demo_source_dir  # noqa: E402


def main() -> int:
    """Return 0, or 1 after one line that says what failed."""
    werror = os.environ.get("HV_WERROR") == "1"
    try:
        build_demo(demo_source_dir(), werror=werror)
    except GuestBuildError as error:
        sys.stderr.write(error.log)
        print(f"error: {error}", file=sys.stderr)
        return 1
    environment = dict(os.environ)
    if werror:
        environment["CFLAGS"] = f"{environment.get('CFLAGS', '')} -Werror".strip()
    done = subprocess.run([sys.executable, "-m", "accel._build"], cwd=ROOT, env=environment, check=False)
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
