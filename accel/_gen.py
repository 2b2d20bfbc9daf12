"""Turn the tables `src/insns*.def` and `src/features.def` into C: `gen/rows.h` and `gen/cpu_features.h`.

The format of the rows is described at the top of `src/insns.def`. Errors name file and line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
MAPS = ("1", "0F", "0F38", "0F3A", "V1", "V2", "V3")
PREFIXES = {"-": 0, "NP": 1, "66": 2, "F3": 3, "F2": 4}
ATTRS = (
    "hot", "uni", "lock", "end", "d64", "f64", "no64", "o64", "pm", "cpl0", "rep", "x87", "mmx", "sse", "avx",
    "vvvv", "l0", "l1", "w0", "w1", "nof", "vsib", "anymod", "br",
)  # fmt: skip
ORACLES = {"host", "host32", "qemu", "manual"}
IMMEDIATES = {
    "Ib": "B", "Iw": "W", "Iz": "Z", "Iv": "V", "I64": "V", "Iwb": "WB", "Jb": "JB", "Jz": "JZ",
    "Ap": "AP", "Ob": "O", "Ov": "O", "Is4": "B",
}  # fmt: skip
SIZES = {"b": (0,), "v": (1, 2, 3), "y": (2, 3), "w": (1,), "d": (2,), "q": (3,)}
MODELS = {"v1": 0, "v2": 1, "v3": 2, "max": 3}


class TableError(Exception):
    """A row of a table cannot be read: file, line and what is wrong."""


@dataclass
class Row:
    """One instruction form as written in a table."""

    map: str
    opcode: int
    prefix: str
    modrm: str
    mnemonic: str
    operands: list[str]
    handler: str
    attrs: set[str]
    feature: str
    oracle: str
    where: str
    ext: int = -1
    mod: int = 0  # 0 any, 1 memory only, 2 register only
    rm: int = -1
    names: dict[tuple[int, int], str] = field(default_factory=dict)  # (size index, form) -> function

    @property
    def has_modrm(self) -> bool:
        return self.modrm not in ("-", "+")


def parse_row(text: str, where: str) -> Row:
    """One line of a table."""
    columns = text.split()
    if len(columns) != 10:
        raise TableError(f"{where}: {len(columns)} columns instead of 10")
    map_, op, prefix, modrm, mnemonic, operands, handler, attrs, feature, oracle = columns
    if map_ not in MAPS or prefix not in PREFIXES:
        raise TableError(f"{where}: unknown map {map_!r} or prefix {prefix!r}")
    if not set(oracle.split(",")) <= ORACLES:
        raise TableError(f"{where}: unknown oracle {oracle!r}")
    names = set() if attrs == "-" else set(attrs.split(","))
    if names - set(ATTRS):
        raise TableError(f"{where}: unknown attributes {sorted(names - set(ATTRS))}")
    row = Row(
        map_, int(op, 16), prefix, modrm, mnemonic, [] if operands == "-" else operands.split(","),
        handler, names, feature, oracle, where,
    )  # fmt: skip
    if row.has_modrm:
        parse_modrm(row)
    choose_functions(row)
    return row


def parse_modrm(row: Row) -> None:
    """`/r`, `/3`, `/3.m`, `/r.r`, `/0=5`."""
    text = row.modrm
    if "=" in text:
        text, rm = text.split("=")
        row.rm, row.mod = int(rm), 2
    elif "." in text:
        text, kind = text.split(".")
        row.mod = {"m": 1, "r": 2}[kind]
    if text[0] != "/" or text[1:] not in [*"01234567", "r"]:
        raise TableError(f"{row.where}: bad modrm column {row.modrm!r}")
    if text[1:] != "r":
        row.ext = int(text[1:])


def choose_functions(row: Row) -> None:
    """Which C function serves which operand size (0-3: 8, 16, 32, 64 bits) and form (0-3: r m f x)."""
    if row.handler == "-":
        return
    name, _, suffix = row.handler.partition(".")
    sizes = SIZES[suffix] if suffix else (0,)
    for size in sizes:
        stem = f"h_{name}_{8 << size}" if suffix else f"h_{name}"
        if not row.has_modrm or "uni" in row.attrs:
            row.names[size, 0] = row.names[size, 1] = stem
            continue
        if row.mod != 1:
            row.names[size, 0] = stem + "_r"
        if row.mod != 2:
            row.names[size, 1] = stem + "_m"
            if "hot" in row.attrs:
                row.names[size, 2] = stem + "_f"
                row.names[size, 3] = stem + "_x"


def read_rows() -> list[Row]:
    """All rows of all tables, those with a mandatory prefix first within an opcode."""
    rows: list[Row] = []
    for path in sorted((HERE / "src").glob("insns*.def")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            text = line.split("#", 1)[0].strip()
            if text:
                rows.append(parse_row(text, f"{path.name}:{number}"))
    order = {"66": 1, "F3": 0, "F2": 0, "NP": 2, "-": 3}
    rows.sort(key=lambda r: (MAPS.index(r.map), r.opcode, order[r.prefix], -(r.rm >= 0), -r.ext))
    return rows


@dataclass(frozen=True)
class Feature:
    """One row of features.def."""

    name: str
    leaf: int
    sub: int
    reg: int
    bit: int
    model: int
    note: str


def read_features() -> list[Feature]:
    """The rows of features.def."""
    out = []
    for number, line in enumerate((HERE / "src" / "features.def").read_text().splitlines(), 1):
        text = line.split("#", 1)[0].split()
        if not text:
            continue
        if len(text) != 6:
            raise TableError(f"features.def:{number}: {len(text)} columns instead of 6")
        name, leaf, reg, bit, model, note = text
        main, sub = leaf.split(".")
        base = 16 if len(main) > 2 else 10
        out.append(
            Feature(
                name,
                int(main, base),
                int(sub),
                ("eax", "ebx", "ecx", "edx").index(reg),
                int(bit),
                MODELS[model],
                note,
            )
        )
    return out


def c_row(row: Row, features: dict[str, int]) -> str:
    """The initialiser of one row."""
    reg_byte = any(x in ("Gb",) for x in row.operands)
    rm_byte = any(x in ("Eb", "Zb", "Rb") for x in row.operands)
    imm = next((IMMEDIATES[x] for x in row.operands if x in IMMEDIATES), "NONE")
    suffix = row.handler.partition(".")[2] or "none"
    attrs = "|".join(f"A_{a.upper()}" for a in sorted(row.attrs)) or "0"
    kind = {"-": "M_NONE", "+": "M_PLUS"}.get(row.modrm, "M_RM")
    fns = ", ".join(f"[{s}][{f}] = {n}" for (s, f), n in sorted(row.names.items()))
    name = f"{row.mnemonic} {','.join(row.operands)}".strip()
    feature = features.get(row.feature, -1)
    if row.feature != "-" and feature < 0:
        raise TableError(f"{row.where}: unknown feature {row.feature!r}")
    return (
        f'{{"{name}", {attrs}, {PREFIXES[row.prefix]}, {kind}, {row.ext}, {row.mod}, {row.rm}, '
        f"{int(reg_byte)}, {int(rm_byte)}, IMM_{imm}, SIZE_{suffix.upper()}, {feature}, {{{fns}}}}}"
    )


def rows_header(rows: list[Row], features: list[Feature]) -> str:
    """The text of gen/rows.h."""
    numbers = {f.name: i for i, f in enumerate(features)}
    out = ["/* Generated by accel/_gen.py from insns*.def. */", "enum {"]
    out += [f"    A_{a.upper()} = 1 << {i}," for i, a in enumerate(ATTRS)]
    out.append("};")
    out += [f"op_fn {n};" for n in sorted({n for r in rows for n in r.names.values()})]
    out.append(f"enum {{ ROW_COUNT = {len(rows)} }};")
    out.append("static const struct row rows[ROW_COUNT] = {")
    out += [f"    {c_row(r, numbers)}, /* {r.where} */" for r in rows]
    out.append("};")
    candidates: list[int] = []
    index: list[list[tuple[int, int]]] = []
    for name in MAPS:
        table = []
        for opcode in range(256):
            found = [
                i for i, r in enumerate(rows)
                if r.map == name and (r.opcode == opcode or (r.modrm == "+" and r.opcode == opcode & 0xF8))
            ]  # fmt: skip
            table.append((len(candidates), len(found)))
            candidates += found
        index.append(table)
    out.append(f"static const uint16_t candidates[] = {{{', '.join(map(str, candidates)) or '0'}}};")
    out.append(f"static const struct {{ uint16_t first; uint8_t count; }} row_index[{len(MAPS)}][256] = {{")
    for table in index:
        out.append("    {" + ", ".join(f"{{{first}, {count}}}" for first, count in table) + "},")
    out.append("};")
    return "\n".join(out) + "\n"


def features_header(rows: list[Row], features: list[Feature]) -> str:
    """The text of gen/cpu_features.h."""
    done = {r.feature for r in rows if r.handler != "-"}
    missing = {r.feature for r in rows if r.handler == "-"}
    out = ["/* Generated by accel/_gen.py from features.def. */"]
    out.append("enum {" + ", ".join(f"FEAT_{f.name}" for f in features) + ", FEAT_COUNT};")
    out.append("struct feature { uint32_t leaf, sub; uint8_t reg, bit, model; bool implemented; };")
    out.append("static const struct feature features[FEAT_COUNT] __attribute__((unused)) = {")
    for f in features:
        ok = f.note in ("core", "smp") or (f.name in done and f.name not in missing)
        out.append(
            f"    {{{f.leaf:#x}, {f.sub}, {f.reg}, {f.bit}, {f.model}, {str(ok).lower()}}}, /* {f.name} */"
        )
    out.append("};")
    return "\n".join(out) + "\n"


def generate(out_dir: Path) -> None:
    """Write the generated headers; files that would not change keep their time stamps."""
    rows, features = read_rows(), read_features()
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("rows.h", rows_header(rows, features)),
        ("cpu_features.h", features_header(rows, features)),
    ):
        path = out_dir / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    generate(HERE / "gen")
