"""`weft doctor`: say what runs here, how, and what the machine lacks.

Each finding is a fact that was asked of this process or this kernel a moment ago, never a guess from a version number. A small
program is run on each poller, so "works" means that it did.

Exit codes: 0 when Weft's loop works here, 1 when it doesn't, 2 for bad input. What is only lacking is no failure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import resource
import select
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

from weft import _edition
from weft._core.current import CurrentTask
from weft._host import registry
from weft._io import available_pollers
from weft.cli import _version
from weft.cli._lines import columns
from weft.loop import Loop

__all__ = ["main"]

# Below this, a server of many connections runs into EMFILE.
_ENOUGH_FILES = 4096

_TRIAL_SECONDS = 10


@dataclass(frozen=True)
class Findings:
    """What there is to say, each part as rows of a name and a value."""

    weft: dict[str, str]
    versions: dict[str, str]
    machine: dict[str, str]
    lacking: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    """Print the findings, as text or as JSON; the exit code."""
    parser = argparse.ArgumentParser(
        prog="weft doctor", description="Say what runs here, how, and what the machine lacks.", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    findings = examine()
    if options.json:
        _say(json.dumps({"ok": not findings.broken, **asdict(findings)}, indent=2))
    else:
        _say("\n".join(_text(findings)))
    return 1 if findings.broken else 0


def _say(text: str) -> None:
    """Print; quietly no more where the reader, as `head`, has seen enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more when it ends: what is left goes nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def examine() -> Findings:
    """Find out. Runs a small program on each poller, in threads and on loops of its own."""
    broken: list[str] = []
    pollers: dict[str, str] = {name: _trial(name) for name in ("epoll", "selector") if name in available_pollers()}
    broken += [f"poller {name}: {problem}" for name, problem in pollers.items() if problem]
    default = os.environ.get("WEFT_POLLER") or available_pollers()[0]
    if default not in pollers:
        broken.append(f"WEFT_POLLER={default}: no such poller here")
    machine, lacking = _machine()
    return Findings(
        weft={
            "edition": f"{_edition.EDITION} ({_edition.reason()})",
            "poller": f"{default} ({_why_poller()})",
            "pollers": _pollers(pollers),
            "asyncio.all_tasks()": _all_tasks(),
            "asyncio.current_task()": _current_task(),
            "installed in": str(Path(_edition.__file__).parent),
        },
        versions=_versions(),
        machine=machine,
        lacking=lacking,
        broken=broken,
    )


def _text(findings: Findings) -> list[str]:
    lines = []
    for title, rows in (("Weft", findings.weft), ("Versions", findings.versions), ("Machine", findings.machine)):
        lines += [title, *columns(list(rows.items()), indent="  "), ""]
    lines += ["Lacking", *(f"  {line}" for line in findings.lacking or ["nothing that Weft knows of"])]
    if findings.broken:
        lines += ["", "Broken", *(f"  {line}" for line in findings.broken)]
    return lines


# -- Weft --


async def _talk() -> str:
    """Use tasks, a socket and a thread; what is wrong with the loop, or nothing."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        receiving = asyncio.create_task(loop.sock_recv(there, 16))
        await asyncio.sleep(0)
        await loop.sock_sendall(here, b"warp")
        if await asyncio.wait_for(receiving, 5) != b"warp":
            return "what was sent did not come back"
    if await loop.run_in_executor(None, os.getpid) != os.getpid():
        return "the executor did not answer"
    if asyncio.current_task() not in asyncio.all_tasks():
        return "asyncio.all_tasks() does not see the current task"
    return ""


def _trial(poller: str) -> str:
    """What goes wrong when a small program runs on this poller; nothing where it works.

    In a thread of its own, which is left behind if it does not come to an end: a doctor must not hang with the patient.
    """
    said = [f"a small program did not end within {_TRIAL_SECONDS} s"]

    def run() -> None:
        try:
            said[:] = [_run_on(poller)]
        except Exception as error:
            said[:] = [f"{type(error).__name__}: {error}"]

    thread = threading.Thread(target=run, name=f"weft doctor on {poller}", daemon=True)
    thread.start()
    thread.join(_TRIAL_SECONDS)
    return said[0]


def _run_on(poller: str) -> str:
    loop = Loop(poller=poller)
    try:
        problem = loop.run_until_complete(_talk())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    return str(problem)


def _why_poller() -> str:
    if os.environ.get("WEFT_POLLER"):
        return "WEFT_POLLER says so"
    return "the best one that this platform has"


def _pollers(trials: dict[str, str]) -> str:
    said = [f"{name} {'fails' if problem else 'works'}" for name, problem in trials.items()]
    if "epoll" not in trials:
        said.append(f"no epoll: it is Linux's, and this is {platform.system()}")
    return ", ".join(said)


def _all_tasks() -> str:
    how = registry.how_all_tasks()
    said = {
        "task set": "asyncio's own: its set of tasks also goes over those of Weft's loops",
        "registration": "asyncio's own, with which each task is registered: 0.5 µs a task, as this Python hides its set",
    }
    return said.get(how, how)


def _current_task() -> str:
    if sys.version_info >= (3, 14):
        way = "written directly" if CurrentTask.is_written_directly() else "set by _swap_current_task"
        return f"asyncio's own: a mark of each thread, {way}"
    return "asyncio's own: its table of the running task of each loop"


# -- versions --


def _versions() -> dict[str, str]:
    found = {
        "weft": _version(),
        "Python": f"{platform.python_implementation()} {platform.python_version()} ({_build_of_python()})",
        "asyncio loops installed": ", ".join(_other_loops()) or "asyncio's own only",
    }
    if _edition.EDITION == "compiled":
        found["compiled by"] = _compiled_by()
    return found


def _build_of_python() -> str:
    said = [platform.python_compiler()]
    if getattr(sys, "_is_gil_enabled", lambda: True)() is False:
        said.append("free-threaded")
    if hasattr(sys, "gettotalrefcount"):
        said.append("debug build")
    return ", ".join(said)


def _other_loops() -> list[str]:
    names = []
    for name in ("uvloop", "rloop", "rsloop", "zuvloop"):
        with contextlib.suppress(ImportError, ValueError):
            if find_spec(name) is not None:
                names.append(name)
    return names


def _compiled_by() -> str:
    """Cython leaves a module named after its version, a C compiler its name in the file."""
    said = [f"Cython {_dotted(name)}" for name in sys.modules if re.fullmatch(r"_cython_\d\w*", name)]
    built = sys.modules.get("weft._core.handle")
    path = getattr(built, "__file__", None)
    if path is not None:
        compiler = re.search(rb"(GCC: \([^)]*\) [\d.]+|clang version [\d.]+)", Path(path).read_bytes())
        if compiler is not None:
            said.append(compiler[0].decode("ascii", "replace"))
    return ", ".join(said) or "unknown"


def _dotted(module: str) -> str:
    return module.removeprefix("_cython_").replace("_", ".")


# -- the machine --


def _machine() -> tuple[dict[str, str], list[str]]:
    rows = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": f"{_processors()} of {os.cpu_count()} for this process",
    }
    lacking = []
    for name, has, consequence in (
        ("epoll", _has_epoll, "the poller is `selector`"),
        (
            "eventfd",
            _has_eventfd,
            "other threads wake the loop by a socket pair: a little slower, and one descriptor more",
        ),
        ("pidfd", _has_pidfd, "child processes must be watched by a thread each"),
        ("IPv6", _has_ipv6, "connections and servers are IPv4 only"),
        ("SO_REUSEPORT", lambda: hasattr(socket, "SO_REUSEPORT"), "several processes can't share one port"),
        ("Unix sockets", lambda: hasattr(socket, "AF_UNIX"), "there is TCP only"),
    ):
        there = has()
        rows[name] = "yes" if there else "no"
        if not there:
            lacking.append(f"{name}: {consequence}")
    rows["IOV_MAX"] = str(_iov_max() or "unknown")
    if not _iov_max():
        lacking.append("IOV_MAX: the system does not say; 16 buffers a sendmsg is what POSIX promises")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    rows["open files"] = f"{_limit(soft)} (ulimit -n; up to {_limit(hard)})"
    if soft != resource.RLIM_INFINITY and soft < _ENOUGH_FILES:
        lacking.append(
            f"open files: {soft} is few for a server of many connections: `ulimit -n` raises it to {_limit(hard)}"
        )
    return rows, lacking


def _works(action: Callable[[], object]) -> bool:
    try:
        action()
    except (OSError, AttributeError):
        return False
    return True


def _has_epoll() -> bool:
    return _works(lambda: select.epoll().close())


def _has_eventfd() -> bool:
    return _works(lambda: os.close(os.eventfd(0, os.EFD_CLOEXEC)))


def _has_pidfd() -> bool:
    return _works(lambda: os.close(os.pidfd_open(os.getpid())))


def _has_ipv6() -> bool:
    def bind() -> None:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))

    return socket.has_ipv6 and _works(bind)


def _iov_max() -> int:
    try:
        return max(0, os.sysconf("SC_IOV_MAX"))
    except (ValueError, OSError):
        return 0


def _processors() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limit(number: int) -> str:
    return "unlimited" if number == resource.RLIM_INFINITY else str(number)
