"""A table to search, filter and sort in the browser. Its rows are packed, so that it may hold 10,000."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; all of a table are equally long.

    Attributes:
        heading: its name, with the unit.
        values: texts; numbers, None or nan where not known; lists of words; or for an action, the value it sends.
        kind: how values sort and look. An action is a button that sends the event `jt-action` with its value.
        digits: after the point of a number.
        texts: what is shown instead of the values, which then only sort.
        choice: whether the table can be narrowed to one of its values.
        hidden: whether it only serves for that, because another column shows the same.
        about: what the column is, in words; of an action, what it does.
        tones: value -> good, bad or dim.
    """

    heading: str
    values: Sequence[Any]
    kind: Literal["text", "number", "list", "action"] = "text"
    digits: int = 1
    texts: Sequence[str] | None = None
    choice: bool = False
    hidden: bool = False
    about: str = ""
    tones: Mapping[str, str] = field(default_factory=dict)


def number(heading: str, values: Sequence[Any], digits: int = 0, **more: Any) -> Column:
    """Make a column of numbers."""
    numbers = [None if value is None else float(value) for value in values]
    return Column(heading=heading, values=numbers, kind="number", digits=digits, **more)


def table_data(label: str, columns: Sequence[Column], *, sort: int | None = None) -> dict[str, Any]:
    """Return what web/table.js makes a table of. The first column names the row.

    Args:
        label: what it holds, for those who cannot see it.
        sort: number of the column to sort by at first; None keeps the order of the rows.
    """
    content = [
        dataclasses.asdict(column) | {"values": [_known(value) for value in column.values]} for column in columns
    ]
    return {"label": label, "sort": sort, "columns": content}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
