"""The data axis of a suite: entries whose lists multiply, each point checked against the catalogue."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Discriminator, Field, Tag, TypeAdapter, ValidationError, ValidationInfo

from bench.catalog.datasets import (
    ALONE,
    BLOCK_NOISE,
    CONTINUAL,
    CORRUPTIONS,
    DATASETS,
    LEVELS,
    NO_SHIFT,
    PRIOR,
    SEVERITIES,
    SHIFTS,
    DatasetEntry,
    Level,
    Superclasses,
)
from bench.catalog.models import TARGET_BLOCKS
from bench.errors import nearest, show
from bench.suite.spec import Name, Spec, UserPath, check_different, explained, whole, wrong
from bench.suite.superclasses import SIDES, Table

MULTIPLY = ("dataset", "shift", "severity", "noised_block")
"""Keys that may hold a list; the entry then means every combination."""

MAX_POINTS = 10_000

AND = "+"
"""Between the shifts of a composite one; a list of shifts multiplies."""

LEVEL_OF_BLOCK: Mapping[str, Level] = {block: level for level, block in TARGET_BLOCKS.items() if level in LEVELS}
"""Target block -> the level that calls for it; the blocks between the first and the head are of feature level."""


class DataSpec(Spec):
    """One dataset with one shift: a point of the data axis.

    `level` may be given by the user for a folder with a target of its own, else it follows from the shift; '' where it
    is not given, or nothing shifts that calls for a block. A composite shift, `fog+flip`, has the levels of its steps,
    `input+output`.

    Attributes:
        noised_block: the block whose parameters are noised, for `block_noise`.
        noised_accuracy: what the noise leaves of the accuracy on source images, None for its default.
        classes: of random images.
        corruptions: of `continual`, in the order in which they come.
        shares: of `prior`, what is kept of each class.
    """

    dataset: str
    shift: str
    level: str
    label: Name
    severity: int | None = None
    permutation: tuple[int, ...] | None = None
    superclasses: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] | None = None
    source: UserPath | None = None
    target: UserPath | None = None
    image_size: int | None = None
    noised_block: str | None = None
    noised_accuracy: float | None = None
    classes: int | None = None
    corruptions: tuple[str, ...] | None = None
    shares: tuple[float, ...] | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The shifts that are applied to each image, in order; more than one of a composite."""
        return tuple(self.shift.split(AND))

    @property
    def parts(self) -> tuple[str, ...]:
        """The shifts that follow each other in the target; one, but of `continual`."""
        return self.corruptions or (self.shift,)

    @property
    def target_blocks(self) -> tuple[str, ...]:
        """The blocks that the shift calls for: one, or one for each level of a composite; none where nothing shifts."""
        if self.noised_block is not None:
            return (self.noised_block,)
        return tuple(TARGET_BLOCKS[level] for level in self.level.split(AND) if level)

    @property
    def target_block(self) -> str | None:
        """The same as one label, `block1+fc`; None where nothing shifts."""
        return AND.join(self.target_blocks) or None

    def members(self) -> Superclasses:
        """The superclasses of a subpopulation shift; empty for the others."""
        return self.superclasses or {}


def n_target(data: DataSpec) -> int | None:
    """Count the images of the target domain from the catalogue; None where it does not hold them."""
    entry = DATASETS[data.dataset]
    if data.source is not None or (entry.own_table and data.members()):
        return None  # a copy of the user's own, or classes that only their folders can count
    if PRIOR in data.steps:
        return None
    if "subpopulation" in data.steps and entry.n_per_class is not None:
        return sum(entry.n_per_class[member] for _, members in data.members().values() for member in members)
    return entry.n_target


def image_shape(data: DataSpec) -> tuple[int, int, int]:
    """Classes, channels and pixels of a side, as far as they are known before the images are read."""
    dataset = DATASETS[data.dataset]
    classes = len(data.members()) or data.classes or len(dataset.classes or ()) or 10
    return classes, dataset.channels, data.image_size or dataset.image_size


ImageSize = Annotated[int | None, whole(8, 1024)]


class _OfDataset(Spec):
    """Keys of a data point that only some datasets have; this one has none but its name."""

    OWNER: ClassVar[str]
    dataset: str


class _Copied(_OfDataset):
    OWNER = "datasets of which you may have a copy"
    source: UserPath | None = None


class _Sized(_Copied):
    OWNER = "datasets without a size of their own"
    image_size: ImageSize = None


class _Folder(_Sized):
    OWNER = "`dataset: folder`"
    source: UserPath = Field(description="the folder of images that the source model knows, or an archive")
    target: UserPath | None = None


class _Random(_OfDataset):
    OWNER = "`dataset: random`"
    image_size: ImageSize = None
    classes: Annotated[int | None, whole(2, 100)] = 10  # of the thousand images that there are


def _class_numbers(given: Any) -> Any:
    if not isinstance(given, list) or not all(type(value) is int for value in given):
        raise wrong(f"expected a list of class numbers, got {show(given)}")
    return tuple(given)


class _OfShift(Spec):
    """Keys of a data point that only some shifts have; this one has none but its name."""

    OWNER: ClassVar[str]
    shift: str


class _Corrupted(_OfShift):
    OWNER = "shifts at input level"
    severity: Annotated[int | None, whole(SEVERITIES[0], SEVERITIES[-1])] = None


class _Permuted(_OfShift):
    OWNER = "`shift: permute`"
    permutation: Annotated[tuple[int, ...], BeforeValidator(_class_numbers)] = Field(
        description="the new label of each class, in order"
    )


class _Regrouped(_OfShift):
    OWNER = "`shift: subpopulation`"
    superclasses: Table | None = None


def _corruption_names(given: Any) -> Any:
    if not isinstance(given, list) or len(given) < 2:
        raise wrong(f"expected a list of at least two corruptions, got {show(given)}")
    for number, name in enumerate(given):
        if not isinstance(name, str) or name not in CORRUPTIONS:
            raise wrong(f"{show(name)} is not a corruption; {nearest(str(name), CORRUPTIONS)}", number)
    return tuple(given)  # one may come again


class _Continual(_Corrupted):
    OWNER = f"`shift: {CONTINUAL}`"
    corruptions: Annotated[tuple[str, ...], BeforeValidator(_corruption_names)] = Field(
        description="the corruptions in the order in which they come"
    )


class _Noised(_OfShift):
    OWNER = f"`shift: {BLOCK_NOISE}`"
    noised_block: str = Field(description="the block whose parameters are noised")
    noised_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = None


def _share_per_class(given: Any) -> Any:
    if not isinstance(given, list) or not all(type(value) in (int, float) and 0 <= value <= 1 for value in given):
        raise wrong(f"expected a list of shares from 0 to 1, one for each class, got {show(given)}")
    if sum(map(bool, given)) < 2 or len(set(given)) < 2:
        raise wrong("expected at least two classes that stay, and not all with the same share")
    return tuple(map(float, given))


class _Reweighted(_OfShift):
    OWNER = "`shift: prior`"
    shares: Annotated[tuple[float, ...], BeforeValidator(_share_per_class)] | None = None


def _dataset_kind(point: dict[str, Any]) -> str:
    entry = DATASETS[point["dataset"]]
    if entry.name in ("folder", "random"):
        return entry.name
    return "sized" if entry.classes is None else "copied" if entry.takes_source else "made"


_OF_SHIFT: Mapping[str, type[_OfShift]] = {
    "permute": _Permuted, "subpopulation": _Regrouped, BLOCK_NOISE: _Noised, CONTINUAL: _Continual, PRIOR: _Reweighted,
}  # fmt: skip
"""The keys of a shift that is no corruption and has some."""


def _shift_kind(point: dict[str, Any]) -> str:
    shift = str(point["shift"])
    return "corruption" if shift in CORRUPTIONS else shift if shift in _OF_SHIFT else "plain"


@dataclass(frozen=True)
class _Family:
    """The keys that depend on the dataset, or those that depend on the shift.

    Attributes:
        union: of the members, discriminated by the dataset's or shift's name.
        lacks: the end of the message for a `{key}` that belongs to another member than that of `{name}`.
    """

    union: TypeAdapter[Any]
    members: tuple[type[Spec], ...]
    lacks: str

    def keys(self) -> list[str]:
        """The keys of all members."""
        return [key for member in self.members for key in member.model_fields]

    def owners(self, key: str) -> str:
        """The datasets or shifts that a key belongs to, for a message."""
        return " or ".join(
            str(vars(member)["OWNER"]) for member in self.members if key in inspect.get_annotations(member)
        )

    def about(self, key: str) -> str | None:
        """The meaning of a required key."""
        return next(m.model_fields[key].description for m in self.members if key in m.model_fields)


_DATASETS = _Family(
    TypeAdapter(
        Annotated[
            Annotated[_OfDataset, Tag("made")]
            | Annotated[_Copied, Tag("copied")]
            | Annotated[_Sized, Tag("sized")]
            | Annotated[_Folder, Tag("folder")]
            | Annotated[_Random, Tag("random")],
            Discriminator(_dataset_kind),
        ]
    ),
    (_OfDataset, _Copied, _Sized, _Folder, _Random),
    "{name} takes no {key}",
)
_SHIFTS = _Family(
    TypeAdapter(
        Annotated[
            Annotated[_OfShift, Tag("plain")]
            | Annotated[_Corrupted, Tag("corruption")]
            | Annotated[_Permuted, Tag("permute")]
            | Annotated[_Regrouped, Tag("subpopulation")]
            | Annotated[_Noised, Tag("block_noise")]
            | Annotated[_Continual, Tag("continual")]
            | Annotated[_Reweighted, Tag("prior")],
            Discriminator(_shift_kind),
        ]
    ),
    (_OfShift, _Corrupted, _Permuted, _Regrouped, _Noised, _Continual, _Reweighted),
    "{name} has not got it",
)
_SHIFT_KEYS = [*dict.fromkeys(_SHIFTS.keys())]
KEYS = tuple(dict.fromkeys(["dataset", *_SHIFT_KEYS, *_DATASETS.keys(), "level", "name"]))


def image_keys() -> dict[str, Any]:
    """JSON schema of each key that some dataset or shift has."""
    members = (*_DATASETS.members, *_SHIFTS.members)
    return {key: value for member in members for key, value in member.model_json_schema()["properties"].items()}


def expand(entries: Any, info: ValidationInfo) -> Any:
    """Make all points of the data axis from the entries of a suite; what is a tuple of points already passes.

    Points are checked one by one as they are made, so that wrong values cannot multiply to millions.
    """
    if isinstance(entries, tuple):
        return entries
    if not isinstance(entries, list):
        raise wrong(f"expected a list of mappings, got {show(entries)}")
    if not entries:
        raise wrong("empty; expected at least one dataset with its shift")
    points: dict[str, DataSpec] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise wrong(f"expected a mapping such as {{dataset: digits, shift: noise}}, got {show(entry)}", number)
        for key in entry:
            if key not in KEYS:
                raise wrong(f"unknown key; {nearest(str(key), KEYS)}", number, key)
        for point in _multiplied(entry, number):
            spec = _point(point, number, info)
            if len(points) >= MAX_POINTS:
                raise wrong(f"spans more than {MAX_POINTS:,} points", number)
            if spec.label in points:
                raise wrong(f"{show(spec.label)} is given twice; give one of them another name", number)
            points[spec.label] = spec
    return tuple(points.values())


def _multiplied(entry: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    lists = {key: entry[key] for key in MULTIPLY if isinstance(entry.get(key), list)}
    for key, values in lists.items():
        check_different(values, number, key)
    if "name" in entry and any(len(values) > 1 for values in lists.values()):
        raise wrong("one name cannot stand for several points; drop it or the lists", number, "name")
    for combination in itertools.product(*lists.values()):
        point = {**entry, **dict(zip(lists, combination, strict=True))}
        yield {key: value for key, value in point.items() if value is not None}


def _point(point: dict[str, Any], number: int, info: ValidationInfo) -> DataSpec:
    name = point.get("dataset")
    if name is None:
        raise wrong("dataset is missing", number)
    if not isinstance(name, str) or name not in DATASETS:
        raise wrong(f"{show(name)} is not a dataset; {nearest(name, DATASETS)}", number, "dataset")
    dataset = DATASETS[name]
    given = {key: value for key, value in point.items() if key not in (*_SHIFT_KEYS, "level", "name")}
    by_dataset = _part(_DATASETS, name, given, number, info)
    shift, level = _shift(point, number, dataset)
    given = {key: value for key, value in point.items() if key in _SHIFT_KEYS} | {"shift": shift}
    by_shift = _by_step(shift, given, number, info)
    size = by_dataset.get("image_size") or (None if dataset.classes else dataset.image_size)
    block, severity = by_shift.get("noised_block"), by_shift.get("severity")
    if block is not None:
        level = LEVEL_OF_BLOCK.get(block, "feature")
    kind = f"noise-in-{block}" if block else level if shift == NO_SHIFT else shift.replace(AND, "-")
    if name == "random":
        kind = f"{size}px"
    elif not kind:
        shown = (by_dataset.get("target") or by_dataset.get("source")) if name == "folder" else None
        kind = Path(str(shown)).name.partition(".")[0].lower() if shown else NO_SHIFT
    label = point.get("name", "-".join([name, kind, *([f"sev{severity}"] if severity is not None else [])]))
    _check_corruptions(by_shift.get("corruptions") or (), dataset, number)
    table = by_shift["superclasses"] = _superclasses(by_shift.get("superclasses"), shift, dataset, number)
    n_classes = len(table or dataset.classes or ())
    _check_permutation(by_shift.get("permutation"), n_classes, number)
    shares = by_shift.get("shares")
    if shares is not None and n_classes and len(shares) != n_classes:
        raise wrong(f"expected {n_classes} shares, one for each class, got {len(shares)}", number, "shares")
    try:
        return DataSpec(**by_dataset | by_shift | {"level": level, "label": label, "image_size": size})
    except ValidationError as error:
        _, message = explained(error, DataSpec)
        raise wrong(message, number, "name") from None  # all else is checked


def _part(family: _Family, name: str, given: dict[str, Any], number: int, info: ValidationInfo) -> dict[str, Any]:
    """Check the keys that depend on the dataset, or on the shift, of that name; `number` is the entry's."""
    try:
        return dict(family.union.validate_python(given, context=info.context))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][1])  # the first part names the member
        if first["type"] == "missing":
            raise wrong(f"{key} is missing: {family.about(key)}", number) from None
        if first["type"] == "extra_forbidden":
            lacks = family.lacks.format(name=name, key=key)
            raise wrong(f"belongs to {family.owners(key)}; {lacks}", number, key) from None
        (_, *loc), message = explained(error, Spec)
        raise wrong(message, number, *loc) from None


def _by_step(shift: str, given: dict[str, Any], number: int, info: ValidationInfo) -> dict[str, Any]:
    """Check the keys that depend on the shift, of a composite those of each step."""
    steps = shift.split(AND)
    kinds = {step: _Corrupted if step in CORRUPTIONS else _OF_SHIFT.get(step, _OfShift) for step in steps}
    known = {key for kind in kinds.values() for key in kind.model_fields}
    for key in given if len(steps) > 1 else ():
        if key not in known:
            lacks = _SHIFTS.lacks.format(name=shift, key=key)
            raise wrong(f"belongs to {_SHIFTS.owners(key)}; {lacks}", number, key)
    found: dict[str, Any] = {}
    for step, kind in kinds.items():
        mine = given if len(steps) == 1 else {key: given[key] for key in kind.model_fields if key in given}
        found |= _part(_SHIFTS, step, mine | {"shift": step}, number, info)
    return found | {"shift": shift}


def _composite(shift: str, number: int, dataset: DatasetEntry) -> str:
    """The levels of a composite shift: those of its steps, each once, from the input on."""
    steps = shift.split(AND)
    levels: list[Level | None] = []
    for step in steps:
        own, _ = _shift({"shift": step}, number, dataset)
        if own in ALONE or dataset.name in ("cifar10c", "imagenet", "tiny_imagenet"):
            where = f"{step} stands alone" if own in ALONE else f"{dataset.name} takes one shift"
            raise wrong(f"{show(shift)}: {where}; it cannot be a part of a composite", number, "shift")
        levels.append(SHIFTS[step].level)
    if len(set(steps)) < len(steps):
        raise wrong(f"{show(shift)}: has a shift twice", number, "shift")
    if "subpopulation" in steps[1:]:
        raise wrong(f"{show(shift)}: subpopulation makes the classes; put it first", number, "shift")
    return AND.join(level for level in LEVELS if level in levels)


def _shift(point: dict[str, Any], number: int, dataset: DatasetEntry) -> tuple[str, str]:
    """The shift of a point and its level, of `block_noise` a stand-in."""
    shift, level = point.get("shift"), point.get("level")
    if isinstance(shift, str) and AND in shift and "target" not in point:
        levels = _composite(shift, number, dataset)
        if level is not None:
            raise wrong(f"follows from the steps of {show(shift)}; drop it", number, "level")
        return shift, levels
    return _single_shift(point, shift, level, number, dataset)


def _single_shift(point: dict[str, Any], shift: Any, level: Any, number: int, dataset: DatasetEntry) -> tuple[str, str]:
    if level is not None and level not in LEVELS:
        raise wrong(f"{show(level)} is not a level; {nearest(level, LEVELS)}", number, "level")
    if "target" in point:
        return NO_SHIFT, _level_of_target(shift, level, number)
    if _nothing_shifts(point, dataset):
        if level is not None and dataset.labelled:
            raise wrong("nothing shifts; drop it", number, "level")
        return NO_SHIFT, ""
    if shift is None:
        images = [name for name in dataset.shifts if name in CORRUPTIONS]
        names = [*images[:3], *(name for name in dataset.shifts if name not in CORRUPTIONS)]
        more = f", or another of {len(images)} corruptions" if len(images) > 3 else ""
        raise wrong(f"shift is missing; choose from {', '.join(names)}{more}", number)
    if not isinstance(shift, str) or shift not in SHIFTS:
        hint = f"; a composite is written as one text, such as fog{AND}flip" if isinstance(shift, list) else ""
        raise wrong(f"{show(shift)} is not a shift; {nearest(str(shift), dataset.shifts)}{hint}", number, "shift")
    if shift not in dataset.shifts:
        raise wrong(_not_for(dataset, shift), number, "shift")
    if SHIFTS[shift].colour and dataset.channels == 1:
        raise wrong(f"{shift} needs colour images; those of {dataset.name} are grey", number, "shift")
    own: Level | None = "input" if shift == CONTINUAL else SHIFTS[shift].level
    if level is not None and own is None:
        why = (
            "a prior shift calls for no block"
            if shift == PRIOR
            else f"follows from the noised block with `shift: {shift}`"
        )
        raise wrong(f"{why}; drop it", number, "level")
    if level is not None and level != own:
        raise wrong(f"{show(level)}, but {shift} acts at {own} level", number, "level")
    return shift, own or ""


def _level_of_target(shift: Any, level: Any, number: int) -> str:
    if shift not in (None, NO_SHIFT):
        raise wrong("a target folder is the shift; drop one of the two", number, "shift")
    return level or ""  # only the paper's rule needs it


def _nothing_shifts(point: dict[str, Any], dataset: DatasetEntry) -> bool:
    """Whether a point has images as they are: at random, or in a folder with a train and a test part of its own."""
    if "target" in point or NO_SHIFT not in dataset.shifts:
        return False
    return point.get("shift") == NO_SHIFT or (point.get("shift") is None and len(dataset.shifts) == 1)


def _check_corruptions(names: tuple[str, ...], dataset: DatasetEntry, number: int) -> None:
    """Refuse a corruption of `continual` that this dataset cannot have alone."""
    for place, name in enumerate(names):
        if name not in dataset.shifts:
            raise wrong(_not_for(dataset, name), number, "corruptions", place)
        if SHIFTS[name].colour and dataset.channels == 1:
            raise wrong(f"{name} needs colour images; those of {dataset.name} are grey", number, "corruptions", place)


def _not_for(dataset: DatasetEntry, shift: str) -> str:
    if f"{shift}-like" in dataset.shifts:
        return f"{shift} is only in the archive of CIFAR-10-C (`dataset: cifar10c`); what is made here is {shift}-like"
    return f"{dataset.name} has no {shift}; {nearest(shift, dataset.shifts)}"


def _superclasses(
    given: Superclasses | None, shift: str, dataset: DatasetEntry, number: int
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]] | None:
    """The table of a subpopulation shift; None where the shift has none, or where it lies beside the images."""
    if "subpopulation" not in shift.split(AND):
        return None
    if given is None:
        if dataset.superclasses is None and not dataset.own_table:
            needs = "{name: {source: [class, ...], target: [class, ...]}}, or a table's name"
            raise wrong(f"superclasses is missing: {needs}", number)
        return dict(dataset.superclasses) if dataset.superclasses else None
    for name, sides in given.items():
        for side, members in zip(SIDES, sides, strict=True):
            for member in members:
                if dataset.classes is not None and member not in dataset.classes:
                    hint = nearest(member, dataset.classes, limit=10)
                    message = f"{show(member)} is not a class of {dataset.name}; {hint}"
                    raise wrong(message, number, "superclasses", name, side)
    return dict(given)


def _check_permutation(given: tuple[int, ...] | None, n_classes: int, number: int) -> None:
    """Refuse new labels that are not a permutation of all classes, whose number is 0 where it is not known."""
    if given is None:
        return
    wanted = range(n_classes or len(given))
    if sorted(given) != list(wanted):
        message = f"expected each of 0 to {len(wanted) - 1} once, got {show(list(given))}"
        raise wrong(message, number, "permutation")
    if given == tuple(wanted):
        raise wrong("leaves every label as it is; nothing would shift", number, "permutation")
