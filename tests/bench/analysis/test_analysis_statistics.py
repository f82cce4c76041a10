"""Intervals and tests, against hand calculation and against scipy's own."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.analysis.statistics import (
    Estimate,
    holm,
    independent_error,
    paired_log_ratio,
    sign_flip_p,
    summarise,
    t_interval,
    t_test,
    wilson_interval,
)


def test_t_interval_by_hand() -> None:
    # sd 1, t(2) = 4.302653, half = 4.302653 / sqrt(3)
    got = t_interval([1.0, 2.0, 3.0])
    assert (got.n, got.mean, got.sd) == (3, 2.0, 1.0)
    assert got.lo == pytest.approx(2 - 2.484138, abs=1e-6)
    assert got.hi == pytest.approx(2 + 2.484138, abs=1e-6)


@settings(deadline=None)  # the first call imports scipy.stats
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_t_interval_agrees_with_scipy(values: list[float]) -> None:
    from scipy import stats

    got = t_interval(values)
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error or 1e-300)
    assert got.lo == pytest.approx(low, abs=1e-6)
    assert got.hi == pytest.approx(high, abs=1e-6)


@pytest.mark.parametrize(("values", "n"), [([], 0), ([5.0], 1), ([5.0, math.nan], 1)])
def test_no_interval_below_two(values: list[float], n: int) -> None:
    got = t_interval(values)
    assert got.n == n
    assert got.mean == (5.0 if n else None)
    assert got.sd is got.lo is got.hi is None


def test_pairs_cancel_what_they_share() -> None:
    got = t_interval(np.array([10.0, 20.0, 31.0]) - np.array([9.0, 19.0, 30.0]))
    assert got == Estimate(n=3, mean=1.0, sd=0.0, lo=1.0, hi=1.0)
    assert paired_log_ratio([1.0, math.nan], [1.0, 5.0]).n == 1
    with pytest.raises(ValueError, match="equal lengths"):
        paired_log_ratio([1.0], [1.0, 2.0])


def test_log_ratio_is_symmetric_and_skips_what_has_no_logarithm() -> None:
    ratio = paired_log_ratio([10.0, 40.0], [20.0, 100.0])
    back = paired_log_ratio([20.0, 100.0], [10.0, 40.0])
    assert ratio.mean == pytest.approx(math.sqrt(0.5 * 0.4))
    assert ratio.mean * back.mean == pytest.approx(1)
    assert ratio.lo == pytest.approx(1 / back.hi)
    assert paired_log_ratio([10.0, -1.0, 0.0], [20.0, 5.0, 5.0]).n == 1


def test_wilson_by_the_formula() -> None:
    # 8 of 10, from the paper's formula with z = 1.959964
    low, high = wilson_interval(0.8, 10)
    assert (low, high) == (pytest.approx(0.490162, abs=1e-6), pytest.approx(0.943318, abs=1e-6))
    assert wilson_interval(0.8, 10_000)[1] - 0.8 == pytest.approx(0.0078, abs=1e-4)  # 1.96 * 0.004, nearly
    assert wilson_interval(1.0, 50)[1] == 1.0
    assert wilson_interval(0.0, 50)[0] == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="at least one trial"):
        wilson_interval(0.5, 0)


@pytest.mark.parametrize(("n", "least"), [(5, 0.0625), (6, 0.03125), (8, 2 / 256)])
def test_sign_flip_reaches_what_n_allows(n: int, least: float) -> None:
    assert sign_flip_p(np.arange(1.0, n + 1)) == least


def test_sign_flip_by_hand() -> None:
    # sums of +-1 +-2 +-3 that are at least as far from 0 as 1 + 2 - 3 = 0: all of them
    assert sign_flip_p([1.0, 2.0, -3.0]) == 1.0
    # as far as 1 - 2 + 3 = 2: all but the two that are 0
    assert sign_flip_p([1.0, -2.0, 3.0]) == 0.75
    assert sign_flip_p([]) is None
    assert sign_flip_p([1.0] * 13) is None


def test_summarise_is_t_interval_per_group() -> None:
    frame = pd.DataFrame({"key": [*"aaab"], "value": [1.0, 2.0, 4.0, 7.0]})
    table = summarise(frame, "value", ["key"])
    alone = t_interval([1.0, 2.0, 4.0])
    assert table.loc["a"].tolist() == pytest.approx([alone.n, alone.mean, alone.sd, alone.lo, alone.hi])
    assert table.loc["b", ["n", "mean"]].tolist() == [1, 7.0]
    assert table.loc["b", ["sd", "lo", "hi"]].isna().all()


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=8), st.lists(st.floats(-10, 10), min_size=3, max_size=8))
def test_two_samples_agree_with_welchs_test_of_scipy(first: list[float], second: list[float]) -> None:
    from scipy import stats

    u = [float(stats.sem(sample)) for sample in (first, second)]
    if min(u) < 1e-6:
        return
    error, degrees = independent_error(np.array(u[:1]), len(first) - 1, np.array(u[1:]), len(second) - 1)
    lo, hi, p = t_test(np.array([np.mean(first) - np.mean(second)]), error, degrees)
    expected = stats.ttest_ind(first, second, equal_var=False)
    low, high = expected.confidence_interval()
    assert (lo[0], hi[0], p[0]) == (pytest.approx(low), pytest.approx(high), pytest.approx(expected.pvalue))


def test_welch_by_hand() -> None:
    # u 3 and 4: error 5, degrees 625 / (81/2 + 256/8) = 8.620690; a known spread has any number of degrees
    error, degrees = independent_error(np.array([3.0, 3.0]), np.array([2.0, np.inf]), np.array([4.0, 4.0]), [8.0, 8.0])
    assert error.tolist() == [5.0, 5.0]
    assert degrees.tolist() == pytest.approx([8.620690, 19.53125])


def test_a_test_without_spread_or_without_values() -> None:
    change, error = np.array([0.0, 1.0, math.nan, 1.0]), np.array([0.0, 0.0, 1.0, math.nan])
    lo, hi, p = t_test(change, error, np.array([2.0, 2.0, 2.0, math.nan]))
    assert p.tolist() == pytest.approx([1.0, 0.0, math.nan, math.nan], nan_ok=True)
    assert (lo[:2].tolist(), hi[:2].tolist()) == ([0, 1], [0, 1])
    normal = t_test(np.array([0.0]), np.array([1.0]), np.array([math.inf]))
    assert normal[1][0] == pytest.approx(1.959964, abs=1e-6)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, math.nan, 0.005]).tolist() == pytest.approx(
        [0.03, 0.06, 0.06, math.nan, 0.02], nan_ok=True
    )
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
