"""Read manifest and records of a run, and name what cannot be right, which is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bench.errors import RequestError
from bench.store.manifest import Manifest
from bench.store.run_dir import RunDir
from bench.text import first_few

Row = TypeVar("Row")


def read_manifest(folder: RunDir, name: str, damage: list[str] | None) -> Manifest:
    """Read the manifest of a run, an empty one where there is none; what is wrong in it is named in `damage`.

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


def read_rows(
    folder: RunDir, name: str, to_row: Callable[[dict[str, Any]], Row], damage: list[str] | None
) -> list[Row]:
    """Make a row of each record; what cannot be read is named in `damage`, or raised where that is None.

    Raises:
        RequestError: something cannot be read and `damage` is None, or no record can.
    """
    wrong: list[str] | None = None if damage is None else []
    # a newer line of a repeat replaces an older one, also where the newer is of no use
    made = {key: line if line is None else to_row(line) for key, line in folder.each_record(wrong)}
    rows = [row for row in made.values() if row is not None]
    if wrong and damage is not None:
        wrong.sort(key=lambda one: not one.startswith("line "))  # what is no record at all is named first
        damage.append(summary_of_damage(f"cells.jsonl of {name}", wrong))
    if wrong and not rows:
        raise RequestError(f"{folder.cells_path}: no usable record ({wrong[0]})")
    return rows


def summary_of_damage(what: str, wrong: Sequence[str]) -> str:
    """Describe how many records were left out, and the first of them."""
    return f"{what}: {len(wrong)} skipped, in no figure: {first_few(wrong)}."
