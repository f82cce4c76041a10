"""Write inferences of a board in the form of MLPerf Tiny's runner: results.txt of energy and of performance.

Energy: five inputs, each for at least ten seconds, microjoules per inference of each window and their median; the
joules are gross, as the runner's are. Performance: inferences a second by the board's own timer, the median of the same
windows. MLPerf Tiny's submission checker looks for the two lines with the medians. A submission needs more: a reference
model with its inputs, accuracy by the runner, the supply voltage, descriptions of the system.
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from bench.errors import RequestError
from bench.read.results import Results
from bench.store.durable import write_atomic

INPUTS = 5
LEAST_S = 10.0
RULE = "-" * 57


def export(results: Results, out: Path) -> int:
    """Write `CONDITION/energy/results.txt` and `CONDITION/performance/results.txt`; returns the number of conditions.

    Raises:
        RequestError: no condition has five windows of ten seconds of inferences, one image each.
        JouletuneError: a file cannot be written.
    """
    records = results.records
    inferred = records[records["ok"] & (records["n_images"] == 1)]
    written, lacks = 0, "no inferences of one image each"
    for cell_id, group in inferred.groupby("cell_id", sort=False):
        rows = group[group["measured"]].sort_values("repeat").to_dict("records")
        long = [row for row in rows if row["train_time_s"] * row["executions"] >= LEAST_S]
        if len(long) < INPUTS:
            lacks = f"{cell_id}: {len(long)} measured windows of at least {LEAST_S:g} s"
            continue
        chosen = long[:INPUTS]
        folder = out / re.sub(r"[^\w.=-]+", "_", str(cell_id))
        _write(folder / "energy" / "results.txt", _energy(chosen))
        if all(pd.notna(row["lap_s"]) and row["lap_s"] > 0 for row in chosen):
            _write(folder / "performance" / "results.txt", _performance(chosen))
        written += 1
    if not written:
        raise RequestError(
            f"--mlperf-tiny: {lacks}; expected {INPUTS} (repeats: {INPUTS}, min_window_s: 10, work: infer on a board)"
        )
    return written


def _energy(rows: list[dict[Any, Any]]) -> list[str]:
    each_uj = [1e6 * float(row["energy_gross_j"]) for row in rows]
    lines = []
    for number, (row, uj) in enumerate(zip(rows, each_uj, strict=True)):
        seconds, count = float(row["train_time_s"]) * int(row["executions"]), int(row["executions"])
        lines += [
            f"Energy data for window {number} at time {float(row['started_mono_s']):.2f} sec. for {seconds:.2f} sec.:",
            f"  Energy       : {uj * count:13.3f} uJ",
            f"  Power        : {uj * count / seconds:13.3f} uW",
            f"  # Inferences : {count}",
            f"  Energy/Inf.  : {uj:13.3f} uJ/inf.",
        ]
    return [*lines, RULE, f"Median energy cost is {median(each_uj):.3f} uJ/inf.", RULE]


def _performance(rows: list[dict[Any, Any]]) -> list[str]:
    each = [1 / float(row["lap_s"]) for row in rows]
    lines = []
    for number, (row, rate) in enumerate(zip(rows, each, strict=True)):
        count = int(row["executions"])
        lines += [
            f"Performance results for window {number}:",
            f"  # Inferences : {count}",
            f"  Runtime      : {count * float(row['lap_s']):10.3f} sec.",
            f"  Throughput   : {rate:10.3f} inf./sec.",
        ]
    return [*lines, RULE, f"Median throughput is {median(each):.3f} inf./sec.", RULE]


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(f"jouletune: {line}\n" for line in lines))
