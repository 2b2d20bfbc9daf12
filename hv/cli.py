"""The command line. Every error is one line on standard error and exit status 4."""

from __future__ import annotations

import datetime
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import click

from hv.debug.stops import STATUS_ERROR
from hv.errors import ConfigError, HvError, one_line
from hv.machines.pc import DEFAULT_IPS
from hv.session import Options, run_session

DEFAULT_MEMORY: Final = "256M"
STATUS_INTERRUPTED: Final = 130
_MAX_NUMBER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Range:
    """A bounded integer option; `base` 0 takes 0x numbers too."""

    low: int
    high: int

    def __call__(self, context: click.Context, option: click.Parameter, text: str | None) -> int | None:
        if text is None:
            return None
        name = option.opts[-1]
        if re.fullmatch(r"[+-]?([0-9][0-9_]{0,30}|0[xX][0-9A-Fa-f]{1,25})", text, re.ASCII) is None:
            raise ConfigError(f"{one_line(repr(text), 40)} is not a number", name)
        try:
            value = int(text, 0 if "x" in text.lower() else 10)
        except ValueError:
            raise ConfigError(f"{one_line(repr(text), 40)} is not a number", name) from None
        if not self.low <= value <= self.high:
            raise ConfigError(f"{value} is not between {self.low} and {self.high}", name)
        return value


def parse_date(text: str | None) -> int | None:
    """Seconds since 1970 of `--rtc`: None without the option; the host's time for "host". `ConfigError`."""
    if text is None:
        return None
    if text == "host":
        return int(time.time())
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{one_line(repr(text), 40)} is not a date like 2026-01-31 or `host`", "--rtc"
        ) from None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    seconds = int(date.timestamp())
    if not 0 <= seconds < 253_402_300_800:
        raise ConfigError("the guest's clock starts between 1970 and 9999", "--rtc")
    return seconds


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hv", prog_name="hv")
def cli() -> None:
    """A hypervisor built around its debug server."""


@cli.command("run")
@click.argument("image", required=False)
@click.option("--initrd", multiple=True, metavar="F", help="Initial RAM disk, or a Multiboot module.")
@click.option("--append", default="", metavar="S", help="The guest's command line.")
@click.option(
    "-m", "memory", default=DEFAULT_MEMORY, metavar="SIZE", show_default=True, help="RAM: 256M, 4G."
)
@click.option(
    "-c", "vcpus", metavar="N", callback=_Range(1, 16), help="vCPUs, 1 to 16. [default: 1; demo: 2]"
)
@click.option(
    "--cpu", default="x86-64-v2", metavar="MODEL", show_default=True, help="x86-64-v1/-v2/-v3 or max."
)
@click.option(
    "--gdb",
    metavar="[HOST:]PORT|unix:PATH|stdio",
    help="Serve a debugger; stop before the first instruction.",
)
@click.option(
    "--gdb-allow",
    multiple=True,
    metavar="CLASS",
    help="What the debugger's `monitor` commands may touch beyond the guest: host-read, host-write.",
)
@click.option(
    "--gdb-tdesc",
    type=click.Choice(["x86-64", "linux", "i386", "i8086", "auto"]),
    default="x86-64",
    show_default=True,
    help="Registers that debuggers see: i8086 for 16-bit code; auto follows it; linux is for `info proc`.",
)
@click.option("--no-wait", is_flag=True, help="With --gdb: run at once.")
@click.option(
    "--serial", metavar="stdio|null|file:F|unix:F", help="COM1. [default: stdio; with --gdb stdio: null]"
)
@click.option(
    "--symbols", metavar="ELF", help="The program with symbols, for the gdb command shown at start."
)
@click.option(
    "--clock",
    type=click.Choice(["virtual", "host"]),
    help="An idle guest's time jumps, or waits for the host's.",
)
@click.option(
    "--ips",
    metavar="N",
    callback=_Range(1, _MAX_NUMBER),
    help=f"Ticks per guest second. [default: {DEFAULT_IPS}]",
)
@click.option("--rtc", metavar="DATE|host", help="The guest's date at power-on. [default: 2026-01-01]")
@click.option(
    "--seed", metavar="N", default="0", callback=_Range(0, 2**64 - 1), help="Of the CPU's random numbers."
)
@click.option(
    "--break",
    "breaks",
    multiple=True,
    metavar="WHERE",
    help="With --gdb: a breakpoint, as of `monitor break`. May be repeated.",
)
@click.option("--record", metavar="F", help="Record every input to a file.")
@click.option("--replay", metavar="F", help="Run with the inputs of a recorded file and no others.")
@click.option("--no-reboot", is_flag=True, help="A reset ends the program.")
@click.option(
    "--max-ticks",
    metavar="N",
    callback=_Range(1, _MAX_NUMBER),
    help="End at this machine tick, with status 4.",
)
@click.option("--stats", is_flag=True, help="Print instructions, seconds, MIPS and exits by kind at the end.")
def run_command(rtc: str | None, **arguments: Any) -> int:
    """Boot IMAGE (Linux bzImage, PVH or Multiboot ELF, boot sector) or, without one, the demo guest.

    Exit status: 0 power-off or reset, 2 halted for ever, 3 triple fault, 4 error; a guest that writes v
    to port 0xf4 ends with (v << 1) | 1.
    """
    return run_session(Options(rtc_s=parse_date(rtc), **arguments))


def run(arguments: Sequence[str], complain: Callable[[str], None]) -> int:
    """The exit status of the command line `arguments`; `complain` gets the one line of an error."""
    try:
        result = cli.main(args=list(arguments), prog_name="hv", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return STATUS_INTERRUPTED
    except click.ClickException as error:
        complain(one_line(error.format_message()))
        return STATUS_ERROR
    except HvError as error:
        complain(str(error))
        return STATUS_ERROR
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    """The console script."""
    try:
        status = run(sys.argv[1:], lambda line: print(f"hv: {line}", file=sys.stderr))
    except KeyboardInterrupt:  # before the guest runs; afterwards it is a request like any other
        status = STATUS_INTERRUPTED
    sys.exit(status)
