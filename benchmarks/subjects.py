"""What is measured: event loops, and the two sets of names that a row can be written with.

Imported by the process under measure: standard library only, and a loop's package only when it is asked for.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["SUBJECTS", "Subject", "names_module", "probe"]


@dataclass(frozen=True, slots=True)
class Subject:
    """An event loop under measure.

    name:     what `--loops` takes and tables show
    package:  the distribution and module that has `new_event_loop`
    env:      environment variables of its process
    """

    name: str
    package: str
    env: tuple[tuple[str, str], ...] = ()

    @property
    def is_weft(self) -> bool:
        return self.package == "weft"


SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject("asyncio", "asyncio"),
        Subject("uvloop", "uvloop"),
        Subject("zuvloop", "zuvloop"),
        Subject("rloop", "rloop"),
        Subject("rsloop", "rsloop"),
        Subject("weft", "weft", (("WEFT_PURE", "0"),)),
        Subject("weft-plain", "weft", (("WEFT_PURE", "1"),)),
    )
}


def loop_factory(subject: Subject) -> Callable[[], asyncio.AbstractEventLoop]:
    """The public constructor of the subject's loop. Raises ImportError when it is not installed."""
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(subject.package).new_event_loop
    return factory


def _is_own(name: str) -> bool:
    weft = importlib.import_module("weft")
    theirs = getattr(asyncio, name, None)
    return getattr(weft, name, theirs) is not theirs


def names_module(which: str, wanted: tuple[str, ...]) -> ModuleType:
    """The module a row takes its names from: asyncio, or one that has Weft's own where Weft has its own."""
    if which == "asyncio":
        return asyncio
    weft = importlib.import_module("weft")
    module = ModuleType("names")
    if hasattr(weft, "__getattr__"):
        # CPython loads attributes of a module that has one the slow way; a program that says `weft.sleep` pays for that.
        module.__getattr__ = weft.__getattr__  # type: ignore[method-assign]
    for name in wanted:
        setattr(module, name, getattr(weft if _is_own(name) else asyncio, name))
    return module


def probe(subject: Subject, wanted: tuple[str, ...]) -> dict[str, Any]:
    """What this process would measure as the subject: version, edition, and which of the wanted names are Weft's own.

    Raises when the subject can't be measured here: not installed, or Weft installed without the edition asked for.
    """
    factory = loop_factory(subject)
    asyncio.Runner(loop_factory=factory).run(asyncio.sleep(0))
    if subject.package == "asyncio":
        return {"version": "standard library", "own": []}
    facts: dict[str, Any] = {"version": importlib.metadata.version(subject.package), "own": []}
    if subject.is_weft:
        edition = importlib.import_module("weft._edition").edition()
        if edition != ("plain" if dict(subject.env)["WEFT_PURE"] == "1" else "compiled"):
            raise ImportError(f"the Weft installed for this Python has no compiled edition (it runs the {edition} one)")
        package_file = importlib.import_module("weft").__file__ or ""
        facts |= {"edition": edition, "folder": os.path.dirname(package_file), "own": [n for n in wanted if _is_own(n)]}
    return facts
