"""What a run's parent and its child processes say to each other over a pipe. Imports no torch: the parent reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.suite.data_axis import DataSpec
from bench.suite.suite import Cell, Suite


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a data point needs, made and cached: the domain's folder and the source model's weights.

    Attributes:
        data_sha256: fingerprint of the images, labels and class names.
        weights_sha256: fingerprint of the source model's tensors, before any noise.
        facts: of the noise that was put into the model, see `bench.models.block_noise`; empty without any.
    """

    domain: Path
    weights: Path
    data_sha256: str
    weights_sha256: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrepareJob:
    """Make ready all data points. Answered by Progress, then Prepared per label in a PrepareDone, or Failed."""

    suite: Suite
    data: tuple[DataSpec, ...]
    base: Path
    device: str


@dataclass(frozen=True, slots=True)
class Progress:
    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class PrepareDone:
    """All data points are ready.

    Attributes:
        prepared: by the data point's label.
        code_sha256: of the file of a user's own model; None for a model of the catalogue.
    """

    prepared: dict[str, Prepared]
    device_name: str
    code_sha256: str | None


@dataclass(frozen=True, slots=True)
class CellJob:
    """Run one repeat. Answered by Ready, (GO), Trained, (RELEASE), Evaluated; or by Failed at any point.

    Attributes:
        window_s: the fine-tuning is done again until it took that long.
    """

    suite: Suite
    cell: Cell
    prepared: Prepared
    base: Path
    device: str
    window_s: float


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything is loaded and warm; the child now keeps still until GO."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The work is done; the child keeps still until RELEASE. Times are CLOCK_MONOTONIC seconds."""

    t0_s: float
    t1_s: float
    executions: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The figures of a repeat; names as in Record."""

    n_train: int
    n_val: int
    n_test: int
    trained_parameters: int
    accuracy_before: float
    accuracy_after: float
    best_epoch: int
    epochs_run: int
    steps: int
    peak_rss_mb: float
    levers: tuple[str, ...]
    cache_mb: float | None
    cache_note: str | None
    data_variant: str | None
    forward_macs: int | None = None
    step_macs: int | None = None
    step_bytes: int | None = None
    train_macs: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Something broke in the child.

    Attributes:
        request: the request was wrong (exit 2), rather than this one cell.
    """

    error: str
    request: bool


GO = "go"
RELEASE = "release"
EPOCH = "epoch"
"""Sent while training, at most every few seconds, so that a long cell shows life."""
