"""Decide whether joules and accuracies of two runs may be compared, and say what else differs between the runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench.read.results import Results
from bench.store.difference import changes, flat
from bench.store.manifest import Manifest

_BOARD = ("board", "cpu_model", "logical_cores")
_METER = ("kind", "scope", "covers")
_NOT_IDENTITY = ("firmware", "path", "port")
"""Facts of a meter that may change while it stays the same meter."""
_AXES = ("name", "title", "version", "data", "work", "train_size", "blocks", "methods", "seeds", "axes", "exclude",
         "timeout_s", "energy.repeats", "battery")  # fmt: skip
"""Keys of a suite that name its cells; the records themselves tell which there are."""


def refusal(run: Results, base: Results) -> str:
    """Say why no joules of these runs may be compared, '' where nothing forbids it: another device or meter."""
    new, old = run.manifests[0], base.manifests[0]
    for name, manifest in (("RUN", new), ("BASE", old)):
        if manifest.device is None:
            return f"the device of {name} is not known (its manifest.json is missing or does not say)"
    for what, facts in (("device", device_facts), ("meter", meter_facts)):
        if found := changes(facts(old), facts(new)):
            return f"another {what} ({found[0]})"
    return ""


def another_meter(run: Results, base: Results) -> bool:
    """Whether the joules of two runs have different meters, so that a gain of one is not that of the other."""
    new, old = (meter_facts(side.manifests[0]) for side in (run, base))
    return bool(changes(old, new))


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


def condition_refusals(run: pd.DataFrame, base: pd.DataFrame, manifests: tuple[Manifest, Manifest]) -> pd.Series:
    """Say by condition why joules may not be compared, '' or the reason: another source or grade. Takes measured
    records.

    A condition's grade is the worst of its repeats: a mean is as good as its weakest part.
    """
    new, old = (_origin(side, manifest) for side, manifest in zip((run, base), manifests, strict=True))
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
    """List other differences: settings of the suite and versions of libraries, as 'key old -> new'."""
    new, old = (_settings(side.manifests[0]) for side in (run, base))
    return changes(old, new) if new and old else []


def meter_floor(results: Results, joules: pd.DataFrame, basis: str) -> pd.Series:
    """Relative difference that this meter cannot show, by condition; 0 where it states none.

    A counter's count over the joules of a window, a power meter's over the mean power. Net joules also share the
    error of the idle baseline, which no number of repeats takes away: 2 u(idle power) · time / net energy.
    """
    manifest = results.manifests[0]
    count = (manifest.source and manifest.source.resolution) or 0.0
    gross = joules["energy_gross_j"]
    if manifest.source is not None and manifest.source.kind == "counter":
        floor = count / (gross * joules["executions"].fillna(1).clip(lower=1))
    else:
        floor = count * joules["train_time_s"] / gross
    if basis == "net":
        idle_u_w = max((idle.u_power_w for idle in manifest.idle if idle.u_power_w is not None), default=0.0)
        floor = floor + 2 * idle_u_w * joules["train_time_s"] / joules["energy_net_j"]
    floors: pd.Series = floor.astype(float).fillna(0.0).groupby(joules["condition"]).median()
    return floors


def _origin(joules: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    facts = joules[["condition", "source", "source_kind", "grade"]].drop_duplicates()
    names = {name: source_name(name, manifest) for name in facts["source"].dropna().unique()}
    facts["source"] = (
        facts["source"].map(names).fillna("not named") + " (" + facts["source_kind"].fillna("kind not stated") + ")"
    )
    facts["grade"] = facts["grade"].fillna("none")
    grouped = facts.groupby("condition")
    # letters are in order: the worst grade is the largest, and "none" comes after them
    return pd.DataFrame({"source": grouped["source"].max(), "grade": grouped["grade"].max()})


def device_facts(manifest: Manifest) -> dict[str, Any]:
    """What must agree for two devices to count as one where joules are compared."""
    facts = manifest.device.to_dict() if manifest.device else {}
    memory = facts.get("memory_bytes")
    # what a kernel keeps of the memory for itself changes with its version: to the GiB it is the same machine
    gib = None if memory is None else round(memory / 2**30)
    known = {key: facts.get(key) for key in _BOARD} | {"memory_gib": gib, "device": manifest.torch_device}
    if not manifest.target:
        return known
    if str(manifest.target.get("name")).startswith(
        "ssh:"
    ):  # the device is the board; another one of its kind is another
        return known | {"target": str(manifest.target["name"]).partition("?")[0]}
    # where the work ran elsewhere, this machine is not the device; the port it hung on does not matter
    board = {key: value for key, value in manifest.target.items() if key != "name"}
    return {"target": board or manifest.target.get("name")}


def meter_facts(manifest: Manifest) -> dict[str, Any]:
    """What must agree for two meters to count as one: make, model, serial number, profile, scope and what it covers.

    Never what a meter shows at the moment, as its resolution does, nor where it is plugged in: the same unit may be on
    another port, and another unit on the same one. Of a unit without a serial number the port is all that tells it from
    another of its kind.
    """
    facts = manifest.source.to_dict() if manifest.source else {}
    device, params = _mapping(facts, "device"), _mapping(facts, "params")
    name = None if manifest.source is None else source_name(manifest.source.name, manifest)
    known: dict[str, Any] = {"name": name} | {key: facts.get(key) for key in _METER}
    known |= {"device": {key: value for key, value in device.items() if key not in _NOT_IDENTITY}}
    known |= {"params": {key: value for key, value in params.items() if key != "profile"}, "profile": _profile(params)}
    return flat(known)


def source_name(name: str | None, manifest: Manifest) -> str | None:
    """Name of a source without the port, where the meter sends a serial number that tells it from others."""
    has_serial = bool(manifest.source and manifest.source.device.get("serial"))
    return name.partition(":")[0] if name and has_serial else name


def _profile(params: Mapping[str, Any]) -> str | None:
    profile = params.get("profile")
    return str(profile.get("sha256")) if isinstance(profile, Mapping) else None


def suite_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that all cells of a suite share: its content without its axes, keys joined by dots."""
    settings = flat(content)
    return {
        key: value for key, value in settings.items() if not any(f"{key}.".startswith(f"{axis}.") for axis in _AXES)
    }


def _settings(manifest: Manifest) -> dict[str, Any]:
    known = manifest.versions | {"jouletune": manifest.jouletune}
    versions = {name: known.get(name) for name in ("jouletune", "torch", "torchvision")}
    return suite_settings(manifest.content) | {name: value for name, value in versions.items() if value is not None}


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}
