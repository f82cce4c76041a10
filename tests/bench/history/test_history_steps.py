"""Steps in simulated years: the arithmetic by hand, false alarms of quiet years, how surely a change is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.history import local_level as noise_module
from bench.history import steps as steps_module
from bench.history.bursts import MIN_NIGHTS
from bench.history.local_level import Noise, fit, odd_nights
from bench.history.steps import Found, find_steps

Floats = NDArray[np.float64]

pytestmark = pytest.mark.filterwarnings("error")

YEAR, SD, STEP = 365, 0.01, float(np.log1p(0.05))


def remembering(rng: np.random.Generator, shape: tuple[int, int], phi: float, tails: float | None = None) -> Floats:
    """Noise of one night in a hundred parts, autocorrelated; `tails`: degrees of freedom of Student's t instead."""
    shocks = rng.normal(size=shape) if tails is None else rng.standard_t(tails, shape) / np.sqrt(tails / (tails - 2))
    noise = shocks.copy()
    for night in range(1, shape[1]):
        noise[:, night] = phi * noise[:, night - 1] + np.sqrt(1 - phi**2) * shocks[:, night]
    return SD * noise


def season(rng: np.random.Generator, shape: tuple[int, int], amplitude: float) -> Floats:
    """A year's wave, each series with a phase of its own."""
    phase = rng.uniform(size=(shape[0], 1))
    return np.asarray(amplitude * np.sin(2 * np.pi * (np.arange(shape[1]) / YEAR + phase)))


def ramp(_: np.random.Generator, shape: tuple[int, int], amplitude: float) -> Floats:
    return np.broadcast_to(amplitude * np.arange(shape[1]) / YEAR, shape)


def wander(rng: np.random.Generator, shape: tuple[int, int], amplitude: float) -> Floats:
    return np.asarray(np.cumsum(amplitude * rng.normal(size=shape), axis=1))


def floor(values: Floats) -> Floats:
    return np.full(len(values), 1e-5)


def nights_of(found: Found, series: int = 0) -> list[int]:
    return [step.night for step in found.steps[series]]


@pytest.fixture
def each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every series is judged as if it were the only one of its lab: no correction, and no help from the others."""
    shared: Callable[[Floats], Floats] = noise_module._shared
    monkeypatch.setattr(steps_module, "holm", lambda p: p)
    monkeypatch.setattr(
        noise_module, "_shared", lambda spread: np.hstack([shared(spread[:, [n]]) for n in range(spread.shape[1])])
    )


# -- by hand -------------------------------------------------------------------------------------------


def test_the_estimate_of_a_step_is_generalised_least_squares() -> None:
    rng = np.random.default_rng(0)
    n, phi, drift, sd = 40, 0.5, 0.1, 1.3
    values = rng.normal(size=n)
    values[25:] += 5
    values[7] = np.nan
    steps = np.zeros((1, n), bool)
    steps[0, 30] = True
    result = fit(values[None], Noise(np.array([sd]), np.array([phi]), np.array([drift])), steps, np.zeros((1, n), bool))
    night = np.arange(n)
    covariance = phi ** abs(night[:, None] - night) + drift**2 * np.minimum(night[:, None], night)
    seen = ~np.isnan(values)
    inverse = np.linalg.inv(sd**2 * covariance[np.ix_(seen, seen)])
    for at in (8, 10, 24, 25, 35):
        design = np.column_stack([np.ones(n), night >= 30, night >= at]).astype(float)[seen]
        normal = np.linalg.inv(design.T @ inverse @ design)
        estimate = normal @ design.T @ inverse @ values[seen]
        assert result.score[0, at] / result.information[0, at] * sd == pytest.approx(estimate[-1], rel=1e-5)
        assert sd / np.sqrt(result.information[0, at]) == pytest.approx(np.sqrt(normal[-1, -1]), rel=1e-5)


def test_an_odd_night_is_told_from_a_step() -> None:
    values = np.random.default_rng(1).normal(size=(1, 60)) * SD
    values[0, 20] += 0.2
    values[0, 30:32] -= 0.2
    values[0, 45:] += 0.2
    assert np.flatnonzero(odd_nights(values, floor(values))).tolist() == [20, 30, 31]


# -- quiet years ---------------------------------------------------------------------------------------

QUIET = [
    pytest.param(YEAR, 0.3, season, 0.03, None, id="season"),
    pytest.param(YEAR, 0.6, season, 0.03, None, id="season, long memory"),
    pytest.param(YEAR, 0.3, season, 0.03, 4.0, id="season, heavy tails"),
    pytest.param(YEAR, 0.3, ramp, 0.05, None, id="ramp"),
    pytest.param(YEAR, 0.3, wander, 0.002, None, id="random walk"),
    pytest.param(60, 0.5, season, 0.03, None, id="two months"),
    pytest.param(20, 0.3, ramp, 0.05, None, id="three weeks"),
]


@pytest.mark.usefixtures("each_alone")
@pytest.mark.parametrize(("nights", "phi", "drift", "amplitude", "tails"), QUIET)
def test_quiet_years_of_one_cell_raise_few_alarms(
    nights: int,
    phi: float,
    drift: Callable[[np.random.Generator, tuple[int, int], float], Floats],
    amplitude: float,
    tails: float | None,
) -> None:
    rng = np.random.default_rng(2)
    shape = (300, nights)
    values = remembering(rng, shape, phi, tails) + drift(rng, shape, amplitude)
    alarms = np.mean([bool(steps) for steps in find_steps(values, floor(values)).steps])
    print(f"\n{drift.__name__} {amplitude:.1%}, phi {phi}, {nights} nights: {alarms:.1%} of 300 raise an alarm")
    assert alarms <= 0.05


@pytest.mark.usefixtures("each_alone")
def test_judging_each_alone_is_what_a_lab_with_one_cell_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    values = remembering(rng, (4, 120), 0.3)
    values[:2, 60:] += STEP
    together = [nights_of(find_steps(values, floor(values)), n) for n in range(4)]
    monkeypatch.undo()
    assert together == [nights_of(find_steps(values[[n]], floor(values[[n]]))) for n in range(4)]


def quiet_labs(rng: np.random.Generator, years: int, cells: int, shared: float) -> float:
    """Share of years with any false alarm, in a lab whose cells share a part of each night's noise."""
    alarms = 0
    for _ in range(years):
        common = remembering(rng, (1, YEAR), 0.5)
        own = remembering(rng, (cells, YEAR), 0.5)
        values = shared * common + np.sqrt(1 - shared**2) * own + season(rng, (cells, YEAR), 0.03)
        alarms += any(find_steps(values, floor(values)).steps)
    print(f"\n{cells} cells, {shared:.0%} of a night's noise in common: {alarms} of {years} years raise an alarm")
    return alarms / years


def test_quiet_years_of_a_lab_raise_few_alarms() -> None:
    assert quiet_labs(np.random.default_rng(4), years=10, cells=50, shared=0.7) <= 0.1


@pytest.mark.long
def test_two_hundred_quiet_years_of_a_lab_raise_few_alarms() -> None:
    assert quiet_labs(np.random.default_rng(5), years=200, cells=20, shared=0.7) <= 0.05


@pytest.mark.long
@pytest.mark.usefixtures("each_alone")
def test_looking_every_night_raises_few_alarms() -> None:
    """A lab looks each night at all that it has, not once at the end of the year."""
    rng = np.random.default_rng(6)
    shape = (200, YEAR)
    values = remembering(rng, shape, 0.3) + season(rng, shape, 0.02)
    alarmed = np.zeros(len(values), bool)
    for night in range(MIN_NIGHTS, YEAR + 1, 3):
        found = find_steps(values[:, :night], floor(values))
        alarmed |= [bool(steps) for steps in found.steps]
    print(f"\nlooked at every third night: {alarmed.mean():.1%} of 200 years raise an alarm at any time")
    assert alarmed.mean() <= 0.05


# -- changes -------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.usefixtures("each_alone")
def test_a_long_memory_with_heavy_tails_is_the_known_limit() -> None:
    rng = np.random.default_rng(15)
    values = remembering(rng, (300, YEAR), 0.8, 4.0)
    alarms = np.mean([bool(steps) for steps in find_steps(values, floor(values)).steps])
    print(f"\nphi 0.8, tails of t(4): {alarms:.1%} of 300 raise an alarm")
    assert alarms <= 0.5


def found_among_200(monkeypatch: pytest.MonkeyPatch, values: Floats) -> Found:
    """Each series is one of 200 cells of which the others are quiet: its p counts 200 times."""
    monkeypatch.setattr(steps_module, "holm", lambda p: np.minimum(1, 200 * np.asarray(p)))
    return find_steps(values, floor(values))


@pytest.mark.parametrize("phi", [0.0, 0.3])
def test_a_change_of_five_per_cent_at_one_per_cent_noise_is_found(monkeypatch: pytest.MonkeyPatch, phi: float) -> None:
    rng = np.random.default_rng(7)
    shape = (200, YEAR)
    values = remembering(rng, shape, phi) + season(rng, shape, 0.02)
    at = rng.integers(15, YEAR - 15, len(values))
    values[np.arange(YEAR) >= at[:, None]] += STEP
    found = found_among_200(monkeypatch, values)
    near = [
        [step for step in steps if abs(step.night - night) <= 2] for steps, night in zip(found.steps, at, strict=True)
    ]
    power = np.mean([bool(steps) for steps in near])
    others = sum(map(len, found.steps)) - sum(map(len, near))
    place = np.mean(
        [steps[0].earliest <= night <= steps[0].latest for steps, night in zip(near, at, strict=True) if steps]
    )
    size = np.mean([steps[0].lo <= STEP <= steps[0].hi for steps in near if steps])
    print(
        f"\n5 % at 1 % noise, phi {phi}, season 2 %: found within two nights {power:.1%}, elsewhere {others}, "
        f"place in its range {place:.1%}, size in its interval {size:.1%}"
    )
    assert power >= 0.9
    assert others <= 2
    assert place >= 0.9
    assert size >= 0.85


@pytest.mark.parametrize(
    ("nights", "at", "least"),
    [(YEAR, YEAR - 5, 0.5), (YEAR, YEAR - 10, 0.8), (60, 30, 0.6), (30, 20, 0.3), (20, 10, 0.1)],
)
def test_a_young_change_or_a_short_history_is_found_less_often(
    monkeypatch: pytest.MonkeyPatch, nights: int, at: int, least: float
) -> None:
    rng = np.random.default_rng(16)
    shape = (200, nights)
    values = remembering(rng, shape, 0.3) + season(rng, shape, 0.02)
    values[:, at:] += STEP
    found = found_among_200(monkeypatch, values)
    power = np.mean([any(abs(step.night - at) <= 2 for step in steps) for steps in found.steps])
    print(f"\n5 % at 1 % noise, {nights} nights, {nights - at} of them since: found in {power:.0%}")
    assert least <= power <= 1


def test_a_change_of_many_cells_at_once_is_found_in_each() -> None:
    rng = np.random.default_rng(8)
    values = remembering(rng, (60, 200), 0.3)
    values[:40, 120:] += STEP
    found = find_steps(values, floor(values))
    assert sum(any(abs(night - 120) <= 2 for night in nights_of(found, n)) for n in range(40)) >= 38
    assert not any(nights_of(found, n) for n in range(40, 60))


def test_a_change_that_is_taken_back_is_two_steps() -> None:
    values = np.random.default_rng(9).normal(size=(1, 150)) * SD
    values[0, 60:80] += 0.08
    first, second = find_steps(values, floor(values)).steps[0]
    assert abs(first.night - 60) <= 1
    assert abs(second.night - 80) <= 1
    assert first.change == pytest.approx(0.08, abs=0.015)
    assert second.change == pytest.approx(-0.08, abs=0.015)
    assert first.lo < 0.08 < first.hi


def test_one_or_two_odd_nights_are_no_step_and_hide_none() -> None:
    values = np.random.default_rng(10).normal(size=(1, 120)) * SD
    values[0, 30] += 0.5
    values[0, 70:72] -= 0.3
    values[0, 90:] += 0.06
    found = find_steps(values, floor(values))
    assert [abs(night - 90) <= 1 for night in nights_of(found)] == [True]
    assert np.flatnonzero(found.odd[0]).tolist() == [30, 70, 71]


def test_an_excursion_that_fades_is_no_step() -> None:
    values = np.random.default_rng(11).normal(size=(1, 200)) * SD
    values = remembering(np.random.default_rng(11), (1, 200), 0.7)
    values[0, 100:] += 0.06 * 0.7 ** np.arange(100)
    assert not find_steps(values, floor(values)).steps[0]


def test_missing_nights_and_cells_that_came_later_do_no_harm() -> None:
    rng = np.random.default_rng(12)
    values = rng.normal(size=(3, 120)) * SD
    values[:, 80:] += STEP
    values[0, rng.random(120) < 0.3] = np.nan
    values[1, :60] = np.nan
    values[2, 100:] = np.nan
    found = find_steps(values, floor(values))
    for series in range(3):
        assert len(nights_of(found, series)) == 1
        assert abs(nights_of(found, series)[0] - 80) <= 3


def test_an_accuracy_that_never_moved_and_then_did() -> None:
    values = np.full((2, 40), 0.8)
    values[0, 25:] = 0.75
    found = find_steps(values, np.full(2, 1e-3))
    assert nights_of(found, 0) == [25]
    assert not found.steps[1]
    assert found.steps[0][0].change == pytest.approx(-0.05, abs=1e-3)


def test_few_nights_say_nothing() -> None:
    values = np.concatenate([np.zeros(4), np.ones(5)])[None]
    found = find_steps(values, floor(values))
    assert not found.enough[0]
    assert not found.steps[0]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, MIN_NIGHTS), (3, MIN_NIGHTS + 1)])
def test_any_shape_passes(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(13).normal(size=shape)
    found = find_steps(values, floor(values))
    assert found.level.shape == shape
    blank = np.full(shape, np.nan)
    assert not any(find_steps(blank, floor(blank)).steps)


def test_steps_do_not_depend_on_the_unit() -> None:
    values = remembering(np.random.default_rng(14), (3, 150), 0.3)
    values[:, 90:] += 0.07
    plain = find_steps(values, floor(values))
    moved = find_steps(1000 * values + 5, 1000 * floor(values))
    assert [nights_of(plain, n) for n in range(3)] == [nights_of(moved, n) for n in range(3)]
    for one, other in zip(plain.steps, moved.steps, strict=True):
        assert [1000 * step.change for step in one] == pytest.approx([step.change for step in other], rel=1e-4)
