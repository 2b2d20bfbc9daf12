"""QEMU stopped with given memory and registers, and what its monitor prints, through stock gdb."""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.e2e.gdb_driver import run_batch
from tests.helpers.patience import HANG_S

_TIMEOUT_S = HANG_S


@contextlib.contextmanager
def qemu(directory: Path, *arguments: str) -> Iterator[str]:
    """A QEMU that stands before its first instruction; gdb's name for its address."""
    path = directory / "gdb"
    command = ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-m", "64M", "-cpu", "max"]
    process = subprocess.Popen([*command, "-gdb", f"unix:{path},server=on,wait=off", *arguments])
    try:
        end = time.monotonic() + _TIMEOUT_S
        while not path.exists():
            assert process.poll() is None, "QEMU ended"
            assert time.monotonic() < end, "QEMU does not listen"
            time.sleep(0.01)
        yield str(path)
    finally:
        process.kill()
        process.wait()


def monitor(
    directory: Path, memory: Mapping[int, bytes], registers: Mapping[str, int], commands: Sequence[str]
) -> list[str]:
    """What the monitor prints for each command, on a machine with this memory and these registers."""
    loads = []
    for at, data in memory.items():
        file = directory / f"{at:x}"
        file.write_bytes(data)
        loads += ["-device", f"loader,addr={at:#x},file={file},force-raw=on"]
    marks = [f"=== {number}" for number in range(len(commands))]
    script = [f"set ${name} = (long){value:#x}" for name, value in registers.items()]
    for mark, command in zip(marks, commands, strict=True):
        script += [f"echo {mark}\\n", f"monitor {command}"]
    with qemu(directory, *loads) as address:
        status, text = run_batch([f"target remote {address}", *script, "echo ===\\n", "disconnect"])
    assert status == 0, text
    parts = text.replace("\r\n", "\n").partition("===\n")[0].split("=== ")[1:]
    return [part.partition("\n")[2] for part in parts]
