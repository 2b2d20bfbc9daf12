"""The ELF file with a kernel's symbols, read back by pyelftools."""

import io

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hv.debug.symbol import Symbol
from hv.debug.symbol_elf import Extra, Section, build_elf, kernel_sections

BASE = 0xFFFF_FFFF_8140_0000
MARKS = {
    "_text": 0,
    "__start_rodata": 0x40_0000,
    "_sdata": 0x80_0000,
    "__init_begin": 0xA0_0000,
    "_sinittext": 0xA1_0000,
    "_einittext": 0xA2_0000,
    "__bss_start": 0xB0_0000,
    "__brk_base": 0xC0_0000,
    "_end": 0xD0_0000,
}
SYMBOLS = [
    Symbol(0, "A", "__per_cpu_start"),
    Symbol(0x6000, "A", "cpu_tss_rw"),
    Symbol(0x3_4000, "A", "__per_cpu_end"),
    *sorted(
        [
            *[Symbol(BASE + distance, "T", name) for name, distance in MARKS.items()],
            Symbol(BASE + 0x10, "t", "local_function"),
            Symbol(BASE + 0x30, "W", "weak_function"),
            Symbol(BASE + 0x40_0010, "R", "linux_banner"),
            Symbol(BASE + 0xA1_0008, "T", "start_kernel"),
            Symbol(BASE + 0xF0_0000, "D", "beyond_the_end"),
        ],
        key=lambda symbol: symbol.address,
    ),
]


def read_back() -> ELFFile:
    return ELFFile(io.BytesIO(build_elf(SYMBOLS, kernel_sections(SYMBOLS, BASE))))


def table_of(elf: ELFFile) -> SymbolTableSection:
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    return table


def test_every_symbol_has_its_address_and_section() -> None:
    elf = read_back()
    table = table_of(elf)
    rows = {symbol.name: symbol.entry for symbol in table.iter_symbols()}
    assert {(name, entry["st_value"]) for name, entry in rows.items() if name} == {
        (symbol.name, symbol.address) for symbol in SYMBOLS
    }
    placed = {
        name: elf.get_section(entry["st_shndx"]).name
        for name, entry in rows.items()
        if isinstance(entry["st_shndx"], int)
    }
    assert placed["local_function"] == ".text"
    assert placed["linux_banner"] == ".rodata"
    assert placed["start_kernel"] == ".init.text"
    assert placed["cpu_tss_rw"] == ".data..percpu"
    assert rows["beyond_the_end"]["st_shndx"] == "SHN_ABS"
    assert rows["local_function"]["st_size"] == 0x20
    assert rows["local_function"]["st_info"] == {"bind": "STB_LOCAL", "type": "STT_FUNC"}
    assert rows["weak_function"]["st_info"]["bind"] == "STB_WEAK"
    assert rows["linux_banner"]["st_info"] == {"bind": "STB_GLOBAL", "type": "STT_OBJECT"}


def test_local_symbols_come_first() -> None:
    table = table_of(read_back())
    binds = [symbol.entry["st_info"]["bind"] for symbol in table.iter_symbols()]
    assert binds.index("STB_GLOBAL") == table["sh_info"]
    assert "STB_LOCAL" not in binds[table["sh_info"] :]


def test_the_segment_covers_the_kernel_but_not_its_per_cpu_data() -> None:
    [segment] = read_back().iter_segments()
    assert segment["p_type"] == "PT_LOAD"
    assert (segment["p_vaddr"], segment["p_memsz"], segment["p_filesz"]) == (BASE, 0xD0_0000, 0)


def test_sections_follow_each_other_without_a_gap() -> None:
    per_cpu, *sections = kernel_sections(SYMBOLS, BASE)
    assert (per_cpu.start, per_cpu.size, per_cpu.in_segment) == (0, 0x3_4000, False)
    ends = [section.start + section.size for section in sections]
    assert [section.start for section in sections] == [BASE, *ends[:-1]]
    assert ends[-1] == BASE + 0xD0_0000


def test_a_kernel_without_the_usual_marks_is_one_section() -> None:
    symbols = [Symbol(BASE + 8 * n, "t", f"f{n}") for n in range(10)]
    assert kernel_sections(symbols, BASE) == [Section(".text", BASE, 73, 6)]


def test_extra_sections_keep_their_contents() -> None:
    elf = ELFFile(io.BytesIO(build_elf(SYMBOLS, kernel_sections(SYMBOLS, BASE), [Extra(".debug_x", b"abc")])))
    extra = elf.get_section_by_name(".debug_x")
    assert extra is not None
    assert extra.data() == b"abc"
    assert table_of(elf).get_symbol(1).name == "local_function"
