"""Describe what a run found, in sentences."""

from __future__ import annotations

import math

import pandas as pd

from bench.analysis.findings import Analysis, Headlines
from bench.analysis.statistics import Estimate
from bench.analysis.wording import (
    count,
    estimate_percent,
    estimate_points,
    interval,
    missing,
    percent,
    points,
    repetitions,
    tied,
)
from bench.catalog.paper import PUBLISHED
from bench.read.published import NOTES
from bench.read.results import AVERAGE


def shift_sentences(analysis: Analysis, *, limit: int | None = None) -> list[str]:
    """Describe the accuracies of the first `limit` data labels, a sentence each; also those without a result."""
    labels = analysis.shifts["data"].unique()[:limit]
    shifts = analysis.shifts[analysis.shifts["data"].isin(labels)]
    blocks = analysis.blocks[analysis.blocks["data"].isin(labels)].set_index(["data", "train_size", "arm"])
    parts = shifts.groupby("data", sort=False)
    return [_shift_sentence(str(data), part, blocks) for data, part in parts]


def _shift_sentence(data: str, rows: pd.DataFrame, blocks: pd.DataFrame) -> str:
    level = str(rows["level"].iat[0])
    head = f"{data} ({level}): " if level else f"{data}: "
    rows = rows[rows["winner_winner"].notna()]
    if rows.empty and data in blocks.index and bool(blocks.loc[data]["accuracy"].notna().any()):
        every = blocks.loc[data].reset_index().sort_values("accuracy", ascending=False, kind="stable")
        return head + f"{every['arm'].iat[0]} leads, {percent(float(every['accuracy'].to_numpy(dtype=float)[0]))}"
    if rows.empty:
        has_joules = data in blocks.index and bool(blocks.loc[data]["energy_gross_j"].notna().any())
        return head + ("energy only, no accuracy" if has_joules else "no result")
    contested = rows[rows["winner_second"].notna()]
    rows = rows if contested.empty else contested  # a block that was alone at a size has not won there
    if contested.empty and len(rows) > 1:
        return head + "one block a train size, nothing to compare"
    return head + (_one_size(data, rows.iloc[0], blocks) if len(rows) == 1 else _many_sizes(rows))


def _one_size(data: str, row: pd.Series, blocks: pd.DataFrame) -> str:
    def accuracy(arm: str) -> float:
        return float(blocks["accuracy"].get((data, row["train_size"], arm), math.nan))

    winner, target = row["winner_winner"], row["target"]
    if missing(row["winner_second"]):
        return f"{winner} alone, {percent(accuracy(winner))}"
    # 'wins clearly' is kept for a paired difference to the second that is sure among all cases of the report
    verb = {True: "wins clearly", False: "leads, not clearly"}.get(row["winner_clear"], "leads")
    best = tied(row["winner_winner"], row["winner_tied"])
    text = f"{winner} {verb}" if len(best) == 1 else f"{row['winner_tied']} tie"
    text += f", {percent(accuracy(winner))}"
    if target and target not in best and not missing(accuracy(target)):
        text += f", not the target {target} ({percent(accuracy(target))})"
    if not missing(accuracy(AVERAGE)):
        text += f" vs {AVERAGE} {percent(accuracy(AVERAGE))}"
    if missing(row["gain"]):
        return text
    text = f"{text}, gain {points(row['gain'])} {interval(row['gain_lo'], row['gain_hi'])}".strip() + " points"
    if missing(row["gain_n"]):
        return text
    return f"{text} over {count(row['gain_n'], 'seed')}" if row["gain_n"] > 1 else f"{text} (n=1, no interval)"


def _many_sizes(rows: pd.DataFrame) -> str:
    alone, n = rows[rows["winner_tied"] == ""], len(rows)
    if alone.empty:
        pairs = rows["winner_tied"].unique()
        return f"{pairs[0] if len(pairs) == 1 else 'the best blocks'} tie at all {n} train sizes{_gains(rows)}"
    ahead = alone["winner_winner"].value_counts()
    winner, times = str(ahead.index[0]), int(ahead.iloc[0])
    where = f"at all {n} train sizes" if times == n else f"at {times} of {n} train sizes"
    clear = sum(value is True for value in alone.loc[alone["winner_winner"] == winner, "winner_clear"])
    text = f"{winner} wins clearly {where}" if clear == times else f"{winner} leads {where}"
    if 0 < clear < times:
        text += f", clearly at {clear}"
    if len(alone) < n:
        text += f", a tie at {n - len(alone)}"
    target = str(rows["target"].iat[0])
    if target and winner != target:
        text += f", not the target {target}"
    return text + _gains(rows)


def _gains(rows: pd.DataFrame) -> str:
    gain = rows["gain"].dropna()
    if gain.empty:
        return ""
    text = f", gain {points(gain.min())} to {points(gain.max())} points"
    if rows["gain_n"].isna().all():
        return text
    return f"{text} over {repetitions(rows['gain_n'], 'seed').removeprefix('n = ')}"


def headline_sentences(analysis: Analysis, *, published: bool = False) -> list[str]:
    """Describe the headlines of each run, most important first; also what is missing, and why."""
    if analysis.apart:
        return [
            f"{head.run}: {sentence}"
            for head in analysis.apart
            for sentence in _headline(analysis, head, published=head.run == PUBLISHED)
        ]
    return _headline(analysis, analysis.headlines, published=published)


def _headline(analysis: Analysis, head: Headlines, *, published: bool) -> list[str]:
    digits = 2 if published else 1
    if (analysis.blocks["role"] == "method").any() and not (analysis.blocks["role"] == "single").any():
        return []  # nothing here is about blocks
    if head.gain.mean is None:
        gain = f"No accuracy gain: it needs the target block and {AVERAGE}, so every single block of one seed."
    else:
        more = estimate_points(head.gain, digits).removeprefix("+")
        side = "more" if head.gain.mean >= 0 else "of a difference in"
        gain = (
            f"Tuning the target block gives {more} {side} accuracy than {AVERAGE}, over "
            f"{count(head.gain_groups, 'case')} of shift and train size ({_basis(head.gain, 'seed', published)})."
        )
    if head.saving_average.mean is not None:
        saving = (
            f"Tuning one block instead of the whole model saves {estimate_percent(head.saving_average, digits)} of "
            "the energy on average over the blocks"
        )
        if head.saving_target.mean is not None:
            saving += f", and {estimate_percent(head.saving_target, digits)} with the target block"
        basis = _basis(head.saving_average, "seed", published)
        relative = "" if published else "; a ratio, so the meter's gain is not in it"
        return [gain, f"{saving}; gross, over {count(head.saving_groups, 'case')} ({basis}{relative})."]
    if analysis.quality.has_joules:
        why = "it needs joules of `full` and of every single block in the same seed and repeat"
        return [gain, f"No energy-saving rate: {why}."]
    return [gain]


def _basis(estimate: Estimate, noun: str, published: bool) -> str:
    if published:
        return "published means, so no interval"
    if estimate.lo is None:
        return f"no interval: {'only one' if estimate.n == 1 else 'no'} {noun} is common to all"
    over = (
        f"{count(estimate.n, 'repeat')} of one seed, for that seed only"
        if estimate.one_seed
        else count(estimate.n, noun)
    )
    return f"95 % interval over {over}, {count(estimate.degrees or 0, 'degree')} of freedom"


def quality_sentences(analysis: Analysis, *, published: bool = False) -> list[str]:
    """Describe what was left out and what a reader must know; [] where there is nothing."""
    quality = analysis.quality
    sentences = [*NOTES] if published else []
    for caveat in quality.caveats:
        meaning = {
            "simulated": "come from a simulated source",
            "replayed": "are replayed from an earlier recording",
            "estimate": "are a model's estimate",
        }[caveat]
        who = "Some joules" if quality.caveat_label.startswith("partly") else "Joules"
        sentences.append(f"{who} {meaning}; they are not a measurement of this run.")
    for status, words in (("failed", "failed"), ("timeout", "ran out of time")):
        n = quality.statuses.get(status, 0)
        if n:
            sentences.append(f"{count(n, 'repeat')} {words}; in no average.")
    if quality.excluded_x:
        why = "; ".join(f"{reason} ({n})" for reason, n in quality.reasons_x.items())
        sentences.append(
            f"{count(quality.excluded_x, 'repeat')} of grade X, joules left out, accuracy kept"
            + (f": {why}." if why else ".")
        )
    elif not quality.has_joules:
        sentences.append("No energy measured: all joules are blank, and so are the energy-saving rates.")
    if quality.has_joules and quality.without_joules and not published:
        sentences.append(f"{count(quality.without_joules, 'finished repeat')} without joules.")
    if quality.net_not_positive:
        sentences.append(f"{count(quality.net_not_positive, 'repeat')} with net joules of 0 or less: not in net rates.")
    if quality.unstable:
        sentences.append(f"{count(len(quality.unstable), 'cell')} with joules that vary by more than 10 %.")
    return sentences
