"""Print the table at the end of a run: accuracy, joules and energy saving per arm, in 80 columns."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.analysis import sentences, wording
from bench.analysis.findings import Analysis, analyse, arm_order
from bench.analysis.tables import costed
from bench.analysis.variants import share_sentences, sides, variant_order
from bench.read.results import GROUP, Results

MAX_ROWS = 24
"""Shifts x train sizes shown; the report has them all."""

_PAD = "\N{NO-BREAK SPACE}"  # stands where a dagger could, and is not trimmed

ARMS_PER_TABLE = 6
"""Columns of figures that fit beside the label at 80 columns."""


def terminal_table(results: Results, analysis: Analysis | None = None) -> Group:
    """Make the rich renderable of results: table, one sentence per shift, and notes.

    Args:
        results: of one or more runs.
        analysis: of the same results, if it is there already.
    """
    analysis = analysis or analyse(results)
    blocks = analysis.blocks
    arms = arm_order(blocks)
    chunks = [arms[start : start + ARMS_PER_TABLE] for start in range(0, len(arms), ARMS_PER_TABLE)]
    parts: list[Table | Text] = [_table(analysis, chunk) for chunk in chunks]
    parts.append(Text(_legend(results, analysis), style="dim"))
    left_out = len(analysis.shifts) - MAX_ROWS
    if left_out > 0:
        parts.append(Text(f"and {left_out} more rows in the report", style="dim"))
    parts.append(Text())
    parts += [Text(sentence) for sentence in sentences.shift_sentences(analysis, limit=MAX_ROWS)]
    parts += [Text(sentence) for sentence in sentences.headline_sentences(analysis, published=results.published)]
    parts += _ways_of_training(results)
    parts += [
        Text(sentence, style="yellow")
        for sentence in sentences.quality_sentences(analysis, published=results.published)
    ]
    return Group(*parts)


def _ways_of_training(results: Results) -> list[Table | Text]:
    """Make a table of costs per shift and train size, where a run trained in several ways."""
    found = sides(results)
    letters = {variant: chr(ord("A") + number) for number, variant in enumerate(variant_order(results)[:26])}
    parts: list[Table | Text] = []
    for case in list(dict.fromkeys((side.data, side.size) for side in found))[:MAX_ROWS]:
        part = [side for side in found if (side.data, side.size) == case]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column(f"{case[0]}, {wording.size_label(case[1], part[0].n_train)}", overflow="fold", max_width=22)
        for head in ("way", "time", "faster", "energy", "less", "memory", "accuracy"):
            table.add_column(head, justify="right")
        for side in part:
            first = side.variant == next(iter(letters))
            table.add_row(
                side.arm,
                letters.get(side.variant, wording.MISSING),
                _unit(side.time_s, "s"),
                "" if first else _unit(side.speedup.mean, "x"),
                wording.joules(side.energy_j),
                "" if first else _unit(side.energy_ratio.mean, "x"),
                _unit(side.peak_rss_mb, "MB"),
                wording.percent(side.accuracy.mean),
            )
        parts += [Text(), table]
    if parts:
        legend = "\n".join(f"{letter}: {variant}" for variant, letter in letters.items())
        parts += [Text(legend, style="dim"), Text()]
    return [*parts, *(Text(sentence) for sentence in share_sentences(results))]


def _unit(value: float | None, unit: str) -> str:
    return wording.MISSING if value is None else f"{value:.3g} {unit}"


def _table(analysis: Analysis, arms: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("shift, train size", overflow="fold", max_width=22)
    for arm in arms:
        table.add_column(Text(f"{arm}{_PAD}"), justify="right", overflow="fold")
    rows = analysis.shifts.head(MAX_ROWS)
    blocks = analysis.blocks.merge(rows[GROUP], on=GROUP)
    unit = wording.joule_unit(blocks["energy_gross_j"].median())
    indexed = {(row["data"], row["train_size"], row["arm"]): row for row in blocks.to_dict("records")}
    for shift in rows.to_dict("records"):
        size = wording.size_label(shift["train_size"], shift["n_train"])
        label = Text(f"{shift['data']}\n{shift['level'] + ', ' if shift['level'] else ''}{size}")
        label.stylize("bold", 0, len(shift["data"]))
        cells = [_cell(indexed.get((shift["data"], shift["train_size"], arm)), shift, unit) for arm in arms]
        table.add_row(label, *cells, end_section=True)
    return table


def _cell(row: dict[Hashable, Any] | None, shift: dict[Hashable, Any], unit: tuple[float, str]) -> Text:
    """Text of one entry: accuracy, joules and saving, one below the other, those that there are."""
    if row is None:
        return Text(f"{wording.MISSING}{_PAD}", style="dim")
    text = Text()
    if not wording.missing(row["accuracy"]):
        text.append(
            wording.percent(row["accuracy"]), style="bold green" if row["arm"] == shift["winner_winner"] else ""
        )
        text.append("†" if row["is_target"] else _PAD, style="bold")
    if not wording.missing(row["energy_gross_j"]):
        text.append("\n" if text else "")
        text.append(
            wording.joules(row["energy_gross_j"], unit), style="bold" if row["arm"] == shift["frugal_winner"] else ""
        )
        text.append(_PAD)
    if not wording.missing(row["saving_gross"]):
        change = wording.points(-row["saving_gross"], 0)
        text.append(f"\n{change} %{_PAD}", style="dim")
    if not text:
        lost = row["role"] != "average" and not row["ok"]
        return Text(f"failed{_PAD}", style="red") if lost else Text(f"{wording.MISSING}{_PAD}", style="dim")
    return text


def _legend(results: Results, analysis: Analysis) -> str:
    text = "accuracy: bold is the best single block, † the target block"
    if analysis.quality.has_joules:
        text += f"\njoules: gross, of {costed(results)}; {analysis.quality.energy}"
        text += "; last line: against full" if analysis.blocks["saving_gross"].notna().any() else ""
    return text
