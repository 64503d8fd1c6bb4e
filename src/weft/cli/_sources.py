"""Where the types of a class are written, and what the names there mean.

Types are read, not run: from a stub beside the module, from a `-stubs` package, from the stubs of the standard library that
come with mypy, or from the source itself. What stands under `if sys.version_info` is read as the running Python reads it.

Rules for whoever edits this file:

- A name is followed to the module that defines it, as type checkers refuse what a module only imported.
- What is not found is None, never an error: whoever asks then takes `Any`.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import importlib.util
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Name", "Source", "class_source", "source_of"]

#: (module, name in it); a module itself has no name.
Name = tuple[str, str | None]


class Source:
    """One file with types."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self.module = module
        self._package = module if path.stem == "__init__" else module.rpartition(".")[0]
        #: Where the names of the file come from, if it only imports them.
        self.imports: dict[str, Name] = {}
        #: What the file defines: the statement.
        self.definitions: dict[str, ast.stmt] = {}
        self._stars: list[str] = []
        for statement in flat(tree.body):
            self._read(statement)

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                self.imports[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0],
                    None,
                )
        elif isinstance(statement, ast.ImportFrom):
            module = statement.module or ""
            if statement.level:
                parts = self._package.split(".")
                module = ".".join([*parts[: len(parts) - statement.level + 1], *([module] if module else [])])
            for alias in statement.names:
                if alias.name == "*":
                    self._stars.append(module)
                else:
                    self.imports[alias.asname or alias.name] = (module, alias.name)
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef):
            self.definitions[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    self.definitions[target.id] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            self.definitions[statement.target.id] = statement

    def find(self, name: str, depth: int = 0) -> Name | None:
        """Where a name of this file is defined."""
        if name in self.definitions:
            return self.module, name
        if name in self.imports:
            module, attribute = self.imports[name]
            if attribute is None or depth > 10:
                return module, attribute
            if module.partition(".")[0] == self.module.partition(".")[0]:
                other = source_of(module)
                if other is not None and attribute not in other.definitions and attribute in other.imports:
                    return other.find(attribute, depth + 1) or (module, attribute)
            return module, attribute
        if hasattr(builtins, name):
            return "builtins", name
        for star in self._stars:
            if runtime((star, name)) is not None:
                return star, name
        return None


def flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements as they count for a type checker in the running Python."""
    for statement in body:
        if isinstance(statement, ast.If):
            yield from flat(statement.body if _holds(statement.test) else statement.orelse)
        elif isinstance(statement, ast.Try):
            yield from flat(statement.body)
        else:
            yield statement


def _holds(test: ast.expr) -> bool:
    try:
        code = compile(ast.Expression(test), "<condition>", "eval")
        return bool(eval(code, {"sys": sys, "TYPE_CHECKING": True, "typing": typing, "t": typing}))
    except Exception:
        return True


def runtime(name: Name) -> Any:
    """What a name stands for when the program runs; None if for nothing."""
    module, attribute = name
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    if attribute is None:
        return found
    if hasattr(found, attribute):
        return getattr(found, attribute)
    try:
        return importlib.import_module(f"{module}.{attribute}")
    except ImportError:
        return None


@functools.cache
def source_of(module: str) -> Source | None:
    """The file that says most about the types of a module."""
    for path in _candidates(module):
        if path.is_file():
            try:
                return Source(module, path, ast.parse(path.read_text(encoding="utf-8")))
            except (SyntaxError, UnicodeDecodeError):
                # Written for another Python, or not in Python.
                continue
    return None


def _candidates(module: str) -> Iterator[Path]:
    found = sys.modules.get(module) or runtime((module, None))
    own = getattr(found, "__file__", None)
    if own is not None:
        yield Path(own).with_suffix(".pyi")
    package, *rest = module.split(".")
    roots = [Path(each, f"{package}-stubs") for each in sys.path]
    spec = importlib.util.find_spec("mypy") if package in sys.stdlib_module_names else None
    for place in spec.submodule_search_locations or () if spec is not None else ():
        roots.append(Path(place, "typeshed", "stdlib", package))
    for root in roots:
        base = root.joinpath(*rest)
        yield base.with_name(base.name + ".pyi")
        yield base / "__init__.pyi"
    if own is not None and own.endswith(".py"):
        yield Path(own)


def class_source(cls: type) -> tuple[Source, ast.ClassDef] | None:
    """Where a class is written; some say of themselves that they live elsewhere, their methods know better."""
    modules = [value.__module__ for value in vars(cls).values() if hasattr(value, "__code__")]
    for module in [*dict.fromkeys(modules), cls.__module__]:
        source = source_of(module)
        if source is None:
            continue
        definition = source.definitions.get(cls.__name__)
        if isinstance(definition, ast.ClassDef):
            return source, definition
    return None
