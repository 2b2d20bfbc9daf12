"""`monitor` commands that change the machine, and those that touch the host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hv.debug.command import Command, CommandContext, Touch
from hv.debug.commands import COMMANDS, run_command
from hv.debug.run_control import RunControl
from hv.debug.target_settings import TargetSettings, parse_allowed
from hv.engines.soft import SoftEngine
from hv.errors import ConfigError
from hv.inputlog import Recorder, Replay
from hv.loaders.image import BootImage
from hv.loaders.load import load_image
from hv.machines.pc import PcConfig, build_pc, log_header
from hv.snapshot import read_snapshot
from hv.vm import Vm
from tests.helpers.bare_target import CODE, Machine, machine

ALL = frozenset(Touch)


@pytest.fixture
def m() -> Iterator[Machine]:
    with machine() as made:
        yield made


def said(m: Machine, command: str, allowed: frozenset[Touch] = ALL) -> str:
    text: list[str] = []
    run_command(CommandContext(m.control, 0, text.append, allowed), command)
    return "".join(text)


# --- ports and MSRs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("in 0x80", "port 0x0080: 0xff\n"),
        ("in 0x80 4", "port 0x0080: 0xffffffff\n"),
        ("in 0x10000", "0x10000 is no port\n"),
        ("in 0x80 3", "a port access has 1, 2 or 4 bytes, not 3\n"),
        ("in", "1 to 2 numbers expected, not 0 words\n"),
        ("out 0x80 0x100", "0x100 does not fit into 1 bytes\n"),
        ("out 0x80 0xffff 2", ""),
        ("out 1", "2 to 3 numbers expected, not 1 words\n"),
        ("read-msr 0xc0000080", "MSR 0xc0000080: 0x0000000000000000\n"),
        ("read-msr 0x12345", "this machine has no MSR 0x12345 that can be read\n"),
        ("read-msr 0x100000000", "0x100000000 is no MSR\n"),
        ("write-msr 0xc0000082 0xffff800000000000", ""),
        ("write-msr 0xc0000082 0x8000000000000000", "MSR 0xc0000082 cannot be 0x8000000000000000\n"),
        ("write-msr 0x12345 1", "MSR 0x12345 cannot be 0x1\n"),
    ],
)
def test_ports_and_msrs(m: Machine, command: str, expected: str) -> None:
    assert said(m, command) == expected


def test_an_msr_that_is_written_is_read(m: Machine) -> None:
    assert said(m, "write-msr 0xc0000081 0x123400000000") == ""
    assert said(m, "read-msr 0xc0000081") == "MSR 0xc0000081: 0x0000123400000000\n"
    assert m.vm.vcpus[0].get("star") == 0x1234_0000_0000


def test_a_device_answers_a_port(m: Machine) -> None:
    assert said(m, "out 0xf4 3") == ""
    m.control.run_freely()
    m.control.owner.close()
    assert [ending.status for ending in m.endings] == [7]


def pc(tmp_path: Path, recorder: Recorder | None = None, replay: Replay | None = None) -> Vm:
    return build_pc(
        CONFIG, image(tmp_path), SoftEngine(), console=lambda data: None, recorder=recorder, replay=replay
    )


CONFIG = PcConfig(ram=16 << 20, vcpus=1)


def image(tmp_path: Path) -> BootImage:
    sector = tmp_path / "sector"
    sector.write_bytes((b"\x40\xeb\xfd" + bytes(510))[:510] + b"\x55\xaa")
    return load_image(str(sector), ram_size=CONFIG.ram, cmdline="", initrd=())


def test_a_replay_does_what_ports_and_msrs_were_told(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    vm = pc(tmp_path, Recorder(log, log_header(CONFIG, image(tmp_path))))

    text: list[str] = []
    context = CommandContext(RunControl(vm), 0, text.append)
    before = vm.state_hash()
    for command in ("out 0x70 0x0a", "in 0x71", "write-msr 0xc0000081 0x77", "write-msr 0x1b 0xfee00c00"):
        run_command(context, command)
    assert text == ["port 0x0071: 0x26\n"]
    after = vm.state_hash()
    assert after != before
    vm.close()
    again = pc(tmp_path, replay=Replay.read(log))
    assert again.state_hash() == before
    again.door.apply_due()
    assert again.state_hash() == after
    text.clear()
    run_command(CommandContext(RunControl(again), 0, text.append), "out 0x70 1")
    assert "while a log is replayed" in text[0]
    again.close()


# --- the host ------------------------------------------------------------------------------------------


def test_memory_is_written_to_a_file(m: Machine, tmp_path: Path) -> None:
    file = tmp_path / "a b"
    assert said(m, f"memsave {CODE:#x} 3 '{file}'") == f"3 bytes written to {file}\n"
    assert file.read_bytes() == b"\x40\xeb\xfd"
    assert said(m, f"pmemsave 0 0x100000 '{file}'") == f"1048576 bytes written to {file}\n"
    assert file.read_bytes()[CODE : CODE + 3] == b"\x40\xeb\xfd"
    assert said(m, f"pmemsave 0xff000 0x2000 '{file}'") == "there is no memory at 0xff000\n"
    assert said(m, f"memsave 0xff000 0x2000 '{file}'") == "there is no memory at 0x100000\n"
    assert said(m, f"memsave 0 1 {tmp_path}/none/x") == f"{tmp_path}/none/x: No such file or directory\n"
    assert said(m, "memsave 0 1") == "an address, a size and a file are expected\n"
    assert "too many" in said(m, f"memsave 0 0xffffffffffffffff '{file}'")
    assert "null byte" in said(m, "memsave 0 1 'a\0b'")


def test_a_file_is_read_into_memory(m: Machine, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"hello")
    before = m.vm.state_hash()
    assert said(m, f"pmemload 0x9000 {file}") == f"5 bytes read from {file}\n"
    assert m.vm.memory.read(0x9000, 5) == b"hello"
    assert m.vm.state_hash() != before
    assert said(m, f"pmemload 0xffffe {file}") == "there is no memory for 5 bytes at 0xffffe\n"
    assert "No such file" in said(m, f"pmemload 0x9000 {file}2")
    assert said(m, "pmemload 0x9000") == "an address and a file are expected\n"


def test_the_whole_state_is_written_and_loads(m: Machine, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    assert said(m, f"savevm {file}") == f"snapshot of tick 0 written to {file}\n"
    before = m.vm.state_hash()
    m.vm.vcpus[0].set("rax", 99)
    m.vm.load(read_snapshot(str(file)))
    assert m.vm.state_hash() == before
    assert said(m, "savevm") == "a file is expected\n"


HOST_COMMANDS = [row for row in COMMANDS if row.touch is not Touch.GUEST]


def test_there_are_commands_of_both_kinds() -> None:
    assert {row.touch for row in HOST_COMMANDS} == {Touch.HOST_READ, Touch.HOST_WRITE}


@pytest.mark.parametrize("row", HOST_COMMANDS, ids=lambda row: str(row.name))
def test_what_touches_the_host_needs_the_users_word(m: Machine, row: Command, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    words = {"ADDRESS": "0x9000", "SIZE": "1", "FILE": str(file)}
    line = " ".join([row.name, *(words[word] for word in row.arguments.split())])
    refused = f"{row.name} is not allowed without --gdb-allow {row.touch.value}\n"
    for others in (frozenset({Touch.GUEST}), ALL - {row.touch}):
        assert said(m, line, others) == refused
    assert file.read_bytes() == b"x"
    assert said(m, line, frozenset({Touch.GUEST, row.touch})) not in ("", refused)
    assert f"(needs --gdb-allow {row.touch.value})" in said(m, "help", frozenset({Touch.GUEST}))
    assert "needs" not in said(m, "help")


def test_the_option_names_classes() -> None:
    assert parse_allowed(()) == TargetSettings().allowed == {Touch.GUEST}
    assert parse_allowed(("host-read,host-write", "host-exec")) == ALL
    for word in ("guest", "", "host", "host-read,"):
        with pytest.raises(ConfigError, match="--gdb-allow"):
            parse_allowed((word,))
