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
        common: standard uncertainty besides that of the scatter, which no repetition takes away.
        one_seed: the values are repeats of one seed, so the interval holds for that seed only.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    lo: float | None = None
    hi: float | None = None
    common: float = 0.0
    one_seed: bool = False

    @property
    def degrees(self) -> int | None:
        """Degrees of freedom of `sd`, None where there is none."""
        return self.n - 1 if self.n > 1 else None


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
    n: NDArray[np.float64] | NDArray[np.int64],
    sd: NDArray[np.float64],
    confidence: float = CONFIDENCE,
    *,
    common: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Half the interval of many means at once, nan where n < 2; without `common` it is t(n - 1) · sd / √n.

    Args:
        common: standard uncertainty of each mean that no repetition shows, see `half_of`.
    """
    count = np.asarray(n, dtype=float)
    degrees = np.where(count >= 2, count - 1, np.nan)
    return half_of(np.asarray(sd, dtype=float) / np.sqrt(count), degrees, common, confidence)


SHRINK = 0.1
"""c in `half_of`. Whatever the ratio of the two parts, the interval then covers 94.2 to 97.0 % for 1 degree of freedom,
94.9 to 96.1 % for 2 and 94.6 to 95.3 % for 4 (by quadrature in `tests/bench/analysis/test_coverage.py`); Welch's and
Satterthwaite's covers down to 87 % for 1, the two widths in quadrature up to 98.7 %."""


def half_of(
    error: NDArray[np.float64],
    degrees: NDArray[np.float64],
    common: NDArray[np.float64] | float = 0.0,
    confidence: float | NDArray[np.float64] = CONFIDENCE,
) -> NDArray[np.float64]:
    """Half the interval of a mean with a standard error e of d degrees and a known standard uncertainty u besides.

        √(z² u² + t² e² · (e² / (e² + c u²))²),  t the quantile of d degrees, z the normal one

    Both widths in quadrature (Zou and Donner 2008, "Construction of confidence limits about effect measures"), the one
    that is estimated drawn in where the other is the larger: an error of few degrees that came out large beside it
    would widen the interval far more than it widens the truth.
    """
    level = (1 + np.asarray(confidence)) / 2
    square, known = np.asarray(error, dtype=float) ** 2, np.asarray(common, dtype=float) ** 2
    many = np.minimum(degrees, 1e9)  # scipy's quantile is the normal one there, and not defined at infinity everywhere
    with np.errstate(invalid="ignore"):
        share = np.where(square > 0, square / (square + SHRINK * known), 0.0)
        scatter = np.where(square == 0, 0.0, stdtrit(many, level) ** 2 * square * share**2)
    half = np.sqrt(ndtri(level) ** 2 * known + scatter)
    return np.asarray(np.where(np.isnan(degrees) | np.isnan(square), np.nan, half), dtype=float)


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
    *,
    common: NDArray[np.float64] | float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the interval and two-sided p of "no change", element by element (Student 1908). nan stays nan.

    Args:
        common: a known standard uncertainty besides `error`, see `half_of`; p is then where the interval ends at 0.
    """
    many = np.minimum(degrees, 1e9)
    known = np.broadcast_to(np.asarray(common, dtype=float), np.shape(change))
    half = half_of(error, degrees, known, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(many, -np.abs(change) / error)
    p = np.where(error == 0, np.where(change == 0, 1.0, 0.0), p)
    mixed = np.flatnonzero((known > 0) & ~np.isnan(half))
    if len(mixed):
        p[mixed] = _p_of_half(np.abs(change)[mixed], error[mixed], np.asarray(degrees)[mixed], known[mixed])
    return change - half, change + half, np.where(np.isnan(change) | np.isnan(error), np.nan, p)


def _p_of_half(
    size: NDArray[np.float64], error: NDArray[np.float64], degrees: NDArray[np.float64], common: NDArray[np.float64]
) -> NDArray[np.float64]:
    """p whose interval is half as wide as `size`: bisection of its logarithm."""
    low, high = np.full(size.shape, math.log(1e-15)), np.zeros(size.shape)
    for _ in range(50):
        middle = (low + high) / 2
        wide = half_of(error, degrees, common, -np.expm1(middle)) > size
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.exp((low + high) / 2)


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
