"""How long a test waits for what must come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

HANG_S: Final = 300.0
"""Seconds. Nothing that works takes so long, on a slow and busy machine either: it is a hang."""


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until `condition` holds."""
    with trio.fail_after(HANG_S):
        while not condition():
            await trio.lowlevel.checkpoint()
