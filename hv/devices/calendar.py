"""Seconds since 1970 to a calendar date and back, in the proleptic Gregorian calendar, UTC.

Years 0 to 9999, as a real-time clock's two year bytes can say. The standard library's `date` does the
work within one 400-year cycle, after which the calendar repeats, weekdays included; so its own limits on
years never show.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from typing import Final

DAY_S: Final = 86_400
CYCLE_YEARS: Final = 400
CYCLE_DAYS: Final = 146_097
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Date:
    """A moment; `month` and `day` count from 1, `weekday` from 0 = Sunday."""

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    weekday: int


def date_of(seconds: int) -> Date:
    """The date at `seconds` since 1970-01-01 00:00; the year is taken modulo 10000."""
    days, rest = divmod(seconds, DAY_S)
    cycle, day_of_cycle = divmod(days + _EPOCH - 1, CYCLE_DAYS)
    day = date.fromordinal(day_of_cycle + 1)
    return Date(
        year=(day.year + cycle * CYCLE_YEARS) % 10_000,
        month=day.month,
        day=day.day,
        hour=rest // 3600,
        minute=rest // 60 % 60,
        second=rest % 60,
        weekday=day.isoweekday() % 7,
    )


def seconds_of(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Seconds since 1970-01-01 00:00 of a date; each field is first cut to its valid range."""
    cycle, year_of_cycle = divmod(min(max(year, 0), 9999) - 1, CYCLE_YEARS)
    month = min(max(month, 1), 12)
    day = min(max(day, 1), monthrange(year_of_cycle + 1, month)[1])
    days = date(year_of_cycle + 1, month, day).toordinal() + cycle * CYCLE_DAYS - _EPOCH
    return days * DAY_S + min(hour, 23) * 3600 + min(minute, 59) * 60 + min(second, 59)
