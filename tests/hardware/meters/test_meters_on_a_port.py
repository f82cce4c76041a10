"""The meters on a real pseudo-terminal, in real time, opened by the name that a user would give."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hardware import EnergyResult, Sampler, choose
from hardware.instruments import Fault, Faults, FrontEnd, Instrument
from hardware.instruments.csv_lines import CsvLines
from hardware.instruments.port import served
from hardware.instruments.tc66 import Tc66
from hardware.instruments.um import Um
from hardware.instruments.waveform import pulses

INSTRUMENTS: dict[str, type[Instrument]] = {"um25c": Um, "tc66": Tc66, "csv": CsvLines}


def measure(sampler: Sampler, t0_s: float, t1_s: float, guard_s: float = 2.3) -> EnergyResult:
    """The window of work whose times are known beforehand."""
    time.sleep(t0_s - guard_s - time.monotonic())
    window = sampler.open_window("w", guard_s=t0_s - time.monotonic() - 0.02)
    time.sleep(max(0.0, t1_s - time.monotonic()))
    return window.close(t0_s=t0_s, t1_s=t1_s, idle=sampler.idle_baseline)


@pytest.mark.parametrize(
    ("name", "refresh_s", "begins_s", "guard_s"),
    [
        ("um25c", 0.5, 7.5, 2.3),
        pytest.param("tc66", 0.5, 7.5, 2.3, marks=pytest.mark.long),
        ("csv", 0.01, 4.0, 0.5),
    ],
)
def test_a_meter_is_found_by_its_port_and_measures(
    name: str, refresh_s: float, begins_s: float, guard_s: float, tmp_path: Path
) -> None:
    port = tmp_path / name
    now_s = time.monotonic()
    t0_s, t1_s = now_s + begins_s, now_s + begins_s + 2.0
    wave = pulses(2.0, 5.0, [(t0_s, t1_s)])
    with served(INSTRUMENTS[name](FrontEnd(waveform=wave, on_s=now_s - 0.1, refresh_s=refresh_s)), port):
        sampler = Sampler(choose(f"{name}:{port}").source, tmp_path / "traces")
        sampler.start()
        sampler.measure_idle(1.0)
        result = measure(sampler, t0_s, t1_s, guard_s)
        sampler.stop()
    assert {"short_idle", "short_window"} <= set(result.flags)
    assert not {"no_guard", "late_start", "late_end", "busy_guard", "lost_samples"} & set(result.flags), result
    assert result.energy_net_j == pytest.approx(6.0, abs=result.energy_net_u_j)
    # far better than it may say: a mean over each refresh, and both ends in the quiet
    assert result.energy_net_j == pytest.approx(6.0, rel=0.05)
    assert (tmp_path / "traces" / str(result.trace_file)).exists()


@pytest.mark.long
@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_meter_that_is_unplugged_costs_one_window_and_the_run_goes_on(name: str, tmp_path: Path) -> None:
    port = tmp_path / name
    now_s = time.monotonic()
    works = [(now_s + start_s, now_s + start_s + 12) for start_s in (40, 62, 84)]
    faults = Faults([Fault.parse("disconnect@66+6")])
    front = FrontEnd(waveform=pulses(2.0, 5.0, works), on_s=now_s, refresh_s=0.05 if name == "csv" else 0.5)
    with served(INSTRUMENTS[name](front, faults), port):
        # whoever else uses this machine is no concern of a made-up meter
        sampler = Sampler(choose(f"{name}:{port}").source, tmp_path / "traces", cpu_times=lambda: None)
        sampler.start()
        sampler.measure_idle(30)
        results = [measure(sampler, *work) for work in works]
        sampler.stop()
    assert [result.grade for result in results] == ["A", "X", "A"], results
    assert results[1].flags == ("gap",)
    assert results[1].health is not None
    assert results[1].health.disconnects == 1
    for result in (results[0], results[2]):
        assert result.energy_net_j == pytest.approx(36.0, rel=0.01)
