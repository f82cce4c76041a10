"""Calibration procedure: measures noise, period and gain of a meter or counter, the least disturbing step first.

quiet -> pairs of equal windows -> how often values were new in all of that -> a known load, if there is one
"""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from hardware.calibration import figures as calibration
from hardware.calibration.figures import MIN_CHANGES, Load
from hardware.calibration.profile import Delegate, Gain, Identity, Profile, UpdatePeriod
from hardware.device import machine as device
from hardware.errors import HardwareError, SourceError
from hardware.measure.energy import MAX_GUARD_S, guard_needed_s, memory_s
from hardware.measure.grade import MAX_IDLE_BUSY
from hardware.measure.idle import IdleBaseline
from hardware.measure.sampler import GUARD_SLACK_S, Sampler
from hardware.source import Clock, CounterSource, Sample, SampledSource, Source, SourceInfo

Go = Callable[[], tuple[float, float]]
"""Do the work; returns its start and end on this host's monotonic clock."""

Work = Callable[[float], AbstractContextManager[Go]]
"""Prepare work of so many seconds, which then starts at once when it is called."""

WORKER = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic()
end = start + float(sys.argv[1])
while time.monotonic() < end:
    pass
print(start, time.monotonic(), flush=True)
"""

BURST_S = 2.0
BURST_STEP_S = 0.0005
"""A counter may be new every millisecond; the sampler reads it ten times a second."""

GUARD_S = 0.1
"""Least quiet around a window; the sampler extends it to what the source needs."""

MIN_LOAD_S = 5.0


@contextmanager
def busy_core(seconds: float) -> Iterator[Go]:
    """Keep one core of this device busy for so long in another process, while this one sleeps.

    Raises:
        HardwareError: the process did not start, or was killed.
    """
    command = [sys.executable, "-I", "-S", "-c", WORKER, repr(seconds)]
    child = subprocess.Popen(
        # a Ctrl-C reaches it too; its traceback is of no interest
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    to_child, from_child = child.stdin, child.stdout

    def go() -> tuple[float, float]:
        try:
            to_child.write("go\n")
            to_child.flush()
            start, end = from_child.readline().split()
        except (OSError, ValueError):
            raise HardwareError("the process that was to keep a core busy has ended") from None
        return float(start), float(end)

    try:
        if from_child.readline().strip() != "ready":
            raise HardwareError("the process that is to keep a core busy does not start")
        yield go
    finally:
        child.kill()
        child.communicate()


def quiet(clock: Clock) -> Work:
    """No work at all."""

    @contextmanager
    def nothing(seconds: float) -> Iterator[Go]:
        def go() -> tuple[float, float]:
            start_s = clock.monotonic()
            clock.sleep(seconds)
            return start_s, clock.monotonic()

        yield go

    return nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of a calibration. Spans in s; ``work`` fills the windows: one busy core, or nothing."""

    idle_s: float = 60.0
    pairs: int = 5
    window_s: float = 10.0
    work: Literal["cpu", "quiet"] = "cpu"
    load: Load | None = None

    @property
    def load_s(self) -> float:
        """Each of the three spans without the load, with it, and without it again."""
        return max(MIN_LOAD_S, self.idle_s / 2)

    def total_s(self, info: SourceInfo) -> float:
        """Roughly how long it takes, without the time that a person needs to connect a load."""
        guard_s = min(guard_needed_s(info) + GUARD_SLACK_S, MAX_GUARD_S)
        windows_s = 2 * self.pairs * (self.window_s + 2 * guard_s)
        burst_s = BURST_S if info.kind == "counter" else 0.0
        # before each span what the source still remembers has to pass
        spans_s = [self.idle_s, *([self.load_s] * 3 if self.load is not None else [])]
        return burst_s + windows_s + sum(span_s + min(memory_s(info), MAX_GUARD_S) for span_s in spans_s)


def calibrate(
    source: Source,
    plan: Plan,
    *,
    version: str,
    report: Callable[[str], None],
    switch_load: Callable[[bool], None],
    clock: Clock = time,
    work: Work = busy_core,
    make_sampler: Callable[[Source], Sampler] | None = None,
) -> Profile:
    """Run all steps. Opens the source and closes it again.

    Args:
        source: not open.
        version: of jouletune, for the profile.
        report: called with one line for each step that begins and each finding.
        switch_load: called with True when the load is to be connected and with False when it is to be taken off;
            returns when that is done.
        work: keeps the device busy, for a plan with the work ``cpu``.
        make_sampler: tests bring their own.

    Raises:
        HardwareError: it is no meter or counter, died meanwhile, or its figures tell nothing.
    """
    if not isinstance(source, SampledSource):
        raise HardwareError(f"{source.info.name} is no counter and no meter: there is nothing to calibrate")
    burst = _burst(source, clock) if isinstance(source, CounterSource) else []
    listener = _Listener(source)
    sampler = make_sampler(listener) if make_sampler is not None else Sampler(listener, clock=clock)
    sampler.start()
    try:
        report(f"idle noise: leave the device alone for {plan.idle_s:g} s")
        baseline = _measure(sampler, plan.idle_s)
        if (baseline.busy_fraction or 0) > MAX_IDLE_BUSY:
            report(f"  the device was not idle: {baseline.busy_fraction:.0%} of its processor was in use")
        since_s = clock.monotonic() - baseline.duration_s
        # the sampler's thread goes on appending
        quiet_samples = [sample for sample in listener.samples[:] if sample[0] >= since_s]
        noise = calibration.idle_noise(source.info, quiet_samples)
        # set now, so that the windows get the quiet around them that this period needs, as those of a later run do
        update = _update(burst, quiet_samples)
        listener.period_s = update.period_s or 0.0
        energies_j = _windows(sampler, plan, clock, work, report)
        floor = calibration.noise_floor(source.info, energies_j, window_s=plan.window_s, work=plan.work)
        if update.period_s is None:  # too steady when quiet; work brings other values
            update = calibration.update_period(listener.samples[:])
        found = _gain(sampler, plan, plan.load, report, switch_load) if plan.load is not None else None
        return Profile(
            jouletune=version,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            board=device.facts().board,
            source=Identity.of(source.info),
            idle=noise,
            noise_floor=floor,
            update=update,
            gain=found,
        )
    finally:
        sampler.stop()


def _windows(sampler: Sampler, plan: Plan, clock: Clock, work: Work, report: Callable[[str], None]) -> list[float]:
    """Measure the energy of each window, J. A pair with an unusable one is measured again, at most ``pairs`` times."""
    what = "one busy core" if plan.work == "cpu" else "quiet"
    report(f"noise floor: {plan.pairs} pairs of windows, {plan.window_s:g} s of {what} each")
    make = work if plan.work == "cpu" else quiet(clock)
    # quiet windows have no work above the idle power, and noise would pass for another load
    idle = sampler.idle_baseline if plan.work == "cpu" else None
    energies_j: list[float] = []
    problem = ""
    for _ in range(2 * plan.pairs):
        pair_j = []
        for half in range(2):
            with make(plan.window_s) as go:
                window = sampler.open_window(f"pair-{half}", GUARD_S)
                try:
                    t0_s, t1_s = go()
                    result = window.close(t0_s=t0_s, t1_s=t1_s, idle=idle)
                finally:
                    window.cancel()
            if result.energy_gross_j is None:
                problem = result.error or "it gave none"
                break
            # scaled to equal length: their difference in length is no noise of the meter
            pair_j.append(result.energy_gross_j / result.duration_s * plan.window_s)
        if sampler.error is not None:
            break
        if len(pair_j) < 2:
            report(f"  a window has no energy ({problem}); its pair is measured again")
            continue
        energies_j += pair_j
        if len(energies_j) == 2 * plan.pairs:
            return energies_j
    raise HardwareError(
        f"{sampler.source.info.name}: only {len(energies_j) // 2} of {plan.pairs} pairs of windows could be measured: "
        f"{sampler.error or problem}"
    )


def _gain(
    sampler: Sampler, plan: Plan, load: Load, report: Callable[[str], None], switch_load: Callable[[bool], None]
) -> Gain:
    report(f"gain: {plan.load_s:g} s each without the load, with it, and without it")
    before = _measure(sampler, plan.load_s)
    switch_load(True)
    under = _measure(sampler, plan.load_s)
    switch_load(False)
    after = _measure(sampler, plan.load_s)
    return calibration.gain(sampler.source.info, load, before=before, under=under, after=after)


def _measure(sampler: Sampler, seconds: float) -> IdleBaseline:
    """Measure the mean power of a steady span."""
    baseline = sampler.measure_idle(seconds)
    if baseline.power_w is None:
        raise SourceError(
            f"{sampler.source.info.name} gave no power for {seconds:g} s: "
            f"{sampler.error or sampler.source.health.problem or 'too few samples, or a gap among them'}"
        )
    return baseline


def _burst(source: CounterSource, clock: Clock) -> list[Sample]:
    """Read a counter as fast as possible for `BURST_S`."""
    source.open()
    try:
        readings = [source.read()]
        end_s = readings[0][0] + BURST_S
        while readings[-1][0] < end_s:
            clock.sleep(BURST_STEP_S)
            readings.append(source.read())
        return readings
    finally:
        source.close()


def _update(burst: list[Sample], quiet_samples: list[Sample]) -> UpdatePeriod:
    if len(burst) > MIN_CHANGES:
        fine = calibration.update_period(burst)
        if fine.period_s is not None:
            return fine
    return calibration.update_period(quiet_samples)  # a meter, or too slow a counter for a burst


class _Listener(Delegate):
    """Records the samples that pass. Its period is no shorter than the measured one, once that is known."""

    def __init__(self, inner: SampledSource) -> None:
        super().__init__(inner)
        self.samples: list[Sample] = []
        self.period_s = 0.0

    @property
    def info(self) -> SourceInfo:
        info = self._inner.info
        return dataclasses.replace(info, period_s=max(info.period_s, self.period_s))

    def poll(self) -> list[Sample]:
        new = self._inner.poll()
        for t_s, value in new:
            # numbers in rising order only, as the recorder takes them
            if math.isfinite(value) and (not self.samples or t_s > self.samples[-1][0]):
                self.samples.append((t_s, value))
        return new
