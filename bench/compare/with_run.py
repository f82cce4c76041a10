"""A run against another: accuracy paired by seed, joules by seed and repeat, wherever both have them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from bench.analysis.savings import BASES, PAIR, measured
from bench.compare import comparable
from bench.compare import notes as left_out
from bench.compare.comparison import Comparison, assemble
from bench.compare.differences import CELL, CELL_FACTS, contrast
from bench.compare.rules import Rules
from bench.compare.verdict import ACCURACY, JOULES, Measure, judge
from bench.errors import RequestError
from bench.read.results import Results


def compare_runs(run: Results, base: Results, rules: Rules) -> Comparison:
    """Every cell that both runs have.

    Raises:
        RequestError: they share no cell, or what `fail_on` asks for cannot be compared.
    """
    run, base = _numbered(run, base)
    facts, others = _facts(run.records), _facts(base.records)
    common = facts.index.intersection(others.index, sort=False)
    if common.empty:
        raise RequestError(
            f"RUN and BASE have no cell in common; RUN has {left_out.name_cells(facts, left_out.NAMED)}, "
            f"BASE has {left_out.name_cells(others, left_out.NAMED)}"
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
    cells = assemble(facts.loc[common], judged)
    unmatched = pd.concat([facts.drop(common).assign(only_in="RUN"), others.drop(common).assign(only_in="BASE")])
    return Comparison(
        run=run.runs[0],
        base=base.runs[0],
        published=False,
        measures=tuple(judged),
        cells=cells,
        unmatched=unmatched,
        headlines=(),
        warnings=tuple(left_out.refusal_warnings(run, base, cells, rules, refused)),
        notes=tuple(left_out.run_notes(run, base, cells, unmatched, rules)),
        rules=rules,
    )


def _numbered(run: Results, base: Results) -> tuple[Results, Results]:
    """Both with a column `cell`, the same number for the same CELL: grouping by it is faster than by two texts."""
    records = pd.concat([run.records[CELL], base.records[CELL]])
    codes = records.groupby(CELL, sort=False).ngroup().to_numpy()
    n = len(run.records)
    return (
        dataclasses.replace(run, records=run.records.assign(cell=codes[:n])),
        dataclasses.replace(base, records=base.records.assign(cell=codes[n:])),
    )


def _facts(records: pd.DataFrame) -> pd.DataFrame:
    facts = records.drop_duplicates("cell").set_index("cell")[CELL_FACTS]
    return facts.assign(n_train=records.groupby("cell")["n_train"].first())  # a repeat that failed early has none


def _any(results: Results, column: str) -> bool:
    return bool(results.records.loc[results.records["ok"], column].notna().any())


def _accuracy(run: Results, base: Results, rules: Rules, apart: pd.Series) -> pd.DataFrame:
    new, old = (_accuracy_of_seeds(side.records) for side in (run, base))
    # an accuracy moves by whole test images; a smaller margin could not be kept
    images = pd.concat([side.records[["cell", "n_test"]] for side in (run, base)])
    quantum = (1 / images.groupby("cell")["n_test"].min()).fillna(0.0)
    table = contrast(new, old, "accuracy_after", ["seed"], quantum=quantum)
    table["practical"] = rules.margins["accuracy"]
    table["margin"] = np.maximum(table["practical"], quantum.reindex(table.index).to_numpy())
    return _with_means(_judged(table, ACCURACY, apart), new, old, "accuracy_after")


def _accuracy_of_seeds(records: pd.DataFrame) -> pd.DataFrame:
    """Averaged over a seed's repeats first, which see the same images: the seed is the unit."""
    usable = records[records["ok"] & records["accuracy_after"].notna()]
    return usable.groupby(["cell", "seed"])["accuracy_after"].mean().reset_index()


def _judged(table: pd.DataFrame, measure: Measure, refused: pd.Series) -> pd.DataFrame:
    """The table with its verdicts; a condition with a reason in `refused` has none, and no change."""
    why = refused.reindex(table.index).fillna("")
    table.loc[why != "", ["change", "error", "degrees"]] = np.nan
    table = judge(table, measure)
    table.loc[why != "", ["verdict", "test"]] = ""
    table["why"] = table["why"].where(why == "", why)
    return table


def _joules(run: Results, base: Results, rules: Rules, refused: str, apart: pd.Series) -> pd.DataFrame:
    column = BASES[rules.basis]
    sides = [measured(side.records) for side in (run, base)]
    sides = [side[side[column] > 0] for side in sides]
    new, old = (side.groupby(["cell", *PAIR])[column].mean().reset_index() for side in sides)
    new["log"], old["log"] = np.log(new[column]), np.log(old[column])
    table = contrast(new, old, "log", PAIR, shared_noise=True)
    floors = [
        comparable.meter_floor(results, joules, rules.basis).reindex(table.index).fillna(0.0).to_numpy()
        for results, joules in zip((run, base), sides, strict=True)
    ]
    # symmetric on the scale of logarithms: what is worse one way is better the other way
    floor = np.hypot(*floors)
    table["margin"] = np.log1p(np.maximum(rules.margins["joules"], floor))
    table["practical"] = np.where(floor <= rules.margins["joules"], np.log1p(rules.margins["joules"]), np.nan)
    why = comparable.cell_refusals(*sides).reindex(table.index).fillna("")
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
    """With the mean of each side, also in cells that only one side has figures of."""
    means = [side.groupby("cell")[value].mean() for side in (run, base)]
    cells = means[0].index.union(means[1].index, sort=False)
    table = table.reindex(cells)
    return table.assign(run=means[0].reindex(cells), base=means[1].reindex(cells))


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
            reason = reasons[0] if reasons else f"{empty[0]} has none" if empty else "no cell has it on both sides"
            raise RequestError(
                f"--fail-on {measure.name} cannot be checked: {reason}"
                + ("; --across compares all the same" if reasons else "")
            )
