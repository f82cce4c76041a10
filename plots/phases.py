"""Joules of each phase as stacked bars, one bar per arm."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from bench.analysis import Analysis, Results
from bench.analysis.tables import costed
from bench.analysis.wording import joule_unit, repetitions
from bench.read.results import GROUP
from plots.drawing.panels import FILE, Chart, Layout, draw_pages
from plots.drawing.style import INK, MUTED, OTHER_COLOURS, PAPER, Drawn, drawable, public

LAST = ("adapt", "infer", "stream")
"""What is left of the work beside a method's own phases; it stands on top of them."""


def draw(results: Results, analysis: Analysis, layout: Layout = FILE) -> list[Drawn]:
    """Draw one panel per data label and train size that has an arm of several phases. Returns [] without any."""
    phases, more = drawable(analysis.phases[analysis.phases["energy_gross_j"].notna()])
    several = phases.groupby([*GROUP, "arm"], sort=False)["phase"].transform("count") > 1
    with_several = set(phases.loc[several, GROUP].itertuples(index=False, name=None))
    phases = phases[[key in with_several for key in phases[GROUP].itertuples(index=False, name=None)]]
    if phases.empty:
        return []
    sizes = phases.groupby("data", sort=False)["train_size"].transform("nunique") > 1
    label = phases["data"] + phases["train_size"].map(lambda size: f", n={size:g}").where(sizes, "")
    phases = phases.assign(data=label)
    names = sorted(phases["phase"].unique(), key=lambda name: (name in LAST, name))
    colours = dict(zip(names, (OTHER_COLOURS * (1 + len(names) // len(OTHER_COLOURS))), strict=False))
    factor, unit = joule_unit(float(phases.groupby(["data", "arm"])["energy_gross_j"].sum().median()))
    made = analysis.quality.caveat_label
    chart = Chart(
        name="phases",
        title="Where the joules go" + (f" ({made})" if made else ""),
        x_label=f"gross energy of {costed(results)}, {unit}",
        y_label="",
        caption=(
            f"Each bar: mean gross joules of the phases of an arm, which add up to the whole; whisker: 95 % t interval "
            f"of the last phase; {repetitions(phases['energy_n'], 'repeat')}. {more}Energy: {analysis.quality.energy}."
        ),
        alt=(
            "Stacked bars: gross joules of each phase, one bar per arm, one panel per shift. The table of phases holds "
            "the same figures."
        ),
        legend=[Patch(facecolor=colours[name], label=name) for name in names],
    )

    def panel(axes: Axes, label: str, part: pd.DataFrame) -> None:
        _paint(axes, part, names, colours, factor)

    return draw_pages(chart, phases, panel, layout)


def _paint(axes: Axes, part: pd.DataFrame, names: list[str], colours: dict[str, str], factor: float) -> None:
    arms = list(dict.fromkeys(part["arm"]))[::-1]  # the first arm on top
    rows: dict[tuple[str, str], dict[Any, Any]] = {(row["arm"], row["phase"]): row for row in part.to_dict("records")}
    for place, arm in enumerate(arms):
        left = 0.0
        for name in names:
            row = rows.get((arm, name))
            if row is None:
                continue
            width = row["energy_gross_j"] / factor
            look: dict[str, Any] = {"color": colours[name], "edgecolor": PAPER, "linewidth": 0.4, "zorder": 2}
            axes.barh(place, width, 0.76, left=left, gid=f"{name}-{arm}", **look)
            left += width
            low, high = row["energy_gross_lo_j"], row["energy_gross_hi_j"]
            if name == names[-1] and not pd.isna(low):
                axes.errorbar(left, place, xerr=(high - low) / 2 / factor, color=INK, elinewidth=0.7, zorder=4)
    axes.set_yticks([])
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    size = min(6.5, 95 / max(len(arms), 1))
    for place, arm in enumerate(arms):
        look = {"xytext": (2, 0), "textcoords": "offset points", "va": "center", "size": size, "zorder": 5}
        ground = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.3}
        axes.annotate(public(arm)[:22], (0, place), bbox=ground, color=MUTED if len(arms) > 30 else INK, **look)
