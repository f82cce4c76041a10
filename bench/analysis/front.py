"""Front: the arms of which none is as accurate for fewer joules, and the oracle beside them."""

from __future__ import annotations

import pandas as pd

from bench.analysis import wording
from bench.analysis.findings import Analysis
from bench.read.results import GROUP, NONE, UNTUNED

ORACLE = "oracle"
"""Row of the single block with the best mean test accuracy: known afterwards only, so never an arm that runs."""


def front(points: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each label's Pareto front: those for which no other is at least as accurate for fewer joules.

    Args:
        points: with columns energy_gross_j and accuracy; data where they are of several labels.
    """
    ordered = points.sort_values(["energy_gross_j", "accuracy"], ascending=[True, False])
    label = ordered["data"] if "data" in ordered else pd.Series("", ordered.index)
    best = pd.DataFrame({"label": label, "best": ordered.groupby(label)["accuracy"].cummax()})
    return ordered[(ordered["accuracy"] == best["best"]) & ~best.duplicated()]


def has_methods(analysis: Analysis) -> bool:
    """Whether arms of other methods than `fixed` are among the results."""
    return bool((analysis.blocks["role"] == "method").any())


def of_case(blocks: pd.DataFrame) -> pd.DataFrame:
    """The front of one data label and train size: arms with both figures, and the untuned model, which costs nothing.

    Args:
        blocks: rows of analysis.blocks of one case.
    """
    arms = blocks[~blocks["role"].isin(["average"]) & blocks["accuracy"].notna()]
    idle = arms[arms["arm"].isin([NONE, UNTUNED]) & arms["energy_gross_j"].isna()].assign(energy_gross_j=0.0)
    return front(pd.concat([idle, arms[arms["energy_gross_j"].notna()]]))


def oracles(analysis: Analysis) -> pd.DataFrame:
    """One row per (data, train_size) with several single blocks, where methods are compared too: `block`, figures."""
    if not has_methods(analysis):
        return analysis.blocks.iloc[:0].assign(block="")
    singles = analysis.blocks[(analysis.blocks["role"] == "single") & analysis.blocks["accuracy"].notna()]
    several = singles[singles.groupby(GROUP, sort=False)["arm"].transform("count") > 1]
    best = several.loc[several.groupby(GROUP, sort=False)["accuracy"].idxmax()]
    return best.assign(block=best["arm"], arm=ORACLE, role=ORACLE)


def front_sentences(analysis: Analysis, limit: int | None = None) -> list[str]:
    """One sentence per (data, train_size) where methods are compared: the front, from fewest joules on."""
    if not (has_methods(analysis) and analysis.quality.has_joules):
        return []
    told, several = [], analysis.shifts["data"].duplicated(keep=False).any()
    for shift in analysis.shifts.head(limit or len(analysis.shifts)).to_dict("records"):
        here = (analysis.blocks["data"] == shift["data"]) & (analysis.blocks["train_size"] == shift["train_size"])
        steps = [
            f"{row['arm']} {wording.percent(row['accuracy'])}"
            + (f" for {wording.joules(row['energy_gross_j'])}" if row["energy_gross_j"] else "")
            for row in of_case(analysis.blocks[here]).to_dict("records")
        ]
        if len(steps) > 1:
            size = f", {wording.size_label(shift['train_size'], shift['n_train'])}" if several else ""
            told.append(f"{shift['data']}{size}: on the front of accuracy against joules are {', '.join(steps)}.")
    return told
