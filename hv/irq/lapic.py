"""The local APIC as the guest sees it: one register table, viewed as xAPIC page and as x2APIC MSRs.

Source: Intel SDM vol. 3, "Local APIC Register Address Map" and "x2APIC Register Address Space". Row n
of the table is at offset 16 * n of the page and at MSR 800h + n.

xAPIC registers are 32 bits wide; the page answers narrower reads with the addressed bytes, ignores
narrower or unaligned writes, and reads 0 between registers. Access to a register that does not exist
sets the ESR's illegal-register bit. In x2APIC mode the same, and any reserved bit, is #GP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hv.irq.apicbus import Delivery
from hv.irq.lapic_core import (
    CMCI,
    ERROR,
    LINT0,
    LINT1,
    LVT_LEVEL,
    LVT_REMOTE_IRR,
    SVR_ENABLE,
    TIMER,
    LapicCore,
)
from hv.irq.lapic_timer import LVT_MASKED

MSR_APIC_BASE: Final = 0x1B
MSR_TSC_DEADLINE: Final = 0x6E0
MSR_X2APIC: Final = 0x800
MSR_X2APIC_END: Final = 0x900
VERSION: Final = 0x0106_0014  # version 14h, seven LVT entries, EOI-broadcast suppression
SVR_WRITABLE: Final = 0x11FF
ICR_WRITABLE: Final = 0xC_CFFF
ICR_SELF: Final = 1 << 18
ESR_ILLEGAL_REGISTER: Final = 1 << 7
LVT_WRITABLE: Final = (0x1_07FF, 0x7_00FF, 0x1_07FF, 0x1_07FF, 0x1_A7FF, 0x1_A7FF, 0x1_00FF)
LVT_READ_ONLY: Final = 0x5000  # delivery status, remote IRR: not reserved, so x2APIC writes may carry them


@dataclass(frozen=True, slots=True)
class Row:
    """One register; a missing function means that this access does not exist in that view.

    `reserved` are the bits that make an x2APIC write #GP.
    """

    read: Callable[[LapicCore], int] | None = None
    write: Callable[[LapicCore, int], None] | None = None
    x2_read: Callable[[LapicCore], int] | None = None
    x2_write: Callable[[LapicCore, int], None] | None = None
    reserved: int = ~0


def _both(
    read: Callable[[LapicCore], int] | None,
    write: Callable[[LapicCore, int], None] | None = None,
    writable: int = 0,
) -> Row:
    """A register that is the same in both views."""
    return Row(read, write, read, write, ~writable)


def _write_svr(apic: LapicCore, value: int) -> None:
    apic.svr = value & SVR_WRITABLE
    if not value & SVR_ENABLE:
        for entry in range(CMCI, ERROR + 1):
            apic.lvt[entry] |= LVT_MASKED
        apic.timer.configure(apic.lvt[TIMER])
    apic.changed()


def _write_esr(apic: LapicCore, value: int) -> None:
    apic.esr, apic.errors = apic.errors, 0


def _write_icr(apic: LapicCore, value: int) -> None:
    apic.icr_low = value & ICR_WRITABLE
    apic.send(apic.icr_low, apic.icr_high >> 24, wide=False)


def _write_icr_x2(apic: LapicCore, value: int) -> None:
    apic.icr_low, apic.icr_high = value & ICR_WRITABLE, value >> 32
    apic.send(apic.icr_low, apic.icr_high, wide=True)


def _write_icr_high(apic: LapicCore, value: int) -> None:
    apic.icr_high = value & 0xFF00_0000


def _write_ldr(apic: LapicCore, value: int) -> None:
    apic.ldr = value & 0xFF00_0000


def _write_dfr(apic: LapicCore, value: int) -> None:
    apic.dfr = value | 0x0FFF_FFFF


def _lvt(entry: int) -> Row:
    def write(apic: LapicCore, value: int) -> None:
        value &= LVT_WRITABLE[entry]
        if not apic.software_enabled:
            value |= LVT_MASKED
        value |= apic.lvt[entry] & LVT_REMOTE_IRR
        apic.lvt[entry] = value
        if entry == TIMER:
            apic.timer.configure(value)
        elif entry in (LINT0, LINT1):
            fixed_level = value & (0x700 | LVT_LEVEL | LVT_REMOTE_IRR) == Delivery.FIXED << 8 | LVT_LEVEL
            if fixed_level and apic.lint[entry - LINT0]:
                apic.fire_lvt(entry)
        apic.changed()

    return _both(lambda apic: apic.lvt[entry], write, LVT_WRITABLE[entry] | LVT_READ_ONLY)


def _isr(index: int) -> Row:
    return _both(lambda apic: apic.isr >> 32 * index & 0xFFFF_FFFF)


def _tmr(index: int) -> Row:
    return _both(lambda apic: apic.tmr >> 32 * index & 0xFFFF_FFFF)


def _irr(index: int) -> Row:
    return _both(lambda apic: apic.irr >> 32 * index & 0xFFFF_FFFF)


REGISTERS: Final[dict[int, Row]] = {
    0x02: Row(lambda apic: apic.index << 24, x2_read=lambda apic: apic.index),
    0x03: _both(lambda apic: VERSION),
    0x08: _both(lambda apic: apic.tpr, lambda apic, value: apic.set_tpr(value & 0xFF), 0xFF),
    0x0A: _both(lambda apic: apic.ppr),
    0x0B: _both(None, lambda apic, value: apic.eoi()),
    0x0D: Row(
        lambda apic: apic.ldr, _write_ldr, x2_read=lambda apic: apic.index >> 4 << 16 | 1 << (apic.index & 15)
    ),
    0x0E: Row(lambda apic: apic.dfr, _write_dfr),
    0x0F: _both(lambda apic: apic.svr, _write_svr, SVR_WRITABLE),
    **{0x10 + index: _isr(index) for index in range(8)},
    **{0x18 + index: _tmr(index) for index in range(8)},
    **{0x20 + index: _irr(index) for index in range(8)},
    0x28: _both(lambda apic: apic.esr, _write_esr),
    0x2F: _lvt(CMCI),
    0x30: Row(
        lambda apic: apic.icr_low,
        _write_icr,
        lambda apic: apic.icr_high << 32 | apic.icr_low,
        _write_icr_x2,
        ~(0xFFFF_FFFF_0000_0000 | ICR_WRITABLE),
    ),
    0x31: Row(lambda apic: apic.icr_high, _write_icr_high),
    **{0x32 + index: _lvt(TIMER + index) for index in range(ERROR - TIMER + 1)},
    0x38: _both(
        lambda apic: apic.timer.initial, lambda apic, value: apic.timer.set_initial(value), 0xFFFF_FFFF
    ),
    0x39: _both(lambda apic: apic.timer.current()),
    0x3E: _both(lambda apic: apic.timer.divide, lambda apic, value: apic.timer.set_divide(value), 0b1011),
    0x3F: Row(x2_write=lambda apic, value: apic.send(value | ICR_SELF, 0, wide=True), reserved=~0xFF),
}


class Lapic(LapicCore):
    """A local APIC with its register views. Constructor and the processor side: see `LapicCore`."""

    def read(self, offset: int, size: int) -> int:
        """Read `size` (1, 2, 4) bytes of the xAPIC page."""
        if offset & 0xC:
            return 0
        row = REGISTERS.get(offset >> 4)
        if row is None or row.read is None:
            if row is None or row.write is None:
                self.error(ESR_ILLEGAL_REGISTER)
            return 0
        return row.read(self) >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register of the xAPIC page; `size` must be 4."""
        if size != 4 or offset & 0xF:
            return
        row = REGISTERS.get(offset >> 4)
        if row is not None and row.write is not None:
            row.write(self, value)
        elif row is None or row.read is None:
            self.error(ESR_ILLEGAL_REGISTER)

    def read_msr(self, index: int) -> int | None:
        """RDMSR of APIC_BASE, TSC_DEADLINE or 800h-8FFh; None stands for #GP."""
        if index == MSR_APIC_BASE:
            return self.base_msr
        if index == MSR_TSC_DEADLINE:
            return self.timer.read_deadline()
        row = REGISTERS.get(index - MSR_X2APIC)
        if row is None or row.x2_read is None or not self.x2apic:
            return None
        return row.x2_read(self)

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR of the same MSRs, with a 64-bit value; False stands for #GP."""
        if index == MSR_APIC_BASE:
            return self.write_base(value)
        if index == MSR_TSC_DEADLINE:
            self.timer.write_deadline(value)
            return True
        row = REGISTERS.get(index - MSR_X2APIC)
        if row is None or row.x2_write is None or not self.x2apic or value & row.reserved:
            return False
        row.x2_write(self, value)
        return True


def owns_msr(index: int) -> bool:
    """Whether an MSR belongs to the local APIC."""
    return index in (MSR_APIC_BASE, MSR_TSC_DEADLINE) or MSR_X2APIC <= index < MSR_X2APIC_END
