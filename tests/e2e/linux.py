"""The Debian cloud kernel with a busybox initramfs on `hv run`, and what its shell is asked."""

import re
from pathlib import Path
from typing import Final

from tests.e2e.machine import Machine
from tests.helpers import assets
from tests.helpers.patience import HANG_S

BOOT_TIMEOUT_S: Final = HANG_S
COMMAND_LINE: Final = "console=ttyS0"
PROMPT: Final = re.escape(assets.SHELL_PROMPT)
# What the shell's line editor asks the terminal: "where is the cursor?"
_CURSOR_QUESTION: Final = "\x1b[6n"
_MAX_LINE: Final = 70
"""Longer lines are wrapped by the line editor."""


def linux_arguments(kernel: Path, initramfs: Path, append: str = "") -> list[str]:
    """The arguments of `hv run` that boot the kernel to the initramfs's /init."""
    return [str(kernel), "--initrd", str(initramfs), "--append", f"{COMMAND_LINE} {append}".strip()]


def to_shell(machine: Machine) -> str:
    """Wait for the shell's prompt; what the kernel printed before."""
    return machine.expect(f"(.*){assets.READY_LINE}.*?{PROMPT}", BOOT_TIMEOUT_S)[1]


def shell(machine: Machine, command: str) -> str:
    """Have the guest's shell carry out `command`; what it printed, without the last line end."""
    assert len(command) < _MAX_LINE
    machine.type(f"{command}\n")
    machine.expect(re.escape(command) + "\r\n")
    printed = machine.expect(f"(.*?){PROMPT}", BOOT_TIMEOUT_S)[1]
    return printed.replace(_CURSOR_QUESTION, "").replace("\r\n", "\n").removesuffix("\n")


def power_off(machine: Machine) -> int:
    """Switch the guest off; the exit status."""
    machine.type("poweroff\n")
    return machine.wait(BOOT_TIMEOUT_S)
