"""Comparable: whether the joules of two runs may be set against each other, and what else differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench.read.results import Results
from bench.store.difference import changes, flat

_BOARD = ("board", "cpu_model", "logical_cores")
_METER = ("kind", "scope", "covers", "device", "params", "resolution")
_AXES = (
    "name",
    "title",
    "version",
    "data",
    "train_size",
    "blocks",
    "seeds",
    "axes",
    "exclude",
    "timeout_s",
    "energy.repeats",
)
"""Keys of a suite that name its cells; the records themselves tell which there are."""


def refusal(run: Results, base: Results) -> str:
    """Why no joules of these two runs may be compared, '' where nothing forbids it: the device and the meter."""
    sides = {"RUN": run.manifests[0].to_dict(), "BASE": base.manifests[0].to_dict()}
    for name, manifest in sides.items():
        if not isinstance(manifest.get("device"), Mapping):
            return f"the device of {name} is not known (its manifest.json is missing or does not say)"
    for what, facts in (("device", device_facts), ("meter", meter_facts)):
        new, old = (facts(manifest) for manifest in sides.values())
        if found := changes(old, new):
            return f"another {what} ({found[0]})"
    return ""


def work_refusals(run: Results, base: Results) -> pd.Series:
    """Say by condition why neither accuracy nor joules of it may be compared: another model, or other epochs.

    A setting counts where both manifests have it; a record names its model even without a manifest.

    Returns:
        '' or the reason, by `condition`; conditions of both sides.
    """
    new, old = (_mapping(side.manifests[0].content, "model") for side in (run, base))
    shared = [key for key in old if key in new]
    found = changes({"model": {key: old[key] for key in shared}}, {"model": {key: new[key] for key in shared}})
    works = [_work(side) for side in (run, base)]
    both = works[0].merge(works[1], left_index=True, right_index=True, suffixes=("_run", "_base"))
    epochs = both["epochs_run"].notna() & both["epochs_base"].notna() & (both["epochs_run"] != both["epochs_base"])
    texts = [both[f"epochs_{side}"].map("{:g}".format) for side in ("run", "base")]
    why = np.select(
        [both["model_run"] != both["model_base"], np.full(len(both), bool(found)), epochs],
        [
            "another model (" + both["model_base"] + " -> " + both["model_run"] + ")",
            f"another model ({', '.join(found[:2])})",
            "other epochs (" + texts[1] + " -> " + texts[0] + ")",
        ],
        "",
    )
    return pd.Series(why, index=both.index, dtype=object)


def _work(results: Results) -> pd.DataFrame:
    """`model` and `epochs` (nan where the manifest does not say) by `condition`."""
    train = _mapping(results.manifests[0].content, "train")
    override = _mapping(train, "per_block")
    records = results.records
    names = records.assign(model=records["model"].fillna("not named"))[["condition", "model"]].drop_duplicates()
    arms = records.drop_duplicates("condition").set_index("condition")["arm"]
    epochs = [_mapping(override, arm).get("epochs") or train.get("epochs") for arm in arms]
    known = [float(value) if isinstance(value, int | float) else np.nan for value in epochs]
    return pd.DataFrame(
        {
            "model": names.groupby("condition")["model"].agg("+".join),
            "epochs": pd.Series(known, arms.index, dtype=float),
        }
    )


def condition_refusals(run: pd.DataFrame, base: pd.DataFrame) -> pd.Series:
    """The same per condition, '' or the reason: joules by another source, or of another grade. Takes measured records.

    A condition's grade is the worst of its repeats: a mean is as good as its weakest part.
    """
    new, old = (_origin(side) for side in (run, base))
    both = new.merge(old, left_index=True, right_index=True, suffixes=("_run", "_base"))
    source = both["source_run"] != both["source_base"]
    grade = both["grade_run"] != both["grade_base"]
    why = np.select(
        [source, grade],
        [
            "source " + both["source_run"] + " against " + both["source_base"],
            "grade " + both["grade_run"] + " against " + both["grade_base"],
        ],
        "",
    )
    return pd.Series(why, index=both.index, dtype=object)


def other_changes(run: Results, base: Results) -> list[str]:
    """What a reader must know besides: settings of the suite and versions of libraries, 'key old -> new'."""
    new, old = (_settings(side.manifests[0].to_dict()) for side in (run, base))
    return changes(old, new) if new and old else []


def meter_floor(results: Results, joules: pd.DataFrame, basis: str) -> pd.Series:
    """Relative difference that this meter cannot show, by condition; 0 where it states none.

    A counter's count over the joules of a window, a power meter's over the mean power. Net joules also share the
    error of the idle baseline, which no number of repeats takes away: 2 u(idle power) · time / net energy.
    """
    source = _mapping(results.manifests[0].to_dict(), "source")
    count = source.get("resolution")
    count = float(count) if isinstance(count, int | float) else 0.0
    gross = joules["energy_gross_j"]
    if source.get("kind") == "counter":
        floor = count / (gross * joules["executions"].fillna(1).clip(lower=1))
    else:
        floor = count * joules["train_time_s"] / gross
    if basis == "net":
        floor = floor + 2 * _idle_u_w(results.manifests[0].to_dict()) * joules["train_time_s"] / joules["energy_net_j"]
    floors: pd.Series = floor.astype(float).fillna(0.0).groupby(joules["condition"]).median()
    return floors


def _origin(joules: pd.DataFrame) -> pd.DataFrame:
    facts = joules[["condition", "source", "source_kind", "grade"]].drop_duplicates()
    facts["source"] = facts["source"].fillna("not named") + " (" + facts["source_kind"].fillna("kind not stated") + ")"
    facts["grade"] = facts["grade"].fillna("none")
    grouped = facts.groupby("condition")
    # letters are in order: the worst grade is the largest, and "none" comes after them
    return pd.DataFrame({"source": grouped["source"].max(), "grade": grouped["grade"].max()})


def device_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two devices the same one for joules. The manifest's `device` must be there."""
    facts = manifest["device"]
    memory = facts.get("memory_bytes")
    # what a kernel keeps of the memory for itself changes with its version: to the GiB it is the same machine
    gib = round(memory / 2**30) if isinstance(memory, int | float) else None
    return {key: facts.get(key) for key in _BOARD} | {"memory_gib": gib, "device": manifest.get("torch_device")}


def meter_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two meters the same one."""
    source = _mapping(manifest, "source")
    return flat({key: source.get(key) for key in _METER})


def suite_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a suite asks of each of its conditions: its settings, without its axes."""
    content = flat(_content(manifest))
    return {key: value for key, value in content.items() if not any(_under(key, axis) for axis in _AXES)}


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    kept = suite_settings(manifest)
    versions = _mapping(manifest, "versions")
    return kept | {name: versions.get(name) for name in ("jouletune", "torch", "torchvision") if name in versions}


def _content(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(manifest, "suite"), "content")


def _under(key: str, axis: str) -> bool:
    return key == axis or key.startswith(f"{axis}.")


def _mapping(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, Mapping) else {}


def _idle_u_w(manifest: Mapping[str, Any]) -> float:
    """Largest standard uncertainty of an idle baseline of the run, W; 0 where none is stated."""
    sessions = manifest.get("sessions")
    baselines = [
        idle
        for session in (sessions if isinstance(sessions, list) else [])
        if isinstance(session, Mapping) and isinstance(session.get("idle"), list)
        for idle in session["idle"]
    ]
    stated = [idle.get("u_power_w") for idle in baselines if isinstance(idle, Mapping)]
    return max((float(u) for u in stated if isinstance(u, int | float)), default=0.0)
