"""Calendar arithmetic, with the standard library as judge."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hv.devices.calendar import date_of, seconds_of

YEARS = (0, 1900, 2000, 2023, 2024)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))
def test_dates_agree_with_the_standard_library(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    seconds = (moment - EPOCH) // timedelta(seconds=1)
    fields = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    assert seconds_of(*fields) == seconds
    date = date_of(seconds)
    assert (date.year, date.month, date.day, date.hour, date.minute, date.second) == fields
    assert date.weekday == moment.isoweekday() % 7


def test_fields_out_of_range_are_cut() -> None:
    assert seconds_of(2026, 13, 40, 99, 99, 99) == seconds_of(2026, 12, 31, 23, 59, 59)
    assert seconds_of(2023, 2, 31, 0, 0, 0) == seconds_of(2023, 2, 28, 0, 0, 0)
    assert seconds_of(2026, 0, 0, 0, 0, 0) == seconds_of(2026, 1, 1, 0, 0, 0)


def test_leap_years() -> None:
    lengths = [(seconds_of(y + 1, 1, 1, 0, 0, 0) - seconds_of(y, 1, 1, 0, 0, 0)) // 86_400 for y in YEARS]
    assert lengths == [366, 365, 366, 365, 366]


def test_the_years_that_the_standard_library_lacks() -> None:
    assert seconds_of(1, 1, 1, 0, 0, 0) - seconds_of(0, 1, 1, 0, 0, 0) == 366 * 86_400
    date = date_of(seconds_of(9999, 12, 31, 23, 59, 59) + 1)
    assert (date.year, date.month, date.day, date.weekday) == (0, 1, 1, 6)
    assert date_of(seconds_of(0, 2, 29, 0, 0, 0)).day == 29
