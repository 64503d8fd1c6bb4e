"""The contract of a poller: what stands between the loop and the kernel's readiness.

A poller keeps, for each file descriptor, at most one runnable that wants to read and one that wants to write, and puts
those whose descriptor is ready into the list that `poll` is given. It never runs anything, and it knows nothing of
handles, transports or protocols. Only modules of `_io` may assume that a descriptor is one of the kernel.

Rules for whoever writes or edits a poller:

- Level-triggered: a descriptor that is still ready is reported by every `poll`.
- An error or a hang-up wakes the reader and the writer: both will meet the error in their own call.
- `watch` and `unwatch` take effect in the kernel at once. Whoever closes a descriptor unwatches it first, so that the
  number, reused, never meets a runnable of its former owner; a poller must still survive a number that was closed
  behind its back (the kernel forgot it, the tables did not).
- A runnable that `poll` already handed out still runs in this turn although it is unwatched meanwhile. Who unwatches
  disarms it: a Handle is cancelled (`unwatch` returns it for that), a stream looks at its own state first.
- `poll` may be interrupted by a signal: Python's handlers run, what they raise propagates, and `poll` returns early.
- After `forget` (in a forked child) no call may reach the kernel's set: it is the parent's (`epoll_ctl` in the child
  would edit the parent's registrations).

Threads: `wake` is for any thread, and after `close` it does nothing. All else is for the thread that runs the loop.
Cost: `watch` is one system call, `unwatch` one or none.
"""

from __future__ import annotations

from typing import Any

from weft._core.handle import Runnable
from weft._io.ops import Ops

READ = 1
WRITE = 2


class Poller:
    """Base of all pollers; the methods that raise NotImplementedError are the contract."""

    __slots__ = ("ops", "owners")

    #: The poller's name, as `--poller` and `weft doctor` spell it.
    name = "abstract"

    def __init__(self) -> None:
        #: The kernel calls of this loop's transports, and the buffer they share.
        self.ops: Ops = Ops()
        #: fd -> weak reference to the transport that owns it. add_reader and the sock_ calls refuse such a descriptor.
        #: Written by transports when they take a socket and when they close it.
        self.owners: dict[int, Any] = {}

    def poll(self, timeout_ns: int, ready: list[Runnable]) -> None:
        """Append to `ready` the runnables whose descriptors are ready.

        `timeout_ns`: 0 looks without waiting, -1 waits until something happens. Returns early after `wake` and signals.
        """
        raise NotImplementedError

    def wake(self) -> None:
        """Make the present or the next `poll` return at once. Any thread; repeating it before that costs nothing.

        Whoever leaves work for the loop's thread leaves it first and wakes after: `poll` re-arms before it returns.
        """
        raise NotImplementedError

    def watch(self, fd: int, direction: int, runnable: Runnable) -> Runnable | None:
        """Report `runnable` while `fd` is ready for `direction` (READ or WRITE); the runnable it replaces, if any.

        Raises the OSError of the kernel: EPERM for what can't be polled (a regular file), EBADF for a closed number.
        """
        raise NotImplementedError

    def unwatch(self, fd: int, direction: int) -> Runnable | None:
        """Stop reporting; the runnable that was watched, None when there was none. Never raises for a closed number."""
        raise NotImplementedError

    def watched(self, fd: int, direction: int) -> Runnable | None:
        """The runnable watched for this direction, if any."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up everything. Twice is fine. Afterwards `unwatch` answers None, and `watch` raises what a closed loop does."""
        raise NotImplementedError

    def forget(self) -> None:
        """`close` for the child of a fork: drop the tables and the own descriptors, leave the shared set alone."""
        raise NotImplementedError
