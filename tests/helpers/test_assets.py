"""The initramfs that tests boot is a valid archive, the same bytes every time."""

import gzip
import subprocess
from pathlib import Path

import pytest

from tests.helpers import assets
from tests.helpers.console import Console, qemu_command


def test_archive_lists_with_the_cpio_of_busybox() -> None:
    archive = gzip.decompress(assets.initramfs().read_bytes())
    listing = subprocess.run(
        [str(assets.busybox()), "cpio", "-t"], input=archive, capture_output=True, check=True
    ).stdout.split()
    assert {b"init", b"bin/busybox", b"bin/sh", b"dev/console", b"proc"} <= set(listing)


def test_file_data_and_header_have_the_newc_layout() -> None:
    archive = assets.pack_cpio([assets.CpioEntry("ab", 0o100644, b"xyz")])
    header = b"070701" + b"00000001" + b"000081a4" + b"00000000" * 2 + b"00000001" + b"00000000" + b"00000003"
    assert archive.startswith(header + b"00000000" * 4 + b"00000003" + b"00000000" + b"ab\0")
    assert archive[116:120] == b"xyz\0"  # 110 bytes of header, name and padding to a multiple of four
    assert archive.endswith(b"TRAILER!!!\0\0\0\0")


def test_same_content_gives_the_same_bytes() -> None:
    assert assets.build_initramfs(b"binary", "poweroff") == assets.build_initramfs(b"binary", "poweroff")


def test_missing_asset_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HV_CACHE", str(tmp_path))
    with pytest.raises(assets.MissingAsset, match=r"vmlinuz is missing: run `scripts/test --setup-only`"):
        assets.kernel()


def test_linux_runs_the_commands_of_its_command_line_and_then_a_shell() -> None:
    arguments = ("-kernel", str(assets.kernel()), "-initrd", str(assets.initramfs()))
    append = 'console=ttyS0 quiet hvtest="echo count $((40+2)); uname"'
    with Console(qemu_command(*arguments, "-append", append)) as console:
        console.expect(assets.READY_LINE)
        console.expect("count 42\r\nLinux\r\n")
        console.expect(assets.SHELL_PROMPT)
        console.send("expr 6 \\* 7\n")
        console.expect("\r\n42\r\n")
        console.send("poweroff\n")
        assert console.wait() == 0
