"""Outcome: what a repeat was of, what its process sent and what its energy window showed, as the fields of a record."""

from __future__ import annotations

import math
from typing import Any

import hardware
from bench.process.messages import PrepareDone
from bench.store.record import CellFacts, WindowFigures, taken
from bench.suite.arm import FIXED
from bench.suite.suite import Cell, Suite

NO_ACCURACY = {"accuracy_before": None, "accuracy_after": None, "best_epoch": None}
"""Of images without labels."""


def cell_fields(suite: Suite, cell: Cell, prepared: PrepareDone) -> dict[str, Any]:
    """The fields that say which cell a record is of, and how and where it was tuned."""
    known = {
        "suite": suite,
        "cell": cell,
        "spec": suite.tuning(cell),
        "prepared": prepared,
        "noise": prepared.prepared[cell.data.label].facts,
        "options": None if cell.arm.method == FIXED else dict(cell.arm.options),
    }
    return taken(CellFacts, known)


def window_fields(result: hardware.EnergyResult) -> dict[str, Any]:
    """The fields of any work that was done in a window: time, energy and state of the device, per execution.

    A figure that is not finite is left out; the joules are then of grade X, and `error` says why.
    """
    fields = taken(WindowFigures, result) | {"error": result.error}
    lost = [name for name, value in fields.items() if isinstance(value, float) and not math.isfinite(value)]
    if lost:
        fields |= dict.fromkeys(lost) | {"grade": "X", "error": f"not finite: {', '.join(lost)}"}
    return fields
