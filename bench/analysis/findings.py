"""From results to findings: per cell, per block, per shift, and the headlines.

The unit of repetition is the seed
for accuracy and the pair (seed, repeat) for joules; what is compared is compared within it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.analysis import accuracy, savings
from bench.analysis.cells import cell_table
from bench.analysis.quality import Quality, assess
from bench.analysis.statistics import Estimate, t_interval
from bench.catalog.paper import PUBLISHED
from bench.read.results import AVERAGE, GROUP, Results


@dataclass(frozen=True, kw_only=True)
class Headlines:
    """What a run, or several runs of different data, come down to: means over their shifts and train sizes.

    Attributes:
        run: name of the run; '' where they are over all that was read.
        gain: accuracy gain of the target blocks over Block Avg, a fraction; n = seeds.
        saving_average: energy-saving rate of Block Avg, gross, a fraction; n = pairs.
        saving_target: energy-saving rate of the target blocks, gross, a fraction; n = pairs.
        gain_groups, saving_groups, target_groups: shifts x train sizes behind each.
    """

    run: str = ""
    gain: Estimate = Estimate(n=0)
    saving_average: Estimate = Estimate(n=0)
    saving_target: Estimate = Estimate(n=0)
    gain_groups: int = 0
    saving_groups: int = 0
    target_groups: int = 0


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What the records say. All tables keep the order in which the data labels came.

    Attributes:
        cells: one row per cell: n, mean, sd and interval over its repeats, see `cell_table`.
        blocks: one row per (data, train_size, arm), Block Avg included: accuracy*, improvement, energy_*, time,
            saving_gross*, saving_net*, saving_theory, saving_step; `role`, `is_target`.
        shifts: one row per (data, train_size): level, target, gain*, winner* (accuracy), frugal* (joules).
        headlines: over all of them; without figures where the runs overlap.
        apart: headlines of each run where the runs overlap; two runs of one suite are not two cases of one figure.
        quality: what was left out, and what a reader must know.
    """

    cells: pd.DataFrame
    blocks: pd.DataFrame
    shifts: pd.DataFrame
    headlines: Headlines
    apart: tuple[Headlines, ...]
    quality: Quality


_UNUSED = ["trace", "started_at", "peak_rss_mb", "startup_s", "trained_parameters", "data_variant", "bn_mode",
           "target_block", "noise_sigma"]  # fmt: skip
"""Columns that no table needs; leaving them out spares copies."""


def analyse(results: Results) -> Analysis:
    """All tables of a set of results."""
    records = results.records.drop(columns=_UNUSED)
    # a number for each data label, in order of appearance: grouping is faster, and sorting keeps the order
    codes, labels = pd.factorize(records["data"])
    records["data"] = codes
    seeds = accuracy.by_seed(records)
    cells, blocks, shifts = cell_table(records), _block_table(records, seeds), _shift_table(records, seeds)
    for table in (cells, blocks, shifts):
        table["data"] = labels.take(table["data"].to_numpy())
    return Analysis(
        cells=cells,
        blocks=blocks,
        shifts=shifts,
        headlines=Headlines() if results.overlap else _headlines(records, seeds),
        apart=_headlines_apart(records, seeds) if results.overlap else (),
        quality=assess(records, cells),
    )


def _block_table(records: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    keys = [*GROUP, "arm"]
    kept = records[records["role"] != "average"]
    table = kept.groupby(keys, sort=False)[["role", "target", "level"]].first()
    ok = kept[kept["ok"]].groupby(keys, sort=False)
    table["ok"] = ok["status"].count()
    table["ok"] = table["ok"].fillna(0)
    table["train_time_s"] = ok["train_time_s"].mean()
    for part in (
        accuracy.accuracy_table(records, seeds),
        savings.joule_table(records),
        savings.saving_table(records, "gross"),
        savings.saving_table(records, "net"),
        savings.theory_table(records),
    ):
        table = table.join(part, how="outer")
    table = table.reset_index()
    table["role"] = table["role"].where(table["arm"] != AVERAGE, "average")
    table["is_target"] = (table["role"] == "single") & (table["arm"] == table["target"])
    table["_rank"] = table["arm"].map({arm: rank for rank, arm in enumerate(arm_order(table))})
    table = table.sort_values([*GROUP, "_rank"], ignore_index=True).drop(columns="_rank")
    return _without_unstated_n(table, records)


def _without_unstated_n(table: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Published rows are means over a number of runs that the tables do not state: every n of theirs is nan."""
    published = table["data"].isin(records.loc[records["run"] == PUBLISHED, "data"].unique())
    for column in table.columns[table.columns.str.endswith("_n")]:
        table[column] = table[column].astype(float).mask(published)
    return table


def arm_key(arm: str, role: str) -> tuple[int, bool, list[tuple[int, str]]]:
    """Where an arm stands in a table: single blocks, Block Avg, full, sets, methods; a classifier after blocks."""
    rank = ("single", "average", "full", "set", "method").index(role)
    head = arm in ("fc", "classifier", "head")
    return (
        rank,
        head,
        [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", arm)],
    )


def arm_order(blocks: pd.DataFrame) -> list[str]:
    """The arms of a block table in the order of `arm_key`."""
    arms = blocks[["arm", "role"]].drop_duplicates("arm")
    return [arm for _, arm in sorted((arm_key(arm, role), arm) for arm, role in arms.itertuples(index=False))]


def _shift_table(records: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    table = records.groupby(GROUP, sort=False)[["level", "target", "n_train"]].first()
    table = table.join(accuracy.gain_table(records, seeds))
    singles = seeds[seeds["role"] == "single"]
    table = table.join(accuracy.winners(singles, "accuracy_after", ["seed"], "winner_"))
    joules = savings.measured(records)
    joules = joules[joules["role"] == "single"]
    joules = joules.assign(thrift=-np.log(joules["energy_gross_j"]))
    table = table.join(accuracy.winners(joules, "thrift", savings.PAIR, "frugal_")).reset_index()
    return _without_unstated_n(table.sort_values(GROUP, ignore_index=True), records)


def _headlines_apart(records: pd.DataFrame, seeds: pd.DataFrame) -> tuple[Headlines, ...]:
    return tuple(
        _headlines(part, seeds.merge(part[GROUP].drop_duplicates(), on=GROUP), str(run))
        for run, part in records.groupby("run", sort=False)
    )


def _headlines(records: pd.DataFrame, seeds: pd.DataFrame, run: str = "") -> Headlines:
    # a shift without a level (the published motivation, the published costs) is no case of the method's rule
    levelled = records[records["level"] != ""]
    gains = accuracy.gains(levelled, seeds.merge(levelled[GROUP].drop_duplicates(), on=GROUP))
    ratios = savings.log_ratios(records, "gross")
    average = savings.average_savings(records, ratios)
    target = savings.target_savings(ratios)
    return Headlines(
        run=run,
        gain=_over_groups(gains, "gain", ["seed"]),
        saving_average=_over_groups(average, "saving", savings.PAIR),
        saving_target=_over_groups(target, "saving", savings.PAIR),
        gain_groups=len(gains[GROUP].drop_duplicates()),
        saving_groups=len(average[GROUP].drop_duplicates()),
        target_groups=len(target[GROUP].drop_duplicates()),
    )


def _over_groups(values: pd.DataFrame, value: str, pair: list[str]) -> Estimate:
    """Mean of the groups' means; the interval is over pairs that every group has, averaged over groups first.

    Groups are not repetitions of each other, so they do not add to n.
    """
    groups = values.groupby(GROUP, sort=False)[value].mean()
    if groups.empty:
        return Estimate(n=0)
    point = float(groups.mean())
    pairs = values.groupby(pair, sort=False)[value].agg(["count", "mean"])
    common = t_interval(pairs.loc[pairs["count"] == len(groups), "mean"].to_numpy())
    if common.lo is None or common.mean is None or common.hi is None:
        return Estimate(n=common.n, mean=point)
    half = common.hi - common.mean
    return Estimate(n=common.n, mean=point, sd=common.sd, lo=point - half, hi=point + half)
