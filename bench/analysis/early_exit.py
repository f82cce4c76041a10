"""Early exits: joules of inference by the share of images that a part model answers, measured and by a model of them.

E(r) = E_part + (1 - r) (E_full - E_part), where r is the realised share (MicroT, arXiv 2403.08040, whose published
joules follow it). E_full and E_part are those measured at the ratios 0 and 1; the others check it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.read.results import GROUP, Results

COVERAGE = 2.0
"""k of the intervals."""

_KEYS = ["group", "arm"]


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """The two figures, joules (or seconds, or multiply-accumulates) per image, with their standard uncertainties.

    Attributes:
        full, part: of an image that goes through both parts, and of one that the part answers.
        u_full, u_part: of these means, k = 1.
    """

    full: float
    part: float
    u_full: float = 0.0
    u_part: float = 0.0

    def at(self, ratio: float) -> float:
        """What an image takes on average where the part answers this share."""
        return self.part + (1 - ratio) * (self.full - self.part)

    def u_at(self, ratio: float) -> float:
        """Standard uncertainty of that."""
        return math.hypot((1 - ratio) * self.u_full, ratio * self.u_part)

    def saving(self, ratio: float) -> float:
        """Share saved against answering all by the full model: r (1 - E_part / E_full)."""
        return 1 - self.at(ratio) / self.full

    def ratio_for(self, joules: float) -> float | None:
        """The share at which an image takes so much; None where neither end allows it."""
        if not min(self.full, self.part) <= joules <= max(self.full, self.part) or self.full == self.part:
            return None
        return (self.full - joules) / (self.full - self.part)


def exit_table(results: Results) -> pd.DataFrame:
    """One row per (group, arm, ratio) of inference with a ratio, for what has a ratio of 0 and one of 1.

    Columns: data, train_size, arm, n (repeats), ratio, realised, accuracy, accuracy_part, accuracy_full,
    calibration_error, image_j, u_j (k = 1, of the mean, from the scatter over seeds and repeats), image_s, predicted_j,
    u_predicted_j, within (whether the two differ by less than k = 2 times the root of the squared sum; None at the
    ends that the model was taken from), saving, saving_macs (what the multiply-accumulates let expect).
    """
    long = pd.DataFrame(_lines(results.records))
    if long.empty:
        return long
    rows: list[dict[str, Any]] = []
    for _, part in long.groupby(_KEYS, sort=False):
        ends = {end: part[part["ratio"] == end] for end in (0.0, 1.0)}
        if any(one.empty for one in ends.values()):
            continue
        joules = EnergyModel(*_mean(ends[0.0]["image_j"], ends[1.0]["image_j"]))
        macs = EnergyModel(*_mean(ends[0.0]["image_macs"], ends[1.0]["image_macs"]))
        for ratio, same in part.groupby("ratio", sort=True):
            rows.append(_row(float(str(ratio)), same, joules, macs))
    return pd.DataFrame(rows)


def _row(ratio: float, same: pd.DataFrame, joules: EnergyModel, macs: EnergyModel) -> dict[str, Any]:
    realised = float(same["realised_of_window"].mean())
    mean, u = float(same["image_j"].mean()), _u(same["image_j"])
    predicted, u_predicted = joules.at(realised), joules.u_at(realised)
    inner = ratio not in (0.0, 1.0) and math.isfinite(mean)
    return {
        **{key: same[key].iloc[0] for key in ("data", "train_size", "arm")},
        "n": int(same["image_j"].count()),
        "ratio": ratio,
        **{key: float(same[key].mean()) for key in ("realised", "accuracy", "accuracy_part", "accuracy_full",
                                                  "calibration_error", "image_s")},
        "image_j": mean,
        "u_j": u,
        "predicted_j": predicted,
        "u_predicted_j": u_predicted,
        "within": abs(mean - predicted) <= COVERAGE * math.hypot(u, u_predicted) if inner else None,
        "saving": 1 - mean / joules.full,
        "saving_macs": macs.saving(realised),
    }  # fmt: skip


def _lines(records: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Figures per image of each repeat that had a ratio."""
    if "exits" not in records:
        return
    done = records[records["ok"] & records["exits"].notna() & (records["n_images"] > 0)]
    for row in done.to_dict("records"):
        exits = _numbers(json.loads(row["exits"]))
        if not {"ratio", "realised", "realised_of_window"} <= exits.keys():
            continue
        yield {
            # all that the label says but the ratio: runtime, batch and data
            "group": (re.sub(r"ratio=[0-9.]+,?", "", str(row["data"])), row["train_size"], row["run"]),
            **{key: row[key] for key in (*GROUP, "arm")},
            **{key: exits.get(key, math.nan) for key in ("ratio", "realised", "realised_of_window", "accuracy_part",
                                                       "accuracy_full", "calibration_error")},
            "accuracy": row["accuracy_after"],
            "image_j": row["energy_gross_j"] / row["n_images"] if row["measured"] else math.nan,
            "image_s": row["train_time_s"] / row["n_images"],
            "image_macs": row["train_macs"] / row["n_images"],
        }  # fmt: skip


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _mean(full: pd.Series, part: pd.Series) -> tuple[float, float, float, float]:
    return float(full.mean()), float(part.mean()), _u(full), _u(part)


def _u(values: pd.Series) -> float:
    """Standard uncertainty of a mean from the scatter of its values; 0 of a single one, which shows none."""
    n = int(values.count())
    return float(np.nan_to_num(values.std(ddof=1))) / math.sqrt(n) if n > 1 else 0.0


def exit_sentences(table: pd.DataFrame) -> list[str]:
    """What the model predicted, and what multiply-accumulates would have, over all rows."""
    inner = table[table["within"].notna()] if len(table) else table
    if inner.empty:
        return []
    inside = int(inner["within"].astype(bool).sum())
    residual = 100 * (inner["image_j"] / inner["predicted_j"] - 1)
    more = 100 * (inner["saving_macs"] - inner["saving"])
    said = "more" if float(more.mean()) >= 0 else "less"
    fit = (
        f"E(r) = E_part + (1 - r)(E_full - E_part), from ratios 0 and 1: {inside} of {len(inner)} means at others "
        f"lie within k = 2; residuals {residual.min():+.1f} to {residual.max():+.1f} %."
    )
    macs = (
        f"By multiply-accumulates stopping early would save {abs(float(more.mean())):.1f} points {said} than it did "
        f"(mean over these; {more.min():+.1f} to {more.max():+.1f})."
    )
    return [fit, macs]
