"""The PCI interrupt router."""

from collections.abc import Callable

from hv.irq.line import Line
from hv.irq.pirq import PirqRouter


class Rig:
    def __init__(self) -> None:
        self.seen: list[tuple[int, bool]] = []
        self.lines = {irq: Line(f"irq.{irq}", self._sink(irq)) for irq in range(16)}
        self.router = PirqRouter(self.lines)

    def _sink(self, irq: int) -> Callable[[bool], None]:
        return lambda level: self.seen.append((irq, level))


def test_an_asserted_input_moves_with_its_route() -> None:
    rig = Rig()
    rig.router.set_level(0, True)
    assert rig.seen == []
    rig.router.set_route(0, 10)
    rig.router.set_route(0, 11)
    rig.router.set_route(0, 0x8B)
    assert rig.seen == [(10, True), (10, False), (11, True), (11, False)]


def test_forbidden_interrupts_route_nowhere() -> None:
    rig = Rig()
    for irq in (0, 1, 2, 8, 13):
        rig.router.set_route(3, irq)
        rig.router.set_level(3, True)
        rig.router.set_level(3, False)
    assert rig.seen == []
    assert rig.router.routes[3] == 13


def test_two_inputs_share_one_interrupt_and_a_restore_is_silent() -> None:
    first, second = Rig(), Rig()
    for pirq in (1, 2):
        first.router.set_route(pirq, 5)
        first.router.set_level(pirq, True)
    second.router.load(first.router.save())
    assert second.seen == []
    second.router.set_level(1, False)
    assert second.seen == []
    second.router.set_level(2, False)
    assert second.seen == [(5, False)]
