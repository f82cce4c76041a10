"""Model series as a slowly drifting level under autocorrelated noise: estimate the noise, and test for steps.

    y_t = level_t + a_t,   level_t = level_{t-1} + drift_t (+ a step),   a_t = phi a_{t-1} + e_t

Many series at once, one row each, nights in columns. A night without a value is nan.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DIFFUSE = 1e7
"""Variance, in units of the noise's, of a level of which nothing is known: at the start and after an accepted step."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of each series while nothing changes, one value per series.

    Attributes:
        sd: stationary standard deviation of the noise a_t, in the unit of the values.
        phi: its autocorrelation from one night to the next, 0 to below 1.
        drift: standard deviation of the level's drift in one night, as a share of `sd`.
    """

    sd: Floats
    phi: Floats
    drift: Floats

    def of(self, series: NDArray[np.intp]) -> Noise:
        """Select some series."""
        return Noise(self.sd[series], self.phi[series], self.drift[series])


@dataclass(frozen=True, slots=True)
class Fit:
    """Result of a pass over all series. Arrays are series x nights; all but `level` are in units of the noise's sd.

    Attributes:
        score, information: a step that starts at a night is estimated at score / information, with the standard
            error 1 / sqrt(information); information is 0 where the data tell nothing.
        innovation: value less its forecast from the nights before, standardised; nan where there is none, and where
            nothing was known of the level.
        level: the smoothed level, in the unit of the values.
    """

    score: Floats
    information: Floats
    passing: Floats
    innovation: Floats
    level: Floats

    def of(self, series: NDArray[np.intp]) -> Fit:
        """Select some series."""
        return Fit(*(getattr(self, spec.name)[series] for spec in fields(self)))


def fit(values: Floats, noise: Noise, steps: NDArray[np.bool_], passing: NDArray[np.bool_]) -> Fit:
    """Run a Kalman filter and smoother with a diffuse start and a diffuse shock at each accepted step.

    The score r and the information N of a shock to the level are those of de Jong and Penzer 1998, "Diagnosing shocks
    in time series", equations 5 and 6: r/N is its generalised least squares estimate, r/sqrt(N) the t statistic, for
    every night from the one pass.

    Args:
        values: series x nights, nan where missing.
        noise: of each series.
        steps: series x nights, True at the first night of a new level.
        passing: series x nights, True at the first night of an excursion that fades.
    """
    seen = ~np.isnan(values)
    scaled = np.where(seen, values, 0.0) / noise.sd[:, None]
    phi, q = noise.phi, noise.drift**2
    n_series, n_nights = values.shape
    # each by night first: a night's row is contiguous
    innovations, variances = np.zeros((n_nights, n_series)), np.ones((n_nights, n_series))
    gains, predicted = np.zeros((2, n_nights, n_series)), np.zeros((2, n_nights, n_series))
    covariances = np.zeros((3, n_nights, n_series))
    level, remembered = np.zeros(n_series), np.zeros(n_series)
    p, c, s = np.full(n_series, _DIFFUSE), np.zeros(n_series), np.ones(n_series)
    stepped, excursion, complete = (
        np.asarray(flag).tolist() for flag in (steps.any(axis=0), passing.any(axis=0), seen.all(axis=0))
    )
    left = 1 - phi**2
    for night in range(n_nights):
        if stepped[night]:
            p = p + np.where(steps[:, night], _DIFFUSE, 0.0)
        if excursion[night]:
            s = s + np.where(passing[:, night], _DIFFUSE, 0.0)
        predicted[0, night], predicted[1, night] = level, remembered
        covariances[0, night], covariances[1, night], covariances[2, night] = p, c, s
        of_level, of_noise = p + c, c + s
        variance = of_level + of_noise
        surprise = scaled[:, night] - level - remembered
        gain_level, gain_noise = of_level / variance, of_noise / variance
        if not complete[night]:
            surprise, gain_level, gain_noise = (
                np.where(seen[:, night], part, 0.0) for part in (surprise, gain_level, gain_noise)
            )
        innovations[night], variances[night] = surprise, variance
        gains[0, night], gains[1, night] = gain_level, gain_noise
        level = level + gain_level * surprise
        remembered = phi * (remembered + gain_noise * surprise)
        c = phi * (c - gain_level * of_noise)
        p = p - gain_level * of_level + q
        s = phi**2 * (s - gain_noise * of_noise) + left
    forward = _Forward(seen.T, innovations, variances, gains, predicted[0], covariances)
    score, information, fading, smooth = _backwards(forward, phi)
    blind = ~seen.T | (variances > _DIFFUSE / 10)
    standard = np.where(blind, np.nan, innovations / np.sqrt(variances))
    return Fit(score.T, information.T, fading.T, standard.T, smooth.T * noise.sd[:, None])


class _Forward(NamedTuple):
    """Arrays that the smoother takes over from the filter, nights first."""

    seen: NDArray[np.bool_]
    innovations: Floats
    variances: Floats
    gains: Floats
    predicted: Floats
    covariances: Floats


def _backwards(forward: _Forward, phi: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    seen, innovations, variances, gains, predicted, covariances = forward
    n_nights, n_series = seen.shape
    score, information, fading, smooth = (np.zeros((n_nights, n_series)) for _ in range(4))
    r_level, r_noise, n11, n12, n22 = (np.zeros(n_series) for _ in range(5))
    for night in reversed(range(n_nights)):
        k1, k2 = gains[0, night], gains[1, night]
        inverse = np.where(seen[night], 1 / variances[night], 0.0)
        # L = T (I - K Z): what a shock tonight leaves for tomorrow's forecast error
        l11, l12, l21, l22 = 1 - k1, -k1, -phi * k2, phi - phi * k2
        weighted = innovations[night] * inverse
        r_level, r_noise = weighted + l11 * r_level + l21 * r_noise, weighted + l12 * r_level + l22 * r_noise
        n11, n12, n22 = (
            inverse + l11 * l11 * n11 + 2 * l11 * l21 * n12 + l21 * l21 * n22,
            inverse + l11 * l12 * n11 + (l11 * l22 + l12 * l21) * n12 + l21 * l22 * n22,
            inverse + l12 * l12 * n11 + 2 * l12 * l22 * n12 + l22 * l22 * n22,
        )
        score[night], information[night] = r_level, n11
        fading[night] = r_noise / np.sqrt(np.maximum(n22, 1e-9))
        p, c, _ = covariances[:, night]
        smooth[night] = predicted[night] + p * r_level + c * r_noise
    return score, information, fading, smooth


MAX_LAG = 15
"""Nights between two values of which a difference is taken, at most (Romano et al. 2022 take 15)."""

NEIGHBOURS = 2
"""Nights on either side that an odd night is held against. An excursion of so many is odd, a longer one is not."""

ODD = 5.0
"""Robust standard deviations from its neighbours' median beyond which a night is odd."""

MIN_DRIFT = 0.05
"""Least drift of the level in one night, as a share of the noise. It makes a step one against some twenty nights on
either side, not against the whole year: a season or a bump elsewhere in the year cannot hide or feign it."""

OWN_SHARE = 0.3
"""Of a series in the estimate of its memory and its drift; the rest is what all series show."""

USUAL_PHI, USUAL_DRIFT, USUAL_WEIGHT = 0.3, 0.25, 2.0
"""A memory and a drift to begin with, and as how many series they count: where there are few, they say too little."""

_SHORT = 5
MAX_PHI, MAX_DRIFT = 0.9, 1.0
_MAD = 1.4826
_PHIS = np.linspace(0.0, MAX_PHI, 10)


def odd_nights(values: Floats, floor: Floats) -> NDArray[np.bool_]:
    """Find nights far off the median of themselves and their neighbours (the identifier of Hampel 1974).

    A step is not odd, from its third night on: the median goes with it. The last night of a step that is younger is;
    it is left out until there is more to go by.

    Args:
        values: series x nights, nan where missing; neighbours are the nearest nights that have a value.
        floor: of each series, least standard deviation that values can have.
    """
    odd = np.zeros(values.shape, bool)
    for number, row in enumerate(values):
        seen = np.flatnonzero(~np.isnan(row))
        if len(seen) <= 2 * NEIGHBOURS:
            continue
        present = row[seen]
        windows = sliding_window_view(present, 2 * NEIGHBOURS + 1)
        middle = np.median(windows, axis=1)
        # the first and the last nights are held against the first and the last full window
        medians = np.concatenate([np.repeat(middle[0], NEIGHBOURS), middle, np.repeat(middle[-1], NEIGHBOURS)])
        off = np.abs(present - medians)
        odd[number, seen] = off > ODD * max(_MAD * float(np.median(off)), float(floor[number]))
    return odd


def spreads(values: Floats, floor: Floats, steps: NDArray[np.bool_]) -> Floats:
    """Estimate robust variances of differences over 1, 2, ... nights, lags x series; nan where there are none.

    The spreads are taken as medians of absolute values, which a few odd differences hardly move.

    Args:
        values: series x nights, nan where missing.
        floor: of each series, least standard deviation, in the unit of the values.
        steps: series x nights, True at the first night of a new level; differences across one are left out.
    """
    n_series, n_nights = values.shape
    lags = range(1, max(2, min(MAX_LAG, n_nights // 3)) + 1)
    segment = steps.cumsum(axis=1)
    found = np.zeros((len(lags), n_series))
    for place, lag in enumerate(lags):
        differences = np.abs(values[:, lag:] - values[:, :-lag])
        differences[segment[:, lag:] != segment[:, :-lag]] = np.nan
        found[place] = _MAD * median(differences)
    return np.asarray(np.maximum(found, floor) ** 2)


def estimate(spread: Floats, floor: Floats) -> Noise:
    """Estimate the noise of each series from its `spreads`.

    With noise of variance s2 and autocorrelation phi, and a drift of variance d2 a night, a difference over k nights
    has the variance k d2 + 2 s2 (1 - phi^k); phi, s2 and d2 are those that fit best (Romano, Rigaill, Runge and
    Fearnhead 2022, "Detecting abrupt changes in the presence of local fluctuations and autocorrelated noise").

    Series of one device are much alike in how they drift, and a year says little of one series' drift, so the shape of
    the spreads over k is to OWN_SHARE that of the series and for the rest the mean over all; its size is its own.
    """
    n_series = spread.shape[1]
    lags = np.arange(1, len(spread) + 1)
    spread = _shared(spread)
    weight = 1 / spread**2  # a spread is known to a share of itself
    best = np.full(n_series, np.inf)
    found = np.zeros((3, n_series))
    for phi in _PHIS:
        s2, d2, misfit = _fit(lags.astype(float), 2 * (1 - phi**lags), spread, weight)
        better = misfit < best
        best = np.where(better, misfit, best)
        found = np.where(better, np.stack([s2, np.full(n_series, phi), d2]), found)
    s2, phi_found, d2 = found
    sd = np.maximum(np.sqrt(s2), np.maximum(floor, np.sqrt(d2) / MAX_DRIFT))
    drift = np.clip(np.sqrt(d2) / sd, MIN_DRIFT, MAX_DRIFT)
    return Noise(sd=sd, phi=phi_found, drift=drift)


def median(values: Floats) -> Floats:
    """Median of each row without its nan; nan where there is nothing else. Faster than numpy's own."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)  # nan comes last
    n = (~np.isnan(values)).sum(axis=1)
    rows = np.arange(len(values))
    lower, upper = ordered[rows, np.maximum(n - 1, 0) // 2], ordered[rows, np.minimum(n // 2, values.shape[1] - 1)]
    return np.where(n > 0, (lower + upper) / 2, np.nan)


def _shared(spread: Floats) -> Floats:
    """Draw the shape of spreads (lags x series) over the lags towards the mean shape; fill missing ones."""
    lags = np.arange(1, len(spread) + 1)
    usual = lags * USUAL_DRIFT**2 + 2 * (1 - USUAL_PHI**lags)
    usual = (usual / usual[:_SHORT].mean())[:, None]
    known = ~np.isnan(spread)
    short = known[:_SHORT].sum(axis=0)
    size = np.where(short > 0, np.nansum(spread[:_SHORT], axis=0) / np.maximum(short, 1), 1.0)
    shape = spread / size
    mean = (np.nansum(shape, axis=1, keepdims=True) + USUAL_WEIGHT * usual) / (
        known.sum(axis=1, keepdims=True) + USUAL_WEIGHT
    )
    return np.asarray((OWN_SHARE * np.where(known, shape, mean) + (1 - OWN_SHARE) * mean) * size)


def _fit(lags: Floats, shape: Floats, spread: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """s2, d2 >= 0 of spread = s2 shape + d2 lags by weighted least squares, and the misfit."""
    a11 = np.einsum("k,kn->n", shape**2, weight)
    a12 = np.einsum("k,kn->n", shape * lags, weight)
    a22 = np.einsum("k,kn->n", lags**2, weight)
    b1 = np.einsum("k,kn,kn->n", shape, weight, spread)
    b2 = np.einsum("k,kn,kn->n", lags, weight, spread)
    determinant = np.maximum(a11 * a22 - a12**2, 1e-300)
    s2, d2 = (a22 * b1 - a12 * b2) / determinant, (a11 * b2 - a12 * b1) / determinant
    only_s, only_d = b1 / np.maximum(a11, 1e-300), b2 / np.maximum(a22, 1e-300)
    s2, d2 = (
        np.where(d2 < 0, only_s, np.where(s2 < 0, 0.0, s2)),
        np.where(d2 < 0, 0.0, np.where(s2 < 0, only_d, d2)),
    )
    misfit = (weight * (spread - s2 * shape[:, None] - d2 * lags[:, None]) ** 2).sum(axis=0)
    return s2, d2, misfit
