"""What stands and what has recovered, and what disturbed nights are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bench.history.bursts import Bursts
from bench.history.changes import _outcomes
from bench.history.steps import Step, find_steps

SD = 0.005


def made(levels: list[tuple[int, float]], n: int, seed: int = 0) -> tuple[list[Step], np.ndarray]:
    """Steps to levels in J from given nights on, and the logarithms of the nights."""
    values = SD * np.random.default_rng(seed).normal(size=n)
    for (start, joules), end in zip(levels, [night for night, _ in levels[1:]] + [n], strict=True):
        values[start:end] += np.log(joules)
    steps = []
    for (_, old), (night, new) in pairwise(levels):
        change = float(np.log(new / old))
        ends = {"lo": change - 0.005, "hi": change + 0.005, "before": float(np.log(old)), "after": float(np.log(new))}
        steps.append(Step(night=night, earliest=night, latest=night, change=change, p=0.0, **ends))
    return steps, values


@pytest.mark.parametrize(
    ("levels", "ends", "told"),
    [
        ([(0, 10.0), (30, 10.8)], [None], [True]),
        ([(0, 10.0), (30, 10.8), (50, 10.0)], [50, None], [True, False]),
        ([(0, 10.0), (30, 10.8), (50, 7.5)], [50, None], [True, True]),
        ([(0, 10.0), (30, 10.8), (50, 7.5), (70, 10.0)], [50, 70, None], [True, True, False]),
        ([(0, 10.0), (30, 10.8), (50, 11.6), (70, 10.0)], [70, 70, None], [True, True, False]),
        ([(0, 10.0), (30, 12.0), (50, 11.5)], [None, None], [True, True]),
    ],
)
def test_a_change_stands_by_the_level_of_now(
    levels: list[tuple[int, float]], ends: list[int | None], told: list[bool]
) -> None:
    assert _outcomes(*made(levels, 90), 0.02) == (ends, told)


def test_a_level_that_drifts_back_has_recovered() -> None:
    steps, values = made([(0, 10.0), (30, 10.8)], 120)
    values[60:] -= np.minimum(np.arange(60) / 30, 1) * np.log(1.08)
    (end,), told = _outcomes(steps, values, 0.02)
    assert end is not None
    assert 60 < end < 100
    assert told == [True]


@pytest.mark.parametrize("disturbed", [(57, 58, 59), (55, 57, 59), (55, 56, 57), (55, 56, 58)])
def test_three_disturbed_nights_of_five_are_no_step(disturbed: tuple[int, ...]) -> None:
    values = SD * np.random.default_rng(1).normal(size=(1, 90))
    values[0, list(disturbed)] += 0.08
    for nights in range(58, 90):
        assert not find_steps(values[:, :nights], np.full(1, 1e-4)).steps[0]


def test_a_step_must_outlast_the_bursts_of_its_device() -> None:
    rng = np.random.default_rng(2)
    quiet = SD * rng.normal(size=(20, 200))
    bursty = quiet.copy()
    for series in range(20):
        for start in rng.integers(0, 170, 8):
            bursty[series, start : start + int(rng.geometric(0.4))] += 0.06
    change = np.array([0.05])
    assert Bursts(quiet).outlasted(change)[0] <= 5
    assert Bursts(bursty).outlasted(change)[0] >= 7
    assert Bursts(bursty).outlasted(-change)[0] <= 5
    assert Bursts(bursty).outlasted(20 * change)[0] <= 5
