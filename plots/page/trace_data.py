"""Choose the power traces that a page shows, and thin each so that no peak is lost."""

from __future__ import annotations

import gzip
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import Results
from bench.analysis.wording import missing
from bench.text import first_few, natural
from hardware.files import open_file
from hardware.measure.trace import Trace, parse_trace

MAX_TRACES = 2500
MAX_TRACE_BYTES, MAX_READ_BYTES = 100_000_000, 120_000_000
"""Unpacked bytes read of one trace (five million samples) and of all, which takes some seconds."""

ALL_POINTS = 800_000
"""Points of all traces together: about 5 MB of the page."""

MIN_POINTS, MAX_POINTS = 64, 1200
MAX_SPANS = 100
"""Spans of phases drawn in one trace."""

PER_CHUNK = 32
"""Traces that are unpacked together when one of them is looked at."""

_STEPS = 20_000
"""Steps from the lowest to the highest number of a trace: finer than any screen."""

_GRADES = {"X": 0, "C": 1, "B": 2, "A": 3}


@dataclass(frozen=True, kw_only=True)
class TraceSet:
    """The traces of a page.

    Attributes:
        entries: one per trace, in the order of the results: run, cell_id, repeat, grade.
        chunks: what a chart needs, in lists of PER_CHUNK; entry i is chunks[i // PER_CHUNK][i % PER_CHUNK].
        left_out: why some are not here; '' where all are.
        damage: sentences on files that could not be read.
    """

    entries: tuple[dict[str, Any], ...] = ()
    chunks: tuple[list[dict[str, Any]], ...] = ()
    left_out: str = ""
    damage: tuple[str, ...] = ()


def collect(results: Results) -> TraceSet:
    """Read the traces of a run, as many as a page can hold: every cell's worst grade first, then the others."""
    records = results.records
    recorded = records[records["trace"].notna() & records["run"].isin(list(results.folders))]
    if recorded.empty:
        return TraceSet()
    read: dict[int, dict[str, Any]] = {}
    wrong: list[str] = []
    bytes_read = 0
    ordered = _by_importance(recorded)
    for index, run, name in ordered[["run", "trace"]].itertuples():
        if len(read) == MAX_TRACES or bytes_read > MAX_READ_BYTES:
            break
        try:
            if Path(name).name != name:
                raise ValueError("a path, not the name of a file")
            folder = results.folders[run]
            packed = open_file(folder.traces_dir / name, limit=MAX_TRACE_BYTES, root=folder.path)
            with packed, gzip.GzipFile(fileobj=packed) as stream:
                try:
                    read[index] = _drawn(records.loc[index], parse_trace(stream, MAX_TRACE_BYTES))
                finally:
                    bytes_read += stream.tell()
        except (ValueError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            wrong.append(f"{name[:80]}: {why}")
    points = int(min(max(ALL_POINTS / max(len(read), 1), MIN_POINTS), MAX_POINTS))
    shown = records.loc[list(read), ["run", "cell_id", "repeat", "grade"]]
    shown = shown.assign(order=shown["cell_id"].map(natural)).sort_values(["run", "order", "repeat"])
    made = [_coded(read[index], points) for index in shown.index]
    return TraceSet(
        entries=tuple(
            {"run": run, "cell": cell, "repeat": int(repeat), "grade": None if missing(grade) else grade}
            for run, cell, repeat, grade, _ in shown.itertuples(index=False)
        ),
        chunks=tuple(made[start : start + PER_CHUNK] for start in range(0, len(made), PER_CHUNK)),
        left_out=_left_out(len(read), len(recorded)) if len(read) + len(wrong) < len(ordered) else "",
        damage=_damage(wrong),
    )


def _by_importance(recorded: pd.DataFrame) -> pd.DataFrame:
    grade = recorded["grade"].map(_GRADES).fillna(len(_GRADES))
    table = recorded[["run", "cell_id", "trace"]].assign(grade=grade)
    table = table.sort_values("grade", kind="stable")
    table["turn"] = table.groupby(["run", "cell_id"], sort=False).cumcount()
    return table.sort_values(["turn", "grade"], kind="stable")


def _left_out(shown: int, recorded: int) -> str:
    return (
        f"{shown} of {recorded} traces are on this page: one repeat of each cell before the second of any, "
        "the worst grades first. All of them are in traces/."
    )


def _damage(wrong: list[str]) -> tuple[str, ...]:
    if not wrong:
        return ()
    which = "1 power trace" if len(wrong) == 1 else f"{len(wrong)} power traces"
    return (f"{which} could not be read: {first_few(wrong)}.",)


def _drawn(row: pd.Series, trace: Trace) -> dict[str, Any]:
    """Collect what web/traces.js draws of one trace; times are seconds from the start of the work."""
    t_s, power_w = powers(trace)
    kept = thin(power_w, MAX_POINTS)
    origin_s = trace.moment_s("t0_s")
    origin_s = float(t_s[0]) if origin_s is None else origin_s
    moments = {name: trace.moment_s(name) for name in ("quiet_from_s", "t0_s", "t1_s", "quiet_until_s")}
    numbers = ("energy_gross_j", "energy_u_j", "energy_net_j", "idle_power_w", "executions")
    return {
        "t": t_s[kept] - origin_s,
        "p": power_w[kept],
        "samples": len(t_s),
        "counter": trace.kind == "counter",
        "moments": {name: None if value is None else round(value - origin_s, 4) for name, value in moments.items()},
        "phases": _phases(trace, origin_s),
        "source": trace.facts.get("source") or (None if missing(row["source"]) else row["source"]),
        "status": row["status"],
        "grade": None if missing(row["grade"]) else row["grade"],
        "flags": [flag for flag in str(row["flags"]).split(";") if flag],
        **{name: None if missing(row[name]) else float(f"{row[name]:.6g}") for name in numbers},
    }


def _phases(trace: Trace, origin_s: float) -> list[tuple[str, float, float]]:
    """Phase, start and end, s from the origin; [] where the file has none, or a text that is none of ours."""
    try:
        found = json.loads(trace.facts["phases"])
        spans = [(str(name)[:30], float(t0_s) - origin_s, float(t1_s) - origin_s) for name, t0_s, t1_s in found]
    except (KeyError, ValueError, TypeError, RecursionError):
        return []
    known = [(name, round(t0_s, 4), round(t1_s, 4)) for name, t0_s, t1_s in spans if -1e9 < t0_s <= t1_s < 1e9]
    return known[:MAX_SPANS]


def _coded(drawn: dict[str, Any], points: int) -> dict[str, Any]:
    """Thin a trace to `points` points, and pack its numbers for the page."""
    kept = thin(drawn["p"], points)
    return drawn | {"t": _steps(drawn["t"][kept]), "p": _steps(drawn["p"][kept])}


def powers(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Return (t_s, power_w) of a trace. A counter gives the mean power between two updates, at the later one."""
    if trace.kind == "power":
        return trace.t_s, trace.values
    updated = np.concatenate([[True], trace.values[1:] != trace.values[:-1]])
    t_s, energy_j = trace.t_s[updated], trace.values[updated]
    if len(t_s) < 2:
        return trace.t_s, np.zeros_like(trace.values)
    power_w = np.diff(energy_j)
    power_w /= np.diff(t_s)
    return t_s[1:], power_w


def thin(values: np.ndarray, points: int) -> np.ndarray:
    """Choose at most `points` indices that keep the lowest and the highest value of equally long parts.

    Args:
        values: shape (n,).
        points: at least 4. The first and the last value are always kept.
    """
    n = len(values)
    if n <= points:
        return np.arange(n)
    parts = (points - 2) // 2
    edges = np.linspace(0, n, parts + 1).astype(int)
    lowest = [int(start + values[start:end].argmin()) for start, end in itertools.pairwise(edges)]
    highest = [int(start + values[start:end].argmax()) for start, end in itertools.pairwise(edges)]
    return np.unique([0, *lowest, *highest, n - 1])


def _steps(values: np.ndarray) -> dict[str, Any]:
    """Write numbers as differences in whole steps, which pack to a fourth of their text."""
    low, span = float(values.min()), float(np.ptp(values))
    step = span / _STEPS or 1.0
    whole = np.rint((values - low) / step).astype(int)
    return {"from": float(f"{low:.9g}"), "step": step, "d": np.diff(whole, prepend=0).tolist()}
