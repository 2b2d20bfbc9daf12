"""The package as a whole: what it imports, and that its document works."""

import ast
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import trio

import gdbstub
from gdbstub import handlers, requests
from gdbstub.server import serve

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "gdbstub").rglob("*.py"))


def imported(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


AT_THE_EDGE = {
    *("server.py", "connection.py", "outbox.py", "nonstop.py", "client.py", "listen.py", "patience.py")
}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_imports_the_standard_library_and_trio_only_at_the_edge(module: Path) -> None:
    allowed = {"gdbstub", *sys.stdlib_module_names}
    if module.name in AT_THE_EDGE:
        allowed.add("trio")
    assert imported(module) <= allowed


def test_every_request_has_a_handler() -> None:
    parsed = set(get_args(requests.Request))
    assert set(handlers.HANDLERS) == parsed


def test_every_public_name_exists() -> None:
    assert all(hasattr(gdbstub, name) for name in gdbstub.__all__)


async def test_the_target_of_the_document_is_served_to_its_client() -> None:
    text = (ROOT / "docs" / "gdbstub.md").read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, "docs/gdbstub.md", "exec"), names)
    adder = names["Adder"]()
    assert isinstance(names["Adder"](), gdbstub.Target)
    async with trio.open_nursery() as nursery:
        [name] = await nursery.start(serve, lambda _: adder, [gdbstub.parse_address("0")])
        assert await names["first_bytes"](int(name.rpartition(":")[2])) == (1, b"\x00\x01\x02\x03")
        nursery.cancel_scope.cancel()
    assert adder.values["pc"] == 1
