"""Accuracy against joules per arm and train size, with the Pareto front."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.analysis import Analysis, Results
from bench.analysis.tables import costed
from bench.analysis.wording import joule_unit, missing, repetitions, size_label
from plots.drawing.panels import Chart, draw_pages
from plots.drawing.style import INK, MUTED, PAPER, Drawn, arms_of, colours, drawable

NAME = "pareto"
"""Name of the files, and of the script that draws the figure in a page."""

_NUMBERS = ("energy_gross_j", "energy_gross_lo_j", "energy_gross_hi_j", "accuracy", "accuracy_lo", "accuracy_hi")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def front(points: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the Pareto front: those for which no other row is at least as accurate for fewer joules.

    Args:
        points: with columns energy_gross_j and accuracy.
    """
    ordered = points.sort_values(["energy_gross_j", "accuracy"], ascending=[True, False])
    best = ordered["accuracy"].cummax()
    return ordered[(ordered["accuracy"] == best) & ~best.duplicated()]


def draw(results: Results, analysis: Analysis) -> list[Drawn]:
    """Draw one panel per data label with accuracy and joules. Returns one figure per page of panels, [] without any."""
    blocks, more = _points(analysis)
    if blocks.empty:
        return []
    arms = arms_of(blocks)
    palette = colours(arms)
    factor, unit = joule_unit(float(blocks["energy_gross_j"].median()))
    markers = dict(zip(sorted(blocks["train_size"].unique()), itertools.cycle(MARKERS)))
    n_train = analysis.shifts.groupby("train_size")["n_train"].first()
    chart = Chart(
        name=NAME,
        title=_title(analysis),
        x_label=f"gross energy of {costed(results)}, {unit}",
        y_label="accuracy, %",
        caption=_caption(blocks, analysis, "Pareto front", more),
        alt=(
            "Scatter: accuracy in percent against gross joules, one panel per shift, one colour per arm, one marker "
            "per train size, with the Pareto front as a line. The tables hold the same figures."
        ),
        legend=_legend(arms, palette, markers, n_train),
    )

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        _paint(axes, part, palette, markers, factor)

    return draw_pages(chart, blocks, panel)


def widget_data(results: Results, analysis: Analysis) -> dict[str, Any]:
    """Return what page/web/pareto.js draws: the same figure, one data label at a time."""
    blocks, more = _points(analysis)
    arms = arms_of(blocks)
    names = [arm for arm, _ in arms]
    palette = colours(arms)
    factor, unit = joule_unit(float(blocks["energy_gross_j"].median()))
    sizes = sorted(blocks["train_size"].unique())
    n_train = analysis.shifts.groupby("train_size")["n_train"].first()

    best = {index for _, part in blocks.groupby("data", sort=False) for index in front(part).index}
    shifts: dict[str, list[dict[str, Any]]] = {}
    for index, row in zip(blocks.index, blocks.to_dict("records"), strict=True):
        point = {
            "arm": names.index(row["arm"]),
            "size": sizes.index(row["train_size"]),
            "target": bool(row["is_target"]),
            "best": index in best,
            **{name: None if missing(row[name]) else float(row[name]) for name in _NUMBERS},
        }
        shifts.setdefault(str(row["data"]), []).append(point)
    return {
        "title": _title(analysis),
        "xLabel": f"gross energy of {costed(results)}, {unit}",
        "unit": unit,
        "factor": factor,
        "arms": [{"name": name, "colour": palette[name]} for name in names],
        "sizes": [size_label(size, n_train[size]) for size in sizes],
        "caption": _caption(blocks, analysis, "Pareto front, hidden ones included", more),
        "shifts": [{"label": label, "points": points} for label, points in shifts.items()],
    }


def _points(analysis: Analysis) -> tuple[pd.DataFrame, str]:
    """Return the rows with both figures, and the caption's sentence on arms left out."""
    blocks = analysis.blocks[analysis.blocks["role"] != "average"]
    return drawable(blocks[blocks["accuracy"].notna() & blocks["energy_gross_j"].notna()])


def _title(analysis: Analysis) -> str:
    made = analysis.quality.caveat_label
    return "Accuracy against energy" + (f" ({made})" if made else "")


def _caption(blocks: pd.DataFrame, analysis: Analysis, line: str, more: str) -> str:
    return (
        f"Each point: mean over seeds and repeats; whiskers: 95 % t intervals; "
        f"{repetitions(blocks['accuracy_n'], 'seed')}. Line: {line}; pale points: another is as accurate for "
        f"less. {more}Energy: {analysis.quality.energy}."
    )


def _paint(axes: Axes, points: pd.DataFrame, palette: dict[str, str], markers: dict[float, str], factor: float) -> None:
    best = front(points)
    line: dict[str, Any] = {"where": "post", "color": MUTED, "linewidth": 1.0, "zorder": 2, "gid": "front"}
    axes.step(best["energy_gross_j"] / factor, 100 * best["accuracy"], **line)
    for row in points.assign(leads=points.index.isin(best.index)).to_dict("records"):
        leads = row["leads"]
        axes.errorbar(
            row["energy_gross_j"] / factor,
            100 * row["accuracy"],
            xerr=_reach(row["energy_gross_j"], row["energy_gross_lo_j"], row["energy_gross_hi_j"], 1 / factor),
            yerr=_reach(row["accuracy"], row["accuracy_lo"], row["accuracy_hi"], 100),
            marker=markers[row["train_size"]],
            color=palette[row["arm"]],
            elinewidth=0.7,
            markersize=6 if leads else 5,
            markeredgecolor=INK if leads else PAPER,
            markeredgewidth=0.8 if leads else 0.4,
            alpha=1.0 if leads else 0.55,
            zorder=4 if leads else 3,
        )
    joules = points["energy_gross_j"] / factor
    if joules.max() > 20 * joules.min():
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, joules.max() * 1.08)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    low, high = 100 * points["accuracy"].min(), 100 * points["accuracy"].max()
    room = max(2.0, 0.08 * (high - low))
    axes.set_ylim(max(0.0, low - room), min(101.0, high + room))
    axes.grid(axis="x")


def _reach(value: float, lo: float, hi: float, factor: float) -> np.ndarray | None:
    if missing(lo):
        return None
    return np.array([[max(0.0, value - lo) * factor], [max(0.0, hi - value) * factor]])


def _legend(
    arms: list[tuple[str, str]], palette: dict[str, str], markers: dict[float, str], n_train: pd.Series
) -> list[Artist]:
    def dot(colour: str, marker: str, label: str) -> Artist:
        return Line2D([], [], marker=marker, markersize=5.5, color=colour, linestyle="none", label=label)

    made = [dot(palette[arm], "o", arm) for arm, _ in arms]
    if len(markers) > 1:
        made += [dot(MUTED, marker, size_label(size, n_train[size])) for size, marker in markers.items()]
    return [*made, Line2D([], [], color=MUTED, linewidth=1.0, label="Pareto front")]
