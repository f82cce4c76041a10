"""What speaks against a window: a quiet that was none, a second path that disagrees, a device or idle that changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import EnergyResult, IdleBaseline, Sampler, SourceError, cool_down, window_needed_s
from hardware.device.machine import Snapshot
from hardware.instruments.clock import SimulatedClock
from hardware.instruments.waveform import Waveform, pulses
from hardware.measure.evaluation import evaluate
from hardware.measure.idle import bracket, bracketing, differ, of_means, rebase
from hardware.measure.observation import Observation
from hardware.source import OwnCounter, PowerSource, Sample, SourceInfo

METER = SourceInfo(name="meter", kind="power", scope="board", covers=("board",), period_s=0.5, gain_u=0.01)
IDLE = IdleBaseline(power_w=2.0, u_power_w=0.01, duration_s=30, n_samples=100, started_at="2026-01-01T00:00:00+00:00")
CALM = Snapshot(temperature_c=50.0, frequency_hz=1e9, governor="schedutil", throttle_bits=0, throttle_count=7)
T0, T1 = 100.0, 120.0


def observe(wave: Waveform, *, late_s: float = 0.0, period_s: float = 0.5, **more: object) -> Observation:
    """What an averaging meter shows of a waveform around work from T0 to T1, with 3 s of quiet on each side."""
    samples = []
    for i in range(1, int(40 / period_s)):
        end_s = T0 - 10.1 + i * period_s
        samples.append((end_s + late_s, wave.energy_j(end_s - period_s, end_s) / period_s))
    seen = Observation(
        rhythm=(),
        quiet_from_s=T0 - 3,
        opened_s=T0,
        t0_s=T0,
        t1_s=T1,
        closed_s=T1,
        quiet_until_s=T1 + 3,
        executions=1,
        samples=samples,
        env_before=CALM,
        env_after=CALM,
    )
    return replace(seen, **more)  # type: ignore[arg-type]


def judge(seen: Observation, idle: IdleBaseline | None = IDLE) -> EnergyResult:
    return evaluate(METER, seen, idle, poll_s=0.1)


WORK = pulses(2.0, 5.0, [(T0, T1)])


def test_a_good_window() -> None:
    result = judge(observe(WORK))
    assert (result.grade, result.flags) == ("A", ())
    assert result.energy_net_j == pytest.approx(60.0)
    assert (result.lost_fraction, result.longest_gap_s) == (0.0, pytest.approx(0.5))
    assert (result.env_before, result.env_after) == (CALM, CALM)


@pytest.mark.parametrize(("seconds", "grade"), [(0.9, "X"), (1.1, "C")])
def test_what_may_lie_between_two_readings_has_no_joules(seconds: float, grade: str) -> None:
    # a meter that shows the power of a moment, and the work happens to begin just after one
    moments = [(T0 - 10.1 + i * 0.5, 2.0) for i in range(80)]
    result = judge(observe(WORK, samples=moments, t1_s=T0 + seconds, closed_s=T0 + seconds))
    assert result.grade == grade
    assert ("unseen" in result.flags) == (grade == "X")


def test_how_long_a_window_has_to_be() -> None:
    assert window_needed_s(METER, 0.0) == 2.0
    assert window_needed_s(METER, 10.0) == 10.0
    assert window_needed_s(replace(METER, kind="counter"), 0.3) == 0.3
    assert window_needed_s(replace(METER, kind="estimate"), 0.3) == 0.3
    assert window_needed_s(replace(METER, kind="none"), 10.0) == 0.0


# -- quiet and clocks -------------------------------------------------------------------------------------


def test_what_ran_just_before_is_not_charged_to_the_work() -> None:
    # the child warmed up until the quiet began; the meter still shows it a second later
    seen = observe(pulses(2.0, 5.0, [(T0 - 20, T0 - 3), (T0, T1)]))
    result = judge(seen)
    assert result.grade == "A"
    assert result.energy_net_j == pytest.approx(60.0)
    # with less quiet there is no telling the two apart, so the quiet is not used at all
    short = judge(replace(seen, quiet_from_s=T0 - 1.4))
    assert "no_guard" in short.flags


def test_a_little_too_much_in_the_quiet_is_told_and_widens_the_interval() -> None:
    noisy = judge(observe(pulses(2.0, 5.0, [(T0, T1), (T1 + 1.5, T1 + 1.7)])))
    assert noisy.flags == ("busy_guard",)
    assert noisy.grade == "B"
    assert noisy.energy_net_u_j is not None
    assert noisy.energy_net_u_j > judge(observe(WORK)).energy_net_u_j  # type: ignore[operator]


@pytest.mark.parametrize("late_s", [2.6, -2.2])
def test_clocks_that_disagree_are_noticed(late_s: float) -> None:
    result = judge(observe(WORK, late_s=late_s))
    assert (result.grade, result.flags) == ("X", ("not_quiet",))
    assert "off idle" in str(result.error)


@given(st.floats(-3.0, 3.0))
def test_whatever_the_clocks_do_a_figure_is_true_or_x(late_s: float) -> None:
    result = judge(observe(WORK, late_s=late_s))
    if result.grade != "X":
        assert result.energy_net_j == pytest.approx(60.0, abs=result.energy_net_u_j)


# -- the second path --------------------------------------------------------------------------------------


def counted(wave: Waveform, scale: float = 1.0, restarts: int = 0) -> tuple[OwnCounter, ...]:
    return tuple(
        OwnCounter(t_s=t, joules=math.floor(scale * wave.energy_j(90, t) / 3.6) * 3.6, resolution_j=3.6, restarts=n)
        for t, n in ((98.0, 0), (110.0, 0), (122.0, restarts))
    )


def test_the_meters_own_counter_must_agree() -> None:
    result = judge(observe(WORK, counts=counted(WORK)))
    assert result.grade == "A"
    assert result.cross_check is not None
    assert result.cross_check.integral_j == pytest.approx(WORK.energy_j(98, 122), rel=0.01)
    assert result.cross_check.counter_j == pytest.approx(result.cross_check.integral_j, abs=2 * 3.6)
    # 5 % of 100 J are less than two counts, 10 % are more
    wrong = judge(observe(WORK, counts=counted(WORK, scale=1.1)))
    assert (wrong.grade, wrong.flags) == ("X", ("cross_check",))
    assert "its own counter" in str(wrong.error)


def test_a_counter_that_was_set_back_or_is_heard_once_says_nothing() -> None:
    assert judge(observe(WORK, counts=counted(WORK, scale=0.5, restarts=1))).cross_check is None
    assert judge(observe(WORK, counts=counted(WORK)[:1])).cross_check is None


# -- the device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "flag"),
    [
        (replace(CALM, throttle_bits=0x50005), "throttled"),
        (replace(CALM, throttle_count=8), "throttled"),
        (replace(CALM, governor="performance"), "governor_changed"),
    ],
)
def test_a_device_that_changed_is_told(after: Snapshot, flag: str) -> None:
    result = judge(observe(WORK, env_after=after))
    assert (result.grade, result.flags) == ("B", (flag,))
    assert result.env_after == after
    unknown = replace(after, throttle_bits=None, throttle_count=None, governor=None)
    assert judge(observe(WORK, env_after=unknown)).grade == "A"


@pytest.mark.parametrize(
    ("bits", "grade", "flags"),
    [
        (0x0, "A", ()),
        (0x1, "B", ("throttled_before",)),  # undervoltage now
        (0x8, "B", ("throttled_before",)),  # the soft limit of temperature
        (0x50005, "B", ("throttled_before",)),
        (0x50000, "A", ("throttled_since_boot",)),  # some time since it was switched on, and it hides the next time
        (None, "A", ()),
    ],
)
def test_undervoltage_and_throttling_from_the_start_are_told(
    bits: int | None, grade: str, flags: tuple[str, ...]
) -> None:
    state = replace(CALM, throttle_bits=bits)
    result = judge(observe(WORK, env_before=state, env_after=state))
    assert (result.grade, result.flags) == (grade, flags)


def test_what_an_x86_processor_has_counted_before_is_no_flag() -> None:
    state = replace(CALM, throttle_bits=None, throttle_count=4711)
    assert judge(observe(WORK, env_before=state, env_after=state)).flags == ()
    later = replace(state, throttle_count=4712)
    assert judge(observe(WORK, env_before=state, env_after=later)).flags == ("throttled",)


def test_cooling_down_waits_for_the_start_temperature_but_not_for_ever() -> None:
    clock = SimulatedClock(0.0)

    def look() -> Snapshot:
        return replace(CALM, temperature_c=50 + 30 * math.exp(-clock.monotonic() / 20))

    cool = cool_down(50.0, look=look, clock=clock)
    assert cool.reached
    assert cool.waited_s == pytest.approx(20 * math.log(30 / 3), abs=1.0)
    assert (cool.from_c, cool.to_c) == (80.0, pytest.approx(53.0, abs=0.2))
    hot = cool_down(20.0, look=look, clock=clock)
    assert (hot.reached, hot.waited_s) == (False, 120.0)
    for target_c, temperature_c in ((None, 90.0), (50.0, None)):
        nothing = cool_down(target_c, look=lambda t=temperature_c: replace(CALM, temperature_c=t), clock=clock)
        assert (nothing.reached, nothing.waited_s) == (True, 0.0)


def test_work_that_was_repeated_says_so_and_keeps_its_grade() -> None:
    result = judge(observe(WORK, executions=5))
    assert (result.grade, result.flags) == ("A", ("repeated_in_window",))
    assert result.energy_net_j == pytest.approx(12.0)
    assert result.energy_net_u_j == pytest.approx(judge(observe(WORK)).energy_net_u_j / 5)  # type: ignore[operator]


# -- idle -------------------------------------------------------------------------------------------------


def idle(power_w: float | None, second: int = 0, **more: float) -> IdleBaseline:
    return replace(IDLE, power_w=power_w, started_at=f"2026-01-01T00:00:{second:02}+00:00", **more)  # type: ignore[arg-type]


def test_the_mean_of_a_bracket_and_its_uncertainty() -> None:
    both = bracket(idle(2.0, u_power_w=0.03), idle(2.06, u_power_w=0.04))
    assert both.power_w == pytest.approx(2.03)
    assert both.u_power_w == pytest.approx(math.hypot(0.05 / 2, 0.06 / math.sqrt(12)))
    assert not both.drifted
    assert bracket(idle(2.0), idle(2.2)).drifted
    assert judge(observe(WORK), bracket(idle(1.9), idle(2.1))).flags == ("idle_drift",)
    assert bracket(idle(None), idle(2.0)) == bracket(idle(2.0), idle(None)) == idle(2.0)
    assert differ(1.0, 1.06)
    assert differ(5.0, 5.15)
    assert not differ(1.0, 1.04)


def test_each_repeat_has_the_baselines_around_it() -> None:
    known = [idle(1.0, 0), idle(2.0, 20), idle(None, 30), idle(4.0, 40)]
    found = {n_before: bracketing(known, n_before) for n_before in (1, 2, 3, 4)}
    assert {n_before: one.power_w for n_before, one in found.items() if one} == {1: 1.5, 2: 3.0, 3: 3.0, 4: 4.0}
    assert bracketing([idle(3.0, 9)], 0) == idle(3.0, 9)
    assert bracketing([], 0) is None


@given(st.floats(1.5, 2.5))
def test_moving_a_result_to_another_baseline_is_as_good_as_measuring_with_it(power_w: float) -> None:
    seen = observe(WORK, executions=3)
    old, new = judge(seen), judge(seen, idle(power_w))
    if new.grade == "X":  # so far off that the quiet does not look quiet
        return
    assert old.energy_gross_j is not None
    assert old.energy_net_j is not None
    assert old.band_s is not None
    moved = rebase(
        old.energy_gross_j, old.energy_net_j, from_w=2.0, to_w=power_w, work_s=old.duration_s, band_s=old.band_s
    )
    assert moved == (pytest.approx(new.energy_gross_j), pytest.approx(new.energy_net_j))


def test_the_scatter_of_few_values_is_widened_and_rounding_is_its_floor() -> None:
    assert of_means([], METER) == (None, None)
    assert of_means([2.0], METER) == (2.0, None)
    mean_w, u_w = of_means([1.0, 2.0, 3.0, 2.0, 2.0], METER)
    assert mean_w == 2.0
    assert u_w == pytest.approx(math.sqrt(2 / 4 / 5) * math.sqrt(4 / 2))
    assert of_means([2.0] * 10, replace(METER, resolution=0.012))[1] == pytest.approx(0.012 / math.sqrt(12))


# -- the recorder and the sampler -------------------------------------------------------------------------


class Scripted(PowerSource):
    """A meter of 10 Hz and 2 W whose samples a function may change, drop or break."""

    def __init__(self, clock: SimulatedClock, change: Callable[[Sample], list[Sample]] = lambda one: [one]) -> None:
        self.clock = clock
        self.change = change
        self.next_s = clock.monotonic()

    @property
    def info(self) -> SourceInfo:
        return replace(METER, period_s=0.1)

    def poll(self) -> list[Sample]:
        samples = []
        while self.next_s <= self.clock.monotonic():
            samples += self.change((self.next_s, 2.0))
            self.next_s += 0.1
        return samples


def start(source: Scripted, look: Callable[[], Snapshot] = lambda: CALM) -> Sampler:
    sampler = Sampler(source, clock=source.clock, cpu_times=lambda: None, look=look, background=False)
    sampler.start()
    source.clock.every(0.1, sampler.poll)
    return sampler


def test_samples_that_are_no_numbers_or_out_of_order_are_dropped() -> None:
    clock = SimulatedClock()
    source = Scripted(clock)
    sampler = start(source)
    source.change = lambda one: [one, one, (one[0] - 5, 9.0), (one[0] + 50, 9.0), (one[0] + 0.01, math.nan)]
    baseline = sampler.measure_idle(30)
    assert baseline.power_w == pytest.approx(2.0)
    assert sampler._recorder.rejected > 900
    assert sampler.error is None


def test_a_meter_that_pauses_gives_no_idle_power_and_is_asked_again() -> None:
    clock = SimulatedClock()
    source = Scripted(clock)
    sampler = start(source)
    assert sampler.idle_due() == "none was measured yet"
    gone_s = clock.monotonic() + 10
    source.change = lambda one: [] if gone_s < one[0] < gone_s + 4 else [one]
    assert sampler.measure_idle(30).power_w is None
    assert sampler.idle_due() == "the one before failed"
    assert sampler.measure_idle(30).power_w == pytest.approx(2.0)
    assert sampler.idle_due() is None
    assert [one.power_w is None for one in sampler.idle_baselines] == [True, False]
    clock.sleep(901)
    assert "15 min" in str(sampler.idle_due())


def test_a_device_that_changed_needs_a_new_baseline() -> None:
    states = [CALM]
    sampler = start(Scripted(SimulatedClock()), look=lambda: states[-1])
    sampler.measure_idle(30)
    assert sampler.idle_due() is None
    states.append(replace(CALM, governor="powersave"))
    assert "governor_changed" in str(sampler.idle_due())


def test_a_guard_band_is_made_as_long_as_the_source_needs() -> None:
    clock = SimulatedClock()
    source = Scripted(clock)
    sampler = start(source)
    for wanted_s, got_s in ((3.0, 3.0), (0.1, 0.4), (0.0, 0.0)):
        before_s = clock.monotonic()
        sampler.open_window("w", guard_s=wanted_s).cancel()
        assert clock.monotonic() - before_s == pytest.approx(got_s)


def test_a_meter_that_is_slow_to_begin_is_waited_for_and_one_that_is_dead_is_not() -> None:
    clock = SimulatedClock()
    source = Scripted(clock)
    begins_s = clock.monotonic() + 4.5
    source.change = lambda one: [] if one[0] < begins_s else [one]
    start(source)
    assert clock.monotonic() == pytest.approx(begins_s, abs=0.2)
    dead = Scripted(clock, change=lambda _: [])
    with pytest.raises(SourceError, match="no reading"):
        start(dead)
