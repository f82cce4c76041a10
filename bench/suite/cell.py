"""Cell: one point of the matrix that a suite spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.catalog.methods import load_method
from bench.catalog.models import BlockSet
from bench.suite.arm import Arm
from bench.suite.data_axis import DataSpec
from bench.suite.training import variant_label
from bench.suite.work import Work, label_of

Variant = tuple[tuple[str, Any], ...]
"""A point on the axes of `train`: (key, value) pairs, empty where it has none."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the matrix: a condition with a seed."""

    data: DataSpec
    train_size: float
    arm: Arm
    seed: int
    variant: Variant = ()
    work: Work = None

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
        work = "" if self.work is None else self.work_label
        return "/".join([f"{self.data.label}/n={self.train_size!r}", *filter(None, [work, self.variant_label])])

    @property
    def is_idle(self) -> bool:
        """Whether nothing is done in the window, so that there are no joules."""
        return self.work is None and load_method(self.arm.method).method.idle

    @property
    def work_label(self) -> str:
        """What is done in the window: `adapt`, `infer(batch=1)`, `stream(order=classes)`."""
        return label_of(self.work)

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
