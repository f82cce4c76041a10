"""The keys of a data entry that belong to one shift: the new labels of `permute`, the table of `subpopulation`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data.catalog import DATASETS, Superclasses
from bench.data.superclasses import SHIPPED, check_table, read_table, shipped_table
from bench.errors import nearest, show
from bench.yaml_file import Loc, YamlFile, user_path


def permutation(
    file: YamlFile, loc: Loc, point: dict[str, Any], shift: str, n_classes: int | None
) -> tuple[int, ...] | None:
    given = point.get("permutation")
    if shift != "permute":
        if given is not None:
            raise file.error((*loc, "permutation"), f"belongs to `shift: permute`, not to {shift}")
        return None
    if given is None:
        raise file.error(loc, "permutation is missing: the new label of each class, in order")
    where = (*loc, "permutation")
    if not isinstance(given, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in given):
        raise file.error(where, f"expected a list of class numbers, got {show(given)}")
    if sorted(given) != list(range(len(given))) or (n_classes is not None and len(given) != n_classes):
        wanted = f"0 to {n_classes - 1}" if n_classes else f"0 to {len(given) - 1}"
        raise file.error(where, f"expected each of {wanted} once, got {show(given)}")
    if given == sorted(given):
        raise file.error(where, "leaves every label as it is; nothing would shift")
    return tuple(given)


def superclasses(file: YamlFile, loc: Loc, point: dict[str, Any], shift: str, base: Path) -> Superclasses | None:
    """None where the shift has none, or where they lie beside the images."""
    dataset = DATASETS[point["dataset"]]
    given = point.get("superclasses")
    where = (*loc, "superclasses")
    if shift != "subpopulation":
        if given is not None:
            raise file.error(where, f"belongs to `shift: subpopulation`, not to {shift}")
        return None
    if given is None:
        if dataset.superclasses is None and not dataset.own_table:
            raise file.error(
                loc, "superclasses is missing: {name: {source: [class, ...], target: [class, ...]}}, or a table's name"
            )
        return dataset.superclasses
    if isinstance(given, str):
        table = _named_table(file, where, given, base)
        given = {name: {"source": list(source), "target": list(target)} for name, (source, target) in table.items()}
    return check_table(given, lambda rest, said: file.error((*where, *rest), said), dataset.classes, dataset.name)


def _named_table(file: YamlFile, where: Loc, given: str, base: Path) -> Superclasses:
    """One that comes with jouletune, or a file of the user's."""
    if given in SHIPPED:
        return shipped_table(given)
    if not given.endswith((".csv", ".json", ".yaml", ".yml")) or "\0" in given:
        raise file.error(
            where, f"{show(given)} is neither a .csv, .json or .yaml file nor a known table; {nearest(given, SHIPPED)}"
        )
    return read_table(user_path(file, where, given, base), given)
