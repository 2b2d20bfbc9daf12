"""What x86's exceptions are to a debugger (Intel SDM volume 3A, 6.3.1)."""

from __future__ import annotations

from gdbstub.signals import Signal

VECTOR_SIGNALS: dict[int, Signal] = {
    0: Signal.SIGFPE,  # divide error
    1: Signal.SIGTRAP,  # debug
    2: Signal.SIGTRAP,  # NMI
    3: Signal.SIGTRAP,  # breakpoint
    4: Signal.SIGSEGV,  # overflow
    5: Signal.SIGSEGV,  # BOUND range exceeded
    6: Signal.SIGILL,  # invalid opcode
    7: Signal.SIGFPE,  # device not available
    8: Signal.SIGBUS,  # double fault
    10: Signal.SIGSEGV,  # invalid TSS
    11: Signal.SIGBUS,  # segment not present
    12: Signal.SIGBUS,  # stack-segment fault
    13: Signal.SIGSEGV,  # general protection
    14: Signal.SIGSEGV,  # page fault
    16: Signal.SIGFPE,  # x87 error
    17: Signal.SIGBUS,  # alignment check
    18: Signal.SIGBUS,  # machine check
    19: Signal.SIGFPE,  # SIMD error
}
"""Exception vector to the signal of a stop that catches it; SIGTRAP for any other."""
