"""Seconds since 1970 to a calendar date and back, in the proleptic Gregorian calendar, UTC.

Years 0 to 9999, as a real-time clock's two year bytes can say. The day count is Howard Hinnant's
`days_from_civil` ("chrono-Compatible Low-Level Date Algorithms"): years begin in March, so that the leap
day is the last one.
"""

from dataclasses import dataclass
from typing import Final

DAY_S: Final = 86_400
_DAYS_BEFORE_1970: Final = 719_468  # from 0000-03-01
_ERA_DAYS: Final = 146_097  # 400 years
_MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


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


def days_in_month(year: int, month: int) -> int:
    """28 to 31."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else _MONTH_DAYS[month - 1]


def date_of(seconds: int) -> Date:
    """The date at `seconds` since 1970-01-01 00:00; the year is taken modulo 10000."""
    days, rest = divmod(seconds, DAY_S)
    era, day_of_era = divmod(days + _DAYS_BEFORE_1970, _ERA_DAYS)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return Date(
        year=(year_of_era + 400 * era + (month <= 2)) % 10_000,
        month=month,
        day=day_of_year - (153 * shifted + 2) // 5 + 1,
        hour=rest // 3600,
        minute=rest // 60 % 60,
        second=rest % 60,
        weekday=(days + 4) % 7,
    )


def seconds_of(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Seconds since 1970-01-01 00:00 of a date; each field is first cut to its valid range."""
    year = min(max(year, 0), 9999)
    month = min(max(month, 1), 12)
    day = min(max(day, 1), days_in_month(year, month))
    shifted_year = year - (month <= 2)
    era, year_of_era = divmod(shifted_year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    days = era * _ERA_DAYS + day_of_era - _DAYS_BEFORE_1970
    return days * DAY_S + min(hour, 23) * 3600 + min(minute, 59) * 60 + min(second, 59)
