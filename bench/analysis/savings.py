"""Compute joules per arm and energy-saving rates, paired with the full fine-tuning of the same seed and repeat.

Every rate and every mean of rates is one minus a ratio of energies, and has its interval on the ratio's logarithm: a
table and a headline of the same rate print the same. The unit is the seed (`bench.analysis.clusters`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.analysis.accuracy import single_blocks
from bench.analysis.clusters import Floats, Shared, clustered, joined, of_each
from bench.analysis.meter_terms import Basis, of_joules, of_logarithms
from bench.analysis.statistics import Estimate
from bench.read.results import AVERAGE, GROUP

PAIR = ["seed", "repeat"]
ARM = [*GROUP, "arm"]
BASES: dict[Basis, str] = {"gross": "energy_gross_j", "net": "energy_net_j"}
"""Columns of the joules of a record: gross, and net of what the device would have drawn idle."""


_SIDES = (("own", 1.0), ("full", -1.0))
"""Columns of the places of numerator and denominator, and the sign with which each goes into the logarithm."""


def measured(records: pd.DataFrame) -> pd.DataFrame:
    """Select the records whose joules count: finished, with an energy, and not of grade X."""
    return records[records["measured"]]


@dataclass(frozen=True, slots=True)
class Ratios:
    """Logarithms of energy ratios, one row per repeat.

    Attributes:
        frame: GROUP, arm, role and target where the rows are of arms, PAIR and log_ratio.
        shared: what its rows have in common, by position; the meter's gain cancels.
    """

    frame: pd.DataFrame
    shared: Shared | None

    def only(self, mask: Floats | pd.Series) -> Ratios:
        """Those of some rows."""
        kept = np.asarray(mask, dtype=bool)
        to = np.where(kept, np.cumsum(kept) - 1, -1)
        return Ratios(self.frame[kept].reset_index(drop=True), None if self.shared is None else self.shared.moved(to))

    def summary(self, by: list[str]) -> pd.DataFrame:
        """`clustered` of the logarithms."""
        return clustered(self.frame, "log_ratio", by, self.shared)

    def averaged(self, over: list[str], by: list[str]) -> Ratios:
        """Logarithm of the mean ratio over what differs in `over`, per `by`, linear around each mean (delta method).

        With m the mean logarithm of each part and w = exp(m) its weight, ln mean exp(m) + sum w (l - m) / sum w: its
        mean over the seeds is the logarithm of the mean of the parts' ratios, exactly.

        Args:
            over: columns that tell the parts apart, `by` among them; every part has the same pairs.
        """
        means = self.frame[over].merge(self.summary(over)["mean"].reset_index(), on=over, how="left")["mean"].to_numpy()
        logs, ratio = self.frame["log_ratio"].to_numpy(), np.exp(means)
        frame = self.frame[[*by, *PAIR]].assign(ratio=ratio, moved=ratio * (logs - means), count=1)
        groups = frame.groupby([*by, *PAIR], sort=False)
        sums = groups[["ratio", "moved", "count"]].sum()
        place = groups.ngroup().to_numpy()
        total = sums["ratio"].to_numpy()
        made = sums.reset_index()[[*by, *PAIR]]
        made["log_ratio"] = np.log(total / sums["count"].to_numpy()) + sums["moved"].to_numpy() / total
        shared = None if self.shared is None else self.shared.moved(place, ratio / total[place])
        return Ratios(made, shared)


def log_ratios(records: pd.DataFrame, basis: Basis) -> Ratios:
    """One row per (data, train_size, arm, seed, repeat): log_ratio = ln(E / E_full) of the same seed and repeat.

    A net energy that is not positive (lost in the idle baseline) has no logarithm; its pair is left out.
    """
    rows = measured(records)
    rows = rows[rows[BASES[basis]] > 0].reset_index(drop=True)
    pairs = _paired(rows, BASES[basis])
    own, full = (of_each(of_logarithms(rows, basis, sign), pairs[side].to_numpy()) for side, sign in _SIDES)
    return Ratios(pairs.drop(columns=["own", "full"]), joined(own, full))


def _paired(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """log_ratio of `column` of each arm and the full fine-tuning; own and full are the positions of both in `rows`."""
    rows = rows[[*ARM, "role", "target", *PAIR, column]].assign(place=np.arange(len(rows)))
    rows = rows[rows[column] > 0]
    full = rows.loc[rows["role"] == "full", [*GROUP, *PAIR, column, "place"]]
    pairs = rows[rows["role"] != "full"].merge(full, on=[*GROUP, *PAIR], suffixes=("", "_full"))
    pairs["log_ratio"] = np.log(pairs[column] / pairs[f"{column}_full"])
    names = {"place": "own", "place_full": "full"}
    return pairs[[*ARM, "role", "target", *PAIR, "log_ratio", *names]].rename(columns=names)


def average_ratios(records: pd.DataFrame, ratios: Ratios) -> Ratios:
    """Of Block Avg per (data, train_size, seed, repeat), on pairs that have every single block."""
    singles = ratios.only(ratios.frame["role"] == "single")
    frame = singles.frame
    tried = frame[GROUP].merge(single_blocks(records).reset_index(), on=GROUP, how="left")["tried"].to_numpy()
    count = frame.groupby([*GROUP, *PAIR], sort=False)["log_ratio"].transform("count").to_numpy()
    return singles.only((count == tried) & (tried >= 2)).averaged(ARM, GROUP)


def target_ratios(ratios: Ratios) -> Ratios:
    """Of the target block per (data, train_size, seed, repeat)."""
    return ratios.only((ratios.frame["role"] == "single") & (ratios.frame["arm"] == ratios.frame["target"]))


def of_arms(ratios: Ratios, average: Ratios) -> pd.DataFrame:
    """The summaries of the arms and of Block Avg in one table."""
    named = Ratios(average.frame.assign(arm=AVERAGE), average.shared)
    parts = [one.summary(ARM) for one in (ratios, named)]
    return pd.concat([part for part in parts if len(part)] or parts[:1])


def saving_table(records: pd.DataFrame, basis: Basis) -> pd.DataFrame:
    """Per (data, train_size, arm), Block Avg included: saving_{basis}, its interval, n and seeds; fractions.

    The rate is 1 - exp(mean log ratio); its interval is that of the mean log ratio, transformed.
    """
    ratios = log_ratios(records, basis)
    average = average_ratios(records, ratios)
    table = of_arms(ratios, average)
    return pd.DataFrame(
        {
            f"saving_{basis}": 1 - np.exp(table["mean"]),
            f"saving_{basis}_lo": 1 - np.exp(table["hi"]),
            f"saving_{basis}_hi": 1 - np.exp(table["lo"]),
            f"saving_{basis}_n": table["n"],
            f"saving_{basis}_seeds": table["seeds"],
        }
    )


def saving_over_groups(ratios: Ratios) -> Estimate:
    """Saving rate of the mean over the groups' ratios; the interval is over the seeds that every group has.

    `sd` and `common` stay on the logarithm's scale.

    Groups (data and train sizes) are not repetitions of each other, so they do not add to n.
    """
    frame = ratios.frame
    n_groups = len(frame[GROUP].drop_duplicates())
    if not n_groups:
        return Estimate(n=0)
    ratio = float(np.exp(ratios.summary(GROUP)["mean"]).mean())
    everywhere = frame.groupby(PAIR, sort=False)["log_ratio"].transform("count").to_numpy() == n_groups
    common = ratios.only(everywhere)
    if not len(common.frame):
        return Estimate(n=0, mean=1 - ratio)
    averaged = common.averaged(GROUP, [])
    whole = Ratios(averaged.frame.assign(all=0), averaged.shared).summary(["all"]).iloc[0]
    n = int(whole["n"])
    if n < 2:
        return Estimate(n=n, mean=1 - ratio)
    half = whole["hi"] - whole["mean"]
    lo, hi = 1 - ratio * np.exp(half), 1 - ratio * np.exp(-half)
    sd, common_u, one_seed = float(whole["sd"]), float(whole["common"]), bool(whole["seeds"] == 1)
    return Estimate(n=n, mean=1 - ratio, sd=sd, lo=float(lo), hi=float(hi), common=common_u, one_seed=one_seed)


def theory_table(records: pd.DataFrame) -> pd.DataFrame:
    """Saving rates by multiply-accumulates, per (data, train_size, arm), Block Avg included; fractions.

    saving_theory is the rate of whole fine-tunings as they ran, their epochs and validation included, to set beside
    the measured one; saving_step is that of a training step.
    """
    done = records[records["ok"]]
    columns = {}
    for name, column in (("saving_theory", "train_macs"), ("saving_step", "step_macs")):
        ratios = Ratios(_paired(done, column), None)
        columns[name] = 1 - np.exp(of_arms(ratios, average_ratios(records, ratios))["mean"])
    return pd.DataFrame(columns)


def image_table(records: pd.DataFrame) -> pd.DataFrame:
    """Per (data, train_size, arm): image_j, joules per image of a stream or an inference, and image_ratio to `none`.

    The ratio is a geometric mean over pairs of the same seed and repeat.
    """
    rows = measured(records)
    rows = rows[rows["n_images"] > 0].assign(image_j=lambda table: table["energy_gross_j"] / table["n_images"])
    keys = [*GROUP, "arm"]
    table = rows.groupby(keys, sort=False)[["image_j"]].mean()
    none = rows.loc[rows["arm"] == "none", [*GROUP, *PAIR, "image_j"]]
    pairs = rows.merge(none, on=[*GROUP, *PAIR], suffixes=("", "_none"))
    pairs["log"] = np.log(pairs["image_j"] / pairs["image_j_none"])
    table["image_ratio"] = np.exp(pairs.groupby(keys, sort=False)["log"].mean())
    return table


def joule_table(records: pd.DataFrame) -> pd.DataFrame:
    """Per (data, train_size, arm), Block Avg included: joules gross and net with sd, interval, n and seeds.

    The intervals are of absolute joules: gain, zero and idle baseline of the meter are in them. energy_gain is the
    relative standard uncertainty of the first.
    """
    joules = measured(records).reset_index(drop=True)
    singles = (joules["role"] == "single").to_numpy()
    pairs = joules[singles].groupby([*GROUP, *PAIR], sort=False)
    means = pairs[list(BASES.values())].mean()
    means["count"] = pairs["energy_gross_j"].count()
    means = means.reset_index().merge(single_blocks(records).reset_index(), on=GROUP)
    whole = ((means["count"] == means["tried"]) & (means["tried"] >= 2)).to_numpy()
    columns = [*ARM, *PAIR, *BASES.values()]
    both = pd.concat([joules[columns], means[whole].assign(arm=AVERAGE)[columns]], ignore_index=True)
    # what the blocks of a pair have in common, their average has too
    pair = pairs.ngroup().to_numpy()
    into, share = np.full(len(joules), -1), np.ones(len(joules))
    into[singles] = np.where(whole, len(joules) + np.cumsum(whole) - 1, -1)[pair]
    share[singles] = 1 / means["count"].to_numpy()[pair]
    made = {}
    for basis, column in BASES.items():
        shared = of_joules(joules, basis)
        known = both[column].notna().to_numpy()
        place = np.where(known, np.cumsum(known) - 1, -1)
        shared = joined(shared, shared.moved(into, share)).moved(place)
        table = clustered(both[known], column, ARM, shared)
        made[basis] = table.rename(columns={name: f"energy_{basis}_{name}_j" for name in ("sd", "lo", "hi")}).rename(
            columns={"mean": column}
        )
    gross = made["gross"].rename(columns={"n": "energy_n", "seeds": "energy_seeds"}).drop(columns="common")
    gain = joules.assign(energy_gain=joules["u_gain_gross_j"] / joules["energy_gross_j"])
    largest = gain.groupby(ARM, sort=False)["energy_gain"].max()
    return gross.join(made["net"].drop(columns=["n", "seeds", "common"])).join(largest)
