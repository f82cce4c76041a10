"""Spec: base and value types of all parts of a suite, and pydantic's errors in the terms of the suite's author."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from bench.errors import nearest, show

Loc = tuple[str | int, ...]
"""Keys and indices from the root of a file."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Spec(BaseModel):
    """Base of all parts of a suite: unknown keys and loose types are errors, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def wrong(message: str, *below: str | int) -> PydanticCustomError:
    """Make the error of a validator.

    Args:
        message: in the terms of the suite's author.
        below: keys and indices that lead from the validated value to what is wrong in it.
    """
    return PydanticCustomError("suite", "{message}", {"message": message, "below": below})


def axis(values: Any) -> Any:
    """Check that a list's values are at least one and all different; returns them as a tuple."""
    if isinstance(values, tuple):  # made in code
        return values
    if not isinstance(values, list):
        raise wrong(f"expected a list, got {show(values)}")
    check_different(values)
    return tuple(values)


Axis = BeforeValidator(axis)


def check_different(values: Sequence[object], *below: str | int) -> None:
    """Refuse an empty list and a value given twice. Types are told apart: 1, 1.0 and true differ."""
    if not values:
        raise wrong("empty; expected at least one value", *below)
    texts = [repr(value) for value in values]
    seen: set[str] = set()
    for number, text in enumerate(texts):
        if text in seen:
            raise wrong(f"{show(values[number])} is given twice", *below, number)
        seen.add(text)


def whole(low: int, high: int) -> BeforeValidator:
    """Accept whole numbers of a range, both ends included."""

    def check(value: Any) -> Any:
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise wrong(f"{show(value)} is out of range; expected a whole number from {low} to {high}")
        return value

    return BeforeValidator(check)


class PlacedPath(str):
    """A path of the user's, made absolute, that is written into a manifest as `portable`.

    Attributes:
        portable: relative to the suite's folder, so that it means the same where the folder is moved to; of a path
            that was given as an absolute one and leads elsewhere, the name alone.
    """

    portable: str

    @classmethod
    def of(cls, given: str, base: Path) -> PlacedPath:
        """Place a path that starts from `base` where it is relative; `~` is the user's home.

        Raises:
            RuntimeError: there is no such home.
        """
        wanted = Path(given).expanduser()
        path, start = Path(os.path.normpath(base / wanted)), Path(os.path.normpath(base))
        placed = cls(path)
        stays = path.is_relative_to(start) or not wanted.is_absolute()
        placed.portable = os.path.relpath(path, start) if stays else f"\N{HORIZONTAL ELLIPSIS}/{path.name}"
        return placed


def user_path(value: Any, info: ValidationInfo) -> Any:
    """Place a path as a suite gives it."""
    if value is None or isinstance(value, PlacedPath):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong(f"expected a path, got {show(value)}")
    try:
        return PlacedPath.of(value, (info.context or {}).get("base", Path()))
    except RuntimeError:
        raise wrong(f"{show(value)}: there is no such home folder") from None


Portable = PlainSerializer(lambda path: getattr(path, "portable", path), when_used="json")
UserPath = Annotated[str, PlainValidator(user_path), Portable]


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


def explained(error: ValidationError, root: type[BaseModel]) -> tuple[Loc, str]:
    """Give the location and the text of the first of pydantic's errors, an unknown key before all others.

    Args:
        root: the model that was validated.
    """
    details = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    first, context = details[0], details[0].get("ctx", {})
    # pydantic marks a key of a mapping with a part that the file does not have
    loc: Loc = tuple(part for part in first["loc"] if part != "[key]")
    if first["type"] == "suite":
        loc, message = (*loc, *context["below"]), context["message"]
    elif first["type"] == "extra_forbidden":
        message = f"unknown key; {nearest(str(loc[-1]), _fields_at(root, loc[:-1]))}"
    elif first["type"] == "missing":
        message = "is missing"
        if len(loc) == 1:  # it has no line of its own
            loc, message = (), f"{first['loc'][0]} is missing"
    elif first["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", str(context.get("expected")))
        message = f"{show(first['input'])} is not valid; {nearest(str(first['input']), valid)}"
    else:
        said = first["msg"].replace("Input should", "should")
        message = f"{_EXPECTED.get(first['type'], said)}, got {show(first.get('input'))}"
    return loc, message + (f" (and {len(details) - 1} more)" if len(details) > 1 else "")


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Names of the fields of the model that a location leads to."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a key of a mapping: its values' model was found on the way here
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)
