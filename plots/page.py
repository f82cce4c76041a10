"""The report as one HTML page: words first, then figures, tables and facts. Needs no network and no script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any

from bench.analysis import Analysis, Results, wording
from bench.analysis.tables import Entry, Grid
from hardware.grade import FLAGS
from plots.page_style import CSS
from plots.style import GRID, INK, MUTED, PAPER, Saved

_REM_PER_INCH = 9.0
"""One scale for all figures, so that their letters are equally large."""

MAX_ROWS = 150
MAX_FAILURES = 50
MAX_SENTENCES = 40

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>$css</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p class="muted">$subtitle</p>
</header>
$body
</main>
</body>
</html>
""")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Links of the page, relative to it: (text, path)."""

    data: Sequence[tuple[str, str]]


def render(results: Results, analysis: Analysis, figures: Sequence[Saved], grids: Sequence[Grid], files: Files) -> str:
    """The whole page. Every text that a user can choose is escaped."""
    sections = [
        _summary(results, analysis),
        _figures(analysis, figures),
        _section("Tables", "".join(_table(grid) for grid in grids)),
        _quality(analysis),
        _facts(results, files),
    ]
    quality = analysis.quality
    subtitle = (
        f"Figures as printed. Energy: {quality.energy}."
        if results.published
        else f"{wording.count(quality.cells, 'cell')}, {wording.count(quality.records, 'repeat')}, "
        f"{quality.statuses.get('ok', 0)} finished. Energy: {quality.energy}."
    )
    return _PAGE.substitute(
        title=escape(results.title),
        css=CSS,
        subtitle=escape(subtitle),
        body="\n".join(filter(None, sections)),
    )


def _section(title: str, body: str) -> str:
    name = re.sub(r"\W+", "-", title.lower())
    return (
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n{body}\n</section>' if body else ""
    )


def _summary(results: Results, analysis: Analysis) -> str:
    published = results.published
    headlines = wording.headline_sentences(analysis, published=published)
    warnings = wording.quality_sentences(analysis, published=published)
    shifts = wording.shift_sentences(analysis, limit=MAX_SENTENCES)
    more = analysis.shifts["data"].nunique() - len(shifts)
    if more > 0:
        shifts.append(f"and {more} more shifts in the tables")
    body = _tiles(analysis, 2 if published else 1)
    body += "".join(f"<p>{_prose(sentence)}</p>" for sentence in headlines)
    body += "<h3>By shift</h3>" + _list(shifts)
    if warnings:
        body += '<aside class="note" aria-label="What to know"><h3>What to know</h3>' + _list(warnings) + "</aside>"
    return _section("Summary", body)


def _tiles(analysis: Analysis, digits: int) -> str:
    head = analysis.headlines
    tiles = []
    if head.gain.mean is not None:
        spread = wording.interval(head.gain.lo, head.gain.hi, digits)
        tiles.append(
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
            tiles.append((wording.percent(estimate.mean, digits), text))
    cells = "".join(f"<div><dt>{escape(text.strip())}</dt><dd>{escape(figure)}</dd></div>" for figure, text in tiles)
    return f'<dl class="tiles">{cells}</dl>' if cells else ""


def _prose(sentence: str) -> str:
    """A sentence whose figures stay with their per cent signs."""
    return escape(sentence).replace(" %", "\N{NO-BREAK SPACE}%")


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_prose(item)}</li>" for item in items) + "</ul>"


def _figures(analysis: Analysis, figures: Sequence[Saved]) -> str:
    body = "".join(
        f'<figure><div class="scroll" tabindex="0" role="group" aria-label="{escape(figure.name)}">'
        f"{inline_svg(figure)}</div>"
        f'<figcaption><a href="figures/{escape(figure.png.name)}">PNG</a> '
        f'<a href="figures/{escape(figure.svg.name)}">SVG</a></figcaption></figure>'
        for figure in figures
    )
    if body and not any(figure.name.startswith("pareto") for figure in figures):
        together = "accuracy and joules were not measured on the same cells"
        why = together if analysis.quality.has_joules else "no energy was measured"
        body += f'<p class="muted">No figure of accuracy against energy: {why}.</p>'
    return _section("Figures", body)


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
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in grid.header)
    rows = "".join(
        "<tr>" + "".join(_entry(entry, index, grid) for index, entry in enumerate(row)) + "</tr>"
        for row in grid.rows[:MAX_ROWS]
    )
    note = grid.note
    if len(grid.rows) > MAX_ROWS:
        note += f" {len(grid.rows) - MAX_ROWS} more rows are in tables/{grid.name}.md."
    name = f"table-{grid.name}"
    return (
        f'<h3 id="{name}">{escape(grid.title)}</h3><div class="scroll" tabindex="0" role="group" '
        f'aria-labelledby="{name}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="muted">{escape(note)}</p>'
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


def _quality(analysis: Analysis) -> str:
    quality = analysis.quality
    facts = {
        "Repeats": ", ".join(f"{count} {status}" for status, count in quality.statuses.items()),
        "Grades of joules": ", ".join(f"{count} x {grade}" for grade, count in sorted(quality.grades.items())),
        "Flags": "none" if not quality.flags else "",
        **{f"{flag} ({count})": FLAGS.get(flag, "not known to this version") for flag, count in quality.flags.items()},
        "Cells with unstable joules": ", ".join(quality.unstable[:MAX_FAILURES]) or "none",
    }
    body = _definitions({name: text for name, text in facts.items() if text})
    if quality.failures:
        shown = quality.failures[:MAX_FAILURES]
        rows = "".join(
            f'<tr><th scope="row">{escape(lost.cell_id)}</th><td>{lost.repeat}</td><td>{escape(lost.status)}</td>'
            f"<td>{escape(lost.error) or wording.MISSING}</td></tr>"
            for lost in shown
        )
        head = "".join(f'<th scope="col">{text}</th>' for text in ("Cell", "Repeat", "Status", "Why"))
        more = len(quality.failures) - len(shown)
        body += (
            '<h3 id="without-result">Repeats without a result</h3><div class="scroll" tabindex="0" role="group" '
            f'aria-labelledby="without-result"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
            + (f'<p class="muted">and {more} more in cells.jsonl</p>' if more > 0 else "")
        )
    return _section("Quality", body)


def _facts(results: Results, files: Files) -> str:
    body = ""
    for run, manifest in zip(results.runs, results.manifests, strict=True):
        suite, rest, text = manifest.get("suite"), manifest, None
        if isinstance(suite, dict):
            text = suite.get("text")
            # the suite as written says what its parsed content says, and more readably
            rest = manifest | {"suite": {key: suite[key] for key in suite if key not in {"text", "content"}}}
        facts = dict(_flatten(rest))
        if facts:
            body += f"<details><summary>Manifest of {escape(run)}</summary>{_definitions(facts)}</details>"
        if text:
            body += f"<details><summary>Suite of {escape(run)}</summary><pre>{escape(str(text))}</pre></details>"
    links = "".join(f'<li><a href="{escape(path)}">{escape(text)}</a></li>' for text, path in files.data)
    return _section("Facts and files", f"{body}<ul>{links}</ul>")


def _definitions(facts: dict[str, str]) -> str:
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def _flatten(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested facts as 'device.name' -> text; a long text, such as the suite as written, is cut."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _flatten(inner, f"{prefix}[{index}]")
    elif value is not None:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield prefix, text if len(text) <= 400 else f"{text[:400]}\N{HORIZONTAL ELLIPSIS}"
