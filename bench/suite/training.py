"""TuneSpec: how a cell is fine-tuned, the protocol and what of its work is saved. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from bench.catalog.spec import NonNegative, Positive, Seed, Spec
from bench.suite.arm import as_written

Engine = Literal["reference", "truncated", "fast"]
BnMode = Literal["train", "train_tuned", "eval", "adapt_once_then_eval"]
Cache = Literal["auto", "off", "memory", "half", "disk"]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
BatchSize = Annotated[int, Field(ge=1, le=100_000)]
Head = Literal["sgd", "closed_form"]

EVAL_BATCH = 64
"""Images evaluated at once. Small, so that a layer's activations stay in a CPU's cache."""


class TrainSpec(Spec):
    """The protocol of training. The defaults are the paper's for CIFAR.

    Attributes:
        bn_mode: what BatchNorm does while training. `train` (as published): every layer normalises by the batch and
            updates its running statistics, frozen blocks included. `train_tuned`: only the layers that are tuned do.
            `eval`: none does. `adapt_once_then_eval`: statistics are taken once from the training images, then stay.
        augment: mirror and move the images at random (`bench.training.augment`).
    """

    epochs: Epochs = 10
    batch_size: BatchSize = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 5e-4
    bn_mode: BnMode = "train"
    patience: Epochs | None = 5
    augment: bool = False

    def once(self) -> Self:
        """The same for a single epoch, to warm up with."""
        return self.model_copy(update={"epochs": 1})


class TrainOverride(Spec):
    """The part of `train` that one block may do differently."""

    epochs: Epochs | None = None
    batch_size: BatchSize | None = None
    lr: Positive | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: NonNegative | None = None
    head: Head | None = None


class EngineSpec(TrainSpec):
    """The protocol of one cell and how much of its work is saved; `bench.suite.levers` says which saving is exact.

    Attributes:
        engine: `reference`: every gradient is computed and every image runs through the whole net in every epoch, as
            in the released scripts. `truncated`: nothing frozen gets a gradient, as in the paper's cost measurement.
            `fast`: besides, everything that gives the same result for this bn_mode and costs less.
        cache: where the output of the frozen front part is kept, computed once. `auto`: the fast engine keeps it in
            memory or, where there is too little, on disk; the others do not. `half`: in memory as float16.
        cache_mb: most memory for it, in MB (10^6 bytes); None: half of what is available.
        channels_last: order of an image's values in memory; None: what the engine does.
        keep_memory: the C library keeps freed memory and need not ask the kernel again; None: what the engine does.
        micro_batch: images that run through the net at once, their gradients summed to a step of `batch_size`.
        precision: of the activations; bfloat16 only where the processor computes with it.
        compile: by torch.compile.
        head: `closed_form` solves the last layer instead of training it.
        views: number of fixed augmented copies of the training images, used in turn instead of fresh ones.
    """

    engine: Engine = "truncated"
    cache: Cache = "auto"
    cache_mb: Positive | None = None
    channels_last: bool | None = None
    keep_memory: bool | None = None
    micro_batch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    head: Head = "sgd"
    views: Annotated[int, Field(ge=1, le=1000)] | None = None


class TuneSpec(EngineSpec):
    """`train` of a suite: what all cells share, and what single blocks do differently.

    Attributes:
        threads: CPU threads of torch, None for its own choice (all cores). Small nets are faster and cheaper with one.
    """

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    per_block: dict[str, TrainOverride] = Field(default_factory=dict)

    def for_arm(self, label: str, variant: Mapping[str, Any] = MappingProxyType({})) -> TuneSpec:
        """What holds for one arm.

        Args:
            label: of the arm, as `fc` or `block2+block3`.
            variant: the cell's point on the axes of `train`.
        """
        override = self.per_block.get(label)
        own = override.model_dump(exclude_none=True) if override else {}
        return self.model_copy(update={**own, **variant, "per_block": {}})


AXES = ("engine", "bn_mode", "cache", "channels_last", "keep_memory", "micro_batch", "precision", "compile", "head",
        "threads")  # fmt: skip
"""Keys of `train` that may hold a list, which multiplies the cells."""


def variant_label(point: Iterable[tuple[str, object]]) -> str:
    """A point on the axes as in a cell's id: `engine=fast,bn_mode=eval`."""
    return ",".join(f"{key}={as_written(value)}" for key, value in point)


class SourceTrainSpec(TrainSpec):
    """How a source model without a checkpoint is trained, once."""

    epochs: Epochs = 30
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 64
    lr: Positive = 0.05
    bn_mode: Literal["train"] = "train"
    patience: None = None
    seed: Seed = 0
