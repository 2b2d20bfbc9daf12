"""Stock gdb on the demo guest: registers, memory, code, watchpoints, backtraces, `monitor`."""

import re

import pytest

from tests.e2e.conftest import Debug
from tests.e2e.gdb_driver import Gdb, GdbError
from tests.e2e.machine import DEMO_PROMPT, Machine, demo_command

DEMAND_BASE = 0x80_0000_0000
LONG_MODE_ACTIVE = 1 << 10
PAGING_AND_PROTECTION = 0x8000_0001


def to_prompt(machine: Machine, gdb: Gdb) -> None:
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    gdb.interrupt()


def test_registers_of_all_groups(debug: Debug) -> None:
    _, gdb = debug()
    gdb("hbreak kmain")
    gdb.go("continue")
    shown = dict(re.findall(r"^(\w+) +(\S+)", gdb("info registers"), re.MULTILINE))
    general = {"rax", "rbx", "rsp", "r8", "r15", "rip", "eflags"}
    segments = {"cs", "ss", "ds", "es", "fs", "gs", "fs_base", "gs_base", "k_gs_base"}
    control = {"cr0", "cr2", "cr3", "cr4", "cr8", "efer", "xcr0", "dr0", "dr6", "dr7"}
    tables = {"gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit", "ldtr", "tr", "tr_base"}
    hidden = {"cs_base", "cs_limit", "cs_attr", "ss_limit", "ss_attr", "gs_limit", "gs_attr"}
    msrs = {"apic_base", "star", "lstar", "cstar", "fmask", "sysenter_eip", "pat", "tsc", "tsc_aux"}
    own = {"cpl", "mode", "ticks", "retired", "linear_pc"}
    assert general | segments | control | tables | hidden | msrs | own <= shown.keys()
    assert int(shown["rip"], 16) == gdb.value("$pc")
    assert int(shown["cr0"], 16) & PAGING_AND_PROTECTION == PAGING_AND_PROTECTION
    assert int(shown["efer"], 16) & LONG_MODE_ACTIVE
    assert int(shown["cs"], 16) == 8  # hv/guests/demo/layout.h, SEL_CODE64
    assert int(shown["cr3"], 16) == gdb.value("&pml4")
    everything = gdb("info all-registers")
    for name in ("st0", "st7", "fctrl", "xmm0", "xmm15", "mxcsr"):
        assert re.search(rf"^{name} ", everything, re.MULTILINE), name
    assert "R7:" in gdb("info float")
    assert "xmm3" in gdb("info vector")


def test_code_is_disassembled_at_the_program_counter(debug: Debug) -> None:
    _, gdb = debug()
    gdb("hbreak fib")
    gdb.go("continue")
    lines = gdb("x/8i $pc").splitlines()
    assert len(lines) == 8
    assert lines[0].startswith(f"=> {gdb.value('$pc'):#x} <fib")
    assert "(bad)" not in " ".join(lines)
    # What is in memory is what the file says: no breakpoint shows in it.
    assert gdb("compare-sections .text").count("matched") == 1


def test_guest_acts_on_a_register_that_was_written(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    to_prompt(machine, gdb)
    gdb("break shell_execute")
    gdb.begin("continue")
    machine.type("fib 10\r")
    gdb.wait()
    assert gdb('printf "%s", line') == "fib 10"
    gdb("delete")
    gdb("break fib")
    assert gdb.go("continue").function == "fib"
    assert gdb.value("$rdi") == 10
    gdb("set var $rdi = 7")
    gdb("delete")
    gdb.begin("continue")
    assert machine.expect(f"fib 10\r\n(.*?)\r\n{DEMO_PROMPT}")[1] == "13"


def test_guest_acts_on_memory_that_was_written(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    to_prompt(machine, gdb)
    gdb("set var *(unsigned long *) 0x80000 = 0x1122334455667788")
    gdb("print shared_counter = 5000000")
    gdb.begin("continue")
    assert demo_command(machine, "peek 0x80000") == "0x1122334455667788\r\n"
    counter = re.search(r"shared counter (\d+)", demo_command(machine, "ticks"))
    assert counter is not None
    assert int(counter[1]) >= 5_000_000


def test_guest_runs_code_that_was_written_over_code_it_has_run(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)
    assert demo_command(machine, "fib 20") == "6765\r\n"
    gdb.interrupt()
    # lea rax,[rdi+rdi]; ret
    gdb("set var *(unsigned char (*)[5]) fib = {0x48, 0x8d, 0x04, 0x3f, 0xc3}")
    assert "lea    (%rdi,%rdi,1),%rax" in gdb("x/i fib")
    gdb.begin("continue")
    assert demo_command(machine, "fib 20") == "40\r\n"


def test_a_function_of_the_guest_is_called(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    gdb("break step_fib")
    gdb.go("continue")
    before = gdb("info registers rip rsp rdi rbx eflags")
    assert gdb("output fib(12)") == "144"
    assert gdb("info registers rip rsp rdi rbx eflags") == before
    gdb("delete")
    gdb.begin("continue")
    machine.expect(DEMO_PROMPT)


def test_what_cannot_be_read_is_said_and_leaves_everything_alone(debug: Debug) -> None:
    _, gdb = debug("-c", "1")
    gdb("hbreak kmain")
    gdb.go("continue")
    for address in (DEMAND_BASE, 0xFFFF_8000_0000_0000, 0x8000_0000_0000_0000):
        with pytest.raises(GdbError, match="Cannot access memory"):
            gdb(f"x/xg {address:#x}")
    with pytest.raises(GdbError, match="Cannot access memory"):
        gdb("x/xw 0xfec00010")  # the I/O APIC: a device, never touched
    assert gdb.value("$cr2") == 0
    with pytest.raises(GdbError, match=r"annot access|E14"):
        gdb(f"set var *(long *) {DEMAND_BASE:#x} = 1")


def test_watchpoints_report_writes_and_reads_with_values(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    to_prompt(machine, gdb)
    gdb("watch shared_counter")
    stop = gdb.go("continue")
    assert (stop.reason, stop.function) == ("watchpoint-trigger", "step_count")
    assert int(stop.fields["value"]["new"]) == int(stop.fields["value"]["old"]) + 1
    gdb("delete")
    gdb("rwatch workers_busy")
    gdb("awatch run_queue")
    stop = gdb.go("continue")
    assert (stop.reason, stop.function) == ("access-watchpoint-trigger", "pick_task")


def test_more_watchpoints_than_a_processor_has_registers(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    to_prompt(machine, gdb)
    for number in range(8):
        gdb(f"watch nodes[{number}]")
    gdb("watch cpus")
    gdb("watch shared_counter")
    stop = gdb.go("continue")
    assert stop.reason == "watchpoint-trigger"
    gdb("watch -l tasks[3].runs")
    assert gdb.go("continue").reason == "watchpoint-trigger"


def test_rwatch_sees_a_read(debug: Debug) -> None:
    machine, gdb = debug("-c", "1")
    to_prompt(machine, gdb)
    gdb("rwatch nodes[5].value")
    stop = gdb.go("continue")
    assert (stop.reason, stop.function) == ("read-watchpoint-trigger", "list_sum")
    assert stop.fields["value"]["value"] == "6"


def test_backtrace_goes_through_an_exception_into_what_it_interrupted(debug: Debug) -> None:
    _, gdb = debug()
    gdb("break page_fault")
    gdb.go("continue")
    frames = re.findall(r"^#(\d+) .*?(\w+) \(", gdb("backtrace"), re.MULTILINE)
    names = [name for _, name in frames]
    assert names[:2] == ["page_fault", "exception"]
    assert "step_touch" in names
    assert names[-1] in {"bsp_entry64", "ap_entry64", "kmain", "worker", "ap_main"}
    assert gdb.value("address") == gdb.value("$cr2")
    gdb("frame function step_touch")
    assert "task.c" in gdb("info source")


def test_finish_until_and_next_work_on_lines(debug: Debug) -> None:
    _, gdb = debug()
    gdb("break step_list")
    gdb.go("continue")
    stop = gdb.go("finish")
    assert stop.function == "run_task"
    assert int(stop.fields["return-value"]) == sum(range(1, 33))
    first = int(stop.fields["frame"]["line"])
    stop = gdb.go("next")
    assert stop.function == "run_task"
    assert int(stop.fields["frame"]["line"]) > first


def test_conditions_and_ignore_counts(debug: Debug) -> None:
    _, gdb = debug("-c", "1")
    gdb("break fib if n == 3")
    gdb.go("continue")
    assert gdb.value("$rdi") == 3
    gdb("delete")
    gdb("tbreak worker_step")
    gdb.go("continue")
    gdb("break run_task")
    gdb("ignore $bpnum 4")
    gdb.go("continue")
    assert "already hit 5 times" in gdb("info breakpoints")


def test_monitor_commands(debug: Debug) -> None:
    _, gdb = debug("-c", "2")
    gdb("hbreak kmain")
    gdb.go("continue")
    assert {"help", "info", "reset", "quit"} <= {line.split()[0] for line in gdb("monitor help").splitlines()}
    text = gdb("monitor info registers")
    assert f"RIP={gdb.value('$pc'):016x}" in text
    assert f"CR3={gdb.value('$cr3'):016x}" in text
    assert "try `monitor help`" in gdb("monitor frobnicate")
    for what in ("lapic", "pic", "ioapic", "exits", "stats", "cpus", "time"):
        assert gdb(f"monitor info {what}").strip(), what


def test_monitor_reset_starts_again_and_breakpoints_stay(debug: Debug) -> None:
    machine, gdb = debug("-c", "2")
    gdb("hbreak kmain")
    gdb.go("continue")
    gdb("set var shared_counter = 77")
    gdb("monitor reset")
    gdb("maintenance flush register-cache")
    assert gdb.value("$pc") == gdb.value("&pvh_entry")
    assert gdb.value("$cr0") & PAGING_AND_PROTECTION == 1  # as PVH enters: protected, not paged
    assert gdb.go("continue").function == "kmain"
    assert gdb.value("shared_counter") == 0
    gdb("delete")
    gdb.begin("continue")
    machine.expect(f"hv demo guest.*{DEMO_PROMPT}")


def test_monitor_quit_ends_the_machine_with_status_0(debug: Debug) -> None:
    machine, gdb = debug()
    gdb("hbreak kmain")
    gdb.go("continue")
    gdb.begin("monitor quit")
    assert machine.wait() == 0
