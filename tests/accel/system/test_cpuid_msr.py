"""CPUID as a guest executes it, and the MSRs that the core owns."""

from __future__ import annotations

import pytest

from accel import ffi, lib
from tests.accel.system.rom import ROM_SIZE, Machine

OK, EINVAL, ENOENT = 0, 1, 5
V1, V2, V3, MAX = range(4)
GHZ = 10**9
CODE = 0x7000


def machine(model: int = V2) -> Machine:
    return Machine(bytes(ROM_SIZE), model)


def cpu_of(count: int, index: int, tsc_hz: int) -> tuple[object, object]:
    """A CPU of a machine without memory at its reset vector; keep both alive."""
    out, cpu = ffi.new("accel_machine **"), ffi.new("accel_cpu **")
    assert lib.accel_machine_new(out) == OK
    owner = ffi.gc(out[0], lib.accel_machine_free)
    assert lib.accel_slot_add(owner, 0, 0x10000, 0) == OK
    assert lib.accel_cpu_new(owner, index, count, V2, tsc_hz, 0, cpu) == OK
    return owner, cpu[0]


def cpuid(m: Machine, leaf: int, sub: int = 0) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of one CPUID, executed in real mode."""
    m.write(CODE, b"\x0f\xa2")
    for name, value in {"cs": CODE >> 4, "rip": 0, "rax": leaf, "rcx": sub}.items():
        assert m.set(name, value) == OK
    m.run(m.get("ticks") + 1)
    assert m.get("rip") == 2
    return m.get("rax"), m.get("rbx"), m.get("rcx"), m.get("rdx")


def with_cpu(count: int, index: int, tsc_hz: int) -> Machine:
    m = machine()
    m.machine, m.cpu = cpu_of(count, index, tsc_hz)
    lib.accel_cpu_control(m.cpu).activity = lib.ACCEL_ACTIVE
    return m


def text(*registers: int) -> bytes:
    return b"".join(r.to_bytes(4, "little") for r in registers)


def test_vendor_and_hypervisor_are_named() -> None:
    m = machine()
    highest, b, c, d = cpuid(m, 0)
    assert (highest, text(b, d, c)) == (0x16, b"GenuineIntel")
    highest, b, c, d = cpuid(m, 0x40000000)
    assert (highest, text(b, c, d)) == (0x40000000, b"hv-accel-cpu")
    brand = b"".join(text(*cpuid(m, leaf)) for leaf in (0x80000002, 0x80000003, 0x80000004))
    assert brand.rstrip(b"\0") == b"hv software x86-64 CPU"


def test_signature_is_family_6_model_36h() -> None:
    eax = cpuid(machine(), 1)[0]
    family, model = eax >> 8 & 15, (eax >> 4 & 15) | (eax >> 12 & 0xF0)
    assert (family, model) == (6, 0x36)


@pytest.mark.parametrize("tsc_hz", [GHZ, 2 * GHZ, 2_500_000_000, 300_000_000, 3_333_000_000])
def test_leaf_15h_gives_the_tsc_frequency_exactly(tsc_hz: int) -> None:
    eax, ebx, ecx, _ = cpuid(with_cpu(1, 0, tsc_hz), 0x15)
    assert ecx == GHZ  # the crystal is also the clock of the APIC timer
    assert ecx * ebx == tsc_hz * eax
    assert (ecx // 1000) * ebx < 1 << 32  # Linux computes in 32 bits


def test_a_ratio_that_guests_cannot_compute_is_not_announced() -> None:
    assert cpuid(with_cpu(1, 0, 2_345_678_901), 0x15) == (0, 0, 0, 0)


def test_topology_is_one_thread_per_core() -> None:
    m = with_cpu(6, 5, GHZ)
    assert cpuid(m, 0xB, 0) == (0, 1, 0x100, 5)
    assert cpuid(m, 0xB, 1) == (3, 6, 0x201, 5)
    assert cpuid(m, 0xB, 2) == (0, 0, 2, 5)
    ebx = cpuid(m, 1)[1]
    assert (ebx >> 24, ebx >> 16 & 0xFF) == (5, 8)
    assert cpuid(m, 1)[3] >> 28 & 1  # HTT
    assert not cpuid(with_cpu(1, 0, GHZ), 1)[3] >> 28 & 1


def test_dynamic_bits_follow_cr4_and_apic_base() -> None:
    m = machine()
    assert cpuid(m, 1)[3] >> 9 & 1
    assert m.set("apic_base", 0xFEE00100) == OK
    assert not cpuid(m, 1)[3] >> 9 & 1
    assert not cpuid(m, 1)[2] >> 27 & 1
    assert m.set("cr4", 1 << 18) == OK
    assert cpuid(m, 1)[2] >> 27 & 1  # OSXSAVE


# The psABI's levels: CPUID.1:ECX bits 9 SSSE3, 13 CX16, 19 SSE4.1, 20 SSE4.2, 23 POPCNT; 28 AVX.
LEVEL_2 = 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23


def test_models_announce_their_level() -> None:
    assert cpuid(machine(V1), 1)[2] & LEVEL_2 == 0
    assert cpuid(machine(V2), 1)[2] & LEVEL_2 == LEVEL_2
    assert not cpuid(machine(V2), 1)[2] >> 28 & 1
    assert cpuid(machine(V2), 1)[3] & 0x07808111 == 0x07808111  # FPU TSC CX8 CMOV MMX FXSR SSE SSE2
    assert not cpuid(machine(V2), 7)[1] & (1 << 20 | 1 << 7)  # SMAP, SMEP


def test_leaves_beyond_the_last_answer_like_the_last() -> None:
    m = machine()
    assert cpuid(m, 0x17) == cpuid(m, 0x8FFFFFFF) == cpuid(m, 0x16)
    assert cpuid(m, 0x40000001) == (0, 0, 0, 0)


def test_physical_addresses_have_48_bits() -> None:
    assert cpuid(machine(), 0x80000008)[0] == 48 | 48 << 8


def get(m: Machine, msr: int) -> int | None:
    value = ffi.new("uint64_t *")
    return value[0] if lib.accel_msr_get(m.cpu, msr, value) == OK else None


def test_msrs_hold_what_they_accept() -> None:
    m = machine()
    values = {0xC0000081: 1 << 63, 0xC0000082: 0xFFFF800000001234, 0x174: 0x10, 0xC0000102: 5}
    for msr, value in values.items():
        assert lib.accel_msr_set(m.cpu, msr, value) == OK
        assert get(m, msr) == value


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        (0xC0000082, 1 << 47),  # LSTAR not canonical
        (0xC0000100, 1 << 63),
        (0x175, 1 << 47),
        (0x277, 3),  # PAT type 3
        (0xFE, 0),  # MTRRCAP is read-only
        (0x10A, 0),
        (0x2FF, 2),  # MTRR type 2
        (0x2FF, 1 << 8),
        (0x200, 0x100),
        (0x201, 0x400),
        (0x250, 2),
        (0x1A0, 0),  # BTS and PEBS stay unavailable
        (0x1D9, 4),
        (0xC0000080, 1 << 1),
    ],
)
def test_msrs_refuse_what_they_cannot_hold(msr: int, value: int) -> None:
    m = machine()
    before = get(m, msr)
    assert lib.accel_msr_set(m.cpu, msr, value) == EINVAL
    assert get(m, msr) == before


def test_msrs_of_the_monitor_and_unknown_ones_are_not_the_cores() -> None:
    m = machine()
    for msr in (0x1B, 0x6E0, 0x800, 0x8FF, 0xCE, 0x4B564D00):
        assert lib.accel_msr_set(m.cpu, msr, 0) == ENOENT
        assert get(m, msr) is None


def test_a_written_tsc_moves_tsc_adjust() -> None:
    m = machine()
    assert lib.accel_msr_set(m.cpu, 0x10, 1000) == OK
    assert get(m, 0x10) == 1000
    assert get(m, 0x3B) == 1000
    assert lib.accel_msr_set(m.cpu, 0x3B, 0) == OK
    assert get(m, 0x10) == 0


def test_arch_capabilities_say_that_no_mitigation_is_needed() -> None:
    m = machine()
    value = get(m, 0x10A)
    assert value is not None
    # RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO
    assert value & 0x179 == 0x179
    assert cpuid(m, 7)[3] >> 29 & 1


def test_mtrrs_have_eight_variable_ranges() -> None:
    m = machine()
    cap = get(m, 0xFE)
    assert cap is not None
    assert cap & 0xFF == 8
    bases = {msr: (msr << 12) | 6 for msr in range(0x200, 0x210, 2)}
    for msr, base in bases.items():
        assert lib.accel_msr_set(m.cpu, msr, base) == OK
        assert lib.accel_msr_set(m.cpu, msr + 1, 0xFFFF_F000_0800) == OK
    assert {msr: get(m, msr) for msr in bases} == bases
    assert get(m, 0x20F) == 0xFFFF_F000_0800
