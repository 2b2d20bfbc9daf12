"""The keyboard controller as a driver's probe sees it."""

from hv.devices.i8042 import I8042
from hv.irq.line import Line


class Rig:
    def __init__(self) -> None:
        self.edges = 0
        self.resets = 0
        self.a20: list[bool] = []
        self.line = Line("irq1", self._sink)
        self.kbc = I8042(self.line.driver(), self._reset, self.a20.append)

    def _sink(self, level: bool) -> None:
        self.edges += level

    def _reset(self) -> None:
        self.resets += 1

    def command(self, value: int, *data: int) -> None:
        self.kbc.write(1, 1, value)
        for byte in data:
            self.kbc.write(0, 1, byte)

    def answers(self) -> list[int]:
        found = []
        while self.kbc.read(1, 1) & 1:
            found.append(self.kbc.read(0, 1))
        return found

    def keyboard(self, *data: int) -> list[int]:
        for byte in data:
            self.kbc.write(0, 1, byte)
        return self.answers()


def test_self_and_interface_tests_pass() -> None:
    rig = Rig()
    rig.command(0xAA)
    assert rig.answers() == [0x55]
    rig.command(0xAB)
    assert rig.answers() == [0x00]


def test_a_driver_finds_no_auxiliary_port_without_a_timeout() -> None:
    rig = Rig()
    rig.command(0xD3, 0x5A)
    assert rig.kbc.read(1, 1) & 0x21 == 0x01  # a byte, but not from the auxiliary device
    assert rig.answers() == [0x5A]
    rig.command(0xA9)
    assert rig.answers() == [0x01]


def test_the_command_byte_can_be_read_and_written() -> None:
    rig = Rig()
    rig.command(0x60, 0x65)
    rig.command(0x20)
    assert rig.answers() == [0x65]
    rig.command(0xA8)
    rig.command(0x20)
    assert rig.answers() == [0x45]
    rig.command(0xAD)
    rig.command(0x20)
    assert rig.answers() == [0x55]


def test_the_keyboard_answers_identification_and_reset() -> None:
    rig = Rig()
    assert rig.keyboard(0xF2) == [0xFA, 0xAB, 0x83]
    assert rig.keyboard(0xFF) == [0xFA, 0xAA]
    assert rig.keyboard(0xED, 0x07) == [0xFA, 0xFA]
    assert rig.keyboard(0xF3, 0x20) == [0xFA, 0xFA]
    assert rig.keyboard(0xEE) == [0xEE]
    assert rig.keyboard(0xF0, 0x00) == [0xFA, 0xFA, 0x02]
    assert rig.keyboard(0x12) == [0xFE]


def test_a_byte_interrupts_when_enabled_and_the_next_is_a_new_edge() -> None:
    rig = Rig()
    rig.kbc.receive(b"\x1c\xf0\x1c")
    assert rig.edges == 0
    rig.command(0x60, 0x45)
    assert rig.edges == 1
    assert [rig.kbc.read(0, 1) for _ in range(3)] == [0x1C, 0xF0, 0x1C]
    assert rig.edges == 3
    assert not rig.line.level
    assert rig.kbc.read(0, 1) == 0x1C  # the last byte again


def test_a_disabled_keyboard_keeps_its_bytes_but_controller_replies_pass() -> None:
    rig = Rig()
    rig.command(0xAD)
    rig.kbc.receive(b"\x1c")
    assert rig.answers() == []
    rig.command(0xAA)
    assert rig.answers() == [0x55]
    rig.command(0xAE)
    assert rig.answers() == [0x1C]


def test_keys_are_refused_when_the_buffer_is_full_or_scanning_is_off() -> None:
    rig = Rig()
    assert rig.kbc.receive(bytes(16))
    assert [rig.kbc.receive(b"\x1c")] == [False]
    rig.answers()
    rig.keyboard(0xF5)
    assert [rig.kbc.receive(b"\x1c")] == [False]
    rig.keyboard(0xF4)
    assert rig.kbc.receive(b"\x1c")


def test_the_reset_line_can_be_pulsed_and_written() -> None:
    rig = Rig()
    rig.command(0xFF)
    assert rig.resets == 0
    rig.command(0xFE)
    assert rig.resets == 1
    rig.command(0xD1, 0x02)
    assert rig.resets == 2


def test_a20_follows_the_output_port() -> None:
    rig = Rig()
    rig.command(0xD1, 0xDD)
    rig.command(0xD0)
    assert rig.answers() == [0xDD]
    rig.command(0xD1, 0xDF)
    assert rig.a20 == [False, True]


def test_endless_commands_do_not_grow_the_queues() -> None:
    rig = Rig()
    for _ in range(1000):
        rig.command(0xAA)
        rig.kbc.write(0, 1, 0xFF)
        rig.command(0xD2, 0x00)
    assert len(rig.answers()) <= 128


def test_a_restored_controller_raises_no_edge() -> None:
    first, second = Rig(), Rig()
    first.command(0x60, 0x45)
    first.keyboard(0xED)
    first.kbc.receive(b"\x1c")
    second.kbc.load(first.kbc.save())
    assert second.edges == 0
    assert second.line.level
    assert second.kbc.save() == first.kbc.save()
    assert second.answers() == first.answers() == [0x1C]
