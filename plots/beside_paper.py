"""A run beside the published table: bars are the run's, black lines the printed figures."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from bench.analysis.wording import missing, size_label
from bench.compare.comparison import Comparison
from bench.compare.verdict import AGREES, Measure
from plots.drawing.groups import GROUP_WIDTH, across, limits, ticks
from plots.drawing.panels import Chart, draw_pages
from plots.drawing.style import INK, PAPER, Drawn, arms_of, colours, noun

RIM = withStroke(linewidth=3.4, foreground=PAPER)
"""White edge of the published line, which keeps it visible on a dark bar."""


def draw(comparison: Comparison) -> list[Drawn]:
    """Draw one figure per measure compared with the published tables. Returns [] for a comparison of two runs."""
    if not comparison.published:
        return []
    return [drawn for measure in comparison.measures for drawn in _measure(comparison, measure)]


def _measure(comparison: Comparison, measure: Measure) -> list[Drawn]:
    conditions = comparison.conditions[comparison.conditions[f"{measure.name}_run"].notna()]
    conditions = conditions[conditions[f"{measure.name}_base"].notna()]
    if conditions.empty:
        return []
    conditions = conditions.sort_values(
        "data", key=lambda names: names.map(lambda name: (len(name), name)), kind="stable"
    )
    arms = arms_of(conditions)
    palette = colours(arms)
    ours, printed = ("base", "run") if comparison.run == "paper" else ("run", "base")
    agree = int((conditions[f"{measure.name}_verdict"] == AGREES).sum())
    legend: list[Artist] = [Patch(**_face(role, palette[arm]), label=arm) for arm, role in arms]
    legend.append(Line2D([], [], color=INK, linewidth=1.8, label="published"))
    chart = Chart(
        name=f"beside_paper_{measure.name}",
        title=f"{measure.heading.capitalize()} beside the published table",
        x_label="labelled target data",
        y_label=f"{measure.heading}, %",
        caption=(
            "Bars: this run; lines: the published figures. Whiskers: 95 % interval of the difference between the two, "
            f"about the bar; it holds the line where nothing tells them apart. {agree} of {len(conditions)} agree."
        ),
        alt=(
            f"Grouped bars: {measure.heading} in percent by {noun(arms)}, one panel per shift, with the published "
            "figure as a line across each bar. compare.csv holds the same figures."
        ),
        legend=legend,
    )

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        sizes = sorted(float(size) for size in part["train_size"].unique())
        n_train = part.groupby("train_size")["n_train"].first()
        here = [arm for arm in palette if arm in set(part["arm"])]
        width = GROUP_WIDTH / len(here)
        for row in part.to_dict("records"):
            x = sizes.index(row["train_size"]) - GROUP_WIDTH / 2 + (here.index(row["arm"]) + 0.5) * width
            height = 100 * row[f"{measure.name}_{ours}"]
            face = _face(row["role"], palette[row["arm"]])
            axes.bar(x, height, width * 0.9, gid=f"bar-{row['arm']}", zorder=2, **face)
            if not missing(row[f"{measure.name}_lo"]):
                half = 50 * (row[f"{measure.name}_hi"] - row[f"{measure.name}_lo"])
                axes.errorbar(x, height, yerr=half, color=INK, elinewidth=0.7, capsize=1.6, capthick=0.7, zorder=4)
            line = {"linewidth": 1.8, "zorder": 5, "path_effects": [RIM], "gid": f"published-{row['arm']}"}
            across(axes, x, 0.96 * width, 100 * row[f"{measure.name}_{printed}"], **line)
        ticks(axes, [size_label(size, n_train[size]) for size in sizes])
        limits(axes, part[f"{measure.name}_run"])

    return draw_pages(chart, conditions, panel)


def _face(role: str, colour: str) -> dict[str, Any]:
    """Colours of a bar. Block Avg is an empty one: its colour elsewhere is that of the published line."""
    if role == "average":
        return {"facecolor": PAPER, "edgecolor": INK, "linewidth": 0.8}
    return {"facecolor": colour, "edgecolor": PAPER, "linewidth": 0.4}
