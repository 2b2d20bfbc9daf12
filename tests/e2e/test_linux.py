"""An unmodified Debian kernel, from power-on to a shell and off again."""

import hashlib
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import StartMachine
from tests.e2e.linux import linux_arguments, power_off, shell, to_shell
from tests.e2e.machine import Machine
from tests.helpers import assets

LINKED_AT = 0xFFFF_FFFF_8100_0000  # Linux: CONFIG_PHYSICAL_START above __START_KERNEL_map
TROUBLE = re.compile(
    r"WARNING|BUG:|Oops|Call Trace|Kernel panic|unable to handle|Unknown NMI|nobody cared|hung task"
    r"|soft lockup|rcu_\w+ (self-)?detected|clocksource: .*unstable|TSC.*(unstable|skew|calibration failed)"
)


@pytest.mark.parametrize(("vcpus", "memory"), [("1", "256M"), ("2", "256M"), ("4", "4G")])
def test_boots_to_a_shell_works_and_powers_off(
    run: StartMachine, linux_kernel: Path, linux_initramfs: Path, vcpus: str, memory: str
) -> None:
    machine = run(*linux_arguments(linux_kernel, linux_initramfs), "-c", vcpus, "-m", memory)
    booting = to_shell(machine)
    assert TROUBLE.search(booting) is None, TROUBLE.search(booting)
    assert "Linux version 6." in booting
    [release] = re.findall(r"linux-image-(\S+)", (assets.cache_dir() / "vmlinuz.version").read_text())
    assert shell(machine, "uname -r") == release
    assert shell(machine, "nproc") == vcpus
    clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    assert shell(machine, f"cat {clock}") == "tsc"
    total = re.search(r"MemTotal: +(\d+) kB", shell(machine, "head -1 /proc/meminfo"))
    assert total is not None
    asked = {"256M": 256 << 10, "4G": 4 << 20}[memory]
    assert 0.8 * asked < int(total[1]) < asked
    [text] = re.findall("([0-9a-f]{16}) T _text", shell(machine, "grep ' _text$' /proc/kallsyms"))
    assert int(text, 16) > LINKED_AT  # KASLR is on
    check_userland(machine)
    check_interrupts(machine, int(vcpus))
    assert TROUBLE.search(shell(machine, "dmesg | tail -n 20")) is None
    assert power_off(machine) == 0
    assert machine.messages.join() == ""


def check_userland(machine: Machine) -> None:
    assert shell(machine, "date -u +%Y-%m-%d") == "2026-01-01"
    assert shell(machine, "awk 'BEGIN { printf \"%.12f\", 22 / 7 }'") == "3.142857142857"
    numbers = "".join(f"{number}\n" for number in range(1, 20001)).encode()
    assert shell(machine, "seq 20000 | sha256sum") == f"{hashlib.sha256(numbers).hexdigest()}  -"
    assert shell(machine, "seq 20000 | gzip | gunzip | md5sum") == f"{hashlib.md5(numbers).hexdigest()}  -"
    assert shell(machine, "sh -c 'kill -SEGV $$'; echo $?").endswith("139")
    assert shell(machine, "sleep 1; (sleep 1 & wait); echo slept") == "slept"
    assert shell(machine, "for i in $(seq 50); do (exit 3); done; echo $?") == "3"


def check_interrupts(machine: Machine, vcpus: int) -> None:
    table = shell(machine, "cat /proc/interrupts")
    timer = re.search(r"LOC:((?: +\d+)+)", table)
    serial = re.search(r"4:((?: +\d+)+) .*ttyS0", table)
    assert timer is not None
    assert serial is not None
    assert len(timer[1].split()) == vcpus
    assert all(int(count) > 0 for count in timer[1].split())
    assert sum(int(count) for count in serial[1].split()) > 100
    for kind in ("ERR", "MIS", "SPU"):
        assert re.search(rf"{kind}:(?: +0)+\b", table), kind


def test_panic_without_a_root_file_system_resets_the_machine(run: StartMachine, linux_kernel: Path) -> None:
    machine = run(str(linux_kernel), "--append", "console=ttyS0 panic=-1", "--no-reboot")
    assert machine.wait(60) == 0
    assert "Kernel panic - not syncing: VFS: Unable to mount root fs" in machine.console.join()


@pytest.mark.parametrize(
    ("model", "flags"),
    [("x86-64-v1", set()), ("x86-64-v3", {"sse4_2", "avx2"}), ("max", {"sse4_2", "avx2", "la57"})],
)
def test_kernel_uses_what_the_cpu_model_has(
    run: StartMachine, linux_kernel: Path, linux_initramfs: Path, model: str, flags: set[str]
) -> None:
    machine = run(*linux_arguments(linux_kernel, linux_initramfs), "--cpu", model)
    assert TROUBLE.search(to_shell(machine)) is None
    # The kernel drops la57 from the list unless it runs with 5-level paging (Linux, "5-level paging").
    found = shell(machine, "grep -m1 ^flags /proc/cpuinfo").split()
    assert {"sse4_2", "avx2", "la57"} & set(found) == flags
    assert power_off(machine) == 0


def test_sixteen_vcpus_come_up(run: StartMachine, linux_kernel: Path, linux_initramfs: Path) -> None:
    machine = run(*linux_arguments(linux_kernel, linux_initramfs), "-c", "16", "-m", "1G")
    assert TROUBLE.search(to_shell(machine)) is None
    assert shell(machine, "nproc") == "16"
    assert power_off(machine) == 0
