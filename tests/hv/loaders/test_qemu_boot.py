"""Our images and tables on a machine that nobody here wrote: QEMU, entered by a few bytes of ours.

QEMU's own firmware is overwritten where our tables lie. What replaces it brings the CPU from reset
into the `BootState` and jumps; the guest sees nothing but what the loaders and the tables gave it.
"""

import subprocess
from pathlib import Path

from hv.firmware.tables import firmware_chunks
from hv.loaders import BootImage, BootMode, load_image
from tests.helpers import assets
from tests.helpers.console import Console, qemu_command
from tests.hv.loaders.images import MIB

RAM = 512 * MIB
ENTRY_CODE_GPA = 0xF8000  # F000:8000, behind the MP table
RESET_GPA = 0xFFFF0  # the reset vector's alias below 1 MiB

ENTER = """
.code16
    cli
    lgdtl %cs:(gdtr + 0x8000)
    movl $CR4, %eax; movl %eax, %cr4
    movl $CR3, %eax; movl %eax, %cr3
    movl $0xc0000080, %ecx; xorl %edx, %edx; movl $EFER, %eax; wrmsr
    movl $CR0, %eax; movl %eax, %cr0
    ljmpl $0x10, $(0xf8000 + flat)
gdtr:
    .word GDT_LIMIT
    .long GDT_BASE
.code32
flat:
    movl $0x18, %eax
    movl %eax, %ds; movl %eax, %es; movl %eax, %ss; movl %eax, %fs; movl %eax, %gs
    movl $RAX, %eax; movl $RBX, %ebx; movl $RSI, %esi; movl $RSP, %esp
    movl $ENTRY, %edx
    jmp *%edx
"""


def entry_code(image: BootImage, directory: Path) -> bytes:
    state = image.state
    if state.mode is BootMode.REAL:
        return b"\xea" + image.entry.to_bytes(2, "little") + b"\0\0"
    values = {
        "CR0": state.cr0, "CR3": state.cr3, "CR4": state.cr4, "EFER": state.efer,
        "GDT_LIMIT": state.gdtr.limit, "GDT_BASE": state.gdtr.base, "ENTRY": image.entry,
        "RAX": state.rax, "RBX": state.rbx, "RSI": state.rsi, "RSP": state.rsp,
    }  # fmt: skip
    symbols = [f"--defsym={name}={value}" for name, value in values.items()]
    source, linked, binary = (str(directory / name) for name in ("enter.S", "enter.elf", "enter.bin"))
    Path(source).write_text(ENTER)
    for command in (
        ["as", "--32", *symbols, "-o", linked + ".o", source],
        ["ld", "-m", "elf_i386", "-Ttext=0", "-e", "0", "-o", linked, linked + ".o"],
        ["objcopy", "-O", "binary", "-j", ".text", linked, binary],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return Path(binary).read_bytes()


def boot(image: BootImage, directory: Path, cpus: int) -> Console:
    chunks = [
        *firmware_chunks(cpus),
        *image.chunks,
        (ENTRY_CODE_GPA, entry_code(image, directory)),
        (RESET_GPA, b"\xea\x00\x80\x00\xf0"),  # ljmp F000:8000
    ]
    arguments = ["-M", "pc", "-cpu", "qemu64", "-nic", "none"]
    for index, (gpa, content) in enumerate(chunks):
        path = directory / f"chunk{index}"
        path.write_bytes(content)
        arguments += ["-device", f"loader,file={path},addr={gpa:#x},force-raw=on"]
    return Console(qemu_command(*arguments, cpus=cpus, memory=f"{RAM // MIB}M"))


def test_debian_kernel_boots_and_takes_its_hardware_from_our_tables(
    linux_kernel: Path, linux_initramfs_poweroff: Path, tmp_path: Path
) -> None:
    image = load_image(
        linux_kernel, ram_size=RAM, cmdline="console=ttyS0", initrd=[str(linux_initramfs_poweroff)]
    )
    with boot(image, tmp_path, cpus=2) as console:
        log = console.expect("hv-init-ready")
    for line in (
        "BIOS-e820: [mem 0x0000000000100000-0x000000001fffffff] usable",
        "ACPI: RSDP 0x00000000000E0000 000024 (v02 HV    )",
        "ACPI: PM-Timer IO Port: 0x408",
        "IOAPIC[0]: apic_id 0, version 32, address 0xfec00000, GSI 0-23",
        "ACPI: INT_SRC_OVR (bus 0 bus_irq 0 global_irq 2 dfl dfl)",
        "ACPI: INT_SRC_OVR (bus 0 bus_irq 9 global_irq 9 high level)",
        "smp: Brought up 1 node, 2 CPUs",
        "ACPI: 1 ACPI AML tables successfully acquired and loaded",
        "ACPI: PM: (supports S0 S5)",
        "ACPI: PCI Root Bridge [PCI0] (domain 0000 [bus 00-ff])",
        "pci_bus 0000:00: root bus resource [mem 0xc0000000-0xfebfffff window]",
        "00:02: ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
        "i8042: PNP: PS/2 Controller [PNP0303:KBD] at 0x60,0x64 irq 1",
        "rtc_cmos 00:00: registered as rtc0",
    ):
        assert line in log, line
    for complaint in ("ACPI BIOS Error", "ACPI BIOS Warning", "Firmware Bug", "Firmware Warn"):
        assert complaint not in log


def test_demo_guest_boots_through_its_pvh_note(demo_elf: Path, tmp_path: Path) -> None:
    with boot(load_image(demo_elf, ram_size=RAM), tmp_path, cpus=2) as console:
        assert "2 cpus" in console.expect("demo> ")


def test_boot_sector_runs_from_7c00(tmp_path: Path) -> None:
    with boot(load_image(assets.bootsector(), ram_size=RAM), tmp_path, cpus=1) as console:
        assert console.wait() == 85  # 0x2A written to isa-debug-exit


MULTIBOOT_GUEST = """
    .long 0x1badb002, 3, -(0x1badb002 + 3)
    .globl _start
_start:
    cmpl $0x2badb002, %eax
    jne 1f
    movl 24(%ebx), %esi             # mods_addr
    movl (%esi), %ecx               # mod_start
    movl 16(%ebx), %esi             # cmdline
    movw $0x3f8, %dx
0:  lodsb
    outb %al, %dx
    testb %al, %al
    jnz 0b
    movb (%ecx), %al
    outb %al, %dx
1:  movw $0xf4, %dx
    movb $21, %al
    outb %al, %dx
    hlt
"""


def test_multiboot_kernel_finds_its_command_line_and_module(tmp_path: Path) -> None:
    source, kernel, module = tmp_path / "k.S", tmp_path / "k", tmp_path / "module"
    source.write_text(MULTIBOOT_GUEST)
    module.write_bytes(b"!")
    for command in (
        ["as", "--32", "-o", f"{kernel}.o", str(source)],
        ["ld", "-m", "elf_i386", "-n", "-Ttext=0x100000", "-o", str(kernel), f"{kernel}.o"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    image = load_image(kernel, ram_size=RAM, cmdline="hello", initrd=[str(module)])
    with boot(image, tmp_path, cpus=1) as console:
        assert console.wait() == 43
    assert console.output == b"hello\0!"
