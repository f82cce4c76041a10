"""Local level: a level that drifts slowly from night to night, under noise that remembers; and what a step would add.

    y_t = level_t + a_t,   level_t = level_{t-1} + drift_t (+ a step),   a_t = phi a_{t-1} + e_t

Many series at once, one row each, nights in columns. A night without a value is nan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DIFFUSE = 1e7
"""Variance, in units of the noise's, of a level of which nothing is known: at the start and after an accepted step."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What a series does while nothing happens, one value per series.

    Attributes:
        sd: stationary standard deviation of the noise a_t, in the unit of the values.
        phi: its autocorrelation from one night to the next, 0 to below 1.
        drift: standard deviation of the level's drift in one night, as a share of `sd`.
    """

    sd: Floats
    phi: Floats
    drift: Floats

    def of(self, series: NDArray[np.intp]) -> Noise:
        """That of some series."""
        return Noise(self.sd[series], self.phi[series], self.drift[series])


@dataclass(frozen=True, slots=True)
class Fit:
    """A pass over all series. Arrays are series x nights; everything but `level` is in units of the noise's sd.

    Attributes:
        score, information: a step that starts at a night is estimated at score / information, with the standard
            error 1 / sqrt(information); information is 0 where nothing can be said.
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
        """That of some series."""
        return Fit(
            self.score[series],
            self.information[series],
            self.passing[series],
            self.innovation[series],
            self.level[series],
        )


def fit(values: Floats, noise: Noise, steps: NDArray[np.bool_], passing: NDArray[np.bool_]) -> Fit:
    """Kalman filter and smoother with a diffuse start and a diffuse shock at each accepted step.

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
    """What the filter leaves for the smoother, nights first."""

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
