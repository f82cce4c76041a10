"""Tables of superclasses in the manner of BREEDS (Santurkar et al. 2021): read, checked, shipped. No numpy."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError, ValidationInfo

from bench.catalog.datasets import Superclasses
from bench.errors import RequestError, nearest, show
from bench.suite.spec import Loc, Spec, explained, user_path, wrong
from bench.suite.yaml_file import YamlFile, read_text, read_yaml

SHIPPED = MappingProxyType({"living17": "living17.csv"})
"""Tables that come with jouletune, by name, as files beside this module. living17: 17 kinds of living things, two
source and two target ImageNet classes each, as BREEDS' generator gives them for `split="rand"`."""

SIDES = ("source", "target")


def read_table(path: Path, origin: str) -> Superclasses:
    """A table from a file.

    Args:
        path: `.csv` with the columns superclass, side (source or target) and wnid, any others being for the reader;
            otherwise YAML or JSON, {superclass: {source: [class, ...], target: [class, ...]}}, a `wnid` of the
            superclass being allowed.
        origin: how to name the file to its user.

    Raises:
        RequestError: not there, not such a table, or a class in it twice.
    """
    file = _read_csv(path, origin) if path.suffix.lower() == ".csv" else read_yaml(path, origin)
    try:
        return _TABLE.validate_python(file.content)
    except ValidationError as error:
        raise file.error(*explained(error, Spec)) from None


def shipped_table(name: str) -> Superclasses:
    """The table of a name in SHIPPED."""
    return read_table(Path(__file__).parent / SHIPPED[name], name)


def _named(given: Any, info: ValidationInfo) -> Any:
    """Read the table that a text names: one that comes with jouletune, or a file of the user's."""
    if not isinstance(given, str):
        return given
    if given in SHIPPED:
        return shipped_table(given)
    if not given.endswith((".csv", ".json", ".yaml", ".yml")):
        raise wrong(
            f"{show(given)} is neither a .csv, .json or .yaml file nor a known table; {nearest(given, SHIPPED)}"
        )
    return read_table(Path(user_path(given, info)), given)


def _checked(given: Any) -> Any:
    """Superclass -> (source members, target members), from {name: {source: [...], target: [...]}} of anybody."""
    if isinstance(given, Mapping) and all(isinstance(sides, tuple) for sides in given.values()):
        return dict(given)  # read from a file
    if not isinstance(given, dict) or len(given) < 2:
        raise wrong("expected at least two superclasses, {name: {source: [...], target: [...]}}")
    owner: dict[str, str] = {}
    result: dict[str, tuple[tuple[str, ...], ...]] = {}
    for name, parts in given.items():
        if not isinstance(parts, dict) or set(parts) - {"wnid"} != set(SIDES):
            raise wrong(f"expected {{source: [...], target: [...]}}, got {show(parts)}", name)
        sides = tuple(_members(parts[side], name, side) for side in SIDES)
        for member in (*sides[0], *sides[1]):
            if member in owner:
                raise wrong(f"class {show(member)} is given twice (also in {owner[member]})", name)
            owner[member] = name
        result[name] = sides
    return result


def _members(given: object, *loc: str) -> tuple[str, ...]:
    """Class names; those of digits look like numbers."""
    if not isinstance(given, list) or not given:
        raise wrong(f"expected a list of classes, got {show(given)}", *loc)
    for member in given:
        if isinstance(member, bool) or not isinstance(member, (str, int)):
            raise wrong(f"expected names of classes, got {show(member)}", *loc)
        if str(member) in ("", ".", "..") or not set("/\\\0").isdisjoint(str(member)):
            raise wrong(f"{show(member)} cannot be the name of a class's folder", *loc)
    return tuple(map(str, given))


Table = Annotated[
    dict[str, tuple[tuple[str, ...], tuple[str, ...]]], BeforeValidator(_checked), BeforeValidator(_named)
]
_TABLE: TypeAdapter[Superclasses] = TypeAdapter(Table)


def _read_csv(path: Path, origin: str) -> YamlFile:
    text = read_text(path, origin)
    rows = csv.DictReader(io.StringIO(text, newline=""))
    table: dict[str, Any] = {}
    lines: dict[Loc, int] = {}
    try:
        missing = {"superclass", "side", "wnid"} - set(rows.fieldnames or ())
        if missing:
            raise RequestError(f"{origin}:1: no column {min(missing)!r}; expected superclass, side, wnid")
        for row in rows:
            given = [row["superclass"], row["side"], row["wnid"]]
            if row["side"] not in SIDES or not all(given):
                expected = "expected a superclass, source or target, and a wnid"
                raise RequestError(f"{origin}:{rows.line_num}: {expected}, got {show(given)}")
            lines.setdefault((row["superclass"],), rows.line_num)
            table.setdefault(row["superclass"], {side: [] for side in SIDES})[row["side"]].append(row["wnid"])
    except csv.Error as error:
        raise RequestError(f"{origin}:{rows.line_num}: not CSV ({error})") from None
    return YamlFile(origin, text, table, lines)
