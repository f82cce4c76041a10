"""The control workload: what it draws, how it moves, and what a moved one says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from hardware import Sampler
from hardware.calibration.control import MAX_MOVE, Control, measure, movement
from hardware.device.machine import Snapshot
from hardware.instruments.virtual import Behaviour, Truth, VirtualClock, VirtualMeter

CALM = Snapshot(temperature_c=50.0, frequency_hz=None, governor=None)


def measured(loads_w: Sequence[float]) -> list[Control]:
    """The control workload as a board draws it, an hour between two."""
    clock = VirtualClock(100.2)
    truth = Truth([(0.0, 3.0)])
    sampler = Sampler(
        VirtualMeter(truth, clock, Behaviour(phase_s=0.13)),
        clock=clock, look=lambda: CALM, cpu_times=lambda: None, background=False, suspended_s=lambda: 0.0,
    )  # fmt: skip
    sampler.start()
    points = []
    for load_w in loads_w:
        sampler.measure_idle(30)

        @contextmanager
        def busy(seconds: float, load_w: float = load_w) -> Iterator[Callable[[], tuple[float, float]]]:
            def go() -> tuple[float, float]:
                t0_s = clock.now_s
                truth.extend([(t0_s, load_w), (t0_s + seconds, 3.0)])
                clock.sleep(seconds)
                return t0_s, clock.now_s

            yield go

        points.append(measure(sampler, work=busy))
        clock.sleep(3600)
        sampler.poll()
    return points


def test_a_steady_device_does_not_move() -> None:
    points = measured([5.0, 5.01, 4.99, 5.0])
    assert [one.power_w for one in points] == pytest.approx([2.0, 2.01, 1.99, 2.0], rel=0.01)
    assert {one.grade for one in points} == {"A"}
    found = movement(points)
    assert found is not None
    assert (found.n, found.moved) == (4, False)
    assert found.scatter < 0.01


def test_one_that_moves_beyond_the_limit_is_told() -> None:
    found = movement(measured([5.0, 5.1, 5.4]))
    assert found is not None
    assert found.moved
    assert found.drift == pytest.approx(0.4 / 2.17, rel=0.1)
    # a distance that its uncertainty explains is no movement
    wide = [
        Control(started_at="", started_mono_s=0.0, power_w=power_w, u_power_w=0.2, grade="A") for power_w in (2.0, 2.3)
    ]
    assert movement(wide) is not None
    assert not movement(wide).moved  # type: ignore[union-attr]
    assert MAX_MOVE * 2 < 0.3


def test_what_could_not_be_measured_does_not_count() -> None:
    lost = Control(started_at="", started_mono_s=0.0, power_w=None, u_power_w=None, grade="X")
    assert movement([lost]) is None
    assert movement([*measured([5.0]), lost]) is None
