"""What tests of run control share."""

from collections.abc import Iterator

import pytest

from tests.helpers.stepper import Stepper


@pytest.fixture
def steppers() -> Iterator[list[Stepper]]:
    """An empty list; the machines of the steppers put into it are closed at the end of the test."""
    made: list[Stepper] = []
    yield made
    for stepper in made:
        stepper.control.close()
        stepper.vm.close()
