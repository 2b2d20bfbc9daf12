"""Each package knows only what it may know: the import directions between the three packages."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("accel", "gdbstub", "hv")
GDBSTUB_IO_MODULES = (
    *("gdbstub.server", "gdbstub.connection", "gdbstub.nonstop", "gdbstub.client", "gdbstub.listen"),
    "gdbstub.outbox",
    "gdbstub.patience",
)
"""Where bytes are moved, by trio; every other module of gdbstub is pure."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, as an absolute dotted name, and where."""

    importer: str
    line: int
    module: str


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    name = module_name(path, root)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                yield Import(name, node.lineno, f"{base}.{alias.name}")


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def violation(found: Import) -> str | None:
    """Why `found` is not allowed, or None."""
    importer, module = found.importer, found.module
    top = module.partition(".")[0]
    if inside(importer, "accel"):
        if inside(module, "hv") or inside(module, "gdbstub"):
            return "accel imports nothing of ours"
    elif inside(importer, "gdbstub"):
        if top == "trio" and importer in GDBSTUB_IO_MODULES:
            return None
        if top != "gdbstub" and top not in sys.stdlib_module_names:
            return "gdbstub imports the standard library, and trio where it moves bytes"
    elif inside(module, "accel") and not inside(importer, "hv.engines.soft"):
        return "only hv.engines.soft imports accel"
    elif inside(module, "gdbstub") and not (inside(importer, "hv.debug") or importer == "hv.cli"):
        return "only hv.debug and hv.cli import gdbstub"
    return None


def violations(root: Path) -> list[str]:
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for each in imports_of(path, root):
                reason = violation(each)
                if reason is not None:
                    found.append(f"{each.importer}:{each.line} imports {each.module}: {reason}")
    return found


def test_every_import_goes_in_an_allowed_direction() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "allowed"),
    [
        ("accel/__init__.py", "import hv", False),
        ("accel/__init__.py", "from . import _core", True),
        ("gdbstub/session.py", "import trio", False),
        ("gdbstub/server.py", "import trio", True),
        ("gdbstub/session.py", "from hv.vm import Vm", False),
        ("gdbstub/arch/x86.py", "from ..target import Stop", True),
        ("gdbstub/session.py", "import click", False),
        ("hv/vm.py", "from accel import _core", False),
        ("hv/vm.py", "import accel._core", False),
        ("hv/engines/soft/engine.py", "from accel import _core", True),
        ("hv/vm.py", "from gdbstub.target import Stop", False),
        ("hv/debug/target.py", "from gdbstub.target import Stop", True),
        ("hv/devices/rtc.py", "def f():\n    import gdbstub", False),
        ("hv/cli.py", "from gdbstub.server import serve", True),
    ],
)
def test_the_rules_tell_good_imports_from_bad_ones(
    tmp_path: Path, file: str, source: str, allowed: bool
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source + "\n")
    assert (violations(tmp_path) == []) is allowed


def test_no_module_imports_a_star() -> None:
    stars = [
        f"{each.importer}:{each.line}"
        for package in (*PACKAGES, "tests")
        for path in sorted((ROOT / package).rglob("*.py"))
        for each in imports_of(path, ROOT)
        if each.module.endswith(".*")
    ]
    assert stars == []
