"""A machine's symbols: finding those of a Debian kernel costs the run nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub.capabilities import Library
from gdbstub.target import Client, Stop, StopReason
from hv.debug.command import CommandContext
from hv.debug.commands import run_command
from hv.debug.run_control import RunControl
from hv.debug.symbol import Symbol
from hv.debug.symbols import KERNEL_NAME, LINKED_NAME, Program
from hv.debug.target import MachineTarget
from hv.debug.target_shared import MachineLease
from hv.loaders import load_image
from tests.helpers.bare_target import CONTINUE, stopped
from tests.helpers.law import Guest, plain, run_to

LINKED = 0xFFFF_FFFF_8100_0000
TICK = 130_000_000  # some way into the kernel's start


@pytest.fixture(scope="module")
def guest(linux_kernel: Path, linux_initramfs: Path) -> Guest:
    return Guest(linux_kernel, (linux_initramfs,), "console=ttyS0 quiet", vcpus=2)


@pytest.fixture
def control(guest: Guest) -> Iterator[RunControl]:
    vm, _ = guest.build()
    control = RunControl(vm)
    image = load_image(guest.image, ram_size=vm.memory.size)
    control.symbols.program = Program(link_base=image.link_base, zero_page=image.state.rsi)
    yield control
    control.close()
    vm.close()


def monitor(control: RunControl, command: str) -> str:
    said: list[str] = []
    run_command(CommandContext(control, 0, said.append), command)
    return "".join(said)


async def test_waiting_for_a_kernel_and_reading_its_symbols_leave_the_run_as_it_is(
    guest: Guest, control: RunControl
) -> None:
    target = MachineTarget(control, MachineLease(), Client("test", 1))
    await target.attach()
    assert await target.section_offsets() is None
    assert await target.executable() is None
    assert "will stop" in monitor(control, "symbols wait")
    # Who has asked for the program is told as of a library; who has asked for the stop gets it then.
    assert await stopped(target, CONTINUE) == Stop(StopReason.LIBRARY, 1)
    [library] = await target.libraries()
    told = Stop(StopReason.EVENT, 1, text="The kernel is mapped at its final address.")
    assert await stopped(target, CONTINUE) == told
    offsets = await target.section_offsets()
    assert offsets is not None
    assert library == Library(KERNEL_NAME, (offsets.text_segment,))
    assert offsets.slide == offsets.text_segment - LINKED
    assert await target.executable() == KERNEL_NAME
    for name in (KERNEL_NAME, LINKED_NAME):
        file = await target.read_file(name)
        assert file is not None
        assert file.startswith(b"\x7fELF")
    assert await target.read_file("/etc/passwd") is None
    # The copy of the boot parameters, early in the kernel's C code.
    index = control.symbols.index()
    assert index is not None
    assert index.named("_text") == Symbol(offsets.text_segment, "T", "_text")
    assert control.symbols.describe(control.vm.vcpus[0].get("linear_pc")) == "copy_bootdata + 24"
    assert run_to(control.vm, TICK) == plain(guest, TICK)
    assert len(control.points) == 0
