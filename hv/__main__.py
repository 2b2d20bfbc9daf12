"""`hv` and `python -m hv`: the command line, loaded without the garbage collector's help."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """The console script."""
    gc.disable()  # modules are no garbage: looking for it is a tenth of the time that loading them takes
    try:
        from hv.cli import main as command_line
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as the command line itself ends then
    gc.freeze()
    gc.enable()
    command_line()


if __name__ == "__main__":
    main()
