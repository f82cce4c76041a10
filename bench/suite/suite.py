"""Suite and Cell: what a user asks to be run, checked at the door, and the matrix it spans."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bench.catalog.datasets import SEVERITIES, Level, Superclasses
from bench.catalog.models import FULL, TARGET_BLOCKS, BlockSet
from bench.catalog.spec import Name, Seed, Spec, TrainSize
from bench.suite.arm import Arm
from bench.suite.training import AXES, SourceTrainSpec, TuneSpec, variant_label

Variant = tuple[tuple[str, Any], ...]
"""A point on the axes of `train`: (key, value) pairs, empty where it has none."""

TBFT = "tbft"
"""Among a suite's blocks: the target block of the cell's level."""


class ModelSpec(Spec):
    """Which model, where its weights come from, and (for one's own) what its blocks are.

    Attributes:
        pixels: what the model is fed, `signed` (-1 to 1) or `unit` (0 to 1).
    """

    name: str
    checkpoint: str | None = None
    width: Annotated[int, Field(ge=1, le=1024)] = 16
    blocks: dict[str, list[str]] | None = None
    pixels: Literal["signed", "unit"] = "signed"
    source_train: SourceTrainSpec = SourceTrainSpec()


class DataSpec(Spec):
    """One dataset with one shift: a point of the data axis.

    `level` is given by the user for a folder with a target of its own, else by the shift; '' where nothing shifts.

    Attributes:
        noised_block: the block whose parameters are noised, for `block_noise`.
        noised_accuracy: what the noise leaves of the accuracy on source images, None for its default.
        classes: of random images.
    """

    dataset: str
    shift: str
    level: Level | Literal[""]
    label: Name
    severity: Annotated[int, Field(ge=SEVERITIES[0], le=SEVERITIES[-1])] | None = None
    permutation: tuple[int, ...] | None = None
    superclasses: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] | None = None
    source: str | None = None
    target: str | None = None
    image_size: int | None = None
    noised_block: str | None = None
    noised_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = None
    classes: int | None = None

    @property
    def target_block(self) -> str | None:
        """The block that the shift calls for; None where nothing shifts."""
        return self.noised_block or TARGET_BLOCKS.get(self.level)

    def members(self) -> Superclasses:
        """The superclasses of a subpopulation shift; empty for the others."""
        return self.superclasses or {}


class SplitSpec(Spec):
    """How target images divide into the pool to train from, validation and test (the paper's: 70/15/15)."""

    pool: Annotated[float, Field(gt=0, lt=1)] = 0.70
    val: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.pool + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"pool + val + test must be 1, not {total:g}")
        return self


class EnergySpec(Spec):
    """How often and how long a cell is measured. The defaults suit a USB meter.

    Attributes:
        repeats: executions of a cell, each in a process and a window of its own.
        min_window_s: a shorter fine-tuning is done again within the window until it is that long, and until it
            lasted four periods of a meter.
        idle_s: length of an idle baseline; 0 measures none, and there are no net joules.
        guard_s: quiet before and after the work; as much of it is used as the source needs.
        cooldown_s: longest wait, before a repeat, for the device to come back to its first temperature.
    """

    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    min_window_s: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    idle_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    guard_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    cooldown_s: Annotated[float, Field(ge=0, le=3600)] = 120.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the matrix: a condition with a seed."""

    data: DataSpec
    train_size: float
    arm: Arm
    seed: int
    variant: Variant = ()

    @property
    def blocks(self) -> BlockSet:
        """The block set that the arm names; empty where its method chooses."""
        return self.arm.blocks

    @property
    def blocks_label(self) -> str:
        return "+".join(self.blocks)

    @property
    def group(self) -> str:
        """What conditions that differ only in their arm share."""
        return "/".join([f"{self.data.label}/n={self.train_size!r}", *filter(None, [self.variant_label])])

    @property
    def variant_label(self) -> str:
        """As `engine=fast,bn_mode=eval`; empty where the suite trains in one way only."""
        return variant_label(self.variant)

    @property
    def condition_id(self) -> str:
        """The cell's id without its seed."""
        return f"{self.group}/{self.arm.label}"

    @property
    def cell_id(self) -> str:
        """Readable and stable: `digits-flip/n=0.1/fc/s=0`."""
        return f"{self.condition_id}/s={self.seed}"

    def n_train(self, n_target: int) -> int:
        """Labelled images to train on, of n_target images in the target domain."""
        return self.train_size if isinstance(self.train_size, int) else max(1, round(self.train_size * n_target))


class Suite(Spec):
    """A checked suite: every name in it exists and every combination makes sense.

    Made by `bench.suite.load.load_suite`, which also gives the errors their file and line.
    """

    name: Name
    title: str = ""
    version: Annotated[int, Field(ge=1)] = 1
    model: ModelSpec
    block_map: dict[str, tuple[str, ...]]
    data: tuple[DataSpec, ...]
    train_size: tuple[TrainSize, ...]
    blocks: tuple[BlockSet, ...]
    methods: tuple[Arm, ...] = ()
    seeds: tuple[Seed, ...]
    train: TuneSpec = TuneSpec()
    axes: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    energy: EnergySpec = EnergySpec()
    split: SplitSpec = SplitSpec()
    timeout_s: Annotated[float, Field(gt=0, le=7 * 86_400)] = 3600.0
    exclude: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [arm.label for arm in self.arms]
        for number, label in enumerate(labels):
            if label in labels[:number]:
                raise ValueError(f"two arms are called {label!r}; their results could not be told apart")
        return self

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What is compared: an arm of `fixed` for each of `blocks`, `tbft` among them, then those of other methods."""
        return (*map(Arm.of_blocks, self.blocks), *self.methods)

    def cells(self) -> list[Cell]:
        """The matrix less what is excluded, in the order data, train size, seed, variant, arm."""
        return [cell for cell in self.matrix() if not any(excludes(rule, cell) for rule in self.exclude)]

    def matrix(self) -> Iterator[Cell]:
        """Every point. A `tbft` that names a block already listed is that block's cell, once."""
        points = itertools.product(self.data, self.train_size, self.seeds, self.variants())
        for data, size, seed, variant in points:
            arms = (Arm.of_blocks((data.target_block or FULL,)) if arm.blocks == (TBFT,) else arm for arm in self.arms)
            for arm in dict.fromkeys(arms):
                yield Cell(data, size, arm, seed, variant)

    def variants(self) -> list[Variant]:
        """Every point on the axes of `train`; the empty one where it has none."""
        return [tuple(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def tuning(self, cell: Cell) -> TuneSpec:
        """How a cell is fine-tuned."""
        return self.train.for_arm(cell.arm.label, dict(cell.variant))

    def content(self) -> dict[str, Any]:
        """The suite as plain data for a manifest; `methods` only where there are some, as before there were any."""
        return self.model_dump(mode="json", exclude=set() if self.methods else {"methods"})

    def digest(self) -> str:
        """Hash of the meaning: comments, order of keys and the title do not change it."""
        content = self.content()
        for key in ("title", "version"):
            del content[key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def excludes(rule: dict[str, Any], cell: Cell) -> bool:
    """Whether every key of an exclude rule has the cell's value, or a list with it."""
    values = cell_values(cell)
    return all(values[key] in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in rule.items())


def cell_values(cell: Cell) -> dict[str, Any]:
    """What an exclude rule can ask of a cell."""
    return dict(cell.variant) | {
        "dataset": cell.data.dataset,
        "shift": cell.data.shift,
        "data": cell.data.label,
        "level": cell.data.level,
        "severity": cell.data.severity,
        "train_size": cell.train_size,
        "blocks": cell.blocks_label,
        "seed": cell.seed,
    }


EXCLUDE_KEYS = ("dataset", "shift", "data", "level", "severity", "train_size", "blocks", "seed", *AXES)
