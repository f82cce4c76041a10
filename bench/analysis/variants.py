"""Variants: the same cells trained in several ways, e.g. by several engines, set against the first of them.

What is compared is paired by seed and repeat; the runner shuffles all cells of one repeat, so that no
way has the best hour to itself.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import cast

import pandas as pd

from bench.analysis.findings import arm_order
from bench.analysis.statistics import Estimate, paired_log_ratio, t_interval
from bench.read.results import Results, variant_labels

PAIR = ["seed", "repeat"]
GROUP = ["plain", "train_size"]
"""The data without the variant, and the number of labelled images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One block set trained in one way.

    Attributes:
        data: label of the data; size, n_train: training images as the suite gives them, and their number.
        arm: what was tuned. variant: how, as `engine=fast`.
        time_s, energy_j, peak_rss_mb: means over the repeats; energy gross, None where not measured.
        accuracy: mean over the repeats, a fraction.
        speedup, energy_ratio: of the first variant over this one, with 95 % intervals; n = pairs.
    """

    data: str
    size: float
    n_train: float
    arm: str
    variant: str
    time_s: float | None
    energy_j: float | None
    peak_rss_mb: float | None
    accuracy: Estimate
    speedup: Estimate
    energy_ratio: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What tuning one block in a cheaper way saves against tuning everything in the first way.

    Attributes:
        of: `energy` (gross), or `time` where no energy was measured.
        saved: fraction of what tuning everything in the first way takes.
        choice: the part of the saving that comes from the choice of the block, a fraction of it; the rest, 1 - choice,
            comes from the way of training. Mean of both orders of changing one thing after the other (Shapley 1953):
            [(E_full,first - E_arm,first) + (E_full,this - E_arm,this)] / 2 / (E_full,first - E_arm,this).
    """

    data: str
    size: float
    n_train: float
    arm: str
    variant: str
    of: str
    saved: Estimate
    choice: Estimate


def sides(results: Results) -> list[Side]:
    """Every block set of every variant, in order of data, size, block set and variant; empty with one variant only."""
    order = variant_order(results)
    if len(order) < 2:
        return []
    records = results.records[results.records["ok"]]
    parts = {cast(tuple[str, float, str], key): rows for key, rows in records.groupby([*GROUP, "arm"], sort=False)}
    groups = list(dict.fromkeys(key[:2] for key in parts))
    made = []
    for data, size, arm in [(*group, arm) for group in groups for arm in arm_order(records) if (*group, arm) in parts]:
        part = parts[data, size, arm]
        by_variant = {variant: rows.set_index(PAIR) for variant, rows in part.groupby("variant")}
        first = by_variant.get(order[0])
        for variant in order:
            rows = by_variant.get(variant)
            if rows is None:
                continue
            joules = rows.loc[rows["measured"], "energy_gross_j"]
            made.append(
                Side(
                    data=data,
                    size=size,
                    n_train=float(rows["n_train"].iloc[0]),
                    arm=arm,
                    variant=variant,
                    time_s=_mean(rows["train_time_s"]),
                    energy_j=_mean(joules),
                    peak_rss_mb=_mean(rows["peak_rss_mb"]),
                    accuracy=t_interval(rows.groupby("seed")["accuracy_after"].mean().to_numpy()),
                    speedup=_ratio(first, rows, "train_time_s"),
                    energy_ratio=_ratio(first, rows, "energy_gross_j"),
                )
            )
    return made


def shares(results: Results) -> list[Share]:
    """How much of each saving comes from the choice of the block; empty where nothing was tuned in full."""
    order = variant_order(results)
    records = results.records[results.records["ok"]]
    if len(order) < 2 or not len(records):
        return []
    column, of = ("energy_gross_j", "energy") if records["measured"].any() else ("train_time_s", "time")
    records = records[records[column] > 0]
    if of == "energy":
        records = records[records["measured"]]
    made = []
    for group, part in records.groupby(GROUP, sort=False):
        data, size = cast(tuple[str, float], group)
        wide = part.pivot_table(index=PAIR, columns=["arm", "variant"], values=column, aggfunc="mean")
        n_train = float(part["n_train"].iloc[0])
        arms = part.loc[part["role"].isin(["single", "set", "method"]), "arm"].unique()
        for arm, variant in itertools.product(arms, order[1:]):
            wanted = [("full", order[0]), ("full", variant), (arm, order[0]), (arm, variant)]
            if any(name not in wide.columns for name in wanted):
                continue
            full_first, full_this, arm_first, arm_this = (wide[name] for name in wanted)
            saved = full_first - arm_this
            chosen = (full_first - arm_first + full_this - arm_this) / 2
            made.append(
                Share(
                    data=data,
                    size=size,
                    n_train=n_train,
                    arm=str(arm),
                    variant=variant,
                    of=of,
                    saved=_ratio_of_means(saved, full_first),
                    choice=_ratio_of_means(chosen, saved),
                )
            )
    return made


def variant_order(results: Results) -> list[str]:
    """Labels of the variants that ran, in the order of the suite's axes."""
    there = set(results.records["variant"].fillna("").unique())
    known = [label for manifest in results.manifests for label in variant_labels(manifest) if label in there]
    return list(dict.fromkeys([*known, *sorted(there)]))


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean()) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def _ratio_of_means(part: pd.Series, whole: pd.Series) -> Estimate:
    """mean(part) / mean(whole) over complete pairs, with the t interval of its first-order expansion.

    r + (part - r whole) / mean(whole) has r as its mean (delta method; Cochran, Sampling Techniques, 1977, 6.4). The
    mean of the pairs' own ratios would be drawn away by one pair with a small whole. No estimate where nothing is there
    to be divided.
    """
    there = part.notna() & whole.notna()
    part, whole = part[there], whole[there]
    if not len(whole) or whole.mean() <= 0:
        return Estimate(n=0)
    ratio = part.mean() / whole.mean()
    return t_interval((ratio + (part - ratio * whole) / whole.mean()).to_numpy())


def _ratio(first: pd.DataFrame | None, rows: pd.DataFrame, column: str) -> Estimate:
    if first is None:
        return Estimate(n=0)
    if column == "energy_gross_j":
        first, rows = first[first["measured"]], rows[rows["measured"]]
    pairs = pd.concat([first[column], rows[column]], axis=1, join="inner", keys=["first", "this"])
    return paired_log_ratio(pairs["first"].tolist(), pairs["this"].tolist())
