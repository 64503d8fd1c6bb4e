"""The writing of one class of a stub; and of a class that nobody wrote types for, by what `inspect` says of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from weft.bridge._family import members

if TYPE_CHECKING:
    from weft.cli._stubs import Stub

__all__ = ["Inspected", "Writer", "is_base"]

_SPECIAL = {"__call__", "__getitem__"}


def is_base(cls: type) -> bool:
    """Whether a class is inherited from in the stub too."""
    return cls.__module__ not in ("builtins", "typing", "abc", "collections.abc", "typing_extensions")


class Writer:
    """One class."""

    def __init__(self, stub: Stub, cls: type) -> None:
        self._stub = stub
        self._cls = cls
        self._names = stub.names

    def parameters(self) -> str:
        """Its type parameters, where they stand in its head."""
        return ""

    def _is_shown(self, name: str) -> bool:
        is_public = not name.startswith("_") or name in _SPECIAL
        return is_public and self._stub.family.refusal(self._cls, name) is None

    def _define(self, head: str, name: str, parameters: str, is_call: bool, gives: str) -> str:
        if is_call:
            return f"    {head}def {name}({parameters}) -> {self._names.ref('weft.bridge', 'Call')}[{gives}]: ..."
        return f"    {head}async def {name}({parameters}) -> {gives}: ..."

    def _field(self, name: str, gives: str, *, can_be_set: bool = True) -> Iterator[str]:
        is_direct = self._stub.family.is_direct(self._cls, name)
        if not is_direct:
            gives = f"{self._names.ref('collections.abc', 'Awaitable')}[{gives}]"
        yield "    @property"
        yield f"    def {name}(self) -> {gives}: ..."
        if is_direct and can_be_set:
            yield f"    @{name}.setter"
            yield f"    def {name}(self, value: {gives}) -> None: ..."


class Inspected(Writer):
    """A class of which no source was found: what `inspect` says of it."""

    def bases(self) -> str:
        found = [self._stub.handle(base) for base in self._cls.__bases__ if is_base(base)]
        return ", ".join(found or [self._names.ref("weft.bridge", "AsyncHandle")])

    def body(self) -> Iterator[str]:
        anything = self._names.ref("typing", "Any")
        self._names.members.update(name for name in vars(self._cls) if not name.startswith("_"))
        for name, (kind, value) in members(self._cls).items():
            if not self._is_shown(name):
                continue
            if kind in ("field", "constant"):
                yield from self._field(name, anything)
                continue
            function = getattr(value, "__func__", value)
            is_static = isinstance(value, staticmethod)
            if is_static:
                yield "    @staticmethod"
            elif kind == "class":
                yield "    @classmethod"
            parameters = self._parameters(function, is_static, anything)
            yield self._define("", name, parameters, kind != "async", anything)

    def _parameters(self, function: Any, is_static: bool, anything: str) -> str:
        try:
            found = list(inspect.signature(function).parameters.values())
        except (ValueError, TypeError):
            return f"{'' if is_static else 'self, '}*args: {anything}, **kwargs: {anything}"
        parameters: list[inspect.Parameter] = []
        for number, each in enumerate(found):
            default = each.empty if each.default is each.empty else ...
            is_self = not number and not is_static
            annotation = each.empty if is_self else _Bare(anything)
            parameters.append(each.replace(default=default, annotation=annotation))
        return str(inspect.Signature(parameters))[1:-1].replace("Ellipsis", "...")


class _Bare:
    """An annotation that writes itself as a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name
