"""Compare two runs, condition by condition: what became better or worse, what stayed, and what is not known.

rules -> contrast -> verdict -> comparison, for another run (`runs`) or the published tables (`paper`); `show` prints
and writes it. A condition is data, train size and arm; its seeds and repeats are its repetitions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bench.compare.comparison import Comparison
from bench.compare.paper_terms import of_the_paper
from bench.compare.rules import Rules, make_rules
from bench.compare.with_paper import compare_with_paper
from bench.compare.with_run import compare_runs
from bench.errors import RequestError
from bench.read.results import Results, load

__all__ = ["Comparison", "Rules", "check_ranges", "compare", "load_run", "make_rules", "of_the_paper"]


def compare(run: Results, base: Results, rules: Rules | None = None) -> Comparison:
    """RUN against BASE, each the results of one run or the published tables.

    Raises:
        RequestError: they have nothing in common, a check cannot be made, or a record holds what no run can write.
    """
    rules = rules or Rules()
    for side in (run, base):
        check_ranges(side)
    compare_them = compare_with_paper if run.published or base.published else compare_runs
    comparison = compare_them(run, base, rules)
    return dataclasses.replace(comparison, notes=(*run.damage, *base.damage, *comparison.notes))


def load_run(given: Path | str) -> Results:
    """Results of a run folder, of pytest-benchmark's JSON, or of the published tables for the word `paper`.

    What is damaged in it is left out; the results say what.

    Raises:
        RequestError: there is none, or nothing of it can be read.
    """
    try:
        return load(given, skip_damaged=True)
    except OSError as error:
        raise RequestError(f"{given}: cannot be read ({error.strerror})") from None


def check_ranges(results: Results) -> None:
    """Refuse figures outside of their range, which would pass silently through means and intervals.

    Raises:
        RequestError: names the cell and the figure.
    """
    records = results.records
    accuracy = records["accuracy_after"]
    for name, wrong in (
        ("train_size", ~np.isfinite(records["train_size"]) | (records["train_size"] < 0)),
        ("accuracy_after", (accuracy < 0) | (accuracy > 1)),
        ("energy_gross_j", np.isinf(records["energy_gross_j"])),
        ("energy_net_j", np.isinf(records["energy_net_j"])),
    ):
        if wrong.any():
            cell_id, value = records.loc[wrong, ["cell_id", name]].iloc[0]
            raise RequestError(f"{results.runs[0]}: {cell_id} has {name} {value}; cells.jsonl is damaged")
