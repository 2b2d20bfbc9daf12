"""Interrupt lines: OR of drivers, edges, fan-out, restore."""

from hv.irq.line import Line


def test_a_line_is_high_while_any_driver_is() -> None:
    seen: list[bool] = []
    line = Line("irq", seen.append)
    first, second = line.driver(), line.driver()
    first.set(True)
    first.set(True)
    second.set(True)
    first.set(False)
    assert (seen, line.level) == ([True], True)
    second.set(False)
    assert (seen, line.level) == ([True, False], False)


def test_every_sink_sees_every_edge() -> None:
    one: list[bool] = []
    two: list[bool] = []
    line = Line("irq", one.append)
    line.connect(two.append)
    line.driver().pulse()
    assert one == two == [True, False]


def test_a_pulse_from_the_high_level_is_still_a_rising_edge() -> None:
    seen: list[bool] = []
    driver = Line("irq", seen.append).driver()
    driver.set(True)
    driver.pulse()
    assert seen == [True, False, True, False]


def test_restoring_a_level_raises_no_edge_and_later_changes_do() -> None:
    seen: list[bool] = []
    line = Line("irq", seen.append)
    driver = line.driver()
    driver.restore(True)
    driver.restore(True)
    assert (seen, line.level) == ([], True)
    driver.set(False)
    assert seen == [False]
