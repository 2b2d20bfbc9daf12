"""One `hv run`: builds the machine, joins it with its console and the debug server, and waits for its end."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio
from elftools.common.exceptions import ELFError

from hv.console import Console, NullConsole, opened
from hv.debug.address import ServerAddress, parse_server, uses_stdio
from hv.debug.expression import ExpressionError
from hv.debug.point_words import add_breakpoint
from hv.debug.run_control import RunControl
from hv.debug.stops import STATUS_ERROR, Ending
from hv.debug.symbols import KERNEL_SCRIPT, MAX_PROGRAM, Program
from hv.debug.target_base import result_of
from hv.debug.target_settings import LONG_LAYOUTS, MODES_SCRIPT, Layout, TargetSettings, parse_allowed
from hv.engines.soft import SoftEngine
from hv.errors import ConfigError, HvError, one_line
from hv.guests import GuestBuildError, demo_path
from hv.inputlog import Recorder, Replay
from hv.loaders.image import BootImage
from hv.loaders.load import load_image
from hv.machines.pc import DEFAULT_IPS, PcConfig, build_pc, log_header
from hv.memory import parse_size
from hv.stats import report
from hv.vm import Vm

if TYPE_CHECKING:
    from hv.debug.server import DebugServer

_SIGNAL_STATUS: Final = 128  # the shell's convention for a program ended by a signal
_GOODBYE_S: Final = 2.0  # how long a debugger may take to receive the last packet
_RETRY_S: Final = 0.02  # until a full serial port is tried again
_DEFAULT_DATE_S: Final = 1_767_225_600  # 2026-01-01


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; None is "not given". Sizes and addresses are still text."""

    image: str | None
    initrd: tuple[str, ...]
    append: str
    memory: str
    vcpus: int | None
    cpu: str
    gdb: str | None
    gdb_allow: tuple[str, ...]
    gdb_tdesc: str
    no_wait: bool
    serial: str | None
    symbols: str | None
    clock: str | None
    ips: int | None
    rtc_s: int | None
    seed: int
    record: str | None
    replay: str | None
    no_reboot: bool
    max_ticks: int | None
    stats: bool
    breaks: tuple[str, ...]


def _say(text: str) -> None:
    sys.stderr.write(f"hv: {text}\n")  # one call, one line: whoever reads it never sees half of it
    sys.stderr.flush()


def run_session(options: Options) -> int:
    """Run one guest from power-on to its end and return the exit status. `HvError` when it cannot start."""
    started = time.monotonic()
    address = None if options.gdb is None else parse_server(options.gdb)
    serial = options.serial or ("null" if uses_stdio(address) else "stdio")
    if serial == "stdio" and uses_stdio(address):
        raise ConfigError("the debug server uses standard input and output already", "--serial stdio")
    allowed = parse_allowed(options.gdb_allow)
    needy = (
        ("--no-wait", options.no_wait),
        ("--break", bool(options.breaks)),
        ("--gdb-allow", bool(options.gdb_allow)),
        ("--gdb-tdesc", options.gdb_tdesc != Layout.X86_64.value),
    )
    for option, given in needy:
        if given and address is None:
            raise ConfigError("it needs --gdb", option)
    if options.record and options.replay:
        raise ConfigError("a replay cannot be recorded", "--record")
    program = None if options.symbols is None else _read_symbols(options.symbols)
    replay = Replay.read(options.replay) if options.replay else None
    config = _config(options, replay)
    image = _load(options, config)
    terminal = serial == "stdio" and sys.stdin.isatty()
    host_clock = options.clock == "host" or (options.clock is None and terminal)
    engine = SoftEngine(timed=options.stats)
    with contextlib.closing(engine), opened(serial) as console:
        recorder = Recorder(options.record, log_header(config, image)) if options.record else None
        vm = build_pc(
            config,
            image,
            engine,
            console=console.write,
            host_clock=host_clock,
            recorder=recorder,
            replay=replay,
        )
        settings = TargetSettings(image.load_bias, allowed, Layout(options.gdb_tdesc))
        final = _run(_Plan(options, vm, console, image, address, settings, program or image.elf))
        vm.door.close()
        console.close()
        _say_ending(final)
        if options.stats:
            for line in report(vm, time.monotonic() - started, engine.exit_seconds()):
                _say(line)
            _say(f"state {vm.state_hash()} at tick {vm.clock.now}")
        return final.status


def _say_ending(final: Ending) -> None:
    if final.text and final.status:
        _say(final.text)


# --- options -------------------------------------------------------------------------------------------


def _read_symbols(path: str) -> bytes:
    """The file of `--symbols`, or as much of it as is ever served."""
    from elftools.elf.elffile import ELFFile  # slow to load

    try:
        with open(path, "rb") as file:
            ELFFile(file)
            file.seek(0)
            return file.read(MAX_PROGRAM + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}", "--symbols") from None
    except ELFError:
        raise ConfigError(f"{path} is not an ELF file", "--symbols") from None


def _config(options: Options, replay: Replay | None) -> PcConfig:
    """The machine asked for. A replay without `--rtc` starts at the recorded date."""
    date_s = options.rtc_s
    if date_s is None and replay is not None:
        machine = replay.header.get("machine")
        recorded = machine.get("rtc_s") if isinstance(machine, dict) else None
        date_s = recorded if isinstance(recorded, int) and 0 <= recorded < 1 << 40 else None
    config = PcConfig(
        ram=parse_size(options.memory),
        vcpus=options.vcpus or (2 if options.image is None else 1),
        cpu=options.cpu,
        ips=options.ips or DEFAULT_IPS,
        rtc_s=_DEFAULT_DATE_S if date_s is None else date_s,
        seed=options.seed,
    )
    config.check()
    return config


def _load(options: Options, config: PcConfig) -> BootImage:
    path = options.image
    if path is None:
        try:
            path = str(demo_path())
        except GuestBuildError as error:
            raise ConfigError(str(error)) from None
    return load_image(path, ram_size=config.ram, cmdline=options.append, initrd=options.initrd)


# --- running -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a session joins; `address` is None without a debug server, `program` without an ELF file."""

    options: Options
    vm: Vm
    console: Console
    image: BootImage
    address: ServerAddress | None
    settings: TargetSettings
    program: bytes | None

    def seen_program(self) -> Program:
        """What debuggers are told of the program."""
        image = self.image
        if image.link_base is not None:
            return Program(link_base=image.link_base, zero_page=image.state.rsi)
        path = self.options.symbols or self.options.image or str(demo_path())
        fits = self.program is not None and len(self.program) <= MAX_PROGRAM
        elf = self.program if fits else None
        return Program("/" + os.path.basename(path), elf, image.load_bias or 0)

    def gdb_command(self, where: str) -> str:
        """How to start gdb with the server at `where`."""
        options, connect = self.options, f"-ex 'target remote {where}'"
        if self.settings.layout is Layout.AUTO:
            return f"gdb {connect} -x {shlex.quote(str(MODES_SCRIPT))}"
        if self.settings.layout not in LONG_LAYOUTS:
            return f"gdb {connect}"
        if self.image.link_base is None:
            return f"gdb {shlex.quote(options.symbols or options.image or str(demo_path()))} {connect}"
        script = f"gdb {connect} -x {shlex.quote(str(KERNEL_SCRIPT))}"
        return script if options.symbols is None else f"{script} -ex 'hv-vmlinux {options.symbols}'"


class _Session:
    """The tasks around one machine."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.token = trio.lowlevel.current_trio_token()
        self.done = trio.Event()
        options = plan.options
        self.control = RunControl(
            plan.vm, no_reboot=options.no_reboot, max_ticks=options.max_ticks, ended=self._ended
        )
        self.control.symbols.program = plan.seen_program()
        self._set_breakpoints(options.breaks)

    def _set_breakpoints(self, texts: Sequence[str]) -> None:
        for text in texts:
            try:
                add_breakpoint(self.control, text.split())
            except ExpressionError as error:
                raise ConfigError(str(error), "--break") from None

    def _ended(self, final: Ending) -> None:
        self.token.run_sync_soon(self.done.set)

    async def run(self) -> Ending:
        """Start everything, and return when the machine has ended."""
        try:
            await self._run_tasks()
        finally:  # the machine thread stops before anybody frees what it runs
            self.control.close()
        return self.control.ending or Ending(STATUS_ERROR, "interrupted")

    async def _run_tasks(self) -> None:
        plan, server = self.plan, None
        async with trio.open_nursery() as nursery:
            await nursery.start(self._signals)
            if plan.address is not None:
                observed = not isinstance(plan.console, NullConsole)
                # A tenth of a second that a machine without a debugger need not wait.
                from hv.debug.server import DebugServer

                server = DebugServer(
                    self.control, plan.address, plan.settings, observed=observed, announce=_say
                )
                await self._start_server(nursery, server)
            if plan.console.has_input and not plan.vm.door.replaying:
                self.control.open_inputs += 1
                nursery.start_soon(self._read_console)
            if server is None or plan.options.no_wait:
                self._run_freely(server)
            await self.done.wait()
            if server is not None:
                with trio.move_on_after(_GOODBYE_S):
                    await server.lease.wait_free()
            nursery.cancel_scope.cancel()

    def _run_freely(self, server: DebugServer | None) -> None:
        if server is None:
            self.control.run_freely()
        else:
            self.control.run_freely(server.ran_freely)

    async def _start_server(self, nursery: trio.Nursery, server: DebugServer) -> None:
        options = self.plan.options
        try:
            names: list[str] = await nursery.start(server.run)
        except OSError as error:
            where = f"cannot listen on {options.gdb}: {error.strerror or error}"
            raise ConfigError(where, "--gdb") from None
        for name in () if uses_stdio(self.plan.address) else names:
            _say(f"debug server: {self.plan.gdb_command(name.removeprefix('127.0.0.1'))}")

    async def _signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
            task_status.started()
            async for number in received:
                self._quit(_SIGNAL_STATUS + number)

    async def _read_console(self) -> None:
        await self.plan.console.read(self._feed, self._quit)
        self.control.close_input()

    def _quit(self, status: int = 0) -> None:
        self.plan.console.hurry()
        self.control.quit(status, "")

    async def _feed(self, data: bytes) -> None:
        """Hand `data` to COM1, as fast as the guest takes it."""
        while data:
            taken = await result_of(self.control.feed(0, data))
            data = data[taken:]
            if not taken:
                await trio.sleep(_RETRY_S)


async def _run_async(plan: _Plan) -> Ending:
    return await _Session(plan).run()


def _run(plan: _Plan) -> Ending:
    """Run the session; errors of its tasks come out as themselves."""
    with _one_error():
        return trio.run(_run_async, plan)
    raise AssertionError("not reached")


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    logging.basicConfig(format="hv: %(message)s", level=logging.WARNING)
    try:
        yield
    except* HvError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise ConfigError(one_line(error)) from None
