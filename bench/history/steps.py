"""Find steps: nights from which on a series has another level. What may be chance is no step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from bench.analysis.statistics import CONFIDENCE, holm
from bench.history.bursts import MIN_NIGHTS, Bursts
from bench.history.local_level import Fit, Floats, Noise, estimate, fit, median, odd_nights, spreads

LEVEL = 1 - CONFIDENCE

LEAST_COUNTED = 100
"""Nights for which a series' p counts, at least: a young history is looked at every night, each time as a new one."""

MAX_STEPS = 20
_WORTH = 3.0
"""Size of a t statistic from which its night is taken out of the estimate of the noise."""

_PLACE = 2 * 3.68
"""A step may as well have begun on nights whose t squared is less than this below the best one's: x = 3.68 in
1 - (1 - exp(-x))^2, a coverage of 95 % (Siegmund 1988, "Confidence sets in change-point problems")."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of one series. Nights are columns of its values.

    Attributes:
        night: first night of the new level.
        earliest, latest: nights on which it may as well have begun.
        change, lo, hi: new level less the old one, and its 95 % interval, in the unit of the values.
        p: of no step anywhere in any of the series, by Holm over the series and Bonferroni over the nights.
        before, after: level on either side, in the unit of the values.
    """

    night: int
    earliest: int
    latest: int
    change: float
    lo: float
    hi: float
    p: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Found:
    """Steps, levels and noise of many series.

    Attributes:
        steps: of each series, in the order of their nights.
        level: series x nights, the level with its drift and its steps.
        odd: series x nights, nights left out as odd.
        enough: whether a series has nights enough to be judged.
        noise: of each series.
    """

    steps: list[list[Step]]
    level: Floats
    odd: NDArray[np.bool_]
    enough: NDArray[np.bool_]
    noise: Noise = field(repr=False)


def find_steps(values: Floats, floor: Floats, level: float = LEVEL) -> Found:
    """Find steps of many series that share their nights; the chance of any false alarm is controlled for all together.

    In each round the likeliest night of a step is found in every series, the p of its t statistic is multiplied by the
    number of nights tested (Bonferroni) and adjusted for the number of series (Holm); what stays at or below `level`
    is accepted, and the series is searched again with that step given (the iteration of Chen and Liu 1993, "Joint
    estimation of model parameters and outlier effects in time series"). Where a shock that fades explains that night
    as well, it is taken for that and not for a step (their innovational outlier).

    Args:
        values: series x nights, nan where missing. Energies as logarithms.
        floor: of each series, least standard deviation that its values can have, e.g. that of rounding.
        level: chance of any false step in any of these series.
    """
    odd = odd_nights(values, floor)
    kept = np.where(odd, np.nan, values)
    enough = (~np.isnan(kept)).sum(axis=1) >= MIN_NIGHTS
    constant = np.fmax.reduce(kept, axis=1) == np.fmin.reduce(kept, axis=1)
    search = _Search(values, kept, floor)
    last = np.where(enough, 1.0, np.nan)
    searched = enough & ~constant  # accuracies often are; they count among the series all the same
    p_of: dict[tuple[int, int], float] = {}
    for _ in range(MAX_STEPS):
        rows = np.flatnonzero(searched)
        if not len(rows):
            break
        night, size, fading, p = search.likeliest(rows)
        last[rows] = p
        adjusted = holm(last)[rows]
        accepted = adjusted <= level
        fades = fading >= size
        search.accept(rows[accepted & ~fades], night[accepted & ~fades])
        search.passing[rows[accepted & fades], night[accepted & fades]] = True
        for series, step, value in zip(*(part[accepted & ~fades] for part in (rows, night, adjusted)), strict=True):
            p_of[int(series), int(step)] = float(value)
        searched[rows[~accepted]] = False
    return search.measured(p_of, odd, enough)


class _Search:
    """Series with the steps accepted so far.

    Attributes:
        steps, passing: series x nights, the first nights of accepted steps and of excursions that fade.
    """

    def __init__(self, values: Floats, kept: Floats, floor: Floats) -> None:
        self._all = values
        self._bursts = Bursts(values)
        self._values = kept
        self._floor = floor
        self.steps = np.zeros(values.shape, bool)
        self.passing = np.zeros(values.shape, bool)
        self._spread = spreads(kept, floor, self.steps)

    def accept(self, rows: NDArray[np.intp], nights: NDArray[np.intp]) -> None:
        """Add a step to each of some series."""
        self.steps[rows, nights] = True
        self._spread[:, rows] = spreads(self._values[rows], self._floor[rows], self.steps[rows])

    def likeliest(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
        """Per series: the likeliest night of a step, |t| there, |t| of a shock that fades, and p over all nights.

        The noise that a step is held against is judged with the likeliest step given, or it would count as noise.
        """
        values, given, passing = self._values[rows], self.steps[rows], self.passing[rows]
        nights = Nights(values, given)
        first = np.abs(ratio(fit(values, estimate(self._spread, self._floor).of(rows), given, passing), nights.allowed))
        worth = np.flatnonzero(first.max(axis=1) > _WORTH)
        candidates = given.copy()
        candidates[worth, first.argmax(axis=1)[worth]] = True
        spread = self._spread.copy()
        spread[:, rows[worth]] = spreads(values[worth], self._floor[rows[worth]], candidates[worth])
        noise = estimate(spread, self._floor).of(rows)
        with_candidate = fit(values, noise, candidates, passing)
        scale, degrees, _ = self._scale(with_candidate, values, noise, candidates, rows)
        result = fit(values, noise, given, passing)
        t = ratio(result, nights.allowed)
        # the candidate's own t counts as slope here, and a step against the slope gets nothing for it: that costs some
        # power, and keeps seasons from passing for steps
        level = t - slope_of(t, nights.allowed)
        t = np.where(nights.allowed & (np.abs(level) < np.abs(t)), level, t) / scale[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.where(t == 0, 0.0, result.score / result.information) * noise.sd[:, None]
        old_enough = (nights.before >= MIN_LEVEL) & (nights.age >= np.fmax(MIN_LEVEL, self._bursts.outlasted(change)))
        t = np.where(old_enough & agreeing(self._all[rows], given, change), t, 0.0)
        night = np.abs(t).argmax(axis=1)
        place = np.arange(len(rows))
        size = np.abs(t[place, night])
        n_tests = np.maximum(nights.allowed.sum(axis=1), LEAST_COUNTED)
        p = np.minimum(1.0, n_tests * 2 * stdtr(degrees, -size))
        return night, size, np.abs(result.passing[place, night]) / scale, p

    def _scale(
        self, result: Fit, values: Floats, noise: Noise, steps: NDArray[np.bool_], rows: NDArray[np.intp]
    ) -> tuple[Floats, Floats, Floats]:
        """Compute the factor of the noise, its degrees of freedom, and the t that a slope gives each night."""
        scale, degrees = scale_of(result, noise, self._floor[rows])
        allowed = Nights(values, steps).allowed
        t = ratio(result, allowed)
        slope = slope_of(t, allowed)
        return scale * overdispersion((t - slope) / scale[:, None], allowed), degrees, slope

    def measured(self, p_of: dict[tuple[int, int], float], odd: NDArray[np.bool_], enough: NDArray[np.bool_]) -> Found:
        """Estimate size and place of each accepted step, given the others."""
        noise = estimate(self._spread, self._floor)
        final = fit(self._values, noise, self.steps, self.passing)
        found: list[list[Step]] = [[] for _ in self._values]
        pairs = sorted(p_of)
        if pairs:
            rows = np.array([series for series, _ in pairs])
            nights = np.array([night for _, night in pairs])
            values, passing, noise_of = self._values[rows], self.passing[rows], noise.of(rows)
            scale, degrees, slope = self._scale(final.of(rows), values, noise_of, self.steps[rows], rows)
            others = self.steps[rows]
            others[np.arange(len(rows)), nights] = False
            alone = fit(values, noise_of, others, passing)
            allowed = Nights(values, others).allowed
            t = (ratio(alone, allowed) - slope) / scale[:, None]
            for row, (series, night) in enumerate(pairs):
                error = float(scale[row] / np.sqrt(alone.information[row, night]) * noise_of.sd[row])
                change = float(t[row, night]) * error
                half = float(stdtrit(degrees[row], (1 + CONFIDENCE) / 2)) * error
                earliest, latest = _place(t[row] ** 2, night, np.flatnonzero(allowed[row]))
                before = int(np.flatnonzero(~np.isnan(values[row, :night]))[-1])
                found[series].append(
                    Step(
                        night=night,
                        earliest=earliest,
                        latest=latest,
                        change=change,
                        lo=change - half,
                        hi=change + half,
                        p=p_of[series, night],
                        before=float(final.level[series, before]),
                        after=float(final.level[series, night]),
                    )
                )
        return Found(steps=found, level=final.level, odd=odd, enough=enough, noise=noise)


def _place(squares: Floats, night: int, nights: NDArray[np.intp]) -> tuple[int, int]:
    """Find the first and the last of the nights around `night` that fit about as well."""
    good = squares[nights] > squares[night] - _PLACE
    centre = int(np.searchsorted(nights, night))
    low = high = centre
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(nights) and good[high + 1]:
        high += 1
    if centre >= len(nights) or nights[centre] != night:
        return night, night
    return int(nights[low]), int(nights[high])


MIN_SEGMENT = 3
"""Nights on either side of a night whose t is looked at."""

MIN_LEVEL = 5
"""Nights that a level must have on either side of a step. Real noise disturbs two or three in a row now and then."""

AGREE_NIGHTS, AGREE_SHARE = 10, 0.65
"""Of up to so many nights on either side of a step, odd ones included, this share lies on its own side: nearer to the
median of its side than half of the step. Three disturbed nights of five are no level."""

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
        before, age: series x nights; values of the segment before an allowed night, and from it on; 0 elsewhere.
    """

    def __init__(self, values: Floats, steps: NDArray[np.bool_]) -> None:
        self.allowed = np.zeros(values.shape, bool)
        self.before, self.age = np.zeros((2, *values.shape), int)
        for row, (present, bounds) in enumerate(zip(~np.isnan(values), steps, strict=True)):
            nights = np.flatnonzero(present)
            edges = np.searchsorted(nights, np.flatnonzero(bounds))
            for start, end in zip([0, *edges], [*edges, len(nights)], strict=True):
                inner = nights[start + MIN_SEGMENT : max(end - MIN_SEGMENT + 1, start)]
                self.allowed[row, inner] = True
                self.before[row, inner] = MIN_SEGMENT + np.arange(len(inner))
                self.age[row, inner] = end - start - self.before[row, inner]


def agreeing(values: Floats, steps: NDArray[np.bool_], change: Floats) -> NDArray[np.bool_]:
    """Nights from which on a series lies on one side of where it was, by its single nights and not by their mean.

    Args:
        values: series x nights, odd ones included, nan where missing.
        steps: the accepted ones; no night beyond the next of them counts.
        change: series x nights, the size of a step there; 0: none is asked.
    """
    found = np.zeros(values.shape, bool)
    for row, (series, bounds) in enumerate(zip(values, steps, strict=True)):
        asked = np.flatnonzero(change[row])
        nights = np.flatnonzero(~np.isnan(series))
        if not len(asked) or not len(nights):
            continue
        place, edges = np.searchsorted(nights, asked), np.searchsorted(nights, np.flatnonzero(bounds))
        start = np.concatenate([[0], edges])[np.searchsorted(edges, place, side="left")]
        end = np.concatenate([edges, [len(nights)]])[np.searchsorted(edges, place, side="right")]
        padded = np.concatenate([np.full(AGREE_NIGHTS, np.nan), series[nights], np.full(AGREE_NIGHTS, np.nan)])
        windows = sliding_window_view(padded, AGREE_NIGHTS)
        offset = np.arange(AGREE_NIGHTS)
        before, after = windows[place].copy(), windows[place + AGREE_NIGHTS].copy()
        before[place[:, None] - AGREE_NIGHTS + offset < start[:, None]] = np.nan
        after[place[:, None] + offset >= end[:, None]] = np.nan
        half = change[row, asked][:, None] / 2
        middles = median(after)[:, None] - half, median(before)[:, None] + half
        shares = [
            (side * half * (part - middle) > 0).sum(axis=1) / np.fmax((~np.isnan(part)).sum(axis=1), 1)
            for part, middle, side in zip((before, after), middles, (-1.0, 1.0), strict=True)
        ]
        found[row, asked] = np.minimum(*shares) >= AGREE_SHARE
    return found


def ratio(result: Fit, allowed: NDArray[np.bool_]) -> Floats:
    """Compute t of a step at each night, up to the scale of the noise; 0 where no step may be."""
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
    """Estimate the size of the innovations relative to the noise, robust to a few large ones, with its degrees of
    freedom.

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
    """Estimate how much wider than a standard normal the t of all nights are, at least 1.

    Most nights have no step, so the spread of their statistics shows what a misjudged noise does to them (the
    empirical null of Efron 2004, "Large-scale simultaneous hypothesis testing").
    """
    sizes = median(np.where(allowed, np.abs(t), np.nan))
    return np.asarray(np.fmax(1.0, 1.4826 * sizes / _ALLOWANCE))
