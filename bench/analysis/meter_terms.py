"""Meter terms: which part of the uncertainty of joules all windows of a source, or of an idle baseline, have in common.

A gain that is 1 % off is so in every window: no number of repeats takes it away from a joule, and it cancels in a ratio
of two. An idle power that is 10 mW off is so in all windows from which it was subtracted, and cancels in no net saving,
as it is another share of each side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from bench.analysis.clusters import Floats, Shared, joined
from bench.read.results import Results
from bench.store.manifest import Manifest

Basis = Literal["gross", "net"]
NAMES = ("gain", "offset", "idle")


def with_terms(results: Results) -> pd.DataFrame:
    """The records, with the terms that an older version did not write taken from the manifest of their run.

    Columns `u_NAME_BASIS_j`: standard uncertainties (k = 1) of a repeat's joules, 0 where nothing states one. `zero`
    and `idle` number the components that repeats have in common: the meter of their run, and their idle baseline.
    """
    records = results.records.copy(deep=False)
    for run, manifest in zip(results.runs, results.manifests, strict=False):
        _fill(records, (records["run"] == run).to_numpy(), manifest)
    for name in NAMES:
        for basis in ("gross", "net"):
            column = f"u_{name}_{basis}_j"
            records[column] = records[column].fillna(0.0).to_numpy() if column in records else 0.0
    session = records["session"].fillna(-1) if "session" in records else -1
    baselines = pd.DataFrame({"run": records["run"], "session": session, "w": records["idle_power_w"].fillna(-1.0)})
    # neighbouring numbers for the baselines of a session in their order; the next session leaves one out
    number = baselines.groupby(["run", "session", "w"], sort=False).ngroup()
    order = baselines.assign(number=number, at=records["started_at"].fillna("")).groupby("number").first()
    order = order.sort_values(["run", "session", "at"], kind="stable")
    first = ~order.duplicated(["run", "session"])
    rank = (1 + first.astype(int)).cumsum()
    runs = records.groupby("run", sort=False).ngroup()
    top = int(rank.max()) + 2 if len(rank) else 0
    return records.assign(idle=number.map(rank).to_numpy(), meter=(top + 4 * runs).to_numpy())


def _fill(records: pd.DataFrame, mine: np.ndarray, manifest: Manifest) -> None:
    """Where a record has no budget: gain and zero of the source, and the baseline that is least sure."""
    source = manifest.source
    facts = {} if source is None else source.to_dict()
    gain, offset = (_number(facts.get(name)) for name in ("gain_u", "offset_u"))
    idle_w = max((idle.u_power_w for idle in manifest.idle if idle.u_power_w is not None), default=0.0)
    if not (gain or offset or idle_w):
        return
    work_s = records["train_time_s"]
    band_s = records.get("band_s", work_s).fillna(work_s)
    known = {
        "u_gain_gross_j": gain * records["energy_gross_j"],
        "u_gain_net_j": gain * records["energy_net_j"].abs(),
        "u_offset_gross_j": offset * work_s,
        "u_idle_gross_j": idle_w * (band_s - work_s),
        "u_idle_net_j": idle_w * band_s,
    }
    for column, values in known.items():
        old = records[column] if column in records else pd.Series(np.nan, records.index)
        records[column] = old.where(~mine | old.notna(), values)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e6 else 0.0


def of_joules(records: pd.DataFrame, basis: Basis) -> Shared:
    """What joules have in common, J: gain, zero and idle baseline. Takes records of `with_terms`."""
    return joined(*(_entries(records, name, _terms(records, name, basis)) for name in NAMES))


def of_logarithms(records: pd.DataFrame, basis: Basis, sign: float = 1.0, names: Sequence[str] = NAMES[1:]) -> Shared:
    """What their logarithms have in common. Without the gain, which all of one meter have alike, for what is set off.

    Args:
        sign: -1 where they are subtracted.
    """
    joules = records[f"energy_{basis}_j"].to_numpy(dtype=float)
    return joined(*(_entries(records, name, sign * _terms(records, name, basis) / joules) for name in names))


def of_two(run: pd.DataFrame, base: pd.DataFrame, basis: Basis, *, same_meter: bool) -> tuple[Shared, Shared]:
    """Of the logarithms of two runs, the second's with its sign turned: each has idle baselines of its own.

    Args:
        same_meter: then both have one zero, and the gain cancels.
    """
    after = int(run["idle"].max()) + 2 if len(run) else 0
    base = base.assign(idle=base["idle"] + after)
    top = int(base["idle"].max()) + 2 if len(base) else after
    run, base = run.assign(meter=top), base.assign(meter=top if same_meter else top + 4)
    names = NAMES[1:] if same_meter else NAMES
    return of_logarithms(run, basis, 1.0, names), of_logarithms(base, basis, -1.0, names)


def _terms(records: pd.DataFrame, name: str, basis: Basis) -> Floats:
    return records[f"u_{name}_{basis}_j"].to_numpy(dtype=float)


def _entries(records: pd.DataFrame, name: str, amount: Floats) -> Shared:
    component = records["idle"].to_numpy() if name == "idle" else records["meter"].to_numpy() + 2 * (name == "offset")
    there = np.flatnonzero(np.isfinite(amount) & (amount != 0))
    return Shared(there, component[there].astype(np.int64), amount[there])
