"""The MC146818 real-time clock with 128 bytes of CMOS RAM, ports 70h and 71h.

Source: Motorola MC146818 datasheet, "Address Map", "Interrupts", "Update Cycle"; the century byte at 32h
and the NMI mask in bit 7 of port 70h are the PC's.

Guest time is a number of seconds that follows the machine clock; the date registers are computed when
they are read. While register B's SET bit is on, or the divider is held in reset, time stands still and
the date registers are plain memory; leaving that state, and every single write outside it, turns them
into seconds again: a field out of range is cut to the nearest valid value. Update-in-progress is
visible for 244 us before each second. Periodic, update-ended and alarm flags are brought up to date
when somebody looks; the machine clock is armed only for those that are enabled and not yet set.
"""

from typing import Final

from hv.clock import MachineClock
from hv.device import UNBOUNDED, Field, FieldDevice
from hv.devices.calendar import Date, date_of, seconds_of
from hv.irq.line import LineDriver
from hv.machines.layout import RTC_HZ

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM = range(6)
WEEKDAY, DAY, MONTH, YEAR, REG_A, REG_B, REG_C, REG_D = range(6, 14)
CENTURY: Final = 0x32
NVRAM_SIZE: Final = 128
DATE_REGISTERS: Final = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)

A_UIP: Final = 1 << 7
A_DIVIDER: Final = 0x70
A_DIVIDER_RUN: Final = 0x20
B_SET: Final = 1 << 7
B_PIE: Final = 1 << 6
B_AIE: Final = 1 << 5
B_UIE: Final = 1 << 4
B_BINARY: Final = 1 << 2
B_24H: Final = 1 << 1
C_IRQF: Final = 1 << 7
C_PF: Final = 1 << 6
C_AF: Final = 1 << 5
C_UF: Final = 1 << 4
D_VALID: Final = 1 << 7
HOUR_PM: Final = 1 << 7
ALARM_ANY: Final = 0xC0  # alarm bytes C0h-FFh match every value
UIP_COUNTS: Final = 8  # 244 us at 32.768 kHz
NMI_MASK: Final = 1 << 7


class Rtc146818(FieldDevice):
    """Starts at `start_s` seconds since 1970-01-01 00:00 (the guest decides about time zones).

    Counts below are periods of the 32.768 kHz crystal since power-on.
    """

    kind = "rtc146818"
    version = 1
    fields = (
        Field("cmos", 8, count=NVRAM_SIZE),
        Field("index", 7),
        Field("nmi_masked", None),
        Field("base_s", UNBOUNDED),
        Field("base_count", UNBOUNDED),
        Field("seen_count", UNBOUNDED),
        Field("weekday_shift", 3, limit=7),
    )

    def __init__(self, clock: MachineClock, irq: LineDriver, start_s: int) -> None:
        self._clock = clock
        self._irq = irq
        self._timer = clock.timer("rtc", self._sync)
        self.cmos = bytearray(NVRAM_SIZE)
        self.base_s = start_s  # the time at `base_count`, which is a second boundary
        self.base_count = self._now()
        self.seen_count = self.base_count  # flags are accounted for up to here
        self.weekday_shift = 0  # what a guest's write to the weekday differs from the calendar
        self.index = 0
        self.nmi_masked = False
        self.cmos[REG_A] = A_DIVIDER_RUN | 6
        self.cmos[REG_B] = B_24H
        self.cmos[REG_D] = D_VALID

    def reset(self) -> None:
        """The RESET pin: interrupts off, flags cleared. Time and CMOS RAM live on the battery."""
        self._sync()
        self.cmos[REG_B] &= ~(B_PIE | B_AIE | B_UIE)
        self.cmos[REG_C] = 0
        self.index = 0
        self.nmi_masked = False
        self._update_irq()

    def restored(self) -> None:
        """IRQ 8 has the level of the interrupt flag."""
        self._irq.restore(bool(self.cmos[REG_C] & C_IRQF))

    # --- The outside view -------------------------------------------------------------------------

    def time(self) -> int:
        """Seconds since 1970-01-01 00:00 in guest time."""
        return self._second(self._now())

    def set_time(self, seconds: int) -> None:
        """Set guest time from outside; a second begins now."""
        self._sync()
        self.base_s, self.base_count = seconds, self._now()
        self.seen_count = self.base_count
        if not self._ticking():
            self._store_date(date_of(seconds))
        self._arm()

    def nvram(self, offset: int) -> int:
        """A byte of CMOS RAM; ValueError outside it."""
        self._check_nvram(offset)
        return self.cmos[offset]

    def set_nvram(self, offset: int, value: int) -> None:
        """Set a byte of CMOS RAM; ValueError for date and control bytes, which it does not hold."""
        self._check_nvram(offset)
        self.cmos[offset] = value & 0xFF

    def _check_nvram(self, offset: int) -> None:
        if not REG_D < offset < NVRAM_SIZE or offset == CENTURY:
            raise ValueError(f"{offset:#x} is not a byte of CMOS RAM")

    # --- Registers ----------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """The selected byte at offset 1; the index (offset 0) is write-only."""
        if offset == 0:
            return 0xFF
        index = self.index
        if index in DATE_REGISTERS:
            if self._ticking():
                self._store_date(date_of(self.time()))
        elif index == REG_A:
            return self.cmos[REG_A] | (A_UIP if self._updating() else 0)
        elif index == REG_C:
            self._sync()
            flags = self.cmos[REG_C]
            self.cmos[REG_C] = 0
            self._update_irq()
            return flags
        return self.cmos[index]

    def write(self, offset: int, size: int, value: int) -> None:
        """Select a byte (offset 0, with the NMI mask in bit 7) or write the selected one."""
        if offset == 0:
            self.index = value & 0x7F
            self.nmi_masked = bool(value & NMI_MASK)
        elif self.index in (REG_C, REG_D):
            return
        elif self.index in (REG_A, REG_B):
            self._write_control(self.index, value)
        elif self.index in DATE_REGISTERS:
            self._write_date(self.index, value)
        else:
            self._sync()
            self.cmos[self.index] = value
            self._arm()

    def _write_control(self, index: int, value: int) -> None:
        self._sync()
        was_ticking = self._ticking()
        if was_ticking:
            self._store_date(date_of(self.time()))
        phase = (self._now() - self.base_count) % RTC_HZ
        if index == REG_A:
            held = self.cmos[REG_A] & A_DIVIDER != A_DIVIDER_RUN
            # Out of divider reset the first update comes half a second later (datasheet, "Divider").
            phase = RTC_HZ // 2 if held and value & A_DIVIDER == A_DIVIDER_RUN else phase
            self.cmos[REG_A] = value & 0x7F
        else:
            if value & B_SET:
                value &= ~B_UIE
            changed_format = (self.cmos[REG_B] ^ value) & (B_BINARY | B_24H)
            self.cmos[REG_B] = value
            if was_ticking and changed_format:
                self._store_date(date_of(self.time()))
        if self._ticking():
            if not was_ticking:
                self.base_s, self.base_count = self._load_date(), self._now() - phase
        elif was_ticking:
            self.base_count = self._now() - phase
        self.seen_count = self._now()
        self._update_irq()

    def _write_date(self, index: int, value: int) -> None:
        ticking = self._ticking()
        if ticking:
            self._sync()
            self._store_date(date_of(self.time()))
        self.cmos[index] = value
        if index == WEEKDAY:
            plain = date_of(self._load_date()).weekday
            self.weekday_shift = (self._decode(value) - 1 - plain) % 7
        if ticking:
            second = self._now() - (self._now() - self.base_count) % RTC_HZ
            self.base_s, self.base_count = self._load_date(), second
            self._arm()

    # --- Time ---------------------------------------------------------------------------------------

    def _now(self) -> int:
        return self._clock.counts(RTC_HZ, self._clock.now)

    def _second(self, count: int) -> int:
        if not self._ticking():
            return self._load_date()
        return self.base_s + (count - self.base_count) // RTC_HZ

    def _ticking(self) -> bool:
        return not self.cmos[REG_B] & B_SET and self.cmos[REG_A] & A_DIVIDER == A_DIVIDER_RUN

    def _updating(self) -> bool:
        return self._ticking() and (self._now() - self.base_count) % RTC_HZ >= RTC_HZ - UIP_COUNTS

    def _decode(self, value: int) -> int:
        if self.cmos[REG_B] & B_BINARY:
            return value
        return (value >> 4) * 10 + (value & 0xF)

    def _encode(self, value: int) -> int:
        if self.cmos[REG_B] & B_BINARY:
            return value
        return value // 10 << 4 | value % 10

    def _decode_hour(self, value: int) -> int:
        if self.cmos[REG_B] & B_24H:
            return self._decode(value)
        return self._decode(value & ~HOUR_PM) % 12 + (12 if value & HOUR_PM else 0)

    def _encode_hour(self, hour: int) -> int:
        if self.cmos[REG_B] & B_24H:
            return self._encode(hour)
        return self._encode((hour + 11) % 12 + 1) | (HOUR_PM if hour >= 12 else 0)

    def _store_date(self, date: Date) -> None:
        weekday = (date.weekday + self.weekday_shift) % 7 + 1
        century, year = divmod(date.year, 100)
        values = (date.second, date.minute, None, weekday, date.day, date.month, year, century)
        for register, value in zip(DATE_REGISTERS, values, strict=True):
            self.cmos[register] = self._encode_hour(date.hour) if value is None else self._encode(value)

    def _load_date(self) -> int:
        """The date registers as seconds, with every field cut to its range."""
        field = {register: self._decode(self.cmos[register]) for register in DATE_REGISTERS}
        return seconds_of(
            field[CENTURY] * 100 + field[YEAR],
            field[MONTH],
            field[DAY],
            self._decode_hour(self.cmos[HOURS]),
            field[MINUTES],
            field[SECONDS],
        )

    # --- Flags and interrupts -----------------------------------------------------------------------

    def _period(self) -> int:
        """Counts between periodic flags; 0 for none (datasheet, "Periodic Interrupt Rate")."""
        rate = self.cmos[REG_A] & 0x0F
        if rate == 0 or self.cmos[REG_A] & A_DIVIDER != A_DIVIDER_RUN:
            return 0
        return 1 << (rate + 6 if rate < 3 else rate - 1)

    def _next_alarm(self, second: int) -> int | None:
        """The first second after `second` at which the alarm bytes match, or None."""
        wanted = [self.cmos[r] for r in (HOURS_ALARM, MINUTES_ALARM, SECONDS_ALARM)]
        hour, minute, sec = (None if value >= ALARM_ANY else self._decode(value) for value in wanted)
        if hour is not None:
            hour = self._decode_hour(wanted[0])
        if (hour or 0) > 23 or (minute or 0) > 59 or (sec or 0) > 59:
            return None
        at = second + 1
        # Each step skips the rest of a field that cannot match: at most 24 + 60 + 60 steps.
        while True:
            if hour is not None and at // 3600 % 24 != hour:
                at += 3600 - at % 3600
            elif minute is not None and at // 60 % 60 != minute:
                at += 60 - at % 60
            elif sec is not None and at % 60 != sec:
                at += 1
            else:
                return at

    def _sync(self) -> None:
        """Set the flags of everything that happened since they were last looked at."""
        now, seen = self._now(), self.seen_count
        self.seen_count = now
        flags = 0
        period = self._period()
        if period and now // period != seen // period:
            flags |= C_PF
        if self._ticking():
            before, after = self._second(seen), self._second(now)
            if after != before:
                flags |= C_UF
                alarm = self._next_alarm(before)
                if alarm is not None and alarm <= after:
                    flags |= C_AF
        self.cmos[REG_C] |= flags
        self._update_irq()

    def _update_irq(self) -> None:
        enabled = self.cmos[REG_B] & (B_PIE | B_AIE | B_UIE)
        pending = bool(self.cmos[REG_C] & enabled)
        self.cmos[REG_C] = self.cmos[REG_C] & ~C_IRQF | (C_IRQF if pending else 0)
        self._irq.set(pending)
        self._arm()

    def _arm(self) -> None:
        """Arm for the next event whose interrupt is enabled and whose flag is not set."""
        missing = self.cmos[REG_B] & ~self.cmos[REG_C]
        seen = self.seen_count
        due: list[int] = []
        period = self._period()
        if missing & B_PIE and period:
            due.append((seen // period + 1) * period)
        if self._ticking():
            second = self._second(seen)
            if missing & B_UIE:
                due.append(self.base_count + (second + 1 - self.base_s) * RTC_HZ)
            if missing & B_AIE:
                alarm = self._next_alarm(second)
                if alarm is not None:
                    due.append(self.base_count + (alarm - self.base_s) * RTC_HZ)
        if due:
            self._timer.arm(self._clock.deadline_for(RTC_HZ, min(due)))
        else:
            self._timer.disarm()
