"""The sampler with scripted sources and a clock that only moves when somebody sleeps."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware import IdleBaseline, Sampler, SourceError
from hardware.measure import trace
from hardware.source import (
    CounterSource,
    EstimateSource,
    Found,
    NullSource,
    Sample,
    Source,
    SourceInfo,
)
from hardware.sources import replay
from hardware.sources.simulated import SimulatedSource


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self._lock = threading.Lock()
        self.tick: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        with self._lock:
            return self.now_s

    def sleep(self, seconds: float, /) -> None:
        start_s = self.now_s
        for i in range(1, 21):
            with self._lock:
                self.now_s = start_s + seconds * i / 20
            self.tick()


class ScriptedCounter(CounterSource):
    """2 W, and 10 W more from 1040 s to 1060 s."""

    def __init__(self, clock: FakeClock, dies_at_s: float = 1e9) -> None:
        self._clock = clock
        self._dies_at_s = dies_at_s
        self.closed = 0

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(name="scripted", kind="counter", scope="board", covers=("all",), period_s=0.01, gain_u=0.01)

    def read(self) -> Sample:
        now_s = self._clock.monotonic()
        if now_s >= self._dies_at_s:
            raise SourceError("cable out")
        return now_s, 2.0 * now_s + 10.0 * min(max(now_s - 1040.0, 0.0), 20.0)

    def close(self) -> None:
        self.closed += 1


class ScriptedEstimate(EstimateSource):
    """3 W."""

    def __init__(self, clock: FakeClock, fails_after: int = 10**6) -> None:
        self._clock = clock
        self._left = fails_after
        self._began_s = 0.0

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(name="model", kind="estimate", scope="model", covers=("cpu",), period_s=0.5, gain_u=0.4)

    def begin(self) -> None:
        self._began_s = self._clock.monotonic()

    def end(self) -> float:
        self._left -= 1
        if self._left < 0:
            raise SourceError("the model gave nothing")
        return 3.0 * (self._clock.monotonic() - self._began_s)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make(source: Source, clock: FakeClock, folder: Path | None = None) -> Sampler:
    return Sampler(source, folder, clock=clock, cpu_times=lambda: (clock.monotonic() * 0.01, clock.monotonic()))


def test_a_counter_gives_gross_and_net_of_one_execution(clock: FakeClock, tmp_path: Path) -> None:
    sampler = make(ScriptedCounter(clock), clock, tmp_path / "traces")
    clock.tick = sampler._recorder.poll  # the recorder's own thread goes by the wall clock
    sampler.start()
    idle = sampler.measure_idle(30)
    assert idle.power_w == pytest.approx(2.0)
    assert idle.u_power_w == pytest.approx(0.0, abs=1e-9)
    assert idle.busy_fraction == pytest.approx(0.01)
    clock.sleep(1038 - clock.now_s)
    window = sampler.open_window("digits/full s=0", guard_s=2.0)
    assert clock.now_s == pytest.approx(1040.0)
    clock.sleep(20.0)
    result = window.close(t0_s=clock.now_s - 20, t1_s=clock.now_s, executions=4, idle=idle)
    sampler.stop()

    assert clock.now_s == pytest.approx(1062.0, abs=0.1)
    assert result.energy_gross_j == pytest.approx(60.0)
    assert result.energy_net_j == pytest.approx(50.0)
    assert result.duration_s == pytest.approx(5.0)
    assert (result.grade, result.flags, result.source_kind) == ("A", ("repeated_in_window",), "counter")
    assert result.energy_u_j == pytest.approx(2 * 0.01 * 60.0, rel=1e-3)
    assert result.trace_file == "digits_full_s=0.csv.gz"
    lines = gzip.decompress((tmp_path / "traces" / result.trace_file).read_bytes()).decode().splitlines()
    assert "t_mono_s,energy_j" in lines
    assert float(lines[-1].split(",")[0]) >= 1060.0
    assert idle.trace_file is not None
    assert {path.name for path in (tmp_path / "traces").iterdir()} == {result.trace_file, idle.trace_file}
    quiet = gzip.decompress((tmp_path / "traces" / idle.trace_file).read_bytes()).decode().splitlines()
    facts = dict(line[2:].split(": ", 1) for line in quiet if line.startswith("# "))
    assert (facts["source"], facts["started_at"], float(facts["power_w"])) == ("scripted", idle.started_at, 2.0)
    rows = [line.split(",") for line in quiet[quiet.index("t_mono_s,energy_j") + 1 :]]
    assert float(rows[0][0]) <= float(facts["idle_from_s"]) < float(facts["idle_until_s"]) <= float(rows[-1][0])
    assert float(facts["idle_until_s"]) - float(facts["idle_from_s"]) == pytest.approx(30.0)


def test_a_source_that_dies_in_a_window_makes_it_and_all_later_ones_x(clock: FakeClock) -> None:
    source = ScriptedCounter(clock, dies_at_s=1050.0)
    sampler = make(source, clock)
    sampler.start()
    idle = sampler.measure_idle(30)
    for _ in range(2):
        window = sampler.open_window("w", guard_s=1.0)
        t0_s = clock.now_s
        clock.sleep(20.0)
        result = window.close(t0_s=t0_s, t1_s=clock.now_s, executions=1, idle=idle)
        assert (result.grade, result.flags, result.error) == ("X", ("source_died",), "cable out")
        assert result.energy_gross_j is None
        assert result.energy_net_j is None
    assert sampler.measure_idle(1.0).power_w is None
    sampler.stop()
    assert source.closed == 1


def test_an_error_of_any_kind_in_a_driver_is_a_death_not_a_crash(clock: FakeClock) -> None:
    source = ScriptedCounter(clock)
    sampler = make(source, clock)
    sampler.start()
    window = sampler.open_window("w", guard_s=0.0)
    source.read = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    t0_s = clock.now_s
    clock.sleep(5.0)
    result = window.close(t0_s=t0_s, t1_s=clock.now_s)
    sampler.stop()
    assert result.grade == "X"
    assert "ZeroDivisionError" in str(result.error)


def test_a_source_that_is_dead_at_the_start_is_an_error(clock: FakeClock) -> None:
    source = ScriptedCounter(clock, dies_at_s=0.0)
    with pytest.raises(SourceError, match="cable out"):
        make(source, clock).start()
    assert source.closed == 1


def test_stop_is_safe_at_any_time(clock: FakeClock) -> None:
    sampler = make(ScriptedCounter(clock), clock)
    sampler.stop()
    sampler = make(ScriptedEstimate(clock), clock)
    sampler.start()
    window = sampler.open_window("w", guard_s=0.0)
    sampler.stop()
    sampler.stop()
    assert not window.is_open


def test_one_window_at_a_time_and_a_cancelled_one_leaves_nothing(clock: FakeClock, tmp_path: Path) -> None:
    sampler = make(ScriptedEstimate(clock), clock, tmp_path)
    sampler.start()
    window = sampler.open_window("w", guard_s=0.0)
    with pytest.raises(RuntimeError, match="one window at a time"):
        sampler.open_window("v", guard_s=0.0)
    window.cancel()
    window.cancel()
    with pytest.raises(RuntimeError, match="not open"):
        window.close(t0_s=1.0, t1_s=2.0)
    sampler.open_window("v", guard_s=0.0).cancel()
    sampler.stop()
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_is_for_the_span_between_begin_and_end(clock: FakeClock) -> None:
    sampler = make(ScriptedEstimate(clock), clock)
    sampler.start()
    idle = sampler.measure_idle(30)
    assert (idle.power_w, idle.n_samples) == (pytest.approx(3.0), 10)
    window = sampler.open_window("w", guard_s=2.0)
    t0_s = clock.now_s
    clock.sleep(20.0)
    lower = IdleBaseline(power_w=1.0, u_power_w=0.0, duration_s=30.0, n_samples=10, started_at="")
    result = window.close(t0_s=t0_s, t1_s=clock.now_s, executions=2, idle=lower)
    sampler.stop()
    assert result.energy_gross_j == pytest.approx(30.0)  # the guard bands are not in it
    assert result.energy_net_j == pytest.approx(20.0)
    assert result.energy_u_j == pytest.approx(2 * 0.4 * 30.0)
    assert (result.grade, result.source_kind, result.trace_file) == ("C", "estimate", None)


def test_an_estimate_that_fails_is_x(clock: FakeClock) -> None:
    sampler = make(ScriptedEstimate(clock, fails_after=0), clock)
    sampler.start()
    window = sampler.open_window("w", guard_s=0.0)
    t0_s = clock.now_s
    clock.sleep(1.0)
    result = window.close(t0_s=t0_s, t1_s=clock.now_s)
    assert (result.grade, result.error) == ("X", "the model gave nothing")
    sampler.stop()


def test_none_measures_nothing(clock: FakeClock) -> None:
    sampler = make(NullSource(), clock)
    sampler.start()
    idle = sampler.measure_idle(1.0)
    assert idle.power_w is None
    window = sampler.open_window("w", guard_s=0.0)
    t0_s = clock.now_s
    clock.sleep(3.0)
    result = window.close(t0_s=t0_s, t1_s=clock.now_s, executions=1, idle=idle)
    sampler.stop()
    assert (result.energy_gross_j, result.energy_net_j, result.energy_u_j) == (None, None, None)
    assert (result.grade, result.source_kind, result.source, result.flags) == (None, None, "none", ())


def test_the_simulation_charges_for_the_time_between_the_marks(clock: FakeClock) -> None:
    source = SimulatedSource(power_w=5.0, idle_w=2.0, period_s=0.02, clock=clock.monotonic)
    sampler = make(source, clock)
    sampler.start()
    idle = sampler.measure_idle(30)
    net_j = []
    for work_s in (0.5, 1.0):
        window = sampler.open_window("w", guard_s=1.0)
        t0_s = clock.now_s
        clock.sleep(work_s)
        result = window.close(t0_s=t0_s, t1_s=t0_s + work_s, idle=idle)
        assert (result.grade, result.flags) == ("C", ("simulated", "short_window"))
        assert result.energy_net_j is not None
        net_j.append(result.energy_net_j)
    sampler.stop()
    assert net_j == [pytest.approx(1.5, rel=1e-6), pytest.approx(3.0, rel=1e-6)]


def write(path: Path, power_at: Callable[[float], float], seconds: float) -> Path:
    rows = [f"{i / 10},{power_at(i / 10)}" for i in range(int(seconds * 10) + 1)]
    path.write_text("# a meter\nt_s,power_w\n" + "\n".join(rows) + "\n")
    return path


def test_a_trace_is_played_and_what_it_leaves_plays_again(clock: FakeClock, tmp_path: Path) -> None:
    path = write(tmp_path / "trace.csv", lambda t: 6.0 if 40 <= t < 60 else 2.0, 100)

    def run(file: Path, name: str, start_s: float) -> tuple[float | None, str | None]:
        found = replay.probe(str(file), {}, "cpu")
        assert isinstance(found, Found)
        assert isinstance(found.source, replay.ReplaySource)
        found.source._clock = clock.monotonic
        sampler = make(found.source, clock, tmp_path)
        sampler.start()
        idle = IdleBaseline(power_w=2.0, u_power_w=0.0, duration_s=30.0, n_samples=300, started_at="")
        opened_s = clock.now_s
        clock.sleep(start_s - 2)
        window = sampler.open_window(name, guard_s=2.0)
        clock.sleep(20.0)
        result = window.close(t0_s=opened_s + start_s, t1_s=opened_s + start_s + 20, idle=idle, rhythm=())
        sampler.stop()
        assert result.flags == ("replayed",)
        assert result.grade == "C"
        assert result.source == f"replay:{file.name}"
        return result.energy_net_j, result.trace_file

    net_j, trace_file = run(path, "first", 40.0)
    assert net_j == pytest.approx(80.0, abs=0.5)
    assert trace_file is not None
    again_j, _ = run(tmp_path / trace_file, "second", 2.0)
    assert again_j == pytest.approx(net_j, abs=0.5)


def test_a_replay_that_is_over_is_a_dead_source(clock: FakeClock, tmp_path: Path) -> None:
    path = write(tmp_path / "short.csv", lambda t: 3.0, 5)
    source = replay.ReplaySource(f"replay:{path}", replay.load(path), clock=clock.monotonic)
    sampler = make(source, clock)
    sampler.start()
    window = sampler.open_window("w", guard_s=1.0)
    t0_s = clock.now_s
    clock.sleep(10.0)
    result = window.close(t0_s=t0_s, t1_s=clock.now_s)
    sampler.stop()
    assert result.grade == "X"
    assert "is over after 5.0 s" in str(result.error)


def test_a_full_disk_costs_the_trace_not_the_figure(clock: FakeClock, tmp_path: Path) -> None:
    blocked = tmp_path / "traces"
    blocked.write_text("a file where a folder should be")
    sampler = make(ScriptedCounter(clock), clock, blocked)
    sampler.start()
    window = sampler.open_window("w", guard_s=0.0)
    t0_s = clock.now_s
    clock.sleep(20.0)
    result = window.close(t0_s=t0_s, t1_s=clock.now_s)
    sampler.stop()
    assert result.energy_gross_j == pytest.approx(40.0)
    assert result.trace_file is None
    assert "trace was not written" in str(result.error)


def test_a_trace_is_never_written_over(clock: FakeClock, tmp_path: Path) -> None:
    sampler = make(ScriptedCounter(clock), clock, tmp_path)
    sampler.start()
    names = []
    for _ in range(3):
        window = sampler.open_window("same", guard_s=0.0)
        t0_s = clock.now_s
        clock.sleep(20.0)
        names.append(window.close(t0_s=t0_s, t1_s=clock.now_s).trace_file)
    sampler.stop()
    assert names == ["same.csv.gz", "same~2.csv.gz", "same~3.csv.gz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, names))


def partial(folder: Path) -> list[list[str]]:
    """Rows of the one partial trace, checked to be whole and in order."""
    [path] = folder.glob("*.partial.csv")
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# source: ")
    rows = [line.split(",") for line in lines[lines.index("t_mono_s,energy_j") + 1 :]]
    times_s = [float(t_s) for t_s, _ in rows]
    assert times_s == sorted(times_s)
    return rows


def test_a_trace_is_written_while_it_comes_and_becomes_one_file(clock: FakeClock, tmp_path: Path) -> None:
    sampler = make(ScriptedCounter(clock), clock, tmp_path)
    clock.tick = sampler._recorder.poll
    sampler.start()
    window = sampler.open_window("long", guard_s=0.0)
    t0_s = clock.now_s
    clock.sleep(trace.FLUSH_S - 1)
    assert list(tmp_path.iterdir()) == []  # a short window touches the disk when it is over
    clock.sleep(2 * trace.FLUSH_S)
    rows = partial(tmp_path)
    assert t0_s <= float(rows[0][0])
    assert float(rows[-1][0]) > clock.now_s - trace.FLUSH_S - 1
    result = window.close(t0_s=t0_s, t1_s=clock.now_s)
    sampler.stop()
    assert [path.name for path in tmp_path.iterdir()] == [result.trace_file]
    text = gzip.decompress((tmp_path / str(result.trace_file)).read_bytes()).decode()
    assert all(",".join(row) in text for row in rows)


def test_a_cancelled_window_leaves_no_trace(clock: FakeClock, tmp_path: Path) -> None:
    sampler = make(ScriptedCounter(clock), clock, tmp_path)
    clock.tick = sampler._recorder.poll
    sampler.start()
    window = sampler.open_window("failed", guard_s=0.0)
    clock.sleep(3 * trace.FLUSH_S)
    assert partial(tmp_path)
    window.cancel()
    sampler.stop()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from hardware import Sampler
from hardware.measure import trace
from hardware.source import CounterSource, SourceInfo

class Steady(CounterSource):
    info = SourceInfo(name="steady", kind="counter", scope="board", covers=("all",), period_s=0.01, gain_u=0.01)

    def read(self):
        return time.monotonic(), 3.0 * time.monotonic()

trace.FLUSH_S = 0.3
sampler = Sampler(Steady(), Path(sys.argv[1]))
sampler.start()
sampler.open_window("a long cell", guard_s=0.0)
time.sleep(60)
"""


def test_a_kill_in_the_middle_of_a_window_leaves_the_samples_up_to_then(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).resolve().parents[3])
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and not (list(tmp_path.glob("*.csv")) and len(partial(tmp_path)) > 5):
        time.sleep(0.1)
    process.kill()
    process.wait(10)
    rows = partial(tmp_path)
    assert len(rows) > 5
    assert float(rows[-1][1]) == pytest.approx(3.0 * float(rows[-1][0]), rel=1e-6)
    # whoever goes on with the run gives way to what is there
    later = trace.TraceFile(tmp_path, "a long cell", column="energy_j", facts={})
    assert later.finish([(1.0, 2.0)], {}) == "a_long_cell~2.csv.gz"
    assert len(partial(tmp_path)) == len(rows)
