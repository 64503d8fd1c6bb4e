"""The `.pxd` files keep to the house: what import-linter and mypy can't see, because they read only `.py`.

1. Twins. Every class of a `.pxd` is a class of the `.py` beside it, with the same base; its fields are exactly the
   names of `__slots__`; its methods, the module's C functions and typed globals exist there. In `_native` the code is
   the `.pyx`, and the `.py` its plain twin: classes and callables must match, fields are each edition's own.
2. Types only. A `.pxd` beside a `.py` holds no code.
3. Layers. A `cimport` goes downwards only, never in a circle (Cython answers a circle with "incomplete type");
   `_core` takes of `_native` only `drive`, `clock` and `runningtask`, and nothing of the operating system;
   `_native` takes nothing of ours.

It reads the declarations that this house uses, line by line, and refuses a line that it doesn't understand.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "weft"
# Rooms of one number are siblings: neither takes from the other.
LAYERS = {"_native": 0, "_core": 1, "_io": 2, "_net": 3, "_host": 3, "loop": 4, "runner": 5, "cli": 6}
NATIVE_FOR_CORE = {"weft._native.clock", "weft._native.drive", "weft._native.runningtask"}
SYSTEM = ("posix", "libc.errno", "libc.signal", "libc.stdio")

CLASS = re.compile(r"cdef class (?P<name>\w+)\s*(?:\((?P<base>[\w.]+)\))?\s*:\s*(?P<rest>pass|\.\.\.)?$")
CALLABLE = re.compile(
    r"(?:cdef|cpdef)\s+(?:inline\s+)?(?:[\w.\[\]*]+\s+)*?\**(?P<name>\w+)\s*\(.*\)[^:]*(?P<body>:)?.*$"
)
VARIABLES = re.compile(
    r"cdef\s+(?:(?:public|readonly)\s+)?[\w.\[\]\s*]+?[\s*](?P<name>\w+)(?:\[\w+\])?(?P<more>(?:\s*,\s*\**\w+)*)$"
)
CIMPORT = re.compile(
    r"from\s+(?P<source>[\w.]+)\s+cimport\s+(?P<names>.+)$|cimport\s+(?P<module>[\w.]+)(?:\s+as\s+\w+)?$"
)
C_ONLY = re.compile(r"(?:cdef\s+extern|ctypedef|cdef\s+(?:packed\s+)?(?:struct|union|enum))\b")


@dataclass
class Shape:
    """What a file declares: of each class its base, fields and methods; and the module's own callables and globals."""

    base: str = ""
    fields: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    classes: dict[str, Shape] = field(default_factory=dict)
    cimports: set[str] = field(default_factory=set)


def logical_lines(text: str) -> list[tuple[int, int, str]]:
    """(number, indent, line) without comments and docstrings, brackets joined into one line."""
    text = re.sub(r'"""[\s\S]*?"""', lambda match: "\n" * match[0].count("\n"), text)
    lines: list[tuple[int, int, str]] = []
    pending, start, depth = "", 0, 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].rstrip()
        if not line.strip():
            continue
        if not pending:
            start = number
        pending += line if not pending else " " + line.strip()
        depth += sum(line.count(mark) for mark in "([{") - sum(line.count(mark) for mark in ")]}")
        if depth <= 0:
            lines.append((start, len(pending) - len(pending.lstrip()), pending.strip()))
            pending, depth = "", 0
    return lines


def read_pxd(path: Path, errors: list[str]) -> Shape:
    shape = Shape()
    is_native = PACKAGE / "_native" in path.parents
    current: Shape | None = None
    c_block_indent: int | None = None
    for number, indent, line in logical_lines(path.read_text(encoding="utf-8")):
        where = f"{path.relative_to(ROOT)}:{number}"
        if c_block_indent is not None and indent > c_block_indent:
            continue
        c_block_indent = None
        if indent == 0:
            current = None
        if line.startswith("@") or line in {"pass", "..."}:
            continue
        if match := CIMPORT.match(line):
            source = match["source"] or match["module"]
            shape.cimports |= {
                source,
                *(
                    f"{source}.{name.split()[0]}"
                    for name in (match["names"] or "").strip("()").split(",")
                    if name.strip()
                ),
            }
        elif match := CLASS.match(line):
            current = shape.classes[match["name"]] = Shape(base=(match["base"] or "").rpartition(".")[2])
        elif C_ONLY.match(line):
            c_block_indent = indent
        elif match := CALLABLE.match(line):
            (current or shape).methods.add(match["name"])
            if match["body"]:
                c_block_indent = indent
                if not is_native:
                    errors.append(f"{where}: {match['name']} has a body: a .pxd beside a .py holds types only")
        elif match := VARIABLES.match(line):
            (current or shape).fields |= {match["name"], *re.findall(r"\w+", match["more"])}
        else:
            errors.append(f"{where}: not understood: {line}")
    return shape


def read_py(path: Path) -> Shape:
    shape = Shape()
    read_body(ast.parse(path.read_text(encoding="utf-8")).body, shape)
    return shape


def read_body(body: list[ast.stmt], shape: Shape) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            inner = shape.classes[node.name] = Shape(
                base=ast.unparse(node.bases[0]).rpartition(".")[2] if node.bases else ""
            )
            read_body(node.body, inner)
            inner.fields = slots(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            shape.methods.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
            shape.fields |= names
            if isinstance(node.value, ast.Name | ast.Attribute | ast.Call):
                shape.methods |= names  # `__iter__ = __await__`
        elif isinstance(node, ast.If | ast.Try):
            for block in (node.body, node.orelse, getattr(node, "finalbody", [])):
                read_body(block, shape)
            for handler in getattr(node, "handlers", []):
                read_body(handler.body, shape)


def slots(node: ast.ClassDef) -> set[str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "__slots__" for target in targets):
                value = ast.literal_eval(statement.value)
                return {value} if isinstance(value, str) else set(value)
    return {"(no __slots__)"}


def compare(pxd: Path, declared: Shape, code: Shape, errors: list[str]) -> None:
    """Rule 1 for one pair of files."""
    is_native = PACKAGE / "_native" in pxd.parents
    where = str(pxd.relative_to(ROOT))
    for name, shape in declared.classes.items():
        twin = code.classes.get(name)
        if twin is None:
            errors.append(f"{where}: class {name} is not in the .py")
            continue
        if shape.base and shape.base != twin.base:
            errors.append(f"{where}: {name} has base {shape.base}, in the .py {twin.base or 'none'}")
        for method in sorted(shape.methods - twin.methods):
            errors.append(f"{where}: {name}.{method}() is not in the .py")
        if not is_native and shape.fields != twin.fields:
            for extra in sorted(shape.fields - twin.fields):
                errors.append(f"{where}: field {name}.{extra} is not in __slots__")
            for extra in sorted(twin.fields - shape.fields):
                errors.append(f"{where}: {name}.__slots__ has {extra!r}, the .pxd does not")
    if not is_native:
        for name in sorted(declared.methods - code.methods):
            errors.append(f"{where}: function {name}() is not in the .py")
        for name in sorted(declared.fields - code.fields):
            errors.append(f"{where}: global {name} is not in the .py")


def compare_native(pyx: Path, errors: list[str]) -> None:
    """A `.pyx` and its plain twin offer the same names, and the `.pyx` takes nothing of ours."""
    where = pyx.relative_to(ROOT)
    text = pyx.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*(from|import|cimport)\s+(weft|\.)(?!\._native|_native)", line):
            errors.append(f"{where}:{number}: _native takes nothing of ours: {line.strip()}")
    twin = pyx.with_suffix(".py")
    if not twin.exists():
        errors.append(f"{where}: no plain twin {twin.name}")
        return
    public = {
        name
        for name in re.findall(r"^(?:cdef class|class|def|cpdef\s+(?:[\w.]+\s+)?)\s*(\w+)", text, re.M)
        if name[0] != "_"
    }
    code = read_py(twin)
    offered = {name for name in (*code.classes, *code.methods) if name[0] != "_"}
    for name in sorted(public ^ offered):
        errors.append(f"{where}: {name} is only in {'the .pyx' if name in public else twin.name}")


def layer_of(module: str) -> tuple[str, int] | None:
    """(room, layer) of a module of ours; None for a stranger or a module that every layer may take."""
    room = module.split(".")[1] if module.startswith("weft.") else ""
    return (room, LAYERS[room]) if room in LAYERS else None


def check_layers(graph: dict[str, set[str]], errors: list[str]) -> None:
    """Rule 3, over all `.pxd` and `.pyx` together."""
    for module, sources in sorted(graph.items()):
        mine = layer_of(module)
        if mine is None:
            errors.append(f"{module}: a .pxd outside the rooms {', '.join(LAYERS)}")
            continue
        for source in sorted(sources):
            theirs = layer_of(source)
            if mine[0] == "_core" and source.startswith(SYSTEM):
                errors.append(f"{module}: _core cimports no operating system: {source}")
            elif source in graph and theirs is not None and theirs[0] != mine[0] and theirs[1] >= mine[1]:
                errors.append(f"{module}: cimports {source}, which is not below it")
            elif source in graph and mine[0] == "_core" and theirs == ("_native", 0) and source not in NATIVE_FOR_CORE:
                errors.append(f"{module}: of _native, _core takes only drive, clock and runningtask, not {source}")
    for module in graph:
        circle = find_circle(module, graph, [module])
        if circle and module == min(circle):
            errors.append(f"circle of cimports: {' -> '.join(circle)}")


def find_circle(start: str, graph: dict[str, set[str]], trail: list[str]) -> list[str]:
    for source in sorted(graph[trail[-1]] & graph.keys()):
        if source == start and len(trail) > 1:
            return [*trail, start]
        if source not in trail:
            found = find_circle(start, graph, [*trail, source])
            if found:
                return found
    return []


def main() -> int:
    errors: list[str] = []
    graph: dict[str, set[str]] = {}
    pairs = 0
    for path in sorted((*PACKAGE.rglob("*.pxd"), *PACKAGE.rglob("*.pyx"))):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if path.suffix == ".pyx":
            compare_native(path, errors)
            lines = logical_lines(path.read_text(encoding="utf-8"))
            matches = [match for _, _, line in lines if (match := CIMPORT.match(line))]
            graph.setdefault(module, set()).update(match["source"] or match["module"] for match in matches)
            continue
        declared = read_pxd(path, errors)
        graph.setdefault(module, set()).update(declared.cimports)
        twin = path.with_suffix(".py")
        if path.stem == "__init__":
            continue
        if not twin.exists():
            errors.append(f"{path.relative_to(ROOT)}: no {twin.name} beside it")
            continue
        compare(path, declared, read_py(twin), errors)
        pairs += 1
    check_layers(graph, errors)
    for error in errors:
        print(f"check_pxd: {error}", file=sys.stderr)
    if not errors:
        print(f"check_pxd: {pairs} pairs of .py and .pxd agree")
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
