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


Form = Literal["own", "exact", "like", "archive"]


@dataclass(frozen=True, slots=True)
class ShiftEntry:
    """Facts about a shift that need no image.

    Attributes:
        level: at which it acts, None where the suite decides that. Those at input level are corruptions and have a
            severity.
        form: how it relates to CIFAR-10-C. `exact`: made here by the published formula, and in the archive under the
            same name; `like`: an approximation made here; `archive`: only in the archive; `own`: none of its.
        colour: whether it needs colour images.
    """

    level: Level | None
    form: Form = "own"
    colour: bool = False


def _corruptions(form: Form, *names: str) -> dict[str, ShiftEntry]:
    return {name: ShiftEntry("input", form, colour=name == "saturate") for name in names}


SHIFTS: Mapping[str, ShiftEntry] = MappingProxyType(
    {
        **_corruptions("own", "noise", "blur"),
        **_corruptions(
            "exact", "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "zoom_blur", "fog",
            "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression", "speckle_noise",
            "gaussian_blur", "saturate",
        ),
        **_corruptions("like", "motion_blur-like", "snow-like", "frost-like", "spatter-like"),
        **_corruptions("archive", "motion_blur", "snow", "frost", "spatter"),
        "subpopulation": ShiftEntry("feature"),
        "flip": ShiftEntry("output"),
        "permute": ShiftEntry("output"),
        "prior": ShiftEntry(None),
        "block_noise": ShiftEntry(None),
        "continual": ShiftEntry(None),
    }
)  # fmt: skip

SHIFT_LEVELS: Mapping[str, Level] = MappingProxyType(
    {name: entry.level for name, entry in SHIFTS.items() if entry.level is not None}
)
"""Shift -> the level at which it acts. `none` is for folders that already differ."""

BLOCK_NOISE = "block_noise"
"""Shifts the model, not the data: noise in one block's parameters. Its level is that whose target the block is."""

CONTINUAL = "continual"
"""Several corruptions in a row, each of all target images: what a stream meets. At input level."""

PRIOR = "prior"
"""Some classes are missing or rare in the target. It calls for no block: the images of a class stay what they are."""

NO_SHIFT = "none"
SEVERITIES = range(1, 6)
CORRUPTIONS = tuple(name for name, level in SHIFT_LEVELS.items() if level == "input")
ALONE = (BLOCK_NOISE, CONTINUAL, NO_SHIFT)
"""Shifts that are no part of a composite one."""
MADE = tuple(name for name, entry in SHIFTS.items() if entry.form != "archive")
"""Shifts that any dataset with images of its own can be given."""
ARCHIVED = tuple(name for name, entry in SHIFTS.items() if entry.form in ("exact", "archive"))
"""The names in the archive of CIFAR-10-C: its 15 corruptions and 4 more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """Facts about a dataset that need none of its files.

    Attributes:
        classes: names in label order; None where they are those of the user's folder.
        n_target: images of the target domain under an input- or output-level shift; None likewise. Of a dataset that
            only knows a subpopulation shift: images of its own table's target.
        n_per_class: images of one class in the pool that a subpopulation shift draws from.
        channels: 1 grey, 3 colour.
        image_size: pixels of a side.
        superclasses: default of a subpopulation shift.
        shifts: that it can be given.
        takes_source: whether a suite may name a copy of the user's own.
        own_table: whether a table of superclasses lies beside the images.
        labelled: whether the labels mean anything, and so an accuracy does.
    """

    name: str
    classes: tuple[str, ...] | None = None
    n_target: int | None = None
    n_per_class: Mapping[str, int] | None = None
    channels: int = 3
    image_size: int = 32
    superclasses: Superclasses | None = None
    shifts: tuple[str, ...] = (*MADE, NO_SHIFT)
    takes_source: bool = True
    own_table: bool = False
    labelled: bool = True


_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _pairs(**pairs: tuple[str, str]) -> Superclasses:
    return MappingProxyType({name: ((source,), (target,)) for name, (source, target) in pairs.items()})


_ENTRIES = (
    DatasetEntry(
        name="digits",
        classes=_DIGITS,
        n_target=899,
        n_per_class=dict(zip(_DIGITS, (178, 182, 177, 183, 181, 182, 181, 179, 174, 180), strict=True)),
        channels=1,
        image_size=8,
        # pairs that share strokes, so that a superclass is learnable from either member
        superclasses=_pairs(ring=("0", "6"), bar=("1", "7"), bowl=("3", "8"), fork=("4", "9"), curve=("2", "5")),
        takes_source=False,
    ),
    DatasetEntry(
        name="cifar10",
        classes=_CIFAR10,
        n_target=10_000,
        n_per_class=dict.fromkeys(_CIFAR10, 6000),
        superclasses=_pairs(
            road=("automobile", "truck"),
            pet=("cat", "dog"),
            hoofed=("deer", "horse"),
            craft=("airplane", "ship"),
            small=("bird", "frog"),
        ),
    ),
    DatasetEntry(name="cifar10c", classes=_CIFAR10, n_target=10_000, shifts=(*ARCHIVED, CONTINUAL), takes_source=False),
    # its classes differ in size, from 732 images to 1,300
    DatasetEntry(name="imagenet", image_size=128, shifts=("subpopulation",)),
    DatasetEntry(name="tiny_imagenet", n_target=10_000, shifts=("subpopulation",), own_table=True),
    DatasetEntry(name="random", n_target=1000, shifts=(NO_SHIFT,), takes_source=False, labelled=False),
    DatasetEntry(name="folder"),
)
DATASETS: Mapping[str, DatasetEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
