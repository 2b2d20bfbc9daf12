"""The table that people read, and comparing with an earlier JSON file."""

from collections.abc import Iterator, Sequence
from typing import Final

from scripts.benchlib.suite import Row

REGRESSION: Final = 0.05
"""Slower by more than this, relative to the same run's TCG (or native, or alone), is a regression."""

_HEADINGS: Final = ("case", "", "hv", "tcg", "native", "unit", "x tcg", "x native", "target", "")
_LEFT: Final = (0, 1, 5, 8, 9)
_MAX_WHAT: Final = 42


def table(rows: Sequence[Row]) -> Iterator[str]:
    """One line per row, then what failed and the statistics. `x tcg` is speed: 2 is twice as fast."""
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    for line in cells:
        fields = (
            text.ljust(width) if column in _LEFT else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(fields).rstrip()
    yield from _failures(rows)
    yield from _statistics(rows)


def failures(rows: Sequence[Row]) -> bool:
    """Whether any case failed on our side, or computed something else than the others."""
    return any("error" in row or "error" in row.get("hv", {}) for row in rows)


def compare(old: Sequence[Row], new: Sequence[Row]) -> Iterator[str]:
    """One line per case that became slower than in `old` by more than `REGRESSION`.

    Speeds relative to TCG are compared where both have them: another machine or load moves both sides.
    """
    before = {(row["case"], row["what"]): row for row in old}
    for row in new:
        known = before.get((row["case"], row["what"]))
        if known is None:
            continue
        for key in ("speed_vs_tcg", "speed_vs_native"):
            if key in known and key in row:
                if row[key] < known[key] * (1 - REGRESSION):
                    yield f"{row['case']} {row['what']}: {key} {known[key]:g} -> {row[key]:g}"
                break


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "met", False: "MISSED", None: ""}[row.get("met")]
    return (
        row["case"],
        row["what"][:_MAX_WHAT],
        *(_figure(row, side) for side in ("hv", "tcg", "native")),
        row["unit"],
        _number(row.get("speed_vs_tcg")),
        _number(row.get("speed_vs_native")),
        row.get("target", ""),
        met,
    )


def _figure(row: Row, side: str) -> str:
    values = row.get(side)
    if values is None:
        return ""
    return "failed" if "error" in values else _number(values["figure"])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _failures(rows: Sequence[Row]) -> Iterator[str]:
    said: set[str] = set()
    for row in rows:
        for place, holder in (
            ("", row),
            *((f" {side}", row.get(side, {})) for side in ("hv", "tcg", "native")),
        ):
            if "error" in holder:
                line = f"{row['case']}{place}: {holder['error']}"
                if line not in said:
                    said.add(line)
                    yield line


def _statistics(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        found = row.get("statistics")
        if found is None:
            continue
        yield ""
        yield f"{row['case']}: {found['instructions']:,} instructions, {found['mips']:g} MIPS; exits:"
        for kind, values in found["exits"].items():
            share = f"{values['share']:>7.1%}" if "share" in values else ""
            yield f"  {kind:<14}{values['count']:>12,}{share}"
