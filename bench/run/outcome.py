"""Outcome: the fields of a record, from the cell, the figures of its process and the result of its energy window."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import hardware
from bench.catalog.methods import load_method
from bench.process.messages import PrepareDone
from bench.store.record import CellFacts, WindowFigures, taken
from bench.suite.arm import FIXED
from bench.suite.cell import Cell
from bench.suite.suite import Suite

NO_ACCURACY = {"accuracy_before": None, "accuracy_after": None, "best_epoch": None}
"""Of images without labels."""


def cell_fields(suite: Suite, cell: Cell, prepared: PrepareDone) -> dict[str, Any]:
    """The fields that say which cell a record is of, and how and where it was tuned."""
    arm = cell.arm
    known = {
        "suite": suite,
        "cell": cell,
        "spec": suite.tuning(cell),
        "prepared": prepared,
        "noise": prepared.prepared[cell.data.label].facts,
        "options": None
        if arm.method == FIXED
        else load_method(arm.method).options(dict(arm.options)).model_dump(mode="json"),
    }
    return taken(CellFacts, known)


def unmeasured(result: hardware.EnergyResult) -> hardware.EnergyResult:
    """The result of a window in which nothing was done: no joules, and no grade that could be bad."""
    return hardware.EnergyResult(
        duration_s=result.duration_s,
        window_s=result.window_s,
        executions=result.executions,
        source=result.source,
        source_kind=None,
        grade=None,
        flags=("no_work",),
        env_before=result.env_before,
        env_after=result.env_after,
    )


def window_fields(result: hardware.EnergyResult) -> dict[str, Any]:
    """The fields of any work that was done in a window: time, energy and state of the device, per execution.

    A figure that is not finite is left out; the joules are then of grade X, and `error` says why.
    """
    phases = {phase.pop("name"): phase for phase in map(dataclasses.asdict, result.phases)}
    fields = taken(WindowFigures, result) | {"error": result.error, "phases": phases or None}
    lost = [name for name, value in fields.items() if isinstance(value, float) and not math.isfinite(value)]
    if lost:
        fields |= dict.fromkeys(lost) | {"grade": "X", "error": f"not finite: {', '.join(lost)}"}
    return fields
