"""Tables of superclasses in the manner of BREEDS (Santurkar et al. 2021): read, checked, shipped. No numpy."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.catalog.datasets import Superclasses
from bench.errors import RequestError, nearest, show
from bench.suite.yaml_file import Loc, read_yaml

SHIPPED = MappingProxyType({"living17": "living17.csv"})
"""Tables that come with jouletune, by name, as files beside this module. living17: 17 kinds of living things, two
source and two target ImageNet classes each, as BREEDS' generator gives them for `split="rand"`."""

SIDES = ("source", "target")
Fail = Callable[[Loc, str], RequestError]
"""Makes the error for a place below the table's root."""


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
    if path.suffix.lower() == ".csv":
        return check_table(_read_csv(path, origin), lambda loc, said: RequestError(f"{origin}: {_dotted(loc)}{said}"))
    file = read_yaml(path, origin)
    return check_table(file.content, file.error)


def shipped_table(name: str) -> Superclasses:
    """The table of a name in SHIPPED."""
    return read_table(Path(__file__).parent / SHIPPED[name], name)


def check_table(given: object, fail: Fail, classes: Collection[str] | None = None, dataset: str = "") -> Superclasses:
    """Superclass -> (source members, target members).

    Args:
        given: {name: {source: [...], target: [...]}}, from anybody.
        classes: of the dataset, where they are known.

    Raises:
        RequestError: made by `fail`: another structure, an unknown class, or one that is given twice.
    """
    if not isinstance(given, dict) or len(given) < 2:
        raise fail((), "expected at least two superclasses, {name: {source: [...], target: [...]}}")
    owner: dict[str, str] = {}
    result: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for name, parts in given.items():
        if not isinstance(name, str):
            raise fail((), f"expected names of superclasses, got {show(name)}")
        if not isinstance(parts, dict) or set(parts) - {"wnid"} != set(SIDES):
            raise fail((name,), f"expected {{source: [...], target: [...]}}, got {show(parts)}")
        source, target = (_members(parts[side], fail, (name, side), classes, dataset) for side in SIDES)
        for member in (*source, *target):
            if member in owner:
                raise fail((name,), f"class {show(member)} is given twice (also in {owner[member]})")
            owner[member] = name
        result[name] = (source, target)
    return result


def _members(given: object, fail: Fail, loc: Loc, classes: Collection[str] | None, dataset: str) -> tuple[str, ...]:
    """Class names; those of digits look like numbers."""
    if not isinstance(given, list) or not given:
        raise fail(loc, f"expected a list of classes, got {show(given)}")
    for member in given:
        if isinstance(member, bool) or not isinstance(member, (str, int)):
            raise fail(loc, f"expected names of classes, got {show(member)}")
        if classes is not None and str(member) not in classes:
            hint = nearest(str(member), classes, limit=10)
            raise fail(loc, f"{show(member)} is not a class of {dataset}; {hint}")
        if classes is None and (str(member) in ("", ".", "..") or not set("/\\\0").isdisjoint(str(member))):
            raise fail(loc, f"{show(member)} cannot be the name of a class's folder")
    return tuple(map(str, given))


def _read_csv(path: Path, origin: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{origin}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RequestError(f"{origin}: not UTF-8 text") from None
    rows = csv.DictReader(io.StringIO(text))
    missing = {"superclass", "side", "wnid"} - set(rows.fieldnames or ())
    if missing:
        raise RequestError(f"{origin}:1: no column {sorted(missing)[0]!r}; expected superclass, side, wnid")
    table: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row["side"] not in SIDES or not row["superclass"] or not row["wnid"]:
            raise RequestError(
                f"{origin}:{rows.line_num}: expected a superclass, source or target, and a wnid, got "
                f"{show([row['superclass'], row['side'], row['wnid']])}"
            )
        table.setdefault(row["superclass"], {side: [] for side in SIDES})[row["side"]].append(row["wnid"])
    return table


def _dotted(loc: Loc) -> str:
    return "".join(f"{part}: " for part in loc)
