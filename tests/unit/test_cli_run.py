"""`weft run`: what the program sees is what `python` shows it (which is the oracle here), and bad input is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

WEFT = ("-m", "weft", "run")

# Prints what a program can know of how it was started.
PROBE = """
import sys
main = sys.modules["__main__"]
print(sys.argv, sys.path[0], sys.path[1:3] == sys.path[2:4])
print(__name__, __file__, __package__, __spec__ and (__spec__.name, __spec__.origin), type(__loader__).__name__)
print(main.__dict__ is globals(), __builtins__.__name__, sorted(globals()))
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(*arguments, files={…})`: a Python with these arguments in a folder with these files."""

    def start(
        *arguments: str, files: dict[str, str] | None = None, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=60,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        )

    return start


def outcome(process: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return process.returncode, process.stdout, process.stderr


# -- as python --


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe.py", "a", "--debug", "-h", "--", "-m", "x"),
        ("./probe.py",),
        ("folder/inner.py", "b"),
        ("-m", "probe", "--stats", "--", "-x"),
        ("-m", "package", "c"),
        ("-m", "package.module"),
        ("folder", "d"),
        ("./folder/",),
        ("archive.zip", "e"),
    ],
    ids=" ".join,
)
def test_the_program_sees_what_python_shows_it(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    probe = PROBE
    files = {
        "probe.py": probe,
        "folder/inner.py": probe,
        "folder/__main__.py": probe,
        "package/__init__.py": "",
        "package/__main__.py": probe,
        "package/module.py": probe,
    }
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", probe)
    expected = outcome(run(*arguments, files=files))
    assert expected[0] == 0
    assert outcome(run(*WEFT, *arguments)) == expected


def test_safe_path_puts_nothing_before_the_library(run: Run) -> None:
    files = {"probe.py": "import sys; print(sys.path)"}
    expected = outcome(run("probe.py", files=files, PYTHONSAFEPATH="1"))
    assert outcome(run(*WEFT, "probe.py", PYTHONSAFEPATH="1")) == expected


def test_stdin_is_the_programs(run: Run) -> None:
    done = run(*WEFT, "probe.py", files={"probe.py": "print(input(), __import__('sys').stdin.read())"}, stdin="a\nb\nc")
    assert outcome(done) == (0, "a b\nc\n", "")


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    raise ValueError('boom')\nf()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('x') from error",
        "raise SystemExit(7)",
        "raise SystemExit('words')",
        "raise SystemExit",
        "import sys; sys.exit(3.5)",
        "import os; os._exit(5)",
        "raise KeyboardInterrupt",
        "x = = 1",
        "import no_such_module_anywhere",
        "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
        "import sys\nsys.excepthook = lambda *args: print('mine', args[0].__name__, file=sys.stderr)\nraise ValueError",
        "import atexit\natexit.register(print, 'at exit')\nraise ValueError",
        "import threading\nthreading.Thread(target=print, args=('thread',)).start()",
        "# -*- coding: latin-1 -*-\nprint(ascii('\\u00e4'))",
    ],
)
def test_a_program_ends_as_under_python(run: Run, source: str) -> None:
    expected = outcome(run("program.py", files={"program.py": source}))
    assert outcome(run(*WEFT, "program.py")) == expected


def test_a_raising_module_shows_its_own_frames_only(run: Run) -> None:
    done = run(
        *WEFT, "-m", "package", files={"package/__init__.py": "", "package/__main__.py": "raise ValueError('boom')"}
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert done.stderr.splitlines()[1].endswith('package/__main__.py", line 1, in <module>')
    assert done.stderr.splitlines()[-1] == "ValueError: boom"


def test_a_package_that_raises_when_it_is_imported_has_its_own_traceback(run: Run) -> None:
    files = {"package/__init__.py": "import no_such_module_anywhere", "package/module.py": ""}
    for program in (("-m", "package.module"), ("package.module:main",)):
        done = run(*WEFT, *program, files=files)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_module_anywhere'"
        assert "weft/cli" not in done.stderr


def test_a_raising_coroutine_has_its_own_traceback(run: Run) -> None:
    files = {"program.py": "async def main():\n    raise ValueError('boom')"}
    done = run(*WEFT, "program:main", files=files)
    assert done.returncode == 1
    assert "weft/cli" not in done.stderr
    assert done.stderr.splitlines()[-1] == "ValueError: boom"


def test_ctrl_c_ends_a_program_by_the_signal(run: Run, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\nasync def main():\n    print('up', flush=True)\n    await asyncio.sleep(60)\nasyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, *WEFT, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert said.splitlines()[-1] == "KeyboardInterrupt"


def test_a_coroutine_never_awaited_still_warns(run: Run) -> None:
    source = "import asyncio\nasync def f(): pass\nasync def main():\n    f()\nasyncio.run(main())"
    done = run(*WEFT, "program.py", files={"program.py": source})
    assert done.returncode == 0
    assert "RuntimeWarning: coroutine 'f' was never awaited" in done.stderr


# -- module:function --


def test_a_coroutine_function_runs(run: Run) -> None:
    files = {
        "package/__init__.py": "",
        "package/jobs.py": (
            "import asyncio, sys\n"
            "class Job:\n"
            "    @staticmethod\n"
            "    async def main():\n"
            "        print(type(asyncio.get_running_loop()).__module__, sys.argv[1:], __name__)\n"
            "    async def __call__(self):\n"
            "        await self.main()\n"
            "job = Job()\n"
        ),
    }
    for target in ("package.jobs:Job.main", "package.jobs:job"):
        assert outcome(run(*WEFT, target, "-x", files=files)) == (0, "weft.loop ['-x'] package.jobs\n", "")


def test_what_looks_like_a_coroutine_function_and_is_a_file_is_a_file(run: Run) -> None:
    assert outcome(run(*WEFT, "a:b", files={"a:b": "print('file')"})) == (0, "file\n", "")


# -- bad input --


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.py",), "can't open the program 'missing.py': No such file or directory"),
        (("missing.py", "program:main"), "can't open the program 'missing.py'"),
        (("folder",), "'folder' can't be run: it has no __main__.py"),
        (("-m", "missing"), "no module named 'missing'"),
        (("-m", "package.missing"), "no module named 'package.missing'"),
        (("-m", "package"), "package is a package that can't be run: it has no __main__"),
        (("-m", "program.main"), "no module named 'program.main'"),
        (("-m", ".."), "'..' is not the name of a module"),
        (("-m", "sys"), "'sys' can't be run: it has no Python code"),
        (("missing:main",), "no module named 'missing'"),
        (("program:missing",), "module 'program' has no coroutine function 'missing'"),
        (("program:main.missing",), "module 'program' has no coroutine function 'main.missing'"),
        (("program:function",), "program:function is a function, not a coroutine function"),
        (("program:number",), "program:number is an int, not a coroutine function"),
        (("program:generator",), "program:generator is an async generator function, not a coroutine function"),
        (("program:needs",), "program:needs can't be called without arguments: missing a required argument: 'a'"),
        (("--poller", "uring", "program.py"), "the poller 'uring' does not work here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], words: str) -> None:
    files = {
        "program.py": (
            "async def main(): pass\nasync def needs(a): pass\nasync def generator(): yield\ndef function(): pass\nnumber = 1\n"
        ),
        "package/__init__.py": "",
        "folder/something.py": "",
    }
    done = run(*WEFT, "--stats", *arguments, files=files)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"weft run: {words}")


@pytest.mark.parametrize("arguments", [(), ("--bogus", "program.py"), ("-m",), ("--edition", "other", "program.py")])
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*WEFT, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: weft run")


def test_an_unreadable_program_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("")
    (tmp_path / "program.py").chmod(0)
    if os.access(tmp_path / "program.py", os.R_OK):
        pytest.skip("this user reads everything")
    done = run(*WEFT, "program.py")
    assert outcome(done) == (2, "", "weft run: can't open the program 'program.py': Permission denied\n")


# -- options --


def test_debug_poller_and_edition_reach_the_loop(run: Run) -> None:
    source = (
        "import asyncio\n"
        "from weft import _edition\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    print(loop.get_debug(), loop._poller.name, _edition.EDITION)\n"
        "asyncio.run(main())"
    )
    files = {"program.py": source}
    done = run(*WEFT, "--debug", "--poller", "selector", "--edition", "plain", "program.py", files=files)
    assert outcome(done) == (0, "True selector plain\n", "")
    done = run(*WEFT, "program.py", files=files, WEFT_POLLER="selector")
    assert done.stdout.split()[:2] == ["False", "selector"]


def test_the_edition_is_changed_back_by_starting_over(run: Run) -> None:
    from weft import _edition

    files = {"program.py": "import sys; from weft import _edition; print(_edition.EDITION, sys.argv)"}
    done = run(*WEFT, "--edition", "compiled", "program.py", "x", files=files, WEFT_PURE="1")
    if _edition._has_compiled():
        assert outcome(done) == (0, "compiled ['program.py', 'x']\n", "")
    else:
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("weft run: the compiled edition can't run here: ")


def test_stats_come_last_on_stderr(run: Run) -> None:
    source = (
        "import asyncio, atexit, sys\n"
        "atexit.register(print, 'at exit', file=sys.stderr)\n"
        "async def main():\n"
        "    await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))\n"
        "    raise ValueError('boom')\n"
        "asyncio.run(main())"
    )
    done = run(*WEFT, "--stats", "program.py", files={"program.py": source})
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()
    start = said.index("weft run: what the loops did")
    assert said[start - 2 : start] == ["ValueError: boom", "at exit"]
    rows = {line[:19].strip(): line[19:].strip() for line in said[start + 1 :]}
    assert list(rows) == [
        "loops of Weft", "turns", "callbacks", "tasks", "longest callback", "wake-ups", "syscalls", "peak RSS",
    ]  # fmt: skip
    assert rows["loops of Weft"].startswith("1 (")
    assert int(rows["tasks"]) >= 11
    assert int(rows["turns"]) >= 2
    assert int(rows["callbacks"]) >= 22


def test_stats_where_nobody_takes_what_the_program_prints(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('x' * 100_000)")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        outcomes = [
            subprocess.run(
                [sys.executable, *command, str(program)], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
            )
            for command in ((), (*WEFT, "--stats"))
        ]
    finally:
        os.close(writer)
    assert outcomes[0].returncode == outcomes[1].returncode
    assert "BrokenPipeError" in outcomes[1].stderr
    assert "weft run: what the loops did\n  loops of Weft  none in this process\n" in outcomes[1].stderr


def test_debug_where_python_ignores_its_environment(run: Run) -> None:
    source = "import asyncio\nasync def main(): print(asyncio.get_running_loop().get_debug())\nasyncio.run(main())"
    if "PYTHONPATH" in os.environ:
        pytest.skip("Weft is found by PYTHONPATH here")
    done = run("-E", *WEFT, "--debug", "program.py", files={"program.py": source})
    assert outcome(done) == (0, "True\n", "")


def test_stats_count_wake_ups_by_threads_and_by_signals(run: Run) -> None:
    source = (
        "import asyncio, os, signal, threading\n"
        "async def main():\n"
        "    loop, came = asyncio.get_running_loop(), asyncio.Event()\n"
        "    loop.add_signal_handler(signal.SIGUSR1, came.set)\n"
        "    for _ in range(3):\n"
        "        os.kill(os.getpid(), signal.SIGUSR1)\n"
        "        await came.wait()\n"
        "        came.clear()\n"
        "    threading.Thread(target=loop.call_soon_threadsafe, args=(came.set,)).start()\n"
        "    await came.wait()\n"
        "asyncio.run(main())"
    )
    done = run(*WEFT, "--stats", "program.py", files={"program.py": source})
    assert "wake-ups          4\n" in done.stderr


def test_stats_of_weft_run_count_loops_made_by_weft_run(run: Run) -> None:
    source = "import asyncio, weft\nasync def main(): pass\nweft.run(main())\nasyncio.run(main())"
    done = run(*WEFT, "--stats", "program.py", files={"program.py": source})
    assert "loops of Weft     2 (" in done.stderr


def test_stats_are_told_before_dying_of_sigterm(run: Run, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\nasync def main():\n    print('up', flush=True)\n    await asyncio.sleep(60)\nasyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, *WEFT, "--stats", str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert said.startswith("weft run: what the loops did\n")


def test_the_command_itself(run: Run) -> None:
    assert run("-m", "weft", "--version").stdout.startswith("weft ")
    assert "doctor" in run("-m", "weft", "--help").stdout
    for arguments in ((), ("nonsense",)):
        done = run("-m", "weft", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: weft")


def test_a_second_ctrl_c_does_not_tear_the_report(run: Run) -> None:
    source = """
import os, signal, sys
class Impatient:
    def flush(self):
        os.kill(os.getpid(), signal.SIGINT)
sys.stdout = Impatient()
"""
    done = run(*WEFT, "--stats", "program.py", files={"program.py": source})
    assert done.returncode == 0
    assert done.stderr.startswith("weft run: what the loops did\n")
    assert "Traceback" not in done.stderr
