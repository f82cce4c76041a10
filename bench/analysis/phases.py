"""Phases: joules and seconds of each part of the work, e.g. of a method's choice and of the tuning after it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.statistics import summarise
from bench.read.results import GROUP

KEYS = [*GROUP, "arm", "phase"]
_COLUMNS = [*KEYS, "role", "seed", "repeat", "energy_gross_j", "time_s"]


def phase_table(records: pd.DataFrame) -> pd.DataFrame:
    """One row per (data, train_size, arm, phase): time_s, energy_gross_j, its interval and n (repeats), `unresolved`.

    Joules of a phase are nan where no repeat's source resolves it; `unresolved` counts such repeats. Rows stand in the
    order of the records, phases in the order in which they began.
    """
    done = records.loc[records["ok"] & records["phases"].notna(), [*GROUP, "arm", "role", "seed", "repeat", "measured",
                                                                 "phases"]]  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for *keys, role, seed, repeat, measured, text in done.itertuples(index=False):
        for phase, figures in _phases(text):
            energy_j = _number(figures.get("energy_gross_j")) if measured else np.nan
            rows.append((*keys, phase, role, seed, repeat, energy_j, _number(figures.get("time_s"))))
    long = pd.DataFrame(rows, columns=pd.Index(_COLUMNS))
    if long.empty:
        return long.drop(columns=["seed", "repeat"]).assign(energy_n=0, unresolved=0)
    table = long.groupby(KEYS, sort=False)[["role", "time_s"]].agg({"role": "first", "time_s": "mean"})
    joules = summarise(long, "energy_gross_j", KEYS).rename(columns={"mean": "energy_gross_j", "n": "energy_n"})
    joules = joules.rename(columns={name: f"energy_gross_{name}_j" for name in ("sd", "lo", "hi")})
    table = table.join(joules)
    table["unresolved"] = long["energy_gross_j"].isna().groupby([long[key] for key in KEYS], sort=False).sum()
    return table.reset_index()


def _phases(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and figures of each phase of a record, in the order of the record; what is no phase is left out."""
    found = json.loads(text)
    return [(name, figures) for name, figures in found.items() if isinstance(figures, dict)]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e100 else np.nan
