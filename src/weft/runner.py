"""How a program comes to run on Weft: `run` and `Runner`, `new_event_loop`, and the policy where asyncio still has
policies.

asyncio's own `Runner` does the work (cancel what is left, shut down generators and executor, one Ctrl-C cancels the
main task and a second one interrupts): Weft only gives it the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from weft.loop import Loop

__all__ = ["Runner", "install", "new_event_loop", "run"]

_T = TypeVar("_T")


def new_event_loop() -> Loop:
    """A new loop of Weft, open and not running. Give it as `loop_factory` to whatever takes one."""
    return Loop()


class Runner(asyncio.Runner):  # type: ignore[misc]  # final to typeshed only; its docs say so too
    """As `asyncio.Runner` of the same Python, but for the default of `loop_factory`, which is `weft.new_event_loop`.

    So it does not make the loop the current one of the thread (`asyncio.set_event_loop`), nor asks a policy for it.
    """

    def __init__(
        self, *, debug: bool | None = None, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    ) -> None:
        super().__init__(debug=debug, loop_factory=new_event_loop if loop_factory is None else loop_factory)


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a coroutine on a new loop of Weft, close the loop, and return the coroutine's result.

    As `asyncio.run`, on every version with `loop_factory`. The main entry of a program: it can't be called while a loop
    runs in this thread (RuntimeError).
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("weft.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


if sys.version_info < (3, 14):

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """asyncio's default policy, but for the loops it makes: those are Weft's. For Python 3.11 to 3.13."""

        def new_event_loop(self) -> Loop:
            """As the function `weft.new_event_loop`."""
            return new_event_loop()

    __all__ += ["EventLoopPolicy"]


def install() -> None:
    """Let `asyncio.run()` and `asyncio.new_event_loop()` make Weft's loops from now on, in the whole process.

    For Python 3.11 to 3.13. From 3.14 on asyncio has deprecated the policies that this needs, so it raises
    RuntimeError: use `weft.run(main())` or `asyncio.run(main(), loop_factory=weft.new_event_loop)`, which work on every
    version (the second from 3.12 on), or start the program unchanged with `weft run`.
    """
    if sys.version_info >= (3, 14):
        raise RuntimeError(
            "weft.install() sets an event loop policy, and Python deprecated those in 3.14: use weft.run(main()) or "
            "asyncio.run(main(), loop_factory=weft.new_event_loop), or start the unchanged program with `weft run`"
        )
    else:
        asyncio.set_event_loop_policy(EventLoopPolicy())
