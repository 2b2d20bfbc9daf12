"""One scenario of verbs, played by stock gdb, gdb's machine interface and stock LLDB, on two guests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import StartMachine
from tests.e2e.gdb_driver import run_batch
from tests.e2e.linux import linux_arguments, shell, to_shell
from tests.e2e.machine import DEMO_PROMPT, Machine, demo_command
from tests.e2e.scenarios.drivers import DEBUGGERS
from tests.e2e.scenarios.verbs import VCPUS, VERBS, play, steps

VALUE = 1_000_001


@pytest.mark.parametrize("client", DEBUGGERS)
def test_the_demo_guest(run: StartMachine, demo_elf: Path, client: str) -> None:
    machine = run("-c", str(VCPUS), "--gdb", "127.0.0.1:0", "--no-wait")
    machine.expect(DEMO_PROMPT)
    with DEBUGGERS[client](demo_elf) as debugger:
        debugger.connect(machine.address())
        play(debugger, "demo")
        counted = demo_command(machine, "ticks").split("shared counter ")[1]
        assert VALUE <= int(counted.split()[0]) < 2 * VALUE
    assert "cpu 3" in demo_command(machine, "cpus")


@pytest.fixture(scope="module")
def debian(linux_kernel: Path, linux_initramfs: Path) -> Iterator[Machine]:
    """Debian's kernel with KASLR on, and a loop on each of its processors. All clients come to this one."""
    arguments = linux_arguments(linux_kernel, linux_initramfs, "quiet")
    with Machine(*arguments, "-c", str(VCPUS), "--gdb", "127.0.0.1:0", "--no-wait") as machine:
        to_shell(machine)
        shell(machine, f"for i in $(seq {VCPUS}); do while :; do :; done & done")
        yield machine


@pytest.fixture(scope="module")
def debian_symbols(debian: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the kernel's symbols, for a client that does not take it from the server."""
    file = tmp_path_factory.mktemp("symbols") / "vmlinux"
    status, printed = run_batch(
        [f"target remote {debian.address()}", f"remote get /linked/vmlinux {file}", "detach"]
    )
    assert status == 0, printed
    return file


@pytest.mark.parametrize("client", DEBUGGERS)
def test_a_debian_kernel(debian: Machine, debian_symbols: Path, client: str) -> None:
    address = debian.messages.text.split("target remote ")[1].split("'")[0]
    shell(debian, "echo 0 > /proc/sys/kernel/panic")
    with DEBUGGERS[client](debian_symbols if client == "lldb" else None) as debugger:
        debugger.connect(address)
        play(debugger, "debian")
        assert shell(debian, "cat /proc/sys/kernel/panic") == str(VALUE)


@pytest.mark.parametrize("guest", ["demo", "debian"])
def test_every_verb_of_the_file_exists_and_ends_with_detaching(guest: str) -> None:
    verbs = [verb for verb, _ in steps(guest)]
    assert set(verbs) == VERBS.keys()
    assert verbs[-1] == "detach"
