"""From samples to what tables show: a line for each row and set of names, a cell for each subject."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.interleave import Plan, Sample
from benchmarks.servers import Server
from benchmarks.stats import Spread, geometric_mean, spread

__all__ = ["REFERENCES", "Cell", "Line", "geometric_means", "summarise", "to_json"]

REFERENCES = ("uvloop", "asyncio")


@dataclass(frozen=True, slots=True)
class Cell:
    """One subject on one line.

    ns:       CPU time of one operation
    ratios:   by reference: the reference's time in a round over this one's in the same round (above 1: this one is
              faster); the reference always runs the unmodified asyncio program
    p50_ns, p99_ns:  latency of a message, medians over the rounds (I/O rows only)
    """

    ns: Spread
    ratios: dict[str, Spread]
    peak_rss_bytes: float
    p50_ns: float | None = None
    p99_ns: float | None = None


@dataclass(slots=True)
class Line:
    """One line of a table. `names` is whose functions the program calls: "asyncio" or "weft"."""

    row: str
    title: str
    names: str
    is_io: bool
    cells: dict[str, Cell] = field(default_factory=dict)


def _cell(samples: Sequence[Sample], references: dict[str, dict[int, Sample]]) -> Cell:
    ratios: dict[str, Spread] = {}
    for name, by_round in references.items():
        paired = [by_round[sample.round].ns / sample.ns for sample in samples if sample.round in by_round]
        if paired:
            ratios[name] = spread(paired)
    latencies = {
        key: median(sample.facts[key] for sample in samples) for key in ("p50_ns", "p99_ns") if key in samples[0].facts
    }
    peak_rss = median(sample.facts["peak_rss_bytes"] for sample in samples)
    return Cell(spread([sample.ns for sample in samples]), ratios, peak_rss, **latencies)


def _title(row: Any, names: str) -> str:
    return row.title if names == "asyncio" else f"{row.title} · weft.{row.own[0]}"


def summarise(plan: Plan, samples: Iterable[Sample]) -> list[Line]:
    """The lines of the tables, in the order of the plan. A subject that failed in every round has no cell."""
    good: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        if not sample.error:
            good.setdefault((sample.row, sample.subject, sample.names), []).append(sample)
    lines: list[Line] = []
    for row in plan.rows:
        references = {
            name: {sample.round: sample for sample in good.get((row.name, name, "asyncio"), [])} for name in REFERENCES
        }
        for names in dict.fromkeys(names for _, names in plan.variants(row)):
            line = Line(row.name, _title(row, names), names, isinstance(row, Server))
            for subject in plan.subjects:
                drawn = good.get((row.name, subject.name, names))
                if drawn:
                    line.cells[subject.name] = _cell(drawn, references)
            lines.append(line)
    return lines


def geometric_means(lines: Sequence[Line], subject: str, names: str, reference: str) -> float | None:
    """The geometric mean of a subject's median ratios over the scheduler rows; None without any."""
    values = [
        line.cells[subject].ratios[reference].median
        for line in lines
        if not line.is_io and line.names == names and subject in line.cells and reference in line.cells[subject].ratios
    ]
    return geometric_mean(values) if values else None


def to_json(
    plan: Plan, samples: Sequence[Sample], lines: Sequence[Line], facts: dict[str, str], missing: dict[str, str]
) -> dict[str, Any]:
    """Everything: environment, settings, every sample as drawn, and the summary."""
    return {
        "environment": facts,
        "missing": missing,
        "settings": {"rounds": plan.rounds, "budget_ms": plan.budget_ms, "messages": plan.messages},
        "samples": [
            {
                "row": sample.row,
                "subject": sample.subject,
                "names": sample.names,
                "round": sample.round,
                **({"error": sample.error} if sample.error else sample.facts),
            }
            for sample in samples
        ],
        "summary": [
            {
                "row": line.row,
                "names": line.names,
                "subject": subject,
                "ns": cell.ns._asdict(),
                "ratios": {name: ratio._asdict() for name, ratio in cell.ratios.items()},
                "peak_rss_bytes": cell.peak_rss_bytes,
                "p50_ns": cell.p50_ns,
                "p99_ns": cell.p99_ns,
            }
            for line in lines
            for subject, cell in line.cells.items()
        ],
    }
