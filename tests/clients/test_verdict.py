"""The judgement between two passes: a failure is excused only by runs in which asyncio fails too, and none is lost."""

from __future__ import annotations

from .prepare import Client, read
from .suite import Pass
from .verdict import MOST_ROUNDS, ROUNDS, Result, compare, page

CLIENT = Client("some", "1.0", ["tests"], copied=["tests"], known={"tests/test_it.py::name": "`_private`"})


def one_pass(problem: str = "", **outcomes: str) -> Pass:
    return Pass({f"tests/test_it.py::{name}": outcome for name, outcome in outcomes.items()}, loops=1, problem=problem)


def judged(asyncio: Pass, weft: Pass, *, later: list[tuple[Pass, Pass]] | None = None, rounds: int = 0) -> Result:
    """Judge passes; `later` are those of the rounds (the last goes on), by default as the first."""
    asked: list[str] = []

    def again(loop: str, files: list[str]) -> Pass:
        assert files == ["tests/test_it.py"]
        asked.append(loop)
        following = later or [(asyncio, weft)]
        return following[min((len(asked) - 1) // 2, len(following) - 1)][loop == "weft"]

    result = compare(CLIENT, asyncio, weft, again)
    assert asked == ["asyncio", "weft"] * rounds
    return result


def test_equal_passes_have_no_problems():
    both = one_pass(a="passed", b="skipped", c="failed")
    assert judged(both, both).problems == []


def test_a_steady_failure_counts():
    result = judged(one_pass(a="passed", b="passed"), one_pass(a="failed", b="passed"), rounds=ROUNDS)
    words = "of 4 runs, 4 passed on asyncio and 0 on Weft"
    assert result.worse == {"tests/test_it.py::a": words}
    assert result.problems == [f"passes on asyncio, not on Weft: tests/test_it.py::a ({words})"]
    assert f"- some: `tests/test_it.py::a`: {words}" in page([result], "today", "abc", "compiled", "3.11")


def test_skipped_or_not_run_on_weft_counts_too():
    result = judged(one_pass(a="passed", b="passed", c="passed"), one_pass(a="skipped", c="passed"), rounds=ROUNDS)
    assert list(result.worse) == ["tests/test_it.py::a", "tests/test_it.py::b"]


def test_failing_now_and_then_on_weft_alone_counts():
    passed, failed = one_pass(a="passed"), one_pass(a="failed")
    result = judged(passed, failed, later=[(passed, passed)], rounds=MOST_ROUNDS)
    assert result.worse == {"tests/test_it.py::a": "of 11 runs, 11 passed on asyncio and 10 on Weft"}


def test_failing_now_and_then_on_asyncio_too_is_unsteady():
    passed, failed = one_pass(a="passed"), one_pass(a="failed")
    result = judged(passed, failed, later=[(passed, passed)] * 4 + [(failed, passed)], rounds=5)
    assert result.unsteady == {"tests/test_it.py::a": "of 6 runs, 5 passed on asyncio and 5 on Weft"}
    assert result.problems == []


def test_never_passing_on_weft_counts_however_unsteady_on_asyncio():
    passed, failed = one_pass(a="passed"), one_pass(a="failed")
    assert list(judged(passed, failed, later=[(failed, failed)], rounds=ROUNDS).worse) == ["tests/test_it.py::a"]
    assert list(judged(passed, failed, later=[(Pass(), Pass())], rounds=ROUNDS).worse) == ["tests/test_it.py::a"]


def test_passing_on_weft_only_is_told_and_is_no_problem():
    result = judged(one_pass(a="failed", b="passed"), one_pass(a="passed", b="passed"), rounds=ROUNDS)
    assert list(result.better) == ["tests/test_it.py::a"]
    assert result.problems == []


def test_a_known_failure_is_told_with_its_reason_and_must_stay_one():
    passed, failed = one_pass(name="passed"), one_pass(name="failed")
    result = judged(passed, failed)
    assert (result.known, result.worse, result.problems) == ({"tests/test_it.py::name": "`_private`"}, {}, [])
    assert judged(passed, passed).problems == ["is listed as known, but passes on Weft: tests/test_it.py::name"]


def test_a_run_that_broke_off_is_a_problem():
    result = judged(one_pass(a="passed", b="passed"), one_pass("out of time, in b", a="passed"))
    assert list(result.worse) == ["tests/test_it.py::b"]
    assert "on weft: out of time, in b" in result.problems


def test_nothing_passed_and_no_loop_of_weft_are_problems():
    nothing = Pass()
    assert judged(nothing, nothing).problems == ["no test passed on asyncio", "no loop of Weft was made"]


def test_every_client_is_pinned():
    assert all(client.version and client.tests for client in read())
