"""Compare a run with the published tables: accuracies, energy-saving rates and the headlines.

The published joules are of one step on one image on another device. What can be compared are the rates they give.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from bench.analysis.accuracy import accuracy_table, by_seed
from bench.analysis.clusters import Floats
from bench.analysis.findings import Analysis, analyse
from bench.analysis.meter_terms import Basis, with_terms
from bench.analysis.savings import average_ratios, log_ratios, of_arms
from bench.analysis.statistics import Estimate, independent_error, t_test
from bench.analysis.wording import count, interval, missing, percent, points
from bench.compare import notes as left_out
from bench.compare.comparison import Comparison, assemble
from bench.compare.differences import CONDITION, CONDITION_FACTS, MIN_REPETITIONS
from bench.compare.paper_terms import cost_labels, in_published_terms, plain_label, published_label
from bench.compare.rules import Rules
from bench.compare.verdict import ACCURACY, NOT_ENOUGH, SAVING, Measure, judge
from bench.errors import RequestError
from bench.read.published import DATA, PIXELS, cost_label
from bench.read.results import AVERAGE, GROUP, Results

Column = pd.Series | np.ndarray
"""Figures of conditions, in their order."""

PUBLISHED_MODEL = "resnet26"

NARROW = {ACCURACY: 0.05, SAVING: 0.07}
"""Half widths up to which an interval can agree: wider ones would hold the published figure of another block too."""


def compare_with_paper(run: Results, base: Results, rules: Rules) -> Comparison:
    """Compare every condition that the run shares with the published tables; one of the two is `paper`, or both.

    Raises:
        RequestError: nothing in common, or a check on joules.
    """
    if "joules" in rules.fail_on:
        raise RequestError(
            "--fail-on joules cannot be checked against the published tables: their joules are of one step on one "
            "image; use accuracy, e.g. --fail-on accuracy:1"
        )
    mine, theirs = (base, run) if run.published else (run, base)
    mine, theirs, made = in_published_terms(mine, theirs)
    sign = -1.0 if run.published else 1.0
    labels = _published_labels(mine)
    others = [name for name in mine.records["model"].dropna().unique() if name != PUBLISHED_MODEL]
    if "accuracy" in rules.fail_on and others and not rules.across:
        raise RequestError(
            f"--fail-on accuracy cannot be checked: another model ({PUBLISHED_MODEL} published, {others[0]} in the "
            "run); --across compares all the same"
        )
    analysis, published = analyse(mine), analyse(theirs)
    facts = condition_facts(analysis)
    figures = {
        ACCURACY: _matched(accuracies(mine), accuracies(theirs), labels[ACCURACY]),
        SAVING: _matched(_savings(mine, rules.basis), _savings(theirs, "gross"), labels[SAVING]),
    }
    shared = facts.index[[any(condition in part.index for part in figures.values()) for condition in facts.index]]
    if shared.empty:
        names = ", ".join(sorted({label for _, _, label in DATA.values()}))
        raise RequestError(
            f"nothing in common with the published tables: they have {names} at 10, 20 and 30 %, the run has "
            f"{left_out.name_conditions(facts.reset_index(drop=True), left_out.NAMED)}"
        )
    verdicts = {
        measure: judged(part.reindex(shared), measure, rules, sign) for measure, part in figures.items() if len(part)
    }
    conditions = assemble(facts.loc[shared], verdicts, published=True)
    alone = facts.iloc[:0] if mine.published else facts.drop(shared)  # a rate has `full` in it, and none of its own
    unmatched = _unmatched(alone, published, shared, labels[ACCURACY], run_is_paper=run.published)
    return Comparison(
        run=run.runs[0],
        base=base.runs[0],
        published=True,
        measures=tuple(verdicts),
        conditions=conditions,
        unmatched=unmatched,
        headlines=tuple(headline_sentences(mine, analysis, published, labels, rules=rules, sign=sign)),
        warnings=(),
        notes=(*_notes(mine, labels, unmatched, rules, "BASE" if run.published else "RUN"), *made),
        rules=rules,
    )


def _published_labels(mine: Results) -> dict[Measure, dict[str, str]]:
    """Map data labels of the run to those of the published accuracies, and of the published costs.

    By dataset and shift, or by the plain label: without the copy of the data, e.g. ' (JPEG)', that it may carry.
    """
    if mine.published:
        own = {label: label for label in mine.records["data"].unique()}
        return {ACCURACY: own, SAVING: own}
    datasets = {label: dataset for dataset, _, label in DATA.values()}
    accuracy: dict[str, str] = {}
    for data, dataset, shift, target in mine.records[["data", "dataset", "shift", "target"]].drop_duplicates().values:
        label = published_label(plain_label(data), dataset, shift, target)
        if label is not None:
            accuracy[data] = label
    costs = {data: cost_label(PIXELS[datasets.get(label, "cifar10")]) for data, label in accuracy.items()}
    known = cost_labels()
    ways = mine.records[["data", "plain"]].drop_duplicates().to_numpy()
    steps = {data: known[plain] for data, plain in ways if plain in known}
    return {ACCURACY: accuracy, SAVING: costs | steps}


def condition_facts(analysis: Analysis) -> pd.DataFrame:
    """CONDITION_FACTS of every condition, by condition."""
    facts = analysis.blocks[[*CONDITION, "role", "level"]].merge(
        analysis.shifts[[*GROUP, "n_train"]], on=GROUP, how="left"
    )
    return facts.set_index(CONDITION, drop=False)[CONDITION_FACTS]


def accuracies(results: Results) -> pd.DataFrame:
    """Compute mean, u (standard uncertainty), degrees and n of the accuracy per condition, Block Avg included."""
    records = results.records
    table = accuracy_table(records, by_seed(records))
    table = table[["accuracy", "accuracy_sd", "accuracy_n"]].set_axis(["mean", "sd", "n"], axis=1)
    return _uncertain(table[table["mean"].notna()], results.published)


def _savings(results: Results, basis: Basis) -> pd.DataFrame:
    """mean of the energy-saving rate per condition, and n; log, error, common and degrees of the energies' ratio."""
    records = with_terms(results)
    ratios = log_ratios(records, basis)
    table = of_arms(ratios, average_ratios(records, ratios))
    known = (table["n"] >= MIN_REPETITIONS) & (not results.published)
    return pd.DataFrame(
        {
            "mean": 1 - np.exp(table["mean"]),
            "log": table["mean"],
            "error": (table["sd"] / np.sqrt(table["n"])).where(known),
            "common": table["common"],
            "degrees": (table["n"] - 1.0).where(known),
            "n": np.nan if results.published else table["n"].astype(float),
        }
    )


def _uncertain(table: pd.DataFrame, published: bool) -> pd.DataFrame:
    if published:
        # over how many runs a printed mean goes is not stated: its standard deviation counts in full, as of one run
        return table.assign(u=table["sd"].fillna(0.0), degrees=math.inf, n=math.nan)
    known = table["n"] >= MIN_REPETITIONS
    return table.assign(
        u=(table["sd"] / np.sqrt(table["n"])).where(known), degrees=(table["n"] - 1).astype(float).where(known)
    )


def _matched(mine: pd.DataFrame, theirs: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Join conditions of `mine` with those of `theirs`; a published cost has no train size and goes with each."""
    mine = mine.reset_index()
    mine = mine.assign(label=mine["data"].map(labels).astype("str"))
    other = theirs.reset_index().rename(columns={"data": "label"})
    costs = other["label"].isin([cost_label(pixels) for pixels in PIXELS.values()]).all()
    keys = ["label", "arm"] if costs else ["label", "train_size", "arm"]
    columns = [*keys, *(name for name in ("mean", "u", "degrees") if name in other)]
    return mine.merge(other[columns], on=keys, suffixes=("", "_other")).set_index(CONDITION)


def judged(table: pd.DataFrame, measure: Measure, rules: Rules, sign: float) -> pd.DataFrame:
    """Judge each condition's `mean` against `mean_other`; for accuracies also u and degrees of both.

    Args:
        sign: -1 where RUN is the published side.
    """
    name = "accuracy" if measure is ACCURACY else "joules"
    facts = pd.DataFrame(
        {
            "change": sign * (table["mean"] - table["mean_other"]),
            "n": table["n"],
            "degrees": table["degrees"],
            "unpaired": 0,
            "margin": rules.margins[name],
        },
        index=table.index,
    )
    if measure is ACCURACY:
        error, degrees = independent_error(
            table["u"].to_numpy(),
            table["degrees"].to_numpy(),
            table["u_other"].to_numpy(),
            table["degrees_other"].to_numpy(),
        )
        few = table["u"].isna()
        facts = facts.assign(error=np.where(few, np.nan, error), degrees=degrees)
    else:
        # a printed rate has no spread; that its times are rounded to 0.01 s is within the margin of 2 points
        few = table["mean"].isna() if table["n"].isna().all() else table["error"].isna()
        lo, hi, p = _rate_test(table, table["mean_other"], sign)
        own = table["n"].isna().to_numpy()  # the published tables against themselves
        facts = facts.assign(
            lo=np.where(own, facts["change"], lo), hi=np.where(own, facts["change"], hi), p=np.where(own, 1.0, p)
        )
    facts["test"] = np.where(few, "", "published")
    found = judge(facts, measure, narrow=NARROW[measure])
    sides = (table["mean"], table["mean_other"])
    found["run"], found["base"] = sides if sign > 0 else sides[::-1]
    absent = table["mean_other"].isna()
    found["verdict"] = found["verdict"].mask(absent, "")
    found["why"] = found["why"].mask(absent, "not published").mask((found["verdict"] != NOT_ENOUGH) & ~absent, "")
    return found


def _rate_test(rate: pd.DataFrame, printed: Column, sign: float) -> tuple[Floats, Floats, Floats]:
    """Ends of the interval and p of a rate less the printed one: those of the ratio's logarithm, transformed back.

    Args:
        rate: log, error, degrees and common.
    """
    log, error, degrees, common = (rate[name].to_numpy(dtype=float) for name in ("log", "error", "degrees", "common"))
    other = np.asarray(printed, dtype=float)
    low, high, _ = t_test(log, error, degrees, common=common)
    _, _, p = t_test(log - np.log1p(-other), error, degrees, common=common)
    ends = sign * (1 - np.exp(high) - other), sign * (1 - np.exp(low) - other)
    lo, hi = ends if sign > 0 else ends[::-1]
    return lo, hi, p


def _unmatched(
    mine: pd.DataFrame, published: Analysis, shared: pd.Index, labels: dict[str, str], *, run_is_paper: bool
) -> pd.DataFrame:
    theirs = condition_facts(published)
    accuracies = published.blocks["accuracy"].notna().to_numpy()
    used = {(labels.get(data, ""), size, arm) for data, size, arm in shared}
    theirs = theirs[accuracies & np.array([condition not in used for condition in theirs.index])]
    names = ("BASE", "RUN") if run_is_paper else ("RUN", "BASE")
    parts = [part.assign(only_in=name) for part, name in zip((mine, theirs), names, strict=True)]
    unmatched: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return unmatched


def _notes(
    mine: Results, labels: dict[Measure, dict[str, str]], unmatched: pd.DataFrame, rules: Rules, name: str
) -> list[str]:
    notes = left_out.unmatched_notes(unmatched)
    if mine.published:
        return notes
    notes += left_out.excluded_notes(name, mine, rules)
    records = mine.records[mine.records["data"].isin([*labels[ACCURACY], *labels[SAVING]])]
    notes += [
        f"{data} stands against the published {label}." for data, label in labels[ACCURACY].items() if data != label
    ]
    for column, used in (("model", PUBLISHED_MODEL), ("bn_mode", "train")):
        others = sorted({str(value) for value in records[column].dropna().unique()} - {used})
        if others:
            notes.append(f"The published {column} is {used}; that of {name} is {', '.join(others)}.")
    if records["measured"].any():
        notes.append(
            "The published rates are of one step on one image on a Raspberry Pi; a run's are of whole fine-tunings, "
            "whose number of epochs may differ."
        )
        if rules.basis == "net":
            notes.append(f"The published rates are gross; those of {name} are net of idle power.")
    else:
        notes.append(f"{name} has no joules, so no energy-saving rate is compared.")
    return notes


# -- headlines: accuracy gain and energy-saving rate over the same cases ---------------------------------


def headline_sentences(
    mine: Results,
    analysis: Analysis,
    published: Analysis,
    labels: Mapping[Measure, Mapping[str, str]],
    *,
    rules: Rules,
    sign: float,
) -> list[str]:
    """Describe gain and saving of the run beside the published means over the run's cases.

    Args:
        labels: data label of the run -> published label, per measure.
        sign: -1 where RUN is the published side, so that the difference is RUN - BASE.
    """
    sentences = []
    for measure, find in ((ACCURACY, _gain), (SAVING, _saving)):
        found = find(mine, analysis, published, labels[measure])
        if found is not None:
            whole = _whole(published, measure)
            sentences.append(_sentence(measure, found, whole, rules=rules, sign=sign, paper_itself=mine.published))
    return sentences


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
    margin = rules.margins["accuracy" if measure is ACCURACY else "joules"]
    change = sign * ((own.mean or 0.0) - printed)
    known = own.sd is not None and own.n >= MIN_REPETITIONS
    error = np.array([(own.sd or 0.0) / math.sqrt(own.n) if known else math.nan])
    row = pd.DataFrame({"change": [change], "n": [own.n], "margin": [margin]})
    if paper_itself:
        row = row.assign(error=uncertainty, degrees=math.inf)
    elif measure is ACCURACY:
        both, degrees = independent_error(error, own.n - 1.0, np.array([uncertainty]), math.inf)
        row = row.assign(error=both, degrees=degrees)
    else:
        log = math.log1p(-(own.mean or 0.0))
        rate = pd.DataFrame({"log": [log], "error": error, "degrees": own.n - 1.0, "common": own.common})
        lo, hi, p = _rate_test(rate, np.array([printed]), sign)
        row = row.assign(lo=lo, hi=hi, p=p)
    verdict = judge(row, measure, narrow=NARROW[measure]).iloc[0]
    name, show = ("Accuracy gain", points) if measure is ACCURACY else ("Energy saved by Block Avg, gross", percent)
    text = f"{name}: {show(own.mean, 2)} against {show(printed, 2)} published over the same {count(cases, 'case')}"
    if whole[1] != cases and not missing(whole[0]):
        text += f" ({show(whole[0], 2)} over all {whole[1]})"
    spread = interval(verdict["lo"], verdict["hi"], 1)
    return f"{text}; difference {points(change)} {spread}".rstrip() + f" points: {verdict['verdict']}."
