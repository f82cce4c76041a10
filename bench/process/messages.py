"""What child processes send to their parent over a socket, a line of JSON each. Imports no torch: the parent reads it.

A child runs a user's model, so what comes from it is checked: bounded, one of these classes, every field of its type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from bench.errors import CellFailedError
from bench.store.record import Finite, WorkFigures
from bench.suite.cell import Cell
from bench.suite.data_axis import DataSpec
from bench.suite.suite import Suite

MAX_BYTES = 1_000_000
"""Longest line that is read from a child."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Files that a data point needs: the domain's folder and the source model's weights, in the cache.

    Attributes:
        data_sha256: fingerprint of the images, labels and class names.
        weights_sha256: fingerprint of the source model's tensors, before any noise.
        facts: of the noise that was put into the model, see `bench.models.block_noise`; empty without any.
        training: how the source model was distilled, for the manifest; empty where it was not.
        cut: path of the module behind which the model's part ends; None: it has no part.
        source_facts: file of what methods may know of the source model, see `bench.models.source_facts`.
    """

    domain: Path
    weights: Path
    data_sha256: str
    weights_sha256: str
    facts: dict[str, Any] = field(default_factory=dict)
    source_facts: Path | None = None
    training: dict[str, Any] = field(default_factory=dict)
    cut: str | None = None


@dataclass(frozen=True, slots=True)
class PrepareJob:
    """Make ready all data points. Answered by Progress, then Prepared per label in a PrepareDone, or Failed."""

    suite: Suite
    data: tuple[DataSpec, ...]
    base: Path
    device: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a long step of preparing.

    Attributes:
        limit_s: the child is stopped if its next message takes longer.
    """

    what: str
    done: int
    total: int
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class PrepareDone:
    """All data points are ready.

    Attributes:
        prepared: by the data point's label.
        code_sha256: of the file of a user's own model; None for a model of the catalogue.
        methods_sha256: of the code of each method of another package, by its name.
    """

    prepared: dict[str, Prepared]
    device_name: str
    code_sha256: str | None
    methods_sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CellJob:
    """Run one repeat. Answered by Ready, (GO), Trained, (RELEASE), WorkFigures; or by Failed at any point.

    Attributes:
        window_s: the work is done again until it took that long.
        keep: file of the run folder that the adapted model is written to; None: it is not kept.
        folder: of the run, where there is one to be kept.
        repeat: number of this execution of the cell, from 0.
    """

    suite: Suite
    cell: Cell
    prepared: Prepared
    base: Path
    device: str
    window_s: float
    keep: Path | None = None
    folder: Path | None = None
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything is loaded and warm; the child now keeps still until GO."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The work is done; the child keeps still until RELEASE. Times are CLOCK_MONOTONIC seconds.

    Attributes:
        spans: phase, start and end of what was done one after the other from t0_s to t1_s; empty where the phases
            changed too often to be kept.
        rhythm: times after which the work repeats, s.
        edge_u_s: standard uncertainty of each of t0_s and t1_s, where another clock than this machine's gave them.
        clock_jumped: that clock did not run steadily meanwhile.
    """

    t0_s: Finite
    t1_s: Finite
    executions: Annotated[int, Field(ge=1)]
    spans: tuple[tuple[str, Finite, Finite], ...] = ()
    rhythm: tuple[Finite, ...] = ()
    edge_u_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    clock_jumped: bool = False


@dataclass(frozen=True, slots=True)
class Alive:
    """Sent while training, at most every few seconds, so that a long cell shows life."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A suite's model can be built and has its blocks.

    Attributes:
        code_sha256: of the file of a user's own model; None for a model of the catalogue.
    """

    code_sha256: str | None


@dataclass(frozen=True, slots=True)
class Probed:
    """A board can train.

    Attributes:
        methods_sha256: of the code of each method of another package that is installed there, by its name.
    """

    device_name: str
    methods_sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds an image: once for what a cache keeps, in a training step, and in an evaluation."""

    front_s: Finite
    step_s: Finite
    eval_s: Finite


@dataclass(frozen=True, slots=True)
class Failed:
    """An error ended the child's work.

    Attributes:
        request: the request was wrong (exit 2), rather than this one cell.
    """

    error: str
    request: bool


GO = "go"
RELEASE = "release"
"""Words that the parent sends."""

Message = Progress | PrepareDone | Ready | Alive | Trained | WorkFigures | Checked | Probed | Timed | Failed


def encode(message: Message) -> bytes:
    """A message as a line: the name of its class, a space, its fields as JSON."""
    name = type(message).__name__
    return b"%s %s\n" % (name.encode(), _adapters()[name].dump_json(message))


def decode(line: bytes) -> Message:
    """The message of a line.

    Raises:
        CellFailedError: it is none.
    """
    name, _, content = line.partition(b" ")
    try:
        message: Message = _adapters()[name.decode()].validate_json(content, strict=True)
    except (KeyError, ValueError):  # pydantic's ValidationError is a ValueError
        shown = line[:60].decode("ascii", "backslashreplace")
        raise CellFailedError(f"the process sent what is no message: {shown}") from None
    return message


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    return {kind.__name__: TypeAdapter(kind) for kind in get_args(Message)}
