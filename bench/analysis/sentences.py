"""Describe what a run found, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.analysis.answers import PLAIN, Answer, Option, size
from bench.analysis.findings import Analysis, Headlines
from bench.analysis.statistics import Estimate
from bench.analysis.wording import (
    count,
    estimate_percent,
    estimate_points,
    interval,
    joules,
    missing,
    percent,
    points,
    size_label,
)
from bench.catalog.paper import PUBLISHED
from bench.read.published import NOTES
from bench.read.results import AVERAGE, NONE, UNTUNED, Results

CLEARLY = (
    "clearly: beyond one test image, counting every arm it was picked from and every case of this report; said falsely "
    "in at most 5 % of reports. Brackets: 95 % interval of that one difference over seeds."
)
"""What the word means in a verdict."""


def shift_sentences(analysis: Analysis, *, limit: int | None = None) -> list[str]:
    """Answer for each of the first `limit` data labels what to tune, a sentence each; also those without a result."""
    return [shift_sentence(answers) for answers in by_shift(analysis)[:limit]]


def by_shift(analysis: Analysis) -> list[list[Answer]]:
    """The answers of each data label, one per train size: the largest with a result first, then in their order."""
    found: dict[str, list[Answer]] = {}
    for answer in analysis.answers:
        found.setdefault(answer.data, []).append(answer)
    for answers in found.values():
        main = max(answers, key=lambda one: (one.kind not in ("empty", "energy"), one.kind != "empty", size(one)))
        answers.sort(key=lambda one: one is not main)
    return list(found.values())


def shift_sentence(answers: Sequence[Answer]) -> str:
    """Answer for one shift: the verdict at the first of its train sizes, the figures behind it, and the other sizes."""
    main = answers[0]
    place = f" at {_size(main)}" if len(answers) > 1 else ""
    parts = [verdict(main), figures_text(main), other_sizes(answers)]
    head = f"{main.data} ({main.level}){place}" if main.level else f"{main.data}{place}"
    return f"{head}: {'. '.join(part for part in parts if part)}."


def other_sizes(answers: Sequence[Answer]) -> str:
    """What the train sizes after the first say: 'The same at 10 %; fc alone leads at 20 %'; '' where there is one."""
    main, *others = answers
    groups: dict[str, list[str]] = {}
    for answer in others:
        said = _short(answer)
        groups.setdefault("the same" if said == _short(main) else said, []).append(_size(answer))
    text = "; ".join(f"{said} at {_listed(sizes)}" for said, sizes in groups.items())
    return text[:1].upper() + text[1:] if text.startswith("the same") else text


def verdict(answer: Answer) -> str:
    """What an answer says, in a clause: 'fc alone is clearly better than tuning everything, for 55 % fewer joules'."""
    return _VERDICTS[answer.kind](answer)


def _harm(answer: Answer) -> str:
    if answer.clear:
        return "tuning clearly harms: leave the model as it is"
    return f"tuning harms: untuned leads the best arm, {_by_name(answer.second)}, {_lead(answer)}"


def _full(answer: Answer) -> str:
    blocks = [option for option in answer.options if option.role == "single" and option.accuracy is not None]
    other = "any single block" if len(blocks) > 1 else arm_name(answer.single)
    return f"{_better('tuning everything', other, answer)}{_price(answer.full, answer.single)}"


def _single(answer: Answer) -> str:
    return f"{_better(arm_name(answer.single), 'tuning everything', answer)}{_price(answer.single, answer.full)}"


def _other(answer: Answer) -> str:
    if answer.tied:
        return f"{_listed([arm_name(answer.leader), *answer.tied])} tie, ahead of the others"
    return _better(arm_name(answer.leader), "any other arm" if answer.clear else _by_name(answer.second), answer)


def _without_whole(answer: Answer) -> str:
    """Verdict where one block, or the full fine-tuning, has no result to be compared with."""
    leader = answer.leader
    tuned = [option for option in answer.options if option.accuracy is not None and option is not answer.untuned]
    if len(tuned) == 1:
        if answer.untuned is None:
            return f"{arm_name(leader)} is the only arm, nothing to compare"
        return f"{_better(arm_name(leader), 'untuned', answer)}; no other arm to compare"
    lacks = "no result of tuning everything" if answer.full else "everything was not tuned"
    if leader is not None and leader.role == "full":
        lacks = "no single block with a result"
    if answer.tied:
        return f"{_listed([leader.arm if leader else '', *answer.tied])} tie; {lacks}"
    return (
        f"{_better(arm_name(leader), 'the other arms' if answer.clear else _by_name(answer.second), answer)}; {lacks}"
    )


_VERDICTS: dict[str, Callable[[Answer], str]] = {
    "empty": lambda _: "no result",
    "energy": lambda _: "energy only, no accuracy",
    "harm": _harm,
    "no help": lambda _: "nothing helps: no arm is better than untuned",
    "unsure": lambda answer: f"not shown to help: {arm_name(answer.leader)} leads untuned {_lead(answer)}",
    "full": _full,
    "single": _single,
    "tie": lambda answer: (
        f"{arm_name(answer.single)} and tuning everything tie within one test image"
        f"{_price(answer.single, answer.full, 'one block takes ')}"
    ),
    "other": _other,
    "only": _without_whole,
}
"""Makes the verdict of each kind of answer."""


def figures_text(answer: Answer) -> str:
    """Accuracy and joules of the arms of an answer that decide: 'fc alone: 97 % for 3.3 J; ...; untuned: 12 %'."""
    shown = [answer.leader, answer.single, answer.full, answer.untuned]
    if answer.leader is not None and answer.leader.role in PLAIN:
        shown = shown[1:]
    options = {option.arm: option for option in shown if option is not None}
    return "; ".join(_figures(option, answer) for option in options.values())


def _figures(option: Option, answer: Answer) -> str:
    tied = f" (tied with {_listed(answer.tied)})" if answer.tied and option is answer.single != answer.leader else ""
    return f"{arm_name(option)}{tied}: {option_text(option)}"


def option_text(option: Option) -> str:
    """Accuracy and joules of one arm: '97.5 % for 2.4 J'."""
    energy = "" if option.joules is None else joules(option.joules)
    if option.accuracy is None:
        return energy or "no result"
    return f"{percent(option.accuracy)} for {energy}" if energy else percent(option.accuracy)


def _better(name: str, other: str, answer: Answer) -> str:
    if answer.clear:
        return f"{name} is clearly better than {other}"
    return f"{name} leads {other if other != 'any single block' else 'the best single block'} {_lead(answer)}"


def _lead(answer: Answer) -> str:
    """'by 8.2 points [3.9, 12.5]', and what keeps it from being sure."""
    by = f"by {points(answer.lead).removeprefix('+')} points"
    if answer.seeds == 1:
        return f"{by} (one seed, no interval)"
    if missing(answer.lead_lo) or not answer.seeds:
        return by
    by += f" {interval(answer.lead_lo, answer.lead_hi)}"
    return by if (answer.lead_lo or 0.0) > 0 else f"{by}, not clearly"


def _price(first: Option | None, second: Option | None, verb: str = "for ") -> str:
    """', for 55 % fewer joules', of the first option against the second; '' where either is not known."""
    if first is None or second is None or not first.joules or not second.joules:
        return ""
    ratio = first.joules / second.joules
    if abs(ratio - 1) < 0.005:
        return f", {verb}the same joules"
    if ratio >= 2:
        return f", {verb}{ratio:.2g} times the joules"
    return f", {verb}{100 * abs(1 - ratio):.0f} % {'fewer' if ratio < 1 else 'more'} joules"


def arm_name(option: Option | None) -> str:
    """Name of an arm in a sentence: 'fc alone', 'tuning everything', 'untuned', a method's own; '' for None."""
    return "" if option is None else _by_name(option.arm, option.role)


def _by_name(arm: str | None, role: str = "") -> str:
    """Name of an arm in a sentence."""
    if role == UNTUNED or arm in (NONE, None):
        return UNTUNED
    return "tuning everything" if role == "full" or arm == "full" else f"{arm} alone" if role == "single" else str(arm)


def _short(answer: Answer) -> str:
    """The verdict of a further train size: which arm, without figures."""
    single = arm_name(answer.single)
    return {
        "empty": "no result",
        "energy": "energy only",
        "harm": "tuning harms",
        "no help": "nothing helps",
        "unsure": "not shown to help",
        "full": "tuning everything leads",
        "single": f"{single} leads",
        "tie": f"{single} and tuning everything tie",
        "other": f"{arm_name(answer.leader)} leads",
        "only": f"{arm_name(answer.leader)} leads",
    }[answer.kind]


def _size(answer: Answer) -> str:
    return size_label(answer.train_size, answer.n_train)


def _listed(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


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
    singles = analysis.blocks.loc[analysis.blocks["role"] == "single", "arm"].nunique()
    if not singles:
        return []  # nothing here is about blocks
    made = []
    if head.gain.mean is not None:
        side = "more accurate" if head.gain.mean >= 0 else "less accurate"
        more = estimate_points(_positive(head.gain), digits).removeprefix("+")
        made.append(
            f"The paper's gain: the target block is {more} {side} than {AVERAGE}, the mean of the "
            f"single blocks, on average over {_cases(head.gain_groups, head.gain_range, digits, points)} "
            f"({_basis(head.gain, 'seed', published)})."
        )
    elif singles > 1 and (analysis.shifts["level"] != "").any():
        made.append(f"No gain in the paper's sense: it needs the target block and {AVERAGE}, so every block of a seed.")
    relative = "" if published else "; a ratio, so the meter's gain is not in it"
    if head.saving_average.mean is not None:
        target = ""
        if head.saving_target.mean is not None:
            target = f", and the target block {_saved(head.saving_target, digits)}"
        made.append(
            f"The paper's saving: one block takes {_saved(head.saving_average, digits)} than tuning everything on "
            f"average over the blocks{target}; gross, over "
            f"{_cases(head.saving_groups, head.saving_range, digits, percent)} "
            f"({_basis(head.saving_average, 'seed', published)}{relative})."
        )
    elif head.saving_blocks:
        each = [f"{arm} takes {_saved(one, digits)}" for arm, one in head.saving_blocks[:MAX_BLOCKS]]
        first = head.saving_blocks[0][1]
        made.append(
            f"Against tuning everything, {_listed(each)}; gross ({_basis(first, 'seed', published)}{relative})."
        )
    elif analysis.quality.has_joules and (analysis.blocks["role"] == "full").any():
        made.append("No energy-saving rate: no block has joules in the same seed and repeat as `full`.")
    return made


MAX_BLOCKS = 6
"""Blocks whose savings one sentence lists."""


def _positive(estimate: Estimate) -> Estimate:
    """An estimate, or its opposite where it is negative; a word then says the direction."""
    if estimate.mean is None or estimate.mean >= 0:
        return estimate
    lo, hi = (None if end is None else -end for end in (estimate.hi, estimate.lo))
    return replace(estimate, mean=-estimate.mean, lo=lo, hi=hi)


def _saved(saving: Estimate, digits: int) -> str:
    """'41.6 % [40.2, 43.0] less energy'; a negative rate as more energy."""
    side = "less" if (saving.mean or 0.0) >= 0 else "more"
    return f"{estimate_percent(_positive(saving), digits)} {side} energy"


def _cases(n: int, ends: tuple[float, float] | None, digits: int, show: Callable[[float, int], str]) -> str:
    """'9 cases of shift and train size, which range from +0.7 to +64.0'."""
    text = f"{count(n, 'case')} of shift and train size"
    return f"{text}, from {show(ends[0], digits)} to {show(ends[1], digits)}" if ends and n > 1 else text


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
    return f"95 % interval of this mean over {over}, {count(estimate.degrees or 0, 'degree')} of freedom"


def run_notes(results: Results) -> list[str]:
    """Say what is particular about how the runs were made: a demonstration, repeats that ended early."""
    suites = [manifest.suite for manifest in results.manifests if manifest.suite]
    told = []
    if DEMONSTRATION in [suite.origin for suite in suites]:
        told.append(
            "Quickstart is a demonstration, not evidence: its epochs and rates were chosen after looking at test "
            "accuracies, and its windows are short."
        )
    decided = {str(one.get("case")) for manifest in results.manifests for session in manifest.sessions
               for one in session.decided}  # fmt: skip
    if decided:
        told.append(
            f"Repeats of {count(len(decided), 'case')} ended early, once the order of the arms by joules was decided "
            "(a wrong order in at most 5 % of cases; accuracies decide nothing there)."
        )
    return told


DEMONSTRATION = "quickstart"
"""Shipped suite whose figures are no evidence."""


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
