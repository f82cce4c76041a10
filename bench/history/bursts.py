"""Bursts: how long a device's noise stays away from its level, and so how old a step must be to be none of them."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bench.history.local_level import Floats, median

MIN_NIGHTS = 10
"""Nights with a value below which a series is not searched."""

LOCAL = 15
"""Nights on either side whose median is the level that a burst stands out of."""

MAX_BURST = 8
"""Nights that a burst lasts, at most; what lasts longer is a level."""

BURSTS_A_YEAR = 0.1
"""Bursts as long as a step is old that a year of all series may bring, at most."""

_USUAL_GOES_ON, _USUAL_WEIGHT = 0.3, 3.0
"""Share of the nights of a burst that are followed by another, to begin with, and as how many nights it counts."""

YEAR_NIGHTS = 365


class Bursts:
    """How long the noise of a device stays away from its level, from all that its series have shown.

    A device that is disturbed now and then for some nights in a row makes levels that are none. A burst goes on for
    another night with the probability q, so a year brings N q^(n - 1) of n nights: a step counts once it is so old
    that this is at most BURSTS_A_YEAR. N and q depend on the size of the step: a burst of a step is one by more than
    half of it, in its direction.

    Args:
        values: series x nights, odd ones included, nan where missing.
    """

    def __init__(self, values: Floats) -> None:
        away = values - _local(values)
        largest = float(np.nanmax(np.abs(away), initial=0.0, where=~np.isnan(away)))
        spread = float(np.nanmedian(np.abs(away))) if (~np.isnan(away)).any() else 0.0
        low = max(spread, largest / 1000, 1e-12)
        self._sizes = np.geomspace(low, max(2 * largest, 2 * low), 16)
        self._needed = np.array(
            [[_nights_needed(sign * away > size / 2, ~np.isnan(away)) for size in self._sizes] for sign in (1.0, -1.0)]
        )

    def outlasted(self, change: Floats) -> Floats:
        """Nights that a step of each size must have lasted; signed sizes, in the unit of the values."""
        size = np.log(np.maximum(np.abs(change), self._sizes[0]))
        up, down = (np.interp(size, np.log(self._sizes), needed) for needed in self._needed)
        return np.asarray(np.where(change > 0, up, down))


def _local(values: Floats) -> Floats:
    """Median of the nights around each, series x nights."""
    blank = np.full((len(values), LOCAL), np.nan)
    windows = sliding_window_view(np.concatenate([blank, values, blank], axis=1), 2 * LOCAL + 1, axis=1)
    return median(windows.reshape(-1, 2 * LOCAL + 1)).reshape(values.shape)


def _nights_needed(away: NDArray[np.bool_], seen: NDArray[np.bool_]) -> float:
    """Age from which on a step is older than the bursts of a year."""
    # one quiet night within does not end a burst; what is too young to be told from a step is none yet
    filled = away.copy()
    filled[:, 1:-1] |= away[:, :-2] & away[:, 2:]
    filled, seen = filled[:, : away.shape[1] - LOCAL], seen[:, : away.shape[1] - LOCAL]
    if filled.shape[1] < MIN_NIGHTS:
        return 0.0
    edges = np.diff(np.pad(filled.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (_, start), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    length = end - start
    length = length[(end < filled.shape[1]) & (length <= MAX_BURST)]
    if not len(length):
        return 0.0
    a_year = len(length) * YEAR_NIGHTS / max(1.0, float(seen.sum(axis=1).max()))
    goes_on = (float((length - 1).sum()) + _USUAL_GOES_ON * _USUAL_WEIGHT) / (float(length.sum()) + _USUAL_WEIGHT)
    return 1 + max(0.0, float(np.log(a_year / BURSTS_A_YEAR))) / -float(np.log(goes_on))
