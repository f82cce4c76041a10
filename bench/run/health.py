"""Health: check that a device is fit to be measured, and that it is as it was in an earlier run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import hardware
from bench.store.manifest import Device, Manifest, part
from hardware.device import machine as device
from hardware.device.changes import changes
from hardware.measure import idle

MIN_FREE_BYTES = 200_000_000
"""What a night's records and traces take, with room to spare."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check of a device or of a run.

    Attributes:
        what: name of the check.
        right: whether it passed; None where it could not be made.
        text: the figure and its limit, what is wrong, or why the check could not be made.
    """

    what: str
    right: bool | None
    text: str

    def __str__(self) -> str:
        state = {True: "ok  ", False: "FAIL", None: "?   "}[self.right]
        return f"{state}  {self.what:14}{self.text}"


def examine(
    choice: hardware.Choice, *, seconds: float, max_busy: float, folder: Path, like: Manifest | None
) -> Iterator[Finding]:
    """Yield each check as it is made. The last one is that of the energy source, where that gives no idle power.

    Args:
        choice: the energy source, not yet open; it is closed at the end.
        seconds: length of the idle baseline.
        max_busy: share of the processor's time, 0 to 1, that may be in use meanwhile.
        folder: whose disk must have room.
        like: manifest of a run that this one is to be compared with.
    """
    if like is not None:
        yield _same_device(like)
    free = shutil.disk_usage(folder).free
    yield Finding("disk", free >= MIN_FREE_BYTES, f"{free / 1e9:.1f} GB free, {MIN_FREE_BYTES / 1e9:.1f} GB needed")
    sampler = hardware.Sampler(choice.source)
    before = device.snapshot()
    try:
        try:
            sampler.start()
        except hardware.HardwareError as error:
            yield Finding("energy source", False, str(error))
            return
        baseline = sampler.measure_idle(seconds)
        health = choice.source.health
        problem = sampler.error or (health.problem if baseline.power_w is None or not health.connected else None)
    finally:
        sampler.stop()
    lost = f"; {health.lost} samples lost, {health.bad_frames} broken" if health.lost or health.bad_frames else ""
    if problem is not None or baseline.power_w is None:
        yield Finding("energy source", False, f"no idle power from it: {problem or 'too few samples, or a gap'}{lost}")
        return
    yield Finding("energy source", health.disconnects == 0, f"{baseline.n_samples} readings in {seconds:g} s{lost}")
    yield _idle_power(baseline, like)
    if baseline.busy_fraction is not None:
        text = f"{baseline.busy_fraction:.1%} in use, at most {max_busy:.1%} allowed"
        yield Finding("processor", baseline.busy_fraction <= max_busy, text)
    after = device.snapshot()
    changed = changes(before, after)
    warmth = "no thermometer" if after.temperature_c is None else f"{after.temperature_c:.0f} degC"
    yield Finding("steady", not changed, f"{', '.join(changed) or 'not throttled'}; {warmth}")
    if like is not None:
        yield _same("governor", after.governor, like.device.governor if like.device else None)


def _same_device(like: Manifest) -> Finding:
    if like.device is None:
        return Finding("machine", False, "the earlier run's manifest.json does not say which one it was")
    return _same("machine", part(Device, device.facts()).machine, like.device.machine)


def _idle_power(baseline: idle.IdleBaseline, like: Manifest | None) -> Finding:
    assert baseline.power_w is not None
    u_w = f" \N{PLUS-MINUS SIGN} {2 * baseline.u_power_w:.2g}" if baseline.u_power_w is not None else ""
    text = f"{baseline.power_w:.3g}{u_w} W"
    earlier_w = [one.power_w for one in like.idle if one.power_w is not None] if like else []
    if not earlier_w:
        return Finding("idle power", True, text)
    usual_w = median(earlier_w)
    same = not idle.differ(baseline.power_w, usual_w)
    return Finding("idle power", same, f"{text}, {usual_w:.3g} W in the earlier run")


def _same(what: str, new: str | None, old: str | None) -> Finding:
    return Finding(what, new == old, "as in the earlier run" if new == old else f"{new}, {old} in the earlier run")
