"""Show a comparison in the terminal, and write it as compare.csv and compare.md, from the same sentences."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.analysis.ci import Case, Outcome
from bench.analysis.summary import to_csv as csv_text
from bench.analysis.tables import escape_markdown
from bench.analysis.wording import MISSING, count, interval, missing, points
from bench.compare.comparison import Comparison
from bench.compare.differences import CONDITION
from bench.compare.notes import NAMED, name_conditions, place
from bench.compare.rules import limit_text
from bench.compare.verdict import AGREES, BETTER, DIFFERS, NOT_ENOUGH, SAME, WORSE, Measure

WIDTH = 100
MAX_ROWS = 24
"""Conditions shown in the terminal; the worst come first, and --out writes them all."""

_STYLES = {WORSE: "bold red", DIFFERS: "bold red", BETTER: "bold green", NOT_ENOUGH: "dim"}


_VERBS = {
    WORSE: ("is worse", "are worse"),
    BETTER: ("is better", "are better"),
    SAME: ("is the same", "are the same"),
    NOT_ENOUGH: ("has not enough data", "have not enough data"),
    AGREES: ("agrees", "agree"),
    DIFFERS: ("differs", "differ"),
    "": ("could not be compared", "could not be compared"),
}


def summary_sentence(comparison: Comparison) -> str:
    """'45 conditions; accuracy: 45 the same; joules: 3 worse, 42 not enough data.'; of one measure a sentence."""
    if len(comparison.measures) > 1:
        each = "; ".join(measure_sentence(comparison, measure) for measure in comparison.measures)
        return f"{count(len(comparison.conditions), 'condition')}; {each}."
    counts = comparison.counts()
    total = sum(counts.values())
    (first, n), *rest = counts.items()
    if total == 1:
        return f"The only condition in common {_VERBS[first][0]}."
    who = f"All {total} conditions" if n == total else f"{n} of {total} conditions"
    return f"{who} {_VERBS[first][n > 1]}{''.join(f', {m} {_tally(word, m)}' for word, m in rest)}."


def measure_sentence(comparison: Comparison, measure: Measure) -> str:
    """The same of one measure."""
    counts = comparison.counts(measure).items()
    empty = "not published" if comparison.published else "not compared"
    return f"{measure.heading}: " + ", ".join(f"{n} {_tally(word, n) if word else empty}" for word, n in counts)


def _tally(word: str, n: int) -> str:
    if word in (AGREES, DIFFERS):
        return _VERBS[word][n > 1]
    return {SAME: "the same", "": "not compared"}.get(word, word)


def failing_sentence(comparison: Comparison) -> str:
    """What fell short, worst first; '' where nothing did."""
    failing = comparison.failing()
    if failing.empty:
        return ""
    parts = [
        f"{count(len(part), 'condition')} by {limit_text(str(name), comparison.rules.fail_on[str(name)])}: "
        f"{name_conditions(part, NAMED)}"
        for name, part in failing.groupby("measure", sort=False)
    ]
    return f"fell short in {'; '.join(parts)}"


# -- figures -----------------------------------------------------------------------------------------


def figure(row: dict[Hashable, Any], measure: Measure) -> str:
    """Change and interval of a measure: '+5.1 [4.2, 6.0]', in its unit."""
    change = row[f"{measure.name}_change"]
    if missing(change):
        return MISSING
    # a point is worth a second digit, a percent of joules is not; rounded first, so that nothing is minus 0
    digits = 1 if measure.name == "joules" else 2
    lo, hi = (_rounded(row[f"{measure.name}_{end}"], digits) for end in ("lo", "hi"))
    return f"{points(_rounded(change, digits), digits)} {interval(lo, hi, digits)}".strip()


def _rounded(fraction: float, digits: int) -> float:
    return round(100 * fraction, digits) / 100 + 0.0


def _detail(row: dict[Hashable, Any], measure: Measure) -> str:
    verdict, why = row[f"{measure.name}_verdict"], row[f"{measure.name}_why"]
    if not verdict:
        return ""
    n = row[f"{measure.name}_n"]
    known = not missing(n) and row[f"{measure.name}_test"]
    said = f"{verdict}, n = {n:.0f}" if known else verdict
    if known and not missing(degrees := row[f"{measure.name}_degrees"]) and math.isfinite(degrees):
        said += f", df {degrees:.3g}"
    return f"{said} ({why.split(',')[0]})" if verdict == NOT_ENOUGH and not known and why else said


def _heading(comparison: Comparison, measure: Measure) -> str:
    basis = f", {comparison.rules.basis}" if measure.name != "accuracy" else ""
    return f"{measure.heading}{basis},\n{measure.unit}"


# -- terminal ----------------------------------------------------------------------------------------


def terminal(comparison: Comparison, *, only_changed: bool = False) -> Group:
    """Summary, table and notes, for a console of at most WIDTH columns.

    Args:
        only_changed: list only the conditions that are worse, better or differ.
    """
    listed = changed(comparison) if only_changed else comparison.conditions
    parts: list[Text | Table] = [
        Text(summary_sentence(comparison), style="bold"),
        Text(f"RUN {comparison.run} against BASE {comparison.base}", style="dim"),
    ]
    parts += [Text(sentence) for sentence in comparison.headlines]
    parts += [Text(warning, style="yellow") for warning in comparison.warnings]
    if len(listed) or not only_changed:
        parts += [Text(), _table(comparison, listed)]
    if len(listed) < len(comparison.conditions):
        parts.append(Text(f"{unchanged(comparison)} not listed", style="dim"))
    left = len(listed) - MAX_ROWS
    if left > 0:
        parts.append(Text(f"and {left} more conditions; --out DIR writes them all", style="dim"))
    parts.append(Text(legend(comparison), style="dim"))
    parts += [Text(note, style="yellow") for note in comparison.notes]
    return Group(*parts)


def changed(comparison: Comparison) -> pd.DataFrame:
    """The conditions that are worse, better or differ, in one measure at least."""
    verdicts = comparison.conditions[[f"{measure.name}_verdict" for measure in comparison.measures]]
    return comparison.conditions[verdicts.isin([WORSE, BETTER, DIFFERS]).any(axis=1)]


def unchanged(comparison: Comparison) -> str:
    """'41 conditions without a proven change'."""
    left = len(comparison.conditions) - len(changed(comparison))
    return f"{count(left, 'condition')} without a proven change"


def _table(comparison: Comparison, listed: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("condition", overflow="fold", max_width=36)
    for measure in comparison.measures:
        table.add_column(_heading(comparison, measure), overflow="fold", max_width=29)
    for row in listed.head(MAX_ROWS).to_dict("records"):
        label = Text(f"{place(row)}\n  {row['arm']}")
        entries = []
        for measure in comparison.measures:
            detail = _detail(row, measure)
            style = _STYLES.get(row[f"{measure.name}_verdict"], "")
            entries.append(Text.assemble(figure(row, measure), (f"\n{detail}" if detail else "", style)))
        table.add_row(label, *entries)
    return table


def legend(comparison: Comparison) -> str:
    """What the figures and the words mean, in one paragraph."""
    rules, names = comparison.rules, {measure.name for measure in comparison.measures}
    limits = [f"{100 * rules.margins['accuracy']:g} points of accuracy"] if "accuracy" in names else []
    limits += [f"{100 * rules.margins['joules']:g} % of joules"] if "joules" in names else []
    limits += [f"{100 * rules.margins['joules']:g} points of energy saving"] if "saving" in names else []
    margin = " and ".join(limits)
    if comparison.published:
        return (
            "RUN minus BASE with 95 % interval, n = seeds or pairs of the run; a published standard deviation counts "
            f"in full, as its number of runs is not stated. differs: the whole interval lies beyond {margin}, after "
            "Holm's correction for the number of conditions. agrees: the interval reaches into that margin and is "
            "narrow enough to tell blocks apart."
        )
    energy = (
        " Joules are RUN over BASE less 1, from logarithms, paired by seed and repeat and averaged by seed; ratios, so "
        "without the gain of the one meter. The scatter of a condition is estimated from its own seeds and, as far as "
        "they agree, from those of the other conditions; df: its degrees of freedom."
        if "joules" in names
        else ""
    )
    return (
        f"RUN minus BASE with 95 % interval, accuracy paired by seed.{energy} worse and better: the whole interval "
        f"lies beyond {margin}, after Holm's correction for the number of conditions. same: it lies within. A coarse "
        "meter or few test images widen a condition's margin."
    )


# -- files -------------------------------------------------------------------------------------------


def to_csv(comparison: Comparison) -> str:
    """One row per condition, units in the names; conditions of one side only stand below, with `only_in`."""
    conditions = comparison.conditions
    table = conditions[["verdict", "data", "train_size", "n_train", "arm", "role", "level"]].copy()
    for measure in comparison.measures:
        unit = {"points": "points", "%": "percent"}[measure.unit]
        side = f"{comparison.rules.basis}_j" if measure.name == "joules" else "percent"
        column = {name: conditions[f"{measure.name}_{name}"] for name in _CSV}
        for name in ("run", "base"):
            factor = 1 if measure.name == "joules" else 100
            table[f"{measure.name}_{name}_{side}"] = (column[name] * factor).astype(float).round(9)
        for name, label in (("change", "change"), ("lo", "lo95"), ("hi", "hi95"), ("margin", "margin")):
            table[f"{measure.name}_{label}_{unit}"] = (column[name].astype(float) * 100).round(6)
        for name in ("n", "seeds", "degrees", "test", "p", "p_holm", "verdict", "why"):
            table[f"{measure.name}_{name}"] = column[name]
        for name in ("n", "seeds"):
            table[f"{measure.name}_{name}"] = table[f"{measure.name}_{name}"].astype("Int64")
        table[f"{measure.name}_degrees"] = table[f"{measure.name}_degrees"].round(2)
    table["only_in"] = ""
    if len(comparison.unmatched):
        table = pd.concat([table, comparison.unmatched], ignore_index=True)
    table["n_train"] = table["n_train"].astype("Int64")
    return csv_text(table)


_CSV = ("run", "base", "change", "lo", "hi", "margin", "n", "seeds", "degrees", "test", "p", "p_holm", "verdict", "why")


_OUTCOMES: dict[str, Outcome] = {
    WORSE: "worse", DIFFERS: "worse", BETTER: "better", NOT_ENOUGH: "skipped", "": "skipped",
}  # fmt: skip


def cases(comparison: Comparison) -> list[Case]:
    """A verdict for each condition and measure, for CI."""
    failing = {(*map(str, row[:-1]), row[-1]) for row in comparison.failing()[[*CONDITION, "measure"]].to_numpy()}
    found = []
    for row in comparison.conditions.to_dict("records"):
        for measure in comparison.measures:
            verdict = row[f"{measure.name}_verdict"]
            outcome = _OUTCOMES.get(verdict, "passed")
            if (*(str(row[key]) for key in CONDITION), measure.name) in failing:
                outcome = "failed"
            why = row[f"{measure.name}_why"] or _detail(row, measure)
            text = f"{figure(row, measure)} {measure.unit} against {comparison.base}"
            detail = _detail(row, measure)
            found.append(
                Case(
                    group=measure.heading,
                    name=f"{place(row)} {row['arm']}",
                    outcome=outcome,
                    text=f"not compared: {why}" if not verdict else f"{text}: {detail}",
                )
            )
    return found


def to_markdown(comparison: Comparison, *, only_changed: bool = False) -> str:
    """Heading, summary, pipe table with every condition, or only the changed ones, legend and notes."""
    head = ["Condition", *(f"{m.heading.capitalize()}, {m.unit}" for m in comparison.measures for _ in (0,))]
    header = [head[0]]
    for measure, title in zip(comparison.measures, head[1:], strict=True):
        header += [title, "Verdict", f"n ({measure.per}s)"]
    header += [f"Degrees of freedom, {measure.heading}" for measure in comparison.measures]
    lines = [
        f"# {escape_markdown(comparison.run)} against {escape_markdown(comparison.base)}",
        "",
        f"**{summary_sentence(comparison)}**",
        "",
        *(f"{sentence}\n" for sentence in map(escape_markdown, (*comparison.headlines, *comparison.warnings))),
        "| " + " | ".join(header) + " |",
        "| --- |" + " ---: | --- | ---: |" * len(comparison.measures) + " ---: |" * len(comparison.measures),
    ]
    listed = changed(comparison) if only_changed else comparison.conditions
    for row in listed.to_dict("records"):
        entries = [f"{place(row)} {row['arm']}"]
        for measure in comparison.measures:
            n = row[f"{measure.name}_n"]
            entries += [
                figure(row, measure),
                row[f"{measure.name}_verdict"] or MISSING,
                MISSING if missing(n) or not row[f"{measure.name}_test"] else f"{n:.0f}",
            ]
        for measure in comparison.measures:
            degrees = row[f"{measure.name}_degrees"]
            entries.append(MISSING if missing(degrees) or not row[f"{measure.name}_test"] else f"{degrees:.3g}")
        lines.append("| " + " | ".join(map(escape_markdown, entries)) + " |")
    if len(listed) < len(comparison.conditions):
        lines += ["", f"{unchanged(comparison)} not listed."]
    notes = [f"- {escape_markdown(note)}" for note in comparison.notes]
    return "\n".join([*lines, "", escape_markdown(legend(comparison)), "", *notes, ""])
