"""Judge a difference: worse, better, same or not enough data. What may be chance is no change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.analysis.statistics import CONFIDENCE, holm, t_test
from bench.compare.differences import MIN_REPETITIONS

WORSE, BETTER, SAME, NOT_ENOUGH = "worse", "better", "same", "not enough data"
AGREES, DIFFERS = "agrees", "differs"
"""The words against published figures, where neither side is a version of the other."""

LEVEL = 1 - CONFIDENCE

ORDER = (WORSE, DIFFERS, BETTER, NOT_ENOUGH, SAME, AGREES, "")
"""Worst first. A condition is as bad as its worst measure; '' is not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is compared in a condition.

    Attributes:
        name: goes before its columns: accuracy, joules or saving.
        heading: as a table names it.
        unit: of a change, points or %.
        more_is_better: whether a positive change is good.
        per: what one repetition is.
    """

    name: str
    heading: str
    unit: str
    more_is_better: bool
    per: str


ACCURACY = Measure(name="accuracy", heading="accuracy", unit="points", more_is_better=True, per="seed")
JOULES = Measure(name="joules", heading="joules", unit="%", more_is_better=False, per="pair")
SAVING = Measure(name="saving", heading="energy saving", unit="points", more_is_better=True, per="pair")


def judge(table: pd.DataFrame, measure: Measure, *, narrow: float | None = None) -> pd.DataFrame:
    """Add lo, hi, p, p_holm, verdict and why to a table of contrasts.

    worse or better: the whole interval lies beyond the margin, and p, adjusted by Holm for the number of conditions, is
    at most 0.05. same: the whole interval lies within the practical margin. Else: not enough data. Against published
    figures: differs, as worse and better; agrees: the interval meets the margin and its half width is at most `narrow`.

    Args:
        table: change, error, degrees, n, test, `common` where a standard uncertainty is in no scatter, and two margins,
            all on the scale of the test: `practical`, as asked for, and `margin`, the same or more where less cannot be
            seen. Where nothing as small as the practical margin can be seen, nothing can be called the same either:
            there it is nan. Or lo, hi and p in place of error and degrees. test_error and test_degrees, where they are,
            are those of the test; then the interval of the test, not the one that is shown, decides.
        narrow: given where the contrasts are with published figures: half width up to which an interval can agree; a
            wider one would agree with anything.
    """
    if "p" not in table:
        lo, hi, p = _tested(table, "error", "degrees")
        table = table.assign(lo=lo, hi=hi, p=p)
    lo, hi = table["lo"], table["hi"]
    if "test_error" in table:
        lo, hi, p = _tested(table, "test_error", "test_degrees")
        table = table.assign(p=p)
    table = table.assign(p_holm=holm(table["p"].to_numpy(dtype=float)))
    beyond = _beyond(lo, hi, table["margin"])
    practical = table.get("practical", table["margin"])
    if narrow is None:
        within = _within(lo, hi, practical)
        changed, settled = np.where((table["change"] > 0) == measure.more_is_better, BETTER, WORSE), SAME
    else:
        within = ~beyond & ((hi - lo) / 2 <= narrow)
        changed, settled = np.full(len(table), DIFFERS), AGREES
    known, clear = table["p"].notna(), table["p_holm"] <= LEVEL
    verdict = np.select([known & beyond & clear, known & within], [changed, settled], NOT_ENOUGH)
    open_ = verdict == NOT_ENOUGH
    shown = table["lo"], table["hi"]
    reasons = {
        "beyond the margin, but not certain among so many conditions": known & beyond & ~clear,
        "the spread is not certain enough": open_ & (_beyond(*shown, table["margin"]) | _within(*shown, practical)),
        "too coarse a meter": open_ & practical.isna(),
        "too wide an interval": open_,
    }
    per = measure.per
    few = table["n"].map(lambda n: f"{n:g} {per}{'' if n == 1 else 's'}, {MIN_REPETITIONS} are the least")
    why = np.select([~known, *reasons.values()], [few, *reasons], "")
    return table.assign(verdict=verdict, why=why)


def _tested(table: pd.DataFrame, error: str, degrees: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    change, u, d = (table[name].to_numpy(dtype=float) for name in ("change", error, degrees))
    common = table["common"].to_numpy(dtype=float) if "common" in table else 0.0
    lo, hi, p = (pd.Series(one, index=table.index) for one in t_test(change, u, d, common=common))
    return lo, hi, p


def _beyond(lo: pd.Series, hi: pd.Series, margin: pd.Series) -> pd.Series:
    return (lo > margin) | (hi < -margin)


def _within(lo: pd.Series, hi: pd.Series, margin: pd.Series) -> pd.Series:
    return (lo >= -margin) & (hi <= margin)


def worst(verdicts: pd.DataFrame) -> pd.Series:
    """Take the worst verdict of each row of several columns, in ORDER."""
    rank = verdicts.map(ORDER.index).min(axis=1)
    words: pd.Series = rank.map(dict(enumerate(ORDER)))
    return words
