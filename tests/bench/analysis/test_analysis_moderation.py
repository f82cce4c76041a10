"""Variances that are moderated by each other: by hand, against simulated truth, and where the model does not hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from bench.analysis.moderation import independent_number, moderate
from bench.analysis.statistics import holm, t_test

Floats = NDArray[np.float64]
REPEATS = 5
MARGIN = float(np.log1p(0.02))


def test_one_variance_stays() -> None:
    variance, degrees = moderate(np.array([2.0]), np.array([4.0]), 1.0)
    assert (variance.tolist(), degrees.tolist()) == ([2.0], [4.0])


def test_no_spread_at_all_stays() -> None:
    variance, degrees = moderate(np.zeros(5), np.full(5, 4.0), 5.0)
    assert variance.tolist() == [0.0] * 5
    assert degrees.tolist() == [4.0] * 5


def test_variances_that_are_alike_are_pooled_by_hand() -> None:
    # spread less than chance would: nothing speaks against one variance, and s0 is the plain mean, 1.0
    given = np.linspace(0.9, 1.1, 100)
    variance, degrees = moderate(given, np.full(100, 4.0), 100.0)
    worth = degrees[0] - 4
    assert np.all(degrees == degrees[0])
    assert worth > 40
    assert variance == pytest.approx((worth * 1.0 + 4 * given) / (worth + 4))


def test_shared_degrees_are_at_most_those_of_the_others() -> None:
    _, degrees = moderate(np.linspace(0.99, 1.01, 400), np.full(400, 4.0), 3.0)
    assert degrees == pytest.approx(4.0 + (3 - 1) * 4)


def test_variances_that_differ_share_next_to_nothing() -> None:
    variance = np.geomspace(1e-4, 1e4, 40)
    moderated, degrees = moderate(variance, np.full(40, 4.0), 40.0)
    assert degrees.max() < 4.5
    assert moderated == pytest.approx(variance, rel=0.12, abs=0.01)


def test_a_cell_with_a_noise_of_its_own_keeps_it() -> None:
    rng = np.random.default_rng(1)
    variance = rng.chisquare(4, 60) / 4
    variance[7] = 40.0
    moderated, degrees = moderate(variance, np.full(60, 4.0), 60.0)
    assert (moderated[7], degrees[7]) == (40.0, 4.0)
    assert degrees[6] > 8


@pytest.mark.parametrize("prior", [4.0, 20.0])
def test_the_prior_is_found(prior: float) -> None:
    # variances drawn as the model has them: s0 = 3, d0 = prior, 4 degrees each; many, so that caution costs little
    rng = np.random.default_rng(2)
    m = 20_000
    true = prior * 3.0 / rng.chisquare(prior, m)
    variance = true * rng.chisquare(4, m) / 4
    moderated, degrees = moderate(variance, np.full(m, 4.0), float(m))
    kept = degrees > 4
    assert np.mean(kept) > 0.985
    assert degrees[kept] == pytest.approx(4 + prior, rel=0.12)
    worth = degrees[kept] - 4
    common = (moderated[kept] * degrees[kept] - 4 * variance[kept]) / worth
    assert common == pytest.approx(3.0, rel=0.05)


def test_samples_that_share_their_noise_count_once() -> None:
    rng = np.random.default_rng(3)
    own, common = rng.normal(size=(40, 1000)), rng.normal(size=1000)

    def number(values: Floats) -> float:
        return independent_number(values - np.nanmean(values, axis=1, keepdims=True))

    assert number(own) > 38
    assert number(own * 1e-6 + common) == pytest.approx(1.0, abs=0.01)
    # half of the variance in common: correlation 1/2, 40 / (1 + 39/4)
    assert number(own + common) == pytest.approx(40 / (1 + 39 / 4), rel=0.15)
    holes = own.copy()
    holes[rng.random(holes.shape) < 0.2] = np.nan
    assert number(holes) > 38
    assert independent_number(np.full((3, 4), np.nan)) == 0


# -- what it does to verdicts ---------------------------------------------------------------------------


def alike(noise: float) -> Callable[[np.random.Generator, int], Floats]:
    return lambda rng, cells: np.full(cells, noise)


def one_odd(noise: float, times: float) -> Callable[[np.random.Generator, int], Floats]:
    return lambda rng, cells: np.append(np.full(cells - 1, noise), noise * times)


def spread(low: float, high: float) -> Callable[[np.random.Generator, int], Floats]:
    return lambda rng, cells: np.exp(rng.uniform(np.log(low), np.log(high), cells))


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.normal(size=shape)


def heavy(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def one_worse(differences: Floats, *, moderated: bool = True) -> tuple[bool, bool]:
    """(is any cell worse, is the first) of cells x repeats of log ratios, by the rule of `bench.compare.verdict`."""
    mean = differences.mean(axis=1)
    variance = differences.var(axis=1, ddof=1)
    degrees = np.full(len(mean), REPEATS - 1.0)
    if moderated:
        variance, degrees = moderate(variance, degrees, independent_number(differences - mean[:, np.newaxis]))
    lo, _, p = t_test(mean, np.sqrt(variance / REPEATS), degrees)
    worse = (lo > MARGIN) & (holm(p) <= 0.05)
    return bool(worse.any()), bool(worse[0])


def differences(
    rng: np.random.Generator, sd: Floats, draw: Callable[..., Floats], *, shock: float, warming: float
) -> Floats:
    """Log ratios of two runs: noise of each cell, and what disturbs the device in one run and not in the other."""
    shape = (len(sd), REPEATS)
    place = (np.arange(REPEATS) + rng.random(shape)) / REPEATS

    def run() -> Floats:
        drift = rng.uniform(0, warming) * (1 - np.exp(-4 * place))
        return sd[:, np.newaxis] * draw(rng, shape) + np.log1p(drift) + shock * rng.normal(size=REPEATS)

    return run() - run()


@pytest.mark.parametrize("cells", [2, 5, 15, 60])
@pytest.mark.parametrize(
    ("noise", "draw", "shock", "warming"),
    [
        (alike(0.10), normal, 0.0, 0.0),
        (one_odd(0.03, 3.0), normal, 0.0, 0.0),
        (one_odd(0.03, 10.0), normal, 0.0, 0.0),
        (spread(0.01, 0.10), normal, 0.0, 0.0),
        (alike(0.03), heavy, 0.0, 0.0),
        (alike(0.02), normal, 0.0, 0.03),
        (alike(0.02), normal, 0.05, 0.0),
    ],
    ids=["loud", "one cell three times as loud", "one ten times", "all different", "heavy tails", "drift", "shocks"],
)
def test_false_alarms_where_the_model_does_not_hold(
    cells: int, noise: Callable[..., Floats], draw: Callable[..., Floats], shock: float, warming: float
) -> None:
    rng = np.random.default_rng(20250103)
    runs = 300
    alarms = sum(
        one_worse(differences(rng, noise(rng, cells), draw, shock=shock, warming=warming))[0] for _ in range(runs)
    )
    print(f"{alarms} of {runs}")
    # so many at most, with 99 %, if the true rate is 5 %
    assert alarms <= stats.binom.ppf(0.99, runs, 0.05)


@pytest.mark.parametrize("cells", [2, 5, 15, 60])
def test_power_of_five_repeats(cells: int) -> None:
    rng = np.random.default_rng(20250104)
    runs = 300
    found = dict.fromkeys((False, True), 0)
    for _ in range(runs):
        values = differences(rng, np.full(cells, 0.01), normal, shock=0.0, warming=0.02)
        values[0] += np.log(1.05)
        for moderated in found:
            found[moderated] += one_worse(values, moderated=moderated)[1]
    print(f"{cells} cells: {found[True]} of {runs}, {found[False]} without moderation")
    assert found[True] >= 0.9 * runs
    assert found[True] > found[False]
