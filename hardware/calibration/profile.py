"""Profile: the findings of a calibration of one source, as a JSON file, and the source corrected by it.

`hardware.choose` applies the profile of the chosen source, and a run names it in its manifest. Readings are divided by
the gain, whose uncertainty takes the place of the assumed one.

A figure that was not measured is null. Uncertainties are standard ones (k = 1); ``_rel`` is a share of the figure.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hardware.errors import RefusedError, SourceError
from hardware.files import read_bytes, written_whole
from hardware.source import Health, OwnCounter, Sample, SampledSource, Source, SourceInfo

SCHEMA: Literal[1] = 1
MAX_BYTES = 1_000_000
CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Above0 = Annotated[float, Field(gt=0)]
NotBelow0 = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ProfileError(RefusedError):
    """A profile cannot be read, cannot be written, or is of another source."""


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class Identity:
    """The meter of a profile. What it does not tell is None."""

    name: Annotated[str, Field(min_length=1)]
    kind: Literal["counter", "power"]
    scope: str
    model: str | None
    serial: str | None
    firmware: str | None

    @classmethod
    def of(cls, info: SourceInfo) -> Identity:
        """Of an open source: many meters identify themselves only then.

        Raises:
            ProfileError: the source is a model, or measures nothing.
        """
        if info.kind not in ("counter", "power"):
            raise ProfileError(f"{info.name} is no counter and no meter: there is nothing to calibrate")
        sent = {key: info.device.get(key) for key in ("model", "serial", "firmware")}
        return cls(
            name=info.name,
            kind=info.kind,
            scope=info.scope,
            **{key: None if value is None else str(value) for key, value in sent.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class AllanPoint:
    """Allan deviation of the power: sqrt of half the mean square of the steps between neighbouring means over tau_s."""

    tau_s: Above0
    deviation_w: NotBelow0
    pairs: Count


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class IdleNoise:
    """The quiet device. ``sd_w`` is the scatter of single readings, ``u_mean_w`` the uncertainty of their mean."""

    duration_s: Above0
    n_samples: Count
    mean_w: float
    u_mean_w: NotBelow0 | None
    sd_w: NotBelow0
    drift_w_per_h: float
    drift_u_w_per_h: NotBelow0
    allan: tuple[AllanPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class NoiseFloor:
    """Pairs of equal windows: the least difference that can be resolved, see `hardware.calibration.figures`."""

    work: Literal["cpu", "quiet"]
    window_s: Above0
    pairs: Annotated[int, Field(ge=2)]
    mean_j: Above0
    spread_rel: NotBelow0
    repeats: Annotated[int, Field(ge=1)]
    smallest_difference_rel: NotBelow0
    formula: str


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class UpdatePeriod:
    """The time between new values.

    Attributes:
        period_s: between new values; None if there were too few.
        spacing_s: between samples, new or not: no shorter period can be seen.
        changes: number of new values that were seen.
        duplicate_share: share of the samples that repeat the one before.
        p10_s, p90_s: of the times between new values, 10 % are shorter and 10 % longer than these.
    """

    period_s: Above0 | None
    spacing_s: Above0
    changes: Count
    duplicate_share: Share
    p10_s: Above0 | None
    p90_s: Above0 | None


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class Gain:
    """Reading over truth, from the rise of the reading under a known load.

    Attributes:
        gain: what a reading is divided by.
        u_rel: its standard uncertainty, type A and B in quadrature.
        type_a_rel: from the scatter of the readings.
        type_b_rel: from the uncertainty of the load.
        load_w: the load, and load_basis: how it is known.
        reading_w, quiet_w: with the load and without it.
        duration_s: of each of the three spans: without, with, without.
    """

    gain: Annotated[float, Field(gt=0.5, lt=2)]
    u_rel: Annotated[float, Field(ge=0, lt=1)]
    type_a_rel: NotBelow0
    type_b_rel: NotBelow0
    load_w: Above0
    load_basis: str
    reading_w: float
    quiet_w: float
    duration_s: Above0


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class Profile:
    """The findings of one calibration. ``created_at`` is UTC, ISO 8601; ``board`` is the machine that did the work."""

    schema: Literal[1] = SCHEMA
    jouletune: str
    created_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
    board: str | None
    source: Identity
    idle: IdleNoise
    noise_floor: NoiseFloor
    update: UpdatePeriod
    gain: Gain | None


@plain_dataclass(frozen=True, slots=True)
class StoredProfile:
    """A profile with the file that it came from and that file's SHA-256."""

    profile: Profile
    path: Path
    sha256: str


def folder() -> Path:
    """Where profiles are kept: ``$XDG_CONFIG_HOME/jouletune/profiles``, ``~/.config/...`` without that.

    Raises:
        ProfileError: the user has no home folder.
    """
    given = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        # the XDG rules: a relative path is to be ignored
        base = Path(given) if Path(given).is_absolute() else Path("~/.config").expanduser()
    except RuntimeError:
        raise ProfileError("no home folder is known for the profile; set HOME, or name its file with --out") from None
    return base / "jouletune" / "profiles"


def default_path(name: str) -> Path:
    """The file of a source's profile: ``um25c:/dev/rfcomm0`` -> ``um25c-dev-rfcomm0.json``.

    Raises:
        ProfileError: see `folder`.
    """
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    return folder() / f"{slug[:100]}.json"


def load(path: Path) -> StoredProfile:
    """Read a profile.

    Raises:
        ProfileError: not readable, or not a profile; in one line, with place and reason.
    """
    try:
        data = read_bytes(path, limit=MAX_BYTES)
        profile = TypeAdapter(Profile).validate_json(data)
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProfileError(
            f"{path} is no calibration profile: {where + ': ' if where else ''}{first['msg']}; "
            "delete it or calibrate again"
        ) from None
    return StoredProfile(profile, path, hashlib.sha256(data).hexdigest())


def save(profile: Profile, path: Path) -> StoredProfile:
    """Write a profile in one step: a reader sees the old file or the new one. Makes the folder.

    Raises:
        ProfileError: it cannot be written, or what stands there is not an older profile of the same source.
    """
    check_place(profile.source.name, path)
    data = (json.dumps(dataclasses.asdict(profile), indent=2, allow_nan=False) + "\n").encode()
    try:
        with written_whole(path) as file:
            file.write(data)
    except OSError as error:
        raise ProfileError(f"{path} cannot be written: {error.strerror or error}") from None
    return StoredProfile(profile, path, hashlib.sha256(data).hexdigest())


def check_place(name: str, path: Path) -> None:
    """Check that nothing but an older profile of this source would be overwritten.

    Raises:
        ProfileError: there is something else.
    """
    if not path.exists():
        return
    try:
        owner = load(path).profile.source.name
    except ProfileError:
        raise ProfileError(f"{path} is there already and no calibration profile; choose another file") from None
    if owner != name:
        raise ProfileError(f"{path} is the profile of {owner}, not of {name}; choose another file")


def mismatch(profile: Profile, info: SourceInfo) -> str:
    """Say why a profile is not of that source; "" if it is.

    A meter with a serial number may be on another port than it was calibrated on. One without is known by the port
    alone, and by its model where it sends that.
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
        return f"it is of {known.name}, not of {now.name}, and the meter sends no serial number"
    return ""


def apply(stored: StoredProfile, info: SourceInfo) -> SourceInfo:
    """Apply a profile to the facts of its source. ``params["profile"]`` names it for the manifest."""
    profile = stored.profile
    gain = profile.gain
    note = {
        "file": stored.path.name,
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


class Delegate(SampledSource):
    """A counter or meter that passes every call on to another one. Subclasses change or record its samples."""

    def __init__(self, inner: SampledSource) -> None:
        self._inner = inner
        self.self_timed = inner.self_timed

    @property
    def info(self) -> SourceInfo:
        return self._inner.info

    def open(self) -> None:
        self._inner.open()

    def close(self) -> None:
        self._inner.close()

    @property
    def health(self) -> Health:
        return self._inner.health

    def record_raw(self, path: Path) -> bool:
        return self._inner.record_raw(path)

    def own_counter(self) -> OwnCounter | None:
        return self._inner.own_counter()

    def own_counts(self) -> list[OwnCounter]:
        return self._inner.own_counts()

    def mark(self, t_mono_s: float, *, working: bool) -> None:
        self._inner.mark(t_mono_s, working=working)

    def poll(self) -> list[Sample]:
        return self._inner.poll()


class Corrected(Delegate):
    """A source whose samples and second path are divided by the gain of its profile.

    Once open it checks that the profile is of this very meter. The period is no shorter than the measured one, and is
    never shortened: a meter may average over longer than it takes to show a new value.
    """

    def __init__(self, inner: SampledSource, stored: StoredProfile) -> None:
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
            wrong = f"it is of {known.name} with the serial number {known.serial}, and this meter sends none"
        if wrong:
            self._inner.close()
            raise SourceError(f"the profile {self._stored.path} does not fit: {wrong}; calibrate again, or delete it")

    def poll(self) -> list[Sample]:
        return [(t_s, value / self._gain) for t_s, value in self._inner.poll()]

    def own_counter(self) -> OwnCounter | None:
        count = self._inner.own_counter()
        return None if count is None else self._scaled(count)

    def own_counts(self) -> list[OwnCounter]:
        return [self._scaled(count) for count in self._inner.own_counts()]

    def _scaled(self, count: OwnCounter) -> OwnCounter:
        scaled = {name: getattr(count, name) / self._gain for name in ("joules", "resolution_j")}
        return dataclasses.replace(count, **scaled)


def correct(source: Source, path: Path | None = None) -> tuple[Source, str]:
    """Correct a source by its profile; returns it and the profile in words, or the source itself and "" without one.

    Args:
        path: the profile; None: the one that ``jouletune calibrate`` wrote for this source, if it did.

    Raises:
        ProfileError: the profile is damaged, of another source, or not there although it was named. It is never left
            out in silence: a run would then measure with another scale than the one before.
    """
    if not isinstance(source, SampledSource):
        if path is not None:
            raise ProfileError(f"{source.info.name} is no counter and no meter: it cannot have a profile")
        return source, ""
    try:
        chosen = path or default_path(source.info.name)
    except ProfileError:
        return source, ""  # without a home folder none was ever written
    if path is None and not chosen.exists():
        return source, ""
    stored = load(chosen)
    wrong = mismatch(stored.profile, source.info)
    if wrong:
        raise ProfileError(f"the profile {chosen} does not fit: {wrong}; calibrate again, or delete it")
    gain = stored.profile.gain
    scale = "no known load" if gain is None else f"gain {gain.gain:.4f}, u {gain.u_rel:.2%}"
    return Corrected(source, stored), f"calibrated {stored.profile.created_at[:10]} ({scale}), {chosen.name}"


def _base(name: str) -> str:
    return name.partition("?")[0].partition(":")[0]
