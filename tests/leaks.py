"""Finds what a test leaves behind: fds, threads, unclosed loops and transports, pending tasks, live handles.

`before` and `after` bracket a test. Objects are found through the garbage collector, by their real type and never by
`isinstance`, which would run foreign `__class__` properties. conftest freezes what exists after collection, so that a
look through the collector costs what one test made and not what pytest, aiohttp and the rest made.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

FD_FOLDER = "/proc/self/fd"


def open_fds() -> dict[int, str]:
    """The open file descriptors of this process and what each refers to; empty where there is no /proc."""
    fds: dict[int, str] = {}
    if not os.path.isdir(FD_FOLDER):
        return fds
    for name in os.listdir(FD_FOLDER):
        try:
            target = os.readlink(f"{FD_FOLDER}/{name}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if ".so" not in os.path.basename(target):  # libffi keeps its own library open
            fds[int(name)] = target
    return fds


def _is_pending(task: Any) -> bool:
    return not task.done()


def _is_live(handle: Any) -> bool:
    return not handle.cancelled()


def _is_open_loop(loop: Any) -> bool:
    return not loop.is_closed()


def _is_open_transport(transport: Any) -> bool:
    return transport.get_extra_info("socket") is not None and not transport.is_closing()


def _rules() -> list[tuple[type, Callable[[Any], bool], str]]:
    """(base class, what makes an instance a leak, its word)."""
    rules: list[tuple[type, Callable[[Any], bool], str]] = [
        (asyncio.BaseEventLoop, _is_open_loop, "unclosed loop"),
        (asyncio.Task, _is_pending, "pending task"),
        (asyncio.tasks._PyTask, _is_pending, "pending task"),  # type: ignore[attr-defined]
        (asyncio.TimerHandle, _is_live, "live timer"),
    ]
    weft = sys.modules.get("weft")
    if weft is not None:
        rules += [
            (weft.Loop, _is_open_loop, "unclosed loop"),
            (weft.Task, _is_pending, "pending task"),
            (weft.TimerHandle, _is_live, "live timer"),
        ]
    rules.append((asyncio.Transport, _is_open_transport, "open transport"))
    return rules


def live_objects() -> dict[int, str]:
    """The objects that no finished test may leave alive: id and a line that names the object."""
    rules = _rules()
    found: dict[int, str] = {}
    for thing in gc.get_objects():
        for base, is_leak, word in rules:
            if issubclass(type(thing), base):
                try:
                    leaked = is_leak(thing)
                except (AttributeError, NotImplementedError):  # a test's half-made subclass or mock
                    leaked = False
                if leaked:
                    found[id(thing)] = f"{word}: {thing!r}"
                break
    return found


class Watch:
    """What was there before a test; `complaints` says what the test added."""

    def __init__(self) -> None:
        self._fds = open_fds()
        self._objects = set(live_objects())
        self._threads = set(threading.enumerate())

    def complaints(self) -> list[str]:
        gc.collect()
        said: list[str] = []
        for thread in threading.enumerate():
            if thread not in self._threads and not thread.daemon:
                thread.join(5.0)
                if thread.is_alive():
                    said.append(f"thread: {thread!r}")
        said += [what for key, what in live_objects().items() if key not in self._objects]
        said += [f"fd {fd}: {what}" for fd, what in open_fds().items() if self._fds.get(fd) != what]
        return said
