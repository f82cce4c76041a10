"""Describe what a comparison leaves out or refuses, counted and named, in sentences."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd

from bench.analysis.quality import NO_ENERGY, provenance
from bench.analysis.savings import measured
from bench.analysis.wording import MISSING, count, size_label
from bench.compare import comparable
from bench.compare.differences import MIN_REPETITIONS
from bench.compare.rules import Rules
from bench.read.results import Results

NAMED = 6
"""Conditions that a sentence names one by one; compare.csv has them all."""

_CHANGES = 5


def refusal_warnings(run: Results, base: Results, conditions: pd.DataFrame, rules: Rules, refused: str) -> list[str]:
    """Describe why accuracy or joules are not compared, or what --across compared all the same."""
    has_joules = "joules_verdict" in conditions
    if rules.across:
        crossed = [comparable.refusal(run, base)] if has_joules else []
        warnings = [f"Joules are compared across: {why}." for why in crossed if why]
        reasons = comparable.work_refusals(run, base)
        return [*warnings, *(f"Compared across: {why}." for why in reasons[reasons != ""].unique())]
    way_out = "--across compares them all the same."
    warnings = [f"Joules are not compared: {refused}. {way_out}"] if refused and has_joules else []
    for name in ("accuracy", *(() if refused else ("joules",))):
        if f"{name}_verdict" in conditions:
            parts = conditions[conditions[f"{name}_verdict"] == ""].groupby(f"{name}_why", sort=False)
            warnings += [
                f"{name.capitalize()} of {count(len(part), 'condition')} {'is' if name == 'accuracy' else 'are'} not "
                f"compared: {why}. {way_out}"
                for why, part in parts
            ]
    return warnings


def run_notes(
    run: Results, base: Results, conditions: pd.DataFrame, unmatched: pd.DataFrame, rules: Rules
) -> list[str]:
    """Describe what else a reader of one run against another must know."""
    notes = unmatched_notes(unmatched)
    for name, side in (("RUN", run), ("BASE", base)):
        notes += excluded_notes(name, side, rules)
    notes += _pairing(conditions)
    notes += _energy(run, base, conditions)
    if found := comparable.other_changes(run, base):
        more = f", and {len(found) - _CHANGES} more" if len(found) > _CHANGES else ""
        notes.append(f"Also changed from BASE to RUN: {'; '.join(found[:_CHANGES])}{more}.")
    return notes


def unmatched_notes(unmatched: pd.DataFrame) -> list[str]:
    """Count and name the conditions that only one side has."""
    parts = unmatched.groupby("only_in", sort=False)
    return [f"{count(len(part), 'condition')} only in {side}: {name_conditions(part, NAMED)}." for side, part in parts]


def excluded_notes(name: str, results: Results, rules: Rules) -> list[str]:
    """Count the repeats of one side that are in no figure, or in no joules."""
    records, joules = results.records, measured(results.records)
    done = records[records["ok"]]
    statuses = records["status"].value_counts()
    parts = [
        (int(statuses.get("failed", 0)), "failed"),
        (int(statuses.get("timeout", 0)), "ran out of time"),
        (int(((done["grade"] == "X") & done["energy_gross_j"].notna()).sum()), "of grade X, joules left out"),
    ]
    if len(joules):
        parts.append((int(done["energy_gross_j"].isna().sum()), "without joules"))
    if rules.basis == "net":
        parts.append((int((~(joules["energy_net_j"] > 0)).sum()), "without positive net joules"))
    counts = [f"{count(n, 'repeat')} {what}" for n, what in parts if n]
    return [f"{name}: {', '.join(counts)}."] if counts else []


def name_conditions(conditions: pd.DataFrame, limit: int) -> str:
    """'digits-noise 10 % block1, fc; digits-flip 10 % full', or more than `limit` as 'digits-noise (18)'.

    Takes CONDITION and n_train.
    """
    if len(conditions) > limit:
        sizes = conditions.groupby("data", sort=False).size()
        more = f" and {len(sizes) - limit} more" if len(sizes) > limit else ""
        return ", ".join(f"{data} ({n})" for data, n in sizes.head(limit).items()) + more
    shown: dict[str, list[str]] = {}
    for row in conditions.to_dict("records"):
        shown.setdefault(place(row), []).append(str(row["arm"]))
    return "; ".join(f"{where} {', '.join(arms)}" for where, arms in shown.items())


def place(row: dict[Hashable, Any]) -> str:
    """Data and train size of a row."""
    size = size_label(row["train_size"], row.get("n_train"))
    return str(row["data"]) if size == MISSING else f"{row['data']} {size}"


def _pairing(conditions: pd.DataFrame) -> Iterable[str]:
    for name, noun in (("accuracy", "seed"), ("joules", "repeat")):
        if f"{name}_test" not in conditions:
            continue
        test = conditions[f"{name}_test"]
        welch = int((test == "Welch").sum())
        if welch:
            yield (
                f"{name.capitalize()} of {count(welch, 'condition')}: fewer than {MIN_REPETITIONS} pairs in common, so "
                "compared as two samples (Welch)."
            )
        alone = int(conditions.loc[test == "paired", f"{name}_unpaired"].sum())
        if alone:
            yield f"{name.capitalize()}: {count(alone, noun)} without a partner in the other run, left out."
    if "joules_test" in conditions:
        one = int(((conditions["joules_test"] != "") & (conditions["joules_seeds"] == 1)).sum())
        if one:
            yield f"Joules of {count(one, 'condition')} are of one seed: their intervals hold for that seed only."


def _energy(run: Results, base: Results, conditions: pd.DataFrame) -> Iterable[str]:
    if "joules_verdict" not in conditions:
        yield "Neither run has joules: only accuracy is compared."
        return
    new, old = provenance(run.records), provenance(base.records)
    for name, words in (("RUN", new), ("BASE", old)):
        if words == NO_ENERGY:
            yield f"{name} has no joules."
    if NO_ENERGY not in (new, old):
        yield f"Joules of both: {new}." if new == old else f"Joules of RUN: {new}; of BASE: {old}."
