"""Manifest: what was run, with which versions, on what, measured by what, and when. The checked form of manifest.json.

Read one with `RunDir.read_manifest` (or `Manifest.of`, from parsed JSON), never with `json`:

    manifest = folder.read_manifest(damage)   # None where there is no file; what is wrong in it is named in `damage`
    manifest.device and manifest.device.cpu_model
    [baseline.power_w for session in manifest.sessions for baseline in session.idle]

A part that is missing or is not of its type is None (empty, where it is a list or a mapping), so a reader of a
foreign or an older manifest tests for None and meets no other surprise. `Manifest()` is that of a run without one.
Facts that a part does not declare, e.g. those of a newer version, are kept and stand in `to_dict()`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from bench.errors import RequestError, show
from hardware.measure.idle import IdleBaseline

SCHEMA = 1
"""Version of manifest.json. 1: first."""

_HUGE = 1e300


def _each(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Check a list item by item, so that one wrong item does not cost the others."""
    damage = _damage(info)
    if damage is None or not isinstance(value, list):
        return handler(value)
    kept = []
    for number, item in enumerate(value):
        try:
            kept += handler([item])
        except ValidationError as error:
            damage.append(f"{info.field_name}[{number}]{_what(error, skip=1)}")
    return kept


_BASELINE = TypeAdapter(IdleBaseline)


def _baseline(value: Any) -> IdleBaseline:
    """Check one idle baseline; one with a figure that cannot be computed with is none."""
    baseline = _BASELINE.validate_python(value)
    figures = (baseline.power_w, baseline.u_power_w, baseline.duration_s)
    if not all(one is None or abs(one) < _HUGE for one in figures):  # nan is not less than anything
        raise ValueError("a figure is not finite")
    return baseline


Baseline = Annotated[IdleBaseline, PlainValidator(_baseline), PlainSerializer(dataclasses.asdict)]
AsTuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


class Part(BaseModel):
    """A part of a manifest. What it declares is checked; what else the file holds is passed on as it is."""

    model_config = ConfigDict(extra="allow", strict=True, populate_by_name=True, serialize_by_alias=True)
    place: ClassVar[str] = ""
    """What stands before the name of a field, where its damage is named."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _name_damage(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Where damage is collected, put the default in place of what is wrong, and name it."""
        damage = _damage(info)
        try:
            return handler(value)
        except ValidationError as error:
            if damage is None:
                raise
            damage.append(f"{cls.place}{info.field_name}{_what(error)}")
            return cls.model_fields[str(info.field_name)].get_default(call_default_factory=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is None."""
        return self.model_dump(mode="json")


class SuiteText(Part):
    """The suite as it was run: verbatim, hashed, and as it was understood."""

    place = "suite."
    name: str | None = None
    title: str | None = None
    version: int | None = None
    origin: str | None = None
    sha256: str | None = None
    text: str | None = None
    content: dict[str, Any] | None = None


class Device(Part):
    """The machine, see `hardware.device.machine.DeviceFacts`; memory in bytes, frequencies in Hz."""

    place = "device."
    board: str | None = None
    cpu_model: str | None = None
    logical_cores: int | None = None
    memory_bytes: int | None = None
    os: str | None = None
    kernel: str | None = None
    governor: str | None = None
    frequency_min_hz: float | None = None
    frequency_max_hz: float | None = None

    @property
    def machine(self) -> str:
        """Facts of the machine that must be equal for joules to be comparable."""
        return f"{self.board}, {self.cpu_model}, {self.logical_cores}, {self.memory_bytes}"


class EnergySource(Part):
    """The energy source, see `hardware.source.SourceInfo`, and why it was chosen."""

    place = "source."
    name: str | None = None
    kind: str | None = None
    scope: str | None = None
    covers: Annotated[tuple[str, ...] | None, AsTuple] = None
    resolution: float | None = None
    device: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    why: str | None = None

    @property
    def profile_sha256(self) -> str | None:
        """Hash of the calibration that scales the source, None without one."""
        profile = self.params.get("profile")
        return str(profile["sha256"]) if isinstance(profile, dict) and "sha256" in profile else None


class Fingerprints(Part):
    """Hashes of what a run reads, so that it is not continued with other data or code.

    Attributes:
        model_code: of the file of a user's own model; None for the catalogue's.
        data: label of the data -> hash of its prepared images and labels.
        weights: label of the data -> hash of the weights file that its cells start from.
        methods: name of a method of another package -> hash of its code.
    """

    place = "fingerprints."
    model_code: str | None = None
    data: dict[str, str] = Field(default_factory=dict)
    weights: dict[str, str] = Field(default_factory=dict)
    methods: dict[str, str] = Field(default_factory=dict)


class RecordsEnd(Part):
    """The records as they were at a moment: size of cells.jsonl in bytes and SHA-256 of so many."""

    size: int
    sha256: str


class Session(Part):
    """One command's share of a run.

    Attributes:
        started_at, ended_at: UTC, ISO 8601; `ended_at` is None while it goes on, or where it was killed.
        idle: its idle baselines, in the order in which they were measured.
        suite: the suite that it ran, where the run's newest is another.
        records: the records at its end.
        traces: name of the trace of an idle baseline -> SHA-256 of the file.
        control: the measurements of the control workload, see `hardware.calibration.control.Control`.
        movement: what they come to; None without two of them.
        decided: cases whose repeats ended early, see `bench.run.decided`: case, repeats, order of the arms, p.
    """

    place = "session "
    started_at: str | None = None
    idle: Annotated[list[Baseline], WrapValidator(_each)] = Field(default_factory=list)
    ended_at: str | None = None
    suite: SuiteText | None = None
    records: RecordsEnd | None = None
    traces: dict[str, str] = Field(default_factory=dict)
    control: list[dict[str, Any]] = Field(default_factory=list)
    movement: dict[str, Any] | None = None
    decided: list[dict[str, Any]] = Field(default_factory=list)


class Manifest(Part):
    """All parts. Sessions are appended to `sessions`; nothing else changes while a run goes on, but for an added suite.

    Attributes:
        schema_version: of the file, `schema` in it.
        jouletune, versions: of this program and of the libraries that it uses.
        git_commit: of the checkout that ran, None for an installed wheel.
        created_at: UTC, ISO 8601.
        torch_device: that trains.
        seeds: of the suite.
        noise: label of the data -> facts of the noise that was put into its source model.
        training: label of the data -> how its source model was distilled, and where its part ends.
        target: where the cells ran, its name and facts about it; None: on this machine.
        commands: name -> program and arguments, of a run of wrapped commands; None in every other.
    """

    schema_version: int | None = Field(default=None, alias="schema")
    jouletune: str | None = None
    git_commit: str | None = None
    created_at: str | None = None
    versions: dict[str, str | None] = Field(default_factory=dict)
    device: Device | None = None
    torch_device: str | None = None
    source: EnergySource | None = None
    sessions: Annotated[list[Session], WrapValidator(_each)] = Field(default_factory=list)
    suite: SuiteText | None = None
    seeds: list[int] | None = None
    noise: dict[str, dict[str, Any]] = Field(default_factory=dict)
    training: dict[str, dict[str, Any]] = Field(default_factory=dict)
    fingerprints: Fingerprints | None = None
    target: dict[str, Any] | None = None
    commands: dict[str, list[str]] | None = None

    @classmethod
    def of(cls, content: object, damage: list[str]) -> Manifest:
        """The manifest that parsed JSON holds.

        Args:
            damage: what is wrong in it is added here, in words, and is missing in the manifest.

        Raises:
            RequestError: it is no JSON object.
        """
        if not isinstance(content, dict):
            raise RequestError(f"expected a JSON object, got {show(content)}")
        return cls.model_validate(content, context={"damage": damage})

    @property
    def title(self) -> str | None:
        """Title of the suite, else its name, else None."""
        named = self.suite or SuiteText()
        loose = self.model_extra or {}  # of functions measured in a test session, which have no suite
        words = (named.title, named.name, loose.get("title"), loose.get("name"), ", ".join(self.commands or ()))
        return next((word for word in words if isinstance(word, str) and word.strip()), None)

    @property
    def content(self) -> dict[str, Any]:
        """The suite as it was understood, {} where it is not known."""
        return (self.suite and self.suite.content) or {}

    @property
    def idle(self) -> list[IdleBaseline]:
        """The idle baselines of all sessions."""
        return [baseline for session in self.sessions for baseline in session.idle]


P = TypeVar("P", bound=Part)


def part(kind: type[P], facts: Any) -> P:
    """A part of a manifest from a dataclass of facts or a mapping; a wrong value in it is an error of the program."""
    content = facts if isinstance(facts, dict) else dataclasses.asdict(facts)
    return kind.model_validate(content)


def _damage(info: ValidationInfo) -> list[str] | None:
    return info.context["damage"] if info.context else None


def _what(error: ValidationError, skip: int = 0) -> str:
    first = error.errors(include_url=False)[0]
    place = "".join(f".{step}" for step in first["loc"][skip:])
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}, got {show(first['input'])}"
