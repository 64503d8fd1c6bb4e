"""The judgement between two passes: only a steady difference counts, and none is lost."""

from __future__ import annotations

from .prepare import Client, read
from .suite import Pass
from .verdict import ROUNDS, Result, compare, page

CLIENT = Client("some", "1.0", ["tests"], copied=["tests"])


def one_pass(problem: str = "", **outcomes: str) -> Pass:
    return Pass({f"tests/test_it.py::{name}": outcome for name, outcome in outcomes.items()}, loops=1, problem=problem)


def judged(asyncio: Pass, weft: Pass, *, later_asyncio: Pass | None = None, later_weft: Pass | None = None) -> Result:
    later = {"asyncio": later_asyncio or asyncio, "weft": later_weft or weft}
    asked: list[tuple[str, list[str]]] = []

    def again(loop: str, files: list[str]) -> Pass:
        asked.append((loop, files))
        return later[loop]

    result = compare(CLIENT, asyncio, weft, again)
    assert all(files == ["tests/test_it.py"] for _, files in asked)
    assert len(asked) in (0, 2 * ROUNDS)
    return result


def test_equal_passes_have_no_problems():
    both = one_pass(a="passed", b="skipped", c="failed")
    assert judged(both, both).problems == []


def test_a_steady_failure_counts():
    result = judged(one_pass(a="passed", b="passed"), one_pass(a="failed", b="passed"))
    assert result.worse == ["tests/test_it.py::a"]
    assert result.problems == ["passes on asyncio, not on Weft: tests/test_it.py::a"]
    assert "`tests/test_it.py::a`" in page([result], "today", "abc", "compiled", "3.11")


def test_skipped_or_not_run_on_weft_counts_too():
    result = judged(one_pass(a="passed", b="passed", c="passed"), one_pass(a="skipped", c="passed"))
    assert result.worse == ["tests/test_it.py::a", "tests/test_it.py::b"]


def test_what_does_as_well_when_run_again_is_unsteady():
    passed, failed = one_pass(a="passed", b="passed"), one_pass(a="failed", b="passed")
    result = judged(passed, failed, later_weft=passed)
    assert (result.worse, list(result.unsteady)) == ([], ["tests/test_it.py::a"])
    assert result.problems == []


def test_never_passing_again_leaves_the_first_verdict():
    gone = Pass(loops=1)
    result = judged(one_pass(a="passed"), one_pass(a="failed"), later_asyncio=gone, later_weft=gone)
    assert (result.worse, result.unsteady) == (["tests/test_it.py::a"], {})


def test_passing_on_weft_only_is_told_and_is_no_problem():
    result = judged(one_pass(a="failed", b="passed"), one_pass(a="passed", b="passed"))
    assert result.better == ["tests/test_it.py::a"]
    assert result.problems == []


def test_a_run_that_broke_off_is_a_problem():
    result = judged(one_pass(a="passed", b="passed"), one_pass("not done in 5 s", a="passed"))
    assert result.worse == ["tests/test_it.py::b"]
    assert "on weft: not done in 5 s" in result.problems


def test_nothing_passed_and_no_loop_of_weft_are_problems():
    nothing = Pass()
    assert judged(nothing, nothing).problems == ["no test passed on asyncio", "no loop of Weft was made"]


def test_every_client_is_pinned():
    assert all(client.version and client.tests for client in read())
