"""asyncio's outcomes beside Weft's, and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .prepare import Client
from .suite import Pass

ROUNDS = 3
"""How often the files of a differing test are run again, on each loop."""

_HEAD = """\
# Real clients on Weft

Measured {today}, sources of commit {commit}, {edition} edition, CPython {python}, by `python -m tests.clients`.
Don't edit: the page is written by `tests/clients/verdict.py`. How it is done: [the guide](guide/ecosystem.md).
"""


@dataclass
class Result:
    """One client on both loops."""

    client: Client
    asyncio: Pass
    weft: Pass
    worse: list[str] = field(default_factory=list)
    """Tests that pass on asyncio and not on Weft."""
    better: list[str] = field(default_factory=list)
    unsteady: dict[str, str] = field(default_factory=dict)
    """Tests that differed once and not when run again -> how often they passed."""
    missing: str = ""

    @property
    def problems(self) -> list[str]:
        found = [self.missing] if self.missing else []
        for loop, run in (("asyncio", self.asyncio), ("weft", self.weft)):
            if run.problem:
                found.append(f"on {loop}: {run.problem}")
        if not self.missing and not self.asyncio.passed():
            found.append("no test passed on asyncio")
        if not self.missing and not self.weft.loops:
            found.append("no loop of Weft was made")
        return found + [f"passes on asyncio, not on Weft: {test}" for test in self.worse]


def compare(client: Client, asyncio: Pass, weft: Pass, again: Callable[[str, list[str]], Pass]) -> Result:
    """Judge. `again(loop, files)` runs the files of differing tests once more: a difference must be steady to count."""
    result = Result(client, asyncio, weft)
    differing = [
        test
        for test in sorted(asyncio.outcomes.keys() | weft.outcomes.keys())
        if (asyncio.outcomes.get(test) == "passed") != (weft.outcomes.get(test) == "passed")
    ]
    # A run that broke off has no verdict on its tests: they differ as they are.
    if not differing or asyncio.problem or weft.problem:
        result.worse = [test for test in differing if asyncio.outcomes.get(test) == "passed"]
        result.better = [test for test in differing if test not in result.worse]
        return result
    files = sorted({test.partition("::")[0].removesuffix(" (collecting)") for test in differing})
    rounds = [(again("asyncio", files), again("weft", files)) for _ in range(ROUNDS)]
    for test in differing:
        ours = sum(on_weft.outcomes.get(test) == "passed" for _, on_weft in rounds)
        theirs = sum(on_asyncio.outcomes.get(test) == "passed" for on_asyncio, _ in rounds)
        if ours == theirs > 0:
            result.unsteady[test] = f"run again, {theirs} of {ROUNDS} on asyncio and {ours} of {ROUNDS} on Weft"
        else:
            passed_on_asyncio = asyncio.outcomes.get(test) == "passed"
            is_worse = ours < theirs or (ours == theirs and passed_on_asyncio)  # not one pass again: the first counts
            (result.worse if is_worse else result.better).append(test)
    return result


def page(results: list[Result], today: str, commit: str, edition: str, python: str) -> str:
    lines = [_HEAD.format(today=today, commit=commit, edition=edition, python=python)]
    lines += [
        "| client | version | tests | passed: asyncio | Weft | differing | loops of Weft | seconds: asyncio | Weft |"
    ]
    lines += ["|---|---|---|---:|---:|---:|---:|---:|---:|"]
    for each in results:
        kind = "its own" if each.client.has_suite else "a session"
        lines.append(
            f"| {each.client.name} | {each.client.version} | {kind} | {each.asyncio.passed()} | {each.weft.passed()} "
            f"| {len(each.worse) + len(each.better)} | {each.weft.loops} "
            f"| {each.asyncio.seconds:.0f} | {each.weft.seconds:.0f} |"
        )
    for title, tests in (
        ("Pass on asyncio, not on Weft", [(each, test, "") for each in results for test in each.worse]),
        ("Pass on Weft, not on asyncio", [(each, test, "") for each in results for test in each.better]),
        (
            "Differed once, not when run again",
            [(e, test, words) for e in results for test, words in e.unsteady.items()],
        ),
    ):
        lines += ["", f"## {title}", ""]
        lines += [f"- {each.client.name}: `{test}`{words and ': ' + words}" for each, test, words in tests] or ["None."]
    unfinished = [(each, words) for each in results for words in each.problems if not words.startswith("passes on")]
    if unfinished:
        lines += ["", "## Not to the end", ""]
        lines += [f"- {each.client.name}: {words.splitlines()[0]}" for each, words in unfinished]
    lines += ["", "## Which tests", ""]
    for each in results:
        left_out = (
            "; left out: " + ", ".join(f"`{name}`" for name in each.client.ignored) if each.client.ignored else ""
        )
        chosen = "; arguments: `" + " ".join(each.client.arguments) + "`" if each.client.arguments else ""
        lines.append(f"- {each.client.name}: {', '.join(f'`{name}`' for name in each.client.tests)}{left_out}{chosen}")
    return "\n".join(lines) + "\n"
