"""asyncio's outcomes beside Weft's, and the page that shows them.

A test that passes on asyncio passes on Weft. One that once did not is excused only by runs in which it fails on asyncio too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .prepare import Client
from .suite import Pass

ROUNDS, MOST_ROUNDS = 3, 10
"""How often the files of differing tests are run again on each loop; and at most, if one fails on Weft now and then."""

_HEAD = """\
# Real clients on Weft

Measured {today}, sources of commit {commit}, {edition} edition, CPython {python}, by `python -m tests.clients`.
Don't edit: the page is written by `tests/clients/verdict.py`. How it is done: [the guide](guide/ecosystem.md).

Passed, failed, skipped on each loop. *Worse*: passes on asyncio and not on Weft. *By name*: the same, where the test asks for
what is asyncio's own, as told below. *Unsteady*: differed, and fails now and then on asyncio as well.
"""


@dataclass
class Result:
    """One client on both loops."""

    client: Client
    asyncio: Pass
    weft: Pass
    worse: dict[str, str] = field(default_factory=dict)
    """Tests that pass on asyncio and not on Weft -> how often they passed when run again."""
    better: dict[str, str] = field(default_factory=dict)
    unsteady: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    """Tests that ask for what is asyncio's alone -> the reason in clients.toml."""
    missing: str = ""

    def row(self) -> list[str]:
        """Its numbers, in the order of the page."""
        kinds = (self.worse, self.known, self.unsteady, self.better)
        return [self.asyncio.counts(), self.weft.counts(), *(str(len(kind)) for kind in kinds), str(self.weft.loops)]

    @property
    def problems(self) -> list[str]:
        found = [self.missing] if self.missing else []
        for loop, run in (("asyncio", self.asyncio), ("weft", self.weft)):
            if run.problem:
                found.append(f"on {loop}: {run.problem}")
        if not self.missing and not self.asyncio.count("passed"):
            found.append("no test passed on asyncio")
        if not self.missing and not self.weft.loops:
            found.append("no loop of Weft was made")
        for test in self.client.known:
            if self.weft.outcomes.get(test) == "passed":
                found.append(f"is listed as known, but passes on Weft: {test}")
        return found + [f"passes on asyncio, not on Weft: {test} ({again})" for test, again in self.worse.items()]


def compare(client: Client, asyncio: Pass, weft: Pass, again: Callable[[str, list[str]], Pass]) -> Result:
    """Judge. `again(loop, files)` runs the files of differing tests once more."""
    result = Result(client, asyncio, weft)
    rounds = [(asyncio, weft)]
    differing = []
    for test in sorted(asyncio.outcomes.keys() | weft.outcomes.keys()):
        on_asyncio, on_weft = _passes(test, rounds)
        if on_asyncio > on_weft and test in client.known:
            result.known[test] = client.known[test]
        elif on_asyncio != on_weft:
            differing.append(test)
    # A run that broke off has no verdict on its tests: they differ as they are.
    if differing and not asyncio.problem and not weft.problem:
        files = sorted({test.partition("::")[0].removesuffix(" (collecting)") for test in differing})
        while len(rounds) <= ROUNDS or (
            len(rounds) <= MOST_ROUNDS and any(_is_open(test, rounds) for test in differing)
        ):
            rounds.append((again("asyncio", files), again("weft", files)))
    for test in differing:
        on_asyncio, on_weft = _passes(test, rounds)
        words = f"of {len(rounds)} runs, {on_asyncio} passed on asyncio and {on_weft} on Weft"
        if on_weft == 0 or on_asyncio == len(rounds):
            result.worse[test] = words
        elif on_asyncio == 0:
            result.better[test] = words
        else:
            result.unsteady[test] = words
    return result


def _passes(test: str, rounds: list[tuple[Pass, Pass]]) -> tuple[int, int]:
    """How often it passed on asyncio, and on Weft."""
    return (
        sum(on_asyncio.outcomes.get(test) == "passed" for on_asyncio, _ in rounds),
        sum(on_weft.outcomes.get(test) == "passed" for _, on_weft in rounds),
    )


def _is_open(test: str, rounds: list[tuple[Pass, Pass]]) -> bool:
    """Whether it fails on Weft now and then, and on asyncio may yet do so."""
    on_asyncio, on_weft = _passes(test, rounds)
    return 0 < on_weft < on_asyncio == len(rounds)


def page(results: list[Result], today: str, commit: str, edition: str, python: str) -> str:
    lines = [_HEAD.format(today=today, commit=commit, edition=edition, python=python)]
    lines += ["| client | version | tests | asyncio | Weft | worse | by name | unsteady | better | loops of Weft |"]
    lines += ["|---|---|---|" + "---:|" * 7]
    for each in results:
        kind = "its own" if each.client.has_suite else "sessions of ours"
        lines.append(f"| {each.client.name} | {each.client.version} | {kind} | {' | '.join(each.row())} |")
    lines += _section("Worse: passes on asyncio, not on Weft", results, lambda each: each.worse)
    lines += _section("By name", results, lambda each: each.known)
    lines += _section("Unsteady", results, lambda each: each.unsteady)
    lines += _section("Better: passes on Weft, not on asyncio", results, lambda each: each.better)
    lines += _section("Hung, or took the process with it", results, _broken)
    lines += _section("Loops that the tests made themselves", results, lambda each: dict.fromkeys(each.weft.others, ""))
    lines += ["", "## Not to the end", ""]
    unfinished = [(each, words) for each in results for words in each.problems if not words.startswith("passes on")]
    lines += [f"- {each.client.name}: {words.splitlines()[0]}" for each, words in unfinished] or ["None."]
    lines += ["", "## Which tests", ""]
    for each in results:
        chosen = [*each.client.tests, *each.client.arguments, *(f"--ignore {name}" for name in each.client.ignored)]
        lines.append(f"- {each.client.name}: `{' '.join(chosen)}`. {each.client.left_out}".rstrip())
    return "\n".join(lines) + "\n"


def _section(title: str, results: list[Result], tests: Callable[[Result], dict[str, str]]) -> list[str]:
    found = [
        f"- {each.client.name}: `{test}`{words and ': ' + words}"
        for each in results
        for test, words in sorted(tests(each).items())
    ]
    return ["", f"## {title}", "", *(found or ["None."])]


def _broken(result: Result) -> dict[str, str]:
    runs = (("asyncio", result.asyncio), ("Weft", result.weft))
    return {
        test: "; ".join(f"on {loop}: {run.details[test]}" for loop, run in runs if test in run.broken)
        for test in {*result.asyncio.broken, *result.weft.broken}
    }
