"""Compute the findings of results: tables per cell, per block and per shift, and the headlines.

The unit of repetition is the seed; what is compared is compared within it, joules within its repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.analysis import accuracy, savings
from bench.analysis.answers import Answer, answers
from bench.analysis.boards import BoardKind, board_kinds
from bench.analysis.clusters import clustered
from bench.analysis.meter_terms import of_joules, with_terms
from bench.analysis.phases import phase_table
from bench.analysis.quality import Quality, assess, row_caveats
from bench.analysis.savings import measured
from bench.analysis.statistics import Estimate, summarise, t_interval, wilson_interval
from bench.catalog.paper import PUBLISHED
from bench.read.results import AVERAGE, GROUP, UNTUNED, Results
from bench.text import natural


@dataclass(frozen=True, kw_only=True)
class Headlines:
    """Main figures of a run, or of several runs of different data: means over their shifts and train sizes.

    Attributes:
        run: name of the run; '' where they are over all that was read.
        gain: accuracy gain of the target blocks over Block Avg, a fraction; n = seeds.
        saving_average: energy-saving rate of Block Avg, gross, a fraction; n = seeds, or repeats of the only seed.
        saving_target: energy-saving rate of the target blocks, likewise.
        gain_groups, saving_groups, target_groups: shifts x train sizes behind each.
        gain_range, saving_range: lowest and highest of the cases' means; None without any.
        saving_blocks: rate of each single block by name, where there is no average over them.
    """

    run: str = ""
    gain: Estimate = Estimate(n=0)
    saving_average: Estimate = Estimate(n=0)
    saving_target: Estimate = Estimate(n=0)
    gain_groups: int = 0
    saving_groups: int = 0
    target_groups: int = 0
    gain_range: tuple[float, float] | None = None
    saving_range: tuple[float, float] | None = None
    saving_blocks: tuple[tuple[str, Estimate], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Tables and figures of a set of results. All tables keep the order in which the data labels came.

    Attributes:
        cells: one row per cell: n, mean, sd and interval over its repeats, see `cell_table`.
        blocks: one row per (data, train_size, arm), Block Avg included: accuracy*, improvement, energy_*, time,
            saving_gross*, saving_net*, saving_theory, saving_step; `role`, `is_target`.
        phases: one row per (data, train_size, arm, phase), see `bench.analysis.phases`.
        shifts: one row per (data, train_size): level, target, gain*, winner* (accuracy), frugal* (joules).
        headlines: over all of them; without figures where the runs overlap.
        apart: headlines of each run where the runs overlap; two runs of one suite are not two cases of one figure.
        answers: what to tune, one per row of `shifts`.
        quality: what was left out, and what a reader must know.
        boards: kinds of boards of a fleet, each with the spread between its boards.
    """

    cells: pd.DataFrame
    blocks: pd.DataFrame
    phases: pd.DataFrame
    shifts: pd.DataFrame
    headlines: Headlines
    apart: tuple[Headlines, ...]
    answers: tuple[Answer, ...]
    quality: Quality
    boards: tuple[BoardKind, ...] = ()


_UNUSED = ["trace", "started_at", "peak_rss_mb", "startup_s", "trained_parameters", "data_variant", "bn_mode",
           "target_block", "noise_sigma"]  # fmt: skip
"""Columns that no table needs; leaving them out spares copies."""


def analyse(results: Results) -> Analysis:
    """Compute all tables of a set of results."""
    records = with_terms(results).drop(columns=_UNUSED)
    # a number for each data label, in order of appearance: grouping is faster, and sorting keeps the order
    codes, labels = pd.factorize(records["data"])
    records["data"] = codes
    seeds = accuracy.by_seed(records)
    phases = phase_table(records)
    records = records.drop(columns=["phases"])
    cells, blocks, shifts = cell_table(records), _block_table(records, seeds), _shift_table(records, seeds)
    for table in (cells, blocks, shifts, phases):
        table["data"] = labels.take(table["data"].to_numpy(dtype=int))
    named = seeds.assign(data=labels.take(seeds["data"].to_numpy(dtype=int)))
    return Analysis(
        cells=cells,
        blocks=blocks,
        phases=phases,
        shifts=shifts,
        headlines=Headlines() if results.overlap else _headlines(records, seeds),
        apart=_headlines_apart(records, seeds) if results.overlap else (),
        answers=answers(blocks, shifts, named),
        quality=assess(records, cells),
        boards=board_kinds(results),
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
        savings.image_table(records),
        savings.saving_table(records, "gross"),
        savings.saving_table(records, "net"),
        savings.theory_table(records),
    ):
        table = table.join(part, how="outer")
    table = table.reset_index()
    for arm, role in ((AVERAGE, "average"), (UNTUNED, UNTUNED)):
        table["role"] = table["role"].where(table["arm"] != arm, role)
    table["is_target"] = (table["role"] == "single") & (table["arm"] == table["target"])
    table["_rank"] = table["arm"].map({arm: rank for rank, arm in enumerate(arm_order(table))})
    table = table.sort_values([*GROUP, "_rank"], ignore_index=True).drop(columns="_rank")
    return _without_unstated_n(table, records)


def _without_unstated_n(table: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Set every n of published rows to nan: how many runs a printed mean is over is not stated."""
    published = table["data"].isin(records.loc[records["run"] == PUBLISHED, "data"].unique())
    for column in table.columns[table.columns.str.endswith(("_n", "_seeds"))]:
        table[column] = table[column].astype(float).mask(published)
    return table


def arm_key(arm: str, role: str) -> tuple[int, bool, tuple[tuple[int, str], ...]]:
    """Sort key of an arm: untuned, blocks, Block Avg, full, sets, methods; a classifier is the last of the blocks."""
    rank = (UNTUNED, "single", "average", "full", "set", "method").index(role)
    head = arm in ("fc", "classifier", "head")
    return (rank, head, natural(arm))


def arm_order(blocks: pd.DataFrame) -> list[str]:
    """List the arms of a block table in the order of `arm_key`."""
    arms = blocks[["arm", "role"]].drop_duplicates("arm")
    return [arm for _, arm in sorted((arm_key(arm, role), arm) for arm, role in arms.itertuples(index=False))]


def _shift_table(records: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    table = records.groupby(GROUP, sort=False)[["level", "target", "n_train"]].first()
    table = table.join(accuracy.gain_table(records, seeds))
    singles = seeds[seeds["role"] == "single"]
    table = table.join(accuracy.winners(singles, "accuracy_after", "winner_"))
    joules = savings.measured(records)
    joules = joules[joules["role"] == "single"]
    joules = joules.assign(thrift=-np.log(joules["energy_gross_j"]))
    table = table.join(accuracy.winners(joules, "thrift", "frugal_")).reset_index()
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
    average, target = savings.average_ratios(records, ratios), savings.target_ratios(ratios)
    return Headlines(
        run=run,
        gain=_over_groups(gains, "gain", ["seed"]),
        saving_average=savings.saving_over_groups(average),
        saving_target=savings.saving_over_groups(target),
        gain_groups=len(gains[GROUP].drop_duplicates()),
        saving_groups=len(average.frame[GROUP].drop_duplicates()),
        target_groups=len(target.frame[GROUP].drop_duplicates()),
        gain_range=_range(gains.groupby(GROUP, sort=False)["gain"].mean()),
        saving_range=_range(1 - np.exp(average.summary(GROUP)["mean"])) if len(average.frame) else None,
        saving_blocks=() if len(average.frame) else _by_block(ratios),
    )


def _range(means: pd.Series) -> tuple[float, float] | None:
    return None if means.empty else (float(means.min()), float(means.max()))


def _by_block(ratios: savings.Ratios) -> tuple[tuple[str, Estimate], ...]:
    """Saving rate of each single block over the cases that it has."""
    singles = ratios.only(ratios.frame["role"] == "single")
    arms = singles.frame["arm"].drop_duplicates()
    return tuple(
        (str(arm), savings.saving_over_groups(singles.only(singles.frame["arm"] == arm))) for arm in sorted(arms)
    )


def _over_groups(values: pd.DataFrame, value: str, pair: list[str]) -> Estimate:
    """Average the groups' means; the interval is over pairs that every group has, averaged over groups first.

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


_FACTS = [
    *("run", "cell_id", *GROUP, "level", "dataset", "shift", "blocks", "arm", "role", "target"),
    *("seed", "method", "model", "n_train", "n_test"),
]
"""Columns of a record that all repeats of a cell share."""


_MACS = ("forward_macs", "step_macs", "step_bytes", "train_macs")


def cell_table(records: pd.DataFrame) -> pd.DataFrame:
    """One row per (run, cell_id): repeats, accuracy and joules over them. Accuracies are fractions, energies J.

    accuracy_wilson_lo/hi is the interval for the cell's test images (Wilson 1927); the other intervals are t
    intervals over repeats, nan below two, those of joules with what the meter has in common for all of them. They hold
    for the cell's seed. Joules of grade X are left out. saving_gross and saving_theory (of the
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
    parts = [(column, summarise(done, column, keys)) for column in ("accuracy_after", "train_time_s")]
    for basis, column in savings.BASES.items():
        known = joules[joules[column].notna()]
        parts.append((column, clustered(known, column, keys, of_joules(known, basis))))
    for column, figures in parts:
        part = figures[["mean", "sd", "lo", "hi"]]
        part.columns = pd.Index([f"{column}:{name}" for name in part.columns])
        table = table.join(part)
    table["accuracy_before"] = done.groupby(keys, sort=False)["accuracy_before"].mean()
    for column in _MACS:
        table[column] = done.groupby(keys, sort=False)[column].mean()
    table["energy_gross_j:median"] = joules.groupby(keys, sort=False)["energy_gross_j"].median()
    table["energy_u_j"] = joules.groupby(keys, sort=False)["energy_u_j"].mean()
    share = joules["u_gain_gross_j"] / joules["energy_gross_j"]
    table["energy_gain"] = share.groupby(joules["cell"], sort=False).max()
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
    """Compute 1 - cell / full, full being the full fine-tuning with the same data, train size and seed."""
    keys = ["run", *GROUP, "seed"]
    full = table[table["role"] == "full"].drop_duplicates(keys).set_index(keys)[column]
    of = pd.MultiIndex.from_frame(table[keys])
    rate: pd.Series = 1 - table[column] / full.reindex(of).to_numpy()
    return rate


def _distinct(frame: pd.DataFrame, keys: list[str], column: str) -> pd.Series:
    """Join the different texts of a column per group; nearly always there is one, so few are joined."""
    pairs = frame.loc[frame[column].fillna("") != "", [*keys, column]].drop_duplicates().sort_values(column)
    several = pairs.duplicated(keys, keep=False)
    single = pairs[~several].set_index(keys)[column]
    joined: pd.Series = pd.concat([single, pairs[several].groupby(keys, sort=False)[column].agg("+".join)])
    return joined
