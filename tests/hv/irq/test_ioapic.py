"""The I/O APIC against its datasheet, with real local APICs behind it."""

import pytest

from hv.clock import MachineClock
from hv.irq.apicbus import ApicBus, ApicHooks
from hv.irq.ioapic import IoApic
from hv.irq.lapic import Lapic


class Rig:
    """Two software-enabled local APICs and an I/O APIC."""

    def __init__(self) -> None:
        self.nmis: list[int] = []
        self.bus = ApicBus(
            ApicHooks(lambda cpu: None, lambda cpu, vector: None, self.nmis.append, lambda cpu: None)
        )
        clock = MachineClock(1_000_000_000)
        self.lapics = [Lapic(i, self.bus, clock, lambda: 1, lambda: 0) for i in range(2)]
        for lapic in self.lapics:
            lapic.write(0xF0, 4, 0x1FF)
        self.io = IoApic(self.bus)

    def put(self, register: int, value: int) -> None:
        self.io.write(0x00, 4, register)
        self.io.write(0x10, 4, value)

    def get(self, register: int) -> int:
        self.io.write(0x00, 4, register)
        return self.io.read(0x10, 4)

    def route(self, pin: int, low: int, destination: int = 0) -> None:
        self.put(0x11 + 2 * pin, destination << 24)
        self.put(0x10 + 2 * pin, low)

    def take(self, cpu: int = 0) -> int | None:
        vector = self.lapics[cpu].pending_vector()
        if vector is not None:
            self.lapics[cpu].accept(vector)
        return vector


def test_identification_registers() -> None:
    rig = Rig()
    assert rig.get(0x01) == 0x0017_0020
    rig.put(0x00, 0x0F00_0000)
    assert rig.get(0x00) == 0x0F00_0000
    assert rig.get(0x10) == 0x0001_0000
    assert rig.get(0x3F) == 0
    assert rig.get(0x40) == 0
    rig.put(0x01, 0xFFFF_FFFF)
    assert rig.get(0x01) == 0x0017_0020


def test_redirection_entries_keep_writable_bits_only() -> None:
    rig = Rig()
    rig.put(0x12, 0xFFFF_FFFF)
    rig.put(0x13, 0xFFFF_FFFF)
    assert rig.get(0x12) == 0x0001_AFFF
    assert rig.get(0x13) == 0xFF00_0000


def test_an_edge_is_sent_once_to_the_physical_destination() -> None:
    rig = Rig()
    rig.route(4, 0x24, destination=1)
    rig.io.assert_pin(4)
    assert (rig.take(0), rig.take(1)) == (None, 0x24)
    rig.lapics[1].eoi()
    assert rig.take(1) is None
    rig.io.deassert_pin(4)
    rig.io.assert_pin(4)
    assert rig.take(1) == 0x24


def test_an_edge_while_masked_is_lost() -> None:
    rig = Rig()
    rig.route(4, 0x1_0024)
    rig.io.assert_pin(4)
    rig.route(4, 0x24)
    assert rig.take() is None


def test_a_level_input_fires_again_at_eoi_while_it_is_asserted() -> None:
    rig = Rig()
    rig.route(9, 0x8000 | 0x59)
    rig.io.assert_pin(9)
    assert rig.take() == 0x59
    assert rig.get(0x10 + 18) == 0xC059
    rig.lapics[0].eoi()
    assert rig.take() == 0x59
    rig.io.deassert_pin(9)
    rig.lapics[0].eoi()
    assert rig.take() is None
    assert rig.get(0x10 + 18) == 0x8059


def test_a_level_input_asserted_while_masked_fires_when_unmasked() -> None:
    rig = Rig()
    rig.route(9, 0x1_8059)
    rig.io.assert_pin(9)
    assert rig.take() is None
    rig.route(9, 0x8059)
    assert rig.take() == 0x59


def test_two_lines_share_an_input_by_counting() -> None:
    rig = Rig()
    rig.route(16, 0x8060)
    rig.io.set_pin(16, True)
    rig.io.set_pin(16, True)
    rig.io.set_pin(16, False)
    assert rig.take() == 0x60
    rig.lapics[0].eoi()
    assert rig.take() == 0x60
    rig.io.set_pin(16, False)
    rig.lapics[0].eoi()
    assert rig.take() is None


def test_suppressed_broadcast_leaves_the_end_to_the_eoi_register() -> None:
    rig = Rig()
    rig.lapics[0].write(0xF0, 4, 0x11FF)
    rig.route(9, 0x8059)
    rig.io.assert_pin(9)
    assert rig.take() == 0x59
    rig.lapics[0].eoi()
    assert rig.take() is None
    rig.io.write(0x40, 4, 0x59)
    assert rig.take() == 0x59


def test_a_level_message_without_a_taker_does_not_block_the_pin() -> None:
    rig = Rig()
    rig.route(9, 0x8059, destination=7)
    rig.io.assert_pin(9)
    assert rig.get(0x10 + 18) == 0x8059
    rig.route(9, 0x8059, destination=0)
    assert rig.take() == 0x59


def test_logical_flat_destination_reaches_every_named_cpu() -> None:
    rig = Rig()
    rig.lapics[0].write(0xD0, 4, 0x0100_0000)
    rig.lapics[1].write(0xD0, 4, 0x0200_0000)
    rig.route(5, 0x0835, destination=3)
    rig.io.assert_pin(5)
    assert (rig.take(0), rig.take(1)) == (0x35, 0x35)


def test_lowest_priority_goes_to_the_less_busy_cpu_and_to_the_lower_id_among_equals() -> None:
    rig = Rig()
    rig.lapics[0].write(0xD0, 4, 0x0100_0000)
    rig.lapics[1].write(0xD0, 4, 0x0200_0000)
    rig.route(5, 0x0935, destination=3)
    rig.io.assert_pin(5)
    assert (rig.take(0), rig.take(1)) == (0x35, None)
    rig.io.deassert_pin(5)
    rig.io.assert_pin(5)
    assert (rig.take(0), rig.take(1)) == (None, 0x35)


def test_an_nmi_entry_raises_an_nmi() -> None:
    rig = Rig()
    rig.route(2, 0x0400, destination=1)
    rig.io.assert_pin(2)
    assert rig.nmis == [1]


@pytest.mark.parametrize(
    ("address", "data", "expected"),
    [
        (0xFEE0_1000, 0x0041, (None, 0x41)),
        (0xFEE0_100C, 0x0041, (0x41, None)),  # logical: LDR bit 0
        (0xFEE0_1004, 0x0041, (None, 0x41)),  # DM without RH is physical
        (0xFEEF_F000, 0x0041, (0x41, 0x41)),
        (0xFED0_1000, 0x0041, (None, None)),
        (0x1_FEE0_1000, 0x0041, (None, None)),
    ],
)
def test_message_signalled_interrupts(
    address: int, data: int, expected: tuple[int | None, int | None]
) -> None:
    rig = Rig()
    rig.lapics[0].write(0xD0, 4, 0x0100_0000)
    rig.lapics[1].write(0xD0, 4, 0x0200_0000)
    rig.bus.msi(address, data)
    assert (rig.take(0), rig.take(1)) == expected


def test_a_restored_ioapic_sends_nothing_and_goes_on_alike() -> None:
    first, second = Rig(), Rig()
    first.route(9, 0x8059)
    first.io.assert_pin(9)
    second.io.load(first.io.save())
    assert second.take() is None
    assert second.io.save() == first.io.save()
    second.io.eoi(0x59)
    assert second.take() == 0x59
