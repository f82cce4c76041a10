"""Damage: lines read from a run, without those that cannot be what they claim to be, which are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bench.errors import RequestError
from bench.store.manifest import Manifest
from bench.store.run_dir import RunDir
from bench.text import first_few

Row = TypeVar("Row")


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
        damage.append(f"manifest.json of {name}: wrong, and taken as missing: {first_few(wrong)}.")
    return manifest


def read_rows(folder: RunDir, name: str, keep: Callable[[dict[str, Any]], Row], damage: list[str] | None) -> list[Row]:
    """What `keep` takes of each record; what cannot be read is named in `damage`, or raised where that is None.

    Raises:
        RequestError: something cannot be read and `damage` is None, or no record can.
    """
    wrong: list[str] | None = None if damage is None else []
    # a newer line of a repeat replaces an older one, also where the newer is of no use
    kept = {key: line if line is None else keep(line) for key, line in folder.each_record(wrong)}
    rows = [row for row in kept.values() if row is not None]
    if wrong and damage is not None:
        wrong.sort(key=lambda one: not one.startswith("line "))  # what is no record at all is named first
        damage.append(summary_of_damage(f"cells.jsonl of {name}", wrong))
    if wrong and not rows:
        raise RequestError(f"{folder.cells_path}: no usable record ({wrong[0]})")
    return rows


def summary_of_damage(what: str, wrong: Sequence[str]) -> str:
    """One sentence: how many were skipped, and the first of them."""
    return f"{what}: {len(wrong)} skipped, in no figure: {first_few(wrong)}."
