"""ACPI PM1a blocks and the PM timer."""

from hv.clock import MachineClock
from hv.devices.acpi_pm import AcpiPm
from hv.devices.pmtimer import PmTimer
from hv.irq.line import Line


class Rig:
    def __init__(self) -> None:
        self.off = 0
        self.line = Line("sci")
        self.pm = AcpiPm(self.line.driver(), self._power_off)

    def _power_off(self) -> None:
        self.off += 1


def test_the_machine_is_always_in_acpi_mode() -> None:
    rig = Rig()
    assert rig.pm.read(4, 2) == 1
    rig.pm.write(4, 2, 0)
    assert rig.pm.read(4, 2) == 1


def test_s5_powers_off_and_other_sleep_states_do_not() -> None:
    rig = Rig()
    rig.pm.write(4, 2, 5 << 10)
    rig.pm.write(4, 2, 3 << 10 | 1 << 13)
    assert rig.off == 0
    rig.pm.write(4, 2, 5 << 10 | 1 << 13)
    assert rig.off == 1
    assert rig.pm.read(4, 2) == 5 << 10 | 1


def test_sleep_can_be_entered_by_bytes() -> None:
    rig = Rig()
    rig.pm.write(5, 1, (5 << 10 | 1 << 13) >> 8)
    assert rig.off == 1


def test_the_power_button_raises_a_level_interrupt_when_enabled() -> None:
    rig = Rig()
    rig.pm.press_power_button()
    levels = [rig.line.level]
    assert rig.pm.read(0, 2) == 0x100
    rig.pm.write(2, 2, 0x100)
    levels.append(rig.line.level)
    rig.pm.write(0, 2, 0x100)
    levels.append(rig.line.level)
    assert levels == [False, True, False]
    assert rig.pm.read(0, 2) == 0


def test_a_status_byte_clears_only_its_own_bits() -> None:
    rig = Rig()
    rig.pm.press_power_button()
    rig.pm.write(0, 1, 0xFF)
    assert rig.pm.read(1, 1) == 1
    rig.pm.write(1, 1, 1)
    assert rig.pm.read(0, 2) == 0


def test_a_restored_block_drives_the_level_again() -> None:
    first, second = Rig(), Rig()
    first.pm.write(2, 2, 0x100)
    first.pm.press_power_button()
    seen: list[bool] = []
    second.line.connect(seen.append)
    second.pm.load(first.pm.save())
    assert (seen, second.line.level) == ([], True)
    second.pm.write(0, 2, 0x100)
    assert seen == [False]


def test_the_pm_timer_counts_at_its_frequency_and_wraps_at_32_bits() -> None:
    clock = MachineClock(1_000_000_000)
    timer = PmTimer(clock)
    clock.advance(1_000_000_000)
    assert timer.read(0, 4) == 3_579_545
    assert timer.read(1, 1) == 3_579_545 >> 8 & 0xFF
    clock.advance(1_199 * 1_000_000_000)
    assert timer.read(0, 4) == 1_200 * 3_579_545 % (1 << 32)
    timer.write(0, 4, 0)
    assert timer.read(0, 4) != 0
