"""Calibrated: a source whose figures are corrected by its profile, and which says so in the manifest.

    choice = with_profile(choose("um25c:/dev/rfcomm0"))

Without a profile the choice stays as it is. What a profile changes: readings are divided by the gain, whose
uncertainty takes the place of the assumed one, and the period is no shorter than the measured one. It is never
shortened: a meter may average over longer than it takes to show a new value, which no new value tells.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hardware.calibration import profile as profiles
from hardware.calibration.delegate import Delegate
from hardware.calibration.profile import Identity, Profile, ProfileError, StoredProfile
from hardware.errors import SourceError
from hardware.registry import Choice
from hardware.source import CounterSource, OwnCounter, PowerSource, Sample, Source, SourceInfo


def with_profile(choice: Choice, path: Path | None = None) -> Choice:
    """The same choice, its source corrected by its profile.

    Args:
        path: the profile; None: the one that ``jouletune calibrate`` wrote for this source, if it did.

    Raises:
        ProfileError: the profile is damaged, not there although it was named, or of another source. It is never
            left out in silence: a run would then measure with another scale than the one before.
    """
    source = choice.source
    if not isinstance(source, CounterSource | PowerSource):
        if path is not None:
            raise ProfileError(f"{source.info.name} is no counter and no meter: it cannot have a profile")
        return choice
    chosen = path or profiles.default_path(source.info.name)
    if path is None and not chosen.exists():
        return choice
    stored = profiles.load(chosen)
    wrong = mismatch(stored.profile, source.info)
    if wrong:
        raise ProfileError(f"the profile {chosen} does not fit: {wrong}; calibrate again, or delete it")
    gain = stored.profile.gain
    scale = "no known load" if gain is None else f"gain {gain.gain:.4f}, u {gain.u_rel:.2%}"
    why = f"{choice.why}; calibrated {stored.profile.created_at[:10]} ({scale}), {chosen}"
    return dataclasses.replace(choice, source=calibrated(source, stored), why=why)


def calibrated(source: CounterSource | PowerSource, stored: StoredProfile) -> Source:
    """The source with a profile applied. Once open it makes sure that the profile is of this very meter."""
    if isinstance(source, CounterSource):
        return CalibratedCounter(source, stored)
    return CalibratedPower(source, stored)


def mismatch(profile: Profile, info: SourceInfo) -> str:
    """Why a profile is not of that source, in words; "" if nothing speaks against it.

    A meter that tells its serial number may hang on another port than it was calibrated on. One that does not is
    known by the port alone, and by its model where that is told.
    """
    known, now = profile.source, Identity.of(info)
    if _base(known.name) != _base(now.name) or known.kind != now.kind:
        return f"it is of {known.name} ({known.kind}), not of {now.name} ({now.kind})"
    for what in ("model", "serial"):
        old, new = getattr(known, what), getattr(now, what)
        if old is not None and new is not None and old != new:
            return f"it is of the {what} {old}, not {new}"
    # a closed source may not know its serial number yet: then the name decides later, when it is open
    if known.serial is None and known.name != now.name:
        return f"it is of {known.name}, not of {now.name}, and the meter tells no serial number"
    return ""


def apply(stored: StoredProfile, info: SourceInfo) -> SourceInfo:
    """What the source says of itself once the profile is applied. ``params["profile"]`` names it for the manifest."""
    profile = stored.profile
    gain = profile.gain
    note = {
        "path": str(stored.path),
        "sha256": stored.sha256,
        "created_at": profile.created_at,
        "gain": gain.gain if gain else None,
        "gain_u_rel": gain.u_rel if gain else None,
        "period_s": profile.update.period_s,
        "smallest_difference_rel": profile.noise_floor.smallest_difference_rel,
    }
    changed = dataclasses.replace(
        info,
        period_s=max(info.period_s, profile.update.period_s or 0.0),
        params={**info.params, "profile": note},
    )
    if gain is None:
        return changed
    return dataclasses.replace(
        changed,
        gain_u=gain.u_rel,
        gain_basis="calibrated",
        # one count and the zero are of the readings, and are divided as these are
        resolution=None if info.resolution is None else info.resolution / gain.gain,
        offset_u=info.offset_u / gain.gain,
        wrap_j=None if info.wrap_j is None else info.wrap_j / gain.gain,
    )


class _Calibrated(Delegate):
    """What the two kinds share; the second path is divided by the same gain, since it is of the same sensor."""

    def __init__(self, inner: Source, stored: StoredProfile) -> None:
        super().__init__(inner)
        self._stored = stored
        self._gain = stored.profile.gain.gain if stored.profile.gain is not None else 1.0

    @property
    def info(self) -> SourceInfo:
        return apply(self._stored, self._inner.info)

    def open(self) -> None:
        self._inner.open()
        info = self._inner.info
        wrong = mismatch(self._stored.profile, info)
        known = self._stored.profile.source
        if not wrong and known.serial is not None and info.device.get("serial") is None and known.name != info.name:
            wrong = f"it is of {known.name} with the serial number {known.serial}, and this meter tells none"
        if wrong:
            self._inner.close()
            raise SourceError(f"the profile {self._stored.path} does not fit: {wrong}; calibrate again, or delete it")

    def own_counter(self) -> OwnCounter | None:
        count = self._inner.own_counter()
        if count is None:
            return None
        return dataclasses.replace(
            count, joules=count.joules / self._gain, resolution_j=count.resolution_j / self._gain
        )


class CalibratedCounter(_Calibrated, CounterSource):
    """Joules divided by the gain."""

    _inner: CounterSource

    def read(self) -> Sample:
        t_s, joules = self._inner.read()
        return t_s, joules / self._gain


class CalibratedPower(_Calibrated, PowerSource):
    """Watts divided by the gain."""

    _inner: PowerSource

    def poll(self) -> list[Sample]:
        return [(t_s, power_w / self._gain) for t_s, power_w in self._inner.poll()]


def _base(name: str) -> str:
    return name.partition("?")[0].partition(":")[0]
