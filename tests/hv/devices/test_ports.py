"""Single-register devices."""

from hv.devices.ports import DebugConsole, DebugExit, FastA20, PostCode, ResetControl, ResetKind


def test_port_92_gates_a20_and_resets_on_a_rising_edge() -> None:
    resets: list[int] = []
    gate: list[bool] = []
    port = FastA20(lambda: resets.append(1), gate.append)
    assert port.read(0, 1) == 0x02
    port.write(0, 1, 0x00)
    port.write(0, 1, 0x02)
    assert gate == [False, True]
    port.write(0, 1, 0x03)
    port.write(0, 1, 0x03)
    assert resets == [1]


def test_port_cf9_resets_hard_or_the_processors_only() -> None:
    kinds: list[ResetKind] = []
    port = ResetControl(kinds.append)
    port.write(0, 1, 0x02)
    assert (kinds, port.read(0, 1)) == ([], 0x02)
    port.write(0, 1, 0x06)
    port.write(0, 1, 0x0E)
    port.write(0, 1, 0x04)
    assert kinds == [ResetKind.HARD, ResetKind.HARD, ResetKind.INIT]
    assert port.read(0, 1) == 0x00


def test_debug_exit_hands_on_the_value_of_any_size() -> None:
    values: list[int] = []
    port = DebugExit(values.append)
    port.write(0, 1, 0x10)
    port.write(0, 4, 0x12345678)
    assert values == [0x10, 0x12345678]
    assert port.read(0, 1) == 0


def test_the_debug_console_identifies_itself_and_passes_bytes_on() -> None:
    out = bytearray()
    port = DebugConsole(out.extend)
    assert port.read(0, 1) == 0xE9
    for byte in b"ok":
        port.write(0, 1, byte)
    assert out == b"ok"


def test_the_post_code_is_kept_and_saved() -> None:
    first, second = PostCode(), PostCode()
    first.write(0, 1, 0x5A)
    second.load(first.save())
    assert second.read(0, 1) == 0x5A
