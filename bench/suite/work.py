"""`work` of a suite: what is done in a measured window. Imports no torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer
from pydantic_core import PydanticCustomError

from bench.errors import nearest, show
from bench.suite.arm import as_written
from bench.suite.spec import Spec, check_different, explained, wrong
from bench.suite.training import BatchSize

MAX_POINTS = 1000
ADAPT = "adapt"
"""The work of a suite that names none: the source model is adapted to the training images."""

Images = Annotated[int, Field(ge=1, le=10_000_000)]
Runtime = Literal["torch", "onnx", "onnx-int8"]


class Infer(Spec):
    """The model that an arm left classifies test images; adapting it is not in the window.

    Attributes:
        batch: images at once.
        images: of one execution; the test images are taken again from the first where there are fewer.
        ratio: share of images that the part of a model with `model.cut` is to answer, by a threshold on its confidence;
            null: the full model answers all.
        threshold: `quantile` of the confidences of unlabelled images, or as `published`, the mean over draws of ten.
        confidences: the images that these are of: `validation`, or the `pool`, less the images trained on.
        temperature: whether the part's logits are calibrated on the validation images, by one temperature.
        runtime: what runs the net: torch, or onnxruntime in float32 or int8 (the extra `ort`, on the CPU).
        int8_images: training images, at most, that the ranges of int8 values are taken from.
        min_agreement: share of images with the same class first as in torch, below which the repeat fails; null: none.
    """

    batch: BatchSize = 64
    images: Images = 1000
    ratio: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    threshold: Literal["quantile", "published"] = "quantile"
    confidences: Literal["validation", "pool"] = "validation"
    temperature: bool = False
    runtime: Runtime = "torch"
    int8_images: Annotated[int, Field(ge=1, le=100_000)] = 256
    min_agreement: Annotated[float, Field(ge=0, le=1)] | None = 0.9

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is at its default, but for the first two keys: hashes of older suites stay."""
        content: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {k: v for k, v in content.items() if k in ("batch", "images") or v != fields[k].default}


class Stream(Spec):
    """The test images arrive once, in batches; each batch is classified, and adapted to without labels.

    Attributes:
        batch: images that arrive at once.
        order: `iid`: at random; `classes`: sorted by class, as before a fixed camera.
        block: of the order `classes`: images of a class that follow each other before the next class; null: all.
        images: of each shift that are streamed; null: all test images.
        classes: that come, drawn by the seed, a prior shift; null: all.
        reset: whether the source model is taken up again where another shift begins, see `shift: continual`.
    """

    batch: BatchSize = 64
    order: Literal["iid", "classes"] = "iid"
    block: Images | None = None
    images: Images | None = None
    classes: Images | None = None
    reset: bool = False


Work = Infer | Stream | None
"""None: adapt."""

KINDS: Mapping[str, type[Infer | Stream]] = {"infer": Infer, "stream": Stream}


def label_of(work: Work) -> str:
    """As in a cell's id, options at their defaults left out: `stream(order=classes)`; `adapt` of adapting."""
    if work is None:
        return ADAPT
    name = type(work).__name__.lower()
    given = {key: value for key, value in work if value != type(work).model_fields[key].default}
    return f"{name}({','.join(f'{key}={as_written(value)}' for key, value in given.items())})".removesuffix("()")


def works_of(given: Any) -> tuple[Work, ...]:
    """The points of the work axis, one for each combination of the options that are lists.

    Args:
        given: what a suite's `work` holds: `adapt`, a kind's name, `{kind: {option: value}}`, a list of these, or what
            `content` made.

    Raises:
        PydanticCustomError: no such work or option, or a value that it cannot have.
    """
    if isinstance(given, tuple):  # made in code
        return given
    if isinstance(given, list):
        return _several(given)
    name: Any = given
    options: Any = {}
    if isinstance(given, dict) and len(given) == 1:
        ((name, options),) = given.items()
    names = (ADAPT, *KINDS)
    if not isinstance(name, str) or not isinstance(options, dict):
        raise wrong(f"expected {', '.join(names)}, or {{name: {{option: value, ...}}}}, got {show(given)}")
    if name not in names:
        raise wrong(f"{show(name)} is no work; {nearest(name, names)}")
    if name == ADAPT:
        if options:
            raise wrong(f"{ADAPT} has no options; got {show(options)}", name)
        return (None,)
    return _points(name, options)


def _several(given: list[Any]) -> tuple[Work, ...]:
    """The points of several kinds of work, one after the other."""
    check_different(given)
    found: dict[Work, None] = {}
    for number, one in enumerate(given):
        if isinstance(one, list):
            raise wrong(f"expected a kind of work, got {show(one)}", number)
        try:
            points = works_of(one)
        except PydanticCustomError as error:
            context = error.context or {}
            raise wrong(context.get("message", str(error)), number, *context.get("below", ())) from None
        if any(isinstance(point, Stream) for point in points):
            raise wrong("a stream has no training images, so it stands alone", number)
        found |= dict.fromkeys(points)
    return tuple(found)


def _points(name: str, options: dict[str, Any]) -> tuple[Work, ...]:
    kind = KINDS[name]
    axes = {key: value if isinstance(value, list) else [value] for key, value in options.items()}
    for key, values in axes.items():
        check_different(values, name, key)
    if math.prod(map(len, axes.values())) > MAX_POINTS:
        raise wrong(f"spans more than {MAX_POINTS} points", name)
    found: dict[Infer | Stream, None] = {}
    for point in itertools.product(*axes.values()):
        try:
            made = kind.model_validate(dict(zip(axes, point, strict=True)))
        except ValidationError as error:
            at, message = explained(error, kind)
            raise wrong(message, name, *at) from None
        if isinstance(made, Stream) and made.block is not None and made.order != "classes":
            if not isinstance(options.get("order"), list):
                raise wrong("is of `order: classes` alone; drop it, or give that order", name, "block")
            made = made.model_copy(update={"block": None})
        found[made] = None
    return tuple(found)


def content_of(works: tuple[Work, ...]) -> list[dict[str, Any]]:
    """The points as plain data for a manifest; `of_content` reads them."""
    return [{label_of(work): None if work is None else work.model_dump(mode="json")} for work in works]


def of_content(content: Any) -> tuple[Work, ...]:
    """The points that `content_of` wrote.

    Raises:
        ValueError, AttributeError, KeyError: it did not.
    """
    made: list[Work] = []
    for point in content:
        ((label, options),) = point.items()
        made.append(None if options is None else KINDS[label.partition("(")[0]].model_validate(options))
    return tuple(made)
