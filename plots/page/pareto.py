"""Accuracy against joules in the browser: one data label at a time, arms to switch on and off, the Pareto front."""

from __future__ import annotations

from typing import Any

from bench.analysis import Analysis, arm_order
from bench.analysis.wording import joule_unit, missing, repetitions, size_label
from plots.drawing.style import colours
from plots.page.widgets import widget
from plots.pareto import front

FIGURE = "pareto"
"""Name of the figure whose place it takes."""

_NUMBERS = ("energy_gross_j", "energy_gross_lo_j", "energy_gross_hi_j", "accuracy", "accuracy_lo", "accuracy_hi")


def render(analysis: Analysis, plain: str) -> str:
    """The interactive figure; `plain` is what readers without scripts see in its place."""
    blocks = analysis.blocks[analysis.blocks["role"] != "average"]
    blocks = blocks[blocks["accuracy"].notna() & blocks["energy_gross_j"].notna()]
    roles = dict(zip(blocks["arm"], blocks["role"], strict=True))
    arms = [(arm, roles[arm]) for arm in arm_order(blocks)]
    palette = colours(arms)
    unit = joule_unit(float(blocks["energy_gross_j"].median()))
    sizes = sorted(blocks["train_size"].unique())
    n_train = analysis.shifts.groupby("train_size")["n_train"].first()
    made = analysis.quality.caveat_label
    value = {
        "title": "Accuracy against energy" + (f" ({made})" if made else ""),
        "unit": unit[1],
        "factor": unit[0],
        "arms": [{"name": arm, "colour": palette[arm]} for arm, _ in arms],
        "sizes": [size_label(size, n_train[size]) for size in sizes],
        "caption": (
            f"Each point: mean over seeds and repeats; whiskers: 95 % t intervals; "
            f"{repetitions(blocks['accuracy_n'], 'seed')}. Line: Pareto front, hidden ones included; pale points: "
            f"another is as accurate for less. Energy: {analysis.quality.energy}."
        ),
        "shifts": [
            {"label": str(label), "points": _points(part, [arm for arm, _ in arms], sizes)}
            for label, part in blocks.groupby("data", sort=False)
        ],
    }
    return widget("pareto", "pareto-data", value, plain=plain)


def _points(part: Any, arms: list[str], sizes: list[float]) -> list[dict[str, Any]]:
    best = set(front(part).index)
    return [
        {
            "arm": arms.index(row["arm"]),
            "size": sizes.index(row["train_size"]),
            "target": bool(row["is_target"]),
            "best": index in best,
            **{name: None if missing(row[name]) else float(row[name]) for name in _NUMBERS},
        }
        for index, row in zip(part.index, part.to_dict("records"), strict=True)
    ]
