"""The `monitor info` commands: how the machine stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hv.debug.command import CommandContext, reading
from hv.stats import exits_by_kind, statistics

_GENERAL: Final = (
    ("rax", "rbx", "rcx", "rdx"),
    ("rsi", "rdi", "rbp", "rsp"),
    ("r8", "r9", "r10", "r11"),
    ("r12", "r13", "r14", "r15"),
)
_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")


def _registers(context: CommandContext, words: Sequence[str]) -> None:
    """In QEMU's layout, which clients parse."""
    get = context.current.get
    for row in _GENERAL:
        context.write(" ".join(f"{name.upper():<3}={get(name):016x}" for name in row) + "\n")
    context.write(f"RIP={get('rip'):016x} RFL={get('eflags'):08x} CPL={get('cpl')} {context.current.state}\n")
    for name in _SEGMENTS:
        shown = {"ldtr": "LDT", "tr": "TR"}.get(name, name.upper())
        attributes = get(f"{name}_attr")
        # Access rights as in the high half of a descriptor, where QEMU shows them.
        flags = (attributes & 0xF0FF) << 8
        context.write(
            f"{shown:<3}={get(name):04x} {get(f'{name}_base'):016x} {get(f'{name}_limit'):08x} {flags:08x}\n"
        )
    context.write(f"GDT=     {get('gdtr_base'):016x} {get('gdtr_limit'):08x}\n")
    context.write(f"IDT=     {get('idtr_base'):016x} {get('idtr_limit'):08x}\n")
    controls = " ".join(f"CR{n}={get(f'cr{n}'):0{w}x}" for n, w in ((0, 8), (2, 16), (3, 16), (4, 8)))
    context.write(controls + "\n")
    context.write(" ".join(f"DR{n}={get(f'dr{n}'):016x}" for n in range(4)) + "\n")
    context.write(f"DR6={get('dr6'):016x} DR7={get('dr7'):016x}\nEFER={get('efer'):016x}\n")


def _cpus(context: CommandContext, words: Sequence[str]) -> None:
    for vcpu in context.control.vm.vcpus:
        mark = "*" if vcpu.index == context.vcpu else " "
        context.write(f"{mark} CPU #{vcpu.index}: pc={vcpu.get('linear_pc'):#018x} {vcpu.state}\n")


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
    reading("info registers", "", "registers of the current vCPU, in QEMU's layout", _registers),
    reading("info cpus", "", "all vCPUs", _cpus),
    reading("info lapic", "", "the current vCPU's local APIC", _device("lapic")),
    reading("info ioapic", "", "the I/O APIC", _device("ioapic")),
    reading("info pic", "", "the 8259 pair", _device("pic")),
    reading("info exits", "", "exits to the monitor, by kind", _exits),
    reading("info stats", "", "counters of the engine", _stats),
    reading("info time", "", "the machine clock", _time),
)
