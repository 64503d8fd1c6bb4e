"""Any task class, with any future class, on any loop: Weft's on asyncio's and uvloop's loops, asyncio's on Weft's loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools

import pytest
from worlds import since, turns

import weft


def uvloop_loop():
    return pytest.importorskip("uvloop").new_event_loop()


LOOPS = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop_loop,
    "weft-epoll": lambda: weft.Loop(poller="epoll"),
    "weft-selector": lambda: weft.Loop(poller="selector"),
}
TASKS = {"weft": weft.Task, "C": asyncio.tasks._CTask, "Python": asyncio.tasks._PyTask}
FUTURES = {"weft": weft.Future, "C": asyncio.futures._CFuture, "Python": asyncio.futures._PyFuture}
MATRIX = [
    pytest.param(*names, id="-".join(names))
    for names in itertools.product(LOOPS, TASKS, FUTURES)
    if any("weft" in name for name in names)
]


class Mix:
    """One loop, one task class, one future class."""

    def __init__(self, loop, task, future):
        self.loop_name, self.task_name, self.future_name = loop, task, future
        self.loop = LOOPS[loop]()
        self.reports = []
        self.loop.set_exception_handler(lambda loop, context: self.reports.append(context))

    def task(self, coro, **options):
        return TASKS[self.task_name](coro, loop=self.loop, **options)

    def future(self):
        return FUTURES[self.future_name](loop=self.loop)

    def run(self, coro):
        return self.loop.run_until_complete(self.task(coro))


@pytest.fixture
def mix(request):
    made = Mix(*request.param)
    yield made
    made.loop.close()
    assert made.reports == []


@pytest.fixture(scope="module", autouse=True)
def _warm_up():
    """uvloop opens a pipe for the process with its first loop, and keeps it."""
    try:
        import uvloop
    except ImportError:
        return
    uvloop.new_event_loop().close()


def needs_current_task(name):
    """From 3.14 on asyncio.current_task cannot see asyncio's own Python task, on any loop."""
    if name == "Python" and since(3, 14):
        pytest.skip("asyncio.current_task does not see _PyTask from 3.14 on")


mixed = pytest.mark.parametrize(
    "mix", [param.values for param in MATRIX], ids=[param.id for param in MATRIX], indirect=True
)


@mixed
def test_result_exception_and_cancel(mix):
    async def wait(future):
        return await future

    async def main():
        good, bad, cancelled, inner = (mix.future() for _ in range(4))
        tasks = [mix.task(wait(future)) for future in (good, bad, cancelled, inner)]
        await turns(2)
        good.set_result("value")
        bad.set_exception(LookupError("bad"))
        cancelled.cancel()
        tasks[3].cancel("message")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert inner.cancelled()
        return results

    results = mix.run(main())
    assert results[0] == "value"
    assert isinstance(results[1], LookupError)
    assert [type(each) for each in results[2:]] == [asyncio.CancelledError] * 2


@mixed
def test_order_of_callbacks_and_waiters(mix):
    seen = []

    async def wait(future, name):
        await future
        seen.append(name)

    async def main():
        future = mix.future()
        future.add_done_callback(lambda f: seen.append("callback 1"))
        one = mix.task(wait(future, "task 1"))
        await turns(2)
        future.add_done_callback(lambda f: seen.append("callback 2"))
        two = mix.task(wait(future, "task 2"))
        await turns(2)
        future.set_result(None)
        await asyncio.wait([one, two])

    mix.run(main())
    assert seen == ["callback 1", "task 1", "callback 2", "task 2"]


@mixed
def test_current_and_all_tasks(mix):
    needs_current_task(mix.task_name)

    async def child(future):
        assert asyncio.current_task() is children[0]
        await future
        assert asyncio.current_task() is children[0]

    children = []

    async def main():
        own, future = asyncio.current_task(), mix.future()
        children.append(mix.task(child(future)))
        await turns(2)
        assert asyncio.current_task() is own
        assert asyncio.all_tasks() == {own, children[0]}
        future.set_result(None)
        await children[0]
        assert asyncio.all_tasks() == {own}

    mix.run(main())
    assert asyncio.current_task(mix.loop) is None


@mixed
def test_context(mix):
    var = contextvars.ContextVar("var", default="none")

    async def child(future):
        var.set("child")
        await future
        await turns()
        return var.get()

    async def main():
        var.set("main")
        future = mix.future()
        task = mix.task(child(future))
        await turns(2)
        assert var.get() == "main"
        future.set_result(None)
        return await task, var.get()

    assert mix.run(main()) == ("child", "main")


@mixed
def test_gather_wait_and_timeouts(mix):
    needs_current_task(mix.task_name)

    async def child(number):
        await turns(number)
        return number

    async def main():
        assert await weft.gather(mix.task(child(2)), mix.task(child(1))) == [2, 1]
        assert await asyncio.gather(mix.task(child(2)), mix.task(child(1))) == [2, 1]
        for module in (weft, asyncio):
            future = mix.future()
            with pytest.raises(TimeoutError):
                await module.wait_for(future, 0.001)
            assert future.cancelled()
            with pytest.raises(TimeoutError):
                async with module.timeout(0.001):
                    await mix.future()
            shielded = mix.future()
            outer = module.shield(shielded)
            outer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await outer
            assert not shielded.cancelled()
            shielded.cancel()
            await turns(2)
            done, left = await module.wait([mix.task(child(1)), mix.task(child(3))], return_when="FIRST_COMPLETED")
            assert (len(done), len(left)) == (1, 1)
            await left.pop()
        assert asyncio.current_task().cancelling() == 0

    mix.run(main())


@mixed
def test_chain_of_tasks_is_cancelled(mix):
    async def leaf():
        await mix.future()

    async def middle():
        await mix.task(leaf())

    async def main():
        task = mix.task(middle())
        await turns(3)
        task.cancel("down the chain")
        with pytest.raises(asyncio.CancelledError):
            await task

    mix.run(main())


@mixed
def test_wrong_yields_and_loops(mix):
    async def wait(future):
        await future

    async def itself():
        await own[0]

    async def main():
        own.append(mix.task(itself()))
        with pytest.raises(RuntimeError, match="Task cannot await on itself"):
            await own[0]
        other = asyncio.SelectorEventLoop()
        try:
            with pytest.raises(RuntimeError, match="attached to a different loop"):
                await mix.task(wait(FUTURES[mix.future_name](loop=other)))
        finally:
            other.close()

    own = []
    mix.run(main())


@mixed
def test_asyncios_synchronisation(mix):
    """Lock, Event, Condition, Queue and TaskGroup of asyncio, under tasks of this mix."""
    needs_current_task(mix.task_name)

    async def worker(queue, lock, event, seen):
        await event.wait()
        while (item := await queue.get()) is not None:
            async with lock:
                await turns()
                seen.append(item)

    async def main():
        queue, lock, event, seen = asyncio.Queue(2), asyncio.Lock(), asyncio.Event(), []
        workers = [mix.task(worker(queue, lock, event, seen)) for _ in range(3)]
        await turns(2)
        event.set()
        for item in range(20):
            await queue.put(item)
        for _ in workers:
            await queue.put(None)
        await asyncio.gather(*workers)
        async with asyncio.TaskGroup() as group:
            group.create_task(turns(3))
        return sorted(seen)

    assert mix.run(main()) == list(range(20))


@mixed
def test_bare_yields_and_sleep(mix):
    seen = []

    async def child(name):
        for step in range(3):
            seen.append((step, name))
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        await weft.sleep(0.001)
        return name

    async def main():
        tasks = [mix.task(child(name), name=name) for name in "ab"]
        assert [task.get_name() for task in tasks] == ["a", "b"]
        return await asyncio.gather(*tasks)

    assert mix.run(main()) == ["a", "b"]
    assert seen == [(step, name) for step in range(3) for name in "ab"]


@pytest.mark.parametrize("poller", ["epoll", "selector"])
@pytest.mark.parametrize("kind", ["C", "Python"])
def test_asyncios_task_as_the_factory_of_wefts_loop(poller, kind):
    needs_current_task(kind)
    loop = weft.Loop(poller=poller)
    made = TASKS[kind]
    loop.set_task_factory(lambda loop, coro, **options: made(coro, loop=loop, **options))

    async def child():
        await turns()
        return type(asyncio.current_task())

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(child())
        kinds = {task.result(), await asyncio.create_task(child()), type(asyncio.current_task())}
        kinds |= set(await asyncio.gather(child(), child()))
        return kinds

    with contextlib.closing(loop):
        assert loop.run_until_complete(main()) == {made}


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_weft_task_as_the_factory_of_a_foreign_loop(name):
    loop = LOOPS[name]()
    loop.set_task_factory(lambda loop, coro, **options: weft.Task(coro, loop=loop, **options))

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(turns(2))
        return type(task), type(asyncio.current_task())

    with contextlib.closing(loop):
        assert loop.run_until_complete(main()) == (weft.Task, weft.Task)


def test_weak_rule_on_a_foreign_loop():
    """On asyncio's loop nobody but its future holds a waiting task, and its end is reported as asyncio does."""
    import gc

    loop, reports = asyncio.SelectorEventLoop(), []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))

    async def forgotten():
        await weft.Future(loop=loop)

    async def main():
        weft.Task(forgotten(), loop=loop)
        await turns(2)
        gc.collect()

    loop.run_until_complete(main())
    gc.collect()
    assert reports == ["Task was destroyed but it is pending!"]
    loop.close()
