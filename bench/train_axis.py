"""The axes of `train` in a suite: keys that hold a list there, and ways of training that cannot be."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from bench.data_axis import first_twice
from bench.engine.levers import refusal
from bench.errors import show
from bench.suite import Suite
from bench.suite_check import pydantic_error
from bench.train_spec import AXES, TuneSpec
from bench.yaml_file import YamlFile


def expand_train(file: YamlFile) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """`train` with the first value of each axis, and the axes.

    Raises:
        RequestError: an empty list, a value given twice, or one that the key cannot have.
    """
    raw = file.content.get("train", {})
    if not isinstance(raw, dict):
        return raw, {}  # pydantic says what is wrong with it
    axes = {key: raw[key] for key in AXES if isinstance(raw.get(key), list)}
    for key, values in axes.items():
        if not values:
            raise file.error(("train", key), "empty; expected at least one value")
        twice = first_twice(values)
        if twice is not None:
            raise file.error(("train", key, twice), f"{show(values[twice])} is given twice")
        for number, value in enumerate(values):
            try:
                TuneSpec.model_validate({key: value})
            except ValidationError as error:
                raise pydantic_error(file, error, TuneSpec, ("train",), (number,)) from None
    first = {key: axes[key][0] if key in axes else value for key, value in raw.items()}
    return first, {key: tuple(values) for key, values in axes.items()}


def check_train(file: YamlFile, suite: Suite) -> None:
    """Make sure that each way of training that the suite asks for can be had.

    Raises:
        RequestError: with the key, and why not.
    """
    seen = set()
    last = (next(reversed(suite.block_map)),)
    for cell in suite.cells():
        key = (cell.blocks, cell.variant)
        if key in seen:
            continue
        seen.add(key)
        refused = refusal(suite.tuning(cell), last_layer=cell.blocks == last)
        if refused is not None:
            name, why = refused
            raise file.error(("train", name), f"{why} (cell {cell.cell_id})" if cell.variant else why)
