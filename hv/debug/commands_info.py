"""The `monitor info` commands: how the machine stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hv.debug.command import CommandContext, CommandError, reading
from hv.stats import exits_by_kind, statistics


def _cpus(context: CommandContext, words: Sequence[str]) -> None:
    for vcpu in context.control.vm.vcpus:
        mark = "*" if vcpu.index == context.vcpu else " "
        context.write(f"{mark} CPU #{vcpu.index}: pc={vcpu.get('linear_pc'):#018x} {vcpu.state}\n")


def _cpu(context: CommandContext, words: Sequence[str]) -> None:
    if words == ["auto"]:
        context.choose(None)
        return
    [number] = context.numbers(words, 1)
    if number >= len(context.control.vm.vcpus):
        raise CommandError(f"there is no vCPU {number}")
    context.choose(number)


def _exits(context: CommandContext, words: Sequence[str]) -> None:
    for name, count in exits_by_kind(context.control.vm):
        context.write(f"{name:<16} {count:>14,}\n")


def _stats(context: CommandContext, words: Sequence[str]) -> None:
    for name, count in statistics(context.control.vm):
        context.write(f"{name:<16} {count:>14,}\n")


def _device(name: str) -> Callable[[CommandContext, Sequence[str]], None]:
    def show(context: CommandContext, words: Sequence[str]) -> None:
        parts = context.control.vm.board.describe(name, context.vcpu)
        for part, value in parts:
            context.write(f"{part:<20} {value}\n")

    return show


def _time(context: CommandContext, words: Sequence[str]) -> None:
    clock = context.control.vm.clock
    context.write(f"machine tick {clock.now:,}, {clock.now / clock.ips:.6f} s at {clock.ips:,} ticks/s\n")


COMMANDS: Final = (
    reading("info cpus", "", "all vCPUs; the current one has a mark", _cpus),
    reading("cpu", "VCPU|auto", "the current vCPU of these commands; auto: the client's thread", _cpu),
    reading("info lapic", "", "the current vCPU's local APIC", _device("lapic")),
    reading("info ioapic", "", "the I/O APIC", _device("ioapic")),
    reading("info pic", "", "the 8259 pair", _device("pic")),
    reading("info exits", "", "exits to the monitor, by kind", _exits),
    reading("info stats", "", "counters of the engine", _stats),
    reading("info time", "", "the machine clock", _time),
)
