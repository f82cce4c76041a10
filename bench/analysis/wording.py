"""Format figures and findings for people. A missing value is a dash, never 0."""

from __future__ import annotations

import math

import pandas as pd

from bench.analysis.statistics import Estimate

MISSING = "\N{EN DASH}"
_PREFIXES = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))


def missing(value: object) -> bool:
    """Whether a value is None or nan."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.931 -> '93.1 %'."""
    return MISSING if missing(fraction) else f"{_number(100 * float(fraction or 0), digits)} %"


def points(fraction: float | None, digits: int = 1) -> str:
    """A difference of two fractions in points, signed: 0.419 -> '+41.9'."""
    return MISSING if missing(fraction) else _number(100 * float(fraction or 0), digits, sign=True)


def interval(lo: float | None, hi: float | None, digits: int = 1) -> str:
    """Fractions as '[38.0, 45.8]', '' where there is none."""
    if missing(lo) or missing(hi):
        return ""
    return f"[{_number(100 * float(lo or 0), digits)}, {_number(100 * float(hi or 0), digits)}]"


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def joule_unit(joules: float | None) -> tuple[float, str]:
    """Factor and name of the unit that suits a figure of this size."""
    size = 0.0 if missing(joules) else abs(float(joules or 0))
    return next(((factor, name) for factor, name in _PREFIXES if size >= factor), (1.0, "J"))


def joules(value: float | None, unit: tuple[float, str] | None = None) -> str:
    """Three digits with a unit: 0.0341 -> '34.1 mJ'."""
    if missing(value):
        return MISSING
    factor, name = unit or joule_unit(value)
    scaled = float(value or 0) / factor
    digits = 0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
    return f"{_number(scaled, digits)} {name}"


def size_label(train_size: float, n_train: float | None = None) -> str:
    """A train size as the suite gave it: '10 %' of the target data, or '64 images'. 0 stands for not stated."""
    if train_size == 0:
        return MISSING
    if train_size < 1 or (train_size == 1 and n_train != 1):
        return f"{100 * train_size:g} %"
    return f"{train_size:g} image{'' if train_size == 1 else 's'}"


def count(n: float, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{n:g} {noun}{'' if n == 1 else 's'}"


def repetitions(values: pd.Series, noun: str) -> str:
    """'n = 3 seeds', 'n = 1-3 seeds', or that the number is not stated."""
    known = values.dropna()
    known = known[known > 0]
    if known.empty:
        return "n not stated"
    low, high = int(known.min()), int(known.max())
    return f"n = {count(high, noun)}" if low == high else f"n = {low}\N{EN DASH}{high} {noun}s"


def tied(winner: str, together: str) -> list[str]:
    """The arms with the largest mean: the winner, or all that `winners` names together."""
    return together.split(" and ") if together else [winner]


def units(n: pd.Series, seeds: pd.Series) -> str:
    """What a table's intervals are over: 'n = 3 seeds, 2 degrees of freedom', or that they hold for one seed only."""
    known = n.notna() & (n > 0)
    n, alone = n[known], (seeds[known] == 1) & (n[known] > 1)
    if n.empty:
        return repetitions(n, "seed")
    parts = []
    if (~alone).any():
        parts.append(repetitions(n[~alone], "seed"))
    if alone.any():
        which = "" if alone.all() else " elsewhere"
        parts.append(f"{repetitions(n[alone], 'repeat')} of one seed{which}, so the intervals hold for that seed only")
    degrees = n[n > 1] - 1
    if len(degrees):
        low, high = int(degrees.min()), int(degrees.max())
        many = count(high, "degree") if low == high else f"{low}\N{EN DASH}{high} degrees"
        parts.append(f"{many} of freedom")
    return ", ".join(parts)


def estimate_points(estimate: Estimate, digits: int = 1) -> str:
    """'+15.3 [14.1, 16.5] points'; no brackets where there is no interval."""
    spread = interval(estimate.lo, estimate.hi, digits)
    return f"{points(estimate.mean, digits)}{' ' + spread if spread else ''} points"


def estimate_percent(estimate: Estimate, digits: int = 1) -> str:
    """'41.6 % [40.2, 43.0]'; no brackets where there is no interval."""
    return f"{percent(estimate.mean, digits)} {interval(estimate.lo, estimate.hi, digits)}".strip()
