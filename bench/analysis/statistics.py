"""Intervals and tests for few repeats: one sample, two, pairs, the log scale, one proportion, many tests at once.

Every interval is two-sided, 95 % by default. With fewer than two values there is none: it stays None.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

CONFIDENCE = 0.95
SIGN_FLIP_LIMIT = 12
"""Largest number of pairs whose 2**n sign patterns are all counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its spread, in the unit of its values.

    Attributes:
        n: number of values behind it.
        mean: None when n = 0.
        sd: sample standard deviation (n - 1), None when n < 2.
        lo, hi: ends of the interval, None when n < 2.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    lo: float | None = None
    hi: float | None = None


def t_interval(values: Sequence[float] | NDArray[np.float64], confidence: float = CONFIDENCE) -> Estimate:
    """Mean and t interval: mean ± t(n - 1) · sd / √n (Student 1908, "The probable error of a mean")."""
    sample = np.asarray(values, dtype=float)
    sample = sample[~np.isnan(sample)]
    n = len(sample)
    if n == 0:
        return Estimate(n=0)
    mean = float(sample.mean())
    if n == 1:
        return Estimate(n=1, mean=mean)
    sd = float(sample.std(ddof=1))
    half = float(half_width(np.array([n]), np.array([sd]), confidence)[0])
    return Estimate(n=n, mean=mean, sd=sd, lo=mean - half, hi=mean + half)


def half_width(
    n: NDArray[np.float64] | NDArray[np.int64], sd: NDArray[np.float64], confidence: float = CONFIDENCE
) -> NDArray[np.float64]:
    """Half the t interval, t(n - 1) · sd / √n, for many samples at once; nan where n < 2."""
    count = np.asarray(n, dtype=float)
    degrees = np.where(count >= 2, count - 1, np.nan)
    quantile = np.asarray(stdtrit(degrees, (1 + confidence) / 2), dtype=float)
    return np.asarray(quantile * np.asarray(sd, dtype=float) / np.sqrt(count), dtype=float)


def paired_log_ratio(
    numerator: Sequence[float], denominator: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate:
    """Ratio numerator / denominator with the t interval of its mean logarithm, transformed back.

    exp(mean ± t · sd / √n) of ln(numerator / denominator): a geometric mean, so that a over b and b over a
    say the same (Gaddum 1945, "Lognormal distributions"). `sd` stays on the log scale. Pairs with a side that
    is missing or not positive have no logarithm and are left out.
    """
    a, b = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal lengths, not {len(a)} and {len(b)}")
    usable = (a > 0) & (b > 0)
    logs = t_interval(np.log(a[usable] / b[usable]), confidence)
    mean, lo, hi = (None if value is None else math.exp(value) for value in (logs.mean, logs.lo, logs.hi))
    return Estimate(n=logs.n, mean=mean, sd=logs.sd, lo=lo, hi=hi)


def independent_error(
    first: NDArray[np.float64], first_degrees: object, second: NDArray[np.float64], second_degrees: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard error of the difference of two independent means, and its degrees of freedom, element by element.

    √(u₁² + u₂²), u the standard error of each, with (u₁² + u₂²)² / (u₁⁴/d₁ + u₂⁴/d₂) degrees (Welch 1947, "The
    generalization of Student's problem"). A spread that is known and not estimated has d = inf.
    """
    one, two = np.asarray(first, dtype=float) ** 2, np.asarray(second, dtype=float) ** 2
    d_one, d_two = np.asarray(first_degrees, dtype=float), np.asarray(second_degrees, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = (one + two) ** 2 / (one**2 / d_one + two**2 / d_two)
    # no spread on either side: any number of degrees gives the same interval, of no width
    degrees = np.where(one + two == 0, np.minimum(d_one, d_two), degrees)
    return np.sqrt(one + two), np.asarray(degrees, dtype=float)


def t_test(
    change: NDArray[np.float64],
    error: NDArray[np.float64],
    degrees: NDArray[np.float64],
    confidence: float = CONFIDENCE,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the t interval and two-sided p of "no change", element by element (Student 1908). nan stays nan."""
    many = np.minimum(degrees, 1e9)  # scipy's quantile is the normal one there, and not defined at infinity everywhere
    half = np.where(error == 0, 0.0, stdtrit(many, (1 + confidence) / 2) * error)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(many, -np.abs(change) / error)
    p = np.where(error == 0, np.where(change == 0, 1.0, 0.0), p)
    return change - half, change + half, np.where(np.isnan(change), np.nan, p)


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p values adjusted for how many there are: the chance of any false alarm among them stays below the level.

    The i-th smallest of m becomes the largest of (m - j + 1) · p₍ⱼ₎ for j ≤ i, at most 1 (Holm 1979, "A simple
    sequentially rejective multiple test procedure"). It holds however the tests depend on each other. A nan is no
    test: it stays, and does not count.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def wilson_interval(fraction: float, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of one proportion, e.g. an accuracy on `trials` test images (Wilson 1927).

    Raises:
        ValueError: no trials, or a fraction beyond 0..1.
    """
    if trials < 1 or not 0 <= fraction <= 1:
        raise ValueError(f"needs a fraction of at least one trial, not {fraction} of {trials}")
    z = float(ndtri((1 + confidence) / 2))
    scale = 1 + z * z / trials
    centre = (fraction + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(fraction * (1 - fraction) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_flip_p(differences: Sequence[float] | NDArray[np.float64]) -> float | None:
    """Exact two-sided p of paired differences under random signs (Fisher 1935, "The design of experiments").

    The share of the 2**n sign patterns whose sum is at least as far from 0 as the one observed. None with no
    pairs or more than SIGN_FLIP_LIMIT. Its least value is 2 / 2**n: below six pairs it cannot reach 0.05.
    """
    sample = np.asarray(differences, dtype=float)
    sample = sample[~np.isnan(sample)]
    if not 1 <= len(sample) <= SIGN_FLIP_LIMIT:
        return None
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(sample))))
    sums = np.abs(signs @ sample)
    # a tolerance of rounding: the observed pattern must count itself
    return float(np.mean(sums >= abs(sample.sum()) - 1e-12 * np.abs(sample).sum()))


def summarise(frame: pd.DataFrame, value: str, by: list[str]) -> pd.DataFrame:
    """n, mean, sd, lo, hi of one column per group, indexed by `by`: t_interval for many groups at once."""
    table = frame.groupby(by, sort=False)[value].agg(["count", "mean", "std"])
    table.columns = pd.Index(["n", "mean", "sd"])
    half = half_width(table["n"].to_numpy(), table["sd"].to_numpy(dtype=float))
    table["lo"] = table["mean"] - half
    table["hi"] = table["mean"] + half
    return table
