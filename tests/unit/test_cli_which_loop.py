"""Under `weft run` every road to a loop leads to Weft's, and but for the loop that gets made `asyncio` is as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import asyncio, sys
async def main():
    print(type(asyncio.get_running_loop()).__module__)
def drive(loop):
    loop.run_until_complete(main())
    loop.close()
"""

ROADS = {
    "run": "asyncio.run(main())",
    "runner": "with asyncio.Runner() as runner:\n    runner.run(main())",
    "imported early": "from asyncio import run\nrun(main())",
    "new_event_loop": "drive(asyncio.new_event_loop())",
    "factory": "with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:\n    runner.run(main())",
    "factory is the class": "with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:\n    runner.run(main())",
    "class": "drive(asyncio.SelectorEventLoop())",
    "class with no selector": "drive(asyncio.SelectorEventLoop(None))",
    "thread": "import threading\nt = threading.Thread(target=asyncio.run, args=(main(),))\nt.start()\nt.join()",
    "async test case": (
        "import unittest\n"
        "class Case(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test(self):\n"
        "        await main()\n"
        "result = unittest.TestResult()\n"
        "Case('test').run(result)\n"
        "assert result.wasSuccessful(), result"
    ),
}

# Roads that are deprecated on some version, with or without Weft.
OLD_ROADS = {
    "get_event_loop": "loop = asyncio.new_event_loop()\nasyncio.set_event_loop(loop)\ndrive(asyncio.get_event_loop())",
    "policy set to None": "asyncio.set_event_loop_policy(None)\nasyncio.run(main())",
    "the default policy": "asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())\nasyncio.run(main())",
    "a policy of its own": (
        "class Policy(asyncio.DefaultEventLoopPolicy):\n    pass\n"
        "asyncio.set_event_loop_policy(Policy())\nasyncio.run(main())"
    ),
}

UVLOOP_ROADS = {
    "factory": "import uvloop\nwith asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:\n    runner.run(main())",
    "imported name": "from uvloop import new_event_loop\ndrive(new_event_loop())",
    "class": "import uvloop\ndrive(uvloop.Loop())",
    "install": "import uvloop\nuvloop.install()\nasyncio.run(main())",
    "policy": "import uvloop\nasyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\ndrive(asyncio.new_event_loop())",
}


def weft_run(tmp_path: Path, source: str, *options: str, strict: bool = True) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(HEAD + source)
    warnings = ["-W", "error"] if strict else ["-W", "ignore"]
    return subprocess.run(
        [sys.executable, *warnings, "-m", "weft", "run", *options, "program.py"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.parametrize("road", ROADS)
def test_every_road_leads_to_weft_without_a_warning(tmp_path: Path, road: str) -> None:
    done = weft_run(tmp_path, ROADS[road], "--require")
    assert (done.returncode, done.stdout, done.stderr) == (0, "weft.loop\n", "")


@pytest.mark.parametrize("road", OLD_ROADS)
def test_old_roads_lead_to_weft(tmp_path: Path, road: str) -> None:
    done = weft_run(tmp_path, OLD_ROADS[road], "--require", strict=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "weft.loop\n", "")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has a loop_factory from 3.12 on")
def test_run_with_a_factory(tmp_path: Path) -> None:
    done = weft_run(tmp_path, "asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "weft.loop\n", "")


@pytest.mark.parametrize("road", UVLOOP_ROADS)
def test_uvloop_gives_way(tmp_path: Path, road: str) -> None:
    pytest.importorskip("uvloop")
    done = weft_run(tmp_path, UVLOOP_ROADS[road], "--require", strict=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "weft.loop\n", "")


def test_uvloop_that_was_imported_before_gives_way(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    (tmp_path / "usercustomize.py").write_text("import uvloop")
    (tmp_path / "program.py").write_text(HEAD + UVLOOP_ROADS["factory"])
    done = subprocess.run(
        [sys.executable, "-c", "import uvloop; from weft.cli import main; main(['run', '--require', 'program.py'])"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "weft.loop\n", "")


def test_what_insists_on_uvloop_runs_on_it_and_is_told(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    source = "import uvloop\nuvloop.run(main())\nprint('done')"
    done = weft_run(tmp_path, source, strict=False)
    assert (done.returncode, done.stdout) == (0, "uvloop\ndone\n")
    line = len(HEAD.splitlines()) + 2
    assert done.stderr == (
        f"weft run: the program did not stay on Weft: it made uvloop.Loop (at {tmp_path / 'program.py'}:{line})\n"
    )


def test_require_makes_that_an_error_at_once(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    source = "import uvloop\ntry:\n    uvloop.run(main())\nfinally:\n    print('tidied up')"
    done = weft_run(tmp_path, source, "--require", strict=False)
    assert (done.returncode, done.stdout) == (3, "tidied up\n")
    assert done.stderr.startswith("weft run: --require: the program would make uvloop.Loop (at ")


def test_require_holds_where_the_exit_was_swallowed(tmp_path: Path) -> None:
    source = (
        "class Own(asyncio.SelectorEventLoop):\n    pass\n"
        "try:\n    Own()\nexcept SystemExit:\n    print('swallowed')\n"
        "import threading\nt = threading.Thread(target=Own)\nt.start()\nt.join()"
    )
    done = weft_run(tmp_path, source, "--require")
    assert (done.returncode, done.stdout) == (3, "swallowed\n")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("class Own(asyncio.SelectorEventLoop):\n    pass\ndrive(Own())", "__main__.Own"),
        (
            "import selectors\ndrive(asyncio.SelectorEventLoop(selectors.SelectSelector()))",
            "asyncio.unix_events._UnixSelectorEventLoop",
        ),
    ],
)
def test_a_loop_that_somebody_designed_is_made_as_asked_and_told(tmp_path: Path, source: str, kind: str) -> None:
    done = weft_run(tmp_path, source)
    assert (done.returncode, done.stdout) == (0, f"{kind.rpartition('.')[0]}\n")
    assert done.stderr.startswith(f"weft run: the program did not stay on Weft: it made {kind} (at ")


def test_several_of_a_kind_are_one_line(tmp_path: Path) -> None:
    source = "class Own(asyncio.SelectorEventLoop):\n    pass\nfor _ in range(3):\n    drive(Own())"
    done = weft_run(tmp_path, source)
    (line,) = done.stderr.splitlines()
    assert line.endswith(", 3 times)")


def test_a_loop_of_weft_that_the_program_derives_is_weft(tmp_path: Path) -> None:
    source = "import weft\nclass Own(weft.Loop):\n    pass\ndrive(Own())\ndrive(weft.Loop(poller='selector'))"
    done = weft_run(tmp_path, source, "--require")
    assert (done.returncode, done.stdout, done.stderr) == (0, "__main__\nweft.loop\n", "")


def test_nothing_else_of_asyncio_is_replaced(tmp_path: Path) -> None:
    """Every function that a module or class of asyncio holds is defined where it was, but for the two that were added."""
    source = """
import types

def where(value):
    value = getattr(value, "__func__", value)
    value = getattr(value, "fget", value) if isinstance(value, property) else value
    return value.__code__.co_filename if isinstance(value, types.FunctionType) else None

found = set()
for name, module in list(sys.modules.items()):
    if name.partition(".")[0] in ("asyncio", "_asyncio"):
        for key, value in vars(module).items():
            holders = [(key, value)]
            if isinstance(value, type):
                holders += [(f"{key}.{inner}", each) for inner, each in vars(value).items()]
            found |= {(name, label) for label, each in holders if "weft" in (where(each) or "")}
for name, label in sorted(found):
    if name == "asyncio.events":
        print(label)
    assert name in ("asyncio", "asyncio.events") or label.partition(".")[0] == "AbstractEventLoop", (name, label)
"""
    done = weft_run(tmp_path, source)
    assert (done.stdout, done.stderr) == ("AbstractEventLoop.__init_subclass__\nAbstractEventLoop.__new__\n", "")


# -- children --


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("options", [(), ("--require",)], ids=["", "require"])
def test_the_children_of_multiprocessing_are_on_weft(tmp_path: Path, how: str, options: tuple[str, ...]) -> None:
    source = (
        "import multiprocessing\n"
        "def child():\n    asyncio.run(main())\n    sys.stdout.flush()\n"
        "if __name__ == '__main__':\n"
        f"    process = multiprocessing.get_context({how!r}).Process(target=child)\n"
        "    process.start()\n    process.join()\n    print(process.exitcode)"
    )
    done = weft_run(tmp_path, source, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "weft.loop\n0\n", "")


def test_a_child_that_insists_on_another_loop_says_so(tmp_path: Path) -> None:
    source = (
        "import multiprocessing\n"
        "class Own(asyncio.SelectorEventLoop):\n    pass\n"
        "def child():\n    drive(Own())\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    process.start()\n    process.join()\n    print(process.exitcode)"
    )
    done = weft_run(tmp_path, source)
    assert done.stdout == "__mp_main__\n0\n"
    assert done.stderr.startswith("weft run: a child does not stay on Weft: it makes __mp_main__.Own (at ")
    done = weft_run(tmp_path, source, "--require")
    assert done.stdout == "3\n"
    assert done.stderr.startswith("weft run: --require: a child would make __mp_main__.Own (at ")
