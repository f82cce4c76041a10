"""The datasets and shifts that a suite can name, known without importing numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Level = Literal["input", "feature", "output"]
LEVELS: tuple[Level, ...] = ("input", "feature", "output")

Superclasses = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Superclass -> (its members in the source, its members in the target); members are class names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """What is known of a dataset before it is read.

    Attributes:
        classes: names in label order; None where only the user's folder can say.
        n_target: images of the target domain under an input- or output-level shift; None likewise.
        n_per_class: images of one class in the pool that a subpopulation shift draws from.
        channels: 1 grey, 3 colour.
        image_size: pixels of a side.
    """

    name: str
    classes: tuple[str, ...] | None
    n_target: int | None
    n_per_class: Mapping[str, int] | None
    channels: int
    image_size: int
    superclasses: Superclasses | None


_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _pairs(**pairs: tuple[str, str]) -> Superclasses:
    return MappingProxyType({name: ((source,), (target,)) for name, (source, target) in pairs.items()})


DATASETS: Mapping[str, DatasetEntry] = MappingProxyType(
    {
        "digits": DatasetEntry(
            name="digits",
            classes=_DIGITS,
            n_target=899,
            n_per_class=MappingProxyType(
                dict(zip(_DIGITS, (178, 182, 177, 183, 181, 182, 181, 179, 174, 180), strict=True))
            ),
            channels=1,
            image_size=8,
            # pairs that share strokes, so that a superclass is learnable from either member
            superclasses=_pairs(ring=("0", "6"), bar=("1", "7"), bowl=("3", "8"), fork=("4", "9"), curve=("2", "5")),
        ),
        "cifar10": DatasetEntry(
            name="cifar10",
            classes=_CIFAR10,
            n_target=10_000,
            n_per_class=MappingProxyType(dict.fromkeys(_CIFAR10, 6000)),
            channels=3,
            image_size=32,
            superclasses=_pairs(
                road=("automobile", "truck"),
                pet=("cat", "dog"),
                hoofed=("deer", "horse"),
                craft=("airplane", "ship"),
                small=("bird", "frog"),
            ),
        ),
        "folder": DatasetEntry(
            name="folder",
            classes=None,
            n_target=None,
            n_per_class=None,
            channels=3,
            image_size=32,
            superclasses=None,
        ),
    }
)

SHIFT_LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "noise": "input",
        "blur": "input",
        "contrast": "input",
        "subpopulation": "feature",
        "flip": "output",
        "permute": "output",
    }
)
"""Shift -> the level at which it acts. `none` is for folders that already differ."""

NO_SHIFT = "none"
SEVERITIES = range(1, 6)
CORRUPTIONS = tuple(name for name, level in SHIFT_LEVELS.items() if level == "input")
