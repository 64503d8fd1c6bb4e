"""Several processes that serve one address: what a program may ask of them, and how it becomes them by itself.

`weft run --workers N program` needs nothing of this module: the program is unmodified. Here is what a program can know of
its place among the workers, the sockets for those that want one ready-made, and `run`, which does without the command.

    import weft.workers

    if __name__ == "__main__":
        weft.workers.run(main, 4)
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from weft import runner
from weft.workers import _worker
from weft.workers._supervisor import DRAIN_S, supervise

__all__ = ["count", "is_draining", "ready", "run", "slot", "sockets"]


def slot() -> int | None:
    """The number of this worker's slot, from 0; a replacement has the number of the worker it replaces.

    None in a process that is no worker, a forked child of one among them.
    """
    worker = _worker.current() or _worker.join()
    return None if worker is None else worker.slot


def count() -> int | None:
    """How many slots there are; None in a process that is no worker."""
    worker = _worker.current() or _worker.join()
    return None if worker is None else worker.slots


def sockets() -> list[socket.socket]:
    """This slot's sockets of the addresses that `--bind` (or `binds`) names, bound, in the order named; the caller's to close.

    For code that takes a listening socket: `loop.create_server(…, sock=weft.workers.sockets()[0])`. An address that stands for
    several (`localhost` with and without IPv6) gives several. Empty in a process that is no worker. Blocks for a moment.
    """
    worker = _worker.current() or _worker.join()
    return [] if worker is None else worker.sockets()


def ready() -> None:
    """Say that this worker serves, for a program whose servers Weft can't see; nothing in a process that is no worker.

    A server of `create_server` on a socket of the supervisor says so by itself.
    """
    worker = _worker.current() or _worker.join()
    if worker is not None:
        worker.note_serving()


def is_draining() -> bool:
    """Whether this worker is to take no new work, because a replacement serves or all ends.

    False in a process that is no worker.

    For a program that can send its clients away: an HTTP server answers with `Connection: close` while this is true. A
    program that asks gets up to two seconds for that, from the moment it stops accepting until SIGTERM. Cheap enough to be
    asked for each request.
    """
    worker = _worker.current() or _worker.join()
    return worker is not None and worker.asks_whether_it_drains()


def run(
    target: Callable[[], Coroutine[Any, Any, object]],
    n: int,
    *,
    binds: Sequence[str] = (),
    drain_s: float = DRAIN_S,
) -> int:
    """Run `target()` on Weft's loop in `n` processes, which share every address they listen on; gives the exit code.

    The process that calls this becomes the supervisor, until SIGTERM or SIGINT. Each worker is the command line of this
    process once more: it comes to the same call, which there runs `weft.run(target())` and returns 0. So call it at the
    end of a program, under `if __name__ == "__main__":`. `binds` names addresses to listen on at once (`HOST:PORT`,
    `[IPV6]:PORT`, `:PORT`, `unix:PATH`); `drain_s` is how long connections may take to end. Main thread only.

    Raises ValueError for a number or an address that can't be used.
    """
    worker = _worker.current() or _worker.join()
    if worker is None:
        return supervise([sys.executable, *sys.orig_argv[1:]], n, binds=binds, drain_s=drain_s)
    try:
        runner.run(target())
    except asyncio.CancelledError:
        if not worker.has_cancelled:
            raise
    return 0
