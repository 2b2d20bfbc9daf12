import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from hv.errors import ConfigError
from hv.firmware.acpi import AcpiConfig, build_tables
from tests.helpers.patience import HANG_S


def tables(vcpus: int) -> dict[bytes, tuple[int, bytes]]:
    return {content[:4]: (gpa, content) for gpa, content in build_tables(AcpiConfig(vcpus))}


def madt_structures(madt: bytes) -> list[bytes]:
    found, offset = [], 44
    while offset < len(madt):
        found.append(madt[offset : offset + madt[offset + 1]])
        offset += madt[offset + 1]
    return found


def test_rsdp_is_found_by_the_documented_search() -> None:
    gpa, rsdp = build_tables(AcpiConfig(1))[0]
    assert 0xE0000 <= gpa < 0x100000
    assert gpa % 16 == 0
    assert rsdp[:8] == b"RSD PTR "
    assert rsdp[15] == 2
    assert sum(rsdp[:20]) & 0xFF == 0
    assert len(rsdp) == 36
    assert sum(rsdp) & 0xFF == 0


def test_rsdt_and_xsdt_list_the_same_tables() -> None:
    by_name = tables(2)
    rsdp = build_tables(AcpiConfig(2))[0][1]
    (rsdt_gpa,) = struct.unpack_from("<I", rsdp, 16)
    (xsdt_gpa,) = struct.unpack_from("<Q", rsdp, 24)
    assert (rsdt_gpa, xsdt_gpa) == (by_name[b"RSDT"][0], by_name[b"XSDT"][0])
    listed = [by_name[name][0] for name in (b"FACP", b"APIC", b"HPET")]
    assert list(struct.unpack("<3I", by_name[b"RSDT"][1][36:])) == listed
    assert list(struct.unpack("<3Q", by_name[b"XSDT"][1][36:])) == listed


@pytest.mark.parametrize("vcpus", [1, 2, 16, 300])
def test_every_table_has_its_length_and_a_zero_sum(vcpus: int) -> None:
    for name, (_, content) in tables(vcpus).items():
        if name in (b"RSD ", b"FACS"):
            continue
        assert struct.unpack_from("<I", content, 4)[0] == len(content), name
        assert sum(content) & 0xFF == 0, name


def test_tables_lie_in_the_bios_area_and_do_not_overlap() -> None:
    spans = sorted((gpa, gpa + len(content)) for gpa, content in build_tables(AcpiConfig(16)))
    assert spans[0][0] >= 0xE0000
    assert spans[-1][1] <= 0x100000
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert tables(1)[b"FACS"][0] % 64 == 0


def test_fadt_describes_the_fixed_hardware() -> None:
    by_name = tables(1)
    fadt = by_name[b"FACP"][1]
    assert len(fadt) == 276
    assert fadt[8] == 6
    assert struct.unpack_from("<II", fadt, 36) == (by_name[b"FACS"][0], by_name[b"DSDT"][0])
    assert struct.unpack_from("<H", fadt, 46)[0] == 9  # SCI_INT
    assert struct.unpack_from("<I", fadt, 48)[0] == 0  # SMI_CMD: always in ACPI mode
    assert fadt[52:54] == b"\0\0"  # ACPI_ENABLE, ACPI_DISABLE
    assert struct.unpack_from("<I", fadt, 56)[0] == 0x400  # PM1a_EVT_BLK
    assert struct.unpack_from("<I", fadt, 64)[0] == 0x404  # PM1a_CNT_BLK
    assert struct.unpack_from("<I", fadt, 76)[0] == 0x408  # PM_TMR_BLK
    assert fadt[108] == 0x32  # CENTURY
    assert struct.unpack_from("<H", fadt, 109)[0] & 0b111 == 0b111  # legacy, 8042, no VGA
    assert struct.unpack_from("<I", fadt, 112)[0] & (1 << 10)  # RESET_REG_SUP
    assert fadt[116:128] == bytes.fromhex("01080001 f90c000000000000")
    assert fadt[128] == 6  # RESET_VALUE


def test_madt_lists_processors_in_order_with_their_apic_ids() -> None:
    structures = madt_structures(tables(4)[b"APIC"][1])
    local = [s for s in structures if s[0] == 0]
    assert [(s[2], s[3], s[4]) for s in local] == [(n, n, 1) for n in range(4)]


def test_madt_overrides_irq_0_and_the_sci() -> None:
    structures = madt_structures(tables(1)[b"APIC"][1])
    overrides = [struct.unpack("<BBBBIH", s) for s in structures if s[0] == 2]
    assert overrides == [(2, 10, 0, 0, 2, 0), (2, 10, 0, 9, 9, 0x0D)]
    assert struct.unpack("<BBBBII", next(s for s in structures if s[0] == 1)) == (1, 12, 0, 0, 0xFEC00000, 0)
    assert next(s for s in structures if s[0] == 4) == bytes.fromhex("0406ff000001")


def test_processors_from_255_on_are_x2apic_structures() -> None:
    structures = madt_structures(tables(257)[b"APIC"][1])
    assert len([s for s in structures if s[0] == 0]) == 255
    x2 = [struct.unpack("<BBHIII", s) for s in structures if s[0] == 9]
    assert x2 == [(9, 16, 0, 255, 1, 255), (9, 16, 0, 256, 1, 256)]
    assert any(s[0] == 10 for s in structures)


@pytest.mark.parametrize("vcpus", [0, -1, 100_000])
def test_impossible_numbers_of_vcpus_are_refused(vcpus: int) -> None:
    with pytest.raises(ConfigError):
        build_tables(AcpiConfig(vcpus))


def iasl(*args: str, cwd: Path) -> str:
    program = shutil.which("iasl")
    assert program, "iasl is missing: install acpica-tools"
    result = subprocess.run(
        [program, *args], cwd=cwd, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.parametrize("vcpus", [1, 16])
def test_iasl_disassembles_every_table_and_recompiles_it_without_a_warning(
    vcpus: int, tmp_path: Path
) -> None:
    for name, (_, content) in tables(vcpus).items():
        if name == b"RSD ":
            continue
        stem = name.decode().lower()
        (tmp_path / f"{stem}.aml").write_bytes(content)
        said = iasl("-d", f"{stem}.aml", cwd=tmp_path)
        assert not any(word in said for word in ("Warning", "Error", "Invalid", "Failure", "Incorrect"))
        said = iasl("-p", "again", f"{stem}.dsl", cwd=tmp_path)
        assert "0 Errors, 0 Warnings, 0 Remarks" in said
        again = (tmp_path / "again.aml").read_bytes()
        assert len(again) == len(content), name
        # The header names the compiler that wrote it, so its checksum differs too.
        assert again[36:] == content[36:], name


def test_dsdt_gives_the_board_to_the_operating_system(tmp_path: Path) -> None:
    (tmp_path / "dsdt.aml").write_bytes(tables(2)[b"DSDT"][1])
    iasl("-d", "dsdt.aml", cwd=tmp_path)
    source = "".join((tmp_path / "dsdt.dsl").read_text().split())
    assert "Name(_S5,Package(0x04)//_S5_:S5SystemState{0x05,0x05,Zero,Zero})" in source
    for hid in ("PNP0A03", "PNP0000", "PNP0100", "PNP0B00", "PNP0103", "PNP0303", "PNP0501", "PNP0C02"):
        assert f'EisaId("{hid}")' in source, hid
    assert source.count('"ACPI0007"') == 2
    # slot 1, INTA#..INTD#: pins 17 to 20
    for pin, gsi in (("Zero", "0x11"), ("One", "0x12"), ("0x02", "0x13"), ("0x03", "0x14")):
        assert f"Package(0x04){{0x0001FFFF,{pin},Zero,{gsi}}}" in source
