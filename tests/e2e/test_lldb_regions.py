"""Stock LLDB on the demo guest: the map of memory from its page tables."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

from tests.e2e.conftest import StartMachine
from tests.helpers.gdb import lldb_path
from tests.helpers.patience import HANG_S


def test_lldb_draws_the_map_of_memory(run: StartMachine, demo_elf: Path) -> None:
    machine = run("--gdb", "127.0.0.1:0", "-c", "2")
    port = machine.address().rpartition(":")[2]
    commands = [
        f"gdb-remote 127.0.0.1:{port}",
        "memory region 0",
        "breakpoint set -H -n kmain",
        "continue",
        "memory region $pc",
        "memory region 0x10",
        "memory region --all",
    ]
    options = [part for line in commands for part in ("-o", line)]
    done = subprocess.run(
        [lldb_path(), "--no-lldbinit", "-b", *options, str(demo_elf)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=HANG_S,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    before, _, after = text.partition("(lldb) continue")
    assert "[0x0000000000000000-0x0000000010000000) rwx ram\n" in before, text
    rows = re.findall(r"^\[0x([0-9a-f]{16})-0x([0-9a-f]{16})\) ([r-][w-][x-])(.*)$", after, re.MULTILINE)
    assert any(rights[0] == "r" and rights[2] == "x" for _, _, rights, _ in rows[:1]), text
    whole = [(int(start, 16), int(end, 16)) for start, end, _, _ in rows[2:]]
    assert whole[0][0] == 0
    assert whole[-1][1] == (1 << 64) - 1
    assert all(here[1] == following[0] for here, following in pairwise(whole))
    assert any("lapic" in name for _, _, _, name in rows), text
