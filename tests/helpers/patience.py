"""How long a test waits for what must come."""

from __future__ import annotations

from typing import Final

HANG_S: Final = 300.0
"""Seconds. Nothing that works takes so long, on a slow and busy machine either: it is a hang."""
