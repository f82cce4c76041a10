"""From a suite's YAML to a Suite: every name looked up, every error with its line and the nearest valid name."""

from __future__ import annotations

import importlib.resources
import math
import os
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.data_axis import expand_data, n_target
from bench.errors import RequestError, nearest
from bench.models.catalog import FULL, TARGET_BLOCKS, find_model, model_names
from bench.models.released import CHECKPOINTS
from bench.suite import EXCLUDE_KEYS, TBFT, BlockSet, DataSpec, ModelSpec, Suite, excludes
from bench.yaml_file import Loc, YamlFile, read_yaml

ROOT_KEYS = ("name", "title", "version", "model", "data", "train_size", "blocks", "seeds", "train", "energy",
             "split", "timeout_s", "exclude")  # fmt: skip
REQUIRED = ("name", "model", "data", "train_size", "blocks", "seeds")
MAX_CELLS = 200_000


@dataclass(frozen=True, slots=True)
class LoadedSuite:
    """A suite and the text it came from, which the manifest keeps verbatim."""

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
        return LoadedSuite(_build(file, shipped[wanted].parent), file.text, wanted, shipped[wanted].parent)
    looks_like_path = wanted.endswith((".yaml", ".yml")) or os.sep in wanted or Path(wanted).is_file()
    if not looks_like_path:
        raise RequestError(f"no suite is called {wanted!r} and no such file exists; {nearest(wanted, shipped)}")
    path = Path(wanted)
    if not path.exists():
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
    content["model"], content["block_map"], content["data"] = model, block_map, data
    content["seeds"] = tuple(_axis(file, "seeds"))
    content["train_size"] = tuple(_train_sizes(file))
    content["blocks"] = tuple(_blocks(file, block_map, data))
    content["exclude"] = tuple(_exclude(file))
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise _pydantic_error(file, error, Suite) from None
    _check_whole(file, suite)
    return suite


def _axis(file: YamlFile, key: str) -> list[Any]:
    values = file.content[key]
    if not isinstance(values, list):
        raise file.error((key,), f"expected a list, got {values!r}")
    if not values:
        raise file.error((key,), "empty; expected at least one value")
    seen: set[Hashable] = set()
    for number, value in enumerate(values):
        if isinstance(value, (dict, list)):
            continue  # the axis' own check says what is wrong with it
        if value in seen:
            raise file.error((key, number), f"{value!r} is given twice")
        seen.add(value)
    return values


def _train_sizes(file: YamlFile) -> Iterable[float]:
    expected = "a fraction between 0 and 1 or a whole count from 2"
    for number, size in enumerate(_axis(file, "train_size")):
        is_number = isinstance(size, (int, float)) and not isinstance(size, bool)
        if not is_number or not math.isfinite(size):
            raise file.error(("train_size", number), f"expected {expected}, got {size!r}")
        if size < 2 if isinstance(size, int) else not 0 < size < 1:
            raise file.error(("train_size", number), f"{size!r} is out of range; expected {expected}")
        yield size


def _model(file: YamlFile, base: Path) -> tuple[ModelSpec, dict[str, tuple[str, ...]]]:
    raw = file.content["model"]
    if not isinstance(raw, dict):
        raise file.error(("model",), f"expected a mapping such as {{name: resnet26}}, got {raw!r}")
    try:
        spec = ModelSpec.model_validate(raw)
    except ValidationError as error:
        raise _pydantic_error(file, error, ModelSpec, ("model",)) from None
    entry = find_model(spec.name)
    if entry is None:
        raise file.error(("model", "name"), f"{spec.name!r} is not a model; {nearest(spec.name, model_names())}")
    if "width" in raw and entry.kind != "paper":
        raise file.error(("model", "width"), f"only the paper's resnets have a width, {spec.name} has not")
    if spec.checkpoint is not None and spec.checkpoint not in CHECKPOINTS:
        if not spec.checkpoint.endswith((".pth", ".pt")) or "\0" in spec.checkpoint:
            hint = nearest(spec.checkpoint, CHECKPOINTS)
            raise file.error(
                ("model", "checkpoint"), f"{spec.checkpoint!r} is neither a .pth file nor a known name; {hint}"
            )
        spec = spec.model_copy(update={"checkpoint": str(base / Path(spec.checkpoint).expanduser())})
    if spec.blocks is None:
        if entry.blocks is None:
            raise file.error(("model",), f"blocks is missing: a model of one's own ({spec.name}) must name its blocks")
        return spec, dict(entry.blocks)
    for name, modules in spec.blocks.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name in (FULL, TBFT):
            raise file.error(("model", "blocks", name), f"{name!r} cannot be a block's name")
        if not modules or any(not module for module in modules) or len(set(modules)) < len(modules):
            raise file.error(("model", "blocks", name), "expected a list of module paths, none of them twice")
    return spec, {name: tuple(modules) for name, modules in spec.blocks.items()}


def _blocks(file: YamlFile, block_map: dict[str, tuple[str, ...]], data: tuple[DataSpec, ...]) -> Iterable[BlockSet]:
    order = list(block_map)
    valid = [*order, FULL, TBFT]
    seen: set[BlockSet] = set()
    for number, entry in enumerate(_axis(file, "blocks")):
        loc: Loc = ("blocks", number)
        names = entry if isinstance(entry, list) else [entry]
        if not names or not all(isinstance(name, str) for name in names):
            raise file.error(loc, f"expected a block's name or a list of them, got {entry!r}")
        for name in names:
            if name not in valid:
                raise file.error(loc, f"{name!r} is not a block of the model; {nearest(name, valid)}")
            if len(names) > 1 and name in (FULL, TBFT):
                raise file.error(loc, f"{name!r} stands alone; it cannot be part of a set")
        blocks = tuple(sorted(names, key=valid.index))
        if len(set(blocks)) < len(blocks) or blocks in seen:
            raise file.error(loc, f"{entry!r} is given twice")
        if blocks == (TBFT,):
            for spec in data:
                if TARGET_BLOCKS[spec.level] not in block_map:
                    raise file.error(
                        loc,
                        f"the target block of a shift at {spec.level} level, {TARGET_BLOCKS[spec.level]!r}, "
                        f"is not in the model; it has {', '.join(order)}",
                    )
        seen.add(blocks)
        yield blocks


def _exclude(file: YamlFile) -> Iterable[dict[str, Any]]:
    rules = file.content.get("exclude", [])
    if not isinstance(rules, list):
        raise file.error(("exclude",), f"expected a list of mappings, got {rules!r}")
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict) or not rule:
            raise file.error(("exclude", number), f"expected a mapping such as {{blocks: full}}, got {rule!r}")
        for key in rule:
            if key not in EXCLUDE_KEYS:
                raise file.error(("exclude", number, key), f"unknown key; {nearest(str(key), EXCLUDE_KEYS)}")
        yield dict(rule)


def _check_whole(file: YamlFile, suite: Suite) -> None:
    """What only the whole suite can tell: sizes against the data, rules against the matrix."""
    points = len(suite.data) * len(suite.train_size) * len(suite.blocks) * len(suite.seeds)
    if points > MAX_CELLS:
        raise file.error((), f"spans {points} cells; at most {MAX_CELLS} fit in one suite")
    labels = {"+".join(blocks) for blocks in suite.blocks} | set(suite.block_map) | {FULL}
    for key in suite.train.per_block:
        if key not in labels:
            raise file.error(
                ("train", "per_block", key),
                f"no block set of the suite is called {key!r}; {nearest(key, labels)}",
            )
    for data in suite.data:
        known = n_target(data)
        for number, size in enumerate(suite.train_size):
            if isinstance(size, float) and size > suite.split.pool + 1e-9:
                raise file.error(
                    ("train_size", number),
                    f"{size:g} of the target data is more than the pool to train from ({suite.split.pool:g})",
                )
            if known is not None and isinstance(size, int) and size > int(suite.split.pool * known):
                raise file.error(
                    ("train_size", number),
                    f"{size} images are more than {data.label} has to train from "
                    f"({int(suite.split.pool * known)}: {suite.split.pool:g} of {known})",
                )
    if suite.exclude:
        matrix = list(suite.matrix())
        for number, rule in enumerate(suite.exclude):
            if not any(excludes(rule, cell) for cell in matrix):
                raise file.error(("exclude", number), f"{rule!r} matches no cell of the suite")
        if all(any(excludes(rule, cell) for rule in suite.exclude) for cell in matrix):
            raise file.error(("exclude",), "every cell is excluded; nothing is left to run")


def _pydantic_error(file: YamlFile, error: ValidationError, root: type[BaseModel], prefix: Loc = ()) -> RequestError:
    """The first of pydantic's errors as one line in the user's terms."""
    details = error.errors(include_url=False)
    first = details[0]
    loc: Loc = tuple(part for part in first["loc"] if isinstance(part, (str, int)))
    # pydantic marks a branch of a union or a dict key with parts that the file does not have
    loc = tuple(part for part in loc if not (isinstance(part, str) and part == "[key]"))
    if first["type"] == "extra_forbidden":
        message = f"unknown key; {nearest(str(loc[-1]), _fields_at(root, loc[:-1]))}"
    elif first["type"] == "missing":
        message = "is missing"
    else:
        got = first.get("input")
        shown = repr(got) if not isinstance(got, (dict, list)) or len(repr(got)) < 60 else type(got).__name__
        message = f"{_lower(first['msg'])}, got {shown}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return file.error((*prefix, *loc), message + more)


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
