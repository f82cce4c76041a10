"""Groups of marks: per train size one mark with its interval for each arm, side by side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.analysis import Analysis
from bench.analysis.wording import missing, size_label
from bench.read.results import UNTUNED
from plots.drawing.style import INK, MAX_SIZES, MUTED, PAPER, turns

GROUP_WIDTH = 0.84
"""Width of a group, as a fraction of the distance between two groups."""

MARKERS = ("o", "^", "v", "D", "P", "X")
"""Of the first, second ... arm of one colour."""

_ROLES: dict[str, dict[str, Any]] = {
    UNTUNED: {"marker": "o", "markerfacecolor": PAPER, "markeredgecolor": MUTED, "markeredgewidth": 1.2},
    "average": {"marker": "_", "markersize": 8, "markeredgecolor": INK, "markeredgewidth": 1.6},
    "full": {"marker": "s"},
}
"""Looks of the arms that every run has."""

ROOM = 0.06
"""Space above and below the marks, as a share of what they span."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Columns of analysis.blocks that the marks show, all fractions, drawn in percent.

    Attributes:
        value, lo, hi: the mark and its interval.
        sd: instead of the interval where there is none (published tables); None: never.
        floor: an interval that reaches further down ends there; below 0 with an arrow.
    """

    value: str
    lo: str
    hi: str
    sd: str | None = None
    floor: float = 0.0


def paint(
    axes: Axes, blocks: pd.DataFrame, *, sizes: Mapping[float, float], marks: Marks, palette: Mapping[str, str]
) -> None:
    """Draw the marks of one data label, and set the y axis to what they and their intervals span.

    Args:
        blocks: rows of analysis.blocks of this label.
        sizes: train size -> n_train.
        palette: colour per arm, in order; decides which mark stands where.
    """
    drawn = blocks[blocks[marks.value].notna()]
    arms = [arm for arm in palette if arm in set(drawn["arm"])]
    width = GROUP_WIDTH / max(1, len(arms))
    shapes = _shapes(palette)
    low, high = [], []
    for group, size in enumerate(sizes):
        rows = {row["arm"]: row for row in drawn[drawn["train_size"] == size].to_dict("records")}
        for place, arm in enumerate(arms):
            if arm in rows:
                x = group - GROUP_WIDTH / 2 + (place + 0.5) * width
                look = {"marker": shapes[arm], "color": palette[arm]} | _ROLES.get(rows[arm]["role"], {})
                ends = _mark(axes, rows[arm], marks, x=x, look=look)
                low.append(ends[0])
                high.append(ends[1])
    room = ROOM * max(max(high) - min(low), 4.0)
    axes.set_ylim(min(low) - room, max(high) + room)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ticks(axes, [size_label(size, n_train) if size else "" for size, n_train in sizes.items()])


def _mark(axes: Axes, row: dict[Hashable, Any], marks: Marks, *, x: float, look: dict[str, Any]) -> tuple[float, float]:
    """Draw one mark; returns what it spans with its interval."""
    height = 100 * float(row[marks.value])
    lo, hi = row[marks.lo], row[marks.hi]
    if missing(lo) and marks.sd and not missing(row[marks.sd]):
        lo, hi = row[marks.value] - row[marks.sd], row[marks.value] + row[marks.sd]
    low = high = height
    colour = look["markeredgecolor"] if look["marker"] != "s" and "markeredgecolor" in look else look["color"]
    if not missing(lo):
        # an interval of two seeds can be wider than 0..100 %; the axis stays with what can be
        low, high = max(100 * float(lo), min(100 * marks.floor, height)), max(min(100 * float(hi), 100.0), height)
        reach = [[height - low], [high - height]]
        axes.errorbar(x, height, yerr=reach, color=colour, elinewidth=0.9, capsize=1.8, capthick=0.9, zorder=3)
        if lo < marks.floor < 0:
            axes.plot([x], [low], marker="v", markersize=3.5, color=INK, gid=f"further-down-{row['arm']}", zorder=5)
    edge = {"markeredgecolor": INK, "markeredgewidth": 1.2} if row["is_target"] else {}
    kind: dict[str, Any] = {"markersize": 4.8, "markeredgewidth": 0.0, "zorder": 4, "gid": f"mark-{row['arm']}"}
    axes.plot([x], [height], linestyle="none", **kind | look | edge)
    return low, high


def across(axes: Axes, x: float, width: float, y: float, **line: Any) -> None:
    """Draw a short horizontal line, centred on x."""
    look: dict[str, Any] = {"color": INK, "linewidth": 1.2, "solid_capstyle": "butt", "zorder": 4} | line
    axes.plot([x - width / 2, x + width / 2], [y, y], **look)


def ticks(axes: Axes, labels: Sequence[str]) -> None:
    """Label the groups."""
    axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) <= 4 else 45)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.55, len(labels) - 0.45)


def limits(axes: Axes, values: pd.Series) -> None:
    """Set the y axis of bars to 0..100 % with room above, or lower if a rate is negative."""
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
    """Make the legend of the arms, in their order, then the target's outline."""
    shapes = _shapes(palette)
    made: list[Artist] = []
    for arm, role in arms:
        look: dict[str, Any] = {"marker": shapes[arm], "color": palette[arm], "markersize": 5} | _ROLES.get(role, {})
        made.append(Line2D([], [], linestyle="none", label=arm, **look))
    if target:
        ring: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": INK, "markersize": 5}
        made.append(Line2D([], [], linestyle="none", markeredgewidth=1.2, label="target", **ring))
    return made


def _shapes(palette: Mapping[str, str]) -> dict[str, str]:
    return {arm: MARKERS[turn % len(MARKERS)] for arm, turn in turns(palette).items()}
