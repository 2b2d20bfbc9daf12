"""A stop request works within 50 ms of the CPU's own time, whatever the guest does."""

import threading
import time
from collections.abc import Callable

import pytest

from accel import lib
from tests.helpers.accel_machine import CODE, DATA, STACK, Machine

LIMIT_S = 0.050
FOR_EVER = 1 << 62
KICK = 1


def looped(body: str, times: int = 16) -> bytes:
    """The instructions again and again."""
    code = bytes.fromhex(body) * times
    return code + b"\xe9" + (-(len(code) + 5)).to_bytes(4, "little", signed=True)


def crossing_xsave() -> Machine:
    """XSAVE of all state over a page edge."""
    m = Machine(code=looped("480fae23"))
    m["rbx"], m["rax"], m["rdx"] = DATA + 0xE40, 7, 0
    return m


def new_code_at_every_jump() -> Machine:
    """Each pass stores into its own code, which is decoded anew."""
    body = b"\x90" * 200 + bytes.fromhex("c6 05 f0ffffff 90")  # nops; mov byte [rip-16], 90h
    return Machine(code=body + b"\xe9" + (-(len(body) + 5)).to_bytes(4, "little", signed=True))


def page_full_of_blocks() -> Machine:
    """A jump to every byte of a page makes thousands of overlapping blocks; a store then meets them all."""
    # inc rbx; and ebx, 0FFFh; mov byte [rdi], 90h; lea rax, [rsi+rbx]; call rax; jmp. The page: NOPs, RET
    code = bytes.fromhex("48ffc3 81e3ff0f0000 c60790 488d041e ffd0 ebec")
    m = Machine(code=code)
    m.write(DATA, b"\x90" * 0xFFF + b"\xc3")
    m["rsi"], m["rdi"], m["rbx"] = DATA, DATA + 0xFF0, 0
    return m


def faults_without_end() -> Machine:
    """An exception whose handler is the faulting instruction; in real mode the stack wraps."""
    m = Machine(16, code=bytes.fromhex("0f0b"))  # ud2
    m.write(6 * 4, (CODE >> 4 << 16).to_bytes(4, "little"))
    m["ss"] = STACK >> 4
    return m


def repeated_copy() -> Machine:
    """REP MOVSB of 512 KiB, again and again."""
    return Machine(code=bytes.fromhex("b900000800 be00000800 bf00001000 f3a4 ebed"))


GUESTS = (crossing_xsave, new_code_at_every_jump, page_full_of_blocks, faults_without_end, repeated_copy)


@pytest.mark.parametrize("make", GUESTS, ids=lambda make: make.__name__)
def test_a_stop_request_works_at_once(make: Callable[[], Machine]) -> None:
    machine = make()
    machine.run(200_000)
    asked_at = 0.0
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def stop() -> None:
        nonlocal asked_at
        asked_at = time.clock_gettime(clock)
        lib.accel_stop(machine.cpu)

    for delay_s in (0.01, 0.03, 0.05, 0.07):
        timer = threading.Timer(delay_s, stop)
        timer.start()
        done = machine.run(FOR_EVER)
        took = time.clock_gettime(clock) - asked_at
        timer.join()
        assert done.kind == KICK
        assert took < LIMIT_S
