"""A child process from its start to its end, and the thread that keeps it.

Starting a process takes half a millisecond, and longer from a slow disk; the loop must not wait for that. So each child has
a thread of its own, its keeper, which starts it (`subprocess.Popen`, for which CPython lets the GIL go) and stays until the
child has exited. Why a thread for each child, and why it stays: `docs/design/subprocess.md`.

Rules for whoever edits this file:

- A child is always somebody's. Until the loop has taken it (`_is_taken`, in `_take`), the keeper's; then the loop's,
  until it is reaped; from `let_go` (the loop is closed) the keeper's again, which reaps it. `_lock` guards the two moments
  in which it changes hands, because both threads may move at once.
- Only the owner reaps, and it reaps and tells in one step, so that no signal goes to a number that is free again.
- The keeper touches the loop by `call_soon_threadsafe` only, and never waits for it.
- The loop's thread waits for the keeper in one case: with a `preexec_fn`, until the process is forked. What runs in the
  child then is Python code, and a lock that the loop's thread held at that moment would be locked there for ever.
- In a forked process nothing of this may reach the parent's children: `forget`.
"""

from __future__ import annotations

import _thread
import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from weft._io.spi import READ
from weft._net.process import watch
from weft._net.sockcalls import watch as watch_fd
from weft._net.sockops import AnyLoop

__all__ = ["Child", "Children"]

# Thread -> what to do when the fork that it makes is over. Only for children with a `preexec_fn`.
_forking: dict[int, Callable[[], None]] = {}
_is_watching_forks = False


def _watch_forks() -> None:
    """From now on a keeper is told when its fork is over. Once a process: a fork handler can't be taken back."""
    global _is_watching_forks
    if not _is_watching_forks:
        _is_watching_forks = True
        os.register_at_fork(after_in_parent=_note_fork)


def _note_fork() -> None:
    forked = _forking.pop(threading.get_ident(), None)
    if forked is not None:
        forked()


class Children:
    """The children of one loop that are not reaped."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: set[Child] = set()

    def add(self, child: Child) -> None:
        self._all.add(child)

    def discard(self, child: Child) -> None:
        self._all.discard(child)

    def close(self) -> None:
        """The loop is closed: their keepers reap them. One that the loop has not taken yet is killed."""
        children, self._all = self._all, set()
        for child in children:
            child.let_go()

    def forget(self) -> None:
        """In a forked process: they are the parent's children. Takes no lock, and signals nobody."""
        children, self._all = self._all, set()
        for child in children:
            child.forget()


class Child:
    """One child process of one loop. Methods are for the loop's thread, but for those that say otherwise."""

    __slots__ = (
        "__weakref__",
        "_args",
        "_context",
        "_is_let_go",
        "_is_over",
        "_is_polled",
        "_is_taken",
        "_lock",
        "_loop",
        "_on_exit",
        "_on_start",
        "_options",
        "_over",
        "_pidfd",
        "error",
        "is_foreign",
        "popen",
    )

    def __init__(
        self,
        loop: AnyLoop,
        args: Any,
        options: dict[str, Any],
        on_start: Callable[[], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self._loop = loop
        # What `subprocess.Popen` gets. Copied: it is used while the caller's code runs on.
        self._args: Any = list(args) if isinstance(args, list | tuple) else args
        self._options = dict(options)
        if self._options.get("preexec_fn") is None:
            self._options = _vforkable(self._options)
        # Dropped by `let_go`: the keeper must not keep the transport, which kills the child when it is collected.
        self._on_start: Callable[[], None] | None = on_start
        self._on_exit: Callable[[int], None] | None = on_exit
        # In which the callbacks run, and `preexec_fn`.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        # Locked while the keeper has to stay although it has nothing to do.
        self._over = threading.Lock()
        self._over.acquire()
        # The loop knows the child (and watches it); set once.
        self._is_taken = False
        # The loop is closed, or gave the child up before it was started; set once.
        self._is_let_go = False
        # The exit code was taken; set once.
        self._is_over = False
        # We used methods of Popen that may reap the child and keep its exit code to themselves.
        self._is_polled = False
        #: This is a forked process, and the child is not its own.
        self.is_foreign = False
        # -1 when there is none. Written by the keeper before `_on_start`, by the loop's thread afterwards.
        self._pidfd = -1
        #: One of the two is set when `on_start` is called: the process, or why it could not be started.
        self.popen: subprocess.Popen[bytes] | None = None
        self.error: BaseException | None = None

    # -- starting --

    def start(self) -> None:
        """Start the process; `on_start` is called in the loop when that has succeeded or failed."""
        # A closed loop could not be told, and whoever waits for it (in another loop) would wait for ever.
        self._loop._check_closed()
        self._loop._children.add(self)
        forked: threading.Lock | None = None
        if self._options.get("preexec_fn") is not None:
            _watch_forks()
            forked = threading.Lock()
            forked.acquire()
        try:
            # Not `threading.Thread`, whose `start` waits until the thread runs: a third of the loop's pause.
            _thread.start_new_thread(self._keep, (forked,))
            if forked is not None:
                forked.acquire()
        except BaseException:
            # No thread could be started, or a signal's handler raised while we waited.
            self._loop._children.discard(self)
            self.let_go()
            raise

    def _keep(self, forked: threading.Lock | None) -> None:
        """The keeper's life. In its thread."""
        try:
            if forked is not None:
                _forking[threading.get_ident()] = forked.release
            run: Any = self._context.copy().run
            popen = run(subprocess.Popen, self._args, **self._options)
            pidfd = watch.open_pidfd(popen.pid)
        except BaseException as exc:
            self.error = exc
            popen, pidfd = None, -1
        finally:
            if forked is not None and _forking.pop(threading.get_ident(), None) is not None:
                # It failed before the fork.
                forked.release()
            self._options.clear()
        with self._lock:
            self.popen, self._pidfd = popen, pidfd
            is_let_go = self._is_let_go
        if is_let_go:
            if popen is not None:
                self._close_pidfd()
                _discard(popen)
                popen.wait()
            return
        self._post(self._take)
        if popen is not None:
            self._await_exit(popen)

    def _take(self) -> None:
        """The loop gets the child, or the error."""
        if self._is_let_go:
            return
        self._is_taken = True
        if self.popen is None:
            self._loop._children.discard(self)
        elif self._pidfd >= 0:
            try:
                watch_fd(self._loop, self._pidfd, READ, self._check_pidfd)
            except OSError as exc:
                # The poller is full, or has no use for pidfds. The keeper waits instead.
                watch.logger.debug("can't watch the pidfd of child process %d: %s", self.popen.pid, exc)
                self._close_pidfd()
                self._over.release()
        if self._on_start is not None:
            self._on_start()

    # -- the end --

    def _await_exit(self, popen: subprocess.Popen[bytes]) -> None:
        """Stay until the child has exited; and tell the loop of it where it has no pidfd to watch. In the keeper."""
        if self._pidfd >= 0:
            self._over.acquire()
        if not self._is_over and not self._is_let_go:
            self._post(self._check_pid, watch.wait_for_exit(popen.pid))
        if self._is_let_go:
            popen.wait()

    def _check_pidfd(self) -> None:
        """The pidfd is readable: the child has exited."""
        code = watch.reap_pidfd(self._pidfd)
        if code is not None:
            self._loop._unwatch(self._pidfd, READ)
            self._finish(code, True)

    def _check_pid(self, code: int | None) -> None:
        """The keeper has seen the exit, and its code where it could not help taking it."""
        if not self._is_let_go:
            assert self.popen is not None
            self._finish(watch.reap(self.popen.pid) if code is None else code, False)

    def _finish(self, code: int, by_pidfd: bool) -> None:
        assert self.popen is not None
        if code == watch.GONE:
            if self._is_polled and self.popen.returncode is not None:
                code = self.popen.returncode
            else:
                watch.warn_gone(self.popen.pid, by_pidfd)
                code = 255
        self._is_over = True
        self._close_pidfd()
        self._loop._children.discard(self)
        if by_pidfd:
            self._over.release()
        if self._on_exit is not None:
            self._on_exit(code)

    def let_go(self) -> None:
        """The loop is closed, or nobody waits for the start any more: the keeper reaps the child when it exits."""
        with self._lock:
            self._is_let_go = True
            popen = self.popen
        self._on_start = self._on_exit = None
        if popen is None:
            # Not started yet: the keeper finds out when it is.
            return
        if not self._is_taken:
            _discard(popen)
        if self._pidfd >= 0:
            self._loop._unwatch(self._pidfd, READ)
            self._close_pidfd()
            self._over.release()
        else:
            # The keeper may be past its last look already.
            popen.poll()

    def forget(self) -> None:
        """In a forked process: this is no child of it, and the keeper's thread does not exist."""
        self.is_foreign = self._is_let_go = self._is_over = True
        self._close_pidfd()
        if self.popen is not None and self.popen.returncode is None:
            # Whatever Popen is asked, it must not ask the kernel for that number.
            self.popen.returncode = 0

    # -- signals --

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless the child has exited: never to another process that has its number."""
        assert self.popen is not None
        if self._is_over:
            return
        if self._pidfd >= 0:
            watch.send_signal(self._pidfd, sig)
        else:
            self._is_polled = True
            self.popen.send_signal(sig)

    def is_running(self) -> bool:
        """Whether the child has been started and has not exited, as far as can be told now."""
        popen = self.popen
        if popen is None or self._is_over or popen.returncode is not None:
            return False
        if self._is_let_go:
            return popen.poll() is None
        return not watch.has_exited(popen.pid, self._pidfd)

    def kill(self) -> None:
        """Kill what is running, by its Popen: somebody may have put his own `kill` there."""
        assert self.popen is not None
        self._is_polled = True
        self.popen.kill()

    # -- parts --

    def _close_pidfd(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        """Run a callback in the loop; if it is closed, `let_go` has seen to the child. Any thread."""
        try:
            self._loop.call_soon_threadsafe(callback, *args, context=self._context)
        except RuntimeError:
            if not self._loop.is_closed():
                raise


def _vforkable(options: dict[str, Any]) -> dict[str, Any]:
    """What `Popen` is to be given so that the process can be started beside a loop that runs on."""
    if options.get("env") is None:
        # Until exec the child shares our memory: it would read the environment while the loop may be changing it.
        options = {**options, "env": dict(os.environb)}
    may_posix_spawn = sys.version_info >= (3, 13) or not options.get("close_fds", True)
    if may_posix_spawn and options.get("process_group") is None and not options.get("start_new_session"):
        # Popen prefers `os.posix_spawn` where it can, which keeps the GIL until exec, and so stops the loop. It can't
        # where a process group is asked for; this one the child would be in anyway. (0: it is outside of our namespace.)
        group = os.getpgrp()
        if group > 0:
            options = {**options, "process_group": group}
    return options


def _discard(popen: subprocess.Popen[bytes]) -> None:
    """Nobody wants this child: kill it, and close our ends of its pipes. Whoever calls reaps it."""
    popen.send_signal(signal.SIGKILL)
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()
