"""Samples to joules: exact on waveforms whose energy is known by hand, additive, unbiased between guard bands."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.measure.budget import Term, budget, expanded_j
from hardware.measure.energy import (
    Band,
    counter_energy_j,
    gross_and_net_j,
    longest_gap_s,
    lost_fraction,
    power_energy_j,
)
from hardware.measure.evaluation import evaluate
from hardware.measure.grade import FATAL, FLAGS, LABELS, NOTES, grade
from hardware.measure.idle import IdleBaseline
from hardware.measure.observation import Observation
from hardware.source import SourceInfo

METER = SourceInfo(name="meter", kind="power", scope="board", covers=("board",), period_s=0.5, gain_u=0.01)
COUNTER = replace(METER, name="counter", kind="counter", period_s=0.1)
IDLE = IdleBaseline(power_w=2.0, u_power_w=0.01, duration_s=30, n_samples=100, started_at="", busy_fraction=0.0)


def test_a_constant_power_is_power_times_time_wherever_the_edges_fall() -> None:
    samples = [(t / 3, 5.0) for t in range(31)]
    assert power_energy_j(samples, 1.05, 8.77) == pytest.approx(5.0 * (8.77 - 1.05), abs=1e-12)


def test_edges_are_interpolated_on_a_ramp() -> None:
    samples = [(0.0, 0.0), (4.0, 8.0), (10.0, 20.0)]  # P = 2 t
    assert power_energy_j(samples, 1.0, 3.0) == pytest.approx(3.0**2 - 1.0**2)
    assert power_energy_j(samples, 1.0, 9.0) == pytest.approx(9.0**2 - 1.0**2)


def test_a_step_between_two_samples_counts_as_a_ramp() -> None:
    samples = [(0.0, 2.0), (1.0, 2.0), (2.0, 4.0), (3.0, 4.0)]
    assert power_energy_j(samples, 0.0, 3.0) == pytest.approx(2.0 + 3.0 + 4.0)


@pytest.mark.parametrize(("start_s", "end_s"), [(-0.1, 2.0), (1.0, 3.1)])
def test_nothing_is_extrapolated(start_s: float, end_s: float) -> None:
    with pytest.raises(ValueError, match="whole window"):
        power_energy_j([(0.0, 1.0), (3.0, 1.0)], start_s, end_s)


samples_strategy = st.lists(st.tuples(st.floats(0.01, 2.0), st.floats(0.0, 100.0)), min_size=2, max_size=20).map(
    lambda steps: [(math.fsum(dt for dt, _ in steps[: i + 1]), value) for i, (_, value) in enumerate(steps)]
)


@given(samples_strategy, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_adjoining_windows_add_up(samples: list[tuple[float, float]], x: float, y: float, z: float) -> None:
    first_s, last_s = samples[0][0], samples[-1][0]
    a, b, c = sorted(min(last_s, first_s + f * (last_s - first_s)) for f in (x, y, z))
    for integral in (power_energy_j, counter_energy_j):
        parts = integral(samples, a, b) + integral(samples, b, c)
        assert parts == pytest.approx(integral(samples, a, c), rel=1e-9, abs=1e-9)


def test_gaps() -> None:
    samples = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (5.0, 1.0), (6.0, 1.0), (10.0, 1.0)]
    assert longest_gap_s(samples, 0.0, 10.0) == 4.0
    # 3 s and 4 s without a sample, of which one period each is no loss
    assert lost_fraction(samples, 0.0, 10.0, 1.0) == pytest.approx(0.5)
    # one sample in ten missing is one period lost
    assert lost_fraction([(float(t), 1.0) for t in range(11) if t != 4], 0.0, 10.0, 1.0) == pytest.approx(0.1)
    assert lost_fraction([(float(t), 1.0) for t in range(11)], 0.0, 10.0, 1.0) == 0


def test_the_quiet_part_of_a_band_is_taken_off_at_idle_power() -> None:
    band = Band(a_s=-2.0, b_s=12.0, t0_s=0.0, t1_s=10.0)
    gross_j, net_j = gross_and_net_j(4 * 2.0 + 10 * 5.0, band, 2.0)
    assert (gross_j, net_j) == (50.0, 30.0)
    assert gross_and_net_j(50.0, band, None) == (50.0, None)


def _observe(t0_s: float, work_s: float, *, period_s: float, phase_s: float, late_s: float = 0.0) -> Observation:
    """An averaging meter (2 W idle, 4 W load) whose timestamps are late by late_s, and 3 s of quiet on each side."""

    def worked_s(until_s: float) -> float:
        return min(max(until_s - t0_s, 0.0), work_s)

    samples = []
    for i in range(int((work_s + 20) / period_s)):
        end_s = t0_s - 8 + phase_s + i * period_s
        share = (worked_s(end_s) - worked_s(end_s - period_s)) / period_s
        samples.append((end_s + late_s, 2.0 + 2.0 * share))
    return Observation(
        rhythm=(),
        quiet_from_s=t0_s - 3,
        opened_s=t0_s,
        t0_s=t0_s,
        t1_s=t0_s + work_s,
        closed_s=t0_s + work_s,
        quiet_until_s=t0_s + work_s + 3,
        executions=1,
        samples=samples,
    )


@pytest.mark.parametrize("phase_s", [0.0, 0.13, 0.31, 0.49])
@pytest.mark.parametrize("work_s", [2.5, 10.1])
def test_guard_bands_leave_no_bias_where_a_plain_window_does(phase_s: float, work_s: float) -> None:
    meter = replace(METER, latency_s=0.4)
    seen = _observe(1000.0, work_s, period_s=0.5, phase_s=phase_s, late_s=0.4)
    true_j = 2.0 * work_s
    guarded = evaluate(meter, seen, IDLE, poll_s=0.5)
    assert guarded.energy_net_j == pytest.approx(true_j, rel=1e-9)
    assert guarded.energy_gross_j == pytest.approx(2 * true_j, rel=1e-9)
    assert "no_guard" not in guarded.flags

    no_quiet = replace(seen, quiet_from_s=seen.opened_s, quiet_until_s=seen.closed_s)
    plain = evaluate(meter, no_quiet, IDLE, poll_s=0.5)
    assert "no_guard" in plain.flags
    assert plain.energy_net_j is not None
    # the meter's lateness alone cuts 0.4 s of load off
    assert plain.energy_net_j < true_j - 0.5


def test_a_counter_that_ticks_slowly_is_exact_between_guard_bands() -> None:
    def ticks_j(t_s: float) -> float:  # moves every 0.1 s only; 2 W, and 52 W from 0 s to 10 s
        seen_s = math.floor(t_s * 10 + 1e-9) / 10
        return 1000 + 2 * seen_s + 50 * min(max(seen_s, 0.0), 10.0)

    times = [t / 7 for t in range(-21, 92)]
    seen = Observation(
        quiet_from_s=-2.0,
        opened_s=-0.003,
        t0_s=0.001,
        t1_s=10.0,
        closed_s=10.002,
        quiet_until_s=12.0,
        executions=4,
        samples=[(t, ticks_j(t)) for t in times],
    )
    result = evaluate(COUNTER, seen, IDLE, poll_s=0.1)
    # four executions; the quiet edges are off by less than one tick of idle power on each side
    assert result.energy_net_j == pytest.approx(500 / 4, abs=2 * 0.2 / 4)
    assert result.duration_s == pytest.approx(9.999 / 4)
    assert {term.name: term.gross_j for term in result.terms}["edge"] == 0
    assert "repeated_in_window" in result.flags
    assert result.band_s == pytest.approx((10.2 - -0.099) / 4)


def terms_of(band: Band, info: SourceInfo, **more: float) -> dict[str, Term]:
    values = {"gross_j": 50.0, "net_j": 30.0, "idle_power_w": 2.0, "idle_power_u_w": 0.05, "period_s": 0.5} | more
    return {term.name: term for term in budget(info, band, **values)}  # type: ignore[arg-type]


def test_the_budget_combines_in_quadrature_and_k_is_2() -> None:
    assert expanded_j([3.0, 0.0, 4.0]) == pytest.approx(10.0)


def test_each_term_of_the_budget() -> None:
    info = replace(METER, gain_u=0.02, offset_u=0.1, resolution=0.012)
    band = Band(a_s=-1.0, b_s=11.0, t0_s=0.0, t1_s=10.0)
    terms = terms_of(band, info, gap_j=0.3, leak_j=-0.6)
    assert terms["gain"].gross_j == pytest.approx(1.0)
    assert terms["gain"].net_j == pytest.approx(0.6)
    assert terms["gain"].basis.startswith("assumed: 0.02")
    assert terms["offset"].gross_j == pytest.approx(1.0)
    assert terms["offset"].net_j == 0  # the baseline has the same zero
    # a steady power is rounded the same way every time: many samples do not help
    assert terms["rounding"].gross_j == pytest.approx(0.012 / math.sqrt(12) * 12)
    assert terms["edge"].gross_j == pytest.approx(3.0 * 0.5 / math.sqrt(6))
    assert terms["gap"].net_j == pytest.approx(0.3 / math.sqrt(3))
    assert terms["leak"].net_j == pytest.approx(0.6 / math.sqrt(3))
    assert terms["idle"].gross_j == pytest.approx(0.05 * 2)
    assert terms["idle"].net_j == pytest.approx(0.05 * 12)
    assert all(term.basis for term in terms.values())


def test_without_quiet_around_it_the_ends_are_cut_and_the_budget_knows() -> None:
    plain = Band(a_s=0.0, b_s=10.0, t0_s=0.0, t1_s=10.0)
    late = replace(METER, latency_s=0.5)
    assert terms_of(plain, late)["edge"].gross_j == pytest.approx(3.0 * (0.5 + 0.5) / math.sqrt(3))
    counter = replace(COUNTER, resolution=0.6)
    assert terms_of(plain, counter, period_s=0.1)["edge"].gross_j == pytest.approx(3.0 * 0.1 / math.sqrt(3))
    assert terms_of(plain, counter)["rounding"].gross_j == pytest.approx(0.6 / math.sqrt(6))
    guarded = Band(a_s=-1.0, b_s=11.0, t0_s=0.0, t1_s=10.0)
    assert terms_of(guarded, counter)["edge"].gross_j == 0


def test_a_full_window_of_a_board_meter_has_grade_a_and_each_shortfall_costs_one() -> None:
    seen = _observe(0.0, 30.0, period_s=0.5, phase_s=0.2)
    full = evaluate(METER, seen, IDLE, poll_s=0.5)
    assert (full.grade, full.flags) == ("A", ())
    assert evaluate(replace(METER, scope="cpu"), seen, IDLE, poll_s=0.5).grade == "B"
    short = evaluate(METER, _observe(0.0, 5.0, period_s=0.5, phase_s=0.2), IDLE, poll_s=0.5)
    assert (short.grade, short.flags) == ("B", ("short_window",))
    assert evaluate(METER, seen, replace(IDLE, duration_s=5.0), poll_s=0.5).flags == ("short_idle",)
    assert evaluate(METER, seen, replace(IDLE, busy_fraction=0.2), poll_s=0.5).flags == ("busy_idle",)
    assert evaluate(METER, seen, None, poll_s=0.5).energy_net_j is None


@pytest.mark.parametrize("name", ["simulated", "simulated?power_w=7", "replay:trace.csv"])
def test_what_is_made_up_never_gets_better_than_c(name: str) -> None:
    result = evaluate(replace(METER, name=name), _observe(0, 60, period_s=0.5, phase_s=0), IDLE, poll_s=0.5)
    assert result.grade == "C"
    assert set(result.flags) & LABELS


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"error": "cable out"}, "source_died"),
        ({"t1_s": 1e6}, "times_outside_window"),
        ({"t0_s": -1.0}, "times_outside_window"),
        ({"samples": ()}, "gap"),
    ],
)
def test_an_unusable_window_has_grade_x_a_reason_and_no_figure(change: dict[str, object], flag: str) -> None:
    seen = replace(_observe(0.0, 30.0, period_s=0.5, phase_s=0.0), **change)  # type: ignore[arg-type]
    result = evaluate(METER, seen, IDLE, poll_s=0.5)
    assert result.grade == "X"
    assert flag in result.flags
    assert result.error
    assert result.energy_gross_j is None
    assert result.energy_net_j is None
    assert result.energy_u_j is None


def test_a_long_gap_is_not_interpolated_across_and_a_lost_sample_is_told() -> None:
    seen = _observe(0.0, 600.0, period_s=0.5, phase_s=0.0)
    hole = replace(seen, samples=[s for s in seen.samples if not 100 < s[0] < 103])
    assert "gap" in evaluate(METER, hole, IDLE, poll_s=0.5).flags
    one = replace(seen, samples=[s for s in seen.samples if not 100 < s[0] < 101.2])
    result = evaluate(METER, one, IDLE, poll_s=0.5)
    assert (result.grade, result.flags) == ("B", ("lost_samples",))


def test_no_joules_for_a_busy_window_are_an_error_not_a_value() -> None:
    seen = replace(_observe(0.0, 20.0, period_s=0.5, phase_s=0.0), samples=[(float(t), 42.0) for t in range(-5, 30)])
    result = evaluate(COUNTER, seen, None, poll_s=0.1)
    assert (result.grade, result.flags, result.energy_gross_j) == ("X", ("no_energy",), None)


def test_work_that_starts_late_is_told_and_the_setup_kept_out() -> None:
    seen = replace(_observe(100.0, 20.0, period_s=0.5, phase_s=0.0), opened_s=98.0)
    result = evaluate(METER, seen, IDLE, poll_s=0.5)
    assert "late_start" in result.flags
    assert result.energy_gross_j == pytest.approx(80.0, rel=0.02)


def test_every_flag_is_explained() -> None:
    assert set(FLAGS) >= FATAL | LABELS | NOTES
    assert grade(METER, ["source_died"]) == "X"
    assert grade(replace(METER, kind="none"), []) is None
