"""Accuracy per block and train size, in the paper's form: bars with Block Avg and full as lines."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from bench.analysis import Analysis, Results
from bench.analysis.wording import repetitions
from plots.drawing.bars import Bars, handles, limits, paint, train_sizes
from plots.drawing.panels import Chart, draw_pages
from plots.drawing.style import Drawn, arms_of, colours, drawable, noun

_BARS = Bars(value="accuracy", lo="accuracy_lo", hi="accuracy_hi", sd="accuracy_sd")


def draw(results: Results, analysis: Analysis) -> list[Drawn]:
    """Draw one panel per data label with an accuracy. Returns one figure per page of panels, [] without any."""
    blocks = analysis.blocks[analysis.blocks["accuracy"].notna()]
    if blocks.empty:
        return []
    blocks, more = drawable(blocks)
    arms = arms_of(blocks)
    palette = colours(arms)
    spread = "the published standard deviation" if results.published else "95 % t interval over seeds"
    chart = Chart(
        name="accuracy_bars",
        title=f"Accuracy by {noun(arms)}",
        x_label="labelled target data",
        y_label="accuracy, %",
        caption=(
            f"Mean accuracy on the target test images; whiskers: {spread}; "
            f"{repetitions(blocks['accuracy_n'], 'seed')}. "
            f"{more}Outlined, with its value: the target block of the shift."
        ),
        alt=(
            f"Grouped bars: accuracy in percent by {noun(arms)} for each train size, one panel per shift, "
            "with Block Avg and full fine-tuning as lines. The accuracy table holds the same figures."
        ),
        legend=handles(arms, palette, target=bool(blocks["is_target"].any())),
    )
    sizes = train_sizes(analysis)

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        paint(axes, part, sizes=sizes[label], bars=_BARS, palette=palette)
        limits(axes, part["accuracy"])

    return draw_pages(chart, blocks, panel)
