"""Stock gdb on an unmodified Debian kernel, without symbols: the guest itself is asked for them."""

import re
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import StartGdb, StartMachine
from tests.e2e.gdb_driver import Gdb, GdbError
from tests.e2e.linux import BOOT_TIMEOUT_S, linux_arguments, shell, to_shell
from tests.e2e.machine import Machine

NAMES = (
    "start_kernel",
    "x86_64_start_kernel",
    "__x64_sys_newuname",
    "__x64_sys_getppid",
    "init_uts_ns",
    "jiffies",
    "sysvec_apic_timer_interrupt",
    "asm_sysvec_apic_timer_interrupt",
)
NODENAME_OFFSET = 65  # struct new_utsname: sysname[65], nodename[65], ...
USER = 3


@pytest.fixture(scope="module")
def symbols(linux_kernel: Path, linux_initramfs: Path) -> dict[str, int]:
    """Where the kernel is without KASLR."""
    command = f"grep -wE '{'|'.join(NAMES)}' /proc/kallsyms; poweroff"
    append = f'quiet nokaslr hvtest="{command}"'
    with Machine(*linux_arguments(linux_kernel, linux_initramfs, append)) as machine:
        assert machine.wait(BOOT_TIMEOUT_S) == 0
        found = re.findall(r"^([0-9a-f]{16}) \w (\w+)\r?$", machine.console.join(), re.MULTILINE)
    table = {name: int(address, 16) for address, name in found}
    assert set(NAMES) <= table.keys()
    return table


@pytest.fixture
def linux(run: StartMachine, gdb: StartGdb, linux_kernel: Path, linux_initramfs: Path) -> tuple[Machine, Gdb]:
    """The kernel before its first instruction, on two vCPUs whose idle time is the host's, and gdb."""
    arguments = linux_arguments(linux_kernel, linux_initramfs, "nokaslr")
    machine = run(*arguments, "-c", "2", "--clock", "host", "--gdb", "127.0.0.1:0")
    debugger = gdb()
    debugger(f"target remote {machine.address()}")
    return machine, debugger


def continue_to_shell(machine: Machine, gdb: Gdb) -> None:
    gdb.begin("continue")
    to_shell(machine)


def test_breakpoints_in_a_kernel_that_is_not_mapped_yet(
    linux: tuple[Machine, Gdb], symbols: dict[str, int]
) -> None:
    machine, gdb = linux
    start, entered = symbols["start_kernel"], symbols["x86_64_start_kernel"]
    assert gdb.value("$ticks") == 0
    for address in (start, entered):
        with pytest.raises(GdbError, match="Cannot access memory"):
            gdb(f"x/i {address:#x}")
    gdb(f"hbreak *{entered:#x}")
    gdb(f"break *{start:#x}")
    assert gdb.go("continue").address == entered
    assert gdb.go("continue").address == start
    assert machine.console.text == ""
    code = gdb("x/8i $pc")
    assert code.startswith(f"=> {start:#x} <start_kernel>:")
    assert len(code.splitlines()) == 8
    assert "(bad)" not in code
    assert gdb.value("*(long *) $rsp") >> 31 == 0x1_FFFF_FFFF
    assert gdb.value("$cs") == 0x10  # __KERNEL_CS
    assert gdb.value("$efer") & 0xD01 == 0xD01  # SCE, LME, LMA, NXE
    assert gdb.value("$gs_base") >= 0xFFFF_FFFF_8000_0000
    gdb("delete")
    continue_to_shell(machine, gdb)
    assert shell(machine, "nproc") == "2"


def test_a_session_with_a_running_kernel(linux: tuple[Machine, Gdb], symbols: dict[str, int]) -> None:
    machine, gdb = linux
    continue_to_shell(machine, gdb)
    check_idle(gdb)
    check_memory_write(machine, gdb, symbols)
    check_register_write(machine, gdb, symbols)
    check_busy(machine, gdb, symbols)
    check_watchpoint(gdb, symbols)
    gdb("delete")
    gdb("detach")
    machine.type("\x03")  # for the guest: ends its loop in the foreground
    machine.expect("# ")
    assert shell(machine, "kill %1; echo on").endswith("on")
    gdb(f"target remote {machine.messages.text.split('target remote ')[1].split(chr(39))[0]}")
    gdb.begin("continue")
    machine.type("poweroff\n")
    assert "powered off" in gdb.wait()
    assert gdb.go("continue").reason == "exited-normally"
    assert machine.wait() == 0


def check_idle(gdb: Gdb) -> None:
    """Ctrl-C in a guest that waits at its prompt."""
    stop = gdb.interrupt()
    assert stop.fields["signal-name"] == "SIGINT"
    assert gdb("info threads").count("halted") == 2
    for thread in (1, 2):
        gdb(f"thread {thread}")
        assert gdb.value("$cpl") == 0
        assert gdb("x/i $pc - 1").split()[-1] == "hlt"


def check_memory_write(machine: Machine, gdb: Gdb, symbols: dict[str, int]) -> None:
    """A breakpoint in a system call; the answer is changed in memory."""
    gdb(f"break *{symbols['__x64_sys_newuname']:#x}")
    gdb.begin("continue")
    machine.type("uname -n\n")
    gdb.wait()
    assert gdb.stop is not None
    assert gdb.stop.address == symbols["__x64_sys_newuname"]
    name = symbols["init_uts_ns"] + NODENAME_OFFSET
    assert gdb(f'printf "%s", (char *) {name:#x}') == "(none)"
    gdb(f'set var *(char (*)[9]) {name:#x} = "debugged"')
    gdb("delete")
    gdb.begin("continue")
    machine.expect("\r\ndebugged\r\n.*?# ")


def check_register_write(machine: Machine, gdb: Gdb, symbols: dict[str, int]) -> None:
    """A system call returns at once, with what the debugger put into rax."""
    gdb.interrupt()
    gdb(f"break *{symbols['__x64_sys_getppid']:#x}")
    gdb.begin("continue")
    machine.type("sh -c 'echo parent $PPID'\n")
    gdb.wait()
    gdb("set var $pc = *(long *) $rsp")
    gdb("set var $rsp = $rsp + 8")
    gdb("set var $rax = 4242")
    gdb("delete")
    gdb.begin("continue")
    machine.expect("\r\nparent 4242\r\n.*?# ")


def check_busy(machine: Machine, gdb: Gdb, symbols: dict[str, int]) -> None:
    """Ctrl-C in a guest whose processors both work; steps stay in the program under a running timer."""
    machine.type("while :; do :; done & while :; do :; done\n")
    machine.expect("done\r\n")
    time.sleep(0.5)  # both loops are under way then: no fork, no page fault among the steps below
    gdb.interrupt()
    for _ in range(20):
        if gdb.value("$cpl") == USER:
            break
        gdb.begin("continue")
        gdb.interrupt()
    assert gdb.value("$cpl") == USER
    assert gdb.value("$pc") < 1 << 47
    assert "(bad)" not in gdb("x/4i $pc")
    handlers = {symbols["asm_sysvec_apic_timer_interrupt"], symbols["sysvec_apic_timer_interrupt"]}
    for _ in range(200):
        stop = gdb.go("stepi")
        assert stop.reason == "end-stepping-range"
        assert stop.address not in handlers


def check_watchpoint(gdb: Gdb, symbols: dict[str, int]) -> None:
    """The timer goes on: somebody writes jiffies."""
    gdb(f"watch *(unsigned long *) {symbols['jiffies']:#x}")
    before = gdb.value(f"*(unsigned long *) {symbols['jiffies']:#x}")
    stop = gdb.go("continue")
    assert stop.reason == "watchpoint-trigger"
    assert int(stop.fields["value"]["old"]) == before
    assert int(stop.fields["value"]["new"]) > before
    assert gdb.value("$cpl") == 0
