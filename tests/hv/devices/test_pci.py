"""PCI configuration mechanism #1, the fixed functions and interrupt routing."""

import pytest

from hv.bus import PortBus
from hv.devices.pci.function import Identity, PciFunction
from hv.devices.pci.host import PciHost
from hv.devices.ports import ResetControl, ResetKind
from hv.irq.line import Line
from hv.irq.pirq import PirqRouter


class Rig:
    def __init__(self) -> None:
        self.resets: list[ResetKind] = []
        self.lines = {irq: Line(f"irq.{irq}") for irq in range(16)}
        self.host = PciHost(PirqRouter(self.lines), ResetControl(self.resets.append))
        self.ports = PortBus()
        self.ports.add(0xCF8, 4, self.host.address, width=4)
        self.ports.add(0xCFC, 4, self.host.data, width=4)

    def select(self, slot: int, function: int, register: int, bus: int = 0) -> None:
        address = 0x8000_0000 | bus << 16 | slot << 11 | function << 8 | register & 0xFC
        self.ports.write(0xCF8, 4, address)

    def get(self, slot: int, function: int, register: int, size: int = 4) -> int:
        self.select(slot, function, register)
        return self.ports.read(0xCFC + (register & 3), size)

    def put(self, slot: int, function: int, register: int, size: int, value: int) -> None:
        self.select(slot, function, register)
        self.ports.write(0xCFC + (register & 3), size, value)


def test_a_host_bridge_and_an_isa_bridge_are_found_and_nothing_else() -> None:
    rig = Rig()
    found = [
        (slot, function)
        for slot in range(32)
        for function in range(8)
        if rig.get(slot, function, 0) != 0xFFFF_FFFF
    ]
    assert found == [(0, 0), (1, 0)]
    assert rig.get(0, 0, 8) >> 16 == 0x0600
    assert rig.get(1, 0, 8) >> 16 == 0x0601
    assert rig.get(1, 0, 0) == 0x7000_8086


def test_other_buses_and_a_disabled_address_read_all_ones() -> None:
    rig = Rig()
    rig.select(0, 0, 0, bus=1)
    assert rig.ports.read(0xCFC, 4) == 0xFFFF_FFFF
    rig.ports.write(0xCF8, 4, 0)
    assert rig.ports.read(0xCFC, 2) == 0xFFFF


def test_the_address_register_takes_dwords_only_and_reads_back() -> None:
    rig = Rig()
    rig.ports.write(0xCF8, 4, 0xFFFF_FFFF)
    assert rig.ports.read(0xCF8, 4) == 0x80FF_FFFC
    rig.ports.write(0xCF8, 1, 0)
    rig.ports.write(0xCFA, 2, 0)
    assert rig.ports.read(0xCF8, 4) == 0x80FF_FFFC
    assert rig.ports.read(0xCF8, 2) == 0xFFFF


def test_byte_accesses_to_cf9_reach_the_reset_control_register() -> None:
    rig = Rig()
    rig.ports.write(0xCF9, 1, 0x06)
    assert rig.resets == [ResetKind.HARD]
    assert rig.ports.read(0xCF9, 1) == 0x02


def test_identity_is_read_only_and_narrow_accesses_work() -> None:
    rig = Rig()
    rig.put(1, 0, 0, 4, 0)
    assert rig.get(1, 0, 0, 2) == 0x8086
    assert rig.get(1, 0, 2, 2) == 0x7000
    assert rig.get(1, 0, 0x0B, 1) == 0x06
    rig.put(1, 0, 4, 2, 0xFFFF)
    assert rig.get(1, 0, 4, 2) == 0x0547
    rig.put(1, 0, 0x3C, 1, 0x0A)
    assert rig.get(1, 0, 0x3C, 1) == 0x0A


def test_routing_registers_steer_pirqs() -> None:
    rig = Rig()
    assert rig.get(1, 0, 0x60) == 0x8080_8080
    rig.put(1, 0, 0x60, 4, 0x0C0B_0A7F)
    assert rig.get(1, 0, 0x60) == 0x0C0B_0A0F
    rig.put(1, 0, 0x69, 1, 5)
    rig.host.router.set_level(1, True)
    rig.host.router.set_level(5, True)
    assert [irq for irq in range(16) if rig.lines[irq].level] == [5, 10]


def test_a_slot_holds_one_function() -> None:
    rig = Rig()
    rig.host.add(3, 0, PciFunction("x", Identity(0x1234, 0x5678, 0x020000)))
    assert rig.get(3, 0, 0) == 0x5678_1234
    with pytest.raises(ValueError):
        rig.host.add(3, 0, PciFunction("y", Identity(1, 2, 3)))


def test_a_restored_host_has_the_same_registers() -> None:
    first, second = Rig(), Rig()
    first.put(1, 0, 0x60, 1, 11)
    first.put(0, 0, 4, 2, 3)
    first.host.router.set_level(0, True)
    second.host.load(first.host.save())
    assert second.host.save() == first.host.save()
    assert second.lines[11].level
    assert second.ports.read(0xCFC, 2) == 3


def test_a_reset_forgets_routes_and_commands() -> None:
    rig = Rig()
    rig.put(1, 0, 0x60, 1, 11)
    rig.put(0, 0, 4, 2, 3)
    rig.host.reset()
    assert rig.get(1, 0, 0x60, 1) == 0x80
    assert rig.get(0, 0, 4, 2) == 0
