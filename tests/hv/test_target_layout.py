"""The layouts of registers: 64-bit in every mode, 32-bit, 16-bit, and one that follows the mode."""

import pytest

from gdbstub.capabilities import Capabilities
from gdbstub.errors import RegisterError
from hv.debug.symbols import Program
from hv.debug.target_layout import layout_for
from hv.debug.target_settings import Layout, TargetSettings
from tests.helpers.bare_target import CODE, STEP, machine, stopped
from tests.helpers.rsp import connected

ORDER = [
    "eax",
    "ecx",
    "edx",
    "ebx",
    "esp",
    "ebp",
    "esi",
    "edi",
    "eip",
    "eflags",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
]


def settings(layout: Layout) -> TargetSettings:
    return TargetSettings(layout=layout)


@pytest.mark.parametrize("layout", [Layout.I386, Layout.I8086])
async def test_32_bit_layouts_are_gdbs(layout: Layout) -> None:
    with machine() as m:
        target = m.target(settings=settings(layout))
        description = target.description
        assert list(description.general_names[:16]) == ORDER
        assert [register.bits for register in description.general[:16]] == [32] * 16
        assert f"<architecture>{layout.value}</architecture>".encode() in description.target_xml
        await target.attach()
        names = [register.name for register in description.registers]
        values = await target.read_registers(1, names)
        sizes = [register.size for register in description.registers]
        assert [len(value) for value in values if value is not None] == sizes


async def test_low_halves_are_read_and_written_and_the_others_stay() -> None:
    with machine() as m:
        target = m.target(settings=settings(Layout.I386))
        await target.attach()
        m.vm.vcpus[0].set("rbx", 0x1111_1111_2222_2222)
        assert await target.read_registers(1, ["ebx", "eip", "rbx"]) == [
            b"\x22" * 4,
            CODE.to_bytes(4, "little"),
            b"\x22" * 4 + b"\x11" * 4,
        ]
        await target.write_registers(1, [("ebx", b"\x33" * 4), ("eip", (CODE + 1).to_bytes(4, "little"))])
        assert m.vm.vcpus[0].get("rbx") == 0x1111_1111_3333_3333
        assert m.vm.vcpus[0].get("rip") == CODE + 1
        await stopped(target, STEP)
        assert await target.read_registers(1, ["eip"]) == [CODE.to_bytes(4, "little")]
        with pytest.raises(RegisterError):
            await target.write_registers(1, [("ebx", b"\1" * 4), ("ticks", b"\xff" * 8)])
        assert m.vm.vcpus[0].get("rbx") == 0x1111_1111_3333_3333


async def test_the_program_counter_is_linear_in_a_segment() -> None:
    with machine() as m:
        target = m.target(settings=settings(Layout.I8086))
        await target.attach()
        m.vm.vcpus[0].set("cs", 0x700)
        m.vm.vcpus[0].set("cs_base", 0x7000)
        m.vm.vcpus[0].set("rip", 0xC00)
        assert await target.read_registers(1, ["eip"]) == [CODE.to_bytes(4, "little")]
        await target.write_registers(1, [("eip", (CODE + 2).to_bytes(4, "little"))])
        assert m.vm.vcpus[0].get("rip") == 0xC02


async def test_the_layout_changes_only_when_the_client_reads_it_anew() -> None:
    with machine() as m:
        target = m.target(settings=settings(Layout.AUTO))
        assert Capabilities.of(target).relayout is not None
        async with connected(target) as client:
            await client.require(b"?")
            assert b"i8086" in await client.require(b"qXfer:features:read:target.xml:0,200")
            small = await client.require(b"g")
            for name, value in (("cr4", 0x20), ("efer", 0x500), ("cr0", 0x8000_0011), ("cs_attr", 0xA09B)):
                m.vm.vcpus[0].set(name, value)
            assert m.vm.vcpus[0].get("mode") == 6
            assert len(await client.require(b"g")) == len(small)
            assert b"x86-64" in await client.require(b"qXfer:features:read:target.xml:0,200")
            assert len(await client.require(b"g")) > len(small)
            m.vm.vcpus[0].set("cs_attr", 0xC09B)
            assert b">i386<" in await client.require(b"qXfer:features:read:target.xml:0,200")
            assert len(await client.require(b"g")) == len(small)


@pytest.mark.parametrize(
    ("mode", "layout"),
    [
        ("real", Layout.I8086),
        ("vm86", Layout.I8086),
        ("protected16", Layout.I8086),
        ("compatibility16", Layout.I8086),
        ("protected32", Layout.I386),
        ("compatibility32", Layout.I386),
        ("long64", Layout.X86_64),
    ],
)
def test_each_mode_has_its_layout(mode: str, layout: Layout) -> None:
    assert layout_for(mode) is layout


async def test_a_layout_that_is_chosen_stays() -> None:
    with machine() as m:
        for layout in (Layout.X86_64, Layout.LINUX, Layout.I386, Layout.I8086):
            target = m.target(settings=settings(layout))
            before = target.description
            await target.latch_description(1)
            assert target.description is before


@pytest.mark.parametrize("layout", list(Layout))
async def test_a_64_bit_program_is_offered_beside_64_bit_registers_only(layout: Layout) -> None:
    with machine() as m:
        target = m.target(settings=settings(layout))
        m.control.symbols.program = Program("/wide", b"\x7fELF\x02")
        assert await target.executable() == ("/wide" if layout in (Layout.X86_64, Layout.LINUX) else None)
        m.control.symbols.program = Program("/narrow", b"\x7fELF\x01")
        assert await target.executable() == "/narrow"
