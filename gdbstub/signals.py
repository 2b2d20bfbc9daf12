"""The protocol's own signal numbers.

They are fixed by the protocol and differ from every host's (SIGBUS is 10 here). Source: *Debugging
with GDB*, appendix "Remote Protocol", section "Stop Reply Packets", which refers to the list in
`include/gdb/signals.def`.
"""

from __future__ import annotations

import enum


class Signal(enum.IntEnum):
    """A signal as it appears in ``S``, ``T``, ``X``, ``C`` and ``vCont`` packets."""

    NONE = 0
    SIGHUP = 1
    SIGINT = 2
    SIGQUIT = 3
    SIGILL = 4
    SIGTRAP = 5
    SIGABRT = 6
    SIGEMT = 7
    SIGFPE = 8
    SIGKILL = 9
    SIGBUS = 10
    SIGSEGV = 11
    SIGSYS = 12
    SIGPIPE = 13
    SIGALRM = 14
    SIGTERM = 15
