"""Likeness: how well the noise that was estimated describes a series, and on which nights a step may be asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.history.local_level import Fit, Floats, Noise
from bench.history.noise import median

MIN_SEGMENT = 3
"""Nights that a level must have on either side of a step."""

_CLIP = 2.0
_CLIPPED_SD = 0.8796
"""Standard deviation of a standard normal value that is clipped at +-2."""

_EFFICIENCY = 0.9
"""Of the clipped standard deviation: the share of its values that count as degrees of freedom."""

_ALLOWANCE = 1.3
"""By how much the spread of a series' statistics may exceed 1 by chance: neighbouring nights share most of theirs."""

_ROUNDS = 12
HALF_WINDOW = 60
MIN_SLOPE_NIGHTS = 50


class Nights:
    """Nights of many series on which a step may begin.

    Attributes:
        allowed: series x nights; those with a value, and at least MIN_SEGMENT values on either side in their segment.
    """

    def __init__(self, values: Floats, steps: NDArray[np.bool_]) -> None:
        self.allowed = np.zeros(values.shape, bool)
        for row, (present, bounds) in enumerate(zip(~np.isnan(values), steps, strict=True)):
            nights = np.flatnonzero(present)
            edges = np.searchsorted(nights, np.flatnonzero(bounds))
            for start, end in zip([0, *edges], [*edges, len(nights)], strict=True):
                self.allowed[row, nights[start + MIN_SEGMENT : max(end - MIN_SEGMENT + 1, start)]] = True


def ratio(result: Fit, allowed: NDArray[np.bool_]) -> Floats:
    """t of a step at each night but for the scale of the noise; 0 where none may be."""
    usable = allowed & (result.information > 1e-9)
    return np.where(usable, result.score / np.sqrt(np.where(usable, result.information, 1.0)), 0.0)


def slope_of(t: Floats, allowed: NDArray[np.bool_]) -> Floats:
    """Median of t over HALF_WINDOW nights on either side, series x nights: on a slope each night is a little of a step.

    0 where there are fewer than MIN_SLOPE_NIGHTS nights. Between centres half a window apart it is interpolated.
    """
    n_nights = t.shape[1]
    if n_nights < MIN_SLOPE_NIGHTS:
        return np.zeros(t.shape)
    known = np.where(allowed, t, np.nan)
    centres = np.unique(np.linspace(0, n_nights - 1, 2 + n_nights // (HALF_WINDOW // 2)).round().astype(int))
    windows = [known[:, max(0, centre - HALF_WINDOW) : centre + HALF_WINDOW + 1] for centre in centres]
    enough = [(~np.isnan(window)).sum(axis=1) >= MIN_SLOPE_NIGHTS // 2 for window in windows]
    medians = np.stack([np.where(ok, median(window), 0.0) for ok, window in zip(enough, windows, strict=True)], axis=1)
    place = np.interp(np.arange(n_nights), centres, np.arange(len(centres)))
    low = np.minimum(place.astype(int), len(centres) - 2)
    share = place - low
    return np.asarray(medians[:, low] * (1 - share) + medians[:, low + 1] * share)


def scale_of(result: Fit, noise: Noise, floor: Floats) -> tuple[Floats, Floats]:
    """Size of the innovations against what the noise says, robust to a few large ones, and degrees of freedom.

    The standard deviation of values clipped at twice itself (Huber 1964, "Robust estimation of a location parameter",
    proposal 2), at least `floor`.
    """
    innovation = result.innovation
    n = (~np.isnan(innovation)).sum(axis=1)
    scale, least = np.ones(len(innovation)), floor / noise.sd
    for _ in range(_ROUNDS):
        clipped = np.clip(innovation / scale[:, None], -_CLIP, _CLIP)
        scale = np.maximum(scale * np.sqrt(np.nansum(clipped**2, axis=1) / np.maximum(n, 1)) / _CLIPPED_SD, least)
    return scale, np.maximum(_EFFICIENCY * n - 1, 1.0)


def overdispersion(t: Floats, allowed: NDArray[np.bool_]) -> Floats:
    """How much wider than a standard normal the t of all nights are, at least 1.

    Most nights have no step, so the spread of their statistics shows what a misjudged noise does to them (the
    empirical null of Efron 2004, "Large-scale simultaneous hypothesis testing").
    """
    sizes = median(np.where(allowed, np.abs(t), np.nan))
    return np.asarray(np.fmax(1.0, 1.4826 * sizes / _ALLOWANCE))
