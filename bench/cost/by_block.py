"""By block: what each block of a model has and costs, for a list of what can be tuned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError

from bench.catalog.models import MODEL_NAMES, find_model
from bench.cost.follow import trace
from bench.errors import RequestError, nearest, show
from bench.models.blocks import block_parameters, check_blocks
from bench.models.build import build_model
from bench.suite.data_axis import image_shape
from bench.suite.load import load_suite
from bench.suite.model import ModelSpec

FULL, NO_BLOCK = "full", "(no block)"


@dataclass(frozen=True, slots=True)
class Shape:
    """A model for images of one form.

    Attributes:
        classes, channels: outputs, and channels of an image.
        size: side of an image, pixels.
        base: folder of a suite's own module.
    """

    spec: ModelSpec
    classes: int
    channels: int
    size: int
    base: Path


@dataclass(frozen=True, slots=True)
class BlockCost:
    """A block, or all of the model.

    Attributes:
        paths: modules, or patterns of parameter names.
        parameters: how many numbers it can change.
        forward_macs: of one image, in the operations that use its parameters.
        step_macs: of one training step on one image that tunes it alone.
    """

    name: str
    paths: tuple[str, ...]
    parameters: int
    forward_macs: int
    step_macs: int


def of_catalog(name: str, *, classes: int, channels: int, image_size: int | None, width: int) -> Shape:
    """A model of the catalogue.

    Raises:
        RequestError: there is none of this name.
    """
    entry = find_model(name)
    if entry is None:
        raise RequestError(f"{show(name)} is not a model; {nearest(name, MODEL_NAMES)}")
    if entry.blocks is None:
        raise RequestError(f"{name} is a model of one's own, whose blocks a suite names; give the suite's file")
    size = image_size or (32 if entry.kind == "paper" else 224)
    try:
        spec = ModelSpec(name=name, width=width) if entry.kind == "paper" else ModelSpec(name=name)
    except ValidationError as error:
        raise RequestError(f"--width {width}: {error.errors()[0]['msg']}") from None
    return Shape(spec, classes, channels, size, Path.cwd())


def of_suite(path: str) -> Shape:
    """The model of a suite, for its first images.

    Raises:
        RequestError: as `load_suite`.
    """
    loaded = load_suite(path)
    classes, channels, size = image_shape(loaded.suite.data[0])
    return Shape(loaded.suite.model, classes, channels, size, loaded.base)


def by_block(shape: Shape) -> list[BlockCost]:
    """Each block of a model, what belongs to none, and the whole.

    Raises:
        RequestError: the model cannot be built, or lacks a module that a block names.
    """
    block_map = shape.spec.block_map
    with torch.random.fork_rng(devices=[]):
        model = build_model(
            shape.spec,
            n_classes=shape.classes, in_channels=shape.channels, image_size=shape.size, base=shape.base,
        )  # fmt: skip
    check_blocks(model, block_map)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    members = {block: {names[id(one)] for one in block_parameters(model, block_map, block)} for block in block_map}
    rest = {*sizes} - set().union(*members.values())
    paths = {block: tuple(block_map[block]) for block in block_map}
    if rest:
        members[NO_BLOCK] = rest
    members[FULL] = {*sizes}
    try:
        traced = trace(model, (1, shape.channels, shape.size, shape.size))
    except Exception as error:
        raise RequestError(
            f"{shape.spec.name} does not take images of {shape.channels} x {shape.size} x {shape.size}: {error}"
        ) from None
    places = {name: 1 << place for place, name in enumerate(traced.parameters)}
    costs = []
    for block, own in members.items():
        bits = sum(places[name] for name in own)
        uses = [
            operation.macs
            for operation in traced.operations
            if block == FULL or any(operand.parameter and operand.reach & bits for operand in operation.operands)
        ]
        found = tuple(sorted({name.rpartition(".")[0] for name in own})) if block == NO_BLOCK else paths.get(block, ())
        step = 0 if block == NO_BLOCK else traced.step(own).macs
        costs.append(BlockCost(block, found, sum(sizes[name] for name in own), sum(uses), step))
    return costs
