"""Energy count: follows a meter's own energy counter from the moment the source is opened."""

from __future__ import annotations

import dataclasses

from hardware.source import OwnCounter


class EnergyCount:
    """What a meter's counter has risen by.

    Attributes:
        counter: None until the meter has told its counter once.
    """

    def __init__(self) -> None:
        self.counter: OwnCounter | None = None
        self._last_j = 0.0

    def follow(self, energy_j: float | None, t_s: float, count_j: float) -> None:
        """Hear that the meter's counter stood at energy_j at t_s; one of its counts is count_j.

        A counter that falls was cleared, by hand on the meter or by its owner's program: it goes on from there.
        """
        if energy_j is None:
            return
        step_j, self._last_j = energy_j - self._last_j, energy_j
        if self.counter is None:
            self.counter = OwnCounter(t_s=t_s, joules=0.0, resolution_j=count_j)
            return
        self.counter = dataclasses.replace(
            self.counter,
            t_s=t_s,
            joules=self.counter.joules + max(0.0, step_j),
            restarts=self.counter.restarts + (step_j < 0),
        )
