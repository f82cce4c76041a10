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
from plots.drawing.style import INK, PAPER

GROUP_WIDTH = 0.84
"""Of the distance between two groups."""

THEORY: Any = (0, (1, 0.8))

_LINES: dict[str, Any] = {"average": (0, (2.5, 1.5)), "full": "solid"}


@dataclass(frozen=True, kw_only=True)
class Bars:
    """What the bars show: columns of analysis.blocks, all fractions, drawn in percent.

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
    """Draw one data label.

    Args:
        blocks: rows of analysis.blocks of this label.
        sizes: train size -> n_train.
        palette: colour per arm, in order; decides which bar stands where.
    """
    drawn = blocks[blocks["role"].isin(["single", "set", "method"]) & blocks[bars.value].notna()]
    arms = [arm for arm in palette if arm in set(drawn["arm"])]
    width = GROUP_WIDTH / max(1, len(arms))
    for group, size in enumerate(sizes):
        here = blocks[blocks["train_size"] == size]
        rows = {row["arm"]: row for row in here.to_dict("records") if not missing(row[bars.value])}
        for place, arm in enumerate(arms):
            if arm in rows:
                x = group - GROUP_WIDTH / 2 + (place + 0.5) * width
                _bar(axes, rows[arm], bars, x=x, width=width, colour=palette[arm], label=len(arms) <= 6)
        for role, line in _LINES.items():
            level = here.loc[here["role"] == role, bars.value].dropna()
            if len(level):
                y = 100 * float(level.iloc[0])
                axes.plot(
                    [group - GROUP_WIDTH / 2 - 0.03, group + GROUP_WIDTH / 2 + 0.03],
                    [y, y],
                    color=INK,
                    linewidth=1.2,
                    linestyle=line,
                    solid_capstyle="butt",
                    gid=f"{role}-{group}",
                    zorder=4,
                )
    labels = [size_label(size, n_train) for size, n_train in sizes.items()]
    axes.set_xticks(range(len(sizes)), labels, rotation=0 if len(sizes) <= 4 else 45)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.55, len(sizes) - 0.45)


def _bar(axes: Axes, row: dict[Hashable, Any], bars: Bars, *, x: float, width: float, colour: str, label: bool) -> None:
    height = 100 * float(row[bars.value])
    target = bool(row["is_target"])
    axes.bar(
        x,
        height,
        width * 0.9,
        color=colour,
        edgecolor=INK if target else PAPER,
        linewidth=1.1 if target else 0.4,
        gid=f"bar-{row['arm']}",
        zorder=2,
    )
    lo, hi = row[bars.lo], row[bars.hi]
    if missing(lo) and bars.sd and not missing(row[bars.sd]):
        lo, hi = row[bars.value] - row[bars.sd], row[bars.value] + row[bars.sd]
    top = height
    if not missing(lo):
        # an interval of two seeds can be wider than 0..100 %; the axis stays with the bars
        low, high = max(100 * float(lo), min(100 * bars.floor, height)), min(100 * float(hi), 100.0)
        axes.errorbar(
            x,
            height,
            yerr=[[max(0.0, height - low)], [max(0.0, high - height)]],
            color=INK,
            elinewidth=0.8,
            capsize=1.6,
            capthick=0.8,
            zorder=5,
        )
        top = max(top, high)
        if lo < bars.floor < 0:
            axes.plot([x], [low], marker="v", markersize=3.5, color=INK, gid=f"further-down-{row['arm']}", zorder=5)
    if bars.theory and not missing(row[bars.theory]):
        y = 100 * float(row[bars.theory])
        axes.plot(
            [x - width * 0.42, x + width * 0.42],
            [y, y],
            color=INK,
            linewidth=1.1,
            linestyle=THEORY,
            solid_capstyle="butt",
            gid=f"theory-{row['arm']}",
            zorder=5.5,
        )
    if bars.mark and not missing(row[bars.mark]):
        y = 100 * float(row[bars.mark])
        axes.plot(
            [x],
            [y],
            marker="D",
            markersize=3,
            color=PAPER,
            markeredgecolor=INK,
            markeredgewidth=0.7,
            zorder=6,
        )
    if target and label:
        axes.annotate(
            f"{height:.1f}",
            (x, max(top, 0)),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            size=6.5,
            weight="bold",
            zorder=7,
            # neighbours may be taller: a ground of its own keeps the figure readable on them
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.4},
        )


def limits(axes: Axes, values: pd.Series) -> None:
    """0..100 % with room for figures above the bars; lower where a rate is negative."""
    low = 100 * float(np.nanmin(values.to_numpy(dtype=float), initial=0.0))
    axes.set_ylim(low * 1.1 if low < 0 else 0, 108)
    axes.set_yticks([tick for tick in range(-500, 101, 20 if low > -100 else 100) if tick >= low * 1.1])
    if low < 0:
        axes.axhline(0, color=INK, linewidth=0.8, zorder=3)


def train_sizes(analysis: Analysis) -> dict[str, dict[float, float]]:
    """Per data label its train sizes with n_train; those without a result keep their place."""
    return {
        str(label): dict(zip(part["train_size"], part["n_train"], strict=True))
        for label, part in analysis.shifts.groupby("data", sort=False)
    }


def handles(arms: Sequence[tuple[str, str]], palette: Mapping[str, str], *, target: bool) -> list[Artist]:
    """Legend of the arms that are there, lines last."""
    made: list[Artist] = [
        Patch(facecolor=palette[arm], label=arm) for arm, role in arms if role in {"single", "set", "method"}
    ]
    for arm, role in arms:
        if role in _LINES:
            made.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=_LINES[role], label=arm))
    if target:
        made.append(Patch(facecolor="none", edgecolor=INK, linewidth=1.1, label="target"))
    return made
