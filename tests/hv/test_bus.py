"""Port and memory-mapped buses: dispatch, splitting, unowned addresses."""

import pytest

from hv.bus import MmioBus, PortBus, UnownedAccess


class Recorder:
    """Registers that answer with their offset and keep what was written."""

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.log: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self.log.append(("r", offset, size, 0))
        return sum((self.base + offset + i & 0xFF) << 8 * i for i in range(size))

    def write(self, offset: int, size: int, value: int) -> None:
        self.log.append(("w", offset, size, value))


def test_an_access_reaches_its_owner_with_the_offset() -> None:
    bus, device = PortBus(), Recorder()
    bus.add(0x3F8, 8, device, name="uart")
    assert bus.read(0x3FD, 1) == 5
    bus.write(0x3F9, 1, 0x42)
    assert device.log == [("r", 5, 1, 0), ("w", 1, 1, 0x42)]
    assert bus.owner(0x3FF) == "uart"
    assert bus.owner(0x400) is None


def test_a_wide_access_to_byte_registers_is_split_in_ascending_order() -> None:
    bus, device = PortBus(), Recorder(0x10)
    bus.add(0x60, 4, device)
    assert bus.read(0x60, 4) == 0x13121110
    bus.write(0x61, 2, 0xBEEF)
    assert device.log[4:] == [("w", 1, 1, 0xEF), ("w", 2, 1, 0xBE)]


def test_an_access_may_cross_from_one_owner_to_the_next_and_to_nobody() -> None:
    bus, first, second = PortBus(), Recorder(0xA0), Recorder(0xB0)
    bus.add(0x100, 2, first, width=2)
    bus.add(0x102, 1, second)
    assert bus.read(0x101, 4) == 0xFFFF_B0A1
    assert bus.unowned_reads == 1
    bus.write(0xFF, 2, 0x1234)
    assert first.log[-1] == ("w", 0, 1, 0x12)
    assert bus.unowned_writes == 1


@pytest.mark.parametrize(("size", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF)])
def test_an_unowned_port_reads_all_ones_and_is_reported(size: int, ones: int) -> None:
    bus = PortBus()
    seen: list[UnownedAccess] = []
    bus.on_unowned = seen.append
    assert bus.read(0x1234, size) == ones
    bus.write(0x1234, size, 7)
    assert seen == [UnownedAccess("port", 0x1234, size, None), UnownedAccess("port", 0x1234, size, 7)]
    assert (bus.unowned_reads, bus.unowned_writes) == (1, 1)


def test_the_last_port_with_a_wide_access_stays_inside_the_port_space() -> None:
    bus, device = PortBus(), Recorder(0x55)
    bus.add(0xFFFF, 1, device)
    assert bus.read(0xFFFF, 4) == 0xFFFFFF55
    bus.write(0xFFFF, 4, 0x01020304)
    assert device.log[-1] == ("w", 0, 1, 4)


def test_a_port_cannot_be_given_away_twice_until_it_is_removed() -> None:
    bus, device = PortBus(), Recorder()
    owner = bus.add(0x70, 2, device)
    with pytest.raises(ValueError):
        bus.add(0x71, 1, device)
    bus.remove(owner)
    bus.add(0x71, 1, device)


@pytest.mark.parametrize(("start", "size"), [(0xFFFF, 2), (-1, 1), (0, 0)])
def test_a_range_outside_the_port_space_is_refused(start: int, size: int) -> None:
    with pytest.raises(ValueError):
        PortBus().add(start, size, Recorder())


def test_memory_ranges_are_half_open_and_do_not_overlap() -> None:
    bus, low, high = MmioBus(1), Recorder(), Recorder(0x80)
    bus.add(0xFED0_0000, 0x400, low, width=8)
    bus.add(0xFEC0_0000, 0x1000, high)
    assert bus.read(0xFED0_03FF, 1, 0) == 0xFF
    assert bus.read(0xFED0_0400, 1, 0) == 0xFF
    assert bus.unowned_reads == 1
    assert bus.read(0xFEC0_0010, 4, 0) == 0x93929190
    for start, size in ((0xFED0_03FF, 1), (0xFEBF_FFFF, 2), (0xFE00_0000, 0x200_0000)):
        with pytest.raises(ValueError):
            bus.add(start, size, low)


def test_an_eight_byte_access_to_four_byte_registers_is_two_accesses() -> None:
    bus, device = MmioBus(1), Recorder()
    bus.add(0x1000, 0x100, device)
    bus.write(0x1010, 8, 0x1122334455667788, 0)
    assert device.log == [("w", 0x10, 4, 0x55667788), ("w", 0x14, 4, 0x11223344)]


def test_an_access_that_leaves_a_range_is_answered_by_ones_beyond() -> None:
    bus, device = MmioBus(1), Recorder()
    bus.add(0x1000, 0x10, device)
    assert bus.read(0x100E, 4, 0) == 0xFFFF0F0E


def test_a_local_page_is_seen_by_its_vcpu_alone_and_can_move() -> None:
    bus, shared, mine = MmioBus(2), Recorder(0x10), Recorder(0xC0)
    bus.add(0xFEE0_0000, 0x1000, shared)
    bus.set_local(1, 0xFEE0_0000, mine)
    assert bus.read(0xFEE0_0000, 1, 0) == 0x10
    assert bus.read(0xFEE0_0000, 1, 1) == 0xC0
    bus.set_local(1, 0x8000_0000, mine)
    assert bus.read(0xFEE0_0000, 1, 1) == 0x10
    assert bus.read(0x8000_0004, 1, 1) == 0xC4
    bus.set_local(1, None, mine)
    assert bus.read(0x8000_0004, 1, 1) == 0xFF


def test_a_removed_memory_range_is_unowned_again() -> None:
    bus, device = MmioBus(1), Recorder()
    owner = bus.add(0x2000, 0x1000, device)
    bus.remove(owner)
    assert bus.read(0x2000, 8, 0) == 0xFFFF_FFFF_FFFF_FFFF
    bus.add(0x2800, 0x1000, device)
    assert bus.read(0x2800, 1, 0) == 0
