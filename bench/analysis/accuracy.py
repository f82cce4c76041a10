"""Compute accuracy per arm over seeds, Block Avg, the accuracy gain and the best block. Accuracies are fractions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.analysis.statistics import sign_flip_p, summarise
from bench.read.results import AVERAGE, GROUP, NONE, UNTUNED

_EQUAL = 1e-12
"""Relative difference of two means that is rounding of the computer."""


def by_seed(records: pd.DataFrame) -> pd.DataFrame:
    """Average accuracy_after and _before over the repeats of each (data, train_size, arm, seed); one row each.

    Averaging first makes the seed the unit of repetition: repeats of one seed see the same images. The accuracies
    before tuning make an arm of their own, `UNTUNED`, where no arm `none` gives them.
    """
    usable = records[records["ok"] & records["accuracy_after"].notna()]
    keys = [*GROUP, "arm", "role", "target", "seed"]
    columns = ["accuracy_after", "accuracy_before", "n_test"]
    seeds = usable.groupby(keys, sort=False)[columns].mean().reset_index()
    before = seeds[seeds["accuracy_before"].notna()]
    shown = before.loc[before["arm"] == NONE, GROUP].drop_duplicates().itertuples(index=False, name=None)
    before = before[~pd.MultiIndex.from_frame(before[GROUP]).isin([*shown])]
    untuned = before.groupby([*GROUP, "seed"], sort=False)[["accuracy_before", "n_test"]].mean().reset_index()
    untuned = untuned.assign(accuracy_after=untuned["accuracy_before"], arm=UNTUNED, role=UNTUNED, target="")
    return pd.concat([seeds, untuned[seeds.columns]], ignore_index=True) if len(untuned) else seeds


def single_blocks(records: pd.DataFrame) -> pd.Series:
    """Count the single blocks that each (data, train_size) has tried, failures included."""
    return records[records["role"] == "single"].groupby(GROUP, sort=False)["arm"].nunique().rename("tried")


def block_average(records: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Compute Block Avg per (data, train_size, seed).

    Only seeds on which every single block has a result: a mean over the blocks that happened to finish would
    favour or punish the target. One block has no average. A published table's own average goes before ours.
    """
    singles = seeds[seeds["role"] == "single"]
    means = singles.groupby([*GROUP, "seed"], sort=False)["accuracy_after"].agg(["count", "mean"]).reset_index()
    means = means.merge(single_blocks(records).reset_index(), on=GROUP)
    means = means[(means["count"] == means["tried"]) & (means["tried"] >= 2)]
    ours = means.rename(columns={"mean": "accuracy_after"})[[*GROUP, "seed", "accuracy_after"]]
    printed = seeds.loc[seeds["role"] == "average", ours.columns]
    return pd.concat([printed, ours]).drop_duplicates([*GROUP, "seed"]).reset_index(drop=True)


def gains(records: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Compute the accuracy gain per (data, train_size, seed): the target block's accuracy minus Block Avg's."""
    target = seeds[(seeds["role"] == "single") & (seeds["arm"] == seeds["target"])]
    pairs = target.merge(block_average(records, seeds), on=[*GROUP, "seed"], suffixes=("", "_average"))
    pairs["gain"] = pairs["accuracy_after"] - pairs["accuracy_after_average"]
    return pairs[[*GROUP, "seed", "gain"]]


def accuracy_table(records: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Per (data, train_size, arm), Block Avg included: accuracy, its sd, interval and n (seeds), improvement.

    `improvement` is after minus before. Where a published table prints a standard deviation it stands as
    accuracy_sd.
    """
    arms = seeds[seeds["role"] != "average"].copy()
    arms["improvement"] = arms["accuracy_after"] - arms["accuracy_before"]
    average = block_average(records, seeds).assign(arm=AVERAGE)
    keys = [*GROUP, "arm"]
    table = summarise(pd.concat([arms, average]), "accuracy_after", keys)
    table.columns = pd.Index([f"accuracy_{name}" for name in table.columns])
    table = table.rename(columns={"accuracy_mean": "accuracy"})
    table["improvement"] = arms.groupby(keys, sort=False)["improvement"].mean()
    printed = records[records["accuracy_sd"].notna()].copy()
    if len(printed):
        printed["arm"] = printed["arm"].where(printed["role"] != "average", AVERAGE)
        sd = printed.groupby(keys, sort=False)["accuracy_sd"].first().reindex(table.index)
        table["accuracy_sd"] = table["accuracy_sd"].fillna(sd)
    return table


def gain_table(records: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Per (data, train_size): gain, its sd, interval, n (seeds) and exact sign-flip p."""
    pairs = gains(records, seeds)
    table = summarise(pairs, "gain", GROUP).rename(columns={"mean": "gain"})
    table = table.rename(columns={name: f"gain_{name}" for name in ("n", "sd", "lo", "hi")})
    flips = {key: sign_flip_p(part.to_numpy()) for key, part in pairs.groupby(GROUP, sort=False)["gain"]}
    table["gain_p"] = pd.Series(flips, dtype=float).reindex(table.index) if flips else np.nan
    return table


def winners(values: pd.DataFrame, value: str, prefix: str) -> pd.DataFrame:
    """Find the arm with the largest mean over seeds of `value` in each (data, train_size).

    Args:
        values: long table with GROUP, arm, seed and `value`.
        prefix: goes before the columns winner and tied: all arms that share the largest mean, '' where one has it
            alone. Whether it is surely the best, `bench.analysis.answers` says.
    """
    of_seeds = values.groupby([*GROUP, "arm", "seed"], sort=False)[value].mean()
    means = of_seeds.groupby([*GROUP, "arm"], sort=False).mean().reset_index()
    means = means.sort_values(value, ascending=False, kind="stable")
    best_mean = means.groupby(GROUP, sort=False)[value].transform("max")
    equal = means[means[value] >= best_mean - _EQUAL * best_mean.abs()]
    tied = equal.groupby(GROUP, sort=False)["arm"].agg(list)
    winner = tied.str[0].rename(f"{prefix}winner")
    together = tied.map(lambda arms: " and ".join(arms) if len(arms) > 1 else "").rename(f"{prefix}tied")
    return pd.concat([winner, together], axis=1)
