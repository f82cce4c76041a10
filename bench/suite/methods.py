"""Make arms from the entries of `blocks` and `methods` of a suite, and check each of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from bench.catalog.methods import Loaded, load_method, method_names
from bench.catalog.models import FULL, BlockSet
from bench.errors import RequestError, nearest, show
from bench.suite.arm import FIXED, Arm
from bench.suite.data_axis import DataSpec
from bench.suite.spec import Loc, check_different, explained, wrong

TBFT = "tbft"
"""Among a suite's blocks: the target block of the cell's level."""

MAX_ARMS = 1000
EXPECTED = "expected a method's name, {name: {option: value, ...}}, or a block set"


def is_block_set(entry: object, names: Collection[str]) -> bool:
    """Whether an entry of `methods` is what an entry of `blocks` is: a block's name, `full`, or a list of names."""
    return isinstance(entry, list) or (isinstance(entry, str) and entry in names)


def block_sets(
    entries: tuple[Any, ...], block_map: Mapping[str, Sequence[str]], data: tuple[DataSpec, ...]
) -> Iterator[BlockSet]:
    """The block sets that a suite lists, each in the model's order.

    Raises:
        PydanticCustomError: an entry names no block, is given twice, or is `tbft` where there is no target block.
    """
    valid = {name: place for place, name in enumerate([*block_map, FULL, TBFT])}
    seen: set[BlockSet] = set()
    for number, entry in enumerate(entries):
        names = entry if isinstance(entry, list) else [entry]
        if not names or not all(isinstance(name, str) for name in names):
            raise wrong(f"expected a block's name or a list of them, got {show(entry)}", number)
        for name in names:
            if name not in valid:
                raise wrong(f"{show(name)} is not a block of the model; {nearest(name, valid)}", number)
            if len(names) > 1 and name in (FULL, TBFT):
                raise wrong(f"{name!r} stands alone; it cannot be part of a set", number)
        blocks = tuple(sorted(names, key=valid.__getitem__))
        if len(set(blocks)) < len(blocks) or blocks in seen:
            raise wrong(f"{show(entry)} is given twice", number)
        for spec in data if blocks == (TBFT,) else ():
            if spec.target_block is None:
                lacks = "level (input, feature or output)" if spec.target is not None else "shift"
                raise wrong(f"{spec.label} has no {lacks}, and so no target block", number)
            absent = next((block for block in spec.target_blocks if block not in block_map), None)
            if absent is not None:
                lacks = f"{absent!r}, is not in the model; it has {', '.join(block_map)}"
                raise wrong(f"the target block of a shift at {spec.level} level, {lacks}", number)
        seen.add(blocks)
        yield blocks


def arms_of(entry: Any, place: int, names: Collection[str]) -> Iterator[Arm]:
    """The arms of an entry that is no block set: one for each combination of the values of its options.

    Args:
        place: of the entry in its list.
        names: of block sets, to be suggested.

    Raises:
        PydanticCustomError: no such method or option, or a value that the option cannot have.
    """
    name: Any = entry
    given: Any = {}
    below: Loc = (place,)
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, given),) = entry.items()
        below = (place, name)
    if not isinstance(name, str) or not isinstance(given, dict):
        raise wrong(f"{EXPECTED}, got {show(entry)}", *below)
    if name == FIXED:
        raise wrong(f"{FIXED!r} is written as the blocks that it tunes: full, or [block2, block3]", *below)
    if name not in method_names():
        raise wrong(f"{show(name)} is neither a method nor a block; {nearest(name, [*names, *method_names()])}", *below)
    try:
        loaded = load_method(name)
    except RequestError as error:
        raise wrong(str(error), *below) from None
    kind = loaded.method.options
    axes = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
    for key, values in axes.items():
        check_different(values, *below, key)
        for number, value in enumerate(values):
            try:
                kind.model_validate({key: value})
            except ValidationError as error:
                at, message = explained(error, kind)
                listed = (number,) if isinstance(given[key], list) else ()
                raise wrong(message, *below, *(at or (key,)), *listed) from None
    if math.prod(map(len, axes.values())) > MAX_ARMS:
        raise wrong(f"spans more than {MAX_ARMS} arms", *below)
    for point in itertools.product(*axes.values()):
        try:
            yield _arm(loaded, dict(zip(axes, point, strict=True)))
        except ValidationError as error:
            at, message = explained(error, kind)
            raise wrong(message, *below, *at) from None


def _arm(loaded: Loaded, given: dict[str, Any]) -> Arm:
    """The arm with those options that are not at their default, in the order of their declaration.

    So an option that is written out at its default makes no other arm.
    """
    options = loaded.options(given)
    chosen = {key: getattr(options, key) for key in type(options).model_fields}
    fields = type(options).model_fields
    return Arm(loaded.method.name, tuple((key, value) for key, value in chosen.items() if value != fields[key].default))


def not_in_a_stream(arm: Arm) -> str | None:
    """Why an arm cannot adapt to a stream; None where it can, or where its method is not on this machine."""
    try:
        loaded = load_method(arm.method)
    except RequestError:  # as in `trains`
        return None
    if loaded.method.labels == "needed":
        return "needs labels, and a stream has none"
    return None if loaded.online is not None else "has no form for streams"


def trains(arm: Arm) -> bool:
    """Whether an arm fine-tunes by the suite's `train`; False too where its method is not on this machine."""
    try:
        return load_method(arm.method).method.labels == "needed"
    except RequestError:  # the suite comes from the manifest of a run that was made elsewhere
        return False


def leaves_part(arm: Arm) -> bool:
    """Whether an arm leaves a model whose part can answer alone; False where its method is not on this machine."""
    try:
        return load_method(arm.method).method.part
    except RequestError:  # as in `trains`
        return False
