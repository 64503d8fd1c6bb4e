"""What `inspect.signature` says of a compiled class: its `__init__` is a slot in C, which tells nothing of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class ClassSignature:
    """As `__signature__` in a class: its `__init__` takes what `model` takes, but for `self`.

    Of a subclass that has its own `__init__` or `__new__` it says nothing: those tell of themselves.
    """

    __slots__ = ("_model", "_owner")

    def __init__(self, model: Callable[..., object]) -> None:
        self._model = model

    def __set_name__(self, owner: Any, name: str) -> None:
        self._owner = owner

    def __get__(self, instance: object, owner: Any) -> Any:
        if owner.__init__ is not self._owner.__init__ or owner.__new__ is not self._owner.__new__:
            raise AttributeError(f"{owner!r} has no attribute '__signature__'")
        import inspect

        return inspect.signature(self._model)
