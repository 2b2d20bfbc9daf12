"""A `Vm` on the fake engine and the fake board, with a busy two-CPU program to try the rules on."""

from __future__ import annotations

from hv.engines.base import CpuModel
from hv.inputlog import Recorder, Replay
from hv.memory import GuestMemory
from hv.signals import Signals
from hv.vm import Parts, Vm
from tests.helpers.fake_board import IPI, SERIAL, TIMER, FakeBoard
from tests.helpers.fake_engine import VECTORS, FakeEngine, Program

# vCPU 0 starts vCPU 1, sets a timer, computes, halts, answers; vCPU 1 waits, pauses and halts in turn.
BUSY: Program = {
    **dict(enumerate([
        ("in", 0x70), ("out", 0x41, 7), ("out", 0x81, 1), ("sti",), ("add", 3), ("tsc",), ("store", 0x5000),
        ("pause",), ("out", 0x80, 1), ("add", 5), ("tsc",), ("hlt",), ("jmp", 4),
    ])),
    **dict(enumerate([
        ("sti",), ("tsc",), ("store", 0x6000), ("pause",), ("add", 1), ("tsc",), ("hlt",), ("jmp", 1),
    ], 0x10000)),
    VECTORS + TIMER: ("jmp", 0x200),
    **dict(enumerate([("tsc",), ("store", 0x7000), ("iret",)], 0x200)),
    VECTORS + SERIAL: ("jmp", 0x210),
    **dict(enumerate([("in", 0x60), ("store", 0x7001), ("tsc",), ("iret",)], 0x210)),
    VECTORS + IPI: ("iret",),
    VECTORS + 3: ("iret",),
}  # fmt: skip


class FakeVm(Vm):
    """A `Vm` whose parts are at hand with their types."""

    fake_engine: FakeEngine
    fake_board: FakeBoard


def make_vm(
    program: Program = BUSY,
    vcpus: int = 2,
    *,
    host_clock: bool = False,
    recorder: Recorder | None = None,
    replay: Replay | None = None,
) -> FakeVm:
    """A machine whose vCPU 0 starts at address 0; the others wait for their startup message."""
    signals = Signals()
    board = FakeBoard(vcpus, signals)
    engine = FakeEngine(dict(program))
    cpus = [engine.add_cpu(index, vcpus, CpuModel.V2, board.clock.ips, 0) for index in range(vcpus)]
    memory = GuestMemory(engine, 1 << 20)

    def boot(vm: Vm) -> None:
        cpus[0].values["rip"] = 0

    vm = FakeVm(
        Parts(engine, cpus, board, signals, memory, boot),
        {"vcpus": vcpus},
        host_clock=host_clock,
        recorder=recorder,
        replay=replay,
    )
    vm.fake_engine = engine
    vm.fake_board = board
    return vm
