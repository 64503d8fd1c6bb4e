"""A program as `python` would run it: found, given its `sys.argv` and `sys.path`, and executed as `__main__`.

Rules for whoever edits this file:

- What the program sees is what `python script.py` or `python -m module` shows it. It runs in a new `__main__` module, which
  stays in `sys.modules` to the end of the process (threads, exit handlers, pickles and `multiprocessing` look there).
- The program's code is called from this file only: `hide_own_frames` cuts a traceback at its frames.
- `BadProgram` is for what can be said in one line before the program starts. What the program itself raises is its own.

Why not `runpy`: `run_path` gives the program a module that is gone when its main code ends, and what `python -m` uses is
private.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib.machinery
import importlib.util
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Coroutine
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType, TracebackType
from typing import Any

__all__ = ["BadProgram", "hide_own_frames", "run_module", "run_target"]

_COROUTINE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class BadProgram(Exception):
    """There is no such program, said in one line."""


def run_target(target: str, arguments: list[str]) -> None:
    """Run the program that the command line names without `-m`: a file, a folder or archive with a `__main__`, or a
    coroutine function as `module:function`. BadProgram if there is none."""
    if _COROUTINE.fullmatch(target) and not os.path.exists(target):
        _run_coroutine(target, arguments)
    elif os.path.isdir(target) or _is_archive(target):
        _run_folder(target, arguments)
    else:
        _run_script(target, arguments)


def run_module(name: str, arguments: list[str]) -> None:
    """Run a module, or the `__main__` of a package, as `python -m name` does. BadProgram if there is none."""
    _set_first_path(os.getcwd())
    sys.argv[:] = ["-m", *arguments]
    spec = _find_module(name)
    if spec.submodule_search_locations is not None:
        parent, name = name, f"{name}.__main__"
        try:
            spec = _find_module(name)
        except BadProgram:
            raise BadProgram(f"{parent} is a package that can't be run: it has no __main__") from None
    code = _code_of(spec)
    sys.argv[0] = spec.origin or name
    _execute(code, _new_main(spec.origin, spec))


def _run_script(path: str, arguments: list[str]) -> None:
    full = os.path.join(os.getcwd(), path)
    try:
        with io.open_code(full) as file:
            source = file.read()
    except OSError as error:
        raise BadProgram(f"can't open the program {path!r}: {error.strerror}") from None
    _set_first_path(os.path.dirname(os.path.realpath(full)))
    sys.argv[:] = [path, *arguments]
    main = _new_main(full, None)
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", full)
    _execute(compile(source, full, "exec", dont_inherit=True), main)


def _run_folder(path: str, arguments: list[str]) -> None:
    full = os.path.join(os.getcwd(), path)
    spec = importlib.machinery.PathFinder.find_spec("__main__", [full])
    if spec is None:
        raise BadProgram(f"{path!r} can't be run: it has no __main__.py")
    _set_first_path(full)
    sys.argv[:] = [path, *arguments]
    _execute(_code_of(spec), _new_main(spec.origin, spec))


def _run_coroutine(target: str, arguments: list[str]) -> None:
    name, _, path = target.partition(":")
    _set_first_path(os.getcwd())
    sys.argv[:] = [target, *arguments]
    spec = _find_module(name)
    sys.argv[0] = spec.origin or name
    __import__(name)
    found: object = sys.modules[name]
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise BadProgram(f"module {name!r} has no coroutine function {path!r}") from None
    function = _coroutine_function(found, target)
    asyncio.run(function())


def _coroutine_function(found: object, target: str) -> Callable[[], Coroutine[Any, Any, object]]:
    if inspect.isasyncgenfunction(found):
        raise BadProgram(f"{target} is an async generator function, not a coroutine function")
    # An object whose class has an `async def __call__` will do.
    if not callable(found) or not (
        inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)
    ):
        raise BadProgram(f"{target} is {_a(found)}, not a coroutine function")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise BadProgram(f"{target} can't be called without arguments: {error}") from None
    return found


def _a(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _find_module(name: str) -> ModuleSpec:
    """The spec of a module; what its parent packages raise when they get imported passes."""
    if name.startswith(".") or not all(name.split(".")):
        raise BadProgram(f"{name!r} is not the name of a module")
    parent, _, _ = name.rpartition(".")
    try:
        if parent:
            __import__(parent)
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    except ValueError:
        # A module that was imported already and has no spec.
        spec = None
    if spec is None:
        raise BadProgram(f"no module named {name!r}")
    return spec


def _code_of(spec: ModuleSpec) -> CodeType:
    get_code = getattr(spec.loader, "get_code", None)
    code = None if get_code is None else get_code(spec.name)
    if code is None:
        raise BadProgram(f"{spec.name!r} can't be run: it has no Python code")
    return code  # type: ignore[no-any-return]


def _is_archive(path: str) -> bool:
    """Whether the import system can look into a file, as it can into a zip archive."""
    if not os.path.isfile(path):
        return False
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _set_first_path(entry: str) -> None:
    """Let modules be found where Python looks first for this program, in place of where it looked first for `weft`."""
    if not sys.flags.safe_path:
        sys.path[0:1] = [entry]


def _new_main(path: str | None, spec: ModuleSpec | None) -> ModuleType:
    """A new `__main__` module, in its place."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    main.__spec__ = spec
    if path is not None:
        main.__file__ = path
    if spec is not None:
        main.__loader__ = spec.loader
        main.__package__ = spec.parent
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    if sys.version_info < (3, 15):
        main.__dict__["__cached__"] = None if spec is None else spec.cached
    sys.modules["__main__"] = main
    return main


def _execute(code: CodeType, main: ModuleType) -> None:
    exec(code, main.__dict__)


def hide_own_frames() -> None:
    """Let Python report the exception that is about to end the process without the frames that led to the program."""
    hook = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        traceback = _from_program(traceback)
        hook(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = report


def _from_program(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback from the first frame on that this file called; the whole where this file called nothing."""
    entry, is_inside = traceback, False
    while entry is not None:
        is_own = entry.tb_frame.f_code.co_filename == __file__
        if is_inside and not is_own:
            return entry
        is_inside |= is_own
        entry = entry.tb_next
    return None if is_inside else traceback
