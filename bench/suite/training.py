"""The settings of fine-tuning, and the work that an engine saves by them. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from bench.suite.arm import as_written
from bench.suite.spec import NonNegative, Positive, Seed, Spec, UserPath, check_different, explained, wrong

Engine = Literal["reference", "truncated", "fast"]
BnMode = Literal["train", "train_tuned", "eval", "adapt_once_then_eval"]
Cache = Literal["auto", "off", "memory", "half", "disk"]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
BatchSize = Annotated[int, Field(ge=1, le=100_000)]
Head = Literal["sgd", "closed_form"]

EVAL_BATCH = 64
"""Images evaluated at once. Small, so that a layer's activations stay in a CPU's cache."""


def _without_later(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys that were added later, where they have the value that stands for what was done before."""
    later = {"schedule": "constant", "warmup_epochs": 0}
    return {key: value for key, value in content.items() if key not in later or value != later[key]}


class TrainSpec(Spec):
    """The protocol of training. The defaults are the paper's for CIFAR.

    Attributes:
        bn_mode: what BatchNorm does while training. `train` (as published): every layer normalises by the batch and
            updates its running statistics, frozen blocks included. `train_tuned`: only the layers that are tuned do.
            `eval`: none does. `adapt_once_then_eval`: statistics are taken once from the training images, then stay.
        augment: change the images at random (`bench.training.augment`): true mirrors and moves them; `crop` resizes a
            random part, mirrors it and shakes its colours, as is done to train on photographs.
        schedule: of the rate: `constant`, or `cosine` from step to step down to 0 after the last epoch.
        warmup_epochs: in which the rate rises from 0 in a line, before the schedule.
    """

    epochs: Epochs = 10
    batch_size: BatchSize = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 5e-4
    bn_mode: BnMode = "train"
    patience: Epochs | None = 5
    augment: bool | Literal["crop"] = False
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: Annotated[int, Field(ge=0, le=10_000)] = 0

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is as before there was another, so that hashes of suites and models stay."""
        return _without_later(handler(self))

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """Factor of the rate at a step.

        Args:
            epoch: from 1.
            step: of the epoch, from 0.
            steps: of an epoch.
        """
        at, warm = (epoch - 1) * steps + step, self.warmup_epochs * steps
        if at < warm:
            return at / warm
        if self.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (at - warm) / max(1, self.epochs * steps - warm)))

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
    """The protocol of one cell and how much of its work is saved; see `Levers` for which saving is exact.

    Attributes:
        engine: `reference`: every gradient is computed and every image runs through the whole net in every epoch, as
            in the released scripts. `truncated`: nothing frozen gets a gradient, as in the paper's cost measurement.
            `fast`: besides, everything that gives the same result for this bn_mode and costs less.
        cache: where the output of the frozen front part is kept, computed once. `auto`: the fast engine keeps it in
            memory or, where there is too little, on disk; the others do not. `half`: in memory as float16.
        cache_mb: most memory for it, in MB (10^6 bytes); None: half of what is available.
        channels_last: order of an image's values in memory; None: what the engine does.
        keep_memory: the C library keeps freed memory instead of returning it to the kernel; None: what the engine does.
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
    """`train` of a suite: the settings of all cells, and the differing ones of single blocks.

    Attributes:
        threads: CPU threads of torch, None for its own choice (all cores). Small nets are faster and cheaper with one.
    """

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    per_block: dict[str, TrainOverride] = Field(default_factory=dict)
    _axes: dict[str, tuple[Any, ...]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _take_axes(cls, raw: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate the first value of each list as if it stood alone, then the others."""
        axes = {key: raw[key] for key in AXES if isinstance(raw, dict) and isinstance(raw.get(key), list)}
        for key, values in axes.items():
            check_different(values, key)
        spec = handler(raw | {key: values[0] for key, values in axes.items()} if axes else raw)
        for key, values in axes.items():
            for number, value in enumerate(values):
                try:
                    cls.model_validate({key: value})
                except ValidationError as error:
                    raise wrong(explained(error, cls)[1], key, number) from None
        if axes:
            spec._axes = {key: tuple(values) for key, values in axes.items()}
        return spec

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The lists among the keys, whose values multiply the cells."""
        return self._axes

    def for_arm(self, label: str, variant: Mapping[str, Any] = MappingProxyType({})) -> TuneSpec:
        """Get the settings of one arm.

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


class TeacherSpec(Spec):
    """The net whose embeddings a source model is distilled from.

    Attributes:
        name: `efficientnet-lite0` (the extra `teacher`), a model of the catalogue, or `module:function`, whose
            module gives the embedding itself.
        checkpoint: of a model of the catalogue, a file with these outputs; null: it is trained on the source images.
        outputs: of that checkpoint's head, or of the embedding that a user's own module gives.
        size: side of the images that it sees, pixels; null: what it was made for, or theirs.
    """

    name: str
    checkpoint: UserPath | None = None
    outputs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size: Annotated[int, Field(ge=8, le=2048)] | None = None


class SourceTrainSpec(TrainSpec):
    """How a source model without a checkpoint is trained, once.

    Attributes:
        loss: `cross_entropy` on the source's labels, or `sskd`: the mean squared error between a linear map of the
            features and a teacher's embedding (MicroT, arXiv 2403.08040), from the checkpoint where one is given.
        teacher: of `sskd`.
        ce_weight: of the cross-entropy that `sskd` adds; 0 as in the released code, 1 as in the paper's figure.
        joint_epochs: of `sskd`: epochs after those, in which the model and its part up to `model.cut` train together.
        images: of `sskd`: `own`, the source images of the cell's data, or `all`, those of all data of the suite.
        ce_labels: of `sskd`: what cross-entropies learn: the images' `own` labels, or the `teacher`'s probabilities.
        most_images: of each data in `sskd`, drawn by the seed; null: all.
        views: of `sskd` with augment: number of fixed changed copies of the images.
    """

    epochs: Epochs = 30
    batch_size: Annotated[int, Field(ge=2, le=100_000)] = 64
    lr: Positive = 0.05
    bn_mode: Literal["train"] = "train"
    patience: None = None
    seed: Seed = 0
    loss: Literal["cross_entropy", "sskd"] = "cross_entropy"
    teacher: TeacherSpec | None = None
    ce_weight: NonNegative = 0.0
    joint_epochs: Annotated[int, Field(ge=0, le=10_000)] = 0
    images: Literal["own", "all"] = "own"
    ce_labels: Literal["own", "teacher"] = "own"
    most_images: Annotated[int, Field(ge=10, le=10_000_000)] | None = None
    views: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_name(cls, raw: Any) -> Any:
        """Let a teacher's name stand for a teacher."""
        if isinstance(raw, dict) and isinstance(raw.get("teacher"), str):
            return raw | {"teacher": {"name": raw["teacher"]}}
        return raw

    @model_validator(mode="after")
    def _distils(self) -> Self:
        if self.loss == "sskd":
            if self.teacher is None:
                raise wrong("is missing: sskd distils from one, e.g. resnet14 or efficientnet-lite0", "teacher")
            if self.augment and self.views is None:
                raise wrong(
                    "the teacher's embeddings are computed once, of images that stay; views: 4 makes four that do",
                    "augment",
                )  # fmt: skip
            if self.views is not None and not self.augment:
                raise wrong(f"{self.views} with nothing to vary; add augment: true", "views")
            return self
        for key in DISTILLING:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise wrong("is of `loss: sskd` alone; drop it, or give that loss", key)
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is of `sskd` alone where the loss is another: hashes of suites and models stay."""
        content = _without_later(handler(self))  # this serializer takes the place of the parent's
        return content if self.loss == "sskd" else {k: v for k, v in content.items() if k not in ("loss", *DISTILLING)}


DISTILLING = ("teacher", "ce_weight", "joint_epochs", "images", "ce_labels", "most_images", "views")
"""Keys of `source_train` that go with `loss: sskd`."""


MICRO_BATCH = 64
"""Images that the fast engine runs through the net at once on a CPU, for the same reason as EVAL_BATCH."""


@dataclass(frozen=True, slots=True)
class Levers:
    """Which work is saved in one cell.

    Attributes:
        truncated: nothing frozen gets a gradient. Always exact.
        cache: where the frozen front part's output is kept; `auto` is memory, or disk where there is too little.
            Equal to rounding where the front part gives the same output in every epoch, except `half`.
        channels_last: order of values in memory. Equal to rounding.
        keep_memory: freed memory stays in the process. Always exact.
        micro_batch: images run through the net at once, None for the whole batch. Equal to rounding where no layer
            looks at other images of the batch.
        eval_batch: images evaluated at once. Equal to rounding.
        bfloat16: activations have 8 significant bits. Not exact.
        compiled: by torch.compile. Equal to rounding.
        head: `closed_form` reaches another optimum than training does. Not the same result.
    """

    truncated: bool
    cache: Cache
    channels_last: bool
    keep_memory: bool
    micro_batch: int | None
    eval_batch: int
    bfloat16: bool
    compiled: bool
    head: Head

    def names(self, cache: str | None) -> tuple[str, ...]:
        """List the savings as a record does; one that changes the result beyond rounding ends in `(inexact)`.

        Args:
            cache: where the cache is in the end, None where there is none.
        """
        found = {
            "truncated": self.truncated,
            f"cache={cache}" + (" (inexact)" if cache == "half" else ""): cache is not None,
            "channels_last": self.channels_last,
            "keep_memory": self.keep_memory,
            f"micro_batch={self.micro_batch}": self.micro_batch is not None,
            "bfloat16 (inexact)": self.bfloat16,
            "compile": self.compiled,
            "closed_form (inexact)": self.head == "closed_form",
        }
        return tuple(name for name, used in found.items() if used)


def resolve(spec: EngineSpec, device: str) -> Levers:
    """Decide which work a cell's engine saves.

    Args:
        spec: one that `refusal` does not refuse.
        device: kind of torch device, `cpu` or `cuda`.
    """
    fast = spec.engine == "fast"
    keeps = spec.cache if spec.cache != "auto" or fast else "off"
    if spec.cache == "auto" and not _cacheable(spec):
        keeps = "off"
    micro_batch = spec.micro_batch
    if micro_batch is None and fast and device == "cpu" and _separable(spec) and spec.batch_size > MICRO_BATCH:
        micro_batch = MICRO_BATCH
    if spec.head == "closed_form":
        keeps, micro_batch = "memory", None  # one pass over features, which the solution takes as a whole
    return Levers(
        truncated=spec.engine != "reference",
        cache=keeps,
        channels_last=fast if spec.channels_last is None else spec.channels_last,
        keep_memory=fast and device == "cpu" if spec.keep_memory is None else spec.keep_memory,
        micro_batch=micro_batch,
        eval_batch=spec.batch_size if spec.engine == "reference" else EVAL_BATCH,
        bfloat16=spec.precision == "bfloat16",
        compiled=spec.compile and spec.head != "closed_form",
        head=spec.head,
    )


def refusal(spec: EngineSpec, *, last_layer: bool) -> tuple[str, str] | None:
    """Give the key of `train` whose value does not go with the others, and why; None where all do.

    Args:
        last_layer: whether the model's last block alone is tuned.
    """
    if spec.engine == "reference":
        return _of_reference(spec)
    keeps = spec.cache not in ("auto", "off")
    if keeps and spec.bn_mode == "train":
        return "cache", (
            f"{spec.cache!r} with bn_mode 'train': BatchNorm of the frozen part moves with every batch, so its output "
            "changes; set bn_mode to train_tuned, eval or adapt_once_then_eval"
        )
    if keeps and spec.augment and spec.views is None:
        return "cache", (
            f"{spec.cache!r} with augment: the images differ in every epoch, so there is nothing to keep; "
            "views: 4 makes four changed copies and keeps those"
        )
    if spec.views is not None and not spec.augment:
        return "views", f"{spec.views} with nothing to vary; add augment: true"
    if spec.micro_batch is not None and not _separable(spec):
        return "micro_batch", (
            f"{spec.micro_batch} with bn_mode {spec.bn_mode!r}: BatchNorm normalises by the whole batch; set bn_mode "
            "to eval or adapt_once_then_eval"
        )
    return _of_closed_form(spec, last_layer) if spec.head == "closed_form" else None


def _of_reference(spec: EngineSpec) -> tuple[str, str] | None:
    wanted = {
        "cache": spec.cache not in ("auto", "off"),
        "channels_last": spec.channels_last is True,
        "keep_memory": spec.keep_memory is True,
        "micro_batch": spec.micro_batch is not None,
        "precision": spec.precision != "float32",
        "compile": spec.compile,
        "head": spec.head != "sgd",
        "views": spec.views is not None,
    }
    for key, given in wanted.items():
        if given:
            return key, "engine 'reference' does all of the published work; engine 'truncated' takes levers one by one"
    return None


def _of_closed_form(spec: EngineSpec, last_layer: bool) -> tuple[str, str] | None:
    if not last_layer:
        return "head", "'closed_form' solves the model's last block and no other; put it under per_block or exclude"
    if spec.cache not in ("auto", "memory"):
        return "cache", f"{spec.cache!r} with head 'closed_form', which takes the features as a whole; leave it out"
    if spec.bn_mode == "train":
        return (
            "head",
            "'closed_form' needs features that stay; set bn_mode to train_tuned, eval or adapt_once_then_eval",
        )
    if spec.augment and spec.views is None:
        return "head", "'closed_form' sees each image once; views: 4 makes four changed copies"
    return None


def _cacheable(spec: EngineSpec) -> bool:
    """Whether nothing in the spec changes the frozen part's output for an image between epochs."""
    return spec.bn_mode != "train" and (not spec.augment or spec.views is not None)


def _separable(spec: EngineSpec) -> bool:
    """Whether the output for an image does not depend on the other images of its batch."""
    return spec.bn_mode in ("eval", "adapt_once_then_eval")
