"""Guest images for tests: the Debian cloud kernel and small busybox initramfs archives.

Everything lives in one cache directory, `.cache/` beside `tests/` or `$HV_CACHE`, and is made once:

    vmlinuz                     the newest kernel that the package linux-image-cloud-amd64 depends on
    vmlinuz.version             its package name and version, one line
    kernel/                     the unpacked kernel package (boot/, lib/modules/)
    busybox                     the static busybox of the package busybox-static
    initramfs.cpio.gz           boots to a shell on the console; runs `hvtest=` of the command line first
    initramfs-poweroff.cpio.gz  boots, prints the ready line, powers off
    memtest.bin                 the 64-bit binary of the package memtest86+
    bootsector.bin              512 bytes of real-mode code, from bootsector.S beside this file

`python -m tests.helpers.assets` fills the cache (it runs `apt-get download` and `dpkg-deb`, as any
user, and installs nothing). The functions below only look: they raise `MissingAsset` when the cache
is not filled, with the command that fills it.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READY_LINE: Final = "hv-init-ready"
"""What /init prints on the console when userspace runs."""

SHELL_PROMPT: Final = "guest# "

KERNEL_METAPACKAGE: Final = "linux-image-cloud-amd64"
BUSYBOX_PACKAGE: Final = "busybox-static"
MEMTEST_PACKAGE: Final = "memtest86+"

S_IFDIR: Final = 0o040000
S_IFCHR: Final = 0o020000
S_IFREG: Final = 0o100000
S_IFLNK: Final = 0o120000

# The kernel hands unknown NAME=VALUE words of its command line to /init as environment variables.
INIT_SCRIPT: Final = """\
#!/bin/busybox sh
export PATH=/bin HOME=/root ENV=/etc/profile PS1='{prompt}'
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
poweroff() {{ busybox poweroff -f; }}
reboot() {{ busybox reboot -f; }}
echo {ready}
eval "${{hvtest:-{default}}}"
cd /root
setsid cttyhack sh
poweroff
"""

# For the shell itself, where no init process would answer a plain `poweroff`.
SHELL_PROFILE: Final = """\
alias poweroff='busybox poweroff -f' reboot='busybox reboot -f'
"""


class MissingAsset(Exception):
    """A file that the cache should hold is not there. `path` says which."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is missing: run `scripts/test --setup-only` to fill the cache")
        self.path = path


class FetchError(Exception):
    """A package could not be found, downloaded or unpacked; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class CpioEntry:
    """One member of a cpio archive. `rdev` is (major, minor) of a device node."""

    name: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)


def pack_cpio(entries: Iterable[CpioEntry]) -> bytes:
    """Return a `newc` cpio archive of `entries`, the same bytes for the same entries.

    Owner 0:0, time 0, inode numbers in order. Source: Linux, "initramfs buffer format".
    """
    out = bytearray()
    for ino, entry in enumerate([*entries, CpioEntry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        nlink = 2 if entry.mode & 0o170000 == S_IFDIR else 1
        fields = (ino, entry.mode, 0, 0, nlink, 0, len(entry.data), 0, 0, *entry.rdev, len(name), 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        out += bytes(-len(out) % 4)
        out += entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs_entries(busybox_binary: bytes, default_command: str = ":") -> Iterator[CpioEntry]:
    """Yield the members of the test initramfs. `default_command` runs when `hvtest=` is not given."""
    for directory in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        yield CpioEntry(directory, S_IFDIR | 0o755)
    yield CpioEntry("dev/console", S_IFCHR | 0o600, rdev=(5, 1))
    yield CpioEntry("bin/busybox", S_IFREG | 0o755, busybox_binary)
    yield CpioEntry("bin/sh", S_IFLNK | 0o777, b"busybox")
    yield CpioEntry("etc/profile", S_IFREG | 0o644, SHELL_PROFILE.encode())
    script = INIT_SCRIPT.format(prompt=SHELL_PROMPT, ready=READY_LINE, default=default_command)
    yield CpioEntry("init", S_IFREG | 0o755, script.encode())


def build_initramfs(busybox_binary: bytes, default_command: str = ":") -> bytes:
    """Return a gzip-compressed initramfs; `default_command` as in `initramfs_entries`."""
    archive = pack_cpio(initramfs_entries(busybox_binary, default_command))
    return gzip.compress(archive, compresslevel=9, mtime=0)


def cache_dir() -> Path:
    """The cache directory; it need not exist."""
    override = os.environ.get("HV_CACHE")
    return Path(override) if override else Path(__file__).resolve().parents[2] / ".cache"


def kernel() -> Path:
    """The Debian cloud kernel, a bzImage."""
    return _present("vmlinuz")


def busybox() -> Path:
    """The static busybox binary."""
    return _present("busybox")


def initramfs() -> Path:
    """Boots to a shell; `hvtest="COMMANDS"` on the kernel command line runs COMMANDS first."""
    return _present("initramfs.cpio.gz")


def initramfs_poweroff() -> Path:
    """Boots, prints `READY_LINE` and powers off."""
    return _present("initramfs-poweroff.cpio.gz")


def memtest() -> Path:
    """Memtest86+, which starts like a Linux kernel."""
    return _present("memtest.bin")


def bootsector() -> Path:
    """A flat boot sector: prints a line on COM1, then writes 0x2A to isa-debug-exit (status 85)."""
    return _present("bootsector.bin")


def _present(name: str) -> Path:
    path = cache_dir() / name
    if not path.is_file():
        raise MissingAsset(path)
    return path


def fill_cache() -> None:
    """Make every file of the cache that is missing or out of date. Raises `FetchError`."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / "vmlinuz").is_file():
        _fetch_kernel(cache)
    if not (cache / "busybox").is_file():
        _fetch_busybox(cache)
    if not (cache / "memtest.bin").is_file():
        _fetch_memtest(cache)
    binary = (cache / "busybox").read_bytes()
    (cache / "busybox").chmod(0o755)
    _write_if_changed(cache / "initramfs.cpio.gz", build_initramfs(binary))
    _write_if_changed(cache / "initramfs-poweroff.cpio.gz", build_initramfs(binary, "poweroff"))
    _build_bootsector(cache / "bootsector.bin")


def _fetch_kernel(cache: Path) -> None:
    depends = _run("apt-cache", "depends", KERNEL_METAPACKAGE)
    match = re.search(r"Depends: (linux-image-\d\S*)", depends)
    if match is None:
        raise FetchError(f"the package {KERNEL_METAPACKAGE} is not known here; try `apt-get update`")
    package = match[1]
    tree = cache / "kernel"
    shutil.rmtree(tree, ignore_errors=True)
    version = _unpack_package(package, tree)
    images = sorted(tree.glob("boot/vmlinuz-*"))
    if not images:
        raise FetchError(f"the package {package} holds no boot/vmlinuz-*")
    _write(cache / "vmlinuz.version", f"{package} {version}\n".encode())
    _write(cache / "vmlinuz", images[0].read_bytes())


def _fetch_busybox(cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as tree:
        _unpack_package(BUSYBOX_PACKAGE, Path(tree))
        found = [
            path for path in (Path(tree, "bin/busybox"), Path(tree, "usr/bin/busybox")) if path.is_file()
        ]
        if not found:
            raise FetchError(f"the package {BUSYBOX_PACKAGE} holds no busybox binary")
        _write(cache / "busybox", found[0].read_bytes())


def _fetch_memtest(cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as tree:
        _unpack_package(MEMTEST_PACKAGE, Path(tree))
        image = Path(tree, "boot", "memtest86+x64.bin")
        if not image.is_file():
            raise FetchError(f"the package {MEMTEST_PACKAGE} holds no boot/memtest86+x64.bin")
        _write(cache / "memtest.bin", image.read_bytes())


def _build_bootsector(target: Path) -> None:
    source = Path(__file__).parent / "bootsector.S"
    if target.is_file() and target.stat().st_mtime >= source.stat().st_mtime:
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    flags = ("-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-Ttext=0x7C00")
    _run("gcc", *flags, "-Wl,--oformat=binary", "-o", str(partial), str(source))
    partial.replace(target)


def _unpack_package(package: str, tree: Path) -> str:
    """Download a Debian package and unpack it below `tree`. Returns its version."""
    tree.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        _run("apt-get", "download", "-q", package, cwd=download)
        archives = list(Path(download).glob("*.deb"))
        if len(archives) != 1:
            raise FetchError(f"apt-get download {package} left {len(archives)} files instead of one")
        _run("dpkg-deb", "-x", str(archives[0]), str(tree))
        return _run("dpkg-deb", "-f", str(archives[0]), "Version").strip()


def _run(*command: str, cwd: str | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise FetchError(f"{command[0]} is not installed; guest images come from Debian packages") from None
    if done.returncode:
        detail = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FetchError(f"`{' '.join(command)}` failed: {detail}")
    return done.stdout


def _write_if_changed(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        _write(path, data)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(data)
    partial.replace(path)


def main() -> int:
    """Fill the cache; print the reason on one line and return 1 when that fails."""
    try:
        fill_cache()
    except (FetchError, OSError) as error:
        print(f"guest images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
