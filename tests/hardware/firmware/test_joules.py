"""Joules of a board behind a serial port against the power that it is known to have drawn, in simulated time."""

from __future__ import annotations

import random
import statistics

from hardware.firmware.dut import Dut
from hardware.instruments.dut import Board
from hardware.instruments.dut import Dut as SimulatedDut
from hardware.instruments.port import SimulatedLink
from hardware.instruments.virtual import Behaviour, VirtualClock, VirtualMeter
from hardware.measure.result import EnergyResult
from hardware.measure.sampler import Sampler

GAIN_U = 0.004


class _Clock(VirtualClock):
    """Virtual time that a link can wait in."""

    def sleep_until(self, moment_s: float) -> None:
        self.sleep(moment_s - self.now_s)


def window(seed: int) -> tuple[EnergyResult, Board]:
    """One window of some ten seconds of inferences, on a board and a meter drawn at random."""
    rng = random.Random(seed)
    board = Board(
        infer_s=rng.uniform(0.004, 0.2), idle_w=rng.uniform(0.02, 0.1), infer_w=rng.uniform(0.2, 0.5),
        energy_mode=rng.random() < 0.3, trailing_comma=rng.random() < 0.5, drift=rng.gauss(0, 0.01),
    )  # fmt: skip
    clock = _Clock(100.0)
    simulated = SimulatedDut(board, on_s=clock.now_s)
    how = Behaviour(
        refresh_s=0.1, phase_s=rng.uniform(0, 0.1), age_s=0.01, noise_w=0.0005, gain=rng.gauss(1, GAIN_U),
        count_w=0.00001, ask_s=0.1, counter="none", seed=seed,
    )  # fmt: skip
    meter = VirtualMeter(simulated.truth, clock, how, period_s=0.1, latency_s=0.02, gain_u=GAIN_U)
    sampler = Sampler(
        meter, clock=clock, cpu_times=lambda: None, suspended_s=lambda: 0.0, tree_cpu_s=lambda: None, background=False
    )
    sampler.start()
    dut = Dut(SimulatedLink(simulated, clock), baud=115200, clock=clock)  # type: ignore[arg-type]  # it waits as the other does
    dut.connect()
    dut.load(bytes(range(64)))
    sampler.measure_idle(30)
    clock.sleep(rng.uniform(0, 0.1))
    opened = sampler.open_window("w", 2.0)
    count = round(rng.uniform(9, 15) / board.infer_s)
    timed = dut.infer(count, 0, silence_s=60)
    result = opened.close(
        t0_s=timed.t0_s, t1_s=timed.t1_s, executions=count, idle=sampler.idle_baseline, edge_u_s=timed.edge_u_s
    )
    sampler.stop()
    return result, board


def test_joules_of_an_inference_are_those_that_it_drew() -> None:
    off, covered = [], 0
    for seed in range(200):
        result, board = window(seed)
        truth_j = board.infer_w * board.infer_s
        assert result.energy_gross_j is not None, result.error
        assert result.energy_u_j is not None
        off.append(result.energy_gross_j / truth_j - 1)
        covered += abs(result.energy_gross_j - truth_j) <= result.energy_u_j
    assert covered >= 0.93 * len(off)
    assert statistics.median(map(abs, off)) < 0.01
    assert abs(statistics.mean(off)) < 0.003
