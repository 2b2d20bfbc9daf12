"""A symbol, by itself: what all who find, write or look up symbols share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Symbol:
    """One symbol: its address, its kind as `nm` prints it, its name."""

    address: int
    kind: str
    name: str
