"""Headlines: the accuracy gain and the energy-saving rate of a run against the published ones, over the same cases."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from bench.analysis.findings import Analysis, analyse
from bench.analysis.statistics import Estimate, independent_error
from bench.analysis.wording import count, interval, missing, percent, points
from bench.compare.differences import MIN_REPETITIONS
from bench.compare.rules import Rules
from bench.compare.verdict import ACCURACY, SAVING, Measure, judge_published
from bench.read.results import AVERAGE, GROUP, Results

NARROW = {ACCURACY: 0.05, SAVING: 0.07}
"""Half widths up to which an interval can agree: wider ones would hold the published figure of another block too."""


def headline_sentences(
    mine: Results,
    analysis: Analysis,
    published: Analysis,
    labels: Mapping[Measure, Mapping[str, str]],
    *,
    rules: Rules,
    sign: float,
) -> list[str]:
    """One sentence for each of the two that the run has; the published mean goes over the run's cases only.

    Args:
        labels: data label of the run -> published label, per measure.
        sign: -1 where RUN is the published side, so that the difference is RUN - BASE.
    """
    said = []
    for measure, find in ((ACCURACY, _gain), (SAVING, _saving)):
        found = find(mine, analysis, published, labels[measure])
        if found is not None:
            whole = _whole(published, measure)
            said.append(_sentence(measure, found, whole, rules=rules, sign=sign, paper_itself=mine.published))
    return said


Found = tuple[Estimate, float, float, int]
"""The run's figure, the published mean over the same cases, its standard uncertainty, number of cases."""


def _gain(mine: Results, analysis: Analysis, published: Analysis, labels: Mapping[str, str]) -> Found | None:
    shifts = analysis.shifts[analysis.shifts["gain"].notna() & (analysis.shifts["level"] != "")]
    shifts = shifts.assign(label=shifts["data"].map(labels))
    theirs = published.shifts[[*GROUP, "gain", "target"]].rename(columns={"data": "label"})
    cases = shifts[[*GROUP, "label"]].merge(theirs.dropna(), on=["label", "train_size"])
    if cases.empty:
        return None
    sd = published.blocks.set_index([*GROUP, "arm"])["accuracy_sd"]
    spread = [
        math.hypot(sd[label, size, target], sd[label, size, AVERAGE])
        for label, size, target in cases[["label", "train_size", "target"]].itertuples(index=False)
    ]
    # the cases of a table share their runs: their spreads do not average out
    uncertainty = float(np.mean(spread))
    return _own(mine, cases, "gain"), float(cases["gain"].mean()), uncertainty, len(cases)


def _saving(mine: Results, analysis: Analysis, published: Analysis, labels: Mapping[str, str]) -> Found | None:
    own = analysis.blocks[(analysis.blocks["arm"] == AVERAGE) & analysis.blocks["saving_gross"].notna()]
    own = own.assign(label=own["data"].map(labels))
    rates = published.blocks[(published.blocks["arm"] == AVERAGE) & published.blocks["saving_gross"].notna()]
    cases = own[[*GROUP, "label"]].merge(rates.set_index("data")["saving_gross"], left_on="label", right_index=True)
    if cases.empty:
        return None
    return _own(mine, cases, "saving_average"), float(cases["saving_gross"].mean()), 0.0, len(cases)


def _own(mine: Results, cases: pd.DataFrame, headline: str) -> Estimate:
    records = mine.records.merge(cases[GROUP], on=GROUP)
    estimate: Estimate = getattr(analyse(dataclasses.replace(mine, records=records)).headlines, headline)
    return estimate


def _whole(published: Analysis, measure: Measure) -> tuple[float | None, int]:
    head = published.headlines
    if measure is ACCURACY:
        return head.gain.mean, head.gain_groups
    return head.saving_average.mean, head.saving_groups


def _sentence(
    measure: Measure,
    found: Found,
    whole: tuple[float | None, int],
    *,
    rules: Rules,
    sign: float,
    paper_itself: bool,
) -> str:
    own, printed, uncertainty, cases = found
    if paper_itself:
        u, own_degrees = uncertainty, math.inf
    else:
        known = own.sd is not None and own.n >= MIN_REPETITIONS
        u, own_degrees = (own.sd or 0.0) / math.sqrt(own.n) if known else math.nan, float(own.n - 1)
    error, degrees = independent_error(np.array([u]), own_degrees, np.array([uncertainty]), math.inf)
    margin = rules.margins["accuracy" if measure is ACCURACY else "joules"]
    change = sign * ((own.mean or 0.0) - printed)
    row = pd.DataFrame({"change": [change], "error": error, "degrees": degrees, "n": [own.n], "margin": [margin]})
    judged = judge_published(row, measure, narrow=NARROW[measure]).iloc[0]
    name, show = ("Accuracy gain", points) if measure is ACCURACY else ("Energy saved by Block Avg, gross", percent)
    text = f"{name}: {show(own.mean, 2)} against {show(printed, 2)} published over the same {count(cases, 'case')}"
    if whole[1] != cases and not missing(whole[0]):
        text += f" ({show(whole[0], 2)} over all {whole[1]})"
    spread = interval(judged["lo"], judged["hi"], 1)
    return f"{text}; difference {points(change)} {spread}".rstrip() + f" points: {judged['verdict']}."
