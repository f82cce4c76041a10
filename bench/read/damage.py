"""Damage: lines read from a run, without those that cannot be what they claim to be, which are named."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.errors import RequestError
from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir

Row = TypeVar("Row")

NAMED = 3
"""Faults that a sentence names one by one."""

_HUGE = 1e300
_NUMBERS = tuple(
    spec.name
    for spec in dataclasses.fields(Record)
    if str(spec.type).startswith(("int", "float")) and spec.name != "schema"
)
_FRACTIONS = ("accuracy_before", "accuracy_after")
_TEXTS = ("cell_id", "status", "data", "blocks", "level", "method", "started_at")


def read_manifest(folder: RunDir, name: str, damage: list[str] | None) -> Manifest:
    """The manifest of a run, an empty one without. What of it cannot be read is named in `damage`.

    Raises:
        RequestError: it cannot be read and `damage` is None.
    """
    wrong: list[str] | None = None if damage is None else []
    try:
        manifest = folder.read_manifest(wrong) or Manifest()
    except RequestError:
        if damage is None:
            raise
        damage.append(f"manifest.json of {name} cannot be read; what it says of device and suite is missing.")
        return Manifest()
    if wrong and damage is not None:
        damage.append(f"manifest.json of {name}: wrong, and taken as missing: {_named(wrong)}.")
    return manifest


def read_rows(folder: RunDir, name: str, keep: Callable[[dict[str, Any]], Row], damage: list[str] | None) -> list[Row]:
    """What `keep` takes of each record; what cannot be read is named in `damage`, or raised where that is None.

    Raises:
        RequestError: something cannot be read and `damage` is None, or no record can.
    """
    if damage is None:
        return list({key: keep(line) for key, line in folder.each_record()}.values())
    wrong: list[str] = []
    try:
        # a newer line of a repeat replaces an older one, also where the newer is of no use
        kept = {key: _kept(line, keep) for key, line in folder.each_record(wrong)}
    except OSError as error:
        raise RequestError(f"{folder.cells_path}: cannot be read ({error.strerror})") from None
    rows = [one for one in kept.values() if not isinstance(one, _Fault)]
    wrong += [one.sentence for one in kept.values() if isinstance(one, _Fault)]
    if wrong:
        damage.append(summary_of_damage(f"cells.jsonl of {name}", wrong))
    if wrong and not rows:
        raise RequestError(f"{folder.cells_path}: no usable record ({wrong[0]})")
    return rows


def usable(lines: Sequence[dict[str, Any]], damage: list[str]) -> list[dict[str, Any]]:
    """The lines whose fields are of the kind a record has; what is wrong with the others is added to `damage`."""
    faults = [_fault(line) for line in lines]
    damage += [fault.sentence for fault in faults if fault is not None]
    return [line for line, fault in zip(lines, faults, strict=True) if fault is None]


@dataclass(frozen=True, slots=True)
class _Fault:
    sentence: str


def _kept(line: dict[str, Any], keep: Callable[[dict[str, Any]], Row]) -> Row | _Fault:
    return _fault(line) or keep(line)


def _fault(line: dict[str, Any]) -> _Fault | None:
    wrong = _wrong(line)
    return _Fault(f"{str(line['cell_id'])[:80]} has {wrong}") if wrong else None


def _wrong(line: dict[str, Any]) -> str:
    """What no record can hold, '' where there is nothing."""
    numbers = [value for value in map(line.get, _NUMBERS) if value is not None]
    # nearly every line is right, so all its numbers are looked at together; nan, which min and max may miss, makes
    # their sum nan
    if not (
        set(map(type, numbers)) <= {int, float}
        and -_HUGE < min(numbers, default=0) <= max(numbers, default=0) < _HUGE
        and not math.isnan(sum(numbers))
    ):
        for name in _NUMBERS:
            value = line.get(name)
            # one comparison for nan, infinity and integers too large for a float
            if value is not None and not (type(value) in (int, float) and -_HUGE < value < _HUGE):
                return f"{name} {str(value)[:40]!r}"
    for name in _TEXTS:
        value = line.get(name)
        if value is not None and type(value) is not str:
            return f"{name} {str(value)[:40]!r}"
    if line.get("train_size") is None:
        return "no train_size"
    outside = [name for name in _FRACTIONS if line.get(name) is not None and not 0 <= line[name] <= 1]
    return f"{outside[0]} {line[outside[0]]}" if outside else _wrong_list(line)


def _wrong_list(line: dict[str, Any]) -> str:
    if type(line.get("flags") or []) is not list:
        return "flags that are no list"
    terms = line.get("energy_terms") or []
    if type(terms) is list and all(type(term) is dict and term.keys() >= {"name", "net_j"} for term in terms):
        return ""
    return "energy_terms that are no budget"


def summary_of_damage(what: str, wrong: Sequence[str]) -> str:
    """One sentence: how many were skipped, and the first of them."""
    return f"{what}: {len(wrong)} skipped, in no figure: {_named(wrong)}."


def _named(wrong: Sequence[str]) -> str:
    return "; ".join(wrong[:NAMED]) + (f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else "")
