"""What a `monitor` command is: a row with its words, what it may touch, and what it does."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from hv.debug.run_control import RunControl
from hv.errors import HvError
from hv.vcpu import Vcpu

_TERM: Final = re.compile(
    r"\s*([+-]?)\s*(0[xX][0-9A-Fa-f]{1,16}|[0-9]{1,20}|\$[a-z][a-z0-9_]{0,15})\s*", re.ASCII
)
_ADDRESSES: Final = 1 << 64


class CommandError(HvError):
    """What the user typed makes no sense; the text says why."""


class Touch(enum.Enum):
    """What a command may touch. A client on the wire has `GUEST` only, unless its user allows more."""

    GUEST = "guest"
    HOST_READ = "host-read"
    HOST_WRITE = "host-write"
    HOST_EXEC = "host-exec"


GUEST_ONLY: Final = frozenset({Touch.GUEST})


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Whom a command works on: the machine, the current vCPU, and where its text goes."""

    control: RunControl
    vcpu: int
    write: Callable[[str], None]
    allowed: frozenset[Touch] = GUEST_ONLY
    choose: Callable[[int | None], None] = lambda vcpu: None
    """Makes a vCPU the current one of all further commands; None: the client's own choice again."""

    @property
    def current(self) -> Vcpu:
        """The current vCPU."""
        return self.control.vm.vcpus[self.vcpu]

    def number(self, text: str) -> int:
        """A number of 64 bits: terms like 12, 0x1f and $rsp with + and - between. Raises CommandError."""
        value, at = 0, 0
        while at < len(text):
            term = _TERM.match(text, at)
            if term is None or (at and not term[1]):
                raise CommandError(f"{text[:60]!r} is not a number; 12, 0x1f, $rsp and sums of them are")
            value += -self._term(term[2]) if term[1] == "-" else self._term(term[2])
            at = term.end()
        if not text.strip():
            raise CommandError("a number is missing")
        return value % _ADDRESSES

    def _term(self, text: str) -> int:
        if not text.startswith("$"):
            return int(text, 0 if "x" in text.lower() else 10)
        try:
            return self.current.get("linear_pc" if text in ("$pc", "$eip") else text[1:])
        except KeyError:
            raise CommandError(f"no register is called {text}") from None

    def numbers(self, words: Sequence[str], least: int, most: int | None = None) -> list[int]:
        """`least` to `most` numbers, one a word. Raises CommandError."""
        most = least if most is None else most
        if not least <= len(words) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise CommandError(f"{wanted} number{'s' if most > 1 else ''} expected, not {len(words)} words")
        return [self.number(word) for word in words]


Run: TypeAlias = Callable[[CommandContext, Sequence[str]], Iterator[None] | None]
"""What a command does with the words after its own. One that may take long does a few milliseconds' work
before each item that it gives."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, what it says in `help`, and what it does.

    One that `only_reads` leaves the machine and its debugging as they are: also one who does not control the
    machine may give it.
    """

    name: str
    arguments: str
    summary: str
    run: Run
    touch: Touch = Touch.GUEST
    only_reads: bool = False


def reading(name: str, arguments: str, summary: str, run: Run) -> Command:
    """A command that only reads the machine."""
    return Command(name, arguments, summary, run, only_reads=True)
