"""A run in the published tables' terms: the mean over corruptions, the noised blocks, the steps on random images."""

from __future__ import annotations

import dataclasses
import re

import pandas as pd

from bench.analysis import motivation
from bench.analysis.wording import count
from bench.catalog.datasets import BLOCK_NOISE
from bench.read.published import DATA, PIXELS, cost_label
from bench.read.results import Results

CORRUPTIONS = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
               "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
               "jpeg_compression")  # fmt: skip
"""The published accuracies of cifar10c are means over these, at severity 5."""

_CIFAR10C = "cifar10c"
_MEANS = ("accuracy_before", "accuracy_after", "train_time_s", "energy_gross_j", "energy_net_j", "energy_u_j",
          "energy_net_u_j", "idle_power_w", "forward_macs", "step_macs", "step_bytes", "train_macs")  # fmt: skip


SUITES = ("cifar-flip", "cifar10c", "cifar10c-like", "living17", "motivation", "system-cost", "system-cost-published")
"""Those that follow an experiment of the paper."""


def of_the_paper(results: Results) -> bool:
    """Whether it is one run, of one of these suites or of a copy that kept its name."""
    suites = [manifest.suite for manifest in results.manifests]
    return len(suites) == 1 and suites[0] is not None and suites[0].name in SUITES


def in_published_terms(mine: Results, theirs: Results) -> tuple[Results, Results, list[str]]:
    """The run and the published tables made comparable, and what a reader must know of that."""
    if mine.published:
        return mine, theirs, []
    folded, notes = _mean_over_corruptions(mine.records)
    return dataclasses.replace(mine, records=folded), _with_motivation(theirs, folded), notes


def published_label(data: str, dataset: str, shift: str, target: str) -> str | None:
    """Label of the published accuracies for a data label of a run, given without the copy of the data; None: none."""
    if shift == BLOCK_NOISE:
        return f"noise-in-{target}" if dataset == "cifar10" else None
    if data in {label for _, _, label in DATA.values()}:
        return data
    return {(known, kind): label for known, kind, label in DATA.values()}.get((dataset, shift))


def cost_labels() -> dict[str, str]:
    """Data label of steps on random images -> of the published costs at their resolution."""
    return {f"random-{pixels}px": cost_label(pixels) for pixels in PIXELS.values()}


def _mean_over_corruptions(records: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Records of single corruptions made into one of their mean, per seed and repeat that all of them have."""
    kind = records["shift"].str.removesuffix("-like")
    other = records["data"].str.contains(r"-sev[1-4]\b", regex=True)
    mask = records["dataset"].isin(["cifar10", _CIFAR10C]) & kind.isin(CORRUPTIONS) & ~other
    if not mask.any():
        return records, []
    of = records[mask & records["ok"]].assign(kind=kind)
    named = [name for name in CORRUPTIONS if name in set(kind[mask])]
    keys = ["run", "train_size", "blocks", "arm", "role", "method", "variant", "seed", "repeat"]
    groups = of.drop_duplicates([*keys, "kind"]).groupby(keys, sort=False)
    rows = groups.first()
    for column in _MEANS:  # a corruption without joules leaves the mean without
        rows[column] = groups[column].mean().where(groups[column].count() == groups[column].size())
    rows["measured"] = groups["measured"].all()
    whole = rows[groups["kind"].nunique() == len(named)].reset_index()
    variants = whole["data_variant"].dropna()
    label = _CIFAR10C + (f" ({variants.iat[0]})" if len(variants) else "")
    way = whole["variant"].map(lambda variant: f", {variant}" if variant else "")
    whole = whole.assign(
        data=label + way, plain=label, dataset="cifar10", shift="corruptions", cell_id=_cell_ids(whole)
    )
    missing = [name for name in CORRUPTIONS if name not in named]
    notes = [f"{_CIFAR10C} is the mean over {count(len(named), 'corruption')} of the run."]
    if missing:
        notes = [
            f"{_CIFAR10C} is the mean over {', '.join(named)} here, and over all 15 corruptions as published: they "
            "would differ for that reason alone."
        ]
    if records.loc[mask, "shift"].str.endswith("-like").any() or (records.loc[mask, "dataset"] == "cifar10").any():
        notes.append("The corruptions of the run are made here; the published ones are those of the archive.")
    return pd.concat([records[~mask], whole[records.columns]], ignore_index=True), notes


def _cell_ids(rows: pd.DataFrame) -> pd.Series:
    parts = _CIFAR10C + "/n=" + rows["train_size"].map("{:g}".format)
    parts += rows["variant"].map(lambda variant: f"/{variant}" if variant else "") + "/" + rows["blocks"]
    ids: pd.Series = parts + "/s=" + rows["seed"].astype(str)
    return ids


def _with_motivation(theirs: Results, mine: pd.DataFrame) -> Results:
    """The published motivation beside the rest, where the run has its like; its train size is the run's."""
    noised = mine[mine["shift"] == BLOCK_NOISE]
    if noised.empty:
        return theirs
    published = motivation().records
    copies = [published.assign(train_size=size) for size in noised["train_size"].unique()]
    return dataclasses.replace(theirs, records=pd.concat([theirs.records, *copies], ignore_index=True))


def plain_label(data: str) -> str:
    """A data label without the copy of the data that it may carry, e.g. ' (JPEG)'."""
    return re.sub(r" \([^()]*\)$", "", data)
