"""The local APIC against the SDM: priorities, IPIs, errors, both register views."""

import pytest

from hv.clock import MachineClock
from hv.device import Value
from hv.errors import SnapshotError
from hv.irq.apicbus import ApicBus, ApicHooks
from hv.irq.lapic import Lapic, owns_msr

ID, VERSION, TPR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_PERF, LINT0, LINT1, LVT_ERROR = 0x320, 0x340, 0x350, 0x360, 0x370
BASE_MSR = 0x1B


class Rig:
    def __init__(self, cpus: int = 2) -> None:
        self.events: list[tuple[str, int, int]] = []
        self.changes: list[int] = []
        self.clock = MachineClock(1_000_000_000)
        self.bus = ApicBus(
            ApicHooks(
                lambda cpu: self.events.append(("init", cpu, 0)),
                lambda cpu, vector: self.events.append(("sipi", cpu, vector)),
                lambda cpu: self.events.append(("nmi", cpu, 0)),
                self.changes.append,
            )
        )
        self.ended: list[int] = []
        self.bus.attach_eoi(self.ended.append)
        self.apics = [Lapic(i, self.bus, self.clock, lambda: 2_000_000_000, lambda: 0) for i in range(cpus)]
        for apic in self.apics:
            apic.write(SVR, 4, 0x1FF)

    def ipi(self, low: int, destination: int = 0, sender: int = 0) -> None:
        self.apics[sender].write(ICR_HIGH, 4, destination << 24)
        self.apics[sender].write(ICR, 4, low)

    def take(self, cpu: int) -> int | None:
        vector = self.apics[cpu].pending_vector()
        if vector is not None:
            self.apics[cpu].accept(vector)
        return vector


def test_power_on_registers() -> None:
    rig = Rig()
    apic = rig.apics[1]
    apic.reset()
    assert apic.read(ID, 4) == 0x0100_0000
    assert apic.read(VERSION, 4) & 0xFF == 0x14
    assert apic.read(VERSION, 4) >> 16 & 0xFF == 6
    assert apic.read(SVR, 4) == 0xFF
    assert apic.read(DFR, 4) == 0xFFFF_FFFF
    assert [apic.read(offset, 4) for offset in (0x2F0, *range(0x320, 0x380, 0x10))] == [0x1_0000] * 7
    assert rig.apics[0].read_msr(BASE_MSR) == 0xFEE0_0900
    assert apic.read_msr(BASE_MSR) == 0xFEE0_0800


def test_the_highest_vector_of_a_higher_class_is_delivered() -> None:
    rig = Rig()
    apic = rig.apics[0]
    for vector in (0x31, 0x45, 0x42):
        rig.ipi(vector)
    assert apic.read(IRR + 0x20, 4) == 1 << 5 | 1 << 2
    assert rig.take(0) == 0x45
    assert apic.read(ISR + 0x20, 4) == 1 << 5
    assert apic.read(PPR, 4) == 0x40
    assert rig.take(0) is None  # 42h is of the same class
    rig.ipi(0x51)
    assert rig.take(0) == 0x51
    apic.write(EOI, 4, 0)
    assert rig.take(0) is None
    apic.write(EOI, 4, 0)
    assert [rig.take(0), apic.read(PPR, 4)] == [0x42, 0x40]


def test_task_priority_holds_back_its_class_and_below() -> None:
    rig = Rig()
    apic = rig.apics[0]
    apic.write(TPR, 4, 0x4F)
    assert apic.read(PPR, 4) == 0x4F
    rig.ipi(0x4F)
    assert apic.pending_vector() is None
    assert apic.tpr_threshold() == 4
    rig.ipi(0x50)
    assert apic.pending_vector() == 0x50
    apic.set_tpr(0x30)
    assert apic.read(TPR, 4) == 0x30
    assert apic.tpr_threshold() == 0


def test_an_ipi_repeated_after_acceptance_is_a_second_interrupt() -> None:
    rig = Rig()
    rig.ipi(0x80, destination=1)
    assert rig.take(1) == 0x80
    rig.ipi(0x80, destination=1)
    rig.apics[1].write(EOI, 4, 0)
    assert rig.take(1) == 0x80
    rig.apics[1].write(EOI, 4, 0)
    assert rig.take(1) is None


def test_an_ipi_repeated_before_acceptance_is_one_interrupt() -> None:
    rig = Rig()
    rig.ipi(0x80, destination=1)
    rig.ipi(0x80, destination=1)
    assert rig.take(1) == 0x80
    rig.apics[1].write(EOI, 4, 0)
    assert rig.take(1) is None


@pytest.mark.parametrize(
    ("low", "destination", "takers"),
    [
        (0x0_0040, 2, [2]),
        (0x0_0040, 0xFF, [0, 1, 2]),
        (0x4_0040, 9, [0]),
        (0x8_0040, 9, [0, 1, 2]),
        (0xC_0040, 9, [1, 2]),
        (0x0_0840, 0b110, [1, 2]),
        (0x0_0940, 0b111, [0]),
        (0x0_0040, 77, []),
    ],
)
def test_destinations_and_shorthands(low: int, destination: int, takers: list[int]) -> None:
    rig = Rig(3)
    for cpu, apic in enumerate(rig.apics):
        apic.write(LDR, 4, 0x0100_0000 << cpu)
    rig.ipi(low, destination)
    assert [cpu for cpu in range(3) if rig.take(cpu) == 0x40] == takers


def test_cluster_model_addresses_members_of_one_cluster() -> None:
    rig = Rig(3)
    for cpu, ldr in enumerate((0x11, 0x12, 0x21)):
        rig.apics[cpu].write(DFR, 4, 0x0FFF_FFFF)
        rig.apics[cpu].write(LDR, 4, ldr << 24)
    rig.ipi(0x0840, 0x13)
    assert [rig.take(cpu) for cpu in range(3)] == [0x40, 0x40, None]


def test_init_and_startup_reach_the_other_cpus() -> None:
    rig = Rig(3)
    rig.apics[1].write(TPR, 4, 0x55)
    rig.ipi(0xC_4500)
    assert rig.events == [("init", 1, 0), ("init", 2, 0)]
    assert rig.apics[1].read(TPR, 4) == 0
    assert rig.apics[1].read(SVR, 4) == 0xFF
    rig.events.clear()
    rig.ipi(0x8500, destination=1)  # level de-assert
    assert rig.events == []
    rig.ipi(0x4608, destination=1)
    assert rig.events == [("sipi", 1, 8)]


def test_nmi_ipis_reach_a_software_disabled_apic_but_fixed_ones_do_not() -> None:
    rig = Rig()
    rig.apics[1].write(SVR, 4, 0xFF)
    rig.ipi(0x0400, destination=1)
    rig.ipi(0x0040, destination=1)
    assert rig.events == [("nmi", 1, 0)]
    assert rig.take(1) is None


def test_errors_show_after_a_write_to_the_error_status_register() -> None:
    rig = Rig()
    apic = rig.apics[0]
    apic.write(LVT_ERROR, 4, 0xE0)
    rig.ipi(0x0F, destination=1)
    assert apic.read(ESR, 4) == 0
    assert rig.take(0) == 0xE0
    apic.write(ESR, 4, 0)
    assert apic.read(ESR, 4) == 0x20
    apic.write(ESR, 4, 0)
    assert apic.read(ESR, 4) == 0


def test_a_received_illegal_vector_and_an_illegal_register_are_errors() -> None:
    rig = Rig()
    rig.bus.msi(0xFEE0_0000, 0x0A)
    rig.apics[0].read(0x3D0, 4)
    rig.apics[0].write(0x040, 4, 1)
    rig.apics[0].write(ESR, 4, 0)
    assert rig.apics[0].read(ESR, 4) == 0xC0


def test_an_illegal_vector_in_the_error_entry_does_not_recur() -> None:
    rig = Rig()
    rig.apics[0].write(LVT_ERROR, 4, 0x05)
    rig.ipi(0x02)
    assert rig.take(0) is None
    rig.apics[0].write(ESR, 4, 0)
    assert rig.apics[0].read(ESR, 4) == 0x20


def test_a_level_interrupt_is_broadcast_at_its_end_an_edge_is_not() -> None:
    rig = Rig()
    apic = rig.apics[0]
    apic.receive(0, 0x61, True)
    apic.receive(0, 0x71, False)
    assert apic.read(TMR + 0x30, 4) == 1 << 1
    assert (rig.take(0), rig.take(0)) == (0x71, None)
    apic.write(EOI, 4, 0)
    assert rig.ended == []
    assert rig.take(0) == 0x61
    apic.write(EOI, 4, 0)
    assert rig.ended == [0x61]
    apic.write(EOI, 4, 0)  # nothing in service
    assert rig.ended == [0x61]


def test_lvt_entries_keep_their_bits_and_are_masked_while_software_disabled() -> None:
    apic = Rig().apics[0]
    for offset, kept in ((0x2F0, 0x1_07FF), (0x320, 0x7_00FF), (0x350, 0x1_A7FF), (0x370, 0x1_00FF)):
        apic.write(offset, 4, 0xFFFF_FFFF)
        assert apic.read(offset, 4) == kept
        apic.write(offset, 4, 0x40)
        assert apic.read(offset, 4) == 0x40
    apic.write(SVR, 4, 0xFF)
    assert apic.read(0x350, 4) == 0x1_0040
    apic.write(0x350, 4, 0x41)
    assert apic.read(0x350, 4) == 0x1_0041


def test_lint_pins_deliver_what_their_entry_says() -> None:
    rig = Rig()
    apic = rig.apics[0]
    levels = []
    apic.set_lint(0, True)
    levels.append(apic.extint)  # masked
    apic.write(LINT0, 4, 0x0700)
    levels.append(apic.extint)
    apic.set_lint(0, False)
    levels.append(apic.extint)
    assert levels == [False, True, False]
    apic.write(LINT1, 4, 0x0400)
    apic.set_lint(1, True)
    apic.set_lint(1, True)
    assert rig.events == [("nmi", 0, 0)]
    apic.write(LINT0, 4, 0x0048)
    apic.set_lint(0, True)
    assert rig.take(0) == 0x48


def test_a_level_lint_input_fires_again_at_eoi() -> None:
    rig = Rig()
    apic = rig.apics[0]
    apic.write(LINT0, 4, 0x8048)
    apic.set_lint(0, True)
    assert apic.read(LINT0, 4) == 0xC048
    assert rig.take(0) == 0x48
    apic.write(EOI, 4, 0)
    assert rig.take(0) == 0x48
    apic.set_lint(0, False)
    apic.write(EOI, 4, 0)
    assert rig.take(0) is None


def test_a_disabled_apic_passes_lint0_as_extint_and_lint1_as_nmi() -> None:
    rig = Rig()
    apic = rig.apics[0]
    assert apic.write_msr(BASE_MSR, 0xFEE0_0100)
    apic.set_lint(0, True)
    apic.set_lint(1, True)
    assert apic.extint
    assert rig.events == [("nmi", 0, 0)]
    rig.ipi(0x40, destination=0, sender=1)
    assert apic.pending_vector() is None


def test_virtual_wire_mode_of_the_bsp() -> None:
    apic = Rig().apics[0]
    apic.reset()
    apic.enter_virtual_wire()
    assert (apic.read(LINT0, 4), apic.read(LINT1, 4)) == (0x700, 0x400)
    apic.set_lint(0, True)
    assert apic.extint


def test_a_performance_counter_interrupt_masks_its_entry() -> None:
    rig = Rig()
    rig.apics[0].write(LVT_PERF, 4, 0x0400)
    rig.apics[0].fire_lvt(3)
    rig.apics[0].fire_lvt(3)
    assert rig.events == [("nmi", 0, 0)]
    assert rig.apics[0].read(LVT_PERF, 4) == 0x1_0400


@pytest.mark.parametrize("value", [0xFEE0_0500, 0xFEE0_0801, 0xFEE0_0A00, 0x100_FEE0_0800])
def test_apic_base_refuses_reserved_bits_and_x2apic_without_enable(value: int) -> None:
    apic = Rig().apics[0]
    assert not apic.write_msr(BASE_MSR, value)
    assert apic.read_msr(BASE_MSR) == 0xFEE0_0900


def test_mode_transitions_follow_the_state_diagram() -> None:
    apic = Rig().apics[0]
    assert apic.write_msr(BASE_MSR, 0xFEE0_0D00)
    pages = [apic.mmio_base]
    assert not apic.write_msr(BASE_MSR, 0xFEE0_0900)  # x2APIC to xAPIC
    assert apic.write_msr(BASE_MSR, 0xFEE0_0100)
    assert not apic.write_msr(BASE_MSR, 0xFEE0_0D00)  # disabled to x2APIC
    assert apic.write_msr(BASE_MSR, 0xFEF0_0900)
    pages.append(apic.mmio_base)
    assert pages == [None, 0xFEF0_0000]
    assert apic.read(SVR, 4) == 0xFF


class X2Rig(Rig):
    def __init__(self, cpus: int = 2) -> None:
        super().__init__(cpus)
        for apic in self.apics:
            base = apic.read_msr(BASE_MSR)
            assert base is not None
            assert apic.write_msr(BASE_MSR, base | 0x400)


def test_x2apic_registers() -> None:
    apic = X2Rig(2).apics[1]
    assert apic.read_msr(0x802) == 1
    assert apic.read_msr(0x80D) == 2
    assert apic.read_msr(0x80F) == 0x1FF
    assert apic.write_msr(0x808, 0x20)
    assert apic.read_msr(0x80A) == 0x20
    assert apic.write_msr(0x832, 0x4_0040)
    assert apic.read_msr(0x832) == 0x4_0040


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0x802, 0),
        (0x803, 0),
        (0x808, 0x100),
        (0x80A, 0),
        (0x80B, 1),
        (0x80D, 0),
        (0x80E, 0),
        (0x80F, 0x200),
        (0x810, 0),
        (0x828, 1),
        (0x830, 1 << 12),
        (0x831, 0),
        (0x832, 1 << 19),
        (0x835, 1 << 11),
        (0x838, 1 << 32),
        (0x839, 0),
        (0x83E, 4),
        (0x83F, 0x100),
        (0x8FF, 0),
    ],
)
def test_x2apic_writes_that_fault(index: int, value: int) -> None:
    assert not X2Rig().apics[0].write_msr(index, value)


@pytest.mark.parametrize("index", [0x80B, 0x80E, 0x831, 0x83F, 0x800, 0x8FF])
def test_x2apic_reads_that_fault(index: int) -> None:
    assert X2Rig().apics[0].read_msr(index) is None


def test_x2apic_msrs_fault_in_xapic_mode() -> None:
    apic = Rig().apics[0]
    assert apic.read_msr(0x802) is None
    assert not apic.write_msr(0x808, 0)


def test_x2apic_ipis_in_one_write_and_self_ipi() -> None:
    rig = X2Rig(2)
    assert rig.apics[0].write_msr(0x830, 1 << 32 | 0x40)
    assert rig.apics[0].read_msr(0x830) == 1 << 32 | 0x40
    assert rig.take(1) == 0x40
    assert rig.apics[1].write_msr(0x80B, 0)
    assert rig.apics[0].write_msr(0x83F, 0x50)
    assert rig.take(0) == 0x50
    assert rig.apics[0].write_msr(0x830, 0xFFFF_FFFF_0000_0041)
    assert rig.take(1) == 0x41


def test_x2apic_logical_destination_is_cluster_and_member() -> None:
    rig = X2Rig(16)
    rig.apics[0].write_msr(0x830, 0x8004 << 32 | 0x0840)
    assert [cpu for cpu in range(16) if rig.take(cpu)] == [2, 15]
    rig.apics[0].write_msr(0x830, 0x1_0004 << 32 | 0x0840)
    assert [cpu for cpu in range(16) if rig.take(cpu)] == []


def test_device_messages_reach_x2apic_cpus_by_eight_bit_destination() -> None:
    rig = X2Rig(2)
    rig.bus.msi(0xFEE0_1000, 0x44)
    assert (rig.take(0), rig.take(1)) == (None, 0x44)


def test_narrow_reads_give_bytes_and_narrow_writes_nothing() -> None:
    apic = Rig().apics[1]
    assert apic.read(ID + 3, 1) == 1
    apic.write(TPR, 1, 0x20)
    apic.write(TPR + 4, 4, 0x20)
    assert apic.read(TPR, 4) == 0
    assert apic.read(TPR + 4, 4) == 0


def test_changes_of_what_can_be_delivered_are_announced() -> None:
    rig = Rig()
    rig.changes.clear()
    rig.ipi(0x40, destination=1)
    assert 1 in rig.changes
    rig.changes.clear()
    rig.apics[1].set_tpr(0)
    assert rig.changes == []
    rig.apics[1].set_tpr(0x10)
    assert rig.changes == [1]


def test_a_restored_apic_goes_on_where_the_saved_one_was() -> None:
    first, second = Rig(), Rig()
    apic = first.apics[0]
    apic.write(LINT0, 4, 0x8048)
    apic.set_lint(0, True)
    apic.receive(0, 0x61, True)
    first.take(0)
    second.changes.clear()
    second.apics[0].load(apic.save())
    assert (second.changes, second.events, second.ended) == ([], [], [])
    assert second.apics[0].save() == apic.save()
    second.apics[0].write(EOI, 4, 0)
    assert second.ended == [0x61]
    assert second.take(0) == 0x48
    assert second.apics[0].read(LINT0, 4) == 0xC048


def test_a_state_with_an_impossible_value_is_refused() -> None:
    apic = Rig().apics[0]
    changes: list[dict[str, Value]] = [{"irr": -1}, {"lvt": [0]}, {"tpr": 256}, {"timer": 3}]
    for change in changes:
        with pytest.raises(SnapshotError):
            apic.load(apic.save() | change)


def test_msr_numbers_that_belong_to_the_apic() -> None:
    assert [index for index in (0x1A, 0x1B, 0x6E0, 0x7FF, 0x800, 0x8FF, 0x900) if owns_msr(index)] == [
        0x1B,
        0x6E0,
        0x800,
        0x8FF,
    ]
