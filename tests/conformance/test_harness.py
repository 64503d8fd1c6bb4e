"""The runner judges rightly: a hang costs one test, excuses are counted, an excuse nobody needs is a problem."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.conformance import excuses, page, suite, table
from tests.conformance.recipes import FILES, LEFT_OUT
from tests.conformance.suite import Settings, Verdict, Verdicts

needs_upstream = pytest.mark.skipif(
    importlib.util.find_spec("test.test_asyncio") is None, reason="this Python ships without its test package"
)


@needs_upstream
def test_a_hang_costs_the_hanging_test_only() -> None:
    # On asyncio itself: test_taskgroup_23 sleeps longer than this watchdog waits.
    names = ["test_taskgroups.TestTaskGroup.test_taskgroup_23", "test_taskgroups.TestTaskGroup.test_taskgroup_24"]
    settings = Settings(loop="asyncio", only=names, test_timeout_s=0.7)
    outcomes = {test.id: test.outcome for test in suite.run_file("test_taskgroups", settings, {})[1]}
    assert outcomes == {names[0]: "hung", names[1]: "passed"}


@needs_upstream
def test_asyncio_passes_its_own_tests() -> None:
    verdicts = suite.run(["test_futures"], Settings(loop="asyncio"))
    assert verdicts.problems == []
    assert table.counts(verdicts.tests)["passed"] > 150


def _excuses(folder: Path, text: str) -> Path:
    path = folder / "exclusions.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_exclusion_needs_the_private_name_and_a_reason(tmp_path: Path) -> None:
    path = _excuses(tmp_path, '[[exclude]]\ntests = ["a.B.c"]\npokes = ""\nreason = "x"\n')
    with pytest.raises(ValueError, match="private name"):
        excuses.read_exclusions("3.14", "plain", path)


def test_exclusions_hold_for_their_versions_and_editions(tmp_path: Path) -> None:
    text = '[[exclude]]\ntests = ["a.*.c"]\nversions = ["3.11"]\neditions = ["plain"]\npokes = "x"\nreason = "y"\n'
    path = _excuses(tmp_path, text)
    assert excuses.read_exclusions("3.12", "plain", path) == []
    assert excuses.read_exclusions("3.11", "compiled", path) == []
    (found,) = excuses.read_exclusions("3.11", "plain", path)
    assert found.covers("a.B.c")
    assert not found.covers("a.B.d")


def test_a_needed_exclusion_excuses_and_a_stale_one_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    exclusion = excuses.Exclusion(("a.B.*",), (), (), "loop._x", "has no _x")
    monkeypatch.setattr(excuses, "read_exclusions", lambda version, edition: [exclusion])
    verdicts = Verdicts(
        "", [Verdict("a.B.bad", "failed"), Verdict("a.B.good", "passed"), Verdict("a.C.bad", "failed")], 0.0
    )
    suite._excuse(verdicts, "plain")
    assert [test.outcome for test in verdicts.tests] == ["excluded", "stale", "failed"]
    assert verdicts.problems == ["stale exclusion: a.B.good passes"]
    assert verdicts.excluded == 1


def test_the_limit_counts_single_tests_not_fillings() -> None:
    assert excuses.over_limit(f"a.{filling}.t{number}" for filling in "BCD" for number in range(40)) == 0
    assert excuses.over_limit(f"a.B.t{number}" for number in range(42)) == 2


def test_the_data_files_are_sound() -> None:
    for version in ("3.11", "3.12", "3.13", "3.14", "3.15"):
        for edition in ("compiled", "plain"):
            for exclusion in excuses.read_exclusions(version, edition):
                assert all(pattern.split(".")[0] in FILES for pattern in exclusion.tests), exclusion
    for feature in excuses.read_features().values():
        assert feature["probe"] and feature["issue"] and feature["tests"]
    assert not set(FILES) & set(LEFT_OUT)


def test_the_page_says_what_ran() -> None:
    tests = [Verdict("f.A.t", "passed"), Verdict("f.A.u", "excluded", "_x: no _x"), Verdict("f.A.v", "not yet", "udp")]
    text = page.written([page.Run("3.14.1", "weft", "compiled", "epoll", tests, [], 1, 2.0)], "2026-01-01", "abc")
    assert "| 3.14.1 | compiled | epoll | 2 | 1 | 1 | 1 | 0 | 0 | 1 | 2.0 |" in text
    assert "- `f.u` (3.14): _x: no _x" in text
    assert "- udp (issue 3): 1 single tests" in text
