"""The exception tree of `hv`: one class per decision a caller makes.

Every message is one line, because the command line prints it as it is (`hv: <message>`) and ends
with exit status 4. The facts are attributes; nobody parses the text.
"""

from typing import Final

_MAX_LINE: Final = 300


def one_line(text: object, limit: int = _MAX_LINE) -> str:
    """`text` as one printable line of at most `limit` characters; anything else is escaped."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return line if len(line) <= limit else line[: limit - 3] + "..."


class HvError(Exception):
    """Base of all errors that `hv` raises for bad input or an impossible request."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return one_line(self.what)


class ConfigError(HvError):
    """The machine or the command asked for cannot be built: `what`, and the `option` to change."""

    def __init__(self, what: str, option: str | None = None) -> None:
        super().__init__(what)
        self.option = option

    def __str__(self) -> str:
        return one_line(f"{self.option}: {self.what}" if self.option else self.what)


class ImageError(HvError):
    """A guest image (`path`) that cannot be started: `what` is wrong with it and the user's way out."""

    def __init__(self, path: object, what: str, advice: str | None = None) -> None:
        super().__init__(what)
        self.path = str(path)
        self.advice = advice

    def __str__(self) -> str:
        # Each part has its own bound, so that a long path never pushes the reason off the line.
        text = f"{one_line(self.path, 120)}: {one_line(self.what)}"
        return f"{text} ({one_line(self.advice)})" if self.advice else text


class SnapshotError(HvError):
    """A saved state that cannot be loaded; `kind` and `version` are those found in it, if any."""

    def __init__(self, what: str, kind: str | None = None, version: int | None = None) -> None:
        super().__init__(what)
        self.kind = kind
        self.version = version

    def __str__(self) -> str:
        return one_line(f"{self.kind}: {self.what}" if self.kind else self.what)


class ReplayError(HvError):
    """A recorded input log that does not fit the run; `tick` is the machine tick of the entry."""

    def __init__(self, what: str, tick: int | None = None) -> None:
        super().__init__(what)
        self.tick = tick

    def __str__(self) -> str:
        return one_line(f"{self.what} at tick {self.tick}" if self.tick is not None else self.what)


class EngineError(HvError):
    """The execution core refused a call or broke its contract: a defect of ours, never the guest's."""
