"""The public names: documented, and callable as asyncio's of the running version. What differs is listed here, with why."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from worlds import since

import weft

# Names that asyncio does not have.
WEFTS_OWN = {"Loop", "EventLoopPolicy", "install", "__version__"}

# Where a call that asyncio takes may look different to `inspect.signature`, and why.
DEVIATIONS = {
    # Weft hands the keywords on to the module that knows them, which refuses an unknown one with TypeError.
    "Loop.connect_accepted_socket": "keywords as **options",
    "Loop.create_connection": "keywords as **options",
    "Loop.create_datagram_endpoint": "keywords as **options",
    "Loop.create_server": "keywords as **options",
    "Loop.create_unix_connection": "keywords as **options",
    "Loop.create_unix_server": "keywords as **options",
    "Loop.start_tls": "keywords as **options",
    "Loop.subprocess_exec": "keywords as **options",
    "Loop.subprocess_shell": "keywords as **options",
    # As in AbstractEventLoop and in the documentation; the selector loop says `n`.
    "Loop.sock_recv": "the first number is called nbytes",
    # They take what the Task takes, and hand it on.
    "create_task": "keywords as **options",
    "eager_task_factory": "keywords as **options",
}

# Methods that return the coroutine of another module's function: one coroutine less for each call.
GIVE_A_COROUTINE_ON = {
    *("connect_read_pipe", "connect_write_pipe", "create_datagram_endpoint", "subprocess_exec", "subprocess_shell"),
    *("connect_accepted_socket", "create_connection", "create_server", "create_unix_connection", "create_unix_server"),
    *("getaddrinfo", "getnameinfo", "sock_accept", "sock_connect", "sock_recv", "sock_recv_into", "sock_sendall"),
    *(
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sendfile",
        "sock_sendfile",
        "sock_sendto",
        "start_tls",
        "shutdown_asyncgens",
        "shutdown_default_executor",
    ),
}

OBJECTS = ("Future", "Task", "Handle", "TimerHandle", "Timeout")


def signature_of(thing: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(thing)
    except (ValueError, TypeError):
        return None


def refused(theirs: inspect.Signature, ours: inspect.Signature) -> list[str]:
    """Parameters that a caller may give asyncio and may not give Weft, or that Weft needs and asyncio does not."""
    said = []
    takes_any_keyword = any(each.kind is each.VAR_KEYWORD for each in ours.parameters.values())
    for name, their in theirs.parameters.items():
        own = ours.parameters.get(name)
        if own is None:
            kinds = (their.VAR_KEYWORD, their.VAR_POSITIONAL)
            if any(each.kind is their.kind for each in ours.parameters.values() if their.kind in kinds):
                continue
            said.append(f"{name} is missing" + (" but for **options" if takes_any_keyword else ""))
        elif their.default is not their.empty and own.default is own.empty:
            said.append(f"{name} has no default")
        elif their.kind is their.POSITIONAL_OR_KEYWORD and own.kind is not own.POSITIONAL_OR_KEYWORD:
            said.append(f"{name} is {own.kind.description}")
    for name, own in ours.parameters.items():
        needed = own.default is own.empty and own.kind not in (own.VAR_KEYWORD, own.VAR_POSITIONAL)
        if name not in theirs.parameters and needed:
            said.append(f"{name} is needed")
    return said


def public(thing: type) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_")]


def test_every_name_is_there_and_sorted() -> None:
    assert all(hasattr(weft, name) for name in weft.__all__)
    assert len(set(weft.__all__)) == len(weft.__all__)
    assert WEFTS_OWN - {"EventLoopPolicy"} <= set(weft.__all__)
    assert ("EventLoopPolicy" in weft.__all__) is not since(3, 14)


def test_every_name_is_asyncios_or_listed() -> None:
    assert {name for name in weft.__all__ if not hasattr(asyncio, name)} <= WEFTS_OWN | (
        set() if since(3, 12) else {"eager_task_factory", "create_eager_task_factory"}
    )


@pytest.mark.parametrize("name", sorted(set(weft.__all__) - {"__version__"}))
def test_every_name_has_a_docstring(name: str) -> None:
    thing = getattr(weft, name)
    if isinstance(thing, str):
        pytest.skip("a constant")
    assert (thing.__doc__ or "").strip(), f"weft.{name} has no docstring"


@pytest.mark.parametrize("name", [*OBJECTS, "Loop", "Runner"])
def test_every_method_has_a_docstring(name: str) -> None:
    kind = getattr(weft, name)
    without = [
        each for each in public(kind) if callable(getattr(kind, each)) and not inspect.getdoc(getattr(kind, each))
    ]
    # asyncio's AbstractEventLoop documents some of its methods in its manual only.
    inherited = [each for each in without if getattr(kind, each) is getattr(asyncio.AbstractEventLoop, each, None)]
    assert sorted(set(without) - set(inherited)) == []


@pytest.mark.parametrize("name", sorted(name for name in weft.__all__ if hasattr(asyncio, name)))
def test_functions_take_what_asyncios_take(name: str) -> None:
    theirs, ours = signature_of(getattr(asyncio, name)), signature_of(getattr(weft, name))
    if theirs is None or ours is None:
        pytest.skip("no signature to read (a constant, or a class made by C)")
    differs = refused(theirs, ours)
    assert not differs or name in DEVIATIONS, differs


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_take_what_asyncios_take(name: str) -> None:
    theirs, ours = getattr(asyncio, name), getattr(weft, name)
    assert [each for each in public(theirs) if not hasattr(ours, each)] == []
    for each in public(theirs):
        their, own = signature_of(getattr(theirs, each)), signature_of(getattr(ours, each))
        if their is not None and own is not None:
            their = their.replace(parameters=[p for p in their.parameters.values() if p.kind is not p.POSITIONAL_ONLY])
            own = own.replace(
                parameters=[
                    p for p in own.parameters.values() if p.name in their.parameters or p.default is not p.empty
                ]
            )
            assert refused(their, own) == [], f"{name}.{each}"


MADE_OF = {
    "Future": "(*, loop=None)",
    "Task": "(coro, *, loop=None, name=None, context=None, eager_start=False)",
    "Handle": "(callback, args, loop, context=None)",
    "TimerHandle": "(when, callback, args, loop, context=None)",
    "Timeout": "(when)",
}


@pytest.mark.parametrize("name", OBJECTS)
def test_classes_tell_what_they_are_made_of(name: str) -> None:
    """In both editions; a compiled `__init__` does not tell by itself, a plain one must not tell otherwise."""
    kind = getattr(weft, name)
    assert str(inspect.signature(kind)) == MADE_OF[name]
    assert str(inspect.signature(type("Own" + name, (kind,), {}))) == MADE_OF[name]
    if inspect.isfunction(kind.__init__):
        own = inspect.signature(kind.__init__).parameters.values()
        bare = [each.replace(annotation=each.empty) for each in own if each.name != "self"]
        assert str(inspect.Signature(bare)) == MADE_OF[name]

    class Own(kind):  # type: ignore[misc, valid-type]
        def __init__(self, other: int) -> None: ...

    assert list(inspect.signature(Own).parameters) == ["other"]


@pytest.mark.parametrize("name", public(asyncio.SelectorEventLoop))
def test_loop_takes_what_asyncios_takes(name: str) -> None:
    assert hasattr(weft.Loop, name)
    theirs, ours = signature_of(getattr(asyncio.SelectorEventLoop, name)), signature_of(getattr(weft.Loop, name))
    if theirs is None or ours is None:
        pytest.skip("no signature to read (an attribute, or a method made by C)")
    differs = refused(theirs, ours)
    assert not differs or f"Loop.{name}" in DEVIATIONS, differs


def test_coroutine_functions_are_coroutine_functions() -> None:
    """What asyncio declares `async def` is so here, but for the thin methods that give another's coroutine on."""
    differs = set()
    for name in public(asyncio.SelectorEventLoop):
        if inspect.iscoroutinefunction(getattr(asyncio.SelectorEventLoop, name)):
            if not inspect.iscoroutinefunction(getattr(weft.Loop, name)):
                differs.add(name)
    assert differs <= GIVE_A_COROUTINE_ON, differs - GIVE_A_COROUTINE_ON


def test_subclasses_of_the_public_classes() -> None:
    """Each can be subclassed, with attributes of the subclass's own."""
    for name in ("Future", "Task", "Handle", "TimerHandle", "Loop", "Runner"):
        kind = type("Own" + name, (getattr(weft, name),), {"extra": 5})
        assert kind.extra == 5
