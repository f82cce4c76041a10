"""The cell table: one row per cell, over its repeats. It is what summary.csv holds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.analysis.quality import row_caveats
from bench.analysis.savings import measured
from bench.analysis.statistics import summarise, wilson_interval
from bench.read.results import GROUP

_FACTS = [
    *("run", "cell_id", *GROUP, "level", "dataset", "shift", "blocks", "arm", "role", "target"),
    *("seed", "method", "model", "n_train", "n_test"),
]
"""Columns of a record that all repeats of a cell share."""


_MACS = ("forward_macs", "step_macs", "step_bytes", "train_macs")


def cell_table(records: pd.DataFrame) -> pd.DataFrame:
    """One row per (run, cell_id): repeats, accuracy and joules over them. Accuracies are fractions, energies J.

    accuracy_wilson_lo/hi is the interval for the cell's test images (Wilson 1927); the other intervals are t
    intervals over repeats, nan below two. Joules of grade X are left out. saving_gross and saving_theory (of the
    multiply-accumulates) are against the full fine-tuning of the same seed, fractions.
    """
    keys = ["cell"]  # a number: grouping by it is faster than by two texts
    records = records.assign(cell=records.groupby(["run", "cell_id"], sort=False).ngroup())
    grouped = records.groupby(keys, sort=False)
    table = grouped[_FACTS].first()
    table["repeats"] = grouped["status"].count()
    for status in ("ok", "failed", "timeout"):
        table[status] = (records["status"] == status).groupby(records["cell"], sort=False).sum()
    done = records[records["ok"]]
    joules = measured(records)
    table["joules_n"] = joules.groupby(keys, sort=False)["cell_id"].count()
    table["joules_n"] = table["joules_n"].fillna(0).astype(int)
    for frame, column in (
        (done, "accuracy_after"),
        (done, "train_time_s"),
        (joules, "energy_gross_j"),
        (joules, "energy_net_j"),
    ):
        part = summarise(frame, column, keys)[["mean", "sd", "lo", "hi"]]
        part.columns = pd.Index([f"{column}:{name}" for name in part.columns])
        table = table.join(part)
    table["accuracy_before"] = done.groupby(keys, sort=False)["accuracy_before"].mean()
    for column in _MACS:
        table[column] = done.groupby(keys, sort=False)[column].mean()
    table["energy_gross_j:median"] = joules.groupby(keys, sort=False)["energy_gross_j"].median()
    table["energy_u_j"] = joules.groupby(keys, sort=False)["energy_u_j"].mean()
    done = done.assign(caveat=row_caveats(done))
    for column in ("source", "source_kind", "grade", "caveat"):
        table[column] = _distinct(done, keys, column)
    wilson = [
        wilson_interval(min(share, 1.0), int(images)) if images >= 1 and not np.isnan(share) else (np.nan, np.nan)
        for share, images in zip(table["accuracy_after:mean"], table["n_test"], strict=True)
    ]
    table[["wilson_lo", "wilson_hi"]] = np.array(wilson, dtype=float).reshape(-1, 2)
    for rate, column in (("saving_gross", "energy_gross_j:mean"), ("saving_theory", "train_macs")):
        table[rate] = _saving(table, column)
    return table.reset_index(drop=True)


def _saving(table: pd.DataFrame, column: str) -> pd.Series:
    """1 less the cell's figure over that of the full fine-tuning with the same data, train size and seed."""
    keys = ["run", *GROUP, "seed"]
    full = table[table["role"] == "full"].drop_duplicates(keys).set_index(keys)[column]
    of = pd.MultiIndex.from_frame(table[keys])
    rate: pd.Series = 1 - table[column] / full.reindex(of).to_numpy()
    return rate


def _distinct(frame: pd.DataFrame, keys: list[str], column: str) -> pd.Series:
    """The different texts of a column per group, joined; nearly always there is one, so joining is rare."""
    pairs = frame.loc[frame[column].fillna("") != "", [*keys, column]].drop_duplicates().sort_values(column)
    several = pairs.duplicated(keys, keep=False)
    single = pairs[~several].set_index(keys)[column]
    joined: pd.Series = pd.concat([single, pairs[several].groupby(keys, sort=False)[column].agg("+".join)])
    return joined
