"""A stock bare-metal program: Memtest86+ tests the machine's memory and finds no error."""

import re

from tests.e2e.conftest import StartMachine
from tests.helpers import assets

SECONDS = 300.0  # ten of its eleven tests; alone on a machine they take about ten
BIT_FADE = "#10 "  # the last test waits for minutes between a write and a read


def test_memtest_runs_on_the_serial_console_and_finds_no_error(run: StartMachine) -> None:
    machine = run(str(assets.memtest()), "--append", "console=ttyS0,115200", "-m", "8M")
    machine.expect(BIT_FADE, SECONDS)
    screen = machine.console.text
    assert re.search(r"Memtest86\+ v[67]\.", screen)
    assert "hv software x86-64 CPU" in screen
    assert re.search(r"Memory  : +8MB", screen)
    assert set(re.findall(r"Errors: +(\d+)", screen)) == {"0"}
    # The screen is sent now and then, so it need not show the short tests.
    assert {"0", "6", "9"} <= set(re.findall(r"#(\d) ", screen))
