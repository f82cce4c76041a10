"""Compare two runs, condition by condition: what became better or worse, what stayed, and what is not known.

rules -> contrast -> verdict -> comparison, for another run (`runs`) or the published tables (`paper`); `show` prints
and writes it. A condition is data, train size and arm; its seeds and repeats are its repetitions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bench.compare.comparison import Comparison
from bench.compare.paper_terms import of_the_paper
from bench.compare.rules import Rules, make_rules
from bench.compare.with_paper import compare_with_paper
from bench.compare.with_run import compare_runs
from bench.compare.with_table import compare_with_table, is_table
from bench.errors import RequestError
from bench.read.columns import EVERY_FIELD, READ
from bench.read.results import Results, load

__all__ = ["Comparison", "Rules", "compare", "compare_named", "load_run", "make_rules", "of_the_paper"]


def compare(run: Results, base: Results, rules: Rules | None = None) -> Comparison:
    """Compare RUN with BASE, each the results of one run or the published tables.

    Raises:
        RequestError: they have nothing in common, or a check cannot be made.
    """
    rules = rules or Rules()
    compare_them = compare_with_paper if run.published or base.published else compare_runs
    comparison = compare_them(run, base, rules)
    return dataclasses.replace(comparison, notes=(*run.damage, *base.damage, *comparison.notes))


def compare_named(run: Path | str, base: Path | str, rules: Rules) -> Comparison:
    """Compare RUN with BASE, given as `load_run` takes them; BASE may also be a word of `with_table.TABLES`.

    Raises:
        RequestError: as `compare`.
    """
    if not is_table(base):
        return compare(load_run(run), load_run(base), rules)
    results = load_run(run, EVERY_FIELD)
    comparison = compare_with_table(results, str(base), rules)
    return dataclasses.replace(comparison, notes=(*results.damage, *comparison.notes))


def load_run(given: Path | str, columns: Sequence[str] = READ) -> Results:
    """Load a run folder, a file of pytest-benchmark, or the published tables for the word `paper`.

    What is damaged in it is left out; the results say what.

    Raises:
        RequestError: there is none, or nothing of it can be read.
    """
    try:
        return load(given, skip_damaged=True, columns=columns)
    except OSError as error:
        raise RequestError(f"{given}: cannot be read ({error.strerror})") from None
