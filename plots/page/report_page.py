"""The report as one HTML page: words first, then figures, tables, traces, quality and facts.

Without scripts it loses only what is interactive.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from bench.analysis import Analysis, Results, battery, sentences, wording
from bench.analysis.answers import PLAIN, Answer, Option
from bench.analysis.boards import board_sentences
from bench.analysis.front import front_sentences
from bench.analysis.tables import Grid
from bench.compare import Comparison
from bench.compare.notes import place
from bench.compare.show import figure, legend, summary_sentence
from bench.compare.verdict import AGREES, BETTER, DIFFERS, NOT_ENOUGH, SAME, WORSE, Measure
from bench.errors import RequestError
from bench.suite.battery import BatterySpec
from hardware.measure.grade import FLAGS
from plots import pareto
from plots.drawing.style import GRID, INK, MUTED, PAPER, Rendered
from plots.page.claim import claim
from plots.page.frame import Section, render_page
from plots.page.table import Column, number, table_data
from plots.page.trace_data import PER_CHUNK, TraceSet

_REM_PER_INCH = 9.0
"""One scale for all figures, so that their letters are equally large."""

MAX_ROWS = 150
MAX_SENTENCES = 40
MAX_CELLS = 10_000
MAX_FAILURES = 50
MAX_FACTS = 2000
WIDGETS = ("chart", "table", "pareto", "traces")

_TONES = {WORSE: "bad", DIFFERS: "bad", BETTER: "good", AGREES: "good", NOT_ENOUGH: "dim", SAME: "", "": "dim"}


@dataclass(frozen=True, kw_only=True)
class Content:
    """Everything that the page shows.

    Attributes:
        results, analysis: of the run or runs.
        figures: the files of matplotlib.
        grids: tables in the paper's form.
        traces: power traces, thinned.
        comparisons: of the run with others, or with the published tables.
        files: (text, path) of the files beside the page, relative to it.
    """

    results: Results
    analysis: Analysis
    figures: Sequence[Rendered]
    grids: Sequence[Grid]
    traces: TraceSet
    comparisons: Sequence[Comparison]
    files: Sequence[tuple[str, str]]


def render(content: Content) -> str:
    """Render the whole page."""
    results, analysis = content.results, content.analysis
    sections = [_summary(content)]
    sections += [_comparison(number, one) for number, one in enumerate(content.comparisons, start=1)]
    if content.figures:
        sections.append(_figures(results, analysis, content.figures))
    if content.grids:
        sections.append(Section(title="Tables", macro="tables", view={"grids": content.grids, "max_rows": MAX_ROWS}))
    if not results.published:
        sections += [_cells(results, analysis, content.traces), _traces(content.traces)]
    sections += [*_battery(results), _quality(analysis), _facts(results, content.files)]
    quality = analysis.quality
    subtitle = (
        "Figures as printed."
        if results.published
        else f"{wording.count(quality.cells, 'cell')}, {wording.count(quality.records, 'repeat')}, "
        f"{quality.statuses.get('ok', 0)} finished."
    )
    return render_page("report.html", results.title, f"{subtitle} Energy: {quality.energy}.", sections, widgets=WIDGETS)


# -- the run in words, and beside another ------------------------------------------------------------------


def _summary(content: Content) -> Section:
    """Answer for each shift what to tune, a row each; beside them a power trace of the first answer's arm."""
    results, analysis, published = content.results, content.analysis, content.results.published
    shifts = sentences.by_shift(analysis)
    if results.overlap:  # runs of the same data stand beside each other
        runs = dict(zip(analysis.cells["data"], analysis.cells["run"], strict=True))
        shifts.sort(key=lambda answers: list(dict.fromkeys(map(_plain(runs), analysis.shifts["data"]))).index(
            _plain(runs)(answers[0].data)))  # fmt: skip
    else:
        runs = {}
    quality = sentences.quality_sentences(analysis, published=published)
    firsts = [answers[0] for answers in shifts]
    methods = any(_best_other(answer) for answer in firsts)
    more = len(shifts) - MAX_SENTENCES
    view = {
        "head": [
            "Shift",
            *(["Run"] if runs else []),
            "Untuned",
            "Best single block",
            "Everything",
            *(["Best other arm"] if methods else []),
            "So",
        ],
        "answers": [_answer_row(answers, runs, methods=methods) for answers in shifts[:MAX_SENTENCES]],
        "more": f"and {more} more shifts in the tables" if more > 0 else "",
        "clearly": sentences.CLEARLY if any(answer.clear for answer in analysis.answers) else "",
        "claim": claim(firsts, analysis.cells, content.traces),
        "fronts": front_sentences(analysis, MAX_SENTENCES),
        "headlines": [*sentences.headline_sentences(analysis, published=published), *board_sentences(analysis.boards)],
        "warnings": [*sentences.run_notes(results), *quality, *results.damage, *content.traces.damage],
    }
    return Section(title="Summary", macro="summary", view=view)


def _plain(runs: Mapping[str, str]) -> Callable[[str], str]:
    """Make the function that takes the name of the run off a label."""
    return lambda data: data.removeprefix(f"{runs.get(data, '')}: ")


def _answer_row(answers: Sequence[Answer], runs: Mapping[str, str], *, methods: bool) -> dict[str, Any]:
    """One row: where, then each arm's accuracy and joules, then what follows."""
    main = answers[0]
    size = wording.size_label(main.train_size, main.n_train)
    other = _best_other(main)
    wins = main.leader.arm if main.leader and main.kind not in ("harm", "no help") else ""
    options = [main.untuned, main.single, main.full, *([other] if methods else [])]
    more = sentences.other_sizes(answers)
    return {
        "shift": _plain(runs)(main.data),
        "about": ", ".join(part for part in (main.level, size) if part and part != wording.MISSING),
        "run": runs.get(main.data, ""),
        "options": [_option(option, wins) for option in options],
        "verdict": sentences.verdict(main),
        "more": f"{more}." if more else "",
    }


def _best_other(answer: Answer) -> Option | None:
    """The most accurate arm that is neither one block nor everything."""
    return next((one for one in answer.others if one.role not in PLAIN and one.accuracy is not None), None)


def _option(option: Option | None, wins: str) -> dict[str, Any]:
    if option is None:
        return {"figure": wording.MISSING, "detail": "", "wins": False}
    name = "" if option.role in ("full", "untuned") or option.arm == "none" else option.arm
    energy = "" if option.joules is None else wording.joules(option.joules)
    figure = wording.percent(option.accuracy) if option.accuracy is not None else energy or "no result"
    spread = wording.interval(option.lo, option.hi)
    detail = [name, "" if option.accuracy is None else energy, "" if option.accuracy is None else spread]
    return {"figure": figure, "detail": ", ".join(part for part in detail if part), "wins": option.arm == wins}


def _battery(results: Results) -> list[Section]:
    """Show the life of the battery that a suite describes; nothing where none does."""
    found: list[Section] = []
    for manifest, run in zip(results.manifests, results.runs, strict=True):
        if not manifest.content.get("battery"):
            continue
        try:
            profile = BatterySpec.of(manifest.content["battery"])
        except RequestError:
            continue  # of a newer version, or damaged
        mine = dataclasses.replace(results, records=results.records[results.records["run"] == run])
        table = battery.lives(mine, profile)
        rows = table.head(MAX_SENTENCES).to_dict("records")
        lines = [
            f"{row['data']} n={row['train_size']:g} {row['arm']} ({row['source']}, grade {row['grade']}): "
            f"{battery.sentence(row)}"
            for row in rows
        ]
        if len(table) > len(rows):
            lines.append(f"and {len(table) - len(rows)} more: `jouletune battery` lists them")
        idle = battery.life(profile)
        view = {
            "lines": [*lines, f"never adapting: {battery.life_text(idle.days)}"],
            "assumed": battery.assumptions(profile),
        }
        found.append(Section(title="Battery" if not found else f"Battery of {run}", macro="battery", view=view))
    return found


def _comparison(number: int, comparison: Comparison) -> Section:
    """Show a comparison; `number` counts them on the page from 1."""
    label = f"Conditions of {comparison.run} against {comparison.base}"
    base = "the published tables" if comparison.base == "paper" else comparison.base
    view = {
        "name": f"comparison-{number}",
        "sentence": summary_sentence(comparison),
        "headlines": comparison.headlines,
        "warnings": comparison.warnings,
        "table": table_data(label, _compared(comparison)),
        "legend": legend(comparison),
        "notes": comparison.notes,
    }
    return Section(title=f"Against {base}", macro="comparison", view=view)


def _compared(comparison: Comparison) -> list[Column]:
    rows = comparison.conditions.to_dict("records")
    columns = [
        Column(heading="Condition", values=[f"{place(row)} {row['arm']}" for row in rows]),
        Column(heading="Verdict", values=[row["verdict"] for row in rows], choice=True, tones=_TONES),
    ]
    for measure in comparison.measures:
        columns += _measure(comparison, measure, rows)
    return columns


def _measure(comparison: Comparison, measure: Measure, rows: list[dict[Hashable, Any]]) -> list[Column]:
    def of(key: str) -> list[Any]:
        return [None if wording.missing(value := row[f"{measure.name}_{key}"]) else value for row in rows]

    name = measure.heading.capitalize()
    basis = f", {comparison.rules.basis}" if measure.name != "accuracy" else ""
    change = [None if value is None else 100 * value for value in of("change")]
    verdicts = [verdict or wording.MISSING for verdict in of("verdict")]
    # why nothing was compared at all stands above the table
    why = [str(reason or "") if verdict else "" for reason, verdict in zip(of("why"), of("verdict"), strict=True)]
    return [
        number(
            f"{name}{basis}, {measure.unit}",
            change,
            1,
            texts=[figure(row, measure) for row in rows],
            about="run less base, with 95 % interval",
        ),
        Column(heading=f"{name}: verdict", values=verdicts, tones=_TONES),
        number(f"n ({measure.per}s)", of("n")),
        *([Column(heading=f"{name}: why", values=why)] if any(why) else []),
    ]


# -- figures ---------------------------------------------------------------------------------------------------


def _figures(results: Results, analysis: Analysis, figures: Sequence[Rendered]) -> Section:
    moving = [drawn for drawn in figures if drawn.name.startswith(pareto.NAME)]
    measured = analysis.quality.has_joules
    view = {
        "drawn": [_svg(drawn) for drawn in figures if drawn not in moving],
        "pareto": [_svg(drawn) for drawn in moving],
        "pareto_data": pareto.widget_data(results, analysis) if moving else None,
        "no_pareto": "accuracy and joules were not measured on the same cells"
        if measured
        else "no energy was measured",
    }
    return Section(title="Figures", macro="figures", view=view)


def _svg(drawn: Rendered) -> dict[str, Any]:
    """Prepare an SVG for the page: give it ids of its own, and the colours of the page."""
    markup = drawn.bare[drawn.bare.index("<svg") :]
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid"), (PAPER, "paper")):
        markup = markup.replace(colour, f"var(--{name})")
    for before in ('id="', "url(#", 'href="#'):
        markup = markup.replace(before, f"{before}{drawn.name}-")
    head, inner = markup.removeprefix("<svg").split(">", 1)
    return {
        "name": drawn.name,
        "alt": drawn.alt,
        "title": drawn.title,
        "caption": drawn.caption,
        "width_rem": f"{_REM_PER_INCH * drawn.width_in:.1f}",
        "attributes": Markup(re.sub(r' (?:width|height)="[^"]*"', "", head)),
        "inner": Markup(inner),
    }


# -- cells and their traces ------------------------------------------------------------------------------------


def _cells(results: Results, analysis: Analysis, traces: TraceSet) -> Section:
    """List the cells: accuracy, cost, grade and flags, and a button that opens the power trace."""
    cells = analysis.cells.head(MAX_CELLS)
    flags = _flags(results, cells)
    everywhere = set.intersection(*map(set, flags)) if len(flags) > 1 else set()
    differing = [[flag for flag in one if flag not in everywhere] for one in flags]
    columns = _cell_columns(cells, traces, differing, several_runs=len(results.runs) > 1)
    view = {
        "table": table_data("Cells", columns, sort=0),
        "everywhere": [f"{flag}: {FLAGS.get(flag, 'not known to this version')}" for flag in sorted(everywhere)],
        "more": len(analysis.cells) - len(cells),
    }
    return Section(title="Cells", macro="cells", view=view)


def _cell_columns(
    cells: pd.DataFrame, traces: TraceSet, flags: Sequence[Sequence[str]], *, several_runs: bool
) -> list[Column]:
    def of(values: pd.Series, factor: float = 1.0) -> list[float]:
        return [float(f"{value:.6g}") for value in (values * factor).astype(float)]

    def words(name: str) -> list[str]:
        return cells[name].fillna("").astype(str).tolist()

    middle_j = float(cells["energy_gross_j:mean"].median())
    factor, unit = wording.joule_unit(middle_j)
    digits = 1 if middle_j >= 100 * factor else 2
    lost = cells["failed"] + cells["timeout"]
    gained = of(cells["accuracy_after:mean"] - cells["accuracy_before"], 100)
    spread = "expanded uncertainty of the gross energy of one repeat, k = 2"

    def joules(heading: str, name: str, about: str = "") -> Column:
        return number(f"{heading}{unit}", of(cells[name], 1 / factor), digits, about=about)

    columns = [
        Column(heading="Cell", values=words("cell_id"), about="data, train size, arm and seed"),
        Column(heading="Trace", values=_first_trace(cells, traces), kind="action", about="Power trace of"),
        Column(heading="Run", values=words("run"), choice=True),
        Column(heading="Shift", values=words("data"), choice=True, hidden=True),
        Column(heading="Arm", values=words("arm"), choice=True, about="the tuned blocks, or a method with its options"),
        number("Repeats", of(cells["repeats"])),
        number("Lost", of(lost)),
        number("Accuracy, %", of(cells["accuracy_after:mean"], 100), 1),
        number("Gain, points", gained, 1, about="accuracy after tuning less before"),
        joules("Gross, ", "energy_gross_j:mean"),
        joules("± ", "energy_u_j", spread),
        joules("Net, ", "energy_net_j:mean"),
        number("Time, s", of(cells["train_time_s:mean"]), 2),
        Column(heading="Grade", values=words("grade"), choice=True, tones={"X": "bad"}),
        Column(heading="Flags", values=flags, kind="list", choice=True),
    ]
    shown = {"Flags": any(flags), "Trace": bool(traces.entries), "Run": several_runs, "Lost": bool(lost.any())}
    return [column for column in columns if shown.get(column.heading, True)]


def _flags(results: Results, cells: pd.DataFrame) -> list[list[str]]:
    """Return the flags of each cell's repeats."""
    flagged = results.records.loc[results.records["flags"] != "", ["run", "cell_id", "flags"]].drop_duplicates()
    found: dict[tuple[str, str], set[str]] = {}
    for run, cell, flags in flagged.itertuples(index=False):
        found.setdefault((run, cell), set()).update(flags.split(";"))
    return [sorted(found.get((run, cell), ())) for run, cell in cells[["run", "cell_id"]].itertuples(index=False)]


def _first_trace(cells: pd.DataFrame, traces: TraceSet) -> list[int | None]:
    """Return the number of each cell's first trace, None without one."""
    first: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(traces.entries):
        first.setdefault((entry["run"], entry["cell"]), index)
    return [first.get((run, cell)) for run, cell in cells[["run", "cell_id"]].itertuples(index=False)]


def _traces(traces: TraceSet) -> Section:
    """Show each repeat's power over time. A chunk of traces is unpacked once one of them is chosen."""
    if not traces.entries:
        recorded = "This energy source records none, or nothing was measured."
        why = "The traces could not be read." if traces.damage else recorded
        return Section(title="Power traces", macro="no_traces", view={"why": why})
    several = len({entry["run"] for entry in traces.entries}) > 1
    cells: dict[str, int] = {}
    entries = []
    for entry in traces.entries:
        cell = f"{entry['run']}: {entry['cell']}" if several else entry["cell"]
        entries.append([cells.setdefault(cell, len(cells)), entry["repeat"], entry["grade"]])
    data = {"cells": list(cells), "entries": entries, "perChunk": PER_CHUNK, "block": "power-traces"}
    view = {"data": data, "chunks": traces.chunks, "left_out": traces.left_out}
    return Section(title="Power traces", macro="traces", view=view)


# -- how far it can be trusted, and what it was made of --------------------------------------------------------


def _quality(analysis: Analysis) -> Section:
    """Show what was left out, the grades, every flag with its meaning, the repeats without a result."""
    known = analysis.quality
    facts = {
        "Repeats": ", ".join(f"{count} {status}" for status, count in known.statuses.items()),
        "Grades of joules": ", ".join(
            f"{count} \N{MULTIPLICATION SIGN} {grade}" for grade, count in sorted(known.grades.items())
        ),
        "Flags": "none" if not known.flags else "",
        **{f"{flag} ({count})": FLAGS.get(flag, "not known to this version") for flag, count in known.flags.items()},
        "Cells with unstable joules": ", ".join(known.unstable[:MAX_FAILURES]) or "none",
    }
    view = {
        "facts": {name: text for name, text in facts.items() if text},
        "failures": known.failures[:MAX_FAILURES],
        "more": len(known.failures) - MAX_FAILURES,
    }
    return Section(title="Quality", macro="quality", view=view)


def _facts(results: Results, files: Sequence[tuple[str, str]]) -> Section:
    """Show manifest and suite of each run, and link the files beside the page."""
    runs = []
    for name, manifest in zip(results.runs, results.manifests, strict=True):
        # the suite as written holds the same as its parsed content, and is easier to read
        parsed = {"text", "content"}
        rest = manifest.model_dump(mode="json", exclude={"suite": parsed, "sessions": {"__all__": {"suite": parsed}}})
        facts = dict(itertools.islice(_flatten(rest), MAX_FACTS))
        runs.append({"name": name, "facts": facts, "suite": (manifest.suite and manifest.suite.text) or ""})
    return Section(title="Facts and files", macro="facts", view={"runs": runs, "files": files})


def _flatten(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Flatten nested facts to ('device.name', text); a long text is cut."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _flatten(inner, f"{prefix}[{index}]")
    elif value is not None and value != []:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield prefix, text if len(text) <= 400 else f"{text[:400]}\N{HORIZONTAL ELLIPSIS}"
