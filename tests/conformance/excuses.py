"""Exclusions and waiting features: reading the two data files, and judging a run against them."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 40
"""The most single tests that may be excluded on one Python version."""


@dataclass(frozen=True)
class Exclusion:
    tests: tuple[str, ...]
    versions: tuple[str, ...]
    editions: tuple[str, ...]
    pokes: str
    reason: str
    hangs: bool = False
    """It would hang, so it isn't run: the one kind of exclusion that can't be found stale."""

    def covers(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.tests)


def read_exclusions(version: str, edition: str, path: Path = HERE / "exclusions.toml") -> list[Exclusion]:
    """The exclusions that hold for this Python version and edition. Raises ValueError on an entry without a reason."""
    found = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("exclude", []):
        unknown = set(entry) - {"tests", "versions", "editions", "pokes", "reason", "hangs"}
        if unknown:
            raise ValueError(f"{path.name}: unknown key {sorted(unknown)} in {entry['tests']}")
        exclusion = Exclusion(
            tuple(entry["tests"]), tuple(entry.get("versions", ())), tuple(entry.get("editions", ())),
            entry["pokes"].strip(), entry["reason"].strip(), entry.get("hangs", False),
        )  # fmt: skip
        if not exclusion.pokes or not exclusion.reason:
            raise ValueError(f"{path.name}: {entry['tests']} needs the private name it pokes and a reason")
        if exclusion.versions and version not in exclusion.versions:
            continue
        if exclusion.editions and edition not in exclusion.editions:
            continue
        found.append(exclusion)
    return found


def read_features(path: Path = HERE / "features.toml") -> dict[str, dict[str, object]]:
    """Feature name -> {issue, probe, tests}."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def single_test(name: str) -> str:
    """`file.test` of `file.Class.test`: one test of CPython, in however many fillings it runs."""
    file, _, test = name.split(".", 2)
    return f"{file}.{test}"


def over_limit(excluded: Iterable[str]) -> int:
    """How many more single tests are excluded than allowed (0 if the limit holds)."""
    return max(0, len({single_test(name) for name in excluded}) - LIMIT)
