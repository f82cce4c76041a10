"""Calibration: what it finds against what was put in, and the profiles that carry it to later runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware import HardwareError, Sampler, SourceError
from hardware.calibration import figures as calibration
from hardware.calibration import profile
from hardware.calibration.figures import Load
from hardware.calibration.procedure import Go, Plan, busy_core, calibrate
from hardware.calibration.profile import Profile, ProfileError
from hardware.device.machine import Snapshot
from hardware.instruments import FrontEnd
from hardware.instruments.clock import SimulatedClock
from hardware.instruments.port import SimulatedLink
from hardware.instruments.um import Um
from hardware.registry import choose
from hardware.source import (
    CounterSource,
    EstimateSource,
    OwnCounter,
    PowerSource,
    Sample,
    SampledSource,
    Source,
    SourceInfo,
)
from hardware.sources.um import UmSource

CALM = Snapshot(temperature_c=50.0, frequency_hz=None, governor=None, throttle_bits=0)


class Bench:
    """A device of known power with a meter of known gain; time passes only when somebody sleeps."""

    def __init__(self, seed: int = 0, *, gain: float = 1.0, noise_w: float = 0.01) -> None:
        self.rng = random.Random(seed)
        self.clock = SimulatedClock(1000.0 + self.rng.random())
        self.gain = gain
        self.noise_w = noise_w
        self.power_w = 2.0
        self.load_w = 0.0

    def reading_w(self) -> float:
        return self.gain * (self.power_w + self.load_w) + self.rng.gauss(0.0, self.noise_w)

    @contextmanager
    def work(self, seconds: float) -> Iterator[Go]:
        def go() -> tuple[float, float]:
            start_s = self.clock.monotonic()
            self.power_w = 5.0
            self.clock.sleep(seconds)
            self.power_w = 2.0
            return start_s, self.clock.monotonic()

        yield go

    def calibrate(self, source: Source, plan: Plan, *, load_w: float = 0.0, poll_s: float = 0.1) -> Profile:
        def sampler(overheard: Source) -> Sampler:
            made = Sampler(overheard, clock=self.clock, cpu_times=lambda: None, look=lambda: CALM, background=False)
            self.clock.every(poll_s, made.poll)
            return made

        def switch(connect: bool) -> None:
            self.load_w = load_w if connect else 0.0

        return calibrate(
            source,
            plan,
            version="0.1.0",
            report=lambda _: None,
            switch_load=switch,
            clock=self.clock,
            work=self.work,
            make_sampler=sampler,
        )


class HeldMeter(PowerSource):
    """Makes a new value every ``refresh_s`` and holds it, whenever it is asked."""

    def __init__(self, bench: Bench, refresh_s: float = 0.5, **info: Any) -> None:
        self.bench = bench
        self.refresh_s = refresh_s
        self.device: dict[str, Any] = {}
        self._info: dict[str, Any] = {
            "name": "held:a", "kind": "power", "scope": "board", "covers": ("all",), "period_s": 0.1, "gain_u": 0.01,
            **info,
        }  # fmt: skip
        self._tick = -1
        self._held_w = 0.0

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(**self._info, device=dict(self.device))

    def poll(self) -> list[Sample]:
        now_s = self.bench.clock.monotonic()
        tick = math.floor(now_s / self.refresh_s)
        if tick != self._tick:
            self._tick, self._held_w = tick, self.bench.reading_w()
        return [(now_s, self._held_w)]


class SteppedCounter(CounterSource):
    """Counts every ``refresh_s``."""

    def __init__(self, bench: Bench, refresh_s: float) -> None:
        self.bench = bench
        self.refresh_s = refresh_s

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(
            name="stepped", kind="counter", scope="cpu", covers=("all",), period_s=0.001, gain_u=0.05, resolution=1e-4
        )

    def read(self) -> Sample:
        now_s = self.bench.clock.monotonic()
        return now_s, 2.0 * math.floor(now_s / self.refresh_s) * self.refresh_s


class Switched:
    """A board at rest or at work, and a load beside it, both with a ripple; its energy is known exactly."""

    ripple = ((0.06, 0.37), (0.04, 1.9), (0.03, 0.61))

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.steps = [(0.0, 2.0, 0.0)]  # from when, W, joules by then

    def power_w(self, t_s: float) -> float:
        return self.steps[-1][1] + sum(a * math.sin(w * t_s) for a, w in self.ripple)

    def energy_j(self, start_s: float, end_s: float) -> float:
        return self._sum_j(end_s) - self._sum_j(start_s)

    def look(self) -> None:
        """Note a change of the power at once."""
        now_s, power_w = self.bench.clock.monotonic(), self.bench.power_w + self.bench.load_w
        if power_w != self.steps[-1][1]:
            self.steps.append((now_s, power_w, self._steady_j(now_s)))

    def _sum_j(self, t_s: float) -> float:
        return self._steady_j(t_s) - sum(a / w * math.cos(w * t_s) for a, w in self.ripple)

    def _steady_j(self, t_s: float) -> float:
        from_s, power_w, joules = next(step for step in reversed(self.steps) if step[0] <= t_s)
        return joules + power_w * (t_s - from_s)


def test_a_um25c_through_its_protocol() -> None:
    bench = Bench(gain=1.0)
    device = Switched(bench)
    # each ignore: a stand-in takes the place of what the class has, as far as this test uses it
    instrument = Um(FrontEnd(waveform=device, on_s=bench.clock.monotonic() - 5, gain=1.03))  # type: ignore[arg-type]
    source = UmSource("um25c", "simulated", clock=bench.clock.monotonic)
    source._dial = lambda: SimulatedLink(instrument, bench.clock)
    source._pause = bench.clock.sleep  # type: ignore[method-assign, assignment]
    bench.clock.every(0.05, device.look)
    with bench.clock.elsewhere(up_to_s=12.0):
        source.open()
    source.open = lambda: None  # type: ignore[method-assign]
    plan = Plan(idle_s=60.0, pairs=3, window_s=10.0, load=Load.of_watts(5.0, 0.005))
    found = bench.calibrate(source, plan, load_w=5.0)
    bench.clock.release()
    assert found.source.model == "UM25C"
    assert found.gain is not None
    assert abs(found.gain.gain - 1.03) <= 2 * found.gain.u_rel * 1.03
    assert found.update.period_s == pytest.approx(0.5, rel=0.05)
    assert found.noise_floor.mean_j == pytest.approx(1.03 * 50.0, rel=0.02)


SHORT = Plan(idle_s=20.0, pairs=3, window_s=10.0)


def test_a_known_gain_is_found_within_its_uncertainty() -> None:
    hits, cases = 0, 40
    for seed in range(cases):
        rng = random.Random(seed)
        gain = rng.uniform(0.9, 1.1)
        bench = Bench(seed, gain=gain, noise_w=0.05)
        tolerance = 0.01
        true_w = rng.uniform(3.0, 8.0)
        stated = Load.of_watts(true_w / (1 + rng.uniform(-tolerance, tolerance)), tolerance)
        plan = dataclasses.replace(SHORT, pairs=2, work="quiet", load=stated)
        found = bench.calibrate(HeldMeter(bench), plan, load_w=true_w).gain
        assert found is not None
        assert found.u_rel == pytest.approx(math.hypot(found.type_a_rel, tolerance / math.sqrt(3)))
        assert 0 < found.type_a_rel < 0.02
        hits += abs(found.gain - gain) <= 2 * found.u_rel * found.gain
    assert hits / cases >= 0.93


def test_scatter_alone_covers_too() -> None:
    """Type A by itself: the load is known perfectly, the meter is noisy."""
    hits, cases = 0, 60
    for seed in range(cases):
        bench = Bench(seed, gain=1.02, noise_w=0.2)
        plan = Plan(idle_s=20.0, pairs=2, window_s=2.0, work="quiet", load=Load.of_watts(5.0, 1e-9))
        found = bench.calibrate(HeldMeter(bench), plan, load_w=5.0).gain
        assert found is not None
        hits += abs(found.gain - 1.02) <= 2 * found.u_rel * found.gain
    assert hits / cases >= 0.9


def test_ohms_and_volts_are_watts() -> None:
    load = Load.of_ohms(5.0, 5.1, 0.02)
    assert load.power_w == pytest.approx(5.202)
    assert load.u_rel == pytest.approx(0.02 / math.sqrt(3))
    assert "5.1 V across 5 ohm" in load.basis


def test_a_load_that_is_not_there_is_no_gain() -> None:
    bench = Bench()
    with pytest.raises(HardwareError, match="is the load behind the meter"):
        bench.calibrate(HeldMeter(bench), dataclasses.replace(SHORT, load=Load.of_watts(5.0, 0.01)), load_w=0.0)


def test_a_load_lost_in_the_noise_is_no_gain() -> None:
    bench = Bench(noise_w=0.5)
    with pytest.raises(HardwareError, match="of no use"):
        bench.calibrate(
            HeldMeter(bench), dataclasses.replace(SHORT, work="quiet", load=Load.of_watts(0.5, 0.01)), load_w=0.5
        )


@pytest.mark.parametrize("poll_s", [0.1, 0.13, 0.2, 0.25])
def test_the_period_of_a_meter_that_holds_its_value(poll_s: float) -> None:
    bench = Bench()
    update = bench.calibrate(HeldMeter(bench, period_s=poll_s), SHORT, poll_s=poll_s).update
    assert update.period_s == pytest.approx(0.5, rel=0.05)
    assert update.duplicate_share == pytest.approx(1 - poll_s / 0.5, abs=0.05)


def test_values_that_repeat_by_chance_do_not_lengthen_the_period() -> None:
    rng = random.Random(1)
    # every third new value looks like the one before
    values = [0.0]
    for _ in range(400):
        values.append(values[-1] + (rng.random() > 1 / 3))
    samples = [(0.1 * i, values[i // 5]) for i in range(2000)]
    assert calibration.update_period(samples).period_s == pytest.approx(0.5, rel=0.05)


def test_too_few_changes_tell_no_period() -> None:
    update = calibration.update_period([(0.1 * i, float(i > 50)) for i in range(100)])
    assert update.period_s is None
    assert update.changes == 1


@pytest.mark.parametrize(("refresh_s", "period_s"), [(0.02, 0.02), (1.0, 1.0)])
def test_the_update_period_of_a_counter(refresh_s: float, period_s: float) -> None:
    """A fast one by a burst, one that is too slow for a burst by its readings."""
    bench = Bench()
    found = bench.calibrate(SteppedCounter(bench, refresh_s), dataclasses.replace(SHORT, work="quiet"))
    assert found.update.period_s == pytest.approx(period_s, rel=0.1)
    assert found.idle.mean_w == pytest.approx(2.0, rel=0.05)


def test_idle_noise_of_white_noise() -> None:
    rng = random.Random(4)
    info = HeldMeter(Bench()).info
    noise = calibration.idle_noise(info, [(0.1 * i, 2.0 + rng.gauss(0.0, 0.1)) for i in range(6001)])
    assert noise.mean_w == pytest.approx(2.0, abs=0.01)
    assert noise.sd_w == pytest.approx(0.1, rel=0.05)
    assert abs(noise.drift_w_per_h) < 3 * noise.drift_u_w_per_h
    deviations = {point.tau_s: point.deviation_w for point in noise.allan}
    # white noise: sigma x sqrt(spacing / tau)
    assert deviations[1.0] == pytest.approx(0.1 * math.sqrt(0.1 / 1.0), rel=0.15)
    assert deviations[10.0] == pytest.approx(0.1 * math.sqrt(0.1 / 10.0), rel=0.4)
    assert noise.u_mean_w == pytest.approx(0.1 / math.sqrt(6000), rel=0.6)


def test_drift_is_found() -> None:
    info = HeldMeter(Bench()).info
    noise = calibration.idle_noise(info, [(float(i), 2.0 + 0.36 * i / 3600) for i in range(600)])
    assert noise.drift_w_per_h == pytest.approx(0.36, rel=1e-3)


def test_noise_floor_is_what_the_formula_says() -> None:
    info = HeldMeter(Bench()).info
    floor = calibration.noise_floor(info, [100.0, 101.0, 100.0, 99.0, 100.0, 101.0], window_s=10.0, work="quiet")
    spread = math.sqrt(3 / (2 * 3)) / (601 / 6)
    assert floor.spread_rel == pytest.approx(spread)
    # Student's t with 3 degrees of freedom, 97.5 %: 3.182
    assert floor.smallest_difference_rel == pytest.approx(3.182 * spread * math.sqrt(2 / 5), rel=1e-3)


def test_noise_floor_of_a_meter_that_shows_one_figure_is_its_rounding() -> None:
    info = dataclasses.replace(HeldMeter(Bench()).info, resolution=0.01)
    floor = calibration.noise_floor(info, [20.0] * 4, window_s=10.0, work="quiet")
    assert floor.spread_rel == pytest.approx(0.01 / math.sqrt(12) / 2.0)


def test_equal_cells_are_rarely_told_apart_by_the_noise_floor() -> None:
    """What it is for: of cells that are equal, 5 % seem to differ."""
    rng = random.Random(2)
    info = HeldMeter(Bench()).info
    alarms, cases = 0, 1000
    for _ in range(cases):
        floor = calibration.noise_floor(info, [rng.gauss(100.0, 2.0) for _ in range(10)], window_s=10.0, work="quiet")
        one, other = ([rng.gauss(100.0, 2.0) for _ in range(floor.repeats)] for _ in range(2))
        alarms += abs(sum(one) - sum(other)) / floor.repeats / 100.0 > floor.smallest_difference_rel
    assert 0.03 < alarms / cases < 0.07


def test_work_moves_the_windows_and_their_mean_is_right() -> None:
    bench = Bench(gain=1.0, noise_w=0.01)
    floor = bench.calibrate(HeldMeter(bench, refresh_s=0.1), SHORT).noise_floor
    assert floor.work == "cpu"
    assert floor.mean_j == pytest.approx(50.0, rel=0.02)
    assert 0 < floor.smallest_difference_rel < 0.05


def test_a_meter_that_dies_ends_the_calibration_with_its_reason() -> None:
    bench = Bench()
    source = HeldMeter(bench)
    polls = iter(range(50))

    def poll() -> list[Sample]:
        if next(polls, None) is None:
            raise SourceError("cable out")
        return HeldMeter.poll(source)

    source.poll = poll  # type: ignore[method-assign]  # one that dies after 50 readings
    with pytest.raises(HardwareError, match="cable out"):
        bench.calibrate(source, SHORT)


def test_a_model_cannot_be_calibrated() -> None:
    class Model(EstimateSource):
        # a constant, where the base class has a property
        info = SourceInfo(name="m", kind="estimate", scope="model", covers=(), period_s=1.0, gain_u=0.4)  # type: ignore[assignment]

        def begin(self) -> None: ...

        def end(self) -> float:
            return 1.0

    with pytest.raises(HardwareError, match="nothing to calibrate"):
        calibrate(Model(), SHORT, version="0", report=lambda _: None, switch_load=lambda _: None)
    model = Model()
    assert profile.correct(model) == (model, "")


def test_busy_core_is_busy_for_as_long_as_it_says() -> None:
    with busy_core(0.05) as go:
        start_s, end_s = go()
    assert end_s - start_s >= 0.05


# profiles


@pytest.fixture(scope="module")
def measured() -> Profile:
    bench = Bench(gain=1.05)
    source = HeldMeter(bench)
    source.device = {"model": "H1", "serial": 77, "firmware": "1.2", "other": [1]}
    found = bench.calibrate(source, dataclasses.replace(SHORT, load=Load.of_watts(5.0, 0.01)), load_w=5.0)
    return dataclasses.replace(found, created_at="2026-01-02T03:04:05+00:00", board=None)


def source_like(name: str = "held:a", **device: Any) -> HeldMeter:
    source = HeldMeter(Bench(gain=1.05, noise_w=0.0), name=name, offset_u=0.01, resolution=0.0105)
    source.device = device
    return source


def test_a_profile_comes_back_as_it_was(measured: Profile, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "p.json"
    stored = profile.save(measured, path)
    assert profile.load(path) == stored
    assert profile.load(path).profile == measured
    assert [entry.name for entry in path.parent.iterdir()] == ["p.json"]
    profile.save(measured, path)  # the same source again: the newer one counts


def test_keys_carry_units(measured: Profile) -> None:
    text = json.dumps(dataclasses.asdict(measured))
    for key in ("mean_w", "drift_w_per_h", "window_s", "mean_j", "smallest_difference_rel", "period_s", "load_w"):
        assert f'"{key}"' in text


def test_only_an_older_profile_of_the_same_source_is_overwritten(measured: Profile, tmp_path: Path) -> None:
    other = tmp_path / "notes.json"
    other.write_text("{}")
    with pytest.raises(ProfileError, match="no calibration profile"):
        profile.save(measured, other)
    assert other.read_text() == "{}"
    theirs = dataclasses.replace(measured, source=dataclasses.replace(measured.source, name="held:b"))
    profile.save(theirs, tmp_path / "p.json")
    with pytest.raises(ProfileError, match="the profile of held:b"):
        profile.save(measured, tmp_path / "p.json")


def test_where_profiles_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert profile.default_path("um25c:/dev/rfcomm0") == tmp_path / "jouletune/profiles/um25c-dev-rfcomm0.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile.default_path("../../etc/x") == tmp_path / ".config/jouletune/profiles/etc-x.json"


def damage(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        *path, last = key.split(".")
        for part in path:
            data = data[part]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("schema", "1"),
        ("extra", 1),
        ("gain.gain", 0.0),
        ("gain.gain", "1.0"),
        ("gain.u_rel", -0.1),
        ("gain.gain", float("nan")),
        ("idle.mean_w", float("inf")),
        ("update.duplicate_share", 1.5),
        ("update.period_s", 0),
        ("noise_floor.pairs", 1),
        ("source", None),
        ("source.kind", "estimate"),
        ("created_at", "yesterday"),
    ],
)
def test_a_damaged_profile_is_one_line(key: str, value: object, measured: Profile, tmp_path: Path) -> None:
    data = dataclasses.asdict(measured)
    damage(key, value)(data)
    path = tmp_path / "p.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ProfileError) as caught:
        profile.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_is_in_the_file_only_profile_errors_come_out(
    data: st.DataObject, measured: Profile, tmp_path: Path
) -> None:
    text = json.dumps(dataclasses.asdict(measured)).encode()
    broken = bytearray(text)
    start = data.draw(st.integers(0, len(text)))
    broken[start : start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    path = tmp_path / "p.json"
    path.write_bytes(bytes(broken))
    with contextlib.suppress(ProfileError):
        profile.load(path)


def test_no_profile_file_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ProfileError, match="cannot be read"):
            profile.load(path)
    (tmp_path / "big.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(ProfileError, match="too large"):
        profile.load(tmp_path / "big.json")


def test_a_profile_corrects_watts_and_says_so(measured: Profile, tmp_path: Path) -> None:
    stored = profile.save(measured, tmp_path / "p.json")
    assert measured.gain is not None
    corrected, note = profile.correct(source_like(), stored.path)
    info = corrected.info
    assert isinstance(corrected, SampledSource)
    ((_, power_w),) = corrected.poll()
    assert power_w == pytest.approx(2.0 * 1.05 / measured.gain.gain)
    assert power_w == pytest.approx(2.0, rel=0.01)
    assert (info.gain_basis, info.gain_u) == ("calibrated", measured.gain.u_rel)
    assert info.period_s == measured.update.period_s
    assert info.resolution == pytest.approx(0.0105 / measured.gain.gain)
    assert info.params["profile"] == {
        "file": "p.json",
        "sha256": stored.sha256,
        "created_at": measured.created_at,
        "gain": measured.gain.gain,
        "gain_u_rel": measured.gain.u_rel,
        "period_s": measured.update.period_s,
        "smallest_difference_rel": measured.noise_floor.smallest_difference_rel,
    }
    assert "calibrated 2026-01-02" in note
    json.dumps(info.to_dict())


def test_a_profile_corrects_counters(measured: Profile) -> None:
    class Twin(HeldMeter):
        def own_counter(self) -> OwnCounter | None:
            return OwnCounter(t_s=1.0, joules=105.0, resolution_j=3.6)

    bench = Bench()
    counted = dataclasses.replace(
        measured, source=dataclasses.replace(measured.source, name="stepped", kind="counter", serial=None, model=None)
    )
    assert counted.gain is not None
    counter = profile.Corrected(SteppedCounter(bench, 0.1), profile.StoredProfile(counted, Path("p"), "0"))
    assert counter.poll()[0][1] == pytest.approx(SteppedCounter(bench, 0.1).read()[1] / counted.gain.gain)
    twin = profile.Corrected(Twin(bench), profile.StoredProfile(measured, Path("p"), "0"))
    count = twin.own_counter()
    assert count is not None
    assert count.joules == pytest.approx(105.0 / counted.gain.gain)


def test_a_profile_without_gain_changes_no_watts(measured: Profile) -> None:
    stored = profile.StoredProfile(dataclasses.replace(measured, gain=None), Path("p"), "0")
    source = profile.Corrected(source_like(), stored)
    assert source.poll()[0][1] == pytest.approx(2.1)
    assert source.info.gain_basis == "assumed"
    assert source.info.params["profile"]["gain"] is None


def test_a_period_is_never_shortened(measured: Profile) -> None:
    slow = dataclasses.replace(source_like().info, period_s=3.0)
    assert profile.apply(profile.StoredProfile(measured, Path("p"), "0"), slow).period_s == 3.0


@pytest.mark.parametrize(
    ("name", "device", "complaint"),
    [
        ("held:a", {}, ""),
        ("held:a", {"serial": 77}, ""),
        ("held:b", {"serial": 77}, ""),
        ("held:a", {"serial": 78}, "serial 77, not 78"),
        ("held:a", {"model": "H2"}, "model H1, not H2"),
        ("other:a", {"serial": 77}, "not of other:a"),
        ("held:b", {}, "sends none"),
    ],
)
def test_a_profile_is_used_for_its_own_meter_only(
    name: str, device: dict[str, Any], complaint: str, measured: Profile
) -> None:
    source = profile.Corrected(source_like(name, **device), profile.StoredProfile(measured, Path("p"), "0"))
    if not complaint:
        source.open()
        return
    with pytest.raises(SourceError, match=complaint):
        source.open()


def test_the_profile_of_a_source_is_found_by_its_name(
    measured: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "profile" not in choose("simulated").source.info.params
    path = profile.default_path("simulated")
    named = dataclasses.replace(measured.source, name="simulated", model=None, serial=None)
    profile.save(dataclasses.replace(measured, source=named), path)
    found = choose("simulated")
    assert found.source.info.params["profile"]["file"] == path.name
    assert path.name in found.why
    assert str(path) not in found.why  # the sentence is published with the results
    assert found.source.info.name == "simulated"
    assert "profile" not in choose("simulated", corrected=False).source.info.params
    path.write_text("{")
    with pytest.raises(ProfileError):
        choose("simulated")
    with pytest.raises(ProfileError, match="cannot be read"):
        profile.correct(found.source, tmp_path / "missing.json")
