"""Outcome: what a repeat was, and what its process and its energy window said, as the fields of a record."""

from __future__ import annotations

import dataclasses
from typing import Any

import hardware
from bench.process.messages import Evaluated, PrepareDone, Trained
from bench.suite.arm import FIXED
from bench.suite.suite import Cell, Suite

NO_ACCURACY = {"accuracy_before": None, "accuracy_after": None, "best_epoch": None}
"""Of images without labels."""


def identity(suite: Suite, cell: Cell, prepared: PrepareDone) -> dict[str, Any]:
    """The fields that say which cell a record is of, and how and where it was tuned."""
    spec = suite.tuning(cell)
    return {
        "cell_id": cell.cell_id,
        "dataset": cell.data.dataset,
        "shift": cell.data.shift,
        "level": cell.data.level,
        "target_block": cell.data.target_block,
        "noise_sigma": prepared.prepared[cell.data.label].facts.get("sigma"),
        "data": cell.data.label,
        "train_size": cell.train_size,
        "blocks": cell.blocks_label,
        "seed": cell.seed,
        "method": cell.arm.method,
        "arm": cell.arm.label,
        "options": None if cell.arm.method == FIXED else dict(cell.arm.options),
        "model": suite.model.name,
        "bn_mode": spec.bn_mode,
        "engine": spec.engine,
        "variant": cell.variant_label,
        "device": prepared.device_name,
    }


def figures(trained: Trained, evaluated: Evaluated, result: hardware.EnergyResult) -> dict[str, Any]:
    """The measured fields of a cell's record."""
    return {
        **{name: getattr(evaluated, name) for name in Evaluated.__slots__},
        **work_figures(trained.t1_s - trained.t0_s, trained.executions, result),
    }


def work_figures(work_s: float, executions: int, result: hardware.EnergyResult) -> dict[str, Any]:
    """The fields of any work that was done so many times in one window: time and energy, per execution."""
    return {
        "train_time_s": work_s / executions,
        "executions": executions,
        "energy_gross_j": result.energy_gross_j,
        "energy_net_j": result.energy_net_j,
        "energy_u_j": result.energy_u_j,
        "energy_net_u_j": result.energy_net_u_j,
        "idle_power_w": result.idle_power_w,
        "source_kind": result.source_kind,
        "grade": result.grade,
        "flags": result.flags,
        "trace": result.trace_file,
        "energy_terms": tuple(dataclasses.asdict(term) for term in result.terms),
        "band_s": result.band_s,
        "lost_fraction": result.lost_fraction,
        "longest_gap_s": result.longest_gap_s,
        "own_counter_j": result.cross_check.counter_j if result.cross_check else None,
        "own_integral_j": result.cross_check.integral_j if result.cross_check else None,
        **_environment(result),
    }


def _environment(result: hardware.EnergyResult) -> dict[str, Any]:
    """The state of the device around the work."""
    before, after = result.env_before, result.env_after
    if before is None or after is None:
        return {}
    return {
        "temperature_before_c": before.temperature_c,
        "temperature_after_c": after.temperature_c,
        "frequency_before_hz": before.frequency_hz,
        "frequency_after_hz": after.frequency_hz,
        "governor": after.governor,
        "throttle_before": before.throttle_bits,
        "throttle_after": after.throttle_bits,
        "throttle_count_before": before.throttle_count,
        "throttle_count_after": after.throttle_count,
    }
