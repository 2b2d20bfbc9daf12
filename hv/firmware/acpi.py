"""The ACPI tables of the board, as bytes at their guest addresses.

    RSDP ── RSDT ─┬─ FADT ─┬─ DSDT   (hv.firmware.dsdt)
         └─ XSDT ─┤        └─ FACS
                  ├─ MADT
                  └─ HPET

The board is always in ACPI mode: SMI_CMD is 0, so the operating system has nothing to enable.
Every address and interrupt comes from `hv.machines.layout`.

Source: ACPI 6.5, section 5.2 "ACPI System Description Tables"; IA-PC HPET specification 1.0a,
section 3.2.4 "The ACPI 2.0 HPET Description Table (HPET)".
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hv.errors import ConfigError
from hv.firmware import dsdt
from hv.machines import layout

RSDP_GPA: Final = layout.BIOS_TABLES_BASE
TABLES_LIMIT: Final = layout.BIOS_TABLES_BASE + layout.BIOS_TABLES_SIZE // 2  # the rest: MP table

_OEM_ID: Final = b"HV    "
_OEM_TABLE_ID: Final = b"HVPC    "
_CREATOR_ID: Final = b"HV  "
_HEADER: Final = struct.Struct("<4sIBB6s8sI4sI")
_RSDP_SIZE: Final = 36
_FACS_ALIGN: Final = 64
_TABLE_ALIGN: Final = 16

_HPET_BLOCK_ID: Final = 0x8086_0701  # vendor 8086h, eight 32-bit timers, revision 1
_HPET_MIN_TICK: Final = 1
_RESET_VALUE: Final = 6  # CF9: full reset (bit 1) started (bit 2)
_CMOS_CENTURY: Final = 0x32

# FADT "Fixed Feature Flags" and "IA-PC Boot Architecture Flags".
_FADT_WBINVD: Final = 1 << 0
_FADT_PROC_C1: Final = 1 << 2
_FADT_SLP_BUTTON: Final = 1 << 5  # no fixed sleep button; PWR_BUTTON clear: a fixed power button
_FADT_FIX_RTC: Final = 1 << 6  # RTC wake status is not in the fixed registers
_FADT_TMR_VAL_EXT: Final = 1 << 8  # the PM timer has 32 bits
_FADT_RESET_REG_SUP: Final = 1 << 10
_BOOT_LEGACY_DEVICES: Final = 1 << 0
_BOOT_8042: Final = 1 << 1
_BOOT_VGA_NOT_PRESENT: Final = 1 << 2
_NO_C2_LATENCY: Final = 0xFFFF
_NO_C3_LATENCY: Final = 0xFFFF

# MADT structures.
_MADT_PCAT_COMPAT: Final = 1  # 8259s are present
_MADT_ENABLED: Final = 1
_MPS_CONFORMING: Final = 0
_MPS_HIGH_LEVEL: Final = 0x0D  # active high, level triggered
_ALL_PROCESSORS: Final = 0xFF
_ALL_PROCESSORS_X2: Final = 0xFFFF_FFFF
_LINT1: Final = 1
_FIRST_X2APIC_ID: Final = 0xFF


@dataclass(frozen=True, slots=True)
class AcpiConfig:
    """What the tables depend on beside the fixed layout: vCPU n has local APIC id and UID n."""

    vcpus: int
    hpet_block_id: int = _HPET_BLOCK_ID


def build_tables(config: AcpiConfig) -> list[tuple[int, bytes]]:
    """All tables as `(guest physical address, bytes)`, the RSDP first at `RSDP_GPA`.

    Raises `ConfigError` if there is no vCPU, or so many that the tables outgrow the BIOS area.
    """
    if not 1 <= config.vcpus <= dsdt.MAX_PROCESSORS:
        raise ConfigError(f"{config.vcpus} vCPUs; from 1 to {dsdt.MAX_PROCESSORS} are possible", "-c")
    placed: list[tuple[int, bytes]] = []
    next_gpa = RSDP_GPA + _RSDP_SIZE

    def place(content: bytes, align: int = _TABLE_ALIGN) -> int:
        nonlocal next_gpa
        gpa = -(-next_gpa // align) * align
        next_gpa = gpa + len(content)
        if next_gpa > TABLES_LIMIT:
            raise ConfigError(f"the ACPI tables for {config.vcpus} vCPUs do not fit", "-c")
        placed.append((gpa, content))
        return gpa

    facs = place(_facs(), _FACS_ALIGN)
    dsdt_gpa = place(_table(b"DSDT", 2, dsdt.definition_block(config.vcpus)))
    roots = [place(_fadt(facs, dsdt_gpa)), place(_madt(config.vcpus)), place(_hpet(config.hpet_block_id))]
    rsdt = place(_table(b"RSDT", 1, struct.pack(f"<{len(roots)}I", *roots)))
    xsdt = place(_table(b"XSDT", 1, struct.pack(f"<{len(roots)}Q", *roots)))
    return [(RSDP_GPA, _rsdp(rsdt, xsdt)), *placed]


def _checksum(content: bytes) -> int:
    return -sum(content) & 0xFF


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table: the 36-byte header with length and checksum, then `body`."""
    size = _HEADER.size + len(body)
    fields = (_OEM_ID, _OEM_TABLE_ID, 1, _CREATOR_ID, 1)
    zero_sum = _HEADER.pack(signature, size, revision, 0, *fields) + body
    return _HEADER.pack(signature, size, revision, _checksum(zero_sum), *fields) + body


def _rsdp(rsdt: int, xsdt: int) -> bytes:
    """Revision 2: the ACPI 1.0 part has its own checksum, the whole structure a second one."""
    old = struct.pack("<8sB6sBI", b"RSD PTR ", 0, _OEM_ID, 2, rsdt)
    old = old[:8] + bytes([_checksum(old)]) + old[9:]
    new = old + struct.pack("<IQB3x", _RSDP_SIZE, xsdt, 0)
    return new[:32] + bytes([_checksum(new)]) + new[33:]


def _facs() -> bytes:
    """No waking vector, a free global lock, version 2; it has no checksum."""
    return struct.pack("<4sIIIIIQB31x", b"FACS", 64, 0, 0, 0, 0, 0, 2)


def _gas(port: int, bits: int, access: int) -> bytes:
    """Generic Address Structure in I/O space; `access` 1, 2, 3 = byte, word, dword."""
    return struct.pack("<BBBBQ", 1, bits, 0, access, port)


def _fadt(facs: int, dsdt_gpa: int) -> bytes:
    no_register = bytes(12)
    flags = _FADT_WBINVD | _FADT_PROC_C1 | _FADT_SLP_BUTTON | _FADT_FIX_RTC
    flags |= _FADT_TMR_VAL_EXT | _FADT_RESET_REG_SUP
    boot = _BOOT_LEGACY_DEVICES | _BOOT_8042 | _BOOT_VGA_NOT_PRESENT
    body = b"".join((
        struct.pack("<IIBBH", facs, dsdt_gpa, 0, 0, layout.IRQ_SCI),
        # SMI_CMD, ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT: all absent
        struct.pack("<IBBBB", 0, 0, 0, 0, 0),
        struct.pack("<IIII", layout.PORT_PM1A_EVT, 0, layout.PORT_PM1A_CNT, 0),
        struct.pack("<IIII", 0, layout.PORT_PM_TIMER, 0, 0),
        # lengths: PM1_EVT, PM1_CNT, PM2_CNT, PM_TMR, GPE0, GPE1; GPE1_BASE, CST_CNT
        struct.pack("<8B", 4, 2, 0, 4, 0, 0, 0, 0),
        struct.pack("<HHHH", _NO_C2_LATENCY, _NO_C3_LATENCY, 0, 0),
        struct.pack("<BBBBBHBI", 0, 0, 0, 0, _CMOS_CENTURY, boot, 0, flags),
        _gas(layout.PORT_RESET_CONTROL, 8, 1),
        # RESET_VALUE, ARM_BOOT_ARCH, minor version, X_FIRMWARE_CTRL (0: the 32-bit one holds)
        struct.pack("<BHBQQ", _RESET_VALUE, 0, 0, 0, dsdt_gpa),
        _gas(layout.PORT_PM1A_EVT, 32, 2),
        no_register,
        _gas(layout.PORT_PM1A_CNT, 16, 2),
        no_register,
        no_register,
        _gas(layout.PORT_PM_TIMER, 32, 3),
        # X_GPE0, X_GPE1, SLEEP_CONTROL, SLEEP_STATUS, hypervisor vendor identity
        no_register * 4 + bytes(8),
    ))  # fmt: skip
    return _table(b"FACP", 6, body)


def _madt(vcpus: int) -> bytes:
    structures: list[bytes] = []
    for apic_id in range(vcpus):
        if apic_id < _FIRST_X2APIC_ID:
            structures.append(struct.pack("<BBBBI", 0, 8, apic_id, apic_id, _MADT_ENABLED))
        else:
            structures.append(struct.pack("<BBHIII", 9, 16, 0, apic_id, _MADT_ENABLED, apic_id))
    structures.append(struct.pack("<BBBBII", 1, 12, 0, 0, layout.IOAPIC_BASE, 0))
    for irq, gsi, mps_flags in (
        (layout.IRQ_PIT, layout.GSI_PIT, _MPS_CONFORMING),
        (layout.IRQ_SCI, layout.IRQ_SCI, _MPS_HIGH_LEVEL),
    ):
        structures.append(struct.pack("<BBBBIH", 2, 10, 0, irq, gsi, mps_flags))
    structures.append(struct.pack("<BBBHB", 4, 6, _ALL_PROCESSORS, _MPS_CONFORMING, _LINT1))
    if vcpus > _FIRST_X2APIC_ID:
        structures.append(struct.pack("<BBHIB3x", 10, 12, _MPS_CONFORMING, _ALL_PROCESSORS_X2, _LINT1))
    return _table(b"APIC", 5, _madt_body(structures))


def _madt_body(structures: Sequence[bytes]) -> bytes:
    return struct.pack("<II", layout.LAPIC_BASE, _MADT_PCAT_COMPAT) + b"".join(structures)


def _hpet(block_id: int) -> bytes:
    base = struct.pack("<BBBBQ", 0, 64, 0, 0, layout.HPET_BASE)
    return _table(b"HPET", 1, struct.pack("<I", block_id) + base + struct.pack("<BHB", 0, _HPET_MIN_TICK, 0))
