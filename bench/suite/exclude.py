"""Exclude: the rules of a suite that take cells out of its matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.errors import nearest, show
from bench.suite.cell import Cell
from bench.suite.spec import wrong
from bench.suite.training import AXES

EXCLUDE_KEYS = ("dataset", "shift", "data", "level", "severity", "work", "train_size", "blocks", "method", "arm",
                "seed", *AXES)  # fmt: skip


def rules_of(rules: Any) -> Any:
    """Check the form of the rules: mappings from keys of a cell to a value or a list of values."""
    if isinstance(rules, tuple):
        return rules
    if not isinstance(rules, list):
        raise wrong(f"expected a list of mappings, got {show(rules)}")
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict) or not rule:
            raise wrong(f"expected a mapping such as {{blocks: full}}, got {show(rule)}", number)
        for key in rule:
            if key not in EXCLUDE_KEYS:
                raise wrong(f"unknown key; {nearest(str(key), EXCLUDE_KEYS)}", number, key)
    return tuple(rules)


def excluded(rules: Iterable[Mapping[str, Any]], cells: Iterable[Cell]) -> Iterator[tuple[Cell, list[int]]]:
    """Each cell with the numbers of the rules that exclude it: those of which every key has the cell's value."""
    sought = [{key: sought_values(wanted) for key, wanted in rule.items()} for rule in rules]
    for cell in cells:
        values = cell_values(cell)
        yield cell, [n for n, rule in enumerate(sought) if all(values[key] in wanted for key, wanted in rule.items())]


def sought_values(wanted: Any) -> frozenset[Any]:
    """The values of a rule's key, one or a list; a list or mapping among them is no cell's value."""
    listed = wanted if isinstance(wanted, list) else [wanted]
    return frozenset(value for value in listed if not isinstance(value, list | dict))


def cell_values(cell: Cell) -> dict[str, Any]:
    """The values of a cell that an exclude rule can name."""
    return dict(cell.variant) | {
        "dataset": cell.data.dataset,
        "shift": cell.data.shift,
        "data": cell.data.label,
        "level": cell.data.level,
        "severity": cell.data.severity,
        "work": cell.work_label,
        "train_size": cell.train_size,
        "blocks": cell.blocks_label,
        "method": cell.arm.method,
        "arm": cell.arm.label,
        "seed": cell.seed,
    }
