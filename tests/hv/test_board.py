"""The wired board: ports and pages where a PC has them, interrupts from pin to processor, state."""

import hashlib
import random
from collections.abc import Callable

import cbor2
import pytest

from hv.devices.ports import ResetKind
from hv.errors import SnapshotError
from hv.machines.board import Board, BoardHooks

IPS = 1_000_000_000
LAPIC = 0xFEE0_0000
IOAPIC = 0xFEC0_0000


class Machine:
    """A board and everything it asked for."""

    def __init__(self, vcpus: int = 2) -> None:
        self.events: list[tuple[object, ...]] = []
        self.com1 = bytearray()

        def note(name: str) -> Callable[..., None]:
            return lambda *arguments: self.events.append((name, *arguments))

        hooks = BoardHooks(
            power_off=note("power_off"),
            reset=note("reset"),
            debug_exit=note("debug_exit"),
            nmi=note("nmi"),
            init=note("init"),
            sipi=note("sipi"),
            irq_changed=lambda vcpu: None,
            a20=note("a20"),
            com1=self.com1.extend,
        )
        self.tsc_offset = 0
        self.board = Board(vcpus, IPS, hooks, tsc_hz=lambda: 2 * IPS, tsc_offset=lambda vcpu: self.tsc_offset)

    def out(self, port: int, value: int, size: int = 1) -> None:
        self.board.ports.write(port, size, value)

    def inp(self, port: int, size: int = 1) -> int:
        return self.board.ports.read(port, size)

    def lapic(self, vcpu: int, offset: int, value: int) -> None:
        self.board.mmio.write(LAPIC + offset, 4, value, vcpu)

    def route(self, pin: int, low: int, destination: int = 0) -> None:
        for register, value in ((0x11 + 2 * pin, destination << 24), (0x10 + 2 * pin, low)):
            self.board.mmio.write(IOAPIC, 4, register, 0)
            self.board.mmio.write(IOAPIC + 0x10, 4, value, 0)

    def pic_init(self) -> None:
        for base, vector, cascade in ((0x20, 0x20, 4), (0xA0, 0x28, 2)):
            self.out(base, 0x11)
            for value in (vector, cascade, 1, 0):
                self.out(base + 1, value)

    def run(self, ticks: int, vcpu: int = 0) -> list[int]:
        """Let time pass; the vectors that `vcpu` took, each with its EOI at once."""
        clock, end, taken = self.board.clock, self.board.clock.now + ticks, []
        while True:
            while self.board.interrupt_pending(vcpu):
                vector = self.board.acknowledge(vcpu)
                assert vector is not None
                taken.append(vector)
                if self.board.lapics[vcpu].isr:
                    self.lapic(vcpu, 0xB0, 0)
                else:
                    self.out(0xA0, 0x20)
                    self.out(0x20, 0x20)
            due = clock.next_deadline()
            if due is None or due > end:
                clock.advance(end - clock.now)
                return taken
            clock.advance(max(0, due - clock.now))
            clock.run_due()


def test_the_pit_interrupts_through_the_pic_as_extint() -> None:
    m = Machine()
    m.pic_init()
    m.out(0x43, 0x34)
    m.out(0x40, 0xA9)
    m.out(0x40, 0x04)  # 1193: about 1 ms
    m.run(1000)
    assert m.run(10_000_000) == [0x20] * 10
    assert m.run(5_000_000, vcpu=1) == []


def test_the_pit_interrupts_through_pin_2_of_the_ioapic() -> None:
    m = Machine()
    m.lapic(1, 0xF0, 0x1FF)
    m.route(2, 0x31, destination=1)
    m.out(0x43, 0x34)
    m.out(0x40, 0xA9)
    m.out(0x40, 0x04)
    m.run(1000, vcpu=1)
    assert m.run(10_000_000, vcpu=1) == [0x31] * 10


def test_extint_goes_before_the_local_apic() -> None:
    m = Machine()
    m.pic_init()
    m.board.lapics[0].receive(0, 0x40, False)
    m.board.isa[4].driver().set(True)
    assert m.run(0) == [0x24, 0x40]


def test_the_8259_vector_is_decided_at_acknowledge() -> None:
    m = Machine()
    m.pic_init()
    m.board.isa[4].driver().set(True)
    assert m.board.interrupt_pending(0)
    m.board.isa[3].driver().set(True)
    assert m.board.acknowledge(0) == 0x23


def test_a_withdrawn_request_leaves_nothing_to_acknowledge() -> None:
    m = Machine()
    m.pic_init()
    driver = m.board.isa[4].driver()
    driver.set(True)
    driver.set(False)
    assert [m.board.interrupt_pending(0), m.board.acknowledge(0)] == [False, None]


def test_the_task_priority_gates_the_local_apic() -> None:
    m = Machine()
    m.board.lapics[0].receive(0, 0x45, False)
    m.board.set_task_priority(0, 4)
    assert not m.board.interrupt_pending(0)
    assert m.board.mmio.read(LAPIC + 0x80, 4, 0) == 0x40
    m.lapic(0, 0x80, 0x30)
    assert m.board.task_priority(0) == 3
    assert m.board.interrupt_pending(0)


def test_an_ipi_sent_again_after_acceptance_is_not_lost() -> None:
    m = Machine()
    m.lapic(1, 0xF0, 0x1FF)
    m.lapic(0, 0x310, 1 << 24)
    m.lapic(0, 0x300, 0x80)
    assert m.board.acknowledge(1) == 0x80
    m.lapic(0, 0x300, 0x80)
    assert not m.board.interrupt_pending(1)
    m.lapic(1, 0xB0, 0)
    assert m.board.interrupt_pending(1)
    assert m.board.acknowledge(1) == 0x80


def test_init_and_sipi_reach_the_machine() -> None:
    m = Machine()
    m.lapic(0, 0x310, 1 << 24)
    m.lapic(0, 0x300, 0x4500)
    m.lapic(0, 0x300, 0x4608)
    assert m.events == [("init", 1), ("sipi", 1, 8)]


def test_each_vcpu_sees_its_own_apic_until_it_moves_or_disables_it() -> None:
    m = Machine()
    ids = [m.board.mmio.read(LAPIC + 0x20, 4, vcpu) >> 24 for vcpu in range(2)]
    assert ids == [0, 1]
    assert m.board.write_msr(1, 0x1B, 0xFEE0_0C00)
    assert m.board.mmio.read(LAPIC + 0x20, 4, 1) == 0xFFFF_FFFF
    assert m.board.read_msr(1, 0x802) == 1
    assert m.board.read_msr(0, 0x802) is None
    assert m.board.write_msr(0, 0x1B, 0xD000_0900)
    assert m.board.mmio.read(0xD000_0020, 4, 0) == 0
    assert m.board.mmio.read(LAPIC + 0x20, 4, 0) == 0xFFFF_FFFF


def test_an_nmi_goes_through_lint1_unless_port_70_masks_it() -> None:
    m = Machine()
    m.out(0x70, 0x80)
    m.board.inject_nmi()
    assert m.events == []
    m.out(0x70, 0x00)
    m.board.inject_nmi()
    assert m.events == [("nmi", 0)]  # LINT1 of the other vCPU is still masked


def test_requests_of_the_guest() -> None:
    m = Machine()
    m.out(0x404, 5 << 10 | 1 << 13, 2)
    m.out(0xF4, 0x21)
    m.out(0x64, 0xFE)
    m.out(0xCF9, 0x06)
    m.out(0x92, 0x03)
    assert m.events == [
        ("power_off",),
        ("debug_exit", 0x21),
        ("reset", ResetKind.INIT),
        ("reset", ResetKind.HARD),
        ("reset", ResetKind.INIT),
    ]


def test_a20_is_on_while_either_gate_has_it_on() -> None:
    m = Machine()
    m.out(0x92, 0x00)
    m.out(0x64, 0xD1)
    assert m.events == []
    m.out(0x60, 0xDD)
    m.out(0x92, 0x02)
    assert m.events == [("a20", False), ("a20", True)]


def test_serial_output_and_input() -> None:
    m = Machine()
    m.pic_init()
    for byte in b"hi":
        m.out(0x3F8, byte)
    assert m.com1 == b"hi"
    m.out(0x3FC, 0x08)
    m.out(0x3F9, 0x01)
    m.board.receive(0, b"x")
    assert m.run(0) == [0x24]
    assert m.inp(0x3F8) == 0x78


@pytest.mark.parametrize(
    ("port", "name"),
    [
        (0x20, "pic.master"),
        (0xA1, "pic.slave"),
        (0x43, "pit"),
        (0x60, "i8042"),
        (0x61, "port61"),
        (0x64, "i8042"),
        (0x71, "rtc"),
        (0x80, "post-code"),
        (0x92, "fast-a20"),
        (0xE9, "debug-console"),
        (0xF4, "debug-exit"),
        (0x2FF, "uart.1"),
        (0x3F8, "uart.0"),
        (0x400, "acpi-pm"),
        (0x405, "acpi-pm"),
        (0x408, "pm-timer"),
        (0x4D1, "elcr"),
        (0xCF8, "pci-address"),
        (0xCFF, "pci-data"),
    ],
)
def test_devices_are_where_a_pc_has_them(port: int, name: str) -> None:
    assert Machine().board.ports.owner(port) == name


def test_the_sci_is_level_triggered_as_firmware_leaves_it() -> None:
    assert Machine().inp(0x4D1) == 0x02


def test_the_hpet_interrupts_through_the_ioapic() -> None:
    m = Machine()
    m.route(20, 0x55)
    hpet = 0xFED0_0000
    m.board.mmio.write(hpet + 0x100, 4, 0x04 | 20 << 9, 0)
    m.board.mmio.write(hpet + 0x108, 4, 1000, 0)
    m.board.mmio.write(hpet + 0x10, 8, 1, 0)
    assert m.run(99_999) == []
    assert m.run(1) == [0x55]


def busy_machine() -> Machine:
    """Every kind of device doing something."""
    m = Machine()
    m.pic_init()
    m.lapic(1, 0xF0, 0x1FF)
    m.lapic(1, 0x320, 0x2_0060)
    m.lapic(1, 0x380, 77_777)
    m.route(4, 0x41, destination=1)
    m.out(0x43, 0x34)
    m.out(0x40, 0x00)
    m.out(0x40, 0x08)
    m.out(0x70, 0x0B)
    m.out(0x71, 0x42)
    m.out(0x3FC, 0x08)
    m.out(0x3F9, 0x03)
    m.board.receive(0, b"some input that is longer than a FIFO")
    m.out(0x60, 0xF2)
    m.run(7_000_000)
    return m


def digest(m: Machine) -> str:
    return hashlib.sha256(cbor2.dumps(m.board.save(), canonical=True)).hexdigest()


def test_a_loaded_board_goes_on_exactly_like_the_saved_one() -> None:
    first, second = busy_machine(), Machine()
    state = cbor2.loads(cbor2.dumps(first.board.save()))
    second.board.load(state)
    assert second.events == []
    assert digest(second) == digest(first)
    for ticks in (1, 1_000_000, 3_333_333, 20_000_000):
        for vcpu in range(2):
            assert first.run(ticks, vcpu) == second.run(ticks, vcpu)
        assert digest(second) == digest(first)


def test_two_equal_runs_have_equal_states() -> None:
    assert digest(busy_machine()) == digest(busy_machine())


def test_a_reset_board_is_as_new_but_for_time_and_cmos() -> None:
    m, fresh = busy_machine(), Machine()
    m.board.reset()
    state, new = m.board.save(), fresh.board.save()
    assert isinstance(state["parts"], dict)
    assert isinstance(new["parts"], dict)
    different = {name for name in new["parts"] if state["parts"][name] != new["parts"][name]}
    # Date and CMOS RAM live on the battery; bytes on the serial wire are outside the machine.
    assert different == {"rtc", "uart.0"}


def test_a_state_of_another_machine_is_refused() -> None:
    state = Machine(vcpus=1).board.save()
    with pytest.raises(SnapshotError):
        Machine(vcpus=2).board.load(state)
    with pytest.raises(SnapshotError):
        Machine().board.load({"kind": "board", "version": 99})
    with pytest.raises(SnapshotError):
        Machine().board.load({})


def test_random_accesses_never_raise_and_stay_deterministic() -> None:
    def run(seed: int) -> str:
        source = random.Random(seed)
        m = Machine()
        ports = [port for port in range(0x10000) if m.board.ports.owner(port)]
        pages = [IOAPIC, 0xFED0_0000, LAPIC]
        for _ in range(6000):
            size = source.choice((1, 2, 4))
            value = source.getrandbits(8 * size)
            if source.random() < 0.5:
                port = source.choice(ports)
                m.inp(port, size) if source.random() < 0.4 else m.out(port, value, size)
            else:
                address = source.choice(pages) + source.randrange(0x400)
                if source.random() < 0.7:
                    address &= ~0xF
                vcpu = source.randrange(2)
                if source.random() < 0.4:
                    assert 0 <= m.board.mmio.read(address, size, vcpu) < 1 << 8 * size
                else:
                    m.board.mmio.write(address, size, value, vcpu)
            if source.random() < 0.1:
                m.board.clock.advance(source.randrange(100_000))
                m.board.clock.run_due()
                for vcpu in range(2):
                    if m.board.interrupt_pending(vcpu):
                        assert m.board.acknowledge(vcpu) is not None
        clone = Machine()
        clone.board.load(m.board.save())
        assert digest(clone) == digest(m)
        return digest(m)

    for seed in range(3):
        assert run(seed) == run(seed)


def test_a_tsc_that_is_moved_moves_its_deadline_timer() -> None:
    m = Machine()
    m.board.lapics[0].write(0x320, 4, 0x4_0042)  # TSC-deadline mode
    assert m.board.write_msr(0, 0x6E0, 10_000)
    assert m.board.clock.next_deadline() == 5_000
    m.tsc_offset = 4_000
    m.board.tsc_moved(0)
    assert m.board.clock.next_deadline() == 3_000
    m.tsc_offset = 20_000
    m.board.tsc_moved(0)
    assert m.board.clock.next_deadline() == 0
