"""Compare two runs: accuracy paired by seed, joules by seed and repeat, wherever both have them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from bench.analysis.meter_terms import of_two, with_terms
from bench.analysis.savings import BASES, PAIR, measured
from bench.compare import comparable
from bench.compare import notes as left_out
from bench.compare.comparison import Comparison, assemble
from bench.compare.differences import CONDITION, CONDITION_FACTS, contrast
from bench.compare.rules import Rules
from bench.compare.verdict import ACCURACY, JOULES, Measure, judge
from bench.errors import RequestError
from bench.read.results import Results


def compare_runs(run: Results, base: Results, rules: Rules) -> Comparison:
    """Compare every condition that both runs have.

    Raises:
        RequestError: they share no condition, or what `fail_on` asks for cannot be compared.
    """
    run, base = _numbered(run, base)
    facts, others = _facts(run.records), _facts(base.records)
    common = facts.index.intersection(others.index, sort=False)
    if common.empty:
        raise RequestError(
            f"RUN and BASE have no condition in common; RUN has {left_out.name_conditions(facts, left_out.NAMED)}, "
            f"BASE has {left_out.name_conditions(others, left_out.NAMED)}"
        )
    refused = "" if rules.across else comparable.refusal(run, base)
    apart = comparable.work_refusals(run, base)
    if rules.across:
        apart[:] = ""
    judged: dict[Measure, pd.DataFrame] = {}
    if _any(run, "accuracy_after") or _any(base, "accuracy_after"):
        judged[ACCURACY] = _accuracy(run, base, rules, apart)
    if run.records["measured"].any() or base.records["measured"].any():
        judged[JOULES] = _joules(run, base, rules, refused, apart)
    if not judged:
        raise RequestError("neither RUN nor BASE has a result that could be compared; every repeat failed")
    _answerable(judged, rules)
    conditions = assemble(facts.loc[common], judged)
    unmatched = pd.concat([facts.drop(common).assign(only_in="RUN"), others.drop(common).assign(only_in="BASE")])
    return Comparison(
        run=run.runs[0],
        base=base.runs[0],
        published=False,
        measures=tuple(judged),
        conditions=conditions,
        unmatched=unmatched,
        headlines=(),
        warnings=tuple(left_out.refusal_warnings(run, base, conditions, rules, refused)),
        notes=tuple(left_out.run_notes(run, base, conditions, unmatched, rules)),
        rules=rules,
    )


def _numbered(run: Results, base: Results) -> tuple[Results, Results]:
    """Number the conditions of both alike, in a column `condition`: grouping by it is faster than by two texts."""
    records = pd.concat([run.records[CONDITION], base.records[CONDITION]])
    codes = records.groupby(CONDITION, sort=False).ngroup().to_numpy()
    n = len(run.records)
    return (
        dataclasses.replace(run, records=run.records.assign(condition=codes[:n])),
        dataclasses.replace(base, records=base.records.assign(condition=codes[n:])),
    )


def _facts(records: pd.DataFrame) -> pd.DataFrame:
    facts = records.drop_duplicates("condition").set_index("condition")[CONDITION_FACTS]
    return facts.assign(n_train=records.groupby("condition")["n_train"].first())  # a repeat that failed early has none


def _any(results: Results, column: str) -> bool:
    return bool(results.records.loc[results.records["ok"], column].notna().any())


def _accuracy(run: Results, base: Results, rules: Rules, apart: pd.Series) -> pd.DataFrame:
    new, old = (_accuracy_of_seeds(side.records) for side in (run, base))
    # an accuracy moves by whole test images; a smaller margin could not be kept
    images = pd.concat([side.records[["condition", "n_test"]] for side in (run, base)])
    quantum = (1 / images.groupby("condition")["n_test"].min()).fillna(0.0)
    table = contrast(new, old, "accuracy_after", quantum=quantum)
    table["practical"] = rules.margins["accuracy"]
    table["margin"] = np.maximum(table["practical"], quantum.reindex(table.index).to_numpy())
    return _with_means(_judged(table, ACCURACY, apart), new, old, "accuracy_after")


def _accuracy_of_seeds(records: pd.DataFrame) -> pd.DataFrame:
    """Average accuracy over the repeats of a seed, which see the same images: the seed is the unit."""
    usable = records[records["ok"] & records["accuracy_after"].notna()]
    return usable.groupby(["condition", "seed"])["accuracy_after"].mean().reset_index().assign(repeat=0)


def _judged(table: pd.DataFrame, measure: Measure, refused: pd.Series) -> pd.DataFrame:
    """Judge a table; a condition with a reason in `refused` gets no verdict and no change."""
    why = refused.reindex(table.index).fillna("")
    table.loc[why != "", ["change", "error", "degrees", "test_error", "test_degrees"]] = np.nan
    table = judge(table, measure)
    table.loc[why != "", ["verdict", "test"]] = ""
    table["why"] = table["why"].where(why == "", why)
    return table


def _joules(run: Results, base: Results, rules: Rules, refused: str, apart: pd.Series) -> pd.DataFrame:
    column = BASES[rules.basis]
    sides = [measured(with_terms(side)) for side in (run, base)]
    sides = [side[side[column] > 0].reset_index(drop=True) for side in sides]
    new, old = (side[["condition", *PAIR, column]].assign(log=np.log(side[column])) for side in sides)
    same_meter = not (rules.across and comparable.another_meter(run, base))
    shared = of_two(sides[0], sides[1], rules.basis, same_meter=same_meter)
    table = contrast(new, old, "log", shared_noise=True, shared=shared)
    floors = [
        comparable.meter_floor(results, joules, rules.basis).reindex(table.index).fillna(0.0).to_numpy()
        for results, joules in zip((run, base), sides, strict=True)
    ]
    # symmetric on the scale of logarithms: what is worse one way is better the other way
    floor = np.hypot(*floors)
    table["margin"] = np.log1p(np.maximum(rules.margins["joules"], floor))
    table["practical"] = np.where(floor <= rules.margins["joules"], np.log1p(rules.margins["joules"]), np.nan)
    why = (
        comparable.condition_refusals(sides[0], sides[1], (run.manifests[0], base.manifests[0]))
        .reindex(table.index)
        .fillna("")
    )
    why = apart.reindex(table.index).fillna("").mask(lambda found: found == "", why)
    if rules.across:
        why[:] = ""
    if refused:
        why[:] = refused
    table = _judged(table, JOULES, why)
    for name in ("change", "lo", "hi", "margin"):
        table[name] = np.expm1(table[name])
    return _with_means(table, new, old, column)


def _with_means(table: pd.DataFrame, run: pd.DataFrame, base: pd.DataFrame, value: str) -> pd.DataFrame:
    """Add the mean of each side, also for conditions that only one side has figures of."""
    means = [side.groupby("condition")[value].mean() for side in (run, base)]
    conditions = means[0].index.union(means[1].index, sort=False)
    table = table.reindex(conditions)
    return table.assign(run=means[0].reindex(conditions), base=means[1].reindex(conditions))


def _answerable(judged: dict[Measure, pd.DataFrame], rules: Rules) -> None:
    """A check that cannot be made must not pass in silence."""
    for measure in (ACCURACY, JOULES):
        if measure.name not in rules.fail_on:
            continue
        table = judged.get(measure)
        if table is None:
            raise RequestError(f"--fail-on {measure.name}: neither run has any {measure.name}; leave it out")
        compared = table["verdict"].notna() & (table["verdict"] != "")
        if not compared.any():
            reasons = [why for why in table["why"].dropna().unique() if why]
            empty = [name for name, side in (("RUN", "run"), ("BASE", "base")) if table[side].isna().all()]
            reason = reasons[0] if reasons else f"{empty[0]} has none" if empty else "no condition has it on both sides"
            raise RequestError(
                f"--fail-on {measure.name} cannot be checked: {reason}"
                + ("; --across compares all the same" if reasons else "")
            )
