"""NVML as zeus reaches it, on made-up cards behind the functions of pynvml: both paths to a card's joules."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pynvml
import pytest
import zeus.device.gpu as zeus_gpu
from zeus.device.gpu import nvidia as zeus_nvidia

from hardware import EnergyResult, Sampler
from hardware.device.machine import Snapshot
from hardware.instruments.clock import SimulatedClock
from hardware.instruments.waveform import Waveform, pulses
from hardware.source import CounterSource, Found, PowerSource
from hardware.sources import nvml

WORK_S = (1060.0, 1080.0)


@dataclass
class Card:
    """A card that counts its energy and shows its power; `shown` is how its watts compare with the truth."""

    wave: Waveform
    clock: SimulatedClock
    shown: float = 1.0
    shows_power: bool = True
    reloads_at_s: float = float("inf")
    stale_s: float = 0.02

    def power_mw(self) -> int:
        if not self.shows_power:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        now_s = self.clock.monotonic()
        return round(1e3 * self.shown * self.wave.energy_j(now_s, now_s + 1e-3) / 1e-3)

    def energy_mj(self) -> int:
        now_s = self.clock.monotonic()
        from_s = 1000.0 if now_s < self.reloads_at_s else self.reloads_at_s
        # it moves in steps
        return round(1e3 * self.wave.energy_j(from_s, now_s - now_s % self.stale_s + 1e-9)) + (
            5_000_000 if from_s == 1000 else 0
        )


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    clock = SimulatedClock(1001.0)
    card = Card(pulses(60.0, 310.0, [WORK_S]), clock)
    fakes = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: card,
        "nvmlDeviceGetName": lambda handle: "Made-up card",
        "nvmlDeviceGetArchitecture": lambda handle: pynvml.NVML_DEVICE_ARCH_AMPERE,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: handle.energy_mj(),
        "nvmlDeviceGetFieldValues": lambda handle, fields: [field(handle)],
        "nvmlDeviceGetC2cModeInfoV": lambda handle: SimpleNamespace(isC2cEnabled=False),
    }

    def field(handle: Card) -> SimpleNamespace:
        return SimpleNamespace(nvmlReturn=pynvml.NVML_SUCCESS, value=SimpleNamespace(uiVal=handle.power_mw()))

    for name, fake in fakes.items():
        monkeypatch.setattr(pynvml, name, fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(zeus_gpu, "_gpus", None)
    zeus_nvidia.nvml_is_available.cache_clear()
    yield card
    zeus_nvidia.nvml_is_available.cache_clear()


def measured(card: Card, source: CounterSource | PowerSource) -> EnergyResult:
    clock = card.clock
    source._clock = clock.monotonic  # type: ignore[union-attr]
    calm = Snapshot(temperature_c=50.0, frequency_hz=None, governor=None)
    sampler = Sampler(source, clock=clock, cpu_times=lambda: None, look=lambda: calm, background=False)
    sampler.start()
    clock.every(0.1, sampler.poll)
    sampler.measure_idle(30)
    clock.sleep_until(WORK_S[0] - 3.2)
    window = sampler.open_window("w", guard_s=WORK_S[0] - clock.monotonic())
    clock.sleep_until(WORK_S[1])
    result = window.close(t0_s=WORK_S[0], t1_s=WORK_S[1], idle=sampler.idle_baseline, rhythm=())
    clock.release()
    sampler.stop()
    return result


def counter(device: str = "cuda") -> nvml.NvmlSource:
    probe = nvml.probe("", {}, device)
    assert isinstance(probe, Found)
    assert isinstance(probe.source, nvml.NvmlSource)
    return probe.source


def power() -> nvml.NvmlPowerSource:
    probe = nvml.probe_power("", {}, "cuda")
    assert isinstance(probe, Found)
    assert isinstance(probe.source, nvml.NvmlPowerSource)
    return probe.source


def test_the_counter_is_checked_against_the_power(card: Card) -> None:
    result = measured(card, counter())
    assert (result.grade, result.flags) == ("B", ())  # B: a card is not the whole board
    assert result.energy_net_j == pytest.approx(250.0 * 20, rel=0.01)
    assert result.cross_check is not None
    assert result.cross_check.span_s > 24
    assert result.cross_check.integral_j == pytest.approx(result.cross_check.counter_j, rel=0.02)


def test_a_counter_and_a_power_that_differ_are_told_and_the_counter_stands(card: Card) -> None:
    card.shown = 327 / 187  # as once seen on an idle card
    result = measured(card, counter())
    assert (result.grade, result.flags) == ("C", ("paths_differ",))
    assert result.energy_net_j == pytest.approx(250.0 * 20, rel=0.01)
    assert result.cross_check is not None
    assert result.cross_check.integral_j / result.cross_check.counter_j == pytest.approx(327 / 187, rel=0.02)


def test_power_that_its_own_counter_contradicts_is_no_figure(card: Card) -> None:
    assert measured(card, power()).grade == "B"
    card.shown = 0.7
    card.clock = SimulatedClock(1001.0)
    result = measured(card, power())
    assert (result.grade, result.flags, result.energy_gross_j) == ("X", ("cross_check",), None)
    assert "its own counter" in str(result.error)


def test_a_card_that_shows_no_power_is_counted_without_a_check(card: Card) -> None:
    card.shows_power = False
    result = measured(card, counter())
    assert (result.grade, result.flags, result.cross_check) == ("B", (), None)


def test_a_card_without_a_counter_is_sampled_without_a_check(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: Card) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", none)
    result = measured(card, power())
    assert (result.grade, result.cross_check) == ("B", None)


def test_a_reload_of_the_driver_ends_the_counter_and_not_the_power(card: Card) -> None:
    card.reloads_at_s = 1070.0
    result = measured(card, power())
    assert (result.grade, result.cross_check) == ("B", None)  # set back meanwhile, the counter says nothing
    card.clock = SimulatedClock(1001.0)
    result = measured(card, counter())
    assert (result.grade, result.flags) == ("X", ("source_died",))
    assert "driver reloaded" in str(result.error)


def test_another_process_on_the_card_is_flagged_and_those_of_the_run_are_not(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:  # a command of every system
        own = [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=child.pid)]
        running = [*own]
        monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: running)
        before = measured(card, counter())
        running.append(SimpleNamespace(pid=1))
        card.clock = SimulatedClock(1001.0)
        after = measured(card, counter())
        child.kill()
    assert "other_load" not in before.flags
    assert before.grade == "B"  # the card is a part of the device
    assert "other_load" in after.flags
    assert after.grade == "C"
    assert after.energy_gross_j == before.energy_gross_j
