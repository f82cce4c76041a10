"""From a suite's YAML to a Suite: every name looked up, every error with its line and the nearest valid name."""

from __future__ import annotations

import importlib.resources
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.catalog.checkpoints import CHECKPOINTS
from bench.catalog.models import FULL, BlockSet, find_model, model_names
from bench.catalog.spec import MAX_COUNT
from bench.errors import RequestError, nearest, show
from bench.suite.check import check_train, check_whole, expand_train, pydantic_error
from bench.suite.data_axis import expand_data, first_twice
from bench.suite.suite import EXCLUDE_KEYS, TBFT, DataSpec, ModelSpec, Suite
from bench.suite.yaml_file import Loc, YamlFile, read_yaml, user_path

ROOT_KEYS = ("name", "title", "version", "model", "data", "train_size", "blocks", "seeds", "train", "energy",
             "split", "timeout_s", "exclude")  # fmt: skip
REQUIRED = ("name", "model", "data", "train_size", "blocks", "seeds")


@dataclass(frozen=True, slots=True)
class LoadedSuite:
    """A suite and the text it came from, which the manifest keeps verbatim.

    Attributes:
        base: folder that relative paths and a user's own modules start from: the file's, or for a shipped suite the
            current one.
    """

    suite: Suite
    text: str
    origin: str
    base: Path


def shipped_suites() -> dict[str, Path]:
    """Name -> file of every suite that comes with jouletune."""
    folder = Path(str(importlib.resources.files("suites")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_suite(wanted: str) -> LoadedSuite:
    """A shipped suite by name, or a user's by path.

    Raises:
        RequestError: no such suite, or anything in it that could not run; one line with file, line and key.
    """
    shipped = shipped_suites()
    if wanted in shipped:
        file = read_yaml(shipped[wanted], f"{wanted}.yaml")
        here = Path.cwd()  # a shipped suite's folder is ours: what it calls photos/ is the user's
        return LoadedSuite(_build(file, here), file.text, wanted, here)
    path = Path(wanted)
    there = wanted != "" and os.path.lexists(path)  # Path's own raises where a name is too long for the disk
    if not there and not wanted.endswith((".yaml", ".yml")) and os.sep not in wanted:
        raise RequestError(f"no suite is called {show(wanted)} and no such file exists; {nearest(wanted, shipped)}")
    if not there:
        raise RequestError(f"{wanted}: no such file; give a path or a shipped suite ({', '.join(shipped)})")
    file = read_yaml(path, wanted)
    return LoadedSuite(_build(file, path.resolve().parent), file.text, wanted, path.resolve().parent)


def _build(file: YamlFile, base: Path) -> Suite:
    content = file.content
    for key in content:
        if key not in ROOT_KEYS:
            raise file.error((key,), f"unknown key; {nearest(str(key), ROOT_KEYS)}")
    for key in REQUIRED:
        if key not in content:
            raise file.error((), f"{key} is missing")
    content = dict(content)
    model, block_map = _model(file, base)
    data = expand_data(file, base)
    for number, spec in enumerate(data):
        if spec.noised_block is not None and spec.noised_block not in block_map:
            hint = nearest(spec.noised_block, block_map)
            raise file.error(
                ("data",),
                f"point {number + 1} noises {show(spec.noised_block)}, which is not a block of the model; {hint}",
            )
    content["model"], content["block_map"], content["data"] = model, block_map, data
    content["train"], content["axes"] = expand_train(file)
    content["seeds"] = tuple(_axis(file, "seeds"))
    content["train_size"] = tuple(_train_sizes(file))
    content["blocks"] = tuple(_blocks(file, block_map, data))
    content["exclude"] = tuple(_exclude(file))
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise pydantic_error(file, error, Suite) from None
    check_whole(file, suite)
    check_train(file, suite)
    return suite


def _axis(file: YamlFile, key: str) -> list[Any]:
    values = file.content[key]
    if not isinstance(values, list):
        raise file.error((key,), f"expected a list, got {show(values)}")
    if not values:
        raise file.error((key,), "empty; expected at least one value")
    twice = first_twice(values)
    if twice is not None:
        raise file.error((key, twice), f"{show(values[twice])} is given twice")
    return values


def _train_sizes(file: YamlFile) -> Iterable[float]:
    expected = f"a fraction between 0 and 1 or a whole count from 2 to {MAX_COUNT:,}"
    for number, size in enumerate(_axis(file, "train_size")):
        is_number = isinstance(size, (int, float)) and not isinstance(size, bool)
        if not is_number or not math.isfinite(size):
            raise file.error(("train_size", number), f"expected {expected}, got {show(size)}")
        if not 2 <= size <= MAX_COUNT if isinstance(size, int) else not 0 < size < 1:
            raise file.error(("train_size", number), f"{show(size)} is out of range; expected {expected}")
        yield size


def _model(file: YamlFile, base: Path) -> tuple[ModelSpec, dict[str, tuple[str, ...]]]:
    raw = file.content["model"]
    if not isinstance(raw, dict):
        raise file.error(("model",), f"expected a mapping such as {{name: resnet26}}, got {show(raw)}")
    try:
        spec = ModelSpec.model_validate(raw)
    except ValidationError as error:
        raise pydantic_error(file, error, ModelSpec, ("model",)) from None
    entry = find_model(spec.name)
    if entry is None:
        raise file.error(("model", "name"), f"{show(spec.name)} is not a model; {nearest(spec.name, model_names())}")
    if "width" in raw and entry.kind != "paper":
        raise file.error(("model", "width"), f"only the paper's resnets have a width, {spec.name} has not")
    spec = _with_checkpoint(file, spec, base)
    if spec.blocks is None:
        if entry.blocks is None:
            raise file.error(("model",), f"blocks is missing: a model of one's own ({spec.name}) must name its blocks")
        return spec, dict(entry.blocks)
    if not spec.blocks:
        raise file.error(("model", "blocks"), "empty; expected at least one block, {name: [module, ...]}")
    for name, modules in spec.blocks.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name in (FULL, TBFT):
            raise file.error(("model", "blocks", name), f"{show(name)} cannot be a block's name")
        if not modules or any(not module for module in modules) or len(set(modules)) < len(modules):
            raise file.error(("model", "blocks", name), "expected a list of module paths, none of them twice")
    return spec, {name: tuple(modules) for name, modules in spec.blocks.items()}


def _with_checkpoint(file: YamlFile, spec: ModelSpec, base: Path) -> ModelSpec:
    """The model with its checkpoint looked up: a released one says what pixels it takes, a file's path is resolved."""
    if spec.checkpoint is None:
        return spec
    released = CHECKPOINTS.get(spec.checkpoint)
    if released is not None:
        if "pixels" in spec.model_fields_set and spec.pixels != released.pixels:
            raise file.error(("model", "pixels"), f"{spec.checkpoint} was trained on {released.pixels!r} ones")
        return spec.model_copy(update={"pixels": released.pixels})
    where = ("model", "checkpoint")
    if not spec.checkpoint.endswith((".pth", ".pt", ".safetensors")) or "\0" in spec.checkpoint:
        hint = nearest(spec.checkpoint, CHECKPOINTS)
        raise file.error(
            where, f"{show(spec.checkpoint)} is neither a .pth or .safetensors file nor a known name; {hint}"
        )
    return spec.model_copy(update={"checkpoint": str(user_path(file, where, spec.checkpoint, base))})


def _blocks(file: YamlFile, block_map: dict[str, tuple[str, ...]], data: tuple[DataSpec, ...]) -> Iterable[BlockSet]:
    order = list(block_map)
    valid = [*order, FULL, TBFT]
    seen: set[BlockSet] = set()
    for number, entry in enumerate(_axis(file, "blocks")):
        loc: Loc = ("blocks", number)
        names = entry if isinstance(entry, list) else [entry]
        if not names or not all(isinstance(name, str) for name in names):
            raise file.error(loc, f"expected a block's name or a list of them, got {show(entry)}")
        for name in names:
            if name not in valid:
                raise file.error(loc, f"{show(name)} is not a block of the model; {nearest(name, valid)}")
            if len(names) > 1 and name in (FULL, TBFT):
                raise file.error(loc, f"{name!r} stands alone; it cannot be part of a set")
        blocks = tuple(sorted(names, key=valid.index))
        if len(set(blocks)) < len(blocks) or blocks in seen:
            raise file.error(loc, f"{show(entry)} is given twice")
        if blocks == (TBFT,):
            for spec in data:
                if spec.target_block is None:
                    raise file.error(loc, f"{spec.label} has no shift, and so no target block")
                if spec.target_block not in block_map:
                    raise file.error(
                        loc,
                        f"the target block of a shift at {spec.level} level, {spec.target_block!r}, "
                        f"is not in the model; it has {', '.join(order)}",
                    )
        seen.add(blocks)
        yield blocks


def _exclude(file: YamlFile) -> Iterable[dict[str, Any]]:
    rules = file.content.get("exclude", [])
    if not isinstance(rules, list):
        raise file.error(("exclude",), f"expected a list of mappings, got {show(rules)}")
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict) or not rule:
            raise file.error(("exclude", number), f"expected a mapping such as {{blocks: full}}, got {show(rule)}")
        for key in rule:
            if key not in EXCLUDE_KEYS:
                raise file.error(("exclude", number, key), f"unknown key; {nearest(str(key), EXCLUDE_KEYS)}")
        yield dict(rule)
