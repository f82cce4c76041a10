"""What only a whole suite can tell, and pydantic's errors in its user's terms."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.catalog.models import FULL
from bench.catalog.paper import PUBLISHED
from bench.errors import RequestError, nearest, show
from bench.suite.data_axis import first_twice, n_target
from bench.suite.levers import refusal
from bench.suite.suite import TBFT, DataSpec, Suite, cell_values, excludes
from bench.suite.training import AXES, TuneSpec
from bench.suite.yaml_file import Loc, YamlFile

MAX_CELLS = 200_000


def check_whole(file: YamlFile, suite: Suite) -> None:
    """Check the parts of a suite against each other: sizes against the data, rules against the matrix.

    Raises:
        RequestError: with line, key, what was given, what was expected.
    """
    if suite.name == PUBLISHED:
        raise file.error(("name",), f"{PUBLISHED!r} stands for the published tables; choose another name")
    points = len(suite.data) * len(suite.train_size) * len(suite.blocks) * len(suite.seeds)
    points *= math.prod(map(len, suite.axes.values()))
    if points > MAX_CELLS:
        raise file.error((), f"spans {points} cells; at most {MAX_CELLS} fit in one suite")
    # `tbft` is no label: which block it stands for depends on the cell
    sets = ("+".join(blocks) for blocks in suite.blocks if blocks != (TBFT,))
    labels = dict.fromkeys([*sets, *suite.block_map, FULL])
    for key in suite.train.per_block:
        if key not in labels:
            raise file.error(
                ("train", "per_block", key),
                f"no block set of the suite is called {show(key)}; {nearest(key, labels)}",
            )
    for data in suite.data:
        _check_sizes(file, suite, data)
    _check_exclude(file, suite)


def _check_sizes(file: YamlFile, suite: Suite, data: DataSpec) -> None:
    known = n_target(data)  # a folder's images are counted when they are read
    pool_share = suite.split.pool
    for number, size in enumerate(suite.train_size):
        loc = ("train_size", number)
        if isinstance(size, float) and size > pool_share + 1e-9:
            raise file.error(loc, f"{size:g} of the target data is more than the pool to train from ({pool_share:g})")
        if known is None:
            continue
        pool = round(pool_share * known)
        if isinstance(size, int) and size > pool:
            raise file.error(
                loc,
                f"{size} images are more than {data.label} has to train from ({pool}: {pool_share:g} of {known})",
            )
        if isinstance(size, float) and round(size * known) < 2:
            raise file.error(
                loc, f"{size:g} of the {known} images of {data.label} is less than 2, the fewest to train on"
            )
    for part in ("val", "test"):
        if known is not None and round(getattr(suite.split, part) * known) < 1:
            raise file.error(("split", part), f"leaves no image of the {known} of {data.label}")


def _check_exclude(file: YamlFile, suite: Suite) -> None:
    for number, rule in enumerate(suite.exclude):
        for key in rule:
            if key in AXES and key not in suite.axes:
                raise file.error(
                    ("exclude", number, key), f"train.{key} is no axis of this suite; give it a list there"
                )
    matrix = list(suite.matrix()) if suite.exclude else []
    for number, rule in enumerate(suite.exclude):
        if any(excludes(rule, cell) for cell in matrix):
            continue
        for key, wanted in rule.items():
            if not any(excludes({key: wanted}, cell) for cell in matrix):
                values = dict.fromkeys(str(cell_values(cell)[key]) for cell in matrix)
                hint = (
                    "drop the quotes" if isinstance(wanted, str) and wanted in values else nearest(str(wanted), values)
                )
                raise file.error(("exclude", number, key), f"no cell of the suite has {show(wanted)} here; {hint}")
        raise file.error(("exclude", number), f"{show(rule)} matches no cell of the suite")
    if matrix and not suite.cells():
        raise file.error(("exclude",), "every cell is excluded; nothing is left to run")


_EXPECTED = {
    "string_pattern_mismatch": "expected a-z, 0-9, '.', '_', '-', at most 64, the first a letter or digit",
    "model_type": "expected a mapping of settings",
    "dict_type": "expected a mapping",
    "list_type": "expected a list",
    "none_required": "can only be null here",
    "float_type": "expected a number",
    "int_type": "expected a whole number",
    "string_type": "expected text",
}
"""Pydantic's types of error whose own words speak of Python."""


def pydantic_error(
    file: YamlFile, error: ValidationError, root: type[BaseModel], prefix: Loc = (), suffix: Loc = ()
) -> RequestError:
    """The first of pydantic's errors as one line in the user's terms.

    Args:
        root: the model that was validated.
        prefix: where in the file it stands.
        suffix: and where below the key, for one value of a list.
    """
    details = error.errors(include_url=False)
    first = details[0]
    loc: Loc = tuple(part for part in first["loc"] if isinstance(part, (str, int)))
    # pydantic marks a branch of a union or a dict key with parts that the file does not have
    loc = tuple(part for part in loc if not (isinstance(part, str) and part == "[key]"))
    if first["type"] == "extra_forbidden":
        message = f"unknown key; {nearest(str(loc[-1]), _fields_at(root, loc[:-1]))}"
    elif first["type"] == "missing":
        message = "is missing"
    elif first["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected")))
        message = f"{show(first['input'])} is not valid; {nearest(str(first['input']), valid)}"
    else:
        message = f"{_EXPECTED.get(first['type']) or _lower(first['msg'])}, got {show(first.get('input'))}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return file.error((*prefix, *loc, *suffix), message + more)


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Names of the fields of the model that a location leads to."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a key of a mapping: its values' model was found on the way here
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)


def _lower(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "should")


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
