"""How an exit is seen and reaped: by a pidfd where the system has them, otherwise by a thread that waits.

A pidfd names the process and not its number: it becomes readable when the process has exited, and neither a wait nor a
signal through it can ever hit another process that got the number meanwhile.

Nothing here keeps state. A child that somebody else has reaped has no exit code any more; the callers report asyncio's
255 for it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

__all__ = ["GONE", "has_exited", "open_pidfd", "reap", "reap_pidfd", "send_signal", "wait_for_exit", "warn_gone"]

logger = logging.getLogger("asyncio")

#: What the functions that reap answer when the child's exit code went to somebody else.
GONE = -1000

# Whether this kernel has pidfds and lets us use them (a sandbox may not). None until the first child.
_has_pidfds: bool | None = None


def _find_pidfds() -> bool:
    """Try on this very process: it is no child of itself, so the wait must answer exactly that."""
    if sys.platform != "linux":
        return False
    try:
        pidfd = os.pidfd_open(os.getpid())
    except OSError as exc:
        logger.debug("no pidfds here: %s", exc)
        return False
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        signal.pidfd_send_signal(pidfd, 0)
    except ChildProcessError:
        return True
    except OSError as exc:
        logger.debug("no waiting for pidfds here: %s", exc)
        return False
    finally:
        os.close(pidfd)
    return False


def open_pidfd(pid: int) -> int:
    """A pidfd for a child of ours that nobody has reaped; -1 where there is none to be had. Any thread."""
    global _has_pidfds
    if _has_pidfds is None:
        _has_pidfds = _find_pidfds()
    if not _has_pidfds:
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError as exc:
        # No descriptor is left, or the child is gone already (SIGCHLD is ignored): the thread deals with both.
        logger.debug("no pidfd for child process %d: %s", pid, exc)
        return -1


def send_signal(pidfd: int, sig: int) -> None:
    """Send a signal to the process of a pidfd. One that was reaped meanwhile needs none."""
    try:
        signal.pidfd_send_signal(pidfd, sig)
    except ProcessLookupError as exc:
        logger.debug("signal %d came too late: %s", sig, exc)


def _exit_code(kind: int, status: int) -> int:
    """asyncio's return code: the status of an exit, or the negative number of the signal that ended the process."""
    return status if kind == os.CLD_EXITED else -status


def reap_pidfd(pidfd: int) -> int | None:
    """Take the exit code of the child of a pidfd: None while it runs, GONE if somebody else has taken it."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return GONE
    return None if found is None else _exit_code(found.si_code, found.si_status)


def reap(pid: int) -> int:
    """Take the exit code of a child that has exited: GONE if somebody else has taken it."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return GONE
    return os.waitstatus_to_exitcode(status)


def has_exited(pid: int, pidfd: int) -> bool:
    """Whether a child has exited, without reaping it; by its pidfd, if that isn't -1."""
    if not hasattr(os, "waitid"):
        return False
    kind, which = (os.P_PID, pid) if pidfd < 0 else (os.P_PIDFD, pidfd)
    try:
        return os.waitid(kind, which, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def wait_for_exit(pid: int) -> int | None:
    """Block until a child has exited. Leaves the reaping to the loop, and answers None, where the system allows that.

    As long as it isn't reaped its number can't be another process's, so the loop may still send it a signal.
    """
    if not hasattr(os, "waitid"):
        return reap(pid)
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        while found is not None and found.si_code == os.CLD_STOPPED:
            # macOS reports a child that was stopped, too: take that report away and wait on.
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return GONE
    return None


def warn_gone(pid: int, by_pidfd: bool) -> None:
    """Say, in asyncio's words, that somebody else has reaped a child."""
    if by_pidfd and sys.version_info >= (3, 12):
        logger.warning("child process pid %d exit status already read:  will report returncode 255", pid)
    else:
        logger.warning("Unknown child process pid %d, will report returncode 255", pid)
