"""The data axis of a suite: entries whose lists multiply, each point checked against the catalogue."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.catalog.datasets import (
    BLOCK_NOISE,
    CORRUPTIONS,
    DATASETS,
    LEVELS,
    NO_SHIFT,
    SEVERITIES,
    SHIFTS,
    DatasetEntry,
    Level,
    Superclasses,
)
from bench.catalog.models import TARGET_BLOCKS
from bench.errors import nearest, show
from bench.suite.suite import DataSpec
from bench.suite.superclasses import SHIPPED, check_table, read_table, shipped_table
from bench.suite.yaml_file import Loc, YamlFile, user_path

KEYS = (
    "dataset",
    "shift",
    "severity",
    "permutation",
    "superclasses",
    "source",
    "target",
    "level",
    "name",
    "image_size",
    "noised_block",
    "noised_accuracy",
    "classes",
)
MULTIPLY = ("dataset", "shift", "severity", "noised_block")
"""Keys that may hold a list; the entry then stands for every combination."""

MAX_CLASSES = 100
"""Of random images, of which there are a thousand."""

LEVEL_OF_BLOCK: Mapping[str, Level] = {block: level for level, block in TARGET_BLOCKS.items() if level in LEVELS}
"""Target block -> the level that calls for it; the blocks between the first and the head are of feature level."""


def n_target(data: DataSpec) -> int | None:
    """Images of the target domain, where the catalogue knows it."""
    entry = DATASETS[data.dataset]
    if data.source is not None or (entry.own_table and data.members()):
        return None  # a copy of the user's own, or classes that only their folders can count
    if data.shift == "subpopulation" and entry.n_per_class is not None:
        return sum(entry.n_per_class[member] for _, members in data.members().values() for member in members)
    return entry.n_target


def expand_data(file: YamlFile, base: Path) -> tuple[DataSpec, ...]:
    """All points of the data axis.

    Args:
        file: the suite's file.
        base: folder that relative paths in it start from.

    Raises:
        RequestError: with line, key, what was given, what was expected.
    """
    entries = file.content["data"]
    if not isinstance(entries, list):
        raise file.error(("data",), f"expected a list of mappings, got {show(entries)}")
    if not entries:
        raise file.error(("data",), "empty; expected at least one dataset with its shift")
    points: dict[str, DataSpec] = {}
    for number, entry in enumerate(entries):
        loc: Loc = ("data", number)
        if not isinstance(entry, dict):
            raise file.error(loc, f"expected a mapping such as {{dataset: digits, shift: noise}}, got {show(entry)}")
        for key in entry:
            if key not in KEYS:
                raise file.error((*loc, key), f"unknown key; {nearest(str(key), KEYS)}")
        for point in _multiply(file, loc, entry):
            spec = _point(file, loc, point, base)
            if spec.label in points:
                raise file.error(loc, f"{show(spec.label)} is given twice; give one of them another name")
            points[spec.label] = spec
    return tuple(points.values())


def first_twice(values: Sequence[object]) -> int | None:
    """Index of the first value that stood before. Types are told apart: that 1, 1.0 and true differ is said later."""
    seen: set[str] = set()
    for number, value in enumerate(values):
        key = repr(value)
        if key in seen:
            return number
        seen.add(key)
    return None


def _multiply(file: YamlFile, loc: Loc, entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One by one: every point is checked before the next is made, so that wrong values cannot multiply to millions."""
    lists = {key: entry[key] if isinstance(entry[key], list) else [entry[key]] for key in MULTIPLY if key in entry}
    for key, values in lists.items():
        if not values:
            raise file.error((*loc, key), "empty; expected at least one value")
        twice = first_twice(values)
        if twice is not None:
            raise file.error((*loc, key), f"{show(values[twice])} is given twice")
    if "name" in entry and any(len(values) > 1 for values in lists.values()):
        raise file.error((*loc, "name"), "one name cannot stand for several points; drop it or the lists")
    for combination in itertools.product(*lists.values()):
        yield {**entry, **dict(zip(lists, combination, strict=True))}


def _point(file: YamlFile, loc: Loc, point: dict[str, Any], base: Path) -> DataSpec:
    if "dataset" not in point:
        raise file.error(loc, "dataset is missing")
    name = point["dataset"]
    if not isinstance(name, str) or name not in DATASETS:
        raise file.error((*loc, "dataset"), f"{show(name)} is not a dataset; {nearest(name, DATASETS)}")
    dataset = DATASETS[name]
    paths = {key: _path(file, loc, point, key, base) for key in ("source", "target")}
    shift, level = _shift(file, loc, point, dataset)
    severity = point.get("severity")
    if severity is not None:
        if shift not in CORRUPTIONS:
            raise file.error((*loc, "severity"), f"only shifts at input level have a severity, {shift} has not")
        if isinstance(severity, bool) or not isinstance(severity, int) or severity not in SEVERITIES:
            raise file.error(
                (*loc, "severity"), f"{show(severity)} is out of range; expected a whole number from 1 to 5"
            )
    noised_block = _noised_block(file, loc, point, shift)
    if noised_block is not None:
        level = LEVEL_OF_BLOCK.get(noised_block, "feature")
    classes = _classes(file, loc, point)
    table = superclasses(file, loc, point, shift, base)
    n_classes = len(table) if table else len(dataset.classes) if dataset.classes else None
    image_size = point.get("image_size")
    if image_size is not None:
        if dataset.classes is not None:
            raise file.error((*loc, "image_size"), f"only a folder's images are resized, {name} has its own size")
        if isinstance(image_size, bool) or not isinstance(image_size, int) or not 8 <= image_size <= 1024:
            raise file.error((*loc, "image_size"), f"{show(image_size)} is out of range; expected 8 to 1024 pixels")
    kind = f"noise-in-{noised_block}" if noised_block else level if shift == NO_SHIFT else shift
    if name == "random":
        kind = f"{image_size or dataset.image_size}px"
    label = point.get("name", "-".join([name, kind, *([f"sev{severity}"] if severity is not None else [])]))
    if not isinstance(label, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", label) or ".." in label:
        raise file.error(
            (*loc, "name"), f"{show(label)} cannot be a name; expected a-z, 0-9, '.', '_', '-', at most 64"
        )
    return DataSpec(
        dataset=name,
        shift=shift,
        level=level,
        label=label,
        severity=severity,
        permutation=permutation(file, loc, point, shift, n_classes),
        superclasses=dict(table) if table else None,
        source=paths["source"],
        target=paths["target"],
        image_size=image_size if image_size is not None or dataset.classes else dataset.image_size,
        noised_block=noised_block,
        noised_accuracy=point.get("noised_accuracy"),
        classes=classes,
    )


def _noised_block(file: YamlFile, loc: Loc, point: dict[str, Any], shift: str) -> str | None:
    """The block whose parameters are noised; that the model has it is checked with the model at hand."""
    block, accuracy = point.get("noised_block"), point.get("noised_accuracy")
    if shift != BLOCK_NOISE:
        for key in ("noised_block", "noised_accuracy"):
            if point.get(key) is not None:
                raise file.error((*loc, key), f"belongs to `shift: {BLOCK_NOISE}`, not to {shift}")
        return None
    if not isinstance(block, str):
        given = "is missing" if block is None else f": expected a block's name, got {show(block)}"
        raise file.error(
            (*loc, "noised_block") if block is not None else loc, f"noised_block {given}".replace(" :", ":")
        )
    number = isinstance(accuracy, (int, float)) and not isinstance(accuracy, bool)
    if accuracy is not None and not (number and 0 < accuracy < 1):
        raise file.error((*loc, "noised_accuracy"), f"{show(accuracy)} is out of range; expected a fraction of 1")
    return block


def _classes(file: YamlFile, loc: Loc, point: dict[str, Any]) -> int | None:
    given = point.get("classes")
    if point["dataset"] != "random":
        if given is not None:
            raise file.error((*loc, "classes"), f"belongs to `dataset: random`, not to {point['dataset']}")
        return None
    given = 10 if given is None else given
    if isinstance(given, bool) or not isinstance(given, int) or not 2 <= given <= MAX_CLASSES:
        raise file.error(
            (*loc, "classes"), f"{show(given)} is out of range; expected a whole number from 2 to {MAX_CLASSES}"
        )
    return given


def _path(file: YamlFile, loc: Loc, point: dict[str, Any], key: str, base: Path) -> str | None:
    value = point.get(key)
    if value is None:
        if key == "source" and point["dataset"] == "folder":
            raise file.error(loc, "source is missing: the folder of images that the source model knows")
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise file.error((*loc, key), f"expected a path, got {show(value)}")
    if not DATASETS[point["dataset"]].takes_source or (key == "target" and point["dataset"] != "folder"):
        raise file.error((*loc, key), f"{point['dataset']} takes no {key}; a folder of your own is `dataset: folder`")
    return str(user_path(file, (*loc, key), value, base))


def _shift(file: YamlFile, loc: Loc, point: dict[str, Any], dataset: DatasetEntry) -> tuple[str, Any]:
    has_target = point.get("target") is not None
    shift = point.get("shift", NO_SHIFT if has_target else None)
    level = point.get("level")
    if level is not None and level not in LEVELS:
        raise file.error((*loc, "level"), f"{show(level)} is not a level; {nearest(level, LEVELS)}")
    if has_target:
        if shift != NO_SHIFT:
            raise file.error((*loc, "shift"), "a target folder is the shift; drop one of the two")
        if level is None:
            raise file.error(loc, f"level is missing: where does the target differ? ({', '.join(LEVELS)})")
        return NO_SHIFT, level
    if dataset.shifts == (NO_SHIFT,) and shift in (None, NO_SHIFT):
        return NO_SHIFT, ""
    if shift is None:
        raise file.error(loc, f"shift is missing; choose from {', '.join(dataset.shifts)}")
    if not isinstance(shift, str) or shift not in SHIFTS:
        raise file.error((*loc, "shift"), f"{show(shift)} is not a shift; {nearest(shift, dataset.shifts)}")
    if shift not in dataset.shifts:
        raise file.error((*loc, "shift"), _not_for(dataset, shift))
    if SHIFTS[shift].colour and dataset.channels == 1:
        raise file.error((*loc, "shift"), f"{shift} needs colour images; those of {dataset.name} are grey")
    if level is not None and SHIFTS[shift].level is None:
        raise file.error((*loc, "level"), f"follows from the noised block with `shift: {shift}`; drop it")
    if level is not None and level != SHIFTS[shift].level:
        raise file.error((*loc, "level"), f"{show(level)}, but {shift} acts at {SHIFTS[shift].level} level")
    return shift, SHIFTS[shift].level


def _not_for(dataset: DatasetEntry, shift: str) -> str:
    if f"{shift}-like" in dataset.shifts:
        return f"{shift} is only in the archive of CIFAR-10-C (`dataset: cifar10c`); what is made here is {shift}-like"
    return f"{dataset.name} has no {shift}; {nearest(shift, dataset.shifts)}"


def permutation(
    file: YamlFile, loc: Loc, point: dict[str, Any], shift: str, n_classes: int | None
) -> tuple[int, ...] | None:
    given = point.get("permutation")
    if shift != "permute":
        if given is not None:
            raise file.error((*loc, "permutation"), f"belongs to `shift: permute`, not to {shift}")
        return None
    if given is None:
        raise file.error(loc, "permutation is missing: the new label of each class, in order")
    where = (*loc, "permutation")
    if not isinstance(given, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in given):
        raise file.error(where, f"expected a list of class numbers, got {show(given)}")
    if sorted(given) != list(range(len(given))) or (n_classes is not None and len(given) != n_classes):
        wanted = f"0 to {n_classes - 1}" if n_classes else f"0 to {len(given) - 1}"
        raise file.error(where, f"expected each of {wanted} once, got {show(given)}")
    if given == sorted(given):
        raise file.error(where, "leaves every label as it is; nothing would shift")
    return tuple(given)


def superclasses(file: YamlFile, loc: Loc, point: dict[str, Any], shift: str, base: Path) -> Superclasses | None:
    """None where the shift has none, or where they lie beside the images."""
    dataset = DATASETS[point["dataset"]]
    given = point.get("superclasses")
    where = (*loc, "superclasses")
    if shift != "subpopulation":
        if given is not None:
            raise file.error(where, f"belongs to `shift: subpopulation`, not to {shift}")
        return None
    if given is None:
        if dataset.superclasses is None and not dataset.own_table:
            raise file.error(
                loc, "superclasses is missing: {name: {source: [class, ...], target: [class, ...]}}, or a table's name"
            )
        return dataset.superclasses
    if isinstance(given, str):
        table = _named_table(file, where, given, base)
        given = {name: {"source": list(source), "target": list(target)} for name, (source, target) in table.items()}
    return check_table(given, lambda rest, said: file.error((*where, *rest), said), dataset.classes, dataset.name)


def _named_table(file: YamlFile, where: Loc, given: str, base: Path) -> Superclasses:
    """One that comes with jouletune, or a file of the user's."""
    if given in SHIPPED:
        return shipped_table(given)
    if not given.endswith((".csv", ".json", ".yaml", ".yml")) or "\0" in given:
        raise file.error(
            where, f"{show(given)} is neither a .csv, .json or .yaml file nor a known table; {nearest(given, SHIPPED)}"
        )
    return read_table(user_path(file, where, given, base), given)
