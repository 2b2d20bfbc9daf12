"""The 8259A pair, against the datasheet's words."""

import pytest

from hv.errors import SnapshotError
from hv.irq.pic8259 import Pic8259Pair


class Pc:
    """A pair initialised as the PC BIOS does: vectors 08h and 70h, everything unmasked, normal EOI."""

    def __init__(self, icw4: int = 0x01) -> None:
        self.edges: list[bool] = []
        self.pics = Pic8259Pair(self.edges.append)
        for chip, base, cascade in ((self.pics.master, 0x08, 0x04), (self.pics.slave, 0x70, 0x02)):
            chip.write(0, 1, 0x11)
            for word in (base, cascade, icw4):
                chip.write(1, 1, word)
            chip.write(1, 1, 0x00)

    def master(self, command: int) -> None:
        self.pics.master.write(0, 1, command)

    def slave(self, command: int) -> None:
        self.pics.slave.write(0, 1, command)

    def isr(self) -> tuple[int, int]:
        self.master(0x0B)
        self.slave(0x0B)
        return self.pics.master.read(0, 1), self.pics.slave.read(0, 1)

    def irr(self) -> tuple[int, int]:
        self.master(0x0A)
        self.slave(0x0A)
        return self.pics.master.read(0, 1), self.pics.slave.read(0, 1)


def test_nothing_is_delivered_before_initialisation() -> None:
    pics = Pic8259Pair(lambda level: None)
    pics.set_irq(0, True)
    assert not pics.output


def test_lower_numbers_win_and_block_higher_ones_until_eoi() -> None:
    pc = Pc()
    pc.pics.set_irq(4, True)
    pc.pics.set_irq(1, True)
    assert pc.edges == [True]
    assert pc.pics.ack() == 0x09
    assert not pc.pics.output
    pc.pics.set_irq(0, True)
    assert pc.pics.ack() == 0x08
    pc.master(0x20)
    assert not pc.pics.output
    pc.master(0x20)
    assert pc.pics.ack() == 0x0C
    assert pc.isr() == (0x10, 0)


def test_a_slave_request_goes_through_ir2_and_needs_two_eois() -> None:
    pc = Pc()
    pc.pics.set_irq(12, True)
    assert pc.pics.ack() == 0x74
    assert pc.isr() == (0x04, 0x10)
    pc.pics.set_irq(8, True)
    assert not pc.pics.output  # the master still serves IR2
    pc.master(0x20)
    assert pc.pics.ack() == 0x70
    pc.slave(0x20)
    pc.slave(0x20)
    pc.master(0x20)
    assert pc.isr() == (0, 0)
    assert not pc.pics.output


def test_a_second_slave_request_is_a_new_edge_for_the_master() -> None:
    pc = Pc()
    pc.pics.set_irq(10, True)
    pc.pics.set_irq(11, True)
    assert pc.pics.ack() == 0x72
    pc.slave(0x20)
    pc.master(0x20)
    assert pc.pics.ack() == 0x73


def test_special_fully_nested_mode_lets_a_higher_slave_request_through() -> None:
    pc = Pc(icw4=0x11)
    pc.pics.set_irq(12, True)
    assert pc.pics.ack() == 0x74
    pc.pics.set_irq(9, True)
    assert pc.pics.ack() == 0x71


def test_an_edge_input_requests_once_and_a_level_input_until_it_falls() -> None:
    pc = Pc()
    pc.pics.elcr.write(0, 1, 0x20)
    for irq in (4, 5):
        pc.pics.set_irq(irq, True)
    assert pc.pics.ack() == 0x0C
    pc.master(0x20)
    assert pc.pics.ack() == 0x0D
    pc.master(0x20)
    assert pc.pics.ack() == 0x0D
    pc.pics.set_irq(5, False)
    pc.master(0x20)
    assert not pc.pics.output
    assert pc.irr() == (0, 0)


def test_elcr_refuses_level_mode_for_0_1_2_8_and_13() -> None:
    pc = Pc()
    pc.pics.elcr.write(0, 1, 0xFF)
    pc.pics.elcr.write(1, 1, 0xFF)
    assert (pc.pics.elcr.read(0, 1), pc.pics.elcr.read(1, 1)) == (0xF8, 0xDE)


def test_a_request_that_fell_before_the_acknowledge_gives_the_spurious_vector() -> None:
    pc = Pc()
    pc.pics.set_irq(3, True)
    pc.pics.set_irq(3, False)
    assert pc.edges == [True, False]
    assert pc.pics.ack() == 0x0F
    assert pc.isr() == (0, 0)


def test_a_slave_request_masked_in_the_slave_only_is_withdrawn_from_the_master() -> None:
    pc = Pc()
    pc.pics.set_irq(14, True)
    pc.pics.slave.write(1, 1, 0x40)
    assert not pc.pics.output
    pc.pics.slave.write(1, 1, 0x00)
    assert pc.pics.ack() == 0x76


def test_masking_hides_but_keeps_the_request() -> None:
    pc = Pc()
    pc.pics.master.write(1, 1, 0x10)
    pc.pics.set_irq(4, True)
    assert not pc.pics.output
    assert pc.pics.master.read(1, 1) == 0x10
    assert pc.irr()[0] == 0x10
    pc.pics.master.write(1, 1, 0x00)
    assert pc.pics.ack() == 0x0C


def test_automatic_eoi_leaves_nothing_in_service() -> None:
    pc = Pc(icw4=0x03)
    pc.pics.set_irq(6, True)
    assert pc.pics.ack() == 0x0E
    assert pc.isr() == (0, 0)


def test_rotation_in_automatic_eoi_mode_makes_the_served_input_the_lowest() -> None:
    pc = Pc(icw4=0x03)
    pc.master(0x80)
    pc.pics.set_irq(3, True)
    assert pc.pics.ack() == 0x0B
    pc.pics.set_irq(3, False)
    pc.pics.set_irq(3, True)
    pc.pics.set_irq(4, True)
    assert pc.pics.ack() == 0x0C


def test_rotate_on_specific_eoi_and_set_priority() -> None:
    pc = Pc()
    pc.pics.set_irq(1, True)
    pc.pics.ack()
    pc.master(0xE1)  # rotate on specific EOI, IR1
    assert pc.isr()[0] == 0
    pc.pics.set_irq(0, True)
    pc.pics.set_irq(7, True)
    assert pc.pics.ack() == 0x0F  # 2..7, 0, 1 is the order now
    pc.master(0x67)  # specific EOI, IR7
    pc.master(0xC6)  # set priority: IR6 lowest, IR7 highest
    pc.pics.set_irq(7, False)
    pc.pics.set_irq(7, True)
    assert pc.pics.ack() == 0x0F


def test_rotate_on_nonspecific_eoi_makes_the_ended_input_the_lowest() -> None:
    pc = Pc()
    pc.pics.set_irq(3, True)
    assert pc.pics.ack() == 0x0B
    pc.master(0xA0)
    assert pc.isr()[0] == 0
    for irq in (0, 3, 4):
        pc.pics.set_irq(irq, False)
        pc.pics.set_irq(irq, True)
    assert pc.pics.ack() == 0x0C


def test_special_mask_mode_lets_lower_inputs_interrupt_a_masked_service() -> None:
    pc = Pc()
    pc.pics.set_irq(1, True)
    pc.pics.ack()
    pc.pics.set_irq(5, True)
    assert not pc.pics.output
    pc.pics.master.write(1, 1, 0x02)
    pc.master(0x68)
    assert pc.pics.ack() == 0x0D
    pc.master(0x20)  # a non-specific EOI skips the masked IR1
    assert pc.isr()[0] == 0x02
    pc.master(0x48)
    pc.pics.set_irq(6, True)
    assert not pc.pics.output


def test_poll_acknowledges_on_the_next_read() -> None:
    pc = Pc()
    pc.master(0x0C)
    assert pc.pics.master.read(0, 1) == 0x00
    pc.pics.set_irq(5, True)
    pc.master(0x0C)
    assert pc.pics.master.read(0, 1) == 0x85
    assert not pc.pics.output
    assert pc.isr()[0] == 0x20


def test_polling_the_slave_lets_its_next_request_reach_the_master() -> None:
    pc = Pc()
    pc.pics.set_irq(9, True)
    pc.pics.set_irq(10, True)
    pc.master(0x0C)
    assert pc.pics.master.read(0, 1) == 0x82
    pc.slave(0x0C)
    assert pc.pics.slave.read(0, 1) == 0x81
    pc.slave(0x20)
    pc.master(0x20)
    assert pc.pics.ack() == 0x72


def test_icw1_clears_mask_requests_and_service_and_waits_for_a_new_edge() -> None:
    pc = Pc()
    pc.pics.set_irq(4, True)
    pc.pics.ack()
    pc.pics.set_irq(3, True)
    pc.master(0x11)
    for word in (0x20, 0x04, 0x01):
        pc.pics.master.write(1, 1, word)
    assert pc.isr()[0] == 0
    assert pc.irr()[0] == 0
    pc.pics.set_irq(3, False)
    pc.pics.set_irq(3, True)
    assert pc.pics.ack() == 0x23


def test_a_restored_pair_behaves_the_same_and_raises_no_edge() -> None:
    first = Pc()
    first.pics.elcr.write(1, 1, 0x02)
    first.pics.set_irq(9, True)
    first.pics.set_irq(4, True)
    first.pics.ack()
    second = Pc()
    second.edges.clear()
    second.pics.load(first.pics.save())
    assert second.edges == []
    assert second.pics.save() == first.pics.save()
    for pc in (first, second):
        pc.slave(0x20)
        pc.master(0x20)
        assert pc.pics.ack() == 0x71  # still asserted, level-triggered
        pc.pics.set_irq(9, False)
        pc.slave(0x20)
        pc.master(0x20)
        assert pc.pics.ack() == 0x0C


def test_a_malformed_state_is_refused() -> None:
    pics = Pic8259Pair(lambda level: None)
    state = pics.save()
    assert isinstance(state["slave"], dict)
    for broken in (
        state | {"slave": state["slave"] | {"irr": 256}},
        state | {"slave": None},
        state | {"version": 0},
    ):
        with pytest.raises(SnapshotError):
            pics.load(broken)
