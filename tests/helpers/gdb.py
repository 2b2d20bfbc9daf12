"""Where stock gdb and LLDB are, and gdb run over a script. A missing one is a failure."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.helpers.patience import HANG_S

LLDB_NAMES = ("lldb-16", "lldb-17", "lldb-18", "lldb-19", "lldb-20", "lldb-21", "lldb")
# Runs a command and prints the error that it ends with, if any, so that the script goes on.
PRELUDE = r"""
set pagination off
set confirm off
set height 0
python
class Try(gdb.Command):
    def __init__(self): super().__init__("try", gdb.COMMAND_USER)
    def invoke(self, argument, tty):
        try: gdb.execute(argument)
        except gdb.error as error: print("error:", error)
Try()
end
"""


def gdb_path() -> str:
    path = shutil.which("gdb")
    assert path is not None, "gdb is missing"
    return path


def lldb_path() -> str:
    found = [path for name in LLDB_NAMES if (path := shutil.which(name)) is not None]
    assert found, "lldb is missing (Debian: lldb-16)"
    return found[0]


async def gdb(script: Sequence[str], tmp_path: Path) -> str:
    """Run gdb over `script` and return all it printed."""
    file = tmp_path / "script.gdb"
    file.write_text(PRELUDE + "\n".join(script) + "\n")
    with trio.fail_after(HANG_S):
        done = await trio.run_process(
            [gdb_path(), "-nx", "-batch", "-x", str(file)],
            stdin=b"",
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    text: str = done.stdout.decode()
    assert done.returncode == 0, text
    return text
