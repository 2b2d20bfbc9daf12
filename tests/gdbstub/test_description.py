"""Descriptions: the document, the `g` layout, the `p` numbers."""

from xml.etree import ElementTree

import pytest

from gdbstub.arch.x86_64 import x86_64
from gdbstub.arch.x86_vectors import VECTOR_SIGNALS
from gdbstub.description import Description, Feature, Register

# gdb's order of the core feature for 64 bits, from its manual's "i386 Features".
CORE = [
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "eflags"),
    *("cs", "ss", "ds", "es", "fs", "gs", "st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7"),
    *("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"),
]
XMM = [f"xmm{n}" for n in range(16)]
SIZES = {
    "rax": 8,
    "rip": 8,
    "eflags": 4,
    "cs": 4,
    "st0": 10,
    "fctrl": 4,
    "xmm0": 16,
    "mxcsr": 4,
    "fs_base": 8,
}


def tree(description: Description) -> ElementTree.Element:
    text = description.target_xml.decode()
    return ElementTree.fromstring(text.replace('<!DOCTYPE target SYSTEM "gdb-target.dtd">', ""))


def test_general_registers_are_those_of_gdb_in_its_order() -> None:
    names = [register.name for register in x86_64().general]
    assert names == [*CORE, *XMM, "mxcsr", "fs_base", "gs_base"]


def test_the_g_packet_has_552_bytes() -> None:
    # 17 * 8 general, 7 * 4 flags and selectors, 8 * 10 and 8 * 4 x87, 16 * 16 + 4 SSE, 2 * 8 bases
    assert x86_64().general_size == 136 + 28 + 80 + 32 + 260 + 16


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_register_sizes(name: str, size: int) -> None:
    assert x86_64().by_name(name).size == size


def test_the_document_agrees_with_numbers_and_sizes() -> None:
    description = x86_64(avx=True)
    rows = tree(description).findall("feature/reg")
    assert [int(row.attrib["regnum"]) for row in rows] == list(range(len(description.registers)))
    assert [row.attrib["name"] for row in rows] == [register.name for register in description.registers]
    assert [int(row.attrib["bitsize"]) for row in rows] == [r.size * 8 for r in description.registers]


def test_every_type_is_predefined_or_defined_before_in_its_feature() -> None:
    predefined = {
        *("int", "int32", "int64", "uint32", "uint64", "uint128"),
        *("data_ptr", "code_ptr", "i387_ext", "ieee_single", "ieee_double", "int8", "int16"),
    }
    for feature in tree(x86_64(avx=True, linux=True)).findall("feature"):
        defined = {kind.attrib["id"] for kind in feature if kind.tag != "reg"}
        used = {row.attrib["type"] for row in feature.findall("reg")}
        assert used <= predefined | defined


def test_flag_fields_lie_within_their_type_and_do_not_overlap() -> None:
    for flags in tree(x86_64()).iter("flags"):
        taken: set[int] = set()
        for field in flags:
            bits = set(range(int(field.attrib["start"]), int(field.attrib["end"]) + 1))
            assert bits
            assert not bits & taken
            taken |= bits
        assert max(taken) < 8 * int(flags.attrib["size"])


def test_avx_and_linux_registers_are_there_only_when_asked_for() -> None:
    names = set(x86_64().numbers)
    assert not names & {"ymm0h", "orig_rax"}
    assert {"ymm0h", "ymm15h"} <= set(x86_64(avx=True).numbers)
    assert "orig_rax" in x86_64(linux=True).numbers


def test_the_system_registers_are_not_in_g_and_are_not_restored_by_calls() -> None:
    description = x86_64()
    general = {register.name for register in description.general}
    system = [register for register in description.registers if register.group == "system"]
    assert {"cr0", "cr3", "efer", "k_gs_base", "gdtr_base", "tr", "dr7", "lstar", "ticks", "mode"} <= {
        register.name for register in system
    }
    assert not general & {register.name for register in system}
    assert not any(register.save_restore for register in system)


def test_a_g_packet_is_cut_at_register_borders() -> None:
    description = x86_64()
    data = bytes(n % 251 for n in range(552))
    values = dict(description.split_general(data))
    assert values["rax"] == data[0:8]
    assert values["rip"] == data[128:136]
    assert values["eflags"] == data[136:140]
    assert values["st0"] == data[164:174]
    assert values["xmm0"] == data[276:292]
    assert values["gs_base"] == data[544:552]


def one(*registers: Register, general: bool = True) -> Feature:
    return Feature("f", registers, general=general)


@pytest.mark.parametrize(
    "features",
    [
        (one(Register("a", 64), Register("a", 64)),),
        (one(Register("a", 12)),),
        (one(Register("a", 0)),),
        (one(Register("x", 64), general=False), one(Register("a", 64))),
        (one(Register("b", 64)),),
    ],
)
def test_contradictory_tables_are_refused(features: tuple[Feature, ...]) -> None:
    with pytest.raises(ValueError):
        Description("none", features, expedited=("a",), program_counter="a")


def test_names_are_escaped_in_the_document() -> None:
    description = Description("x", (Feature('<"&', (Register("a", 8),)),), expedited=(), program_counter="a")
    feature = tree(description).find("feature")
    assert feature is not None
    assert feature.attrib["name"] == '<"&'


def test_faults_have_the_signals_that_programs_get_for_them() -> None:
    assert (VECTOR_SIGNALS[0], VECTOR_SIGNALS[6], VECTOR_SIGNALS[13], VECTOR_SIGNALS[14]) == (8, 4, 11, 11)
