"""Nothing that a client says to the real machine reaches the host: an audit hook sees every packet and every
`monitor` command run; those that may touch the host do so only when the user has allowed it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub.packets import PACKET_NAMES
from hv.debug.command import Command, Touch
from hv.debug.commands import COMMANDS
from hv.debug.target_settings import TargetSettings
from tests.helpers.audit import watched
from tests.helpers.bare_target import machine
from tests.helpers.rsp import answer, served
from tests.helpers.session_fuzzer import ARGUMENTS, SAMPLES


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """What the code in between did to the host."""
    with watched() as found:
        yield found


def packet(payload: bytes) -> bytes:
    return b"$" + payload + b"#%02x" % (sum(payload) % 256)


def command(text: str) -> bytes:
    return packet(b"qRcmd," + text.encode().hex().encode())


def lines(row: Command, file: Path) -> list[str]:
    """A command with nothing, with rubbish, with numbers, and with a file's name wherever one may stand."""
    words = {"ADDRESS": "0x1000", "SIZE": "0x10", "FILE": str(file)}
    proper = [words.get(word.strip("[]"), "0") for word in row.arguments.split()]
    tails = [
        "",
        "0",
        "1 2",
        "0x1000 16",
        f"{file}",
        f"0x1000 16 {file}",
        f"{file} 1 2",
        "-a",
        "$rip",
        " ".join(proper),
    ]
    return [f"{row.name} {tail}" for tail in tails]


async def said(data: list[bytes], settings: TargetSettings) -> bytes:
    """All that the machine's server answers to `data`, the client gone afterwards."""
    with machine() as m:
        async with served(m.target(settings=settings)) as stream:
            return await answer(stream, b"+".join(data))


async def test_no_command_touches_the_host(seen: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    settings = TargetSettings()
    await said([packet(b"?"), *(command(row.name) for row in COMMANDS)], settings)
    for row in COMMANDS:
        for line in lines(row, file):
            seen.clear()
            await said([packet(b"?"), command(line)], settings)
            assert seen == [], line
    assert not file.exists()


async def test_no_packet_touches_the_host(seen: list[str]) -> None:
    settings = TargetSettings()
    inputs = [[packet(b"?"), packet(sample), b"\x03"] for sample in SAMPLES]
    for name in sorted(PACKET_NAMES):
        inputs.append([packet(b"?"), *(packet(name + argument) for argument in ARGUMENTS[:12]), b"\x03"])
    await said(inputs[0], settings)
    for data in inputs:
        seen.clear()
        await said(data, settings)
        assert seen == [], data


async def test_only_what_is_allowed_reaches_the_host(seen: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for row in COMMANDS:
        seen.clear()
        await said([packet(b"?"), command(lines(row, file)[-1])], TargetSettings(allowed=frozenset(Touch)))
        assert any(event.startswith("open ") for event in seen) is (row.touch is not Touch.GUEST), row.name
