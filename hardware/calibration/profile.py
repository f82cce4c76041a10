"""Profile: what a calibration found about one source, as a JSON file that later runs use and name in their manifest.

A figure that was not measured is null. Uncertainties are standard ones (k = 1); ``_rel`` is a share of the figure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hardware.errors import HardwareError
from hardware.source import SourceInfo

SCHEMA: Literal[1] = 1
MAX_BYTES = 1_000_000
CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Above0 = Annotated[float, Field(gt=0)]
NotBelow0 = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ProfileError(HardwareError):
    """A profile cannot be read, cannot be written, or is of another source."""


@dataclass(frozen=True, slots=True, kw_only=True, config=CHECKED)
class Identity:
    """Whose profile it is. What a meter does not tell is None."""

    name: Annotated[str, Field(min_length=1)]
    kind: Literal["counter", "power"]
    scope: str
    model: str | None
    serial: str | None
    firmware: str | None

    @classmethod
    def of(cls, info: SourceInfo) -> Identity:
        """Of an open source: before that, many meters do not say who they are.

        Raises:
            ProfileError: a model or nothing at all, of which no figure can be right or wrong.
        """
        if info.kind not in ("counter", "power"):
            raise ProfileError(f"{info.name} is no counter and no meter: there is nothing to calibrate")
        told = {key: info.device.get(key) for key in ("model", "serial", "firmware")}
        return cls(
            name=info.name,
            kind=info.kind,
            scope=info.scope,
            **{key: None if value is None else str(value) for key, value in told.items()},
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
    """Equal windows, two by two: the least difference that can be told, see `hardware.calibration.figures`."""

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
    """How often a value is new.

    Attributes:
        period_s: between new values; None if there were too few to tell.
        spacing_s: between samples, new or not: nothing shorter can be seen.
        changes: how many new values that rests on.
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
        type_b_rel: from what is known of the load.
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
    """All that one calibration found. ``created_at`` is UTC, ISO 8601; ``board`` is what did the work."""

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
    """Where profiles are kept: ``$XDG_CONFIG_HOME/jouletune/profiles``, ``~/.config/...`` without that."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    # the XDG rules: a relative path is to be ignored
    base = Path(given) if Path(given).is_absolute() else Path("~/.config").expanduser()
    return base / "jouletune" / "profiles"


def default_path(name: str) -> Path:
    """The file of a source's profile: ``um25c:/dev/rfcomm0`` -> ``um25c-dev-rfcomm0.json``."""
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    return folder() / f"{slug[:100]}.json"


def load(path: Path) -> StoredProfile:
    """Read a profile.

    Raises:
        ProfileError: not readable, or not a profile; one line says where and why.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ProfileError(f"{path}: too large for a profile")
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
    """Write a profile in one step: whoever reads sees the old file or the new one. Makes the folder.

    Raises:
        ProfileError: it cannot be written, or what stands there is not an older profile of the same source.
    """
    check_place(profile.source.name, path)
    data = (json.dumps(dataclasses.asdict(profile), indent=2, allow_nan=False) + "\n").encode()
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except OSError as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                Path(partial).unlink(missing_ok=True)
        raise ProfileError(f"{path} cannot be written: {error.strerror or error}") from None
    return StoredProfile(profile, path, hashlib.sha256(data).hexdigest())


def check_place(name: str, path: Path) -> None:
    """Make sure that nothing but an older profile of this source would be overwritten.

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
