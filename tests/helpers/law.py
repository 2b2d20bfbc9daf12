"""The determinism law, as runs that must all end in the same state (see README, "Determinism").

Each function makes a fresh machine with the same guest, disturbs its run in one way, and returns the state
hash at a machine tick. Used by `tests/hv/test_determinism.py` in short and by `scripts/determinism` in full.
"""

from __future__ import annotations

import functools
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from hv.debug.catch import parse
from hv.debug.command import CommandContext, Touch
from hv.debug.commands import COMMANDS, run_command
from hv.debug.plans import FREE_RUN
from hv.debug.regions import region_at
from hv.debug.run_control import RunControl
from hv.engines.base import AddressSpace
from hv.engines.soft import SoftEngine
from hv.exits import Bpt
from hv.inputlog import Recorder, Replay
from hv.inputs import ConsoleInput, MemoryWrite, RegisterWrite
from hv.loaders import load_image
from hv.machines.pc import PcConfig, build_pc, log_header
from hv.outcomes import Goal, Kicked, Reached, Stepped, VcpuStopped
from hv.vm import Vm

HITS = 500  # of one breakpoint, then it is removed


@dataclass(frozen=True)
class Guest:
    """What runs: an image, what goes with it, and on how many vCPUs."""

    image: Path
    initrd: tuple[Path, ...] = ()
    cmdline: str = ""
    vcpus: int = 1
    config: dict[str, object] = field(default_factory=dict)

    def build(self, record: Path | None = None, replay: Path | None = None) -> tuple[Vm, bytearray]:
        """A machine before its first instruction, and what its console will show."""
        config = PcConfig(vcpus=self.vcpus, **self.config)  # type: ignore[arg-type]
        image = load_image(
            self.image, ram_size=config.ram, cmdline=self.cmdline, initrd=[str(p) for p in self.initrd]
        )
        shown = bytearray()
        header = log_header(config, image)
        vm = build_pc(
            config,
            image,
            SoftEngine(),
            console=shown.extend,
            recorder=Recorder(str(record), header) if record else None,
            replay=Replay.read(str(replay)) if replay else None,
        )
        return vm, shown


def run_to(vm: Vm, tick: int) -> str:
    """Run to `tick` and return the state hash there."""
    while vm.clock.now < tick:
        outcome = vm.run(Goal(until=tick))
        assert isinstance(outcome, Reached | Kicked), outcome
    return vm.state_hash()


def plain(guest: Guest, tick: int) -> str:
    """Nothing disturbs the run."""
    vm, _ = guest.build()
    return run_to(vm, tick)


def cut(guest: Guest, tick: int, rng: random.Random) -> str:
    """Left and entered again at many ticks, with reads of memory and registers in between."""
    vm, _ = guest.build()
    lengths = [1, 2, 17, 1000, 49_999, 50_000, 1_000_000, 20_000_000]
    while vm.clock.now < tick:
        vm.run(Goal(until=min(tick, vm.clock.now + rng.choice(lengths))))
        vcpu = rng.choice(vm.vcpus)
        vcpu.get("rsp")
        vcpu.cpu.translate(rng.getrandbits(64))
        vm.memory.read(rng.randrange(1 << 20), 4096)
    return vm.state_hash()


LINES = {
    "gva2gpa": "$rsp",
    "x": "/64xb $pc",
    "xp": "/64xb 0x1000",
    "read-msr": "0xc0000080",
    "info symbol": "$pc",
}
"""What reading commands that need words are given."""


def looked_at(guest: Guest, tick: int, times: int, rng: random.Random) -> tuple[str, int]:
    """Every command that only reads, given at random ticks, with regions of memory from the page tables and
    every vCPU's way recorded. Returns the hash, and how many characters were shown."""
    vm, _ = guest.build()
    control = RunControl(vm)
    shown: list[str] = []
    for vcpu in vm.vcpus:
        vcpu.cpu.control.branch_trace = 1
    for at in sorted(rng.randrange(tick) for _ in range(times)):
        run_to(vm, at)
        vcpu = rng.choice(vm.vcpus)
        for row in COMMANDS:
            if row.only_reads and row.touch is Touch.GUEST:
                line = f"{row.name} {LINES.get(row.name, '')}"
                run_command(CommandContext(control, vcpu.index, shown.append), line)
        for address in (0, vcpu.get("linear_pc"), vcpu.get("rsp"), rng.getrandbits(64)):
            for _ in region_at(vm, vcpu.index, address):
                pass
        shown.append(f"{len(vcpu.cpu.branches(1000))}")
    return run_to(vm, tick), sum(map(len, shown))


def kicked(guest: Guest, tick: int) -> str:
    """Stopped from another thread at moments of the host's choosing (Ctrl-C, a second client)."""
    vm, _ = guest.build()
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(0.002):
            vm.scheduler.request_stop()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        return run_to(vm, tick)
    finally:
        done.set()
        thread.join()


def stepped(guest: Guest, tick: int, steps: int, rng: random.Random) -> str:
    """`steps` single steps, interrupts not masked, begun at random ticks."""
    vm, _ = guest.build()
    for start in sorted(rng.randrange(tick) for _ in range(10)):
        vm.run(Goal(until=max(start, vm.clock.now)))
        for _ in range(steps // 10):
            outcome = vm.run(Goal(until=tick, steps={vm.scheduler.current: None}))
            assert isinstance(outcome, Stepped | Reached), outcome
    return run_to(vm, tick)


def broken(guest: Guest, tick: int, addresses: list[int]) -> tuple[str, int]:
    """Breakpoints set before the first instruction, on addresses not mapped yet; each hit is passed over, and
    a breakpoint is removed after `HITS` of them.

    Returns the hash and the number of hits.
    """
    vm, _ = guest.build()
    left = dict.fromkeys(range(1, len(addresses) + 1), HITS)
    for number, address in enumerate(addresses, 1):
        vm.engine.add_breakpoint(number, AddressSpace.LINEAR, address)
    hits = 0
    while vm.clock.now < tick:
        outcome = vm.run(Goal(until=tick))
        if isinstance(outcome, VcpuStopped):
            assert isinstance(outcome.exit, Bpt), outcome
            hits += 1
            left[outcome.exit.id] -= 1
            if left[outcome.exit.id] == 0:
                vm.engine.remove_breakpoint(outcome.exit.id)
            vm.scheduler.pass_over.add(outcome.vcpu)
    return vm.state_hash(), hits


def read_during(guest: Guest, tick: int, batch: int) -> tuple[str, int]:
    """Memory is read by another thread while the guest runs, `batch` requests at a time, without a stop.

    Returns the hash, and how many reads were served before the end.
    """
    vm, _ = guest.build()
    control = RunControl(vm, max_ticks=tick)
    control.debugged = True
    done = threading.Event()
    control.resume(FREE_RUN, lambda event: done.set())
    served = 0
    while not done.is_set():
        where = served * 64 % (64 << 20)
        read = functools.partial(vm.memory.read, where, 64)
        for future in [control.submit(read) for _ in range(batch)]:
            assert future.result() is not None
            served += not done.is_set()
    control.close()
    return vm.state_hash(), served


CATCHES = (
    "exception all log", "int3 log", "cr3 log", "mode log", "msr all log", "port all log", "mmio all log",
    "unknown-port log", "unknown-mmio log", "unknown-msr log",
)  # fmt: skip


def caught(guest: Guest, tick: int) -> tuple[str, int]:
    """Everything that can be caught is, and logged. The hash, and how many lines there are."""
    vm, _ = guest.build()
    control = RunControl(vm, max_ticks=tick)
    control.debugged = True
    for words in CATCHES:
        control.catches.add(parse(words.split()))
    done = threading.Event()
    if control.resume(FREE_RUN, lambda event: done.set()) is None:
        done.wait()
    control.close()
    assert vm.clock.now >= tick
    return vm.state_hash(), len(control.catches.log)


def carried_over(guest: Guest, at: int, tick: int) -> str:
    """Saved at tick `at`, loaded into a fresh machine and run on."""
    vm, _ = guest.build()
    run_to(vm, at)
    other, _ = guest.build()
    other.load(vm.save())
    assert other.state_hash() == vm.state_hash(), f"the loaded state differs at once, at tick {at}"
    return run_to(other, tick)


def recorded(guest: Guest, first: int, tick: int, log: Path, rng: random.Random, texts: list[bytes]) -> str:
    """A session with typed input, register and memory writes and masked steps, recorded to `log`.

    Everything happens at random ticks from `first` on, when the guest's shell is there.
    """
    vm, _ = guest.build(record=log)
    starts = sorted(rng.randrange(first, tick * 7 // 8) for _ in texts)
    for start, text in zip(starts, texts, strict=True):
        vm.run(Goal(until=max(start, vm.clock.now)))
        vm.door.submit(ConsoleInput(0, text))
        for _ in range(200):
            vm.run(Goal(until=tick, steps={vm.scheduler.current: None}, masked=True))
        # What a running guest does not miss: the old BIOS data area, the address of a disabled breakpoint.
        vm.door.submit(MemoryWrite(0x500 + rng.randrange(64), bytes([rng.randrange(256)])))
        address = rng.getrandbits(40).to_bytes(8, "little")
        vm.door.submit(RegisterWrite(vm.scheduler.current, (("dr0", address),)))
    final = run_to(vm, tick)
    vm.door.close()
    return final


def replayed(guest: Guest, tick: int, log: Path) -> str:
    """The run that `log` describes."""
    vm, _ = guest.build(replay=log)
    return run_to(vm, tick)
