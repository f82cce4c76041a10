"""Compare a run with published tables of methods that choose neurons: accuracies at equal net, data and budget."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from bench.analysis.findings import analyse
from bench.catalog.paper import reference_dir
from bench.compare import notes as left_out
from bench.compare.comparison import Comparison, assemble
from bench.compare.differences import CONDITION
from bench.compare.rules import Rules
from bench.compare.verdict import ACCURACY
from bench.compare.with_paper import accuracies, condition_facts, judged
from bench.errors import RequestError
from bench.read.results import Results

TABLES: Mapping[str, str] = MappingProxyType({"neq-wacv24": "neq_wacv24.csv", "trady": "trady.csv"})
"""Word that stands for published tables as the BASE of a comparison -> their file: arXiv 2312.05282, 2510.19675."""

_NETS = {"mobilenet_v2": "mbv2"}
"""Model of a run -> what the tables call it, where that is another name."""

_SELECTIONS = {"velocity": "Velocity", "random": "Random", "static": "SU"}
BUDGET_TOLERANCE = 0.005
"""Relative: 675,540 is printed for a scheme of 675,840 weights."""


def compare_with_table(run: Results, name: str, rules: Rules) -> Comparison:
    """Compare the accuracies of a run with those of published tables; the rules are those of the paper's comparison.

    Args:
        run: with every field of a record.
        name: of TABLES.

    Raises:
        RequestError: nothing in common, or a check on joules, which the tables do not have.
    """
    if "joules" in rules.fail_on:
        raise RequestError(f"--fail-on joules cannot be checked against {name}: it has accuracies alone")
    table = pd.read_csv(reference_dir() / TABLES[name])
    analysis = analyse(run)
    facts = condition_facts(analysis)
    rows: dict[tuple[Any, ...], dict[str, float]] = {}
    for condition, part in run.records[run.records["ok"]].groupby(CONDITION, observed=True):
        found = _published(part.iloc[0], table, name)
        if found is not None:
            # over three seeds; the printed deviation counts in full, as in the comparison with the paper
            rows[condition] = {
                "mean_other": float(found["top1"]) / 100,
                "u_other": float(found["std"]) / 100,
                "degrees_other": math.inf,
            }
    shared = facts.index[[condition in rows for condition in facts.index]]
    if shared.empty:
        nets = ", ".join(sorted(table["net"].unique()))
        sets = ", ".join(sorted(table["dataset"].unique()))
        raise RequestError(
            f"nothing in common with {name}: it has {nets} on {sets}, at its budgets; the run has "
            f"{left_out.name_conditions(facts.reset_index(drop=True), left_out.NAMED)}"
        )
    theirs = pd.DataFrame([rows[condition] for condition in shared], index=shared)
    both = accuracies(run).reindex(shared).join(theirs)
    conditions = assemble(facts.loc[shared], {ACCURACY: judged(both, ACCURACY, rules, 1.0)}, published=True)
    alone = facts.drop(shared).assign(only_in="RUN").reset_index(drop=True)
    return Comparison(
        run=run.runs[0],
        base=name,
        published=True,
        measures=(ACCURACY,),
        conditions=conditions,
        unmatched=alone,
        headlines=(),
        warnings=(),
        notes=(
            *left_out.unmatched_notes(alone),
            f"{name} prints means over three seeds at the epoch that validates best; epochs, rates and images of the "
            "run may be others.",
        ),
        rules=rules,
    )


def _published(record: pd.Series, table: pd.DataFrame, name: str) -> Mapping[Any, Any] | None:
    """The row of a table for a condition; None where it has none."""
    net = _NETS.get(str(record["model"]), str(record["model"]))
    options, facts = (_mapping(record.get(key)) for key in ("options", "facts"))
    method, where = str(record["method"]), (table["net"] == net) & (table["dataset"] == str(record["plain"]))
    budget = float(facts.get("budget") or math.nan)
    if method == "fixed" and record["arm"] == "full":
        where &= table["method"] == "Baseline"
        found = table[where]
        return found.iloc[0].to_dict() if len(found) else None
    if name == "trady":
        where &= (table["method"] == "TRaDy") & (method == "trady")
        budgets = table["budget_units_weights_plus_activations"]
    else:
        select = options.get("select", "velocity")
        if method != "neq" or select not in _SELECTIONS:
            return None
        static = select == "static" or options.get("start") == "static"
        if select == "static" and options.get("scheme", "magnitude") == "magnitude":
            return None
        first = "table1_su_init" if static else "table2_random_init"
        where &= (table["method"] == _SELECTIONS[select]) & (table["table"] == first)
        budgets = table["budget_params"]
    found = table[where & ((budgets - budget).abs() <= BUDGET_TOLERANCE * budget)]
    return found.iloc[0].to_dict() if len(found) else None


def _mapping(value: Any) -> dict[str, Any]:
    """A field of a record that is plain data, or its JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def is_table(given: Path | str) -> bool:
    """Whether a word stands for such tables."""
    return str(given) in TABLES
