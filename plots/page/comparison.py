"""The part of the report that sets the run against another, or against the published tables."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from bench.analysis.wording import MISSING, missing
from bench.compare import Comparison
from bench.compare.notes import place
from bench.compare.show import figure, legend, measure_sentence, summary_sentence
from bench.compare.verdict import AGREES, BETTER, DIFFERS, NOT_ENOUGH, SAME, WORSE, Measure
from plots.page.frame import note, paragraphs, prose, section
from plots.page.table import Column, data_table

_TONES = {WORSE: "bad", DIFFERS: "bad", BETTER: "good", AGREES: "good", NOT_ENOUGH: "dim", SAME: "", "": "dim"}


def render(number: int, comparison: Comparison) -> str:
    """Section of one comparison.

    Args:
        number: of the comparison on its page, from 1.
    """
    body = f"<p><strong>{prose(summary_sentence(comparison))}</strong></p>"
    for measure in comparison.measures:
        said = measure_sentence(comparison, measure)
        body += paragraphs([f"{said[0].upper()}{said[1:]}."])
    body += paragraphs(comparison.headlines)
    body += note("What to know", comparison.warnings)
    label = f"Cells of {comparison.run} against {comparison.base}"
    body += data_table(
        f"comparison-{number}", label, _columns(comparison), plain="jouletune compare prints this table."
    )
    body += f'<p class="muted">{prose(legend(comparison))}</p>'
    body += "".join(f'<p class="muted">{prose(one)}</p>' for one in comparison.notes)
    base = "the published tables" if comparison.base == "paper" else comparison.base
    return section(f"Against {base}", body)


def _columns(comparison: Comparison) -> list[Column]:
    rows = comparison.cells.to_dict("records")
    columns = [
        Column(heading="Cell", values=[f"{place(row)} {row['arm']}" for row in rows]),
        Column(heading="Verdict", values=[row["verdict"] for row in rows], choice=True, tones=_TONES),
    ]
    for measure in comparison.measures:
        columns += _measure(comparison, measure, rows)
    return columns


def _measure(comparison: Comparison, measure: Measure, rows: list[dict[Hashable, Any]]) -> list[Column]:
    name = measure.heading.capitalize()
    basis = f", {comparison.rules.basis}" if measure.name != "accuracy" else ""
    change = [row[f"{measure.name}_change"] for row in rows]
    n = [row[f"{measure.name}_n"] for row in rows]
    # why nothing was compared at all is said above the table
    why = [str(row[f"{measure.name}_why"] or "") if row[f"{measure.name}_verdict"] else "" for row in rows]
    return [
        Column(
            heading=f"{name}{basis}, {measure.unit}",
            values=[None if missing(value) else 100 * float(value) for value in change],
            texts=[figure(row, measure) for row in rows],
            kind="number",
            about="run less base, with 95 % interval",
        ),
        Column(
            heading=f"{name}: verdict", values=[row[f"{measure.name}_verdict"] or MISSING for row in rows], tones=_TONES
        ),
        Column(
            heading=f"n ({measure.per}s)",
            values=[None if missing(value) else float(value) for value in n],
            kind="number",
            digits=0,
        ),
        *([Column(heading=f"{name}: why", values=why)] if any(why) else []),
    ]
