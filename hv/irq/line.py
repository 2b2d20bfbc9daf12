"""Interrupt lines: a level made of several drivers, passed to several inputs.

A line is asserted while at least one driver asserts it (active-high OR; the electrical polarity is
not modelled). Its sinks are told each change of the resulting level, so a rising call is a rising
edge. `restore` sets a driver's level after a saved state was loaded without telling the sinks: they
restore the levels they have seen from their own saved state.
"""

from collections.abc import Callable


class Line:
    """One wire. Connect sinks and make drivers while the board is being wired, not later."""

    __slots__ = ("_asserted", "_sinks", "name")

    def __init__(self, name: str, *sinks: Callable[[bool], None]) -> None:
        self.name = name
        self._sinks = list(sinks)
        self._asserted = 0

    @property
    def level(self) -> bool:
        """Whether any driver asserts the line."""
        return self._asserted > 0

    def connect(self, sink: Callable[[bool], None]) -> None:
        """Tell `sink` every change of level from now on; the line must be low at that time."""
        self._sinks.append(sink)

    def driver(self) -> "LineDriver":
        """A new output wired to this line, low at first."""
        return LineDriver(self)

    def driven(self, level: bool) -> None:
        """For `LineDriver`: one driver changed to `level`."""
        if level:
            self._asserted += 1
            if self._asserted == 1:
                for sink in self._sinks:
                    sink(True)
        else:
            self._asserted -= 1
            if self._asserted == 0:
                for sink in self._sinks:
                    sink(False)

    def restored(self, level: bool) -> None:
        """For `LineDriver`: as `driven`, but nobody is told."""
        self._asserted += 1 if level else -1


class LineDriver:
    """A device's output to one line."""

    __slots__ = ("_line", "level")

    def __init__(self, line: Line) -> None:
        self._line = line
        self.level = False

    def set(self, level: bool) -> None:
        """Drive the output; setting the level it has already does nothing."""
        if level != self.level:
            self.level = level
            self._line.driven(level)

    def pulse(self) -> None:
        """One rising edge, whatever the level is now; the output ends low."""
        self.set(False)
        self.set(True)
        self.set(False)

    def restore(self, level: bool) -> None:
        """Take over a saved level without an edge."""
        if level != self.level:
            self.level = level
            self._line.restored(level)
