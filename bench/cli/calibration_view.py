"""The terminal output of a calibration: its steps with a bar, the prompts for the load, the findings."""

from __future__ import annotations

import time
from typing import Self

import click
from rich.console import Console

from bench.run.progress import RunProgress
from hardware.calibration.figures import Load
from hardware.calibration.profile import Profile

TICK_S = 1.0


class Steps:
    """A context manager, and the clock of the calibration, so that the bar moves while that sleeps.

    Args:
        total_s: duration, without the time that a person needs for the load.
        load: the known load, if there is one.
    """

    def __init__(self, console: Console, total_s: float, load: Load | None) -> None:
        self._console = console
        self._load = load
        self._total_s = max(1, round(total_s))
        self._bar = RunProgress(console, "calibrating, s", self._total_s)
        self._start_s = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__()

    def report(self, text: str) -> None:
        """Print the begin of a step, or a finding."""
        self._console.print(text, soft_wrap=True)

    def switch_load(self, connect: bool) -> None:
        """Ask for the load to be connected or disconnected, and wait for Enter; the end of input ends the command."""
        asked_s = time.monotonic()
        self._bar.__exit__()
        what = f"connect the load ({self._load.basis})" if connect and self._load is not None else "disconnect the load"
        click.prompt(f"{what}, then press Enter", default="", show_default=False, prompt_suffix=" ")
        self._bar.__enter__()
        self._start_s += time.monotonic() - asked_s

    def monotonic(self) -> float:
        """Return the time of the host's monotonic clock, s."""
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        """Sleep, and move the bar meanwhile."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, TICK_S))
            if seconds >= TICK_S:
                # the last second is left for the end
                self._bar.to(min(int(time.monotonic() - self._start_s), self._total_s - 1))


def findings(profile: Profile) -> list[str]:
    """The findings, a line each."""
    idle, floor, update, gain = profile.idle, profile.noise_floor, profile.update, profile.gain
    return [
        f"idle: {idle.mean_w:.3f} W, readings scatter by {idle.sd_w:.2g} W; "
        f"drift {1000 * idle.drift_w_per_h / 60:+.2g} mW per minute over {idle.duration_s:.0f} s",
        f"noise floor: equal windows of {floor.mean_j:.3g} J scatter by {floor.spread_rel:.2%}; two cells of "
        f"{floor.repeats} repeats must differ by {floor.smallest_difference_rel:.2%}",
        "period: too few new values to determine it; the source's own figure stays"
        if update.period_s is None
        else f"period: a new value every {update.period_s:.3g} s; {update.duplicate_share:.0%} of the samples, "
        f"{update.spacing_s:.3g} s apart, repeat the one before",
        "gain: not measured, which needs a known load; the assumed one stays"
        if gain is None
        else f"gain: {gain.gain:.4f} \N{PLUS-MINUS SIGN} {2 * gain.gain * gain.u_rel:.4f} (k = 2); "
        f"standard uncertainties: scatter {gain.type_a_rel:.2%}, load {gain.type_b_rel:.2%}",
    ]
