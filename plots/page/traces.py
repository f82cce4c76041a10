"""The part of the report that shows each repeat's power over time, with its window, guard bands and idle power."""

from __future__ import annotations

from html import escape

from plots.page.frame import prose, section
from plots.page.trace_data import TraceSet
from plots.page.widgets import data_block, widget

NAME = "power-traces"


def render(traces: TraceSet) -> str:
    """Section of the traces; each part of them is unpacked once one of its traces is chosen."""
    if not traces.entries:
        why = (
            "The traces could not be read."
            if traces.damage
            else "This energy source records none, or nothing was measured."
        )
        return section("Power traces", f'<p class="muted">No power trace. {why}</p>')
    several = len({entry["run"] for entry in traces.entries}) > 1
    cells: dict[str, int] = {}
    entries = []
    for entry in traces.entries:
        cell = f"{entry['run']}: {entry['cell']}" if several else entry["cell"]
        entries.append([cells.setdefault(cell, len(cells)), entry["repeat"], entry["grade"]])
    value = {"cells": list(cells), "entries": entries, "perChunk": traces.per_chunk, "block": NAME}
    blocks = "".join(data_block(f"{NAME}-{number}", chunk) for number, chunk in enumerate(traces.chunks))
    plain = '<p class="muted">The traces are CSV files in traces/; this page draws them with its scripts.</p>'
    said = f'<p class="muted">{prose(traces.left_out)}</p>' if traces.left_out else ""
    return section("Power traces", said + widget("traces", escape(NAME), value, plain=plain) + blocks)
