"""Build and run the instruction oracle: rows of `insns*.def` executed by the host CPU and by the core.

`tests/accel/native/` holds the tool in C; this module turns the rows into its input and its output into
findings.
"""

from __future__ import annotations

import fnmatch
import subprocess
from dataclasses import dataclass
from pathlib import Path

from accel import _build, _gen
from tests.accel import undefined

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "tests" / "accel" / "native"
OUT = ROOT / "build" / "oracle"
C_FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIE", "-fno-stack-protector"]

ATTRIBUTES = {
    "lock": 0x1, "rep": 0x2, "d64": 0x4, "f64": 0x8, "x87": 0x10, "mmx": 0x20, "vvvv": 0x40, "l0": 0x80,
    "l1": 0x100, "w0": 0x200, "w1": 0x400, "vsib": 0x800, "sse": 0x1000, "avx": 0x1000,
}  # fmt: skip
SAVE_AREA = 0x2000
IMMEDIATES = {
    "Ib": "b", "Is4": "b", "Iw": "w", "Iz": "z", "Iv": "v", "I64": "v", "Iwb": "B", "Jb": "j", "Jz": "J",
    "Ap": "A", "Ob": "O", "Ov": "O",
}  # fmt: skip
PREFIXES = {"-": 0, "NP": 1, "66": 2, "F3": 3, "F2": 4}


class OracleError(Exception):
    """The oracle could not be built or did not finish."""


@dataclass(frozen=True)
class Outcome:
    """What a campaign found: shrunk differences, rows with their counts, and the closing line."""

    differences: list[str]
    rows: list[str]
    total: str

    @property
    def cases(self) -> int:
        """How many cases both sides executed."""
        words = self.total.split()
        return int(words[words.index("cases") + 1])

    @property
    def row_count(self) -> int:
        """How many rows had at least one case."""
        words = self.total.split()
        return int(words[words.index("rows") + 1])


def build() -> Path:
    """Compile the tool against the core's objects; returns the executable."""
    _build.build_in_place()
    objects = [ROOT / "build" / "_core" / f"{source.stem}.o" for source in _build.sources()]
    OUT.mkdir(parents=True, exist_ok=True)
    tool = OUT / "oracle"
    inputs = [*objects, *NATIVE.glob("*.[ch]")]
    if tool.exists() and all(p.stat().st_mtime < tool.stat().st_mtime for p in inputs):
        return tool
    files = [*sorted(NATIVE.glob("*.c")), *objects]
    command = ["gcc", *C_FLAGS, f"-I{_build.INCLUDE}", *map(str, files), "-lm", "-o", str(tool)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OracleError(done.stderr)
    return tool


def spec_line(number: int, row: _gen.Row, bits: int) -> str:
    """One row as `main.c` reads it."""
    attrs = sum({ATTRIBUTES[a] for a in row.attrs if a in ATTRIBUTES})
    if "XSAVE" in row.mnemonic or "XRSTOR" in row.mnemonic or row.mnemonic.startswith(("FXSAVE", "FXRSTOR")):
        attrs |= SAVE_AREA
    attrs |= undefined.tolerance(row.mnemonic, sse="sse" in row.attrs or "avx" in row.attrs)
    imm = next((IMMEDIATES[x] for x in row.operands if x in IMMEDIATES), "-")
    mod = 2 if row.rm >= 0 else row.mod
    name = f"{row.mnemonic} {','.join(row.operands)}".strip()
    fields = (
        number, _gen.MAPS.index(row.map), f"{row.opcode:x}", PREFIXES[row.prefix], row.modrm[0], row.ext,
        row.rm, mod, imm, f"{attrs:x}", f"{undefined.mask(row.mnemonic):x}", bits, name[:39],
    )  # fmt: skip
    return " ".join(map(str, fields))


HOST = frozenset({"host", "host32"})


def specs(pattern: str = "*", oracles: frozenset[str] = HOST) -> list[str]:
    """The lines of all rows that the host can check and whose mnemonic matches (shell wildcards)."""
    lines = []
    for number, row in enumerate(_gen.read_rows()):
        if row.handler == "-" or row.mnemonic in undefined.NOT_EXECUTED:
            continue
        if not oracles & set(row.oracle.split(",")):
            continue
        if not any(fnmatch.fnmatchcase(row.mnemonic, p.upper()) for p in pattern.split(",")):
            continue
        if "host32" not in row.oracle.split(",") and "no64" not in row.attrs:
            lines.append(spec_line(number, row, 64))
        if "o64" not in row.attrs:
            lines.append(spec_line(number, row, 32))
    return lines


def run(
    cases: int,
    seed: int,
    pattern: str = "*",
    limit: int = 1,
    timeout: float | None = None,
    oracles: frozenset[str] = HOST,
) -> Outcome:
    """Run `cases` spread evenly over the matching rows; at most `limit` differences are shown per row."""
    tool = build()
    lines = specs(pattern, oracles)
    if not lines:
        raise OracleError(f"no row matches {pattern!r}")
    table = OUT / f"rows-{seed}.txt"
    table.write_text("\n".join(lines) + "\n")
    command = [str(tool), str(table), str(seed), str(cases), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    out = done.stdout.splitlines()
    total = next((line for line in out if line.startswith("TOTAL ")), "")
    if not total:
        why = done.stderr.strip() or done.stdout[-300:]
        raise OracleError(f"the oracle ended with status {done.returncode}: {why}")
    differences = [line for line in out if line.startswith("DIFF ")]
    return Outcome(differences, [line for line in out if line.startswith("ROW ")], total)
