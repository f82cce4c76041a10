"""Contrast two runs: difference and standard error per condition, from pairs where there are enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.analysis.moderation import independent_number, moderate
from bench.analysis.statistics import independent_error, summarise
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
    unit: Sequence[str],
    *,
    quantum: pd.Series | None = None,
    shared_noise: bool = False,
) -> pd.DataFrame:
    """Mean of run - base per condition, with its standard error.

    Paired where the runs share at least MIN_REPETITIONS units, otherwise Welch's comparison of two samples. The
    seed draws the images and their order and the repeat is the place in the run, so a pair shares both, and with
    them whatever a run warms up by.

    Args:
        run, base: one row per `condition` (its number) and unit, with `value`; energies as logarithms.
        unit: what makes a pair, the seed or the seed and the repeat; the first is the seed.
        quantum: the least difference that values of a condition can have, by condition.
        shared_noise: whether the conditions' noise has a cause in common, e.g. one device and one meter; then the
            spread of paired conditions is moderated (`bench.analysis.moderation`), which raises their degrees.

    Returns:
        By condition, those of both sides: change, error, degrees (of freedom), n (of pairs, or of the smaller side),
        test ("paired", "Welch", or "" with too few for either; then there is no error), unpaired (values that had
        no partner).
    """
    keys = ["condition", *unit]
    pairs = run[[*keys, value]].merge(base[[*keys, value]], on=keys, suffixes=("", "_base"))
    pairs["change"] = pairs[value] - pairs[f"{value}_base"]
    sizes = pd.concat([run.groupby("condition").size(), base.groupby("condition").size()], axis=1, join="inner")
    sizes.columns = pd.Index(["run", "base"])
    paired = summarise(pairs, "change", ["condition"]).reindex(sizes.index)
    n = paired["n"].fillna(0)
    sd = _without_false_precision(paired["mean"], paired["sd"], quantum)
    enough = n >= MIN_REPETITIONS
    table = pd.DataFrame(
        {
            "change": paired["mean"],
            "error": sd / np.sqrt(n.where(n > 0)),
            "degrees": (n - 1).where(enough),
            "n": n.astype(int),
            "test": np.where(enough, "paired", ""),
            "unpaired": (sizes["run"] + sizes["base"] - 2 * n).astype(int),
        },
        index=sizes.index,
    )
    few = table.index[~enough & (sizes.min(axis=1) >= MIN_REPETITIONS)]
    found: dict[object, list[object]] = {}
    for condition in few:
        least = 0.0 if quantum is None else float(quantum.get(condition, 0.0))
        welch = _welch(run[run["condition"] == condition], base[base["condition"] == condition], value, unit[0], least)
        if welch is not None:
            found[condition] = [*welch, "Welch", 0]
    columns = ["change", "error", "degrees", "n", "test", "unpaired"]
    for column, values in zip(columns, zip(*found.values(), strict=True), strict=False):
        table.loc[list(found), column] = values
    blank = table["test"] == ""
    table.loc[blank, ["error", "degrees"]] = np.nan  # what is known of the change stays, without an interval
    return _moderated(table, pairs, unit) if shared_noise else table


def _moderated(table: pd.DataFrame, pairs: pd.DataFrame, unit: Sequence[str]) -> pd.DataFrame:
    """Moderate errors and degrees of the paired conditions; those compared by Welch have twice the degrees and stay."""
    paired = table.index[table["test"] == "paired"]
    if len(paired) < 2:
        return table
    values = pairs[pairs["condition"].isin(paired)].pivot_table(index="condition", columns=list(unit), values="change")
    residuals = values.sub(values.mean(axis=1), axis=0)
    n = table.loc[paired, "n"].to_numpy(dtype=float)
    variance, degrees = moderate(
        (table.loc[paired, "error"] ** 2).to_numpy(dtype=float) * n,
        table.loc[paired, "degrees"].to_numpy(dtype=float),
        independent_number(residuals.to_numpy(dtype=float)),
    )
    table.loc[paired, "error"] = np.sqrt(variance / n)
    table.loc[paired, "degrees"] = degrees
    return table


def _welch(
    run: pd.DataFrame, base: pd.DataFrame, value: str, seed: str, quantum: float
) -> tuple[float, float, float, int] | None:
    """change, error, degrees and n of two samples (Welch 1947); None with too few.

    Repeats of one seed are alike, so over different seeds the seed is the unit: its repeats are averaged first.
    """
    if set(run[seed]) != set(base[seed]):
        samples = [side.groupby(seed)[value].mean() for side in (run, base)]
    else:
        samples = [run[value], base[value]]
    n = [len(sample) for sample in samples]
    if min(n) < MIN_REPETITIONS:
        return None
    change = float(samples[0].mean() - samples[1].mean())
    floor = quantum / math.sqrt(12) if abs(change) > _ALIKE else 0.0
    errors = [max(float(sample.std()), floor) / math.sqrt(len(sample)) for sample in samples]
    error, degrees = independent_error(np.array(errors[:1]), n[0] - 1, np.array(errors[1:]), n[1] - 1)
    return change, float(error[0]), float(degrees[0]), min(n)


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
