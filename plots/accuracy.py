"""Accuracy per arm and train size: a dot with its interval for each, untuned and full as the others."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from bench.analysis import Analysis, Results
from bench.analysis.wording import repetitions
from plots.drawing.groups import Marks, handles, paint, train_sizes
from plots.drawing.panels import FILE, Chart, Layout, draw_pages
from plots.drawing.style import Drawn, arms_of, colours, drawable, noun

_MARKS = Marks(value="accuracy", lo="accuracy_lo", hi="accuracy_hi", sd="accuracy_sd")


def draw(results: Results, analysis: Analysis, layout: Layout = FILE) -> list[Drawn]:
    """Draw one panel per data label with an accuracy. Returns one figure per page of panels, [] without any."""
    blocks = analysis.blocks[analysis.blocks["accuracy"].notna()]
    if blocks.empty:
        return []
    blocks, more = drawable(blocks)
    arms = arms_of(blocks)
    palette = colours(arms)
    spread = "the published standard deviation" if results.published else "95 % t interval over seeds"
    target = bool(blocks["is_target"].any())
    chart = Chart(
        name="accuracy",
        title=f"Accuracy by {noun(arms)}",
        x_label="labelled target data",
        y_label="accuracy, %",
        caption=(
            f"Mean accuracy on the target test images; whiskers: {spread}; "
            f"{repetitions(blocks['accuracy_n'], 'seed')}. Each panel has an axis of its own, which need not begin at "
            f"0. {more}" + ("Outlined: the target block of the shift." if target else "")
        ).strip(),
        alt=(
            f"Dots with intervals: accuracy in percent by {noun(arms)} for each train size, one panel per shift, "
            "with the untuned model, Block Avg and full fine-tuning. The accuracy table holds the same figures."
        ),
        legend=handles(arms, palette, target=target),
        own_range=True,
    )
    sizes = train_sizes(analysis)

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        paint(axes, part, sizes=sizes[label], marks=_MARKS, palette=palette)

    return draw_pages(chart, blocks, panel, layout)
