"""`monitor catch`: stops on what the guest does, their sentences, and that the guest does not notice."""

import re
import struct

import pytest

from gdbstub.signals import Signal
from gdbstub.target import Continue, Exited, ResumePlan, Step, Stop, StopReason, ThreadAction
from hv.debug.catch import Catch, CatchSyntaxError, Kind, parse
from hv.debug.command import CommandContext
from hv.debug.commands import run_command
from hv.engines.soft import SoftEngine
from hv.exits import WriteOrigin
from hv.machines.bare import build_bare
from hv.vm import Vm
from tests.helpers.stepper import Stepper, run_to
from tests.helpers.timer_machine import AWKWARD, CODE, HANDLERS, PERIODIC, counter, timer_machine

CONTINUE = ResumePlan((ThreadAction(Continue()),))
STEP = ResumePlan((ThreadAction(Step(), 1),))

SYSTEM = """
        mov     %cr3, %rax
        mov     %rax, %cr3
        mov     $0xc0000081, %ecx
        rdmsr
        wrmsr
        mov     $0x12345, %ecx
        rdmsr
        in      $0x10, %al
        mov     $0x180000, %ebx
        mov     %al, (%rbx)
        push    $0x18
        push    $compat
        lretq
compat: .code32
        ljmp    $8, $long
        .code64
long:   inc     %r12
        jmp     _start
"""
CRASH = "        push $0\n        push $0\n        lidt (%rsp)\n        ud2\n"


def begin(steppers: list[Stepper], source: str, *catches: str) -> Stepper:
    stepper = Stepper(timer_machine(source)[0])
    steppers.append(stepper)
    for words in catches:
        stepper.control.catches.add(parse(words.split()))
    return stepper


def monitor(stepper: Stepper, line: str) -> str:
    said: list[str] = []
    run_command(CommandContext(stepper.control, 0, said.append), line)
    return "".join(said)


EVENTS = [
    (AWKWARD, "exception #PF", Signal.SIGSEGV, r"#PF at .*, cr2 0x7fff0000 \(supervisor read, not present"),
    (AWKWARD, "exception 6", Signal.SIGILL, "#UD at"),
    (AWKWARD, "exception ud", Signal.SIGILL, "#UD at"),
    (AWKWARD, "exception all", Signal.SIGTRAP, "#BP at"),
    (AWKWARD, "exception bp", Signal.SIGTRAP, "#BP at"),
    (AWKWARD, "exception db", Signal.SIGTRAP, r"#DB at .* \(ICEBP\)"),
    (AWKWARD, "int3", Signal.SIGTRAP, "the guest's own INT3 at"),
    (AWKWARD, "port 0x40", Signal.SIGTRAP, r"OUT of 0x14 to port 0x40 \(1 bytes, test\); next is"),
    (AWKWARD, "port 0x30-0x50 w", Signal.SIGTRAP, "OUT of 0x14 to port 0x40"),
    (SYSTEM, "cr3", Signal.SIGTRAP, "CR3 changes from 0x1000 to 0x1000; next is"),
    (SYSTEM, "cr3 0x1000", Signal.SIGTRAP, "CR3 changes"),
    (SYSTEM, "mode", Signal.SIGTRAP, "compatibility mode after 64-bit mode"),
    (SYSTEM, "msr 0xc0000081 r", Signal.SIGTRAP, "RDMSR 0xc0000081: 0x18000800000000"),
    (SYSTEM, "msr 0xc0000000-0xc00000ff w", Signal.SIGTRAP, "WRMSR 0xc0000081: 0x18000800000000"),
    (SYSTEM, "unknown-msr", Signal.SIGTRAP, "RDMSR of 0x12345, which does not exist: #GP"),
    (SYSTEM, "msr 0x12345", Signal.SIGTRAP, "RDMSR of 0x12345, which does not exist: #GP"),
    (SYSTEM, "exception gp", Signal.SIGSEGV, "#GP at .*, error 0x0"),
    (SYSTEM, "unknown-port r", Signal.SIGTRAP, "IN of 0xff from port 0x10 .1 bytes, no device"),
    (SYSTEM, "unknown-mmio", Signal.SIGTRAP, "write of 0xff to device memory 0x180000 .1 bytes, no device"),
    (SYSTEM, "mmio 0x180000-0x180fff", Signal.SIGTRAP, "write of 0xff to device memory 0x180000"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "words", "signal", "says"), EVENTS, ids=[row[1] for row in EVENTS])
def test_an_event_is_a_stop_with_a_sentence_and_the_guest_does_not_notice(
    steppers: list[Stepper], source: str, words: str, signal: Signal, says: str
) -> None:
    stepper = begin(steppers, source, words)
    first = stepper.stop(CONTINUE)
    assert (first.reason, first.thread, first.signal) == (StopReason.EVENT, 1, signal)
    assert re.search(says, first.text), first.text
    for _ in range(2):
        stop = stepper.stop(CONTINUE)
        assert stop.reason is StopReason.EVENT
        assert stop.text.startswith("vCPU 0: ")
    assert monitor(stepper, "catch delete all") == ""
    tick = stepper.vm.clock.now + 5_000
    alone, _ = timer_machine(source)
    # What was caught last is still to be delivered.
    assert stepper.step_then_run(tick) == run_to(alone, tick)
    alone.close()


@pytest.mark.parametrize("source", [AWKWARD, PERIODIC + AWKWARD, PERIODIC + SYSTEM])
def test_everything_caught_changes_nothing(steppers: list[Stepper], source: str) -> None:
    names = [kind.value for kind in Kind if kind not in (Kind.RESET, Kind.POWER_OFF)]
    stepper = begin(steppers, source, *names)
    stops = 0
    while stepper.vm.clock.now < 15_000:
        stepper.stop(STEP)
        stops += 1
    assert stops > 20
    assert monitor(stepper, "catch delete all") == ""
    tick = max(20_000, stepper.vm.clock.now + 5_000)
    alone, _ = timer_machine(source)
    assert stepper.step_then_run(tick) == run_to(alone, tick)
    alone.close()


def test_a_step_of_an_instruction_that_faults_shows_the_fault_then_the_handler(
    steppers: list[Stepper],
) -> None:
    stepper = begin(steppers, "        ud2\n1: jmp 1b\n", "exception ud")
    stop = stepper.stop(STEP)
    assert (stop.reason, stop.signal, stepper.rip) == (StopReason.EVENT, Signal.SIGILL, CODE)
    assert stepper.stop(STEP).reason is StopReason.STEP
    assert stepper.rip == HANDLERS + 16 * 6


def test_an_exception_is_dropped_when_the_debugger_moves_the_vcpu(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, "        ud2\n1: jmp 1b\n", "exception ud")
    stepper.stop(CONTINUE)
    stepper.control.write_registers(0, (("rip", (CODE + 2).to_bytes(8, "little")),))
    assert stepper.stop(STEP).reason is StopReason.STEP
    assert stepper.rip == CODE + 2


def test_a_step_over_an_msr_that_nobody_asked_for_is_one_step(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, SYSTEM, "msr 0x10")
    places = []
    for _ in range(6):
        assert stepper.stop(STEP).reason is StopReason.STEP
        places.append(stepper.rip - CODE)
    assert places == [3, 6, 11, 13, 15, 20]


def test_a_catch_with_log_keeps_lines_and_does_not_stop(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, AWKWARD, "exception all log", "port 0x40 log")
    assert stepper.start(CONTINUE) is None
    stepper.vm_reaches(8_000)
    stepper.control.interrupt()
    assert stepper.wait().reason is StopReason.INTERRUPT
    lines = monitor(stepper, "catch log").splitlines()
    caught = [["#BP"], ["#DB"], ["#UD"], ["#PF"], ["OUT"]]
    assert [re.findall("#[A-Z]+|OUT", line) for line in lines] == caught * 3
    alone, _ = timer_machine(AWKWARD)
    now = stepper.vm.clock.now
    assert run_to(alone, now) == run_to(stepper.vm, now)
    alone.close()


# --- the end -------------------------------------------------------------------------------------------


def test_a_triple_fault_tells_the_chain_and_the_last_branches(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, "        jmp 1f\n        nop\n1:      jmp 2f\n        nop\n2:\n" + CRASH)
    stop = stepper.stop(CONTINUE)
    assert stop.reason is StopReason.EVENT
    names = re.findall(r"(#\w+) at", stop.text)
    assert names == ["#UD", "#GP", "#GP", "#DF", "#GP"]
    assert stop.text.index(f"{CODE + 3:#x} -> {CODE + 6:#x}") < stop.text.index(f"{CODE:#x} -> {CODE + 3:#x}")
    assert stepper.vm.vcpus[0].get("idtr_limit") == 0
    assert stepper.vm.vcpus[0].state == "shut down"
    stepper.control.reset_machine()
    assert stepper.rip == CODE
    assert "triple fault" in stepper.stop(CONTINUE).text


def test_without_its_catch_a_triple_fault_ends_the_machine(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, CRASH)
    assert monitor(stepper, "catch delete 1") == ""
    assert stepper.start(CONTINUE) == Exited(3)


def test_a_reset_is_caught_before_it_happens(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, "        inc %rbx\n        out %al, $0xf5\n1: jmp 1b\n", "reset")
    for _ in range(2):
        stop = stepper.stop(CONTINUE)
        assert (stop.reason, stop.text) == (StopReason.EVENT, "vCPU 0: the guest resets the machine")
        assert (stepper.vm.vcpus[0].get("rbx"), stepper.rip) == (1, CODE + 5)


def test_power_off_without_its_catch_ends_the_machine(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, "        out %al, $0xf6\n")
    assert "powered off" in stepper.stop(CONTINUE).text
    stepper.control.reset_machine()
    assert monitor(stepper, "catch delete 3") == ""
    assert stepper.start(CONTINUE) == Exited(0)


# --- the command ---------------------------------------------------------------------------------------


def test_the_command_lists_adds_and_deletes(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, AWKWARD)
    default = "   1  triple-fault\n   2  unhandled\n   3  power-off\n"
    assert monitor(stepper, "catch") == default
    assert monitor(stepper, "catch exception #PF") == "catch 4\n"
    assert monitor(stepper, "catch exception 14") == "catch 4\n"
    assert monitor(stepper, "catch port 0x3f8-0x3ff r log") == "catch 5\n"
    assert monitor(stepper, "catch") == default + "   4  exception #PF\n   5  port 0x3f8-0x3ff r log\n"
    assert "there is no catch" in monitor(stepper, "catch delete 9")
    assert monitor(stepper, "catch delete 4") == ""
    assert monitor(stepper, "catch delete all") == ""
    assert monitor(stepper, "catch") == ""
    control = stepper.vm.vcpus[0].cpu.control
    assert (control.exception_exit, control.bpt_exit, control.catch_events) == (0, 0, 0)
    for kind in Kind:
        assert f"catch {kind.value}" in monitor(stepper, "catch help")


@pytest.mark.parametrize(
    "words",
    ["nothing", "exception 32", "exception #XX", "port 5-4", "port -1", "port 0x1g", "int3 7", "reset r",
     "cr3 0x1" + "0" * 16, "port " + "9" * 5000],
)  # fmt: skip
def test_what_cannot_be_caught_is_said(steppers: list[Stepper], words: str) -> None:
    with pytest.raises(CatchSyntaxError):
        parse(words.split())
    said = monitor(begin(steppers, AWKWARD), f"catch {words}")
    assert said.endswith("\n")
    assert not said.startswith("catch ")


def test_there_is_a_limit(steppers: list[Stepper]) -> None:
    catches = begin(steppers, AWKWARD).control.catches
    for port in range(253):
        catches.add(Catch(Kind.PORT, port, port))
    with pytest.raises(CatchSyntaxError, match="already"):
        catches.add(Catch(Kind.PORT, 253, 253))


def test_catches_survive_a_reset(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, AWKWARD, "exception #UD", "mode")
    for _ in range(2):
        assert "#UD" in stepper.stop(CONTINUE).text
        stepper.control.reset_machine()


def test_without_a_debugger_nothing_is_a_stop(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, AWKWARD + "", "exception all", "int3", "port all")
    stepper.control.debugged = False
    assert stepper.start(CONTINUE) is None
    stepper.vm_reaches(9_000)
    stepper.control.interrupt()
    stop = stepper.wait()
    assert (stop, counter(stepper.vm)) == (Stop(StopReason.INTERRUPT, 1), 3)


# --- the guest's own breakpoints -----------------------------------------------------------------------

# CC, a prefixed CC, and INT n with n = 3: length of each, and the return addresses that the handlers see.
OWN = (
    "        int3\n        .byte 0x66, 0xcc\n        .byte 0xcd, 3\n        .byte 0x66, 0xcd, 3\n1: jmp 1b\n"
)
BEHIND = [1, 3, 5, 8]


def test_the_guests_own_breakpoints_return_behind_themselves_in_long_mode(steppers: list[Stepper]) -> None:
    stepper = begin(steppers, OWN, "int3")
    for start, behind in zip([0, *BEHIND], BEHIND, strict=False):
        stop = stepper.stop(CONTINUE)
        assert stop.text == f"vCPU 0: the guest's own INT3 at {CODE + start:#x}"
        assert stepper.rip == CODE + start
        assert stepper.stop(STEP).reason is StopReason.STEP  # into the handler: not reported again
        assert stepper.rip == HANDLERS + 16 * 3
        stack = stepper.vm.vcpus[0].get("rsp")
        assert stepper.vm.memory.read(stack, 8) == (CODE + behind).to_bytes(8, "little")
    tick = stepper.vm.clock.now + 100
    alone, _ = timer_machine(OWN)
    assert run_to(stepper.vm, tick) == run_to(alone, tick)
    alone.close()


@pytest.mark.parametrize("mode", ["real", "protected"])
def test_the_guests_own_breakpoints_return_behind_themselves_in_16_and_32_bits(mode: str) -> None:
    states = []
    for catch in (True, False):
        vm = small_machine(mode)
        stepper = Stepper(vm)
        if catch:
            stepper.control.catches.add(parse(["int3"]))
            texts = [stepper.stop(CONTINUE).text for _ in range(3)]
            assert texts == [f"vCPU 0: the guest's own INT3 at {at:#x}" for at in (0x100, 0x101, 0x103)]
            stepper.stop(STEP)
        states.append(run_to(vm, 100))
        stepper.control.close()
        vm.close()
    assert states[0] == states[1]


# mov al, 7fh; add al, 1 (sets OF); into; icebp; int3; int 4; jump to itself
RAISING = "b07f 0401 ce f1 cc cd04 ebfe"


@pytest.mark.parametrize("mode", ["real", "protected"])
def test_exceptions_that_instructions_ask_for_are_caught_as_such(mode: str) -> None:
    states = []
    for catch in (True, False):
        vm = small_machine(mode, RAISING)
        stepper = Stepper(vm)
        if catch:
            stepper.control.catches.add(parse(["exception", "all"]))
            texts = [stepper.stop(CONTINUE).text for _ in range(3)]
            assert texts == ["vCPU 0: #OF at 0x104", "vCPU 0: #DB at 0x105 (ICEBP)", "vCPU 0: #BP at 0x106"]
            stepper.stop(STEP)
        states.append(run_to(vm, 100))
        assert vm.vcpus[0].get("rip") == 0x109
        stepper.control.close()
        vm.close()
    assert states[0] == states[1]


def small_machine(mode: str, code: str = "cc cd03 cc ebfe") -> Vm:
    """`code`, which ends in a jump to itself, at CS:100; the handlers of vectors 1, 3 and 4 return."""

    def boot(vm: Vm) -> None:
        cpu = vm.vcpus[0]
        for name in ("cs", "ss", "ds", "es"):
            cpu.set(name, 0x1000)
            cpu.set(f"{name}_base", 0x10000)
        cpu.set("rip", 0x100)
        cpu.set("rsp", 0x8000)
        vm.memory.write(0x10100, bytes.fromhex(code), WriteOrigin.LOADER)
        vm.memory.write(0x900, b"\xcf", WriteOrigin.LOADER)  # IRET
        if mode == "real":
            for vector in (1, 3, 4):
                vm.memory.write(4 * vector, (0x900).to_bytes(4, "little"), WriteOrigin.LOADER)
            return
        # GDT: flat code and data, code at 0x10000; interrupt gates.
        gdt = [0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0, 0x00CF9B010000FFFF]
        vm.memory.write(0x4000, struct.pack("<5Q", *gdt), WriteOrigin.LOADER)
        gate = 0x900 | 8 << 16 | 0xEE00 << 32
        for vector in (1, 3, 4):
            vm.memory.write(0x6000 + 8 * vector, struct.pack("<Q", gate), WriteOrigin.LOADER)
        state = {"cr0": 0x11, "gdtr_base": 0x4000, "gdtr_limit": 39, "idtr_base": 0x6000, "idtr_limit": 2047,
                 "cs": 0x20, "cs_base": 0x10000, "cs_limit": 0xFFFFFFFF, "cs_attr": 0xC09B, "ss": 0x10,
                 "ss_base": 0, "ss_limit": 0xFFFFFFFF, "ss_attr": 0xC093}  # fmt: skip
        for name, value in state.items():
            cpu.set(name, value)

    return build_bare(SoftEngine(), boot=boot)
