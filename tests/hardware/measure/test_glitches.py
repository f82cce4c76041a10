"""Single readings that no board draws, in files that a script of powers rewrites at every tenth of a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hardware import EnergyResult, Sampler, SourceError
from hardware.device.machine import Snapshot
from hardware.source import Found
from hardware.sources import hwmon

CALM = Snapshot(temperature_c=50.0, frequency_hz=None, governor=None)
STEP_S = 0.1


class Script:
    """A clock that writes the power of each tenth of a second into the file, and has the sampler read it."""

    def __init__(self, folder: Path, powers_w: np.ndarray) -> None:
        self.file = folder / "hwmon0" / "power1_input"
        self.powers_w = powers_w
        self.now_s = 0.0
        self.sampler: Sampler | None = None
        (folder / "hwmon0").mkdir()
        (folder / "hwmon0" / "name").write_text("ina226")
        self.write()

    def monotonic(self) -> float:
        return self.now_s

    def write(self) -> None:
        self.file.write_text(str(round(1e6 * self.powers_w[round(self.now_s / STEP_S)])))

    def sleep(self, seconds: float, /) -> None:
        end_s = self.now_s + seconds
        while self.now_s + STEP_S <= end_s + 1e-9:
            self.now_s = round(self.now_s / STEP_S + 1) * STEP_S
            self.write()
            if self.sampler is not None:
                self.sampler.poll()
        self.now_s = end_s


def work(folder: Path, *, idle_w: float, load_w: float, glitches: dict[float, float]) -> tuple[EnergyResult, int]:
    """11 s of load from 40 s on, after 30 s of idle; glitches: seconds after the start -> W that are shown there."""
    powers_w = np.full(700, idle_w)
    powers_w[400:510] = load_w
    for at_s, watts in glitches.items():
        powers_w[round((40.0 + at_s) / STEP_S)] = watts
    clock = Script(folder, powers_w)
    probe = hwmon.probe("ina226", {"board": "1"}, "cpu", root=folder)
    assert isinstance(probe, Found)
    probe.source._clock = clock.monotonic  # type: ignore[attr-defined]
    clock.sampler = Sampler(probe.source, clock=clock, cpu_times=lambda: None, look=lambda: CALM, background=False)
    clock.sampler.start()
    clock.sampler.measure_idle(30)
    clock.sleep(38.0 - clock.now_s)
    window = clock.sampler.open_window("w", guard_s=2.0)
    clock.sleep(51.0 - clock.now_s)
    result = window.close(t0_s=40.0, t1_s=51.0, idle=clock.sampler.idle_baseline)
    return result, probe.source.health.implausible


@pytest.mark.parametrize(
    "glitches",
    [{5.0: 838.0}, {5.0: 65.0}, {-1.0: 65.0}, {3.0: 65.0, 8.0: 838.0}, {5.0: 65.0, 5.1: 65.0}, {0.0: 838.0}],
)
def test_a_reading_that_no_board_draws_is_dropped_and_counted(glitches: dict[float, float], tmp_path: Path) -> None:
    result, implausible = work(tmp_path, idle_w=3.0, load_w=6.0, glitches=glitches)
    assert implausible >= len(glitches)  # it may be read twice
    assert result.grade in ("B", "C", "X") or -1.0 in glitches  # before the window it costs nothing
    if result.grade != "X":
        assert result.energy_gross_j is not None
        assert result.energy_u_j is not None
        assert abs(result.energy_gross_j - 66.0) <= result.energy_u_j
    assert result.health is not None
    assert "cannot be true" in (result.health.problem or "")


@pytest.mark.parametrize(("idle_w", "load_w"), [(0.4, 6.0), (3.0, 6.0), (0.0, 40.0), (1.0, 20.0)])
def test_a_load_that_begins_is_no_glitch(idle_w: float, load_w: float, tmp_path: Path) -> None:
    result, implausible = work(tmp_path, idle_w=idle_w, load_w=load_w, glitches={})
    assert implausible == 0
    assert result.energy_gross_j == pytest.approx(11 * load_w, rel=0.01)
    assert result.energy_u_j is not None
    assert result.grade in ("A", "B")


def test_a_counter_that_jumps_ends_the_source(tmp_path: Path) -> None:
    folder = tmp_path / "hwmon0"
    folder.mkdir()
    (folder / "name").write_text("ina226")
    (folder / "energy1_input").write_text("1000000")
    probe = hwmon.probe("ina226", {}, "cpu", root=tmp_path)
    assert isinstance(probe, Found)
    now = [10.0]
    probe.source._clock = lambda: now[0]  # type: ignore[attr-defined]
    probe.source.open()
    now[0] += 1.0
    (folder / "energy1_input").write_text("900000000000")
    with pytest.raises(SourceError, match="jumped"):
        probe.source.poll()  # type: ignore[attr-defined]
