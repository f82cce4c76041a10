"""The figures of a test session: for pytest-benchmark's `extra_info`, and as a table at the end."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.read.baselines import Brackets
from bench.store.manifest import Manifest
from bench.text import console, joule_scale

MAX_ROWS = 200
"""Tests in the table; the run folder and the JSON have them all."""

WIDTH = 1000
WORST = ("A", "B", "C", "X")


@dataclass
class Entry:
    """A test with records.

    Attributes:
        nodeid: of the test.
        run: name of the run that its records belong to.
        records: lines of cells.jsonl, as they were measured.
        extra_info: of pytest-benchmark, shared with its record.
        figures: means over the repeats; accuracies are fractions, energies J per execution, times s.
    """

    nodeid: str
    run: str
    records: list[dict[str, Any]]
    extra_info: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)

    def complete(self, manifest: Manifest) -> None:
        """Compute the figures, net joules between the idle baselines on both sides, which are known only now."""
        lines = copy.deepcopy(self.records)
        brackets = Brackets(manifest)
        for line in lines:
            brackets.move(line)
        joules = [line for line in lines if line["energy_gross_j"] is not None and line["grade"] != "X"]
        grades = [line["grade"] for line in lines if line["grade"] is not None]
        self.figures = {
            "cell_id": lines[0]["cell_id"],
            "accuracy_before": _mean(lines, "accuracy_before"),
            "accuracy_after": _mean(lines, "accuracy_after"),
            "time_s": _mean(lines, "train_time_s"),
            "energy_gross_j": _mean(joules, "energy_gross_j"),
            "energy_u_j": _mean(joules, "energy_u_j"),
            "energy_net_j": _mean(joules, "energy_net_j"),
            "energy_net_u_j": _mean(joules, "energy_net_u_j"),
            "energy_repeats": len(joules),
            "grade": max(grades, key=WORST.index) if grades else None,
            "flags": sorted({flag for line in lines for flag in line["flags"]}),
            "source": lines[0]["source"],
            "source_kind": next((line["source_kind"] for line in joules), None),
        }
        self.extra_info |= {**self.figures, "records": self.extra_info.pop("records")}  # what is long comes last


def summary_lines(
    entries: Sequence[Entry], manifests: Mapping[str, Manifest], folders: Mapping[str, Path]
) -> list[str]:
    """Format the table: per run its energy source, a row per test, and its folder."""
    lines: list[str] = []
    for run in dict.fromkeys(entry.run for entry in entries):
        mine = [entry for entry in entries if entry.run == run]
        source = manifests.get(run, Manifest()).source
        lines.append(f"{run}: {(source and source.why) or 'energy source not known'}")
        lines += _table(mine[:MAX_ROWS])
        if len(mine) > MAX_ROWS:
            lines.append(f"and {len(mine) - MAX_ROWS} more")
        if run in folders:
            lines.append(f"`jouletune report {folders[run]}` makes tables, figures and a page of it")
        lines.append("")
    if entries:
        lines.append(
            "joules: of one execution, mean of n; ±: expanded uncertainty of one (k = 2), and net: less idle power, in "
            "the same unit"
        )
    return lines


def _table(entries: Sequence[Entry]) -> list[str]:
    tuned = any(entry.figures["accuracy_after"] is not None for entry in entries)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("test", no_wrap=True)
    heads = ["before %", "after %"] if tuned else []
    for head in (*heads, "s", "joules", "±", "net", "n", "grade"):
        table.add_column(head, justify="right", no_wrap=True)
    for entry in sorted(entries, key=lambda entry: entry.nodeid):
        known = entry.figures
        size, unit = joule_scale(known["energy_gross_j"] or 0.0)
        accuracy = [_text(known[f"accuracy_{when}"], "{:.1f}", 100) for when in ("before", "after")] if tuned else []
        table.add_row(
            entry.figures["cell_id"],
            *accuracy,
            _text(known["time_s"], "{:.3g}"),
            _text(known["energy_gross_j"], f"{{:.4g}} {unit}", 1 / size),
            _text(known["energy_u_j"], "{:.2g}", 1 / size),
            _text(known["energy_net_j"], "{:.4g}", 1 / size),
            str(known["energy_repeats"] or len(entry.records)),
            known["grade"] or "-",
        )
    target = io.StringIO()
    # as pytest-benchmark's own: a name is worth more whole than within the terminal's width
    console(file=target, width=WIDTH, color_system=None).print(table)
    return [line.rstrip() for line in target.getvalue().splitlines()]


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [line[name] for line in lines if line[name] is not None]
    return sum(values) / len(values) if values else None


def _text(value: float | None, form: str, factor: float = 1) -> str:
    return "-" if value is None else form.format(value * factor)
