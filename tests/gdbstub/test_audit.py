"""No packet reaches the host: every known packet runs under an audit hook for files, processes, sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from gdbstub.packets import PACKET_NAMES
from tests.helpers.audit import watched
from tests.helpers.full_toy import FullToy
from tests.helpers.session_fuzzer import ARGUMENTS, SAMPLES, pieces, toy_to_fuzz, verdict


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """What the code in between did to the host."""
    with watched() as found:
        yield found


def inputs() -> Iterator[list[bytes]]:
    for sample in SAMPLES:
        yield [b"+", b"qSupported:multiprocess+", b"!", b"?", sample, b"\x03", b"?"]
    for name in sorted(PACKET_NAMES):
        yield [b"+", b"?", *(name + argument for argument in ARGUMENTS[:30]), b"\x03"]


async def test_no_packet_opens_a_file_starts_a_process_or_a_connection(seen: list[str]) -> None:
    description = FullToy().description
    # What is loaded at the first use of anything is none of the packets' doing.
    await verdict(pieces([b"+", b"?", b"qRcmd,00"]), lambda: toy_to_fuzz(description))
    seen.clear()
    for data in inputs():
        assert await verdict(pieces(data), lambda: toy_to_fuzz(description)) == "", data
        assert seen == [], data


async def test_the_hook_sees_a_file(seen: list[str], tmp_path: Path) -> None:
    await trio.lowlevel.checkpoint()
    with pytest.raises(FileNotFoundError):
        (tmp_path / "x").open()
    assert any(event.startswith("open ") for event in seen)
