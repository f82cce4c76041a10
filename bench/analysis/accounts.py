"""Accounts of methods with a budget: what is claimed, attainable by arithmetic, and measured; and best-of."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.statistics import t_interval
from bench.read.results import GROUP, Results

FULL = "full"
SEEDED = [*GROUP, "seed", "repeat"]
_MEASURED = {
    "train_macs": "attainable_saving",
    "energy_gross_j": "measured_saving_j",
    "train_time_s": "measured_saving_s",
    "peak_rss_mb": "measured_saving_rss",
}
"""Field of a record -> its saving against `full`."""


def facts_of(results: Results) -> pd.DataFrame:
    """Finished repeats whose method had a budget, with the facts of it as columns beside those of the records."""
    records = results.records
    if "facts" not in records or records["facts"].isna().all():
        return records.iloc[:0]
    given = records[records["ok"] & records["facts"].notna()]
    facts = [one if isinstance(one, dict) else _plain(one) for one in given["facts"]]
    kept = [isinstance(one.get("budget"), int | float) and "claimed_saving" in one for one in facts]
    table = pd.DataFrame([one for one, keep in zip(facts, kept, strict=True) if keep], index=given.index[kept])
    columns = [name for name in ("budget", "kept", "budget_of", "claimed_saving", "stored_share") if name in table]
    return given[kept].join(table[columns].apply(pd.to_numeric, errors="coerce"))


def accounts(results: Results) -> pd.DataFrame:
    """One row per condition with a budget: what the released code would claim, and what `full` of the same run gives.

    Savings are 1 - value / value of `full`, geometric means paired by seed and repeat, with the 95 % t interval of
    measured joules and seconds over the pairs; NaN where the run has no `full`, or did not measure.
    """
    rows = facts_of(results)
    if rows.empty:
        return rows
    whole = results.records[results.records["ok"] & (results.records["arm"] == FULL)]
    usable = whole["measured"].astype(bool)
    found = rows.merge(
        whole.assign(energy_gross_j=whole["energy_gross_j"].where(usable))[["run", *SEEDED, *_MEASURED]],
        on=["run", *SEEDED], how="left", suffixes=("", "_full"),
    )  # fmt: skip
    found["energy_gross_j"] = found["energy_gross_j"].where(found["measured"].astype(bool))
    made = []
    for (data, size, arm), part in found.groupby([*GROUP, "arm"], observed=True, sort=False):
        row: dict[str, Any] = {
            "data": data,
            "train_size": size,
            "arm": arm,
            "model": part["model"].iloc[0],
            "budget_share": (part["budget"] / part["budget_of"]).mean(),
            "kept_share": (part["kept"] / part["budget_of"]).mean(),
            "claimed_saving": part["claimed_saving"].mean(),
            "stored_share": part["stored_share"].mean(),
            "pairs": int(part["train_macs_full"].notna().sum()),
        }
        for field, name in _MEASURED.items():
            ratios = (part[field] / part[f"{field}_full"]).to_numpy(float)
            ratio = np.log(ratios[ratios > 0])
            found_log = t_interval(ratio)
            ends = {"": found_log.mean, "_lo": found_log.hi, "_hi": found_log.lo}
            if field == "train_macs":
                ends = {"": found_log.mean}  # arithmetic has no scatter but that of the choice
            row |= {f"{name}{end}": math.nan if value is None else 1 - math.exp(value) for end, value in ends.items()}
        made.append(row)
    return pd.DataFrame(made)


def best_of(results: Results) -> pd.DataFrame:
    """Accuracy at the epoch that validates best, per net, data, budget and arm.

    Mean and standard deviation (n - 1) over the seeds, with the mean of the best epochs.
    """
    records = results.records
    table = records[records["ok"] & records["accuracy_after"].notna()]
    if table.empty:
        return table
    budgets = facts_of(results)
    table = table.assign(budget=budgets["budget"].reindex(table.index) if len(budgets) else np.nan)
    by_seed = table.groupby(["model", *GROUP, "arm", "seed"], observed=True, sort=False)
    seeds = by_seed[["accuracy_after", "best_epoch", "budget"]].mean().reset_index()
    made = seeds.groupby(["model", *GROUP, "arm"], observed=True, sort=False).agg(
        budget=("budget", "mean"),
        accuracy_percent=("accuracy_after", lambda one: 100 * one.mean()),
        accuracy_sd_points=("accuracy_after", lambda one: 100 * one.std(ddof=1)),
        best_epoch=("best_epoch", "mean"),
        seeds=("seed", "nunique"),
    )
    return made.reset_index()


def _plain(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(str(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
