"""Record: one finished repeat of a cell, as it stands in a line of cells.jsonl."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = 1
"""Version of a line of cells.jsonl. 1: first."""

Status = Literal["ok", "failed", "timeout", "skipped"]


def _f(unit: str, doc: str, **kw: Any) -> Any:
    """A field with its unit and meaning, so that tables and docs need no second list."""
    return field(metadata={"unit": unit, "doc": doc}, **kw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One repeat. Not measured is None, never 0. Accuracies are fractions of 1, energies joules.

    Raises:
        ValueError: a value that no repeat can have (an unknown status, a fraction beyond 1, a figure
            that is not finite).
    """

    cell_id: str = _f("", "readable, stable identity of the cell")
    repeat: int = _f("", "number of this execution of the cell, from 0")
    status: Status = _f("", "ok, failed, timeout or skipped")
    dataset: str = _f("", "dataset name")
    shift: str = _f("", "shift name")
    level: str = _f("", "input, feature or output")
    data: str = _f("", "label of the dataset with its shift, as in cell_id")
    train_size: float = _f("", "as the suite gives it: a fraction of the target data or a count")
    blocks: str = _f("", "what was tuned: a block, block+block, or full")
    seed: int = _f("", "draws the splits and the batch order")
    method: str = _f("", "how the model was adapted; fixed: a named block set was tuned")
    model: str = _f("", "model name")
    bn_mode: str = _f("", "train, train_tuned, eval or adapt_once_then_eval")
    started_at: str = _f("", "UTC, ISO 8601")
    arm: str | None = _f("", "what is compared, method and options: block1, full, name(key=value)", default=None)
    options: dict[str, Any] | None = _f("", "options of the method; null where `blocks` says all", default=None)
    target_block: str | None = _f("", "block that the shift calls for", default=None)
    noise_sigma: float | None = _f("", "standard deviation of the noise put into that block of the model", default=None)
    schema: int = _f("", "version of this line", default=SCHEMA)
    error: str | None = _f("", "why the repeat is not ok, or its joules are not", default=None)
    variant: str = _f("", "point on the axes of train, as in cell_id: engine=fast", default="")
    engine: str | None = _f("", "reference, truncated or fast", default=None)
    levers: tuple[str, ...] = _f("", "which work was saved; (inexact): at the price of another result", default=())
    cache_mb: float | None = _f("MB", "activations of the frozen part that were kept", default=None)
    cache_note: str | None = _f("", "why they went where they did", default=None)
    data_variant: str | None = _f("", "which copy of the data, e.g. JPEG", default=None)
    device: str | None = _f("", "torch device that trained", default=None)
    n_train: int | None = _f("images", "labelled target images trained on", default=None)
    n_val: int | None = _f("images", "target images that chose the epoch", default=None)
    n_test: int | None = _f("images", "target images that gave the accuracy", default=None)
    trained_parameters: int | None = _f("", "parameters that could change", default=None)
    accuracy_before: float | None = _f("fraction", "of the source model on the target test images", default=None)
    accuracy_after: float | None = _f("fraction", "after tuning, best epoch by validation loss", default=None)
    best_epoch: int | None = _f("", "epoch kept, from 1; 0: none improved on the source model", default=None)
    epochs_run: int | None = _f("", "epochs until the end or early stopping", default=None)
    steps: int | None = _f("", "optimiser steps", default=None)
    forward_macs: int | None = _f("MAC", "one image forward, by arithmetic (`bench.cost`)", default=None)
    step_macs: int | None = _f("MAC", "one step on a full batch: forward and the gradients it needs", default=None)
    step_bytes: int | None = _f("B", "read and written by it, if no cache kept anything", default=None)
    train_macs: int | None = _f(
        "MAC", "one fine-tuning as it ran, validation included; of a closed form its solution", default=None
    )
    train_time_s: float | None = _f("s", "one fine-tuning, validation included", default=None)
    startup_s: float | None = _f("s", "process start to first training step, guard band excluded", default=None)
    executions: int | None = _f("", "fine-tunings inside the energy window; energies are per one", default=None)
    energy_gross_j: float | None = _f("J", "energy of one fine-tuning", default=None)
    energy_net_j: float | None = _f("J", "gross less idle power x time", default=None)
    energy_u_j: float | None = _f("J", "expanded uncertainty of the gross energy, k = 2", default=None)
    energy_net_u_j: float | None = _f("J", "expanded uncertainty of the net energy, k = 2", default=None)
    idle_power_w: float | None = _f("W", "idle baseline", default=None)
    source: str | None = _f("", "energy source", default=None)
    source_kind: str | None = _f("", "counter, power or estimate", default=None)
    grade: str | None = _f("", "A, B, C or X: how far the joules can be trusted", default=None)
    flags: tuple[str, ...] = _f("", "what a reader of the figure must know", default=())
    energy_terms: tuple[dict[str, Any], ...] = _f(
        "J", "uncertainty budget: name, gross_j, net_j (k = 1) and basis of each term", default=()
    )
    band_s: float | None = _f("s", "what was integrated for one fine-tuning, guard bands included", default=None)
    lost_fraction: float | None = _f("fraction", "samples of the meter that are missing", default=None)
    longest_gap_s: float | None = _f("s", "longest time without a sample", default=None)
    own_counter_j: float | None = _f(
        "J", "the source's counter over work and quiet together, where it has watts too", default=None
    )
    own_integral_j: float | None = _f("J", "its samples, integrated over the same time", default=None)
    temperature_before_c: float | None = _f("degC", "hottest thermal zone before the work", default=None)
    temperature_after_c: float | None = _f("degC", "and right after it", default=None)
    frequency_before_hz: float | None = _f("Hz", "mean over the cores before the work", default=None)
    frequency_after_hz: float | None = _f("Hz", "and right after it", default=None)
    governor: str | None = _f("", "frequency governor after the work", default=None)
    throttle_before: int | None = _f("", "a Raspberry Pi's throttle and undervoltage bits before", default=None)
    throttle_after: int | None = _f("", "and right after the work", default=None)
    throttle_count_before: int | None = _f("", "how often an x86 processor had slowed down before", default=None)
    throttle_count_after: int | None = _f("", "and right after the work", default=None)
    cooldown_s: float | None = _f("s", "waited before the repeat for the device to cool down", default=None)
    peak_rss_mb: float | None = _f("MB", "peak resident memory of the process until the end of training", default=None)
    trace: str | None = _f("", "file under traces/", default=None)

    def __post_init__(self) -> None:
        if self.status not in ("ok", "failed", "timeout", "skipped"):
            raise ValueError(f"status must be ok, failed, timeout or skipped, not {self.status!r}")
        if self.repeat < 0:
            raise ValueError(f"repeat must be >= 0, not {self.repeat}")
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{spec.name} must be finite or None, not {value}")
        for name in ("accuracy_before", "accuracy_after"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be a fraction of 1, not {value}")
        if self.grade not in (None, "A", "B", "C", "X"):
            raise ValueError(f"grade must be A, B, C or X, not {self.grade!r}")

    def to_json(self) -> str:
        """One line, without the newline."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)


UNITS = {spec.name: spec.metadata["unit"] for spec in dataclasses.fields(Record)}
"""Unit of every field, '' where it has none."""
