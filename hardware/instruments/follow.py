"""Follow: a power that goes with the load of this machine, so that a simulated meter sees the work of a real run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TextIO

from hardware.device import machine as device

STEP_S = 0.05


class Following:
    """idle_w + (load_w - idle_w) x the busy share of all cores, constant from one `update` to the next.

    Its energy is known exactly, since it is made here; ``truth``, if given, gets a line ``t_mono_s,energy_j`` per step.
    """

    def __init__(
        self,
        idle_w: float,
        load_w: float,
        *,
        truth: TextIO | None = None,
        cpu_times: Callable[[], tuple[float, float] | None] = device.cpu_times,
    ) -> None:
        self._idle_w = idle_w
        self._load_w = load_w
        self._truth = truth
        self._cpu_times = cpu_times
        self._last = cpu_times()
        self._times: list[float] = []
        self._powers: list[float] = []
        self._sums: list[float] = []
        if truth is not None:
            truth.write("t_mono_s,energy_j\n")

    def update(self, now_s: float) -> None:
        """Look at the load, no more often than the kernel counts it. What it was since the last look holds from now."""
        if self._times and now_s - self._times[-1] < STEP_S:
            return
        now, last = self._cpu_times(), self._last
        share = 0.0
        if now is not None and last is not None and now[1] > last[1]:
            share = min(1.0, max(0.0, (now[0] - last[0]) / (now[1] - last[1])))
        self._last = now
        joules = self.energy_j(self._times[0], now_s) if self._times else 0.0
        self._times.append(now_s)
        self._powers.append(self._idle_w + (self._load_w - self._idle_w) * share)
        self._sums.append(joules)
        if self._truth is not None:
            self._truth.write(f"{now_s:.6f},{joules:.6f}\n")
            self._truth.flush()

    def power_w(self, t_s: float) -> float:
        """Power at t_s; idle before the first update."""
        at = bisect_right(self._times, t_s) - 1
        return self._powers[at] if at >= 0 else self._idle_w

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy from start_s to end_s."""
        return self._since_first_j(end_s) - self._since_first_j(start_s)

    def _since_first_j(self, t_s: float) -> float:
        at = bisect_right(self._times, t_s) - 1
        if at < 0:
            return (t_s - self._times[0]) * self._idle_w if self._times else t_s * self._idle_w
        return self._sums[at] + (t_s - self._times[at]) * self._powers[at]
