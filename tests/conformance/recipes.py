"""Which classes of each upstream file are run, and what goes into their holes.

Rules for whoever edits this file:
- A recipe takes generic classes (mixins, or test cases that get their loop from the policy) and fills them. Classes
  that are *about* asyncio's own C or Python objects (`CFutureTests`, `PolicyTests`, `AbstractEventLoopTests` …) have no
  hole and are not taken; nor are the bodies that upstream added to such a class.
- Class names say the filling: `Task`/`Future` are the subject's, `CTask`/`PyTask`… are asyncio's; `TestLoop` is
  CPython's `utils.TestLoop`, `Loop` the subject's; `own` marks the subject's functions under asyncio's names.
- A class that a Python version lacks is left out silently (`hasattr`); the numbers in the table show it.
"""

from __future__ import annotations

import asyncio
import unittest
from asyncio import futures, tasks
from collections.abc import Callable, Iterator
from typing import Any

from .plugging import Plug

TestClass = type[unittest.TestCase]
Recipe = Callable[[Plug], Iterator[TestClass]]

LEFT_OUT = {
    "test_base_events": "mocks the internals of asyncio.BaseEventLoop",
    "test_selector_events": "mocks the internals of asyncio's selector transports",
    "test_proactor_events": "mocks the internals of asyncio's proactor transports",
    "test_windows_events": "Windows",
    "test_windows_utils": "Windows",
    "test_protocols": "abstract base classes only; uses no loop",
    "test_transports": "abstract base classes only; uses no loop",
    "test_tools": "`python -m asyncio ps`, which reads the memory of asyncio's C tasks",
}
"""Files that are not run at all, and why. Of `test_unix_events` the classes that mock their internals are left out."""


def _isolated(plug: Plug, *, own: bool = False, loops: str = "") -> Iterator[TestClass]:
    """Every test case of the file as it stands: it takes its loop from the policy or from `loop_factory`."""
    here = plug.upstream.__name__
    for name, value in sorted(vars(plug.upstream).items()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == here:
            yield plug.derive(name, value)
            if own and plug.subject.own:
                yield plug.derive(f"{name}_own", value, own=True)


def generic(plug: Plug) -> Iterator[TestClass]:
    yield from _isolated(plug)


def generic_and_own(plug: Plug) -> Iterator[TestClass]:
    yield from _isolated(plug, own=True)


def _both_loops(plug: Plug) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "TestLoop", {}
    yield "Loop", plug.on_loop()


def _both_names(plug: Plug) -> Iterator[tuple[str, bool]]:
    yield "", False
    if plug.subject.own:
        yield "_own", True


def test_futures(plug: Plug) -> Iterator[TestClass]:
    up, case, future = plug.upstream, plug.utils.TestCase, plug.subject.future

    class SubFuture(future):  # type: ignore[misc, valid-type]
        pass

    for loop, attrs in _both_loops(plug):
        for kind, cls in (("Future", future), ("SubFuture", SubFuture)):

            def new_future(self: Any, *args: Any, cls: type = cls, **kwargs: Any) -> Any:
                return cls(*args, **{"loop": self.loop, **kwargs})

            yield plug.derive(f"{kind}_{loop}", up.BaseFutureTests, case, cls=cls, **attrs)
            base = up.BaseFutureDoneCallbackTests
            yield plug.derive(f"{kind}DoneCallback_{loop}", base, case, _new_future=new_future, **attrs)
        base = up.BaseFutureInheritanceTests
        yield plug.derive(f"FutureInheritance_{loop}", base, case, _get_future_cls=lambda self: future, **attrs)
        for suffix, own in _both_names(plug):
            yield plug.derive(f"Duck_{loop}{suffix}", up.DuckTests, own=own, **attrs)


def test_futures2(plug: Plug) -> Iterator[TestClass]:
    up = plug.upstream
    yield plug.derive("Task", up.FutureTests, unittest.IsolatedAsyncioTestCase, cls=plug.subject.task)
    for suffix, own in _both_names(plug):
        yield plug.derive(f"FutureRepr{suffix}", up.FutureReprTests, own=own)


def test_tasks(plug: Plug) -> Iterator[TestClass]:
    up, case = plug.upstream, plug.utils.TestCase
    task, future = plug.subject.task, plug.subject.future
    c_task, c_future, py_task, py_future = tasks._CTask, futures._CFuture, tasks._PyTask, futures._PyFuture
    c_side = {"all_tasks": staticmethod(asyncio.all_tasks), "current_task": staticmethod(asyncio.current_task)}
    py_side = {
        "all_tasks": staticmethod(getattr(tasks, "_py_all_tasks", asyncio.all_tasks)),
        "current_task": staticmethod(getattr(tasks, "_py_current_task", asyncio.current_task)),
    }
    pairs = [
        ("Task_Future", task, future, c_side),
        ("Task_CFuture", task, c_future, c_side),
        ("Task_PyFuture", task, py_future, c_side),
        ("CTask_Future", c_task, future, c_side),
        ("PyTask_Future", py_task, future, py_side),
    ]
    for loop, attrs in _both_loops(plug):
        for name, task_cls, future_cls, side in pairs:
            fill = {"Task": task_cls, "Future": future_cls, **side, **attrs}
            if name == "Task_Future":
                for suffix, own in _both_names(plug):
                    yield plug.derive(
                        f"{name}_{loop}{suffix}", up.BaseTaskTests, up.SetMethodsTest, case, own=own, **fill
                    )
            else:
                yield plug.derive(f"{name}_{loop}", up.BaseTaskTests, case, **fill)
            if loop == "TestLoop":
                subclassed = up.add_subclass_tests(plug.derive(f"{name}_Subclass", up.BaseTaskTests, case, **fill))
                yield subclassed
        for name in ("FutureGatherTests", "CoroutineGatherTests"):
            for suffix, own in _both_names(plug):
                # The future of an empty gather is the loop's: on TestLoop asyncio's own.
                yield plug.derive(f"{name}_{loop}{suffix}", getattr(up, name), own=own, but=["Future"], **attrs)

    functions = ("_register_task", "_unregister_task", "_enter_task", "_leave_task")
    registry = {name: staticmethod(getattr(tasks, name)) for name in functions}
    yield plug.derive("Introspection", up.BaseTaskIntrospectionTests, case, Task=task, **registry, **c_side)
    yield plug.derive(
        "CurrentLoop", up.BaseCurrentLoopTests, case,
        new_task=lambda self, coro: task(coro, loop=self.loop), current_task=staticmethod(asyncio.current_task),
    )  # fmt: skip
    for name in (
        "CTask_Future_Tests",
        "GenericTaskTests",
        "RunCoroutineThreadsafeTests",
        "SleepTests",
        "CompatibilityTests",
    ):
        for suffix, own in _both_names(plug):
            yield plug.derive(f"{name}{suffix}", getattr(up, name), own=own)


def test_eager_task_factory(plug: Plug) -> Iterator[TestClass]:
    up, case, task = plug.upstream, plug.utils.TestCase, plug.subject.task
    for suffix, own in _both_names(plug):
        yield plug.derive(f"EagerTaskFactory{suffix}", up.EagerTaskFactoryLoopTests, case, own=own, Task=task)
        yield plug.derive(f"Eager{suffix}", up.BaseEagerTaskFactoryTests, case, own=own, Task=task)
        yield plug.derive(f"NonEager{suffix}", up.BaseNonEagerTaskFactoryTests, case, own=own, Task=task)
    # asyncio's own C task made eagerly on the subject's loop: what `asyncio.eager_task_factory` gives a program.
    yield plug.derive("EagerTaskFactory_CTask", up.EagerTaskFactoryLoopTests, case, Task=tasks._CTask)
    yield plug.derive("Eager_CTask", up.BaseEagerTaskFactoryTests, case, Task=tasks._CTask)
    if hasattr(up, "DefaultTaskFactoryEagerStart"):
        yield plug.derive("DefaultTaskFactoryEagerStart", up.DefaultTaskFactoryEagerStart)


def test_graph(plug: Plug) -> Iterator[TestClass]:
    base = plug.upstream.CallStackTestBase
    for suffix, own in _both_names(plug):
        yield plug.derive(f"CallStack{suffix}", base, unittest.IsolatedAsyncioTestCase, own=own)


def test_free_threading(plug: Plug) -> Iterator[TestClass]:
    task, base = plug.subject.task, plug.upstream.TestFreeThreading

    def factory(self: Any, loop: Any, coro: Any, **kwargs: Any) -> Any:
        return task(coro, loop=loop, **kwargs)

    def eager_factory(self: Any, loop: Any, coro: Any, eager_start: bool = True, **kwargs: Any) -> Any:
        return task(coro, loop=loop, eager_start=eager_start, **kwargs)

    yield plug.derive("FreeThreading", base, unittest.TestCase, factory=factory)
    yield plug.derive("EagerFreeThreading", base, unittest.TestCase, factory=eager_factory)


def _create_event_loop(plug: Plug) -> dict[str, Any]:
    return {"create_event_loop": lambda self: plug.subject.new_loop()}


def _new_loop(plug: Plug) -> dict[str, Any]:
    return {"new_loop": lambda self: plug.subject.new_loop()}


def test_events(plug: Plug) -> Iterator[TestClass]:
    up, case = plug.upstream, plug.utils.TestCase
    yield plug.derive("EventLoop", up.EventLoopTestsMixin, case, **_create_event_loop(plug))

    def set_up_subprocess(self: Any) -> None:
        case.setUp(self)
        self.loop = plug.subject.new_loop()
        self.set_event_loop(self.loop)
        watcher = getattr(asyncio, "SafeChildWatcher", None)
        if watcher is not None and hasattr(asyncio, "set_child_watcher"):
            watcher = watcher()
            watcher.attach_loop(self.loop)
            asyncio.set_child_watcher(watcher)
            self.addCleanup(asyncio.set_child_watcher, None)

    yield plug.derive("Subprocess", up.SubprocessTestsMixin, case, setUp=set_up_subprocess)
    for suffix, own in _both_names(plug):
        yield plug.derive(f"Handle{suffix}", up.HandleTests, own=own)
        if own:
            yield plug.derive(f"Timer{suffix}", up.TimerTests, own=own)
    yield plug.derive("GetEventLoop", up.TestCGetEventLoop)
    yield plug.derive("Server", up.TestServer)
    if hasattr(up, "UnixPipeObjectSupportTests"):
        yield plug.derive("UnixPipeObjectSupport", up.UnixPipeObjectSupportTests)


def test_sock_lowlevel(plug: Plug) -> Iterator[TestClass]:
    up, case = plug.upstream, plug.utils.TestCase
    yield plug.derive("Sock", up.BaseSockTestsMixin, case, **_create_event_loop(plug))
    mixin = getattr(up, "_DatagramSendToNonListeningAddressMixin", None)
    if mixin is not None:
        yield plug.derive("DatagramSendToNonListening", mixin, case, **_create_event_loop(plug))


def test_server(plug: Plug) -> Iterator[TestClass]:
    up = plug.upstream
    yield plug.derive("StartServer", up.SelectorStartServerTests, **_new_loop(plug))
    for name in ("TestServer2", "UnixServerCleanupTests"):
        if hasattr(up, name):
            yield plug.derive(name, getattr(up, name))


def test_server_context(plug: Plug) -> Iterator[TestClass]:
    factory = staticmethod(plug.subject.new_loop)
    for name in ("AsyncioEventLoopTests", "AsyncioEventLoopSSLTests"):
        yield plug.derive(name, getattr(plug.upstream, name), loop_factory=factory)


def test_buffered_proto(plug: Plug) -> Iterator[TestClass]:
    yield plug.derive("BufferedProtocol", plug.upstream.BaseTestBufferedProtocol, unittest.TestCase, **_new_loop(plug))


def test_sslproto(plug: Plug) -> Iterator[TestClass]:
    yield plug.derive("SslProtoHandshake", plug.upstream.SslProtoHandshakeTests)
    yield plug.derive("StartTLS", plug.upstream.BaseStartTLS, unittest.TestCase, **_new_loop(plug))


def test_unix_events(plug: Plug) -> Iterator[TestClass]:
    up = plug.upstream
    for name in ("SelectorEventLoopUnixSocketTests", "TestFunctional", "TestFork"):
        if hasattr(up, name):
            yield plug.derive(name, getattr(up, name))


def test_sendfile(plug: Plug) -> Iterator[TestClass]:
    yield plug.derive("Sendfile", plug.upstream.SendfileTestsBase, plug.utils.TestCase, **_create_event_loop(plug))


def test_subprocess(plug: Plug) -> Iterator[TestClass]:
    case = plug.utils.TestCase

    def set_up(self: Any) -> None:
        case.setUp(self)
        self.loop = plug.subject.new_loop()
        self.set_event_loop(self.loop)

    yield plug.derive("Subprocess", plug.upstream.SubprocessMixin, case, setUp=set_up)


FILES: dict[str, Recipe] = {
    # The slow ones first, so that two processes end together.
    "test_ssl": generic,
    "test_tasks": test_tasks,
    "test_events": test_events,
    "test_sslproto": test_sslproto,
    "test_waitfor": generic_and_own,
    "test_timeouts": generic_and_own,
    "test_sock_lowlevel": test_sock_lowlevel,
    "test_streams": generic,
    "test_subprocess": test_subprocess,
    "test_sendfile": test_sendfile,
    "test_taskgroups": generic_and_own,
    "test_runners": generic_and_own,
    "test_unix_events": test_unix_events,
    "test_futures": test_futures,
    "test_futures2": test_futures2,
    "test_eager_task_factory": test_eager_task_factory,
    "test_graph": test_graph,
    "test_free_threading": test_free_threading,
    "test_server": test_server,
    "test_server_context": test_server_context,
    "test_buffered_proto": test_buffered_proto,
    "test_locks": generic_and_own,
    "test_queues": generic_and_own,
    "test_threads": generic,
    "test_staggered": generic,
    "test_context": generic_and_own,
    "test_pep492": generic,
}
"""Upstream file -> recipe, in the order they are started. A file that a version lacks is skipped."""

SHARDS = {"test_tasks": 4}
"""Files whose classes are dealt out to several processes, so that no file outlasts the others."""
