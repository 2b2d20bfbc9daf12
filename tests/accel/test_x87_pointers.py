"""Instruction, data and opcode pointers of the x87 (SDM vol. 1, "x87 FPU Instruction and Data Pointers").

The oracle leaves them out: AMD saves them only while an exception is pending.
"""

import struct

import pytest

from tests.helpers.accel_machine import CODE, DATA, Machine

FLD, FLD1, FADD, FDIVP = "d90424", "d9e8", "dcc1", "def9"  # fld dword [rsp]; fld1; fadd st(1), st; fdivp
FNINIT, FNSTCW, FNCLEX, FLDZ = "dbe3", "d97c2408", "dbe2", "d9ee"


def after(*code: str, control: int = 0x37F) -> dict[str, int]:
    """The pointers behind the instructions, which have the stack pointer at DATA."""
    machine = Machine(code=bytes.fromhex("".join(code)))
    machine["rsp"], machine["fctrl"], machine["ftag"] = DATA, control, 0xFFFF
    machine.run(len(code))
    return {name: machine[name] for name in ("fioff", "fiseg", "fooff", "foseg", "fop")}


def test_pointers_are_those_of_the_last_instruction_and_of_the_last_operand_in_memory() -> None:
    assert after(FLD) == {"fioff": CODE, "fiseg": 8, "fooff": DATA, "foseg": 0x10, "fop": 0}
    assert after(FLD, FLD1) == {"fioff": CODE + 3, "fiseg": 8, "fooff": DATA, "foseg": 0x10, "fop": 0}


@pytest.mark.parametrize("code", [FNSTCW, FNCLEX])
def test_control_instructions_leave_the_pointers_alone(code: str) -> None:
    assert after(FLD, FLD1, code)["fioff"] == CODE + 3


def test_initialisation_clears_the_pointers() -> None:
    assert set(after(FLD, FNINIT).values()) == {0}


def test_the_opcode_is_that_of_an_instruction_with_an_unmasked_exception() -> None:
    assert after(FLD1, FLDZ, FDIVP, control=0x37B)["fop"] == 0x6F9
    assert after(FLD1, FLDZ, FDIVP)["fop"] == 0


def test_fnstenv_shows_the_selectors_and_fxsave64_the_whole_offsets() -> None:
    machine = Machine(code=bytes.fromhex(FLD + "d9742440" + "480fae842400010000"))
    machine["rsp"], machine["fctrl"], machine["ftag"] = DATA, 0x37F, 0xFFFF
    machine.run(3)
    environment = struct.unpack("<7I", machine.read(DATA + 0x40, 28))
    assert environment[3:] == (CODE, 8, DATA, 0xFFFF0010)
    assert struct.unpack("<QQ", machine.read(DATA + 0x108, 16)) == (CODE, DATA)
