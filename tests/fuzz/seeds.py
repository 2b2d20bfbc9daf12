"""First inputs of the fuzzers: instructions of every opcode map in every mode, and calls in a sensible order.

They only save the fuzzers the time to find these out; the layouts are those of the inputs in `fuzz_*.c`.
"""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Iterator
from typing import Final

MODES: Final = 12
"""Of `enum board_mode`."""

PROGRAM_HEADER: Final = 46
"""Bytes of a plan without happenings."""

PREFIXES: Final = (b"", b"", b"", b"\x66", b"\xf3", b"\xf2", b"\x67", b"\xf0", b"\x2e", b"\x64")
MAPS: Final = (b"", b"", b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
SYSTEM: Final = tuple(
    bytes.fromhex(code)
    for code in (
        *(
            "cd20",
            "cd21",
            "cc",
            "cd80",
            "f1",
            "cf",
            "48cf",
            "9c9d",
            "fbf4",
            "fafb",
            "f4",
            "0f0b",
            "0f05",
            "0f34",
        ),
        *(
            "0f22c0",
            "0f22d8",
            "0f22e0",
            "0f20c0",
            "0f23f8",
            "0f30",
            "0f32",
            "0f01d1",
            "0f013f",
            "0f0017",
            "0f001f",
        ),
        *(
            "9a000e000070006800",
            "ea00e8000008",
            "ff1d00000000",
            "cb",
            "48cb",
            "ca0800",
            "0f01f8",
            "0f01c8",
            "0fa2",
        ),
        *(
            "e460",
            "e664",
            "ec",
            "ee",
            "6c",
            "6e",
            "f36c",
            "f36e",
            "f3a4",
            "f3a5",
            "f3ab",
            "f2ae",
            "f3a6",
            "a4",
            "ab",
        ),
        *(
            "8ed8",
            "8ed0",
            "8ee0",
            "0fb200",
            "c500",
            "0fa10fa9",
            "1e07",
            "c8080003",
            "c9",
            "60",
            "61",
            "0fc708",
        ),
        *("c605ffefffff90", "880500000000", "aa", "ebfe", "e2fe", "ff26", "c3", "c20400", "e8000000005b"),
    )
)


def instruction(rng: random.Random) -> bytes:
    """Bytes that are probably an instruction."""
    if rng.random() < 0.3:
        return rng.choice(SYSTEM)
    operands = bytes([rng.choice((0x00, 0x05, 0x06, 0x40, 0x80, 0xC0)) + rng.randrange(0x40) & 0xFF])
    operands += rng.choice((b"", b"\x00", rng.randbytes(1), rng.randbytes(4)))
    if rng.random() < 0.25:
        vex = rng.choice(
            (b"\xc5" + rng.randbytes(1), b"\xc4" + bytes([0xE0 | rng.randrange(1, 4)]) + rng.randbytes(1))
        )
        return vex + rng.randbytes(1) + operands
    rex = bytes([0x40 | rng.randrange(16)]) if rng.random() < 0.3 else b""
    return rng.choice(PREFIXES) + rex + rng.choice(MAPS) + rng.randbytes(1) + operands


# Virtual-8086 code and its handlers on one page: a fetch that faults drops the translation of the next.
FAULTING_FETCHES: Final = """
CxEAJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJSUlJQAAAPj6RnJlAABeAQAAAAAAAAAAAAAAAJ+fn5+fn5+fn5+fn5+fn5+f
n5+fn5+fn5+fn5+fn5+fn5+fn5+fn58Xn58AegAAAPDW14d4VkuZAAA8yCz/mGFhwQ84kzMAxOJqcBdkDxLBAAAAAAAAAHog
AADw1teHeFZLmQAAPMgs/5hhYcEPOJMzAMTianAXZA8SwerE4slutM1ZhjUA6gDoAAAIiAUAAAUA8g86PX3F73BDZw+nJz3z
BnUszSDzSQ86xlyfQ2cPpyclJSUAAAD4+kZyZQA98wZ1LM0g80kPOsZcn2QPCjLeD6EP6Q==
"""


def program_seeds() -> Iterator[bytes]:
    """Programs of a dozen instructions for every mode, and what was once found."""
    yield base64.b64decode(FAULTING_FETCHES)
    rng = random.Random(1)
    for number in range(MODES * 20):
        setup = bytes([number % MODES, rng.choice((0x01, 0x11, 0xE1, 0x00, 0x08))]) + bytes(4)
        setup += (
            rng.randbytes(2) + rng.randbytes(4) + struct.pack("<I", rng.choice((0x200, 0x3202, 0, 0x100)))
        )
        plan = (
            setup + rng.randbytes(2) + bytes(9) + bytes([rng.choice((0, 0, 0, 3))]) + rng.randbytes(8)
        ).ljust(36)
        plan += bytes([0, 0, 60, 200]) + rng.randbytes(6)
        yield plan[:PROGRAM_HEADER] + b"".join(instruction(rng) for _ in range(12))


def decode_seeds() -> Iterator[bytes]:
    """Single instructions for every width and model."""
    rng = random.Random(2)
    for number in range(400):
        key = number % 3 | 0x10 | 0x40 | 0x200 | 0x400 | 0x20000
        yield struct.pack("<IB", key, rng.randrange(4)) + instruction(rng).ljust(15, b"\0")[:15]


def _call(name: str, *arguments: int) -> bytes:
    names = (
        *(
            "add_slot",
            "remove_slot",
            "access",
            "code",
            "epochs",
            "add_cpu",
            "a20",
            "points",
            "names",
            "conditions",
            "turns",
            "free",
        ),
        *("registers", "msrs", "control", "run", "run_again", "states", "look", "reset", "answer"),
        *("branches", "several", "linear"),
    )
    return bytes([names.index(name), *arguments])


def api_seeds() -> Iterator[bytes]:
    """A machine with RAM below 1 MiB and at the reset vector, a CPU, and every other call behind them."""
    rng = random.Random(3)
    ram = _call("add_slot", 0, 4, 0)
    top = _call("add_slot", 0xC0, *struct.pack("<Q", 0xFFFFF000), 1, 0)
    cpu = _call("add_cpu", 0x08, 0x04)
    for _ in range(100):
        code = b"".join(instruction(rng) for _ in range(6))[:60]
        load = _call("code", 0, 1, 0x10, len(code)) + code
        rest = [
            _call("run", 1, 0x40, 0x00),
            _call("states", 0x3B, *rng.randbytes(9)),
            _call("points", rng.randrange(256), 1, 0, *rng.randbytes(4)),
            _call("registers", rng.randrange(120), 0, 0, *rng.randbytes(8)),
            _call("control", rng.randrange(256), *rng.randbytes(4)),
            _call("access", 0, 4, 0, 0x41, 8, rng.randrange(16)),
            _call("epochs", 1, 0, 9),
            _call("msrs", rng.randrange(16), 0xC0, *rng.randbytes(8)),
            _call("look", 0x41, 8),
            _call("conditions", rng.randrange(256), 4, 1, 3, 2, 8, 0, 1, 16, 0, 32, 0, *rng.randbytes(4)),
            _call("branches", 5),
            _call("several", 3, 0, 20, 60, 0),
            _call("linear", 1, 8, 0x40, 0),
            _call("answer", *rng.randbytes(8)),
            _call("turns", 0x70 | rng.randrange(4), *rng.randbytes(11)),
            _call("run", 9, 0x10, 0x00, *rng.randbytes(8)),
        ]
        rng.shuffle(rest)
        yield ram + top + cpu + load + b"".join(rest) + _call("run", 1, 0xFF, 0)


SEEDS: Final = {"decode": decode_seeds, "program": program_seeds, "api": api_seeds}
