"""How a loop gets under CPython's tests without touching them.

Rules for whoever edits this file:
- A test's text is never changed and never skipped here (recipes choose classes, the .toml files excuse tests).
- What is replaced is where a test *gets its loop from*: the default policy's factory, and the names `EventLoop`,
  `SelectorEventLoop` and `BaseEventLoop` as the test file sees them. The `asyncio` package itself stays as it is: a
  test file gets a view of it in the place of its global `asyncio`, for the time of one test.
- Three of asyncio's private names are served because the tests' own scaffolding, not a test, reads them:
  `loop._default_executor` in `utils.TestCase.close_loop`, `asyncio.base_events.logger` (replaced by a mock in order to
  see reports), and the mocks that `test_runners` and `test_pep492` hang on a `BaseEventLoop`.
"""

from __future__ import annotations

import asyncio
import types
import unittest
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .subject import Subject


class LoopName(type):
    """A class that stands for a loop class of asyncio: calling it makes the subject's loop."""

    subject: Subject

    def __call__(cls, selector: object = None) -> Any:
        return cls.subject.new_loop()

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.subject.loop_class)


class View(types.ModuleType):
    """The `asyncio` a test file sees: the real one, but for a few names."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        super().__init__("asyncio")
        self.__dict__["_names"] = dict(names)

    def __getattr__(self, name: str) -> Any:
        names = self.__dict__["_names"]
        return names[name] if name in names else getattr(asyncio, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Tests put their own `current_task` and the like into asyncio; that has to reach the real one.
        setattr(asyncio, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(asyncio, name)


class FollowingLogger:
    """The subject's logger, looked up where the tests' mocks are put: `asyncio.base_events.logger`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio.base_events.logger, name)


class Plug:
    """Everything one process needs to run classes of one test file on one subject."""

    def __init__(self, subject: Subject, upstream: types.ModuleType, utils: types.ModuleType) -> None:
        self.subject = subject
        self.upstream = upstream
        self.utils = utils
        replaced = ["EventLoop", "SelectorEventLoop"]
        if subject.name != "asyncio":
            replaced.append("BaseEventLoop")
        LoopName.subject = subject
        self._stand_ins = {name: LoopName(name, (), {}) for name in replaced}
        self._install_policy()
        self._install_close_loop()
        for module in subject.logger_modules:
            module.logger = FollowingLogger()

    def derive(
        self, name: str, *bases: type, own: bool = False, but: Iterable[str] = (), **attrs: Any
    ) -> type[unittest.TestCase]:
        """A test class `name` of the given upstream classes, run on the subject.

        `own` lets the test file see the subject's own functions under asyncio's names, `but` for some.
        """
        names = {key: value for key, value in self.subject.own.items() if own and key not in but}
        view = View({**self._stand_ins, **names})
        upstream = self.upstream
        base = bases[-1] if issubclass(bases[-1], unittest.TestCase) else unittest.TestCase

        @contextmanager
        def seen() -> Iterator[None]:
            before = upstream.__dict__["asyncio"]
            upstream.__dict__["asyncio"] = view
            try:
                yield
            finally:
                upstream.__dict__["asyncio"] = before

        def run(self: unittest.TestCase, result: unittest.TestResult | None = None) -> Any:
            with seen():
                try:
                    return base.run(self, result)
                except KeyboardInterrupt:
                    return None  # reported by the worker's result; the next test shall run

        if issubclass(base, unittest.IsolatedAsyncioTestCase):
            factory = getattr(bases[0], "loop_factory", None)
            if factory is not None and factory is getattr(asyncio, "EventLoop", None):
                attrs.setdefault("loop_factory", staticmethod(self.subject.new_loop))
        attrs["run"] = run
        attrs["__module__"] = upstream.__name__
        attrs["__qualname__"] = name
        made = type(name, bases, attrs)
        assert issubclass(made, unittest.TestCase), made
        return made

    def on_loop(self) -> dict[str, Any]:
        """Attributes that make `new_test_loop()` give the subject's loop in the place of `utils.TestLoop`."""
        subject = self.subject

        def new_test_loop(self: Any, gen: Any = None) -> Any:
            if gen is None:
                loop = subject.new_loop()
            elif subject.new_virtual_loop is None:
                raise unittest.SkipTest("drives time by hand, which this loop can't: runs on TestLoop only")
            else:
                loop = subject.new_virtual_loop(gen)
            self.set_event_loop(loop)
            return loop

        return {"new_test_loop": new_test_loop}

    def _install_policy(self) -> None:
        # Below the policy object, because the tests set and reset policies all the time.
        unix_events = __import__("asyncio.unix_events").unix_events
        policy = getattr(unix_events, "_DefaultEventLoopPolicy", None) or unix_events.DefaultEventLoopPolicy
        policy._loop_factory = staticmethod(self.subject.new_loop)

    def _install_close_loop(self) -> None:
        upstream_close_loop = self.utils.TestCase.close_loop

        def close_loop(loop: Any) -> None:
            if isinstance(loop, asyncio.BaseEventLoop):
                upstream_close_loop(loop)
                return
            if not loop.is_closed():
                loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

        self.utils.TestCase.close_loop = staticmethod(close_loop)
