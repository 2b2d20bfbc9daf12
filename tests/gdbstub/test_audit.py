"""No packet reaches the host: every known packet runs under an audit hook for files, processes, sockets."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from gdbstub.requests import PACKET_NAMES
from tests.helpers.full_toy import FullToy
from tests.helpers.session_fuzzer import ARGUMENTS, SAMPLES, pieces, toy_to_fuzz, verdict

WATCHED = (
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "import",
    "exec",
    "pty.",
    "tempfile.",
)
_seen: list[str] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event.startswith(WATCHED):
        _seen.append(f"{event} {arguments!r}"[:200])


@pytest.fixture(scope="module")
def _hooked() -> None:
    # A hook stays for the life of the process; it notes nothing unless it is asked to.
    sys.addaudithook(_hook)


@pytest.fixture
def seen(_hooked: None) -> Iterator[list[str]]:
    """What the code in between did to the host."""
    global _seen
    _seen = []
    yield _seen
    _seen = None


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
