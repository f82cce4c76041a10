"""Grouped bars: per train size one bar per block, with Block Avg and full as lines across the group."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.analysis import Analysis
from bench.analysis.wording import missing, size_label
from plots.drawing.style import INK, MAX_SIZES, PAPER, turns

GROUP_WIDTH = 0.84
"""Width of a group of bars, as a fraction of the distance between two groups."""

THEORY: Any = (0, (1, 0.8))
MARK: Any = {"marker": "D", "markersize": 3, "color": PAPER, "markeredgecolor": INK, "markeredgewidth": 0.7}
"""Diamond that shows a second figure on a bar."""

HATCHES = ("", "/////", ".....", "xxxxx")
"""Of the first, second ... arm of one colour."""

_LINES: dict[str, Any] = {"average": (0, (2.5, 1.5)), "full": "solid"}


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Columns of analysis.blocks that the bars show, all fractions, drawn in percent.

    Attributes:
        value, lo, hi: the bar and its interval.
        sd: instead of the interval where there is none (published tables); None: never.
        mark: a second figure shown as a diamond on the bar, e.g. the net rate; None: none.
        theory: a third, shown as a line across the bar; None: none.
        floor: an interval that reaches further down ends there, below 0 with an arrow; accuracies end at 0.
    """

    value: str
    lo: str
    hi: str
    sd: str | None = None
    mark: str | None = None
    theory: str | None = None
    floor: float = 0.0


def paint(
    axes: Axes, blocks: pd.DataFrame, *, sizes: Mapping[float, float], bars: Bars, palette: Mapping[str, str]
) -> None:
    """Draw the bars of one data label.

    Args:
        blocks: rows of analysis.blocks of this label.
        sizes: train size -> n_train.
        palette: colour per arm, in order; decides which bar stands where.
    """
    drawn = blocks[blocks["role"].isin(["single", "set", "method"]) & blocks[bars.value].notna()]
    arms = [arm for arm in palette if arm in set(drawn["arm"])]
    width = GROUP_WIDTH / max(1, len(arms))
    hatches = _hatches(palette)
    for group, size in enumerate(sizes):
        here = blocks[blocks["train_size"] == size]
        rows = {row["arm"]: row for row in here.to_dict("records") if not missing(row[bars.value])}
        for place, arm in enumerate(arms):
            if arm in rows:
                x = group - GROUP_WIDTH / 2 + (place + 0.5) * width
                fill: dict[str, Any] = {"facecolor": palette[arm], "hatch": hatches[arm]}
                _bar(axes, rows[arm], bars, x=x, width=width, fill=fill, label=len(arms) <= 6)
        for role, line in _LINES.items():
            for level in here.loc[here["role"] == role, bars.value].dropna().head(1):
                across(axes, group, GROUP_WIDTH + 0.06, 100 * level, gid=f"{role}-{group}", linestyle=line)
    ticks(axes, [size_label(size, n_train) if size else "" for size, n_train in sizes.items()])


def across(axes: Axes, x: float, width: float, y: float, **line: Any) -> None:
    """Draw a short horizontal line, centred on x."""
    look: dict[str, Any] = {"color": INK, "linewidth": 1.2, "solid_capstyle": "butt", "zorder": 4} | line
    axes.plot([x - width / 2, x + width / 2], [y, y], **look)


def ticks(axes: Axes, labels: Sequence[str]) -> None:
    """Label the groups of bars."""
    axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) <= 4 else 45)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.55, len(labels) - 0.45)


def _hatches(palette: Mapping[str, str]) -> dict[str, str]:
    return {arm: HATCHES[turn % len(HATCHES)] for arm, turn in turns(palette).items()}


def _bar(
    axes: Axes, row: dict[Hashable, Any], bars: Bars, *, x: float, width: float, fill: dict[str, Any], label: bool
) -> None:
    height = top = 100 * float(row[bars.value])
    target, arm = bool(row["is_target"]), row["arm"]
    edge: dict[str, Any] = {"edgecolor": INK, "linewidth": 1.1} if target else {"edgecolor": PAPER, "linewidth": 0.4}
    axes.bar(x, height, width * 0.9, gid=f"bar-{arm}", zorder=2, **fill, **edge)
    lo, hi = row[bars.lo], row[bars.hi]
    if missing(lo) and bars.sd and not missing(row[bars.sd]):
        lo, hi = row[bars.value] - row[bars.sd], row[bars.value] + row[bars.sd]
    if not missing(lo):
        # an interval of two seeds can be wider than 0..100 %; the axis stays with the bars
        low, high = max(100 * float(lo), min(100 * bars.floor, height)), min(100 * float(hi), 100.0)
        reach = [[max(0.0, height - low)], [max(0.0, high - height)]]
        axes.errorbar(x, height, yerr=reach, color=INK, elinewidth=0.8, capsize=1.6, capthick=0.8, zorder=5)
        top = max(top, high)
        if lo < bars.floor < 0:
            axes.plot([x], [low], marker="v", markersize=3.5, color=INK, gid=f"further-down-{arm}", zorder=5)
    if bars.theory and not missing(row[bars.theory]):
        look: dict[str, Any] = {"linewidth": 1.1, "linestyle": THEORY, "zorder": 5.5}
        across(axes, x, 0.84 * width, 100 * float(row[bars.theory]), gid=f"theory-{arm}", **look)
    if bars.mark and not missing(row[bars.mark]):
        axes.plot([x], [100 * float(row[bars.mark])], **MARK, zorder=6)
    if target and label:
        # neighbours may be taller: a ground of its own keeps the figure readable on them
        ground = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.4}
        place: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        axes.annotate(f"{height:.1f}", (x, max(top, 0)), **place, size=6.5, weight="bold", zorder=7, bbox=ground)


def limits(axes: Axes, values: pd.Series) -> None:
    """Set the y axis to 0..100 % with room for the figures above the bars, or lower if a rate is negative."""
    low = 100 * float(np.nanmin(values.to_numpy(dtype=float), initial=0.0))
    axes.set_ylim(low * 1.1 if low < 0 else 0, 108)
    axes.set_yticks([tick for tick in range(-500, 101, 20 if low > -100 else 100) if tick >= low * 1.1])
    if low < 0:
        axes.axhline(0, color=INK, linewidth=0.8, zorder=3)


def train_sizes(analysis: Analysis) -> dict[str, dict[float, float]]:
    """Return n_train by train size for each data label, the lowest first, sizes without a result included."""
    sizes: dict[str, dict[float, float]] = {}
    for label, size, n_train in analysis.shifts[["data", "train_size", "n_train"]].itertuples(index=False):
        if len(of := sizes.setdefault(str(label), {})) < MAX_SIZES:
            of[size] = n_train
    return sizes


def handles(arms: Sequence[tuple[str, str]], palette: Mapping[str, str], *, target: bool) -> list[Artist]:
    """Make the legend of the arms: bars first, then lines, then the target's outline."""
    hatches = _hatches(palette)
    made: list[Artist] = [
        Patch(facecolor=palette[arm], hatch=hatches[arm], edgecolor=PAPER, label=arm)
        for arm, role in arms
        if role not in _LINES
    ]
    made += [
        Line2D([], [], color=INK, linewidth=1.2, linestyle=_LINES[role], label=arm)
        for arm, role in arms
        if role in _LINES
    ]
    if target:
        made.append(Patch(facecolor="none", edgecolor=INK, linewidth=1.1, label="target"))
    return made
