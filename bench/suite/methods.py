"""Make arms from the names and options under `methods` of a suite, and check each option."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import ValidationError

from bench.catalog.methods import Loaded, load_method, method_names
from bench.errors import RequestError, nearest, show
from bench.suite.arm import FIXED, Arm
from bench.suite.spec import Loc, check_different, explained, wrong

MAX_ARMS = 1000
EXPECTED = "expected a method's name, {name: {option: value, ...}}, or a block set"


def is_block_set(entry: object, names: Collection[str]) -> bool:
    """Whether an entry of `methods` is what an entry of `blocks` is: a block's name, `full`, or a list of names."""
    return isinstance(entry, list) or (isinstance(entry, str) and entry in names)


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
