"""A measuring process that is stopped, and a machine that sleeps, while the work goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardware import Sampler
from hardware.device.machine import Snapshot, suspended_s
from hardware.source import CounterSource, Sample, SourceInfo

CALM = Snapshot(temperature_c=50.0, frequency_hz=None, governor=None)

MEASURE = """
import dataclasses, json, sys, time
from hardware import Sampler
from hardware.source import CounterSource, PowerSource, SourceInfo

KIND = sys.argv[1]
T0_S = time.monotonic() + 2.5
T1_S = T0_S + 1.5

def joules(t_s):
    return 3.0 * t_s + 3.0 * min(max(t_s - T0_S, 0.0), T1_S - T0_S)

class Counter(CounterSource):
    _info = SourceInfo(name="c", kind="counter", scope="board", covers=("all",), period_s=0.05, gain_u=0.001)
    def read(self):
        now_s = time.monotonic()
        return now_s, joules(now_s)

class Power(PowerSource):
    _info = SourceInfo(name="p", kind="power", scope="board", covers=("all",), period_s=0.05, gain_u=0.001)
    def poll(self):
        now_s = time.monotonic()
        return [(now_s, 6.0 if T0_S <= now_s < T1_S else 3.0)]

sampler = Sampler(Counter() if KIND == "counter" else Power())
sampler.start()
sampler.measure_idle(1.0)
window = sampler.open_window("w", 0.3)
time.sleep(max(0.0, T0_S - time.monotonic()))
print("works", flush=True)
time.sleep(max(0.0, T1_S - time.monotonic()))
result = window.close(t0_s=T0_S, t1_s=T1_S, idle=sampler.idle_baseline)
sampler.stop()
print(json.dumps([result.grade, result.flags, result.energy_gross_j, result.error]))
"""


@pytest.mark.parametrize("kind", ["counter", "power"])
@pytest.mark.parametrize("stopped_s", [0.0, 4.5])
def test_ctrl_z_past_the_end_of_the_work_gives_no_figure(kind: str, stopped_s: float, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURE, kind],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n"
    if stopped_s:
        process.send_signal(signal.SIGSTOP)
        time.sleep(stopped_s)
        process.send_signal(signal.SIGCONT)
    grade, flags, gross_j, error = json.loads(process.communicate(timeout=30)[0])
    if stopped_s:
        assert (grade, gross_j) == ("X", None)
        assert "stopped" in flags
        assert "was stopped for" in error
    else:
        assert "stopped" not in flags
        # a busy machine may lose samples of a meter that is polled 20 times a second
        assert gross_j == pytest.approx(9.0, rel=0.1) or "gap" in flags


class Steady(CounterSource):
    """3 W, by the clock of the test."""

    _info = SourceInfo(name="c", kind="counter", scope="board", covers=("all",), period_s=0.05, gain_u=0.001)

    def __init__(self, clock: Sleepy) -> None:
        self.clock = clock

    def read(self) -> Sample:
        return self.clock.now_s, 3.0 * self.clock.now_s


class Sleepy:
    """A clock whose machine may sleep: then nothing passes on it, but the other clock goes on."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept_s = 5.0
        self.sampler: Sampler | None = None

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float, /) -> None:
        steps = max(1, round(seconds / 0.1))
        for _ in range(steps):
            self.now_s += seconds / steps
            assert self.sampler is not None
            self.sampler.poll()


@pytest.mark.parametrize("slept_s", [0.0, 0.02, 1500.0])
def test_a_machine_that_sleeps_in_a_window_has_no_figure(slept_s: float) -> None:
    clock = Sleepy()
    clock.sampler = sampler = Sampler(
        Steady(clock),
        clock=clock,
        cpu_times=lambda: None,
        look=lambda: CALM,
        suspended_s=lambda: clock.slept_s,
        background=False,
    )
    sampler.start()
    assert sampler.measure_idle(30).power_w == pytest.approx(3.0)
    window = sampler.open_window("w", 1.0)
    t0_s = clock.now_s
    clock.sleep(6.0)
    clock.slept_s += slept_s
    clock.sleep(6.0)
    result = window.close(t0_s=t0_s, t1_s=clock.now_s, idle=sampler.idle_baseline)
    if slept_s > 1:
        assert (result.grade, result.flags, result.energy_gross_j) == ("X", ("suspended",), None)
        assert result.error == "the machine slept for 1500.0 s"
    else:
        assert result.energy_gross_j == pytest.approx(36.0)
        assert "suspended" not in result.flags


def test_an_idle_baseline_with_sleep_in_it_is_none() -> None:
    clock = Sleepy()
    clock.sampler = sampler = Sampler(
        Steady(clock),
        clock=clock,
        cpu_times=lambda: None,
        look=lambda: CALM,
        suspended_s=lambda: clock.now_s,
        background=False,
    )
    sampler.start()
    assert sampler.measure_idle(30).power_w is None
    assert sampler.idle_due() == "the one before failed"


def test_the_sleep_of_this_machine_is_a_time() -> None:
    assert suspended_s() == pytest.approx(suspended_s(), abs=0.05)
    assert suspended_s() > -0.05
