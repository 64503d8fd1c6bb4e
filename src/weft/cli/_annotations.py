"""An annotation of a synchronous class, as its asynchronous class has it.

Rules for whoever edits this file:

- What comes out of a handle (`returned`) names asynchronous classes; what is given to one (`given`) may be either kind, as
  handles are unwrapped; within a callback that is a plain function everything stays as it was.
- A name is written as `Names.ref` says, which imports it.
"""

from __future__ import annotations

import ast
import sys
import types
import typing
from collections.abc import Callable, Set
from typing import Any

from weft.bridge._family import Family
from weft.cli._sources import Name, Source, runtime, source_of

__all__ = ["Annotations", "Classes", "Names", "elements"]

_TYPING = {"typing", "typing_extensions", "collections.abc", "contextlib"}
_ITERATORS = {"Iterator", "Generator"}
_CONTEXTS = {"ContextManager", "AbstractContextManager"}
_AWAITABLES = {"Awaitable", "Coroutine"}
#: Generic classes of the standard library that take two arguments, and that `typing` does not know.
_OF_TWO = {"MappingProxyType", "WeakKeyDictionary", "WeakValueDictionary"}


class Names:
    """The imports of a stub, and under which names it has what it imports."""

    def __init__(self) -> None:
        self._names: dict[Name, str] = {}
        self._taken: set[str] = set()
        #: Names that stand for something else within the classes: those of their members.
        self.members: set[str] = set()

    def reserve(self, name: str) -> None:
        """Keep a name for what the stub itself defines."""
        self._taken.add(name)

    def ref(self, module: str, attribute: str | None) -> str:
        """How a name is written in the stub."""
        if module == "builtins" and attribute is not None:
            return f"{self.ref('builtins', None)}.{attribute}" if attribute in self.members else attribute
        if attribute in typing.__all__ and runtime((module, attribute)) is getattr(typing, attribute):
            module = "typing"
        key = (module, attribute)
        if key not in self._names:
            name = wanted = attribute or module.replace(".", "_")
            count = 1
            while name in self._taken or name in self.members:
                count += 1
                name = f"{wanted}_{count}"
            self._taken.add(name)
            self._names[key] = name
        return self._names[key]

    def lines(self) -> list[str]:
        """The import statements."""
        plain = [
            f"import {module}" if name == module else f"import {module} as {name}"
            for (module, attribute), name in self._names.items()
            if attribute is None
        ]
        of: dict[str, list[str]] = {}
        for (module, attribute), name in self._names.items():
            if attribute is not None:
                of.setdefault(module, []).append(attribute if name == attribute else f"{attribute} as {name}")
        return sorted(plain) + [f"from {module} import {', '.join(sorted(of[module]))}" for module in sorted(of)]


class Classes(typing.Protocol):
    """The asynchronous classes of a stub."""

    family: Family
    names: Names

    def handle(self, cls: type) -> str:
        """The name of the asynchronous class of a class, which gets written."""

    def is_handle(self, cls: type) -> bool:
        """Whether objects of a class come out as handles, as far as is known."""

    def is_plain(self, cls: type) -> bool:
        """Whether the asynchronous class of a class takes no type arguments, as far as is known."""

    def type_variable(self, name: str, bound: str | None) -> None:
        """Let the stub have a type variable of its own."""


class Annotations:
    """The annotations of one class."""

    def __init__(self, source: Source, classes: Classes, parameters: Set[str], depth: int = 0) -> None:
        self._source = source
        self._classes = classes
        self._names = classes.names
        self._parameters = parameters
        # How many aliases lie between this and the class.
        self._depth = depth

    def _is_member(self, cls: type) -> bool:
        """Whether an annotation means objects that come out as handles. A protocol may be met by anything."""
        return not getattr(cls, "_is_protocol", False) and self._classes.family.is_member(cls)

    # -- what comes out --

    def returned(self, node: ast.expr | None, *, is_context: bool = False) -> tuple[bool, str]:
        """(whether it can be entered or iterated over, the type) of what a method gives."""
        if node is None:
            return True, self.any
        node = _parsed(node)
        if is_context:
            inner = node.slice if isinstance(node, ast.Subscript) else None
            return True, self._context(_first(inner))
        kept = [each for each in self._alternatives(node) if not self._is(each, _AWAITABLES)]
        if not kept or any(self._is_alias_of_awaitable(each) for each in kept):
            return True, self.any
        is_call = any(self._comes_alive(each) for each in kept)
        return is_call, " | ".join(dict.fromkeys(self.out(each) for each in kept))

    @property
    def any(self) -> str:
        return self._names.ref("typing", "Any")

    def _context(self, inner: ast.expr | None) -> str:
        manager = self._names.ref("contextlib", "AbstractAsyncContextManager")
        return f"{manager}[{self.any if inner is None else self.out(inner)}, bool | None]"

    def _comes_alive(self, node: ast.expr) -> bool:
        head = node.value if isinstance(node, ast.Subscript) else node
        if self._is(head, _ITERATORS | _CONTEXTS) or (isinstance(head, ast.Name) and head.id == "Self"):
            return True
        if self._bound(head) is not None:
            return True
        found = self._runtime(head)
        return found is Any or (isinstance(found, type) and self._is_member(found))

    def out(self, node: ast.expr) -> str:
        """The type of something that comes out of a handle."""
        node = _parsed(node)
        if isinstance(node, ast.Subscript):
            if self._is(node.value, _ITERATORS):
                return f"{self._names.ref('weft.bridge', 'AsyncItems')}[{self.out(_first(node.slice) or node.slice)}]"
            if self._is(node.value, _CONTEXTS):
                return self._context(_first(node.slice))
        elif self._is(node, _ITERATORS):
            return f"{self._names.ref('weft.bridge', 'AsyncItems')}[{self.any}]"
        elif self._is(node, _CONTEXTS):
            return self._context(None)
        return self._text(node, self.out, is_out=True)

    # -- what is given --

    def given(self, node: ast.expr | None) -> str:
        """The type of an argument."""
        if node is None:
            return self.any
        kinds: list[str] = []
        for each in self._alternatives(_parsed(node)):
            kinds.append(self.raw(each))
            head = each.value if isinstance(each, ast.Subscript) else each
            found = self._runtime(head)
            if isinstance(found, type) and self._is_member(found):
                if self._classes.is_handle(found):
                    kinds.append(self.out(each))
            elif isinstance(each, ast.Subscript) and self._is(head, {"Callable"}) and isinstance(each.slice, ast.Tuple):
                takes, gives = each.slice.elts
                awaitable = f"{self._names.ref('collections.abc', 'Awaitable')}[{self.out(gives)}]"
                kinds.append(f"{self._head(head, False)}[{self._taken(self.out(takes))}, {awaitable}]")
        return " | ".join(dict.fromkeys(kinds))

    def raw(self, node: ast.expr) -> str:
        """The type as it was."""
        return self._text(_parsed(node), self.raw, is_out=False)

    # -- both --

    def _text(self, node: ast.expr, inner: Callable[[ast.expr], str], *, is_out: bool) -> str:
        if isinstance(node, ast.Name | ast.Attribute):
            return self._bare(node, is_out)
        if isinstance(node, ast.Subscript):
            arguments = elements(node)
            if self._is(node, {"Literal"}):
                if not all(isinstance(each, ast.Constant) for each in arguments):
                    return self.any
                return f"{self._names.ref('typing', 'Literal')}[{', '.join(map(ast.unparse, arguments))}]"
            if self._is(node, {"Annotated"}):
                return inner(arguments[0])
            # A class object is the synchronous one still.
            is_type = self._is(node, {"Type"}) or self._find(node.value) == ("builtins", "type")
            within = self.raw if is_type else inner
            head = self._head(node.value, is_out and not is_type)
            if head == self.any:
                return head
            found = self._runtime(node.value)
            if (
                is_out
                and not is_type
                and isinstance(found, type)
                and self._is_member(found)
                and self._classes.is_plain(found)
            ):
                return head
            texts = [within(each) for each in arguments]
            if self._is(node.value, {"Callable"}):
                texts[0] = self._taken(texts[0])
            elif self._is(node.value, {"Unpack"}) and texts[0] == self.any:
                texts[0] = f"tuple[{self.any}, ...]"
            return f"{head}[{', '.join(texts) or '()'}]"
        if isinstance(node, ast.BinOp):
            return f"{inner(node.left)} | {inner(node.right)}"
        if isinstance(node, ast.List):
            return f"[{', '.join(map(inner, node.elts))}]"
        if isinstance(node, ast.Starred):
            return f"*{inner(node.value)}"
        return ast.unparse(node)

    def _taken(self, text: str) -> str:
        """What a callable takes: anything, where a parameter specification can't be named here."""
        return "..." if text == self.any else text

    def _bare(self, node: ast.expr, is_out: bool) -> str:
        """A name without arguments. It gets `Any` for those that it needs."""
        head = self._head(node, is_out)
        found = self._runtime(node)
        if found is None or head == self.any or (isinstance(node, ast.Name) and node.id in self._parameters):
            return head
        count = _arguments(found)
        if not count:
            return head
        if getattr(found, "__name__", getattr(found, "_name", "")) == "Callable":
            return f"{head}[..., {self.any}]"
        return f"{head}[{self.any}, ...]" if count < 0 else f"{head}[{', '.join([self.any] * count)}]"

    def _head(self, node: ast.expr, is_out: bool) -> str:
        """A name, as the stub has it."""
        if isinstance(node, ast.Name) and node.id == "Self":
            return self._names.ref("typing", "Self")
        found = self._find(node)
        if found is None and isinstance(node, ast.Name) and node.id in self._parameters:
            # Of a class that declares it in its own head.
            return node.id
        if found is None or found[1] is None:
            return self.any
        kind = runtime(found)
        if isinstance(kind, typing.TypeVar) or type(kind).__name__ in ("TypeVar", "ParamSpec"):
            return self._variable(node, found, kind, is_out)
        if is_out and isinstance(kind, type) and self._is_member(kind):
            return self._classes.handle(kind)
        if found[1].startswith("_"):
            return self._private(found, is_out)
        return self._names.ref(*found)

    def _variable(self, node: ast.expr, found: Name, variable: Any, is_out: bool) -> str:
        assert found[1] is not None
        is_of_class = isinstance(node, ast.Name) and node.id in self._parameters
        bound = self._bound(node)
        if bound is not None:
            if is_of_class and is_out:
                # Bound to what comes out of a handle, in the stub.
                self._classes.type_variable(found[1], bound[0].out(bound[1]))
                return found[1]
            return self.any if is_out else bound[0].raw(bound[1])
        if found[1].startswith("_") and type(variable).__name__ == "TypeVar":
            self._classes.type_variable(found[1], None)
            return found[1]
        return self._names.ref(*found)

    def _private(self, found: Name, is_out: bool) -> str:
        """A name that is no business of others: an alias is written out, of anything else nothing is known."""
        source = source_of(found[0])
        statement = None if source is None or found[1] is None else source.definitions.get(found[1])
        value = getattr(statement, "value", None)
        if (
            source is None
            or self._depth > 8
            or not isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp)
        ):
            return self.any
        aliased = Annotations(source, self._classes, self._parameters, self._depth + 1)
        return aliased.out(value) if is_out else aliased.raw(value)

    def _bound(self, node: ast.expr) -> tuple[Annotations, ast.expr] | None:
        """What a type variable is bound to, where that is a class whose objects come out as handles; and who can read it."""
        found = self._find(node)
        source = None if found is None else source_of(found[0])
        statement = None if source is None or found is None else source.definitions.get(found[1] or "")
        if source is None or not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
            return None
        for keyword in statement.value.keywords:
            if keyword.arg == "bound":
                bound = _parsed(keyword.value)
                reader = Annotations(source, self._classes, set(), self._depth + 1)
                kind = reader._runtime(bound.value if isinstance(bound, ast.Subscript) else bound)
                if isinstance(kind, type) and self._is_member(kind):
                    return reader, bound
        return None

    def _find(self, node: ast.expr) -> Name | None:
        """Where a name, or a name of a module, is defined."""
        if isinstance(node, ast.Name):
            return self._source.find(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._runtime(node.value)
            if isinstance(owner, types.ModuleType):
                source = source_of(owner.__name__)
                return (source.find(node.attr) if source is not None else None) or (owner.__name__, node.attr)
        return None

    def _runtime(self, node: ast.expr) -> Any:
        """What an expression stands for when the program runs."""
        if isinstance(node, ast.Name):
            found = self._source.find(node.id)
            return None if found is None else runtime(found)
        if isinstance(node, ast.Attribute):
            owner = self._runtime(node.value)
            return None if owner is None else getattr(owner, node.attr, None)
        return None

    def _is(self, node: ast.expr, names: Set[str]) -> bool:
        """Whether an expression is one of these names of `typing` and the like, perhaps with arguments."""
        head = node.value if isinstance(node, ast.Subscript) else node
        if isinstance(head, ast.Attribute):
            owner = self._runtime(head.value)
            return head.attr in names and getattr(owner, "__name__", None) in _TYPING
        found = self._source.find(head.id) if isinstance(head, ast.Name) else None
        return found is not None and found[0] in _TYPING and found[1] in names

    def _is_alias_of_awaitable(self, node: ast.expr) -> bool:
        """Whether a name stands for a union one of whose parts is to be awaited, as of libraries with two clients."""
        found = self._runtime(node)
        if typing.get_origin(found) not in (typing.Union, types.UnionType):
            return False
        return any(getattr(typing.get_origin(each), "__name__", "") in _AWAITABLES for each in typing.get_args(found))

    def _alternatives(self, node: ast.expr) -> list[ast.expr]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return [*self._alternatives(_parsed(node.left)), *self._alternatives(_parsed(node.right))]
        if isinstance(node, ast.Subscript) and self._is(node, {"Union"}):
            return [each for element in elements(node) for each in self._alternatives(_parsed(element))]
        if isinstance(node, ast.Subscript) and self._is(node, {"Optional"}):
            return [*self._alternatives(_parsed(node.slice)), ast.Constant(None)]
        return [node]


def _parsed(node: ast.expr) -> ast.expr:
    """An annotation that is written as a text, read."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.parse(node.value, mode="eval").body
    return node


def _arguments(found: Any) -> int:
    """How many arguments a generic class needs, -1 for any number; 0 if it needs none."""
    if found in (list, set, frozenset, type):
        return 1
    if found in (dict, tuple):
        return 2 if found is dict else -1
    name = str(getattr(found, "__name__", None) or getattr(found, "_name", ""))
    if getattr(found, "__module__", "") in ("typing", "collections.abc", "contextlib", "re", "collections"):
        alias = getattr(typing, name, None)
        return int(getattr(alias, "_nparams", 0)) if typing.get_origin(found) is None or alias is found else 0
    parameters = getattr(found, "__parameters__", ()) if isinstance(found, type) else ()
    if parameters:
        has_default = getattr(parameters[0], "has_default", None)
        return 0 if has_default is not None and has_default() else len(parameters)
    is_of_library = isinstance(found, type) and found.__module__.partition(".")[0] in sys.stdlib_module_names
    if is_of_library and "__class_getitem__" in vars(found):
        return 2 if found.__name__ in _OF_TWO else 1
    return 0


def elements(node: ast.Subscript) -> list[ast.expr]:
    """The arguments in brackets."""
    return node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]


def _first(node: ast.expr | None) -> ast.expr | None:
    return node.elts[0] if isinstance(node, ast.Tuple) else node
