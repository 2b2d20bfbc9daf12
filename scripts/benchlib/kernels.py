"""The kernels of the benchmark image: how often each runs, what it counts, and what is aimed at."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

MIB: Final = 1 << 20
NATIVE_FACTOR: Final = 10
DELAY_S: Final = 0.001
"""Guest time of one iteration of `delay`."""


class Unit(Enum):
    """What a kernel's figure is; the value is how the table names it."""

    MIPS = "MIPS"
    GIB_PER_S = "GiB/s"
    NS = "ns"
    PER_S = "1/s"
    STRETCH = "s/guest s"
    OF_ONE_CPU = "x 1 vCPU"

    @property
    def more_is_better(self) -> bool:
        """Whether a greater figure is a faster machine."""
        return self not in (Unit.NS, Unit.STRETCH)


class Aim(Enum):
    """What a target bounds."""

    TCG_SPEED = "speed relative to TCG, at least"
    FIGURE = "the figure itself: at least, or at most where less is better"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that the software core is held to."""

    aim: Aim
    bound: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel.

    `instructions` retire per iteration, in the guest's code as assembled; None where a compiler made the
    code and a run has to tell. Event deliveries are not counted, nor are repeated string iterations.
    `tcg_iterations` differs where TCG would take minutes or nothing; the host runs ten times as many, to
    take long enough. `cpu` is the CPU model needed. With `cpus` other than 1 the kernel shares its iterations
    out among so many vCPUs, and its figure is the speed relative to one.
    """

    name: str
    what: str
    iterations: int
    instructions: int | None
    unit: Unit = Unit.MIPS
    native: bool = True
    tcg_iterations: int | None = None
    cpu: str | None = None
    cpus: int = 1
    target: Target | None = None

    def iterations_on(self, side: str) -> int:
        """Iterations of one run on `side`."""
        if side == "native":
            return self.iterations * NATIVE_FACTOR
        return (self.tcg_iterations or self.iterations) if side == "tcg" else self.iterations

    def figure(self, seconds: float, instructions: float) -> float:
        """The figure of an iteration that takes `seconds` and has `instructions`."""
        match self.unit:
            case Unit.MIPS:
                return instructions / seconds / 1e6
            case Unit.GIB_PER_S:
                return MIB / seconds / (1 << 30)
            case Unit.NS:
                return seconds * 1e9
            case Unit.PER_S:
                return 1 / seconds
            case Unit.STRETCH:
                return seconds / DELAY_S
            case Unit.OF_ONE_CPU:
                raise ValueError("this figure compares two runs")


def _tcg(bound: float) -> Target:
    return Target(Aim.TCG_SPEED, bound)


def _figure(bound: float) -> Target:
    return Target(Aim.FIGURE, bound)


KERNELS: Final = (
    Kernel("alu", "integer arithmetic between registers", 40_000_000, 10),
    Kernel("ldst", "loads and stores in 32 KiB", 30_000_000, 10),
    Kernel("call", "direct calls, three deep", 12_000_000, 17, target=_tcg(0.7)),
    Kernel("indirect", "indirect jumps to eight places", 20_000_000, 6, target=_tcg(0.8)),
    Kernel("sha256", "SHA-256 of 4 KiB, C", 1_500, None, target=_tcg(0.25)),
    Kernel("mix", "lists, matrices, a state machine, CRC; C", 8_000, None, target=_tcg(0.3)),
    Kernel("sse2", "SSE2 arithmetic", 8_000_000, 16, target=_tcg(2.0)),
    Kernel("avx2", "AVX2 arithmetic", 6_000_000, 16, cpu="max", target=_tcg(2.0)),
    Kernel("x87", "x87 arithmetic", 6_000_000, 12, target=_tcg(1.2)),
    Kernel(
        *("movsb", "rep movsb of 1 MiB", 8_000, 5, Unit.GIB_PER_S), tcg_iterations=12, target=_figure(8.0)
    ),
    Kernel("fault", "invlpg, page fault, iretq", 200_000, 20, Unit.NS, native=False, target=_figure(1000)),
    Kernel("cr3", "CR3 switch and 16 pages", 200_000, 20, Unit.NS, native=False, target=_figure(2500)),
    Kernel("int", "int 0x80, iretq", 1_000_000, 5, Unit.NS, native=False, target=_figure(150)),
    Kernel("patch", "change code, call it", 500_000, 7, Unit.NS, tcg_iterations=50_000, target=_figure(500)),
    Kernel(
        *("port", "in al, 61h", 100_000, 3, Unit.PER_S),
        native=False,
        tcg_iterations=1_000_000,
        target=_figure(250_000),
    ),
    Kernel("delay", "wait 1 ms by the TSC", 500, None, Unit.STRETCH, native=False, target=_figure(1.5)),
    Kernel(
        "robin",
        "alu shared out among 4 vCPUs",
        40_000_000,
        10,
        Unit.OF_ONE_CPU,
        False,
        cpus=4,
        target=_figure(0.95),
    ),
)


def command_line(kernel: Kernel, side: str) -> str:
    """What selects `kernel` in the image and in the native program."""
    return f"run={kernel.name} iters={kernel.iterations_on(side)}"
