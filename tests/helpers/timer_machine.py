"""The software core in long mode on the fake board: real instructions under a timer that a test chooses.

The program tries every instruction that is awkward to step: those that change or save RFLAGS, shadow
interrupts, change privilege, raise events by themselves, fault, repeat and halt. Port 0x41 starts a periodic
timer interrupt (vector 0x20), port 0x40 a single one; see `tests.helpers.fake_board`.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hv.engines.base import CpuModel, EngineCpu
from hv.engines.soft import SoftEngine
from hv.exits import WriteOrigin
from hv.inputlog import Recorder, Replay, make_header
from hv.memory import GuestMemory
from hv.signals import Signals
from hv.vm import Parts, Vm
from tests.helpers.fake_board import FakeBoard

CODE = 0x10000
COUNTER = 0x20000
HANDLERS = 0x9000  # 16 bytes each
STACK = 0x30000
HEADER = make_header({"test": "timer"}, {})
_RAM = 1 << 20

AWKWARD = """
        mov     $3, %r12
1:      sti
        nop
        cli
        pushf
        pop     %rax
        push    %rax
        popf
        mov     %ss, %ax
        mov     %ax, %ss
        nop
        sti
        int     $0x80
        int3
        .byte   0xcd, 3
        .byte   0xf1
        mov     $0x20100, %esi
        mov     $0x20200, %edi
        mov     $40, %ecx
        rep movsb
        ud2
        mov     $0x7fff0000, %ebx
        mov     (%rbx), %al
        mov     $user, %ecx
        pushf
        pop     %r11
        sysretq
user:   lea     1(%rax), %rax
        syscall
entry:  mov     $0x30000, %esp
        push    $0x10
        push    %rsp
        pushf
        push    $8
        push    $2f
        iretq
2:      mov     $20, %al
        out     %al, $0x40
        sti
        hlt
        dec     %r12
        jnz     1b
end:    jmp     end
"""
PERIODIC = "        mov     $7, %al\n        out     %al, $0x41\n"


@cache
def assemble(source: str) -> bytes:
    """64-bit code at `CODE`."""
    with tempfile.TemporaryDirectory() as folder:
        asm, obj, image = (Path(folder) / name for name in ("a.S", "a.o", "a.bin"))
        asm.write_text(f".code64\n.globl _start\n_start:\n{source}\n")
        subprocess.run(["gcc", "-c", "-o", str(obj), str(asm)], check=True)
        linked = Path(folder) / "a.elf"
        command = ["ld", "-N", "--no-warn-rwx-segments", "-Ttext", hex(CODE), "-o", str(linked), str(obj)]
        subprocess.run(command, check=True)
        subprocess.run(["objcopy", "-O", "binary", str(linked), str(image)], check=True)
        return image.read_bytes()


_IRETQ = b"\x48\xcf"
_HANDLERS = {
    6: b"\x48\x83\x04\x24\x02" + _IRETQ,  # #UD: add $2, (%rsp)
    13: b"\x48\x83\xc4\x08\x48\x83\x04\x24\x02" + _IRETQ,  # #GP: as #PF
    14: b"\x48\x83\xc4\x08\x48\x83\x04\x24\x02" + _IRETQ,  # #PF: drop the error code, likewise
    0x20: b"\x48\xff\x04\x25" + struct.pack("<I", COUNTER) + _IRETQ,  # incq counter
}


def _tables(memory: GuestMemory) -> None:
    """Page tables, GDT, TSS and IDT."""

    def put(gpa: int, data: bytes) -> None:
        memory.write(gpa, data, WriteOrigin.LOADER)

    put(0x1000, struct.pack("<Q", 0x2007))
    put(0x2000, struct.pack("<Q", 0x3007))
    put(0x3000, struct.pack("<Q", 0x87))  # 2 MiB from 0, for everybody
    code, data = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    user = 3 << 45
    tss = 0x67 | 0x5000 << 16 | 0x8B << 40
    code32 = 0x00CF9B000000FFFF
    put(0x4000, struct.pack("<8Q", 0, code, data, code32, data | user, code | user, tss, 0))
    put(0x5000, struct.pack("<IQ", 0, STACK - 0x1000).ljust(0x68, b"\0"))
    for vector in range(256):
        target = HANDLERS + 16 * vector
        gate = (target & 0xFFFF) | 8 << 16 | 0xEE00 << 32 | (target >> 16) << 48
        put(0x6000 + 16 * vector, struct.pack("<QQ", gate, 0))
        put(target, _HANDLERS.get(vector, _IRETQ))


_STATE = {
    "cr4": 0x620, "cr3": 0x1000, "efer": 0xD01, "cr0": 0x80050033, "rip": CODE, "rsp": STACK, "eflags": 2,
    "cs": 8, "cs_base": 0, "cs_limit": 0xFFFFFFFF, "cs_attr": 0xA09B,
    "ss": 0x10, "ss_base": 0, "ss_limit": 0xFFFFFFFF, "ss_attr": 0xC093,
    "ds": 0x10, "ds_base": 0, "ds_limit": 0xFFFFFFFF, "ds_attr": 0xC093,
    "gdtr_base": 0x4000, "gdtr_limit": 63, "idtr_base": 0x6000, "idtr_limit": 4095,
    "tr": 0x30, "tr_base": 0x5000, "tr_limit": 0x67, "tr_attr": 0x8B,
}  # fmt: skip


def _boot(code: bytes, memory: GuestMemory, cpu: EngineCpu) -> Callable[[Vm], None]:
    def boot(vm: Vm) -> None:
        _tables(memory)
        memory.write(CODE, code, WriteOrigin.LOADER)
        for name, value in _STATE.items():
            vm.vcpus[0].set(name, value)
        entry = CODE + _syscall_entry(code)
        for msr, value in ((0xC0000081, 0x18 << 48 | 8 << 32), (0xC0000082, entry), (0xC0000084, 0)):
            assert cpu.write_msr(msr, value)

    return boot


def _syscall_entry(code: bytes) -> int:
    """Where SYSCALL goes: behind the first one in `code`."""
    return code.find(b"\x0f\x05") + 2


def timer_machine(
    source: str,
    *,
    ips: int = 1_000_000_000,
    record: Path | None = None,
    replay: Path | None = None,
) -> tuple[Vm, FakeBoard]:
    """A machine before the first instruction of `source`."""
    signals = Signals()
    board = FakeBoard(1, signals, ips)
    engine = SoftEngine()
    memory = GuestMemory(engine, _RAM)
    cpu = engine.add_cpu(0, 1, CpuModel.V2, ips, 0)
    vm = Vm(
        Parts(engine, [cpu], board, signals, memory, _boot(assemble(source), memory, cpu)),
        {"test": "timer"},
        recorder=Recorder(str(record), HEADER) if record else None,
        replay=Replay.read(str(replay)) if replay else None,
    )
    return vm, board


def counter(vm: Vm) -> int:
    """How often the timer's handler has run."""
    data = vm.memory.read(COUNTER, 8)
    assert data is not None
    return int.from_bytes(data, "little")
