"""Energy-saving rate per arm and train size, gross, as dots with intervals. The tables hold net and theory."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from bench.analysis import Analysis, Results
from bench.analysis.tables import costed
from bench.analysis.wording import units
from plots.drawing.groups import Marks, handles, paint, train_sizes
from plots.drawing.panels import FILE, Chart, Layout, draw_pages
from plots.drawing.style import INK, Drawn, arms_of, colours, drawable, noun

FLOOR = -1.0
"""Lowest end of an interval that is drawn. One below -100 % means few data, and would flatten the others."""

_MARKS = Marks(value="saving_gross", lo="saving_gross_lo", hi="saving_gross_hi", floor=FLOOR)


def draw(results: Results, analysis: Analysis, layout: Layout = FILE) -> list[Drawn]:
    """Draw one panel per data label with a saving rate. Returns one figure per page of panels, [] without any."""
    blocks = analysis.blocks[analysis.blocks["saving_gross"].notna()]
    if blocks.empty:
        return []
    wide = bool((blocks["saving_gross_lo"] < FLOOR).any())
    blocks, more = drawable(blocks)
    arms = arms_of(blocks)
    palette = colours(arms)
    target = bool(blocks["is_target"].any())
    pairs = units(blocks["saving_gross_n"], blocks["saving_gross_seeds"])
    spread = f", paired by seed and repeat; whiskers: 95 % interval of the ratio, without the meter's gain; {pairs}"
    made = analysis.quality.caveat_label
    chart = Chart(
        name="energy_saving",
        title="Energy saved against tuning everything" + (f" ({made})" if made else ""),
        x_label=costed(results) if results.published else "labelled target data",
        y_label="energy-saving rate, %",
        caption=(
            "(E_full \N{MINUS SIGN} E) / E_full of gross energy"
            + (spread if blocks["saving_gross_lo"].notna().any() else "")
            + ". "
            + ("Arrow: the interval reaches below \N{MINUS SIGN}100 %. " if wide else "")
            + f"{more}Energy: {analysis.quality.energy}."
        ),
        alt=(
            f"Dots with intervals: energy saved in percent by {noun(arms)} for each train size, one panel per shift, "
            "with Block Avg. The energy-saving table holds the same figures."
        ),
        legend=handles(arms, palette, target=target),
    )
    sizes = train_sizes(analysis)

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        paint(axes, part, sizes=sizes[label], marks=_MARKS, palette=palette)
        if axes.get_ylim()[0] < 0:
            axes.axhline(0, color=INK, linewidth=0.8, zorder=1.5)

    return draw_pages(chart, blocks, panel, layout)
