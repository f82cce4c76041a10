"""Accuracy against joules per arm and train size, with the Pareto front."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from bench.analysis import Analysis, Results
from bench.analysis.front import front
from bench.analysis.tables import costed
from bench.analysis.wording import joule_unit, missing, repetitions, size_label
from bench.read.results import NONE, UNTUNED
from plots.drawing.panels import FILE, Chart, Layout, draw_pages
from plots.drawing.style import INK, MUTED, PAPER, Drawn, arms_of, colours, drawable, public, turns

NAME = "pareto"
"""Name of the files, and of the script that draws the figure in a page."""

_NUMBERS = ("energy_gross_j", "energy_gross_lo_j", "energy_gross_hi_j", "accuracy", "accuracy_lo", "accuracy_hi")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

_DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))
"""Of the front of the smallest train size, the next, ..."""

_DISTANCES_PT = (3, 9, 16, 24, 34, 45, 57)
_DIRECTIONS = ((0, 1), (0.9, 1), (-0.9, 1), (0, -1), (0.9, -1), (-0.9, -1), (1.1, 0), (-1.1, 0))
"""Where a name may stand from its point: how far from the text's edge, and which way."""


def draw(results: Results, analysis: Analysis, layout: Layout = FILE) -> list[Drawn]:
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
        own_range=True,
    )
    source = _as_it_is(analysis)

    painted = []

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        best = _paint(axes, part, palette, markers, factor, source=source.get(label))
        if label in source:
            _line_of_source(axes, 100 * source[label])
        if (part["role"] == "method").any():
            painted.append((axes, part, best))

    drawn = draw_pages(chart, blocks, panel, layout)
    for axes, part, best in painted:  # when the panels of a page have their common range
        _name_front(axes, part, best, factor)
    return drawn


def widget_data(results: Results, analysis: Analysis) -> dict[str, Any]:
    """Return what page/web/pareto.js draws: the same figure, one data label at a time."""
    blocks, more = _points(analysis)
    arms = arms_of(blocks)
    names = [arm for arm, _ in arms]
    palette = colours(arms)
    factor, unit = joule_unit(float(blocks["energy_gross_j"].median()))
    sizes = sorted(blocks["train_size"].unique())
    n_train = analysis.shifts.groupby("train_size")["n_train"].first()

    source = _as_it_is(analysis)
    best = {
        index
        for index, label, accuracy in fronts(blocks)[["data", "accuracy"]].itertuples()
        if accuracy > source.get(str(label), -1.0)
    }
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


def fronts(points: pd.DataFrame) -> pd.DataFrame:
    """Rows of the front of each data label and train size: more labelled images are no choice of the arm."""
    place = points["data"] + points["train_size"].map(lambda size: f" {size!r}")
    return points.loc[front(points.assign(data=place)).index]


def _points(analysis: Analysis) -> tuple[pd.DataFrame, str]:
    """Return the rows with both figures, and the caption's sentence on arms left out."""
    blocks = analysis.blocks[analysis.blocks["role"] != "average"]
    return drawable(blocks[blocks["accuracy"].notna() & blocks["energy_gross_j"].notna()])


def _as_it_is(analysis: Analysis) -> dict[str, float]:
    """Return the accuracy of the source model as it is, by data label, where it has no joules of its own."""
    rows = analysis.blocks[analysis.blocks["arm"].isin([NONE, UNTUNED]) & analysis.blocks["energy_gross_j"].isna()]
    rows = rows[rows["accuracy"].notna()].drop_duplicates("data")
    return dict(zip(rows["data"], rows["accuracy"], strict=True))


def _line_of_source(axes: Axes, accuracy: float) -> None:
    axes.axhline(accuracy, color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1.5, gid="as-it-is")
    low, high = axes.get_ylim()
    look: dict[str, Any] = {"xytext": (-2, 1.5), "textcoords": "offset points", "ha": "right", "va": "bottom"}
    look |= {"size": 6, "color": MUTED}
    if accuracy < low - (high - low) / 2:  # it would press the others together
        axes.set_ylim(low, high)
        axes.annotate(f"untuned {accuracy:.1f} %, below", (1, 0), xycoords="axes fraction", **look)
        return
    axes.set_ylim(min(low, max(0.0, accuracy - 2)), max(high, min(101.0, accuracy + 2)))
    axes.annotate("untuned", (1, accuracy), xycoords=("axes fraction", "data"), **look)


def _name_front(axes: Axes, points: pd.DataFrame, best: pd.DataFrame, factor: float) -> None:
    """Write the arms of the front near their points, each where it covers no point and no other name.

    A name that stands further off has a line to its point; one without any free place is left out.
    """
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # every Figure of ours has Agg's canvas
    where = np.column_stack([points["energy_gross_j"] / factor, 100 * points["accuracy"]])
    half = renderer.points_to_pixels(3.0)
    taken = [Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half) for x, y in axes.transData.transform(where)]
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    frame = axes.get_window_extent(renderer).padded(renderer.points_to_pixels(2.0))
    for row in best.to_dict("records"):
        name = axes.annotate(
            public(row["arm"])[:24],
            (row["energy_gross_j"] / factor, 100 * row["accuracy"]),
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            size=6,
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2.5},
        )
        reach = Text.get_window_extent(name, renderer).width / 2 / renderer.points_to_pixels(1.0)
        for far, (across, up) in itertools.product(_DISTANCES_PT, _DIRECTIONS):
            name.set_position((across * (reach + far), up * (far + 4)))
            name.update_positions(renderer)
            box = Text.get_window_extent(name, renderer)  # without the line
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box.padded(half / 3))
                break
        else:
            name.remove()


def _title(analysis: Analysis) -> str:
    made = analysis.quality.caveat_label
    return "Accuracy against energy" + (f" ({made})" if made else "")


def _caption(blocks: pd.DataFrame, analysis: Analysis, line: str, more: str) -> str:
    several = blocks["train_size"].nunique() > 1
    return (
        f"Each point: mean over seeds and repeats; whiskers: 95 % intervals, of joules with the meter's gain; "
        f"{repetitions(blocks['accuracy_n'], 'seed')}. Line: {line}{' of each train size' * several}; pale points: "
        f"another arm of the same size is as accurate for less. {more}Energy: {analysis.quality.energy}."
    )


def _paint(
    axes: Axes,
    points: pd.DataFrame,
    palette: dict[str, str],
    markers: dict[float, str],
    factor: float,
    *,
    source: float | None = None,
) -> pd.DataFrame:
    """Draw the points of one panel and their front.

    Args:
        source: accuracy of the source model as it is, which costs nothing: what is no better is on no front.

    Returns:
        The rows of the front.
    """
    best = fronts(points)
    best = best if source is None else best[best["accuracy"] > source]
    own = {arm: MARKERS[turn % len(MARKERS)] for arm, turn in turns(palette).items()} if len(markers) == 1 else {}
    line: dict[str, Any] = {"where": "post", "color": MUTED, "linewidth": 1.0, "zorder": 2, "gid": "front"}
    for place, size in enumerate(sorted(markers)):
        one, dashes = best[best["train_size"] == size], _DASHES[place % len(_DASHES)]
        axes.step(one["energy_gross_j"] / factor, 100 * one["accuracy"], linestyle=dashes, **line)
    for row in points.assign(leads=points.index.isin(best.index)).to_dict("records"):
        leads = row["leads"]
        axes.errorbar(
            row["energy_gross_j"] / factor,
            100 * row["accuracy"],
            xerr=_reach(row["energy_gross_j"], row["energy_gross_lo_j"], row["energy_gross_hi_j"], 1 / factor),
            yerr=_reach(row["accuracy"], max(0.0, row["accuracy_lo"]), min(1.0, row["accuracy_hi"]), 100),
            marker=own.get(row["arm"], markers[row["train_size"]]),
            color=palette[row["arm"]],
            elinewidth=0.7,
            markersize=6 if leads else 5,
            markeredgecolor=INK if leads else PAPER,
            markeredgewidth=0.8 if leads else 0.4,
            alpha=1.0 if leads else 0.55,
            zorder=4 if leads else 3,
        )
    joules = points["energy_gross_j"] / factor
    low_j, high_j = (points[f"energy_gross_{end}_j"].fillna(points["energy_gross_j"]) / factor for end in ("lo", "hi"))
    if joules.max() > 20 * joules.min():
        axes.set_xlim(max(low_j.min(), joules.min() / 3) / 1.2, high_j.max() * 1.2)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(min(0.0, low_j.min() * 1.05), max(joules.max(), high_j.max()) * 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    low = 100 * points["accuracy_lo"].fillna(points["accuracy"]).clip(lower=0).min()
    high = 100 * points["accuracy_hi"].fillna(points["accuracy"]).clip(upper=1).max()
    room = max(1.0, 0.05 * (high - low))
    axes.set_ylim(low - room, high + room)
    axes.grid(axis="x")
    return best


def _reach(value: float, lo: float, hi: float, factor: float) -> np.ndarray | None:
    if missing(lo) or missing(hi):
        return None
    return np.array([[max(0.0, value - lo) * factor], [max(0.0, hi - value) * factor]])


def _legend(
    arms: list[tuple[str, str]], palette: dict[str, str], markers: dict[float, str], n_train: pd.Series
) -> list[Artist]:
    def dot(colour: str, marker: str, label: str) -> Artist:
        return Line2D([], [], marker=marker, markersize=5.5, color=colour, linestyle="none", label=label)

    own = {arm: MARKERS[turn % len(MARKERS)] for arm, turn in turns(palette).items()} if len(markers) == 1 else {}
    made = [dot(palette[arm], own.get(arm, "o"), arm) for arm, _ in arms]
    if len(markers) > 1:
        for place, (size, marker) in enumerate(markers.items()):
            look: dict[str, Any] = {"marker": marker, "markersize": 5, "linestyle": _DASHES[place % len(_DASHES)]}
            made.append(Line2D([], [], color=MUTED, linewidth=1.0, label=size_label(size, n_train[size]), **look))
        return made
    return [*made, Line2D([], [], color=MUTED, linewidth=1.0, label="Pareto front")]
