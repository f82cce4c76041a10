"""The first answer's power trace as a small drawing beside it: window, phases and idle baseline."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.answers import Answer
from bench.analysis.sentences import arm_name
from bench.analysis.wording import joules, missing, size_label
from plots.page.trace_data import PER_CHUNK, TraceSet, thin

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 420.0, 170.0, 22.0, 6.0
_POINTS = 300


def claim(answers: Sequence[Answer], cells: pd.DataFrame, traces: TraceSet) -> dict[str, Any] | None:
    """Make the drawing of a trace of the arm that the first answer with one names; None where there is none."""
    index = {(entry["run"], entry["cell"]): n for n, entry in reversed([*enumerate(traces.entries)])}
    for answer in answers:
        first = (
            answer.full
            if answer.kind == "full"
            else answer.single
            if answer.kind in ("single", "tie")
            else answer.leader
        )
        if first is None:
            continue
        mine = (cells["data"] == answer.data) & (cells["train_size"] == answer.train_size) & (cells["arm"] == first.arm)
        for run, cell in cells.loc[mine, ["run", "cell_id"]].itertuples(index=False):
            if (run, cell) in index:
                number = index[run, cell]
                trace = traces.chunks[number // PER_CHUNK][number % PER_CHUNK]
                what = f"{arm_name(first)}, {answer.data}, {size_label(answer.train_size, answer.n_train)}"
                return _drawing(trace, what, traces.entries[number])
    return None


def _decoded(numbers: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(numbers["from"] + numbers["step"] * np.cumsum(numbers["d"]), dtype=float)


def _drawing(trace: Mapping[str, Any], what: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    t_s, power_w = _decoded(trace["t"]), _decoded(trace["p"])
    kept = thin(power_w, _POINTS)
    t_s, power_w = t_s[kept], power_w[kept]
    low, high = min(0.0, float(power_w.min())), float(power_w.max()) or 1.0
    start, end = float(t_s[0]), float(t_s[-1])

    def x(moment: float) -> float:
        return round(_WIDTH * min(max((moment - start) / max(end - start, 1e-9), 0.0), 1.0), 1)

    def y(power: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (power - low) / max(high - low, 1e-9)), 1)

    moments = trace["moments"]
    path = "".join(f"{'L' if n else 'M'}{x(t)} {y(p)}" for n, (t, p) in enumerate(zip(t_s, power_w, strict=True)))
    t0_s, t1_s, idle_w = moments["t0_s"], moments["t1_s"], trace["idle_power_w"]
    names = list(dict.fromkeys(name for name, *_ in trace["phases"]))
    facts = [
        None if t0_s is None or t1_s is None else f"window {t1_s - t0_s:.3g} s",
        None if missing(trace["energy_gross_j"]) else f"{joules(trace['energy_gross_j'])} each execution",
        f"highest {high:.3g} W",
        None if missing(idle_w) else f"idle {idle_w:.3g} W, dashed",
        f"grade {trace['grade']}" if trace["grade"] else None,
    ]
    return {
        "width": f"{_WIDTH:g}",
        "height": f"{_HEIGHT:g}",
        "path": path,
        "window": None if t0_s is None or t1_s is None else (x(t0_s), round(x(t1_s) - x(t0_s), 1)),
        "idle": None if missing(idle_w) else y(min(max(float(idle_w), low), high)),
        "phases": [
            {"x": x(t0), "width": round(x(t1) - x(t0), 1), "name": name, "tone": names.index(name) % 4}
            for name, t0, t1 in trace["phases"]
        ],
        "names": [{"name": name, "tone": n % 4} for n, name in enumerate(itertools.islice(names, 8))],
        "what": what,
        "caption": f"Power of {what}, {entry['cell']} repeat {entry['repeat']}: "
        f"{', '.join(fact for fact in facts if fact)}. All traces stand under Power traces.",
    }
