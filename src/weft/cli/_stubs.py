"""The stub of an asynchronous class: its own methods, those of the classes it inherits from, and of what comes out of it.

Rules for whoever edits this file:

- A method that gives data is `async def`. One that gives a handle, an iterator or a context is a plain function that gives a
  `Call`: awaited, entered or iterated over.
- Whether a name is there, and direct, is asked of the class's family, as at run time.
- Classes are written bases first; each once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Generic, Protocol

from weft.bridge._family import Family
from weft.cli._annotations import Annotations, Names, elements
from weft.cli._sources import Source, class_source, flat
from weft.cli._stub_classes import Inspected, Writer, is_base

__all__ = ["Stub", "write"]

_EXIT = "kind: type[BaseException] | None, error: BaseException | None, trace: {trace} | None"
_HEAD = """\
# Written by `weft asyncify {target}`: don't edit it, write it again.
# Only {name} is there at run time, where `{name} = asyncify({cls}, …)` stands in the module that this is the stub
# of. The other classes are those that it inherits from, and those of what comes out of it.
# How the synchronous classes override one another is not judged here.
# mypy: disable-error-code="override, misc, overload-overlap, overload-cannot-match"
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportOverlappingOverload=false
"""


def write(made: Any, name: str, target: str) -> str:
    """The text of the stub for a class that `asyncify` made."""
    stub = Stub(made._weft_family, name, made._weft_sync_class)
    return stub.text(target)


class Stub:
    """A stub in the making."""

    def __init__(self, family: Family, name: str, root: type) -> None:
        self.family = family
        self.names = Names()
        self._name = name
        self._root = root
        self._handles: dict[type, str] = {}
        self._order: list[type] = []
        self._written: dict[type, list[str]] = {}
        self._variables: dict[str, str] = {}
        # Classes that take no type arguments here: they have none, or such as the stub can't name.
        self._plain: set[type] = set()

    def text(self, target: str) -> str:
        # Twice: the first time says which classes there are, and so which names their members take.
        for _ in range(2):
            members_of = self.names.members
            self.names, self._written, self._order, self._variables = Names(), {}, [], {}
            self.names.members = members_of
            for handle in self._handles.values():
                self.names.reserve(handle)
            self.handle(self._root)
            pending = [self._root]
            while pending:
                for cls in pending:
                    self._write(cls)
                pending = [cls for cls in self._handles if cls not in self._written]
        lines = [_HEAD.format(target=target, name=self._name, cls=self._root.__qualname__).rstrip(), ""]
        lines += [*self.names.lines(), "", *self._variables.values()]
        for cls in self._order:
            lines += [*self._written[cls], ""]
        return "\n".join(lines)

    def handle(self, cls: type) -> str:
        """The name of the asynchronous class of a class, which gets written."""
        if cls not in self._handles:
            name = wanted = self._name if cls is self._root else f"Async{cls.__name__}"
            count = 1
            while name in self._handles.values():
                count += 1
                name = f"{wanted}{count}"
            self._handles[cls] = name
            self.names.reserve(name)
        return self._handles[cls]

    def is_handle(self, cls: type) -> bool:
        """Whether objects of a class come out as handles, as far as is known."""
        return cls in self._handles

    def is_plain(self, cls: type) -> bool:
        """Whether the asynchronous class of a class takes no type arguments, as far as is known."""
        return cls in self._plain

    def plain(self, cls: type) -> None:
        """A class takes no type arguments."""
        self._plain.add(cls)

    def type_variable(self, name: str, bound: str | None) -> None:
        """Let the stub have a type variable of its own."""
        self.names.reserve(name)
        limit = "" if bound is None else f", bound={bound}"
        self._variables[name] = f'{name} = {self.names.ref("typing", "TypeVar")}("{name}"{limit})'

    def _write(self, cls: type) -> None:
        if cls in self._written:
            return
        self._written[cls] = []
        for base in cls.__bases__:
            if is_base(base):
                self.handle(base)
                self._write(base)
        found = class_source(cls)
        writer = Inspected(self, cls) if found is None else _Read(self, cls, *found)
        body = list(writer.body())
        self._written[cls] = [
            f"class {self.handle(cls)}{writer.parameters()}({writer.bases()}):{'' if body else ' ...'}",
            *body,
        ]
        self._order.append(cls)


class _Read(Writer):
    """A class as its source has it."""

    def __init__(self, stub: Stub, cls: type, source: Source, definition: ast.ClassDef) -> None:
        super().__init__(stub, cls)
        self._source = source
        self._definition = definition
        parameters = {each.__name__ for each in getattr(cls, "__parameters__", ())}
        self._types = Annotations(source, stub, parameters)
        self._names.members.update(
            each.name for each in flat(definition.body) if isinstance(each, ast.FunctionDef) and each.name[0] != "_"
        )

    def parameters(self) -> str:
        words = []
        for each in getattr(self._definition, "type_params", ()):
            bound = getattr(each, "bound", None)
            words.append(ast.unparse(each) if bound is None else f"{each.name}: {self._types.raw(bound)}")
        return f"[{', '.join(words)}]" if words else ""

    def bases(self) -> str:
        found: list[str] = []
        generic: str | None = None
        for node in self._definition.bases:
            head = node.value if isinstance(node, ast.Subscript) else node
            cls = self._types._runtime(head)
            if cls in (Generic, Protocol):
                names = [self._types.out(each) for each in elements(node)] if isinstance(node, ast.Subscript) else []
                if names and self._types.any not in names:
                    generic = f"{self._names.ref('typing', 'Generic')}[{', '.join(names)}]"
            elif isinstance(cls, type) and is_base(cls) and cls in self._cls.__bases__:
                arguments = ""
                if isinstance(node, ast.Subscript) and not self._stub.is_plain(cls):
                    arguments = f"[{', '.join(map(self._types.out, elements(node)))}]"
                found.append(self._stub.handle(cls) + arguments)
        if generic is None and not self.parameters() and not any("[" in each for each in found):
            self._stub.plain(self._cls)
        # Those that the source names otherwise, as a call.
        named = {each.partition("[")[0] for each in found}
        for cls in self._cls.__bases__:
            if is_base(cls) and self._stub.handle(cls) not in named:
                found.append(self._stub.handle(cls))
        if not found:
            found.append(self._names.ref("weft.bridge", "AsyncHandle"))
        return ", ".join([*found, *([generic] if generic else [])])

    def body(self) -> Iterator[str]:
        functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        done: set[str] = set()
        for statement in flat(self._definition.body):
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.setdefault(statement.name, []).append(statement)
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
                if self._is_shown(name) and name not in done:
                    done.add(name)
                    yield from self._field(name, self._value(statement.annotation))
            elif isinstance(statement, ast.Assign):
                for name in (target.id for target in statement.targets if isinstance(target, ast.Name)):
                    if isinstance(statement.value, ast.Name) and statement.value.id in functions:
                        # Another name of a method.
                        functions.setdefault(name, functions[statement.value.id])
                    elif self._is_shown(name) and name not in done:
                        done.add(name)
                        yield from self._field(name, self._types.any)
        yield from self._own_fields(functions.get("__init__", []), done | functions.keys())
        for name, each in functions.items():
            if name not in done:
                yield from self._functions(name, each)

    def _value(self, annotation: ast.expr | None) -> str:
        if isinstance(annotation, ast.Subscript) and self._types._is(annotation, {"ClassVar", "Final"}):
            annotation = annotation.slice
        return self._types.returned(annotation)[1]

    def _own_fields(self, making: list[Any], done: set[str]) -> Iterator[str]:
        """The attributes that `__init__` gives an object, and the class does not name."""
        found: dict[str, ast.expr | None] = {}
        for node in (node for each in making for node in ast.walk(each)):
            if isinstance(node, ast.AnnAssign) and (name := _own(node.target)):
                found[name] = node.annotation
            elif isinstance(node, ast.Assign):
                for name in filter(None, map(_own, node.targets)):
                    found.setdefault(name, None)
        inherited = {name for base in self._cls.__mro__[1:] for name in vars(base)}
        for name, annotation in found.items():
            if self._is_shown(name) and name not in done and name not in inherited:
                yield from self._field(name, self._value(annotation))

    def _functions(self, name: str, definitions: list[ast.FunctionDef | ast.AsyncFunctionDef]) -> Iterator[str]:
        chosen = self._chosen(definitions)
        first = chosen[0]
        if name in ("__init__", "__new__"):
            if name == "__init__" or not any(
                isinstance(each, ast.FunctionDef) and each.name == "__init__" for each in self._definition.body
            ):
                for each in chosen:
                    if len(chosen) > 1:
                        yield f"    @{self._names.ref('typing', 'overload')}"
                    yield f"    def __init__({self._parameters(each)}) -> None: ..."
        elif name == "__enter__":
            gives = self._given_by(first)[1]
            yield f"    async def __aenter__(self) -> {gives}: ..."
        elif name == "__exit__":
            swallows = first.returns is not None and ast.unparse(first.returns) not in ("None", "Literal[False]")
            trace = self._names.ref("types", "TracebackType")
            yield f"    async def __aexit__(self, {_EXIT.format(trace=trace)}) -> {'bool | None' if swallows else 'None'}: ..."
        elif name in ("__iter__", "__next__"):
            yield from self._iteration(name, first)
        elif self._is_shown(name):
            yield from self._methods(name, chosen)

    def _chosen(self, definitions: list[Any]) -> list[Any]:
        """Without the overloads for an asynchronous client, and without what implements the others."""
        overloads = [each for each in definitions if self._has(each, "overload")]
        if not overloads:
            return definitions[-1:] if not self._has(definitions[0], "property") else definitions[:1]
        kept = [
            each
            for each in overloads
            if each.returns is None or not self._types._is(each.returns, {"Awaitable", "Coroutine"})
        ]
        texts = {ast.unparse(each.args).partition(",")[2] + ast.unparse(each.returns or each): each for each in kept}
        return list(texts.values()) or definitions[-1:]

    def _has(self, definition: Any, *names: str) -> bool:
        """Whether a function is decorated with one of these."""
        for each in definition.decorator_list:
            node = each.func if isinstance(each, ast.Call) else each
            if (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) in names:
                return True
        return False

    def _methods(self, name: str, definitions: list[Any]) -> Iterator[str]:
        for each in definitions:
            if self._has(each, "property", "cached_property"):
                can_be_set = getattr(vars(self._cls).get(name), "fset", None) is not None
                yield from self._field(name, self._value(each.returns), can_be_set=can_be_set)
                return
            if len(definitions) > 1:
                yield f"    @{self._names.ref('typing', 'overload')}"
            is_static = self._has(each, "staticmethod")
            if is_static:
                yield "    @staticmethod"
            elif self._has(each, "classmethod"):
                yield "    @classmethod"
            is_call, gives = self._given_by(each)
            parameters = self._parameters(each, is_static=is_static)
            if self._stub.family.is_direct(self._cls, name):
                yield f"    def {name}({parameters}) -> {gives}: ..."
            elif isinstance(each, ast.AsyncFunctionDef):
                yield self._define("", name, parameters, False, gives)
            else:
                yield self._define("", name, parameters, is_call, gives)

    def _given_by(self, definition: Any) -> tuple[bool, str]:
        if self._has(definition, "contextmanager"):
            return self._types.returned(definition.returns or ast.Name("object"), is_context=True)
        if definition.returns is not None:
            return self._types.returned(definition.returns)
        # Nobody says what it gives; where it makes an object at its end, that says it.
        nodes = list(ast.walk(definition))
        if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in nodes):
            return True, f"{self._names.ref('weft.bridge', 'AsyncItems')}[{self._types.any}]"
        results = [each.value for each in nodes if isinstance(each, ast.Return) and each.value is not None]
        if results and all(isinstance(each, ast.Name) and each.id == "self" for each in results):
            return True, self._names.ref("typing", "Self")
        made = {ast.unparse(each.func): each.func for each in results if isinstance(each, ast.Call)}
        if len(made) == 1 and all(isinstance(each, ast.Call) for each in results):
            node = next(iter(made.values()))
            cls = self._types._runtime(node)
            if isinstance(cls, type) and self._stub.family.is_member(cls):
                return True, self._types.out(node)
        return True, self._types.any

    def _iteration(self, name: str, definition: Any) -> Iterator[str]:
        has_next = any(
            isinstance(each, ast.FunctionDef) and each.name == "__next__" for each in flat(self._definition.body)
        )
        items = self._names.ref("weft.bridge", "AsyncItems")
        if name == "__next__":
            yield f"    def __aiter__(self) -> {items}[{self._types.returned(definition.returns)[1]}]: ..."
        elif not has_next:
            gives = self._types.returned(definition.returns)[1]
            yield f"    def __aiter__(self) -> {gives if gives.startswith(f'{items}[') else f'{items}[{self._types.any}]'}: ..."

    def _parameters(self, definition: Any, *, is_static: bool = False) -> str:
        arguments: ast.arguments = definition.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
        words: list[str] = []
        for number, (each, default) in enumerate(zip(positional, defaults, strict=True)):
            if not number and not is_static:
                words.append("cls" if self._has(definition, "classmethod") else "self")
            else:
                words.append(self._parameter(each, default))
            if number + 1 == len(arguments.posonlyargs):
                words.append("/")
        if arguments.vararg is not None:
            words.append(f"*{self._parameter(arguments.vararg, None)}")
        elif arguments.kwonlyargs:
            words.append("*")
        only = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        words += [self._parameter(each, default) for each, default in only]
        if arguments.kwarg is not None:
            words.append(f"**{self._parameter(arguments.kwarg, None)}")
        return ", ".join(words)

    def _parameter(self, argument: ast.arg, default: ast.expr | None) -> str:
        kind = self._types.given(argument.annotation)
        if default is None:
            return f"{argument.arg}: {kind}"
        value = default.value if isinstance(default, ast.Constant) else ...
        if value is None and kind != self._types.any and "None" not in kind.split(" | "):
            kind += " | None"
        # A text may be of a literal type, and the source wrong about it.
        return f"{argument.arg}: {kind} = {value if value is None or isinstance(value, int | float) else '...'}"


def _own(target: ast.expr) -> str | None:
    """The name of an attribute of `self`."""
    is_own = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    return target.attr if is_own and isinstance(target, ast.Attribute) else None
