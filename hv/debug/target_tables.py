"""The tables of ``info os``: what the machine is made of, and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gdbstub.capabilities import Table
from hv.debug.target_base import TargetBase
from hv.firmware.e820 import memory_map
from hv.physical_map import physical_map, port_map
from hv.stats import exits_by_kind
from hv.vm import Vm

Row = tuple[str, ...]


def _vcpus(vm: Vm) -> Iterator[Row]:
    for vcpu in vm.vcpus:
        get, cpu = vcpu.get, vcpu.cpu
        yield (
            str(vcpu.index),
            vcpu.state,
            f"{get('linear_pc'):#x}",
            str(get("cpl")),
            f"{get('cr3'):#x}",
            str(cpu.ticks()),
        )


def _devices(vm: Vm) -> Iterator[Row]:
    for space, rows in (("memory", physical_map(vm.memory, vm.board, 0)), ("port", port_map(vm.board))):
        for row in rows:
            if not row.is_ram:
                yield row.name, space, f"{row.start:#x}", f"{row.end - 1:#x}"


def _irqs(vm: Vm) -> Iterator[Row]:
    for row in vm.board.interrupts():
        state = "asserted" if row.asserted else ""
        if row.masked:
            yield str(row.gsi), row.device, state, "masked", "", "", ""
        else:
            target = f"APIC {row.destination}"
            yield str(row.gsi), row.device, state, f"{row.vector:#x}", row.delivery, row.trigger, target


def _memory(vm: Vm) -> Iterator[Row]:
    for entry in memory_map(vm.memory.size):
        yield f"{entry.base:#x}", f"{entry.end - 1:#x}", entry.type.name


def _exits(vm: Vm) -> Iterator[Row]:
    for name, count in exits_by_kind(vm):
        yield name, str(count)


_TABLES: Final[dict[str, tuple[str, tuple[str, ...], Callable[[Vm], Iterator[Row]]]]] = {
    "vcpus": ("Virtual CPUs", ("vCPU", "State", "PC", "CPL", "CR3", "Ticks"), _vcpus),
    "devices": ("Addresses of devices", ("Device", "Space", "First", "Last"), _devices),
    "irqs": (
        "Interrupt inputs of the I/O APIC",
        ("GSI", "Device", "Line", "Vector", "Delivery", "Trigger", "Destination"),
        _irqs,
    ),
    "memory": ("The memory map that the guest was given", ("First", "Last", "Type"), _memory),
    "exits": ("Exits to the monitor, by kind", ("Exit", "Count"), _exits),
}
"""Name to description, columns, and what gives the rows."""


class TargetTables(TargetBase):
    """`SystemTables`."""

    async def tables(self) -> Sequence[tuple[str, str]]:
        """See `gdbstub.capabilities.SystemTables`."""
        return [(name, description) for name, (description, _, _) in _TABLES.items()]

    async def table(self, name: str) -> Table | None:
        """See `gdbstub.capabilities.SystemTables`."""
        if name not in _TABLES:
            return None
        _, columns, rows = _TABLES[name]
        return Table(columns, await self._call(lambda: tuple(rows(self._vm))))
