"""Power traces for a page: which of them, and each thinned so that no peak is lost."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis import Results
from bench.analysis.wording import missing
from bench.read.damage import NAMED
from hardware.measure.trace import Trace, read_trace

MAX_TRACES = 2500
MAX_READ_BYTES = 60_000_000
"""Of the files as they are, packed; reading that much takes some seconds."""

ALL_POINTS = 800_000
"""Of all traces together: about 5 MB of the page."""

MIN_POINTS, MAX_POINTS = 64, 1200
_PER_CHUNK = 32
"""Traces that are unpacked together when one of them is looked at."""

_STEPS = 20_000
"""Height and length of a trace are told in so many steps: finer than any screen."""

_GRADES = {"X": 0, "C": 1, "B": 2, "A": 3}


@dataclass(frozen=True, kw_only=True)
class TraceSet:
    """The traces of a page.

    Attributes:
        entries: one per trace, in the order of the results: run, cell_id, repeat, grade.
        chunks: what a chart needs, in lists of _PER_CHUNK; entry i is chunks[i // _PER_CHUNK][i % _PER_CHUNK].
        recorded: repeats that have a trace, shown here or not.
        left_out: why some are not here; '' where all are.
        damage: sentences on files that could not be read.
    """

    entries: tuple[dict[str, Any], ...] = ()
    chunks: tuple[list[dict[str, Any]], ...] = ()
    recorded: int = 0
    left_out: str = ""
    damage: tuple[str, ...] = ()

    @property
    def per_chunk(self) -> int:
        return _PER_CHUNK


def collect(results: Results) -> TraceSet:
    """Read the traces of a run, as many as a page can hold: every cell's worst grade first, then the others."""
    records = results.records
    recorded = records[records["trace"].notna() & records["run"].isin(list(results.folders))]
    if recorded.empty:
        return TraceSet()
    read: dict[int, Trace] = {}
    wrong: list[str] = []
    bytes_read = 0
    enough = False
    for index, run, name in _by_importance(recorded)[["run", "trace"]].itertuples():
        if len(read) == MAX_TRACES or bytes_read > MAX_READ_BYTES:
            enough = True
            break
        path = results.folders[run].traces_dir / name
        try:
            if Path(name).name != name:
                raise ValueError("a path, not the name of a file")
            bytes_read += path.stat().st_size
            read[index] = read_trace(path)
        except ValueError as error:
            wrong.append(
                f"{name[:80]} is {error}" if not str(error).startswith(("it", "a ")) else f"{name[:80]}: {error}"
            )
        except OSError as error:
            wrong.append(f"{name[:80]}: {error.strerror}")
    points = int(min(max(ALL_POINTS / max(len(read), 1), MIN_POINTS), MAX_POINTS))
    shown = records.loc[list(read)]
    shown = shown.assign(order=shown["cell_id"].map(_natural)).sort_values(["run", "order", "repeat"])
    made = [_drawn(row, read[index], points) for index, row in zip(shown.index, shown.to_dict("records"), strict=True)]
    entries = [
        {"run": row["run"], "cell": row["cell_id"], "repeat": int(row["repeat"]), "grade": row["grade"]}
        for row in shown[["run", "cell_id", "repeat", "grade"]].to_dict("records")
    ]
    return TraceSet(
        entries=tuple(entry | {"grade": None if missing(entry["grade"]) else entry["grade"]} for entry in entries),
        chunks=tuple(made[start : start + _PER_CHUNK] for start in range(0, len(made), _PER_CHUNK)),
        recorded=len(recorded),
        left_out=_left_out(len(read), len(recorded)) if enough else "",
        damage=_damage(wrong),
    )


def _natural(cell_id: str) -> tuple[tuple[int, str], ...]:
    """Sorts n=2 before n=10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", cell_id))


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
    more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    which = "1 power trace" if len(wrong) == 1 else f"{len(wrong)} power traces"
    return (f"{which} could not be read: {'; '.join(wrong[:NAMED])}{more}.",)


def _drawn(row: dict[Any, Any], trace: Trace, points: int) -> dict[str, Any]:
    """What the chart of one trace needs; times are seconds from the start of the work."""
    t_s, power_w = powers(trace)
    samples = len(t_s)
    origin_s = trace.moment_s("t0_s")
    origin_s = float(t_s[0]) if origin_s is None else origin_s
    kept = thin(power_w, points)
    moments = {name: trace.moment_s(name) for name in ("quiet_from_s", "t0_s", "t1_s", "quiet_until_s")}
    numbers = ("energy_gross_j", "energy_u_j", "energy_net_j", "idle_power_w", "executions")
    return {
        "t": _coded(t_s[kept] - origin_s),
        "p": _coded(power_w[kept]),
        "samples": samples,
        "counter": trace.kind == "counter",
        "moments": {name: None if value is None else round(value - origin_s, 4) for name, value in moments.items()},
        "source": trace.facts.get("source") or (None if missing(row["source"]) else row["source"]),
        "status": row["status"],
        "grade": None if missing(row["grade"]) else row["grade"],
        "flags": [flag for flag in str(row["flags"]).split(";") if flag],
        **{name: None if missing(row[name]) else float(f"{row[name]:.6g}") for name in numbers},
    }


def powers(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """(t_s, power_w) of a trace. A counter gives the mean power between two of its updates, at the end of each."""
    if trace.kind == "power":
        return trace.t_s, trace.values
    changed = np.flatnonzero(np.diff(trace.values) != 0) + 1
    updates = np.concatenate([[0], changed])
    if len(updates) < 2:
        return trace.t_s, np.zeros_like(trace.values)
    t_s, energy_j = trace.t_s[updates], trace.values[updates]
    return t_s[1:], np.diff(energy_j) / np.diff(t_s)


def thin(values: np.ndarray, points: int) -> np.ndarray:
    """Indices of at most `points` values that keep the lowest and the highest of each of equally long parts.

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


def _coded(values: np.ndarray) -> dict[str, Any]:
    """Numbers as whole steps, each the difference to the one before: they pack to a fourth of their text."""
    low, span = float(values.min()), float(np.ptp(values))
    step = span / _STEPS or 1.0
    whole = np.rint((values - low) / step).astype(int)
    return {"from": float(f"{low:.9g}"), "step": step, "d": np.diff(whole, prepend=0).tolist()}
