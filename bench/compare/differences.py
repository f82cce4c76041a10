"""Contrast two runs: difference and standard error per condition, from pairs where there are enough."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bench.analysis.clusters import Shared, clustered, joined, of_each
from bench.analysis.moderation import CAUTION, independent_number, moderate
from bench.analysis.statistics import independent_error
from bench.read.results import GROUP

CONDITION = [*GROUP, "arm"]
"""What makes a condition: data, train size and arm. Its seeds and repeats are repetitions."""

CONDITION_FACTS = [*CONDITION, "level", "n_train", "role"]
"""What is known of a condition before its figures."""

MIN_REPETITIONS = 3
"""Pairs, or values a side, below which there is no verdict. The t interval of two is 13 standard deviations wide."""

_ALIKE = 1e-9
"""Spread of values that are the same but for their last digits."""


def contrast(
    run: pd.DataFrame,
    base: pd.DataFrame,
    value: str,
    *,
    quantum: pd.Series | None = None,
    shared_noise: bool = False,
    shared: tuple[Shared, Shared] | None = None,
) -> pd.DataFrame:
    """Mean of run - base per condition, with its standard error.

    Paired where the runs share enough units, otherwise Welch's comparison of two samples. The seed draws the images
    and their order and the repeat is the place in the run, so a pair shares both, and with them whatever a run warms up
    by. The unit is the seed, its pairs averaged first: what a version changes for a seed is in all of its repeats. With
    one seed it is the repeat, and the figures hold for that seed only.

    Args:
        run, base: one row per `condition` (its number), seed and repeat, with `value`; energies as logarithms.
        quantum: the least difference that values of a condition can have, by condition.
        shared_noise: whether the conditions' noise has a cause in common, e.g. one device and one meter; then the
            spread of paired conditions is moderated (`bench.analysis.moderation`), which raises their degrees, and two
            seeds of several repeats are enough.
        shared: what the values of each side have in common, by position; that of `base` with its sign turned.

    Returns:
        By condition, those of both sides: change, error, degrees (of freedom), the same for a test where it needs
        others (test_error, test_degrees), common (standard uncertainty besides), n (of units, or of the smaller side),
        seeds, test ("paired", "Welch", or "" with too few for either; then there is no error), unpaired (values that
        had no partner).
    """
    keys = ["condition", "seed", "repeat"]
    sides = [side[[*keys, value]].assign(place=np.arange(len(side))) for side in (run, base)]
    pairs = sides[0].merge(sides[1], on=keys, suffixes=("", "_base"))
    pairs["change"] = pairs[value] - pairs[f"{value}_base"]
    sizes = pd.concat([run.groupby("condition").size(), base.groupby("condition").size()], axis=1, join="inner")
    sizes.columns = pd.Index(["run", "base"])
    of_pairs = None
    if shared is not None:
        of_pairs = joined(*(of_each(part, pairs[name].to_numpy()) for part, name in zip(shared, _PLACES, strict=True)))
    paired = clustered(pairs, "change", ["condition"], of_pairs).reindex(sizes.index)
    n, seeds = paired["n"].fillna(0), paired["seeds"].fillna(0)
    values = pairs.groupby("condition").size().reindex(sizes.index).fillna(0)
    sd = _without_false_precision(paired["mean"], paired["sd"], quantum)
    enough = (values >= MIN_REPETITIONS) & (n >= np.where((seeds > 1) & shared_noise, 2, MIN_REPETITIONS))
    table = pd.DataFrame(
        {
            "change": paired["mean"],
            "error": sd / np.sqrt(n.where(n > 0)),
            "degrees": (n - 1).where(enough),
            "common": paired["common"].fillna(0.0),
            "n": n.astype(int),
            "seeds": seeds.astype(int),
            "test": np.where(enough, "paired", ""),
            "unpaired": (sizes["run"] + sizes["base"] - 2 * values).astype(int),
        },
        index=sizes.index,
    )
    few = table.index[~enough & (sizes.min(axis=1) >= MIN_REPETITIONS)]
    found: dict[object, list[object]] = {}
    for condition in few:
        least = 0.0 if quantum is None else float(quantum.get(condition, 0.0))
        welch = _welch(run[run["condition"] == condition], base[base["condition"] == condition], value, least)
        if welch is not None:
            found[condition] = [*welch, "Welch", 0]
    columns = ["change", "error", "degrees", "n", "seeds", "test", "unpaired"]
    for column, figures in zip(columns, zip(*found.values(), strict=True), strict=False):
        table.loc[list(found), column] = figures
    if found and shared is not None:
        table.loc[list(found), "common"] = _apart(run, base, value, shared).reindex(list(found))
    blank = table["test"] == ""
    table.loc[blank, ["error", "degrees"]] = np.nan  # what is known of the change stays, without an interval
    table = table.assign(test_error=table["error"], test_degrees=table["degrees"])
    return _moderated(table, pairs) if shared_noise else table


_PLACES = ("place", "place_base")


def _apart(run: pd.DataFrame, base: pd.DataFrame, value: str, shared: tuple[Shared, Shared]) -> pd.Series:
    """`common` of the difference of two means that are not paired, by condition."""
    both = pd.concat([run, base], ignore_index=True).assign(seed=0)
    size = both.groupby("condition")["seed"].transform("size").to_numpy()
    n = np.concatenate([side.groupby("condition")["seed"].transform("size").to_numpy() for side in (run, base)])
    # the mean over all of both, each weighted by all over its side, is the difference of the two means
    moved = [
        part.moved(np.arange(len(side)) + at) for part, side, at in zip(shared, (run, base), (0, len(run)), strict=True)
    ]
    whole = joined(*moved).moved(np.arange(len(both)), size / n)
    # one value per condition, so that nothing of it counts as seen in a scatter
    first, place = np.unique(both["condition"].to_numpy(), return_inverse=True)
    one = pd.DataFrame({"condition": first, value: 0.0, "seed": 0})
    return clustered(one, value, ["condition"], whole.moved(place, 1 / size))["common"]


def _moderated(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Moderate errors and degrees of the paired conditions; those compared by Welch have twice the degrees and stay.

    Conditions of several seeds share what seeds have in common, those of one seed what its repeats have.
    """
    for unit, of in (("seed", table["seeds"] > 1), ("repeat", table["seeds"] == 1)):
        paired = table.index[(table["test"] == "paired") & of]
        if len(paired) < 2:
            continue
        mine = pairs[pairs["condition"].isin(paired)]
        values = mine.pivot_table(index="condition", columns=unit, values="change")
        residuals = values.sub(values.mean(axis=1), axis=0)
        n = table.loc[paired, "n"].to_numpy(dtype=float)
        own = (table.loc[paired, "error"] ** 2).to_numpy(dtype=float) * n
        own_degrees = table.loc[paired, "degrees"].to_numpy(dtype=float)
        independent = independent_number(residuals.to_numpy(dtype=float))
        for prefix, caution in (("", 0.0), ("test_", CAUTION)):
            variance, degrees = moderate(own, own_degrees, independent, caution)
            table.loc[paired, f"{prefix}error"] = np.sqrt(variance / n)
            table.loc[paired, f"{prefix}degrees"] = degrees
    return table


def _welch(
    run: pd.DataFrame, base: pd.DataFrame, value: str, quantum: float
) -> tuple[float, float, float, int, int] | None:
    """change, error, degrees, n and seeds of two samples (Welch 1947); None with too few.

    The seed is the unit, its repeats averaged first, but where both sides have the same one only.
    """
    seeds = set(run["seed"]) | set(base["seed"])
    samples = [run[value], base[value]]
    if len(seeds) > 1:
        samples = [side.groupby("seed")[value].mean() for side in (run, base)]
    n = [len(sample) for sample in samples]
    if min(n) < MIN_REPETITIONS:
        return None
    change = float(samples[0].mean() - samples[1].mean())
    floor = quantum / math.sqrt(12) if abs(change) > _ALIKE else 0.0
    errors = [max(float(sample.std()), floor) / math.sqrt(len(sample)) for sample in samples]
    error, degrees = independent_error(np.array(errors[:1]), n[0] - 1, np.array(errors[1:]), n[1] - 1)
    return change, float(error[0]), float(degrees[0]), min(n), len(seeds)


def _without_false_precision(mean: pd.Series, sd: pd.Series, quantum: pd.Series | None) -> pd.Series:
    """Raise a spread of 0 to that of rounding where all pairs differ by the same and not by 0.

    Three seeds that are each one test image worse have no spread at all, and would be certainly worse. A value
    rounded to q has a standard deviation of q/√12, a difference of two q/√6.
    """
    if quantum is None:
        return sd
    rounding = (quantum.reindex(sd.index).fillna(0.0) / math.sqrt(6)).to_numpy()
    alike = (sd < _ALIKE) & (mean.abs() > _ALIKE)
    return sd.mask(alike, np.maximum(sd, rounding))
