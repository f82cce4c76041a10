"""Work that another machine timed: placed on the meter's clock, with what that leaves open in the joules' interval."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hardware.instruments.waveform import pulses
from hardware.measure.clocks import MAX_DRIFT, ClockMap, Exchange, Offset
from hardware.measure.evaluation import evaluate
from hardware.measure.idle import IdleBaseline
from hardware.measure.observation import Observation
from hardware.measure.result import EnergyResult
from hardware.source import SourceInfo

There = Callable[[float], float]
"""The board's clock as a function of the host's."""

IDLE_W = 2.0
GAIN_U = 0.002


def off(ahead_s: float, drift: float = 0.0, *, jump_s: float = 0.0, at_s: float = 0.0) -> There:
    return lambda t_s: ahead_s + t_s * (1 + drift) + (jump_s if t_s >= at_s else 0.0)


def exchanges(rng: random.Random, there: There, start_s: float, *, delay_s: float, n: int = 8) -> list[Exchange]:
    """Exchanges over a network whose two ways take as long as they like, independently of each other, for 0.1 s."""
    found: list[Exchange] = []
    t_s = start_s
    while not found or (len(found) < n and t_s - start_s < 0.1):
        read_s = t_s + rng.expovariate(1 / delay_s)
        received_s = read_s + rng.expovariate(1 / delay_s)
        found.append(Exchange(t_s, there(read_s), received_s))
        t_s = received_s
    return found


@dataclass
class Seen:
    """What the host knows of work on the board, and when it really was, t0_s to t1_s."""

    map: ClockMap
    t0_there_s: float
    t1_there_s: float
    opened_s: float
    closed_s: float
    t0_s: float
    t1_s: float


def work(rng: random.Random, there: There, start_s: float, length_s: float, *, delay_s: float) -> Seen:
    before = exchanges(rng, there, start_s, delay_s=delay_s)
    go_s = before[-1].received_s
    t0_s = go_s + rng.expovariate(1 / delay_s)
    t1_s = t0_s + length_s
    done_s = t1_s + rng.expovariate(1 / delay_s)
    after = exchanges(rng, there, done_s, delay_s=delay_s)
    where = ClockMap(Offset.of(before), Offset.of(after), go_s, done_s)
    return Seen(where, there(t0_s), there(t1_s), start_s, after[-1].received_s, t0_s, t1_s)


def window(rng: random.Random, there: There, *, guard_s: float, delay_s: float) -> tuple[EnergyResult, float, float]:
    """(result, true gross, true net joules) of work on a board, measured by an averaging meter with gain and noise."""
    load_w, length_s = rng.uniform(2.0, 6.0), rng.uniform(10.0, 30.0)
    seen = work(rng, there, 100.0 + rng.random(), length_s, delay_s=delay_s)
    wave = pulses(IDLE_W, IDLE_W + load_w, [(seen.t0_s, seen.t1_s)])
    period_s, gain = 0.1, 1 + rng.gauss(0, GAIN_U)
    first_s = 60 + rng.random() * period_s
    samples = []
    for i in range(int((seen.t1_s + 20 - first_s) / period_s)):
        end_s = first_s + i * period_s
        power_w = wave.energy_j(end_s - period_s, end_s) / period_s
        samples.append((end_s, gain * (power_w + rng.gauss(0, 0.02))))
    info = SourceInfo(name="meter", kind="power", scope="board", covers=("board",), period_s=period_s, averages=1.0,
                      gain_u=GAIN_U)  # fmt: skip
    placed = seen.map.place(seen.t0_there_s, seen.t1_there_s)
    watched = Observation(
        quiet_from_s=seen.opened_s - guard_s, opened_s=seen.opened_s, t0_s=placed.t0_s, t1_s=placed.t1_s,
        closed_s=seen.closed_s, quiet_until_s=seen.closed_s + guard_s, executions=1, samples=samples,
        edge_u_s=placed.u_s, clock_jumped=placed.jumped,
    )  # fmt: skip
    idle = IdleBaseline(
        power_w=gain * (IDLE_W + rng.gauss(0, 0.001)), u_power_w=0.001, duration_s=30, n_samples=300,
        started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return evaluate(info, watched, idle, poll_s=0.05), (IDLE_W + load_w) * length_s, load_w * length_s


def holds(results: list[tuple[EnergyResult, float, float]]) -> tuple[float, float]:
    """Share of the windows whose interval holds the true joules, gross and net."""
    gross = [abs(one.energy_gross_j - true) <= one.energy_u_j for one, true, _ in results]  # type: ignore[operator]
    net = [abs(one.energy_net_j - true) <= one.energy_net_u_j for one, _, true in results]  # type: ignore[operator]
    return sum(gross) / len(gross), sum(net) / len(net)


@pytest.mark.parametrize("guard_s", [2.0, 0.0])
@pytest.mark.parametrize("delay_s", [0.0005, 0.005, 0.02])
def test_a_clock_that_is_off_and_drifts_leaves_the_joules_in_their_interval(guard_s: float, delay_s: float) -> None:
    rng = random.Random(f"{guard_s} {delay_s}")
    there = off(3.0, 50e-6)
    results = [window(rng, there, guard_s=guard_s, delay_s=delay_s) for _ in range(200)]
    gross, net = holds(results)
    print(f"guard {guard_s:g} s, delay {delay_s * 1e3:g} ms: {gross:.1%} gross, {net:.1%} net")
    assert min(gross, net) >= 0.93
    assert not any("clock_jumped" in one.flags for one, _, _ in results)
    for one, _, _ in results:
        clock = next(term for term in one.terms if term.name == "clock")
        assert clock.gross_j > 0
        assert (clock.net_j == 0) == (not {"no_guard", "late_start", "late_end"} & {*one.flags})


def test_without_the_map_such_a_clock_gives_no_joules() -> None:
    rng = random.Random(1)
    result, _, _ = window(rng, off(0.0), guard_s=2.0, delay_s=0.001)
    assert result.grade == "A"
    seen = work(rng, off(3.0, 50e-6), 100.0, 20.0, delay_s=0.001)
    naive = Observation(
        quiet_from_s=98, opened_s=seen.opened_s, t0_s=seen.t0_there_s, t1_s=seen.t1_there_s, closed_s=seen.closed_s,
        quiet_until_s=123, executions=1, samples=[(90 + i / 10, 3.0) for i in range(400)],
    )  # fmt: skip
    info = SourceInfo(name="meter", kind="power", scope="board", covers=("board",), period_s=0.1, gain_u=0.01)
    assert "times_outside_window" in evaluate(info, naive, None, poll_s=0.05).flags


@pytest.mark.parametrize("jump_s", [3.0, 0.2, 0.03, -0.03, -0.5, -60.0])
@pytest.mark.parametrize("at_s", [100.02, 105.0, 119.9])
def test_a_jump_in_the_middle_is_graded(jump_s: float, at_s: float) -> None:
    rng = random.Random(f"{jump_s} {at_s}")
    there = off(3.0, 50e-6, jump_s=jump_s, at_s=at_s)
    seen = work(rng, there, 100.0, 20.0, delay_s=0.0005)
    placed = seen.map.place(seen.t0_there_s, seen.t1_there_s)
    assert placed.jumped
    # the ends are those of this clock, and what is not known of them is in the uncertainty
    assert abs(placed.t0_s - seen.t0_s) <= 2 * placed.u_s + 0.02
    assert abs(placed.t1_s - seen.t1_s) <= 2 * placed.u_s + 0.02


def test_a_jump_costs_the_grade_and_not_the_truth() -> None:
    rng = random.Random(5)
    results = [
        window(rng, off(3.0, 50e-6, jump_s=rng.uniform(-2, 2), at_s=106.0), guard_s=2.0, delay_s=0.001)
        for _ in range(100)
    ]
    jumped = [one for one, _, _ in results if "clock_jumped" in one.flags]
    assert len(jumped) >= 97  # jumps of a few milliseconds are none
    assert all(one.grade in ("B", "C") for one in jumped)
    assert min(holds(results)) >= 0.93


def test_exchanges_that_contradict_each_other_are_a_jump() -> None:
    there = off(0.0, jump_s=0.5, at_s=10.0)
    rng = random.Random(2)
    before = exchanges(rng, there, 9.995, delay_s=0.001)
    after = exchanges(rng, there, 30.0, delay_s=0.001)
    assert Offset.of(before).bound_s < 0
    assert ClockMap(Offset.of(before), Offset.of(after), 10.1, 29.9).jumped(there(10.2), there(29.8))


def test_a_clock_that_is_slewed_as_fast_as_a_kernel_does_is_none() -> None:
    rng = random.Random(3)
    for drift in (500e-6, -500e-6):
        seen = work(rng, off(-7.0, drift), 100.0, 300.0, delay_s=0.002)
        placed = seen.map.place(seen.t0_there_s, seen.t1_there_s)
        assert not placed.jumped
        assert placed.t0_s == pytest.approx(seen.t0_s, abs=0.02)
        assert placed.t1_s == pytest.approx(seen.t1_s, abs=0.02)
        assert seen.map.here(seen.map.before.at_s + 150) == pytest.approx(seen.map.go_s + 150, abs=0.2)
    assert MAX_DRIFT > 500e-6


def test_no_exchange_is_an_error() -> None:
    with pytest.raises(ValueError, match="no exchange"):
        Offset.of([])
