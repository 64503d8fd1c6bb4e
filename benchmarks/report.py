"""The tables: for a terminal by rich, and the same as Markdown. Losing cells are shown like all others, and marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.interleave import Plan, Sample
from benchmarks.stats import Spread
from benchmarks.summary import REFERENCES, Cell, Line, geometric_means

__all__ = ["Report", "markdown", "show"]

Format = Callable[[Cell], tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to show."""

    plan: Plan
    samples: Sequence[Sample]
    lines: Sequence[Line]
    facts: dict[str, str]
    missing: dict[str, str]

    @property
    def subjects(self) -> list[str]:
        return [subject.name for subject in self.plan.subjects]

    @property
    def failed(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.error]


def _time(ns: float) -> str:
    return f"{ns:.0f} ns" if ns < 9999.5 else f"{ns / 1000:.1f} µs"


def _verdict(ratio: Spread) -> str:
    """Whether the interval lies wholly on one side of 1."""
    return "wins" if ratio.low > 1 else "loses" if ratio.high < 1 else "even"


def _cpu_format(cell: Cell) -> tuple[str, str, str]:
    return _time(cell.ns.median), f"min {_time(cell.ns.minimum)}", "even"


def _ratio_format(reference: str) -> Format:
    def form(cell: Cell) -> tuple[str, str, str]:
        ratio = cell.ratios.get(reference)
        if ratio is None:
            return "", "", "even"
        return f"{ratio.median:.2f}", f"{ratio.low:.2f}–{ratio.high:.2f}", _verdict(ratio)

    return form


def _latency_format(cell: Cell) -> tuple[str, str, str]:
    if cell.p50_ns is None or cell.p99_ns is None:
        return "", "", "even"
    return f"{cell.p50_ns / 1000:.0f} µs", f"p99 {cell.p99_ns / 1000:.0f} µs", "even"


def _rss_format(cell: Cell) -> tuple[str, str, str]:
    return f"{cell.peak_rss_bytes / 2**20:.1f} MiB", "", "even"


def _sections(report: Report) -> list[tuple[str, Format, list[Line], list[str]]]:
    """Title, format, lines and columns of each table."""
    everyone = report.subjects
    lines = list(report.lines)
    sections: list[tuple[str, Format, list[Line], list[str]]] = [
        ("CPU time per operation (median; minimum)", _cpu_format, lines, everyone)
    ]
    for reference in REFERENCES:
        if reference in everyone:
            others = [name for name in everyone if name != reference]
            title = f"Times as fast as {reference} (median of paired ratios; 95 % interval)"
            sections.append((title, _ratio_format(reference), lines, others))
    io_lines = [line for line in lines if line.is_io]
    if io_lines:
        sections.append(("Latency of a message under load (p50; p99)", _latency_format, io_lines, everyone))
    sections.append(("Peak RSS of the measured process (median)", _rss_format, lines, everyone))
    return sections


def _means(report: Report) -> list[str]:
    """Geometric means of Weft over the scheduler rows."""
    said: list[str] = []
    for subject in ("weft", "weft-plain"):
        for names in ("asyncio", "weft"):
            for reference in REFERENCES:
                mean = geometric_means(report.lines, subject, names, reference)
                if mean is not None:
                    said.append(f"{subject}, {names}.* names: {mean:.2f} × {reference}")
    return said


def _notes(report: Report) -> list[str]:
    plan = report.plan
    notes = [
        f"{plan.rounds} interleaved rounds; every sample a fresh process; all that were drawn are counted.",
        f"A scheduler sample takes about {plan.budget_ms:g} ms of CPU time.",
        f"An I/O sample is the CPU time of the server's process over {plan.messages} messages.",
        "A ratio pairs samples of the same round; above 1 is faster."
        + ("" if plan.rounds >= 6 else " With fewer than 6 rounds the interval is the whole range."),
        "Lines with `weft.…` call Weft's function of that name; the ratio is to the unmodified asyncio program.",
    ]
    means = _means(report)
    if means:
        notes.append("Geometric means over the scheduler rows: " + "; ".join(means) + ".")
    notes += [f"Missing: {name} ({why})." for name, why in report.missing.items()]
    notes += [
        f"FAILED: {sample.row} on {sample.subject} ({sample.names} names), round {sample.round + 1}: {sample.error}"
        for sample in report.failed
    ]
    return notes


# ------------------------------------------------------------------------------------------------------- terminal

_STYLES = {"wins": "green", "loses": "red", "even": ""}


def _terminal_cell(line: Line, subject: str, form: Format) -> Text:
    cell = line.cells.get(subject)
    if cell is None:
        return Text("" if line.names == "weft" else "–", style="dim")
    main, detail, verdict = form(cell)
    text = Text(main, style=_STYLES[verdict])
    return text.append(f"\n{detail}", style="dim") if detail else text


def show(report: Report, console: Console) -> None:
    """Print the report."""
    for title, form, lines, subjects in _sections(report):
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("row", min_width=24)
        for subject in subjects:
            table.add_column(subject, justify="right", no_wrap=True)
        for line in lines:
            table.add_row(Text(line.title), *[_terminal_cell(line, subject, form) for subject in subjects])
        console.print(table)
    for name, fact in report.facts.items():
        console.print(Text.assemble((f"{name}: ", "dim"), fact))
    for note in _notes(report):
        console.print(Text(note, style="red" if note.startswith("FAILED") else ""))


# ------------------------------------------------------------------------------------------------------- Markdown


def _markdown_cell(line: Line, subject: str, form: Format) -> str:
    cell = line.cells.get(subject)
    if cell is None:
        return "" if line.names == "weft" else "–"
    main, detail, verdict = form(cell)
    main = f"**{main}**" if verdict == "wins" else f"{main} ▼" if verdict == "loses" else main
    return f"{main} ({detail})" if detail else main


def markdown(report: Report) -> str:
    """The report as a Markdown page."""
    parts = ["# Benchmarks", ""]
    parts += [f"- {name}: {fact}" for name, fact in report.facts.items()]
    parts += [""] + [f"- {note}" for note in _notes(report)]
    parts += ["- **Bold**: the interval lies above 1. ▼: it lies below 1."]
    for title, form, lines, subjects in _sections(report):
        parts += ["", f"## {title}", "", f"| row | {' | '.join(subjects)} |", "|---" * (len(subjects) + 1) + "|"]
        parts += [
            f"| {line.title} | {' | '.join(_markdown_cell(line, subject, form) for subject in subjects)} |"
            for line in lines
        ]
    return "\n".join(parts) + "\n"
