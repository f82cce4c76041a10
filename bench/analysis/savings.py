"""Compute joules per arm and energy-saving rates, paired with the full fine-tuning of the same seed and repeat."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.analysis.accuracy import single_blocks
from bench.analysis.statistics import summarise
from bench.read.results import AVERAGE, GROUP

PAIR = ["seed", "repeat"]
BASES = {"gross": "energy_gross_j", "net": "energy_net_j"}
"""Columns of the joules of a record: gross, and net of what the device would have drawn idle."""


def measured(records: pd.DataFrame) -> pd.DataFrame:
    """Select the records whose joules count: finished, with an energy, and not of grade X."""
    return records[records["measured"]]


def log_ratios(records: pd.DataFrame, basis: str) -> pd.DataFrame:
    """One row per (data, train_size, arm, seed, repeat): log_ratio = ln(E / E_full) of the same seed and repeat.

    A net energy that is not positive (lost in the idle baseline) has no logarithm; its pair is left out.
    """
    return _paired(measured(records), BASES[basis])


def _paired(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    rows = rows[rows[column] > 0]
    full = rows.loc[rows["role"] == "full", [*GROUP, *PAIR, column]]
    pairs = rows[rows["role"] != "full"].merge(full, on=[*GROUP, *PAIR], suffixes=("", "_full"))
    pairs["log_ratio"] = np.log(pairs[column] / pairs[f"{column}_full"])
    return pairs[[*GROUP, "arm", "role", "target", *PAIR, "log_ratio"]]


def linear_savings(ratios: pd.DataFrame) -> pd.DataFrame:
    """Per row a saving rate whose mean over the pairs is exactly 1 - exp(mean log ratio) of its arm.

    s - (1 - s) (l - mean l), the first-order expansion around the arm's rate s (delta method): it lets rates of
    several arms be averaged pair by pair without leaving the definition on the log scale.
    """
    mean = ratios.groupby([*GROUP, "arm"], sort=False)["log_ratio"].transform("mean")
    rate = 1 - np.exp(mean)
    return ratios.assign(saving=rate - (1 - rate) * (ratios["log_ratio"] - mean))


def average_savings(records: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """Block Avg of the saving rate per (data, train_size, seed, repeat), on pairs that have every single block."""
    singles = ratios[ratios["role"] == "single"]
    tried = singles[GROUP].merge(single_blocks(records).reset_index(), on=GROUP, how="left")["tried"].to_numpy()
    count = singles.groupby([*GROUP, *PAIR], sort=False)["log_ratio"].transform("count").to_numpy()
    complete = linear_savings(singles[(count == tried) & (tried >= 2)])
    return complete.groupby([*GROUP, *PAIR], sort=False)["saving"].mean().reset_index()


def target_savings(ratios: pd.DataFrame) -> pd.DataFrame:
    """Saving rate of the target block per (data, train_size, seed, repeat)."""
    target = ratios[(ratios["role"] == "single") & (ratios["arm"] == ratios["target"])]
    return linear_savings(target)[[*GROUP, *PAIR, "saving"]]


def saving_table(records: pd.DataFrame, basis: str) -> pd.DataFrame:
    """Per (data, train_size, arm), Block Avg included: saving_{basis}, its interval and n (pairs); fractions.

    The rate of an arm is 1 - exp(mean log ratio); its interval is that of the mean log ratio, transformed.
    """
    ratios = log_ratios(records, basis)
    logs = summarise(ratios, "log_ratio", [*GROUP, "arm"])
    table = pd.DataFrame(
        {
            "": 1 - np.exp(logs["mean"]),
            "_lo": 1 - np.exp(logs["hi"]),
            "_hi": 1 - np.exp(logs["lo"]),
            "_n": logs["n"],
        }
    )
    average = summarise(average_savings(records, ratios).assign(arm=AVERAGE), "saving", [*GROUP, "arm"])
    average = average.rename(columns={"mean": "", "lo": "_lo", "hi": "_hi", "n": "_n"})[["", "_lo", "_hi", "_n"]]
    table = pd.concat([part for part in (table, average) if len(part)]) if len(table) else table
    table.columns = pd.Index([f"saving_{basis}{name}" for name in table.columns])
    return table


def theory_table(records: pd.DataFrame) -> pd.DataFrame:
    """Saving rates by multiply-accumulates, per (data, train_size, arm), Block Avg included; fractions.

    saving_theory is the rate of whole fine-tunings as they ran, their epochs and validation included, to set beside
    the measured one; saving_step is that of a training step.
    """
    done = records[records["ok"]]
    columns = {}
    for name, column in (("saving_theory", "train_macs"), ("saving_step", "step_macs")):
        ratios = _paired(done, column)
        rates = linear_savings(ratios).groupby([*GROUP, "arm"], sort=False)["saving"].mean()
        average = average_savings(records, ratios).assign(arm=AVERAGE)
        columns[name] = pd.concat([rates, average.groupby([*GROUP, "arm"], sort=False)["saving"].mean()])
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
    """Per (data, train_size, arm), Block Avg included: joules gross and net, sd, interval, n, training seconds."""
    keys = [*GROUP, "arm"]
    joules = measured(records)
    singles = joules[joules["role"] == "single"]
    means = singles.groupby([*GROUP, *PAIR], sort=False)[["energy_gross_j", "energy_net_j"]].mean()
    means["count"] = singles.groupby([*GROUP, *PAIR], sort=False)["energy_gross_j"].count()
    means = means.reset_index().merge(single_blocks(records).reset_index(), on=GROUP)
    average = means[(means["count"] == means["tried"]) & (means["tried"] >= 2)].assign(arm=AVERAGE)
    both = pd.concat([joules, average])
    table = summarise(both, "energy_gross_j", keys).rename(columns={"mean": "energy_gross_j", "n": "energy_n"})
    table = table.rename(columns={name: f"energy_gross_{name}_j" for name in ("sd", "lo", "hi")})
    table["energy_net_j"] = both.groupby(keys, sort=False)["energy_net_j"].mean()
    return table
