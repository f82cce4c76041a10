"""Compare ways of training, e.g. engines, over the same cells; the first way is the reference.

What is compared is paired by seed and repeat; the runner shuffles all cells of one repeat, so that no
way has the best hour to itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from bench.analysis.findings import arm_order
from bench.analysis.statistics import Estimate, paired_log_ratio, t_interval
from bench.analysis.tables import Entry, Grid
from bench.analysis.wording import MISSING, interval, joules, missing, percent, size_label, units
from bench.read.results import Results, variant_labels

PAIR = ["seed", "repeat"]
MAX_WAYS, MAX_SIDES = 26, 600
"""Ways of training that are compared, which have a letter each, and sides of all cases together."""

GROUP = ["plain", "train_size"]
"""The data without the variant, and the number of labelled images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Costs and accuracy of one arm trained in one way.

    Attributes:
        data: label of the data; size, n_train: training images as the suite gives them, and their number.
        arm: what was tuned. variant: how, as `engine=fast`.
        time_s, energy_j, peak_rss_mb: means over the repeats; energy gross, None where not measured.
        accuracy: mean over the repeats, a fraction.
        speedup, energy_ratio: of the first variant over this one, with 95 % intervals; n = seeds, or repeats of the
            only one.
        seeds: how many there are.
    """

    data: str
    size: float
    n_train: float
    arm: str
    variant: str
    time_s: float | None
    energy_j: float | None
    peak_rss_mb: float | None
    seeds: int
    accuracy: Estimate
    speedup: Estimate
    energy_ratio: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What an arm trained in a cheaper way saves against tuning everything in the first way.

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
    """Compute the costs of every arm in every way, ordered by data, size, arm and way; [] with one way only."""
    records, order, _ = _compared(results)
    if len(order) < 2:
        return []
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
                    seeds=rows.index.get_level_values("seed").nunique(),
                    accuracy=t_interval(rows.groupby("seed")["accuracy_after"].mean().to_numpy()),
                    speedup=_ratio(first, rows, "train_time_s"),
                    energy_ratio=_ratio(first, rows, "energy_gross_j"),
                )
            )
    return made


def _compared(results: Results) -> tuple[pd.DataFrame, list[str], str]:
    """Return the finished repeats that are compared, the ways of training, and a sentence on what is left out."""
    records = results.records[results.records["ok"]]
    order = variant_order(results)
    if len(order) < 2:
        return records, order, ""
    ways = order[:MAX_WAYS]
    cases = pd.MultiIndex.from_frame(records[[*GROUP, "arm"]])
    known = cases.unique()
    shown = known[: MAX_SIDES // len(ways)]
    more = len(known) - len(shown), len(order) - len(ways)
    nouns = ("cases", "ways of training")
    words = [f"{number} more {noun}" for number, noun in zip(more, nouns, strict=True) if number]
    if words:
        records = records[cases.isin(shown) & records["variant"].isin(ways)]
    return records, ways, f" {' and '.join(words)}: see summary.csv." if words else ""


def shares(results: Results) -> list[Share]:
    """Split each saving into the parts of choice and training; [] where nothing was tuned in full."""
    records, order, _ = _compared(results)
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
    """List the ways of training that ran, in the order of the suite's axes."""
    there = set(results.records["variant"].fillna("").unique())
    known = [label for manifest in results.manifests for label in variant_labels(manifest) if label in there]
    return list(dict.fromkeys([*known, *sorted(there)]))


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean()) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def _ratio_of_means(part: pd.Series, whole: pd.Series) -> Estimate:
    """Estimate mean(part) / mean(whole) over complete pairs, with the t interval of its first-order expansion.

    r + (part - r whole) / mean(whole) has r as its mean (delta method; Cochran, Sampling Techniques, 1977, 6.4). The
    mean of the pairs' own ratios would be drawn away by one pair with a small whole. No estimate where nothing is there
    to be divided. The unit is the seed, as everywhere.
    """
    there = part.notna() & whole.notna()
    part, whole = _of_seeds(part[there]), _of_seeds(whole[there])
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
    logs = np.log(pairs[(pairs > 0).all(axis=1)])
    unit = _of_seeds(logs["first"] - logs["this"])
    return paired_log_ratio(np.exp(unit).tolist(), [1.0] * len(unit))


def _of_seeds(values: pd.Series) -> pd.Series:
    """Means over the repeats of each seed; the repeats as they are where there is one seed."""
    seeds = values.index.get_level_values("seed")
    means: pd.Series = values.groupby(seeds, sort=False).mean() if seeds.nunique() > 1 else values
    return means


def variant_grids(results: Results) -> list[Grid]:
    """Make the tables of costs and of shares; [] where a run trained in one way only."""
    made = [_cost_grid(results, sides(results)), _share_grid(shares(results))]
    return [grid for grid in made if grid.rows]


def share_sentences(results: Results) -> list[str]:
    """Describe per way of training what tuning single blocks saves, and how much of that is the choice."""
    found = shares(results)
    sentences = []
    for variant in dict.fromkeys(share.variant for share in found):
        part = [share for share in found if share.variant == variant]
        saved, choice = _mean_of(part, lambda share: share.saved), _mean_of(part, lambda share: share.choice)
        if saved is None or choice is None:
            continue
        sentences.append(
            f"Tuning part of the net with {variant} saves {percent(saved)} of the {part[0].of} of tuning all of it "
            f"with {variant_order(results)[0]}, on average over {len(part)} cases: {percent(choice, 0)} of that comes "
            f"from the choice of what to tune, {percent(1 - choice, 0)} from the way of training."
        )
    return sentences


def _cost_grid(results: Results, found: list[Side]) -> Grid:
    first = variant_order(results)[0] if found else ""
    unit = "J, gross" if any(side.energy_j is not None for side in found) else "J: not measured"
    rows = tuple(
        (
            Entry(f"{side.data}, {size_label(side.size, side.n_train)}"),
            Entry(side.arm),
            Entry(side.variant or MISSING),
            Entry(_plain(side.time_s, " s")),
            Entry(_times(side.speedup) if side.variant != first else "1"),
            Entry(joules(side.energy_j)),
            Entry(_times(side.energy_ratio) if side.variant != first else "1"),
            Entry(_plain(side.peak_rss_mb, " MB")),
            Entry(_share(side.accuracy, 1)),
        )
        for side in found
    )
    others = [side for side in found if side.variant != first]
    n = pd.Series([side.speedup.n for side in others], dtype=float)
    seeds = pd.Series([side.seeds for side in others], dtype=float)
    return Grid(
        name="variants",
        title="Ways of training",
        header=("Data", "Tuned", "Training", "Time", "Faster by", "Energy", "Less by", "Peak memory", "Accuracy"),
        labels=3,
        rows=rows,
        note=(
            f"One fine-tuning, validation included; energy in {unit}; accuracy in %. `Faster by` and `less by` are "
            f"ratios of {first} to the row, geometric means with 95 % interval, paired by seed and repeat; "
            f"{units(n, seeds)}.{_compared(results)[2]}"
        ),
    )


def _share_grid(found: list[Share]) -> Grid:
    of = found[0].of if found else "energy"
    rows = tuple(
        (
            Entry(f"{share.data}, {size_label(share.size, share.n_train)}"),
            Entry(share.arm),
            Entry(share.variant),
            Entry(_share(share.saved, 1)),
            Entry(_share(share.choice, 0)),
            Entry(MISSING if share.choice.mean is None else _plain(100 * (1 - share.choice.mean), "")),
        )
        for share in found
    )
    return Grid(
        name="shares",
        title="Where the saving comes from",
        header=("Data", "Tuned", "Training", f"{of.capitalize()} saved", "by the choice", "by the training"),
        labels=3,
        rows=rows,
        note=(
            f"{of.capitalize()} saved against tuning everything in the first way of training, in %, with 95 % "
            "interval, paired by seed and repeat; and what percentage of it comes from the choice of what to tune and "
            "from the way of training: the mean over both orders of changing one after the other."
        ),
    )


def _times(ratio: Estimate) -> str:
    if ratio.mean is None:
        return MISSING
    if ratio.lo is None or ratio.hi is None:
        return f"{ratio.mean:.3g}"
    return f"{ratio.mean:.3g} [{ratio.lo:.3g}, {ratio.hi:.3g}]"


def _share(estimate: Estimate, digits: int) -> str:
    if estimate.mean is None or missing(estimate.mean):
        return MISSING
    return f"{100 * estimate.mean:.{digits}f} {interval(estimate.lo, estimate.hi, digits)}".strip()


def _plain(value: float | None, unit: str) -> str:
    return MISSING if value is None else f"{value:.3g}{unit}"


def _mean_of(part: list[Share], of: Callable[[Share], Estimate]) -> float | None:
    values = [mean for share in part if (mean := of(share).mean) is not None]
    return sum(values) / len(values) if values else None
