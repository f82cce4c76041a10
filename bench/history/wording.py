"""Describe a history in sentences, for the terminal, the files and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bench.analysis.wording import MISSING, count, interval, joules, percent, points, size_label
from bench.compare.verdict import JOULES, Measure
from bench.history.bursts import MIN_NIGHTS
from bench.history.changes import Change
from bench.history.history import History
from bench.history.nights import named
from bench.history.series import Condition

NOTHING = "nothing else that the manifests hold changed"


def title(history: History) -> str:
    """What the history is of: 'Digits under a shift at each level'."""
    return history.nights.nights[-1].summary.title


def scope(history: History) -> str:
    """Device, meter, span and size, in one sentence."""
    nights, newest = history.nights.nights, history.nights.nights[-1].summary
    device = newest.identity["device"]
    board = device.get("board") or device.get("cpu_model") or "device not named"
    conditions = len({condition for table in history.tables for condition in table.conditions})
    return (
        f"{count(len(nights), 'night')}, {nights[0].date} to {nights[-1].date}, {count(conditions, 'condition')}, "
        f"on {board}; joules {history.rules.basis}, by {newest.identity['meter'].get('name') or 'no source'}."
    )


def verdict(history: History) -> str:
    """'2 changes stand for the worse, 1 for the better; 3 have recovered.'"""
    if not history.changes:
        return "No change is proven."
    worse = sum(change.worse and change.recovered is None for change in history.changes)
    recovered = sum(change.recovered is not None for change in history.changes)
    better = len(history.changes) - worse - recovered
    standing = f"{count(worse, 'change')} for the worse and {better} for the better stand"
    back = f"; {recovered} {'has' if recovered == 1 else 'have'} recovered" if recovered else ""
    return f"{standing}{back}."


def state(change: Change) -> str:
    """worse, better, or recovered."""
    return "recovered" if change.recovered is not None else "worse" if change.worse else "better"


def label(condition: Condition, n_train: float) -> str:
    """'fc on digits-flip, 10 %'."""
    data, train_size, arm = condition
    size = size_label(train_size, n_train)
    return f"{arm} on {data}" if size == MISSING else f"{arm} on {data}, {size}"


def sentence(change: Change, history: History) -> str:
    """Describe a change: its size and its first run."""
    who = label(change.condition, change.n_train)
    since = f"{change.date} (run {change.run})"
    if change.recovered is not None:
        end = history.nights.nights[change.recovered]
        return f"{who} {_verb(change, past=True)} from {since} until {end.date} (run {end.name})"
    return f"{who} {_verb(change, past=False)} since {since}"


def _verb(change: Change, *, past: bool) -> str:
    sign = 1 if change.change > 0 else -1
    lo, hi = sorted((sign * change.lo, sign * change.hi))
    if change.measure == JOULES:
        more = "more" if change.change > 0 else "fewer"
        return f"{'cost' if past else 'costs'} {percent(abs(change.change))} {interval(lo, hi)} {more} joules"
    size = points(abs(change.change), 2).removeprefix("+")
    word = ("gained" if past else "has gained") if change.change > 0 else ("lost" if past else "has lost")
    return f"{word} {size} {interval(lo, hi, 2)} points of accuracy"


def detail(change: Change, history: History) -> str:
    """Describe the levels before and after, the parts of a change of joules, and when it may have begun."""
    parts = [f"{figure(change.measure, change.before)} -> {figure(change.measure, change.after)}"]
    if change.seconds is not None and change.power is not None:
        parts.append(f"training time {points(change.seconds)} %, mean power {points(change.power)} %")
    if change.earliest != change.latest:
        first, last = (history.nights.nights[night].date for night in (change.earliest, change.latest))
        parts.append(f"began between {first} and {last}")
    return "; ".join(parts)


def reason(change: Change) -> str:
    """List what else changed with it."""
    return "with it: " + "; ".join(change.reasons) if change.reasons else NOTHING


def figure(measure: Measure, value: float) -> str:
    """A level: '12.3 J' or '97.2 %'."""
    return joules(value) if measure == JOULES else percent(value)


def event_sentences(history: History) -> list[str]:
    """Describe nights on which several conditions changed together, most first: their cause is likely one."""
    events = []
    left = list(history.changes)
    while left:
        night, _ = Counter(change.night for change in left).most_common(1)[0]
        together = [change for change in left if change.earliest <= night <= change.latest]
        left = [change for change in left if change not in together]
        if len(together) > 1:
            events.append((together, night))
    return [_event(history, together, night) for together, night in sorted(events, key=lambda one: -len(one[0]))]


def _event(history: History, together: Sequence[Change], night: int) -> str:
    parts = []
    for measure in dict.fromkeys(change.measure for change in together):
        sizes = [change.change for change in together if change.measure == measure]
        unit = "%" if measure == JOULES else "points"
        low, high = points(min(sizes)), points(max(sizes))
        span = low if low == high else f"{low} to {high}"
        parts.append(f"{measure.heading} of {count(len(sizes), 'condition')} by {span} {unit}")
    one = history.nights.nights[night]
    causes = Counter(why for change in together for why in change.reasons)
    common = [why for why, n in causes.most_common() if 2 * n >= len(together)]
    return f"{one.date} (run {one.name}): {' and '.join(parts)}; {'; '.join(common) or NOTHING}."


def fresh_sentences(history: History) -> list[str]:
    """Describe what the last nights show but do not prove."""
    sentences = []
    for one in history.fresh:
        who = label(one.table.conditions[one.series], float(one.table.n_train[one.series]))
        unit = "% of joules" if one.table.measure == JOULES else "points of accuracy"
        nights = "last night" if one.nights == 1 else f"last {one.nights} nights"
        sentences.append(f"{who}: {points(one.change)} {unit} on the {nights}.")
    return sentences


def notes(history: History) -> list[str]:
    """Describe what was left out, and what else a reader must know."""
    sentences = [*history.nights.notes]
    reasons: dict[str, list[str]] = {}
    for lost in history.nights.left_out:
        reasons.setdefault(lost.reason, []).append(lost.name)
    sentences += [f"Left out, {named(names)}: {why}." for why, names in reasons.items()]
    if history.small:
        limits = " and ".join(
            f"{100 * history.rules.margins[name]:g} {unit}" for name, unit in (("joules", "%"), ("accuracy", "points"))
        )
        n = history.small
        sentences.append(
            f"{count(n, 'proven change')} below {limits} {'is' if n == 1 else 'are'} not listed; see --margin."
        )
    for table, found in zip(history.tables, history.found, strict=True):
        heading = table.measure.heading
        few = int((~found.enough).sum())
        if few:
            of = len(table.conditions)
            sentences.append(f"{heading}: {few} of {of} conditions have fewer than {MIN_NIGHTS} nights.")
        gone = np.isnan(table.values[:, -1])
        if gone.any():
            n = int(gone.sum())
            sentences.append(f"{heading}: {count(n, 'condition')} without a figure in the newest run.")
        odd = int(found.odd.sum())
        if odd:
            night = int(found.odd.sum(axis=0).argmax())
            most = int(found.odd[:, night].sum())
            worst = history.nights.nights[night]
            tail = f", {most} of them on {worst.date} (run {worst.name})" if most > 1 else ""
            sentences.append(f"{heading}: {count(odd, 'value')} far off their neighbours, left out{tail}.")
    return sentences


def legend(history: History) -> str:
    """Define, in one paragraph, what counts as a change."""
    return (
        "A change is a step of a condition's nightly value against its own level, which may drift slowly, and its "
        "noise, which may last for some nights. The chance of any false one among all conditions and nights is meant "
        "to be 5 % (Bonferroni over nights, Holm over conditions; docs/history.md says under which noise it holds). It "
        "needs five nights on either side. Intervals are 95 %."
    )
