"""The report as one HTML page: words first, then figures, tables, traces, quality and facts. Without scripts it loses
only what moves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.analysis import Analysis, Results, sentences, wording
from bench.analysis.tables import Entry, Grid
from bench.compare import Comparison
from plots.drawing.style import GRID, INK, MUTED, PAPER, Saved
from plots.page import (
    cells as page_cells,
)
from plots.page import (
    comparison as page_comparison,
)
from plots.page import (
    facts as page_facts,
)
from plots.page import (
    pareto as page_pareto,
)
from plots.page import (
    traces as page_traces,
)
from plots.page.frame import bullets, note, paragraphs, render_page, scrolled_table, section, tiles
from plots.page.trace_data import TraceSet

_REM_PER_INCH = 9.0
"""One scale for all figures, so that their letters are equally large."""

MAX_ROWS = 150
MAX_SENTENCES = 40
WIDGETS = ("chart", "table", "pareto", "traces")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Links of the page, relative to it: (text, path)."""

    data: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that a page shows.

    Attributes:
        results, analysis: of the run or runs.
        figures: the files of matplotlib.
        grids: tables in the paper's form.
        traces: power traces, thinned.
        comparisons: of the run with others, or with the published tables.
        files: what lies beside the page.
    """

    results: Results
    analysis: Analysis
    figures: Sequence[Saved]
    grids: Sequence[Grid]
    traces: TraceSet
    comparisons: Sequence[Comparison]
    files: Files


def render(content: Content) -> str:
    """The whole page. Every text that a user can choose is escaped."""
    results, analysis = content.results, content.analysis
    sections = [
        _summary(content),
        *(page_comparison.render(number, one) for number, one in enumerate(content.comparisons, start=1)),
        _figures(analysis, content.figures),
        section("Tables", "".join(_table(grid) for grid in content.grids)),
        "" if results.published else page_cells.render(results, analysis, content.traces),
        "" if results.published else page_traces.render(content.traces),
        page_facts.quality(analysis),
        page_facts.facts(results, content.files.data),
    ]
    quality = analysis.quality
    subtitle = (
        f"Figures as printed. Energy: {quality.energy}."
        if results.published
        else f"{wording.count(quality.cells, 'cell')}, {wording.count(quality.records, 'repeat')}, "
        f"{quality.statuses.get('ok', 0)} finished. Energy: {quality.energy}."
    )
    moving = any("data-widget=" in part for part in sections)
    return render_page(results.title, subtitle, sections, widgets=WIDGETS if moving else (), charts=moving)


def _summary(content: Content) -> str:
    results, analysis = content.results, content.analysis
    published = results.published
    warnings = [*sentences.quality_sentences(analysis, published=published), *results.damage, *content.traces.damage]
    shifts = sentences.shift_sentences(analysis, limit=MAX_SENTENCES)
    more = analysis.shifts["data"].nunique() - len(shifts)
    if more > 0:
        shifts.append(f"and {more} more shifts in the tables")
    body = _tiles(analysis, 2 if published else 1)
    body += paragraphs(sentences.headline_sentences(analysis, published=published))
    body += "<h3>By shift</h3>" + bullets(shifts)
    return section("Summary", body + note("What to know", warnings))


def _tiles(analysis: Analysis, digits: int) -> str:
    head = analysis.headlines
    figures = []
    if head.gain.mean is not None:
        spread = wording.interval(head.gain.lo, head.gain.hi, digits)
        figures.append(
            (
                wording.points(head.gain.mean, digits),
                f"points: accuracy of the target block above Block Avg {spread}",
            )
        )
    label = analysis.quality.caveat_label
    caveat = f" ({label})" if label else ""
    for estimate, what in (
        (head.saving_average, "one block (Block Avg)"),
        (head.saving_target, "the target block"),
    ):
        if estimate.mean is not None:
            spread = wording.interval(estimate.lo, estimate.hi, digits)
            text = f"energy saved by tuning {what}{caveat} {spread}"
            figures.append((wording.percent(estimate.mean, digits), text))
    return tiles(figures)


def _figures(analysis: Analysis, figures: Sequence[Saved]) -> str:
    pareto = [figure for figure in figures if figure.name.startswith(page_pareto.FIGURE)]
    body = "".join(_figure(figure) for figure in figures if figure not in pareto)
    if pareto:
        body += page_pareto.render(analysis, "".join(map(_figure, pareto)))
        body += f"<p>As files: {' '.join(map(_links, pareto))}</p>"
    elif body:
        together = "accuracy and joules were not measured on the same cells"
        why = together if analysis.quality.has_joules else "no energy was measured"
        body += f'<p class="muted">No figure of accuracy against energy: {why}.</p>'
    return section("Figures", body)


def _figure(figure: Saved) -> str:
    return (
        f'<figure><div class="scroll" tabindex="0" role="group" aria-label="{escape(figure.name)}">'
        f"{inline_svg(figure)}</div><figcaption>{_links(figure)}</figcaption></figure>"
    )


def _links(figure: Saved) -> str:
    return (
        f'<a href="figures/{escape(figure.png.name)}" aria-label="{escape(figure.name)} as PNG">PNG</a> '
        f'<a href="figures/{escape(figure.svg.name)}" aria-label="{escape(figure.name)} as SVG">SVG</a>'
    )


def inline_svg(figure: Saved) -> str:
    """The SVG as part of a page: ids of its own, colours that follow the page, words for those who cannot see it."""
    markup = figure.markup[figure.markup.index("<svg") :]
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid"), (PAPER, "paper")):
        markup = markup.replace(colour, f"var(--{name})")
    for before in ('id="', "url(#", 'href="#'):
        markup = markup.replace(before, f"{before}{figure.name}-")
    # the alternative text comes last: nothing above may change it
    head, rest = markup.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    width_rem = _REM_PER_INCH * float(figure.width_in)
    return f'{head} style="max-width:{width_rem:.1f}rem" role="img" aria-label="{escape(figure.alt)}">{rest}'


def _table(grid: Grid) -> str:
    rows = [
        "<tr>" + "".join(_entry(entry, index, grid) for index, entry in enumerate(row)) + "</tr>"
        for row in grid.rows[:MAX_ROWS]
    ]
    more = f" {len(grid.rows) - MAX_ROWS} more rows are in tables/{grid.name}.md." if len(grid.rows) > MAX_ROWS else ""
    name = f"table-{grid.name}"
    return (
        f'<h3 id="{name}">{escape(grid.title)}</h3>{scrolled_table(name, grid.header, rows, labels=grid.labels)}'
        f'<p class="muted">{escape(grid.note + more)}</p>'
    )


def _entry(entry: Entry, column: int, grid: Grid) -> str:
    text = escape(entry.text)
    if entry.best:
        text = f"<b>{text}</b>"
    if entry.target:
        text += '<abbr title="target block">†</abbr>'
    if column == 0:
        return f'<th scope="row">{text}</th>'
    return f"<td>{text}</td>" if column < grid.labels else f'<td class="figure">{text}</td>'
