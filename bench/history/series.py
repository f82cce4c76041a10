"""Make the series of each condition and measure, one value a night, from the summaries of the nights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from bench.compare.verdict import ACCURACY, JOULES, Measure
from bench.history.local_level import Floats, median
from bench.history.nights import Night

JOULES_FLOOR = 1e-4
"""Least standard deviation of a logarithm of joules: no meter repeats itself better than to 0.01 %."""

_ROUNDING = math.sqrt(12)
"""A value rounded to q has the standard deviation q / sqrt(12)."""

Condition = tuple[str, float, str]
"""Data, train size, arm."""


@dataclass(frozen=True, slots=True)
class Table:
    """All series of a measure.

    Attributes:
        measure: joules or accuracy.
        conditions: of each series, in the order in which the newest night has them.
        values: series x nights, nan where a night has none. Joules as natural logarithms, accuracy as a fraction.
        seconds: series x nights, logarithm of the seconds of training, for joules.
        floor: of each series, the least standard deviation that its values can have.
        n_train: of each series, images; nan where not known.
    """

    measure: Measure
    conditions: list[Condition]
    values: Floats
    seconds: Floats = field(repr=False)
    floor: Floats = field(repr=False)
    n_train: Floats = field(repr=False)


def tables(nights: list[Night], basis: str = "gross") -> list[Table]:
    """Make the tables of joules and accuracy, each where any night has it.

    A night's value of a condition is the mean over its seeds of the medians over repeats. A seed that a night lacks
    must not move it: each seed's own level, its median over the nights, is taken off first and their mean put back.

    Args:
        nights: oldest first.
        basis: gross joules, or net of idle power.
    """
    conditions, seeds = _axes(nights)
    columns = {"gross": "joules", "net": "net_joules"}
    names = [columns[basis], "seconds", "accuracy", "n_train", "n_test"]
    cube = {name: np.full((len(conditions), len(seeds), len(nights)), np.nan) for name in names}
    condition_at, seed_at = ({key: place for place, key in enumerate(keys)} for keys in (conditions, seeds))
    for number, night in enumerate(nights):
        rows = night.summary.rows
        if not rows["data"]:
            continue
        at = [condition_at[key] for key in _conditions(rows)]
        seed = [seed_at[key] for key in rows["seed"]]
        for name in names:
            cube[name][at, seed, number] = np.array(rows[name], dtype=float)  # None becomes nan
    with np.errstate(divide="ignore", invalid="ignore"):
        joules, seconds = (
            np.log(np.where(values > 0, values, np.nan)) for values in (cube[columns[basis]], cube["seconds"])
        )
    n_train, n_test = (median(cube[name].reshape(len(conditions), -1)) for name in ("n_train", "n_test"))
    n_seeds = np.maximum((~np.isnan(cube["accuracy"])).sum(axis=1).max(axis=1, initial=0), 1)
    image = np.where(n_test >= 1, 1 / np.fmax(n_test, 1), 0.0)
    floors = {
        JOULES: np.full(len(conditions), JOULES_FLOOR),
        ACCURACY: np.maximum(image / _ROUNDING / np.sqrt(n_seeds), 1e-6),
    }
    made = [
        Table(measure, conditions, _over_seeds(values), _over_seeds(seconds), floors[measure], n_train)
        for measure, values in ((JOULES, joules), (ACCURACY, cube["accuracy"]))
    ]
    return [_without_blank(table) for table in made if not np.isnan(table.values).all()]


def _conditions(rows: dict[str, list[object]]) -> list[Condition]:
    return list(zip(rows["data"], rows["train_size"], rows["arm"], strict=True))  # type: ignore[arg-type]  # columns of one type each, as a summary writes them


def _axes(nights: list[Night]) -> tuple[list[Condition], list[int]]:
    """List conditions and seeds of all nights, the newest night's first and in its order."""
    conditions: dict[Condition, None] = {}
    seeds: set[int] = set()
    for night in reversed(nights):
        conditions.update(dict.fromkeys(sorted(_conditions(night.summary.rows))))
        seeds.update(night.summary.rows["seed"])
    return list(conditions), sorted(seeds)


def _over_seeds(values: Floats) -> Floats:
    """Average over seeds: conditions x seeds x nights -> conditions x nights."""
    n_conditions, n_seeds, n_nights = values.shape
    own = median(values.reshape(n_conditions * n_seeds, n_nights)).reshape(n_conditions, n_seeds, 1)
    n = (~np.isnan(values)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        moved = np.nansum(values - own, axis=1) / np.where(n, n, np.nan)
        centre = np.nansum(own, axis=1) / np.fmax((~np.isnan(own)).sum(axis=1), 1)
    return np.asarray(moved + centre)


def _without_blank(table: Table) -> Table:
    kept = np.flatnonzero(~np.isnan(table.values).all(axis=1))
    return Table(
        table.measure,
        [table.conditions[row] for row in kept],
        table.values[kept],
        table.seconds[kept],
        table.floor[kept],
        table.n_train[kept],
    )
