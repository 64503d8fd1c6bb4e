"""Pollers: how a loop learns from the kernel what is ready. The contract stands in `spi`."""

from __future__ import annotations

import importlib
import os
import select

from weft._io.spi import READ, WRITE, Poller

__all__ = ["READ", "WRITE", "Poller", "available_pollers", "make_poller"]

_POLLERS = {
    "epoll": ("weft._io.epoll", "EpollPoller"),
    "selector": ("weft._io.selector", "SelectorPoller"),
}


def available_pollers() -> list[str]:
    """Names of the pollers that work on this platform, the preferred one first."""
    return ["epoll", "selector"] if hasattr(select, "epoll") else ["selector"]


def make_poller(name: str | None = None) -> Poller:
    """A new poller by its name; without a name the one that the environment variable
    `WEFT_POLLER` names, or else the best one of the platform.

    Raises ValueError for a name that does not exist or does not work here.
    """
    names = available_pollers()
    if name is None:
        name = os.environ.get("WEFT_POLLER") or names[0]
    if name not in names:
        raise ValueError(f"unknown poller {name!r}: this platform has {', '.join(names)}")
    module, cls = _POLLERS[name]
    poller: Poller = getattr(importlib.import_module(module), cls)()
    return poller
