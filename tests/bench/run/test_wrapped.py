"""Wrapped commands: joules on instruments simulated at the wire, per unit, in a run folder that goes on."""

from __future__ import annotations

import random
from bisect import bisect_right
from pathlib import Path

import pytest

from bench.compare import compare, load_run, make_rules
from bench.errors import RequestError
from bench.read.results import load
from bench.run.wrapped import Wrapped, measure
from bench.store.run_dir import RunDir
from bench.suite.suite import EnergySpec
from bench.work.command import Command, Ended, Per
from hardware import Sampler
from hardware.device.machine import Snapshot
from hardware.instruments import FrontEnd
from hardware.instruments.clock import SimulatedClock
from hardware.instruments.port import SimulatedLink, served
from hardware.instruments.um import Um
from hardware.instruments.waveform import Waveform
from hardware.measure.trace import read_trace
from hardware.sources.um import UmSource

CALM = Snapshot(temperature_c=50.0, frequency_hz=None, governor=None, throttle_bits=0)
BARE = EnergySpec(repeats=1, min_window_s=0.0, idle_s=0.0, guard_s=0.0, cooldown_s=0.0)
WINDOWS = 200


class Load:
    """A power that is set as time goes on, constant in between; its energy is known exactly."""

    def __init__(self, start_s: float, power_w: float) -> None:
        self._times, self._powers, self._sums = [start_s], [power_w], [0.0]

    def set(self, now_s: float, power_w: float) -> None:
        self._sums.append(self._since_first_j(now_s))
        self._times.append(now_s)
        self._powers.append(power_w)

    def power_w(self, t_s: float) -> float:
        return self._powers[max(0, bisect_right(self._times, t_s) - 1)]

    def energy_j(self, start_s: float, end_s: float) -> float:
        return self._since_first_j(end_s) - self._since_first_j(start_s)

    def _since_first_j(self, t_s: float) -> float:
        at = max(0, bisect_right(self._times, t_s) - 1)
        return self._sums[at] + (t_s - self._times[at]) * self._powers[at]


class Work:
    """A command in simulated time: it loads the device for a while, steadily or by turns, and counts units."""

    def __init__(self, rng: random.Random, load: Load, clock: SimulatedClock, idle_w: float, units: float) -> None:
        self._rng, self._load, self._clock, self._idle_w, self._units = rng, load, clock, idle_w, units
        self.spans: list[tuple[float, float]] = []

    def execute(self) -> Ended:
        start_s = self._clock.monotonic()
        end_s = start_s + self._rng.uniform(3.0, 30.0)
        step_w, shares = self._rng.uniform(1.0, 8.0), self._rng.choice(((1.0,), (0.6, 0.8, 1.0)))
        share, until_s = shares[0], start_s
        while (now_s := self._clock.monotonic()) < end_s:
            if now_s >= until_s:
                share, until_s = self._rng.choice(shares), now_s + self._rng.expovariate(1 / 0.7)
            # no real power stands still: readings that do are those of a meter that hangs
            self._load.set(now_s, self._idle_w + step_w * share * self._rng.uniform(0.995, 1.005))
            self._clock.sleep_until(min(end_s, until_s, now_s + 0.3))
        self._load.set(end_s, self._idle_w)
        self.spans.append((start_s, end_s))
        return Ended(status=0, units=self._units)


def one_window(seed: int) -> tuple[bool, bool]:
    """Whether the intervals of gross and net joules per unit hold the truth, of one wrapped command."""
    rng = random.Random(seed)
    clock = SimulatedClock(1000.0 + rng.random())
    idle_w = rng.uniform(1.0, 4.0)
    load = Load(clock.monotonic() - 10.0, idle_w)
    source = UmSource("um25c", "simulated", clock=clock.monotonic)
    front = FrontEnd(
        waveform=load, on_s=clock.monotonic() - rng.random(), gain=rng.gauss(1.0, source.info.gain_u),
        averaging=rng.random() < 0.5, delay_s=rng.uniform(0.0, 0.2),
    )  # fmt: skip
    instrument = Um(front)
    source._dial = lambda: SimulatedLink(instrument, clock)
    source._pause = clock.sleep  # type: ignore[method-assign, assignment]
    with clock.elsewhere(up_to_s=12.0):
        source.open()
    source.open = lambda: None  # type: ignore[method-assign]
    sampler = Sampler(source, clock=clock, cpu_times=lambda: None, look=lambda: CALM, background=False)
    sampler.start()
    clock.every(sampler._recorder.interval_s, sampler.poll)
    sampler.measure_idle(30)
    units = rng.uniform(1.0, 1000.0)
    work = Work(rng, load, clock, idle_w, units)
    energy = EnergySpec(repeats=1, min_window_s=rng.choice([0.0, 20.0]))
    window = measure(sampler, work, energy, name="w", clock=clock)
    clock.release()
    sampler.stop()
    result, runs = window.energy, len(work.spans)
    assert result.grade in ("A", "B", "C"), result
    assert result.executions == runs
    assert window.units == pytest.approx(units)
    t0_s, t1_s = work.spans[0][0], work.spans[-1][1]
    gross_j = load.energy_j(t0_s, t1_s) / runs / units
    net_j = gross_j - idle_w * (t1_s - t0_s) / runs / units
    assert None not in (result.energy_gross_j, result.energy_net_j)
    return (
        abs(result.energy_gross_j - gross_j) <= result.energy_u_j,
        abs(result.energy_net_j - net_j) <= result.energy_net_u_j,
    )


def test_intervals_hold_the_truth_in_simulated_time() -> None:
    gross, net = zip(*map(one_window, range(WINDOWS)), strict=True)
    print(f"gross {sum(gross) / WINDOWS:.3f}, net {sum(net) / WINDOWS:.3f} of {WINDOWS}")
    assert sum(gross) / WINDOWS >= 0.93
    assert sum(net) / WINDOWS >= 0.93


@pytest.mark.parametrize("windows", [1, pytest.param(5, marks=pytest.mark.long)])
def test_intervals_hold_the_truth_in_real_time(tmp_path: Path, windows: int) -> None:
    """A real command between real seconds; the meter hangs on a pseudo-terminal, and its power goes up and down."""
    power = Waveform([(0.0, 2.0), (3.0, 6.0)], period_s=3.7)
    link = tmp_path / "um25c"
    with served(Um(FrontEnd(waveform=power, on_s=0.0)), link):
        wrapped = Wrapped(
            Command(["sleep", "2.5"]), name="sleep", out=tmp_path / "run", source=f"um25c:{link}",
            energy=BARE.model_copy(update={"repeats": windows}),
        )  # fmt: skip
        records = [record for record, _ in wrapped.records()]
    for record in records:
        assert record.trace is not None
        trace = read_trace(tmp_path / "run" / "traces" / record.trace)
        t0_s, t1_s = trace.moment_s("t0_s"), trace.moment_s("t1_s")
        assert t0_s is not None
        assert t1_s is not None
        truth_j = power.energy_j(t0_s, t1_s)
        assert record.energy_gross_j == pytest.approx(truth_j, abs=record.energy_u_j)
        assert record.grade in ("B", "C")


def wrap(folder: Path, words: list[str], *, name: str = "it", per: str | None = None, repeats: int = 3) -> Wrapped:
    command = Command(words, None if per is None else Per.parse(per))
    energy = BARE.model_copy(update={"repeats": repeats, "idle_s": 0.05})
    return Wrapped(command, name=name, out=folder, source="simulated", energy=energy)


def test_folder_goes_on_with_repeats_and_other_commands(tmp_path: Path) -> None:
    assert len([*wrap(tmp_path / "run", ["sleep", "0.02"]).records()]) == 3
    assert [record.repeat for record, _ in wrap(tmp_path / "run", ["sleep", "0.02"], repeats=2).records()] == [3, 4]
    assert [record.arm for record, _ in wrap(tmp_path / "run", ["true"], name="other").records()] == 3 * ["other"]
    with pytest.raises(RequestError, match=r"holds another run \(it was sleep 0\.02\); choose another --name"):
        wrap(tmp_path / "run", ["sleep", "0.03"])
    results = load(tmp_path / "run")
    assert len(results.records) == 8
    assert results.title == "it, other"
    manifest = RunDir(tmp_path / "run").read_manifest()
    assert manifest is not None
    assert manifest.commands == {"it": ["sleep", "0.02"], "other": ["true"]}
    assert len(manifest.sessions) == 3


def test_joules_per_unit_compare_with_each_other_and_with_nothing_else(tmp_path: Path) -> None:
    sleep = ["sleep", "0.05"]
    for name, per in (("hundred", "tokens=100"), ("twice", "tokens=200"), ("run", None)):
        assert len([*wrap(tmp_path / name, sleep, per=per).records()]) == 3
    rules = make_rules(fail_on=None, margin=None, net=False, across=True)
    found = compare(load_run(str(tmp_path / "twice")), load_run(str(tmp_path / "hundred")), rules)
    assert len(found.conditions) == 1
    assert found.conditions["joules_change"][0] == pytest.approx(-0.5, abs=0.2)
    with pytest.raises(RequestError, match="in common"):
        compare(load_run(str(tmp_path / "run")), load_run(str(tmp_path / "hundred")), rules)


def test_what_fails_is_recorded_and_ends_the_repeats(tmp_path: Path) -> None:
    ((record, ended),) = wrap(tmp_path / "run", ["sh", "-c", "exit 3"]).records()
    assert (record.status, record.error, ended.status) == ("failed", "exit status 3", 3)
    (line,) = RunDir(tmp_path / "run").records()
    assert line["status"] == "failed"


def test_output_without_the_units_fails_the_repeat(tmp_path: Path) -> None:
    ((record, _), *_) = wrap(tmp_path / "run", ["echo", "nothing"], per="tokens=([0-9]+)", repeats=1).records()
    assert (record.status, record.error, record.unit) == ("failed", "its output names no tokens", "run")
