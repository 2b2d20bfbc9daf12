"""What Python code does to the host, as an audit hook sees it: files, processes, sockets, imports."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

WATCHED: Final = (
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "import",
    "exec",
    "pty.",
    "tempfile.",
)
_watchers: list[list[str]] = []
_installed = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watchers and event.startswith(WATCHED):
        for seen in _watchers:
            seen.append(f"{event} {arguments!r}"[:200])


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """A list of what the code inside does to the host, in whatever thread."""
    global _installed
    if not _installed:
        # A hook stays for the life of the process; it notes nothing unless it is asked to.
        sys.addaudithook(_hook)
        _installed = True
    seen: list[str] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)
