"""Counters of a run: what `--stats` and `monitor info` show. None of it is machine state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from hv.vm import Vm

_EXIT: Final = "exit."


def _totals(vm: Vm) -> Counter[str]:
    totals: Counter[str] = Counter()
    for vcpu in vm.vcpus:
        totals.update(vcpu.cpu.statistics())
    return totals


def exits_by_kind(vm: Vm) -> list[tuple[str, int]]:
    """Exits from the engine by kind, the most frequent first."""
    exits = [(name[len(_EXIT) :], count) for name, count in _totals(vm).items() if name.startswith(_EXIT)]
    return sorted(exits, key=lambda item: (-item[1], item[0]))


def statistics(vm: Vm) -> list[tuple[str, int]]:
    """Counters of the engine summed over the vCPUs, and unowned device accesses."""
    counters = [(name, count) for name, count in _totals(vm).items() if not name.startswith(_EXIT)]
    board = vm.board
    return [
        ("instructions", instructions(vm)),
        *sorted(counters),
        ("unowned reads", board.ports.unowned_reads + board.mmio.unowned_reads),
        ("unowned writes", board.ports.unowned_writes + board.mmio.unowned_writes),
    ]


def instructions(vm: Vm) -> int:
    """Instructions retired by all vCPUs."""
    return sum(vcpu.cpu.retired() for vcpu in vm.vcpus)


def report(vm: Vm, seconds: float, exit_seconds: Mapping[str, float]) -> Iterator[str]:
    """The lines of `--stats`: instructions, host seconds, MIPS, guest time, exits by kind and their share
    of the host's time."""
    done = instructions(vm)
    mips = done / seconds / 1e6 if seconds > 0 else 0.0
    guest_s = vm.clock.now / vm.clock.ips
    yield f"{done:,} instructions in {seconds:.2f} s: {mips:.1f} MIPS; guest time {guest_s:.2f} s"
    exits = exits_by_kind(vm)
    yield f"{sum(count for _, count in exits):,} exits"
    for name, count in exits:
        share = 100 * exit_seconds.get(name, 0.0) / seconds if seconds > 0 else 0.0
        yield f"  {name:<14} {count:>12,} {share:6.1f} %"
