"""Hold the outcome of a comparison of two runs, and tell what fails a check."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.compare.differences import CONDITION
from bench.compare.rules import Rules
from bench.compare.verdict import DIFFERS, NOT_ENOUGH, ORDER, WORSE, Measure, worst

FIGURES = (
    "run", "base", "change", "lo", "hi", "margin", "n", "seeds", "degrees", "test", "unpaired", "p", "p_holm",
    "verdict", "why",
)  # fmt: skip
"""Figures of one measure in one condition; their columns are MEASURE_FIGURE."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Outcome of comparing RUN with BASE.

    Attributes:
        run, base: what they are called.
        published: whether one of them is the published tables; then verdicts are agrees and differs.
        measures: what is compared, in the order of the columns.
        conditions: one row per condition that both have, worst first: data, train_size, arm, level, n_train, role,
            verdict, and per measure FIGURES. Changes, ends of intervals and margins are fractions: of BASE's joules, or
            0.01 for a point. verdict is '' where a measure was not compared, and why says the reason.
        unmatched: the conditions that only one of them has, `only_in` RUN or BASE.
        headlines: sentences on the run as a whole; only against published figures.
        warnings: sentences on joules that were not compared, or only because --across asked for it.
        notes: sentences on what was left out or differs besides.
        rules: what it went by.
    """

    run: str
    base: str
    published: bool
    measures: tuple[Measure, ...]
    conditions: pd.DataFrame
    unmatched: pd.DataFrame
    headlines: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    rules: Rules

    def counts(self, measure: Measure | None = None) -> dict[str, int]:
        """Count conditions per verdict, of one measure or of each condition's worst; without verdicts of none."""
        column = "verdict" if measure is None else f"{measure.name}_verdict"
        found = self.conditions[column].value_counts()
        return {word: int(found[word]) for word in ORDER if word in found}

    def failing(self) -> pd.DataFrame:
        """List conditions that are worse by at least what `fail_on` allows: CONDITION, n_train, measure, change."""
        columns = [*CONDITION, "n_train", "measure", "change"]
        parts = []
        for measure in self.measures:
            limit = self.rules.fail_on.get(measure.name)
            if limit is None:
                continue
            change = self.conditions[f"{measure.name}_change"]
            bad = (change < 0) if measure.more_is_better else (change > 0)
            sure = self.conditions[f"{measure.name}_verdict"].isin([WORSE, DIFFERS])
            part = self.conditions.assign(measure=measure.name, change=change)[bad & sure & (change.abs() >= limit)]
            parts.append(part[columns])
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def assemble(facts: pd.DataFrame, judged: dict[Measure, pd.DataFrame], *, published: bool = False) -> pd.DataFrame:
    """Join `facts` (columns CONDITION_FACTS) with the figures and verdict of each measure; worst conditions first.

    A condition that a measure has no row for was not measured on one side. Against published figures a difference is as
    bad in one direction as in the other.
    """
    table = facts.copy()
    for measure, figures in judged.items():
        part = figures.reindex(facts.index).reindex(columns=FIGURES)
        part["verdict"] = part["verdict"].fillna(NOT_ENOUGH)
        blank = part["why"].isna()
        part.loc[blank, "why"] = [_absent(row) for row in part.loc[blank, ["run", "base"]].itertuples(index=False)]
        part[["test", "why"]] = part[["test", "why"]].fillna("")
        part[["n", "seeds", "degrees", "unpaired"]] = part[["n", "seeds", "degrees", "unpaired"]].astype(float)
        part.columns = pd.Index([f"{measure.name}_{figure}" for figure in FIGURES])
        table = table.join(part)
    table["verdict"] = worst(table[[f"{measure.name}_verdict" for measure in judged]])
    severity = pd.concat([_severity(table, measure, published) for measure in judged], axis=1).max(axis=1)
    order = table.assign(rank=table["verdict"].map(ORDER.index), severity=-severity.fillna(0.0))
    return table.loc[order.sort_values(["rank", "severity"], kind="stable").index].reset_index(drop=True)


def _severity(table: pd.DataFrame, measure: Measure, published: bool) -> pd.Series:
    """Size of a change for the worse in practical margins, so that points and percent have one order."""
    change = table[f"{measure.name}_change"].astype(float) / table[f"{measure.name}_margin"].astype(float)
    if published:
        return change.abs()
    return -change if measure.more_is_better else change


def _absent(sides: tuple[float, float]) -> str:
    missing = [name for name, value in zip(("RUN", "BASE"), sides, strict=True) if pd.isna(value)]
    return f"no figure in {' and '.join(missing)}" if missing else "no interval"
