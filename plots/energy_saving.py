"""Energy-saving rate per block and train size, gross as bars, net as diamonds."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.analysis import Analysis, Results
from bench.analysis.tables import costed
from bench.analysis.wording import units
from plots.drawing.bars import MARK, THEORY, Bars, handles, limits, paint, train_sizes
from plots.drawing.panels import Chart, draw_pages
from plots.drawing.style import INK, Drawn, arms_of, colours, drawable, noun

FLOOR = -1.0
"""Lowest rate drawn. One below -100 % means little power above idle, or few data, and would flatten the other bars."""

_BARS = Bars(
    value="saving_gross",
    lo="saving_gross_lo",
    hi="saving_gross_hi",
    mark="saving_net",
    theory="saving_theory",
    floor=FLOOR,
)


def draw(results: Results, analysis: Analysis) -> list[Drawn]:
    """Draw one panel per data label with a saving rate. Returns one figure per page of panels, [] without any."""
    blocks = analysis.blocks[analysis.blocks["saving_gross"].notna()]
    if blocks.empty:
        return []
    off_axis = int((blocks["saving_net"] < FLOOR).sum())
    wide = bool((blocks["saving_gross_lo"] < FLOOR).any())
    blocks = blocks.assign(saving_net=blocks["saving_net"].where(blocks["saving_net"] >= FLOOR))
    blocks, more = drawable(blocks)
    arms = arms_of(blocks)
    palette = colours(arms)
    legend: list[Artist] = handles(arms, palette, target=bool(blocks["is_target"].any()))
    if blocks["saving_net"].notna().any():
        legend.append(Line2D([], [], **MARK, linestyle="none", label="net of idle"))
    by_macs = bool(blocks["saving_theory"].notna().any())
    if by_macs:
        legend.append(Line2D([], [], color=INK, linewidth=1.1, linestyle=THEORY, label="by MACs"))
    of = "of the same step" if results.published else "validation included"
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
            + (f"By MACs: the rate of the multiply-accumulates, {of}. " if by_macs else "")
            + (f"Net rates below \N{MINUS SIGN}100 % are not drawn: {off_axis}. " if off_axis else "")
            + f"{more}Energy: {analysis.quality.energy}."
        ),
        alt=(
            f"Grouped bars: energy saved in percent by {noun(arms)} for each train size, one panel per shift, with "
            "Block Avg as a line. The energy-saving table holds the same figures."
        ),
        legend=legend,
    )
    sizes = train_sizes(analysis)

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        paint(axes, part, sizes=sizes[label], bars=_BARS, palette=palette)
        lowest = part[["saving_gross", "saving_net"]].assign(lo=part["saving_gross_lo"].clip(lower=FLOOR))
        limits(axes, lowest.min(axis=1))

    return draw_pages(chart, blocks, panel)
