"""Print the table at the end of a run: accuracy, joules and energy saving per arm, in 80 columns."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.analysis import sentences, wording
from bench.analysis.boards import board_sentences
from bench.analysis.findings import Analysis, analyse, arm_order
from bench.analysis.front import front_sentences, has_methods, of_case, oracles
from bench.analysis.tables import costed
from bench.analysis.variants import share_sentences, sides, variant_order
from bench.read.results import GROUP, UNTUNED, Results

MAX_ROWS = 24
"""Shifts x train sizes shown; the report has them all."""

_PAD = "\N{NO-BREAK SPACE}"  # stands where a dagger could, and is not trimmed

MAX_ARMS = 36
"""Arms shown; the report has more."""

ARMS_PER_TABLE = 6
"""Columns of figures that fit beside the label at 80 columns; with more arms, each has a row."""

CASES_PER_TABLE = 3
"""Shifts x train sizes that fit beside the arms' names there."""


def terminal_table(results: Results, analysis: Analysis | None = None) -> Group:
    """Make the rich renderable of results: table, one sentence per shift, and notes.

    Args:
        results: of one or more runs.
        analysis: of the same results, if it is there already.
    """
    analysis = analysis or analyse(results)
    arms = arm_order(analysis.blocks)
    many = len([arm for arm in arms if arm != UNTUNED]) > ARMS_PER_TABLE
    arms = [arm for arm in arms if many or arm != UNTUNED]  # else it stands below the label
    more_arms = len(arms) - MAX_ARMS
    arms = arms[:MAX_ARMS]
    parts: list[Table | Text] = _by_arm(analysis, arms) if many else [_table(analysis, arms)]
    parts.append(Text(_legend(results, analysis, many=many), style="dim"))
    for number, noun in ((len(analysis.shifts) - MAX_ROWS, "rows"), (more_arms, "arms")):
        if number > 0:
            parts.append(Text(f"and {number} more {noun} in the report", style="dim"))
    parts.append(Text())
    parts += [Text(sentence) for sentence in sentences.shift_sentences(analysis, limit=MAX_ROWS)]
    parts += [Text(sentence) for sentence in front_sentences(analysis, MAX_ROWS)]
    parts += [Text(sentence) for sentence in sentences.headline_sentences(analysis, published=results.published)]
    parts += [Text(sentence) for sentence in board_sentences(analysis.boards)]
    parts += _ways_of_training(results)
    parts += [Text(sentence, style="yellow") for sentence in sentences.run_notes(results)]
    parts += [
        Text(sentence, style="yellow")
        for sentence in sentences.quality_sentences(analysis, published=results.published)
    ]
    return Group(*parts)


def _ways_of_training(results: Results) -> list[Table | Text]:
    """Make a table of costs per shift and train size, where a run trained in several ways."""
    found = sides(results)
    letters = {variant: chr(ord("A") + number) for number, variant in enumerate(variant_order(results)[:26])}
    parts: list[Table | Text] = []
    for case in list(dict.fromkeys((side.data, side.size) for side in found))[:MAX_ROWS]:
        part = [side for side in found if (side.data, side.size) == case]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column(f"{case[0]}, {wording.size_label(case[1], part[0].n_train)}", overflow="fold", max_width=22)
        for head in ("way", "time", "faster", "energy", "less", "memory", "accuracy"):
            table.add_column(head, justify="right")
        for side in part:
            first = side.variant == next(iter(letters))
            table.add_row(
                side.arm,
                letters.get(side.variant, wording.MISSING),
                _unit(side.time_s, "s"),
                "" if first else _unit(side.speedup.mean, "x"),
                wording.joules(side.energy_j),
                "" if first else _unit(side.energy_ratio.mean, "x"),
                _unit(side.peak_rss_mb, "MB"),
                wording.percent(side.accuracy.mean),
            )
        parts += [Text(), table]
    if parts:
        legend = "\n".join(f"{letter}: {variant}" for variant, letter in letters.items())
        parts += [Text(legend, style="dim"), Text()]
    return [*parts, *(Text(sentence) for sentence in share_sentences(results))]


def _unit(value: float | None, unit: str) -> str:
    return wording.MISSING if value is None else f"{value:.3g} {unit}"


def _table(analysis: Analysis, arms: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("shift, train size", overflow="fold", max_width=22)
    for arm in arms:
        table.add_column(Text(f"{arm}{_PAD}"), justify="right", overflow="fold")
    rows = analysis.shifts.head(MAX_ROWS)
    blocks = analysis.blocks.merge(rows[GROUP], on=GROUP)
    unit = wording.joule_unit(blocks["energy_gross_j"].median())
    indexed = {(row["data"], row["train_size"], row["arm"]): row for row in blocks.to_dict("records")}
    whole = {(row["data"], row["train_size"]): row for row in indexed.values() if row["role"] == "full"}
    for shift in rows.to_dict("records"):
        size = wording.size_label(shift["train_size"], shift["n_train"])
        key = (shift["data"], shift["train_size"])
        untuned, full = indexed.get((*key, UNTUNED)), whole.get(key)
        below = f"\nuntuned {wording.percent(untuned['accuracy'])}" if untuned else ""
        label = Text(f"{shift['data']}\n{shift['level'] + ', ' if shift['level'] else ''}{size}{below}")
        label.stylize("bold", 0, len(shift["data"]))
        cells = [_cell(indexed.get((*key, arm)), shift, unit, full) for arm in arms]
        table.add_row(label, *cells, end_section=True)
    return table


def _cell(
    row: dict[Hashable, Any] | None,
    shift: dict[Hashable, Any],
    unit: tuple[float, str],
    full: dict[Hashable, Any] | None,
) -> Text:
    """Text of one entry: accuracy, joules and these against full's, one below the other, those that there are."""
    if row is None:
        return Text(f"{wording.MISSING}{_PAD}", style="dim")
    text = Text()
    if not wording.missing(row["accuracy"]):
        text.append(
            wording.percent(row["accuracy"]), style="bold green" if row["arm"] in _best(shift, "winner") else ""
        )
        text.append("†" if row["is_target"] else _PAD, style="bold")
    if not wording.missing(row["energy_gross_j"]):
        text.append("\n" if text else "")
        text.append(
            wording.joules(row["energy_gross_j"], unit), style="bold" if row["arm"] in _best(shift, "frugal") else ""
        )
        text.append(_PAD)
    if full is not None and row is not full and full["energy_gross_j"] > 0 and row["energy_gross_j"] > 0:
        change = wording.points(row["energy_gross_j"] / full["energy_gross_j"] - 1, 0)
        text.append(f"\n{change} %{_PAD}", style="dim")
    if not text:
        lost = row["role"] != "average" and not row["ok"]
        return Text(f"failed{_PAD}", style="red") if lost else Text(f"{wording.MISSING}{_PAD}", style="dim")
    return text


def _by_arm(analysis: Analysis, arms: list[str]) -> list[Table | Text]:
    """A row for each arm and two columns for each case: so that twenty arms fit, and their names too."""
    cases = analysis.shifts.head(MAX_ROWS).to_dict("records")
    blocks = analysis.blocks.merge(analysis.shifts.head(MAX_ROWS)[GROUP], on=GROUP)
    unit = wording.joule_unit(blocks["energy_gross_j"].median())
    found = {(row["data"], row["train_size"], row["arm"]): row for row in blocks.to_dict("records")}
    best = {(row["data"], row["train_size"]): row for row in oracles(analysis).to_dict("records")}
    made: list[Table | Text] = []
    for start in range(0, len(cases), CASES_PER_TABLE):
        here = cases[start : start + CASES_PER_TABLE]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("arm", overflow="fold", max_width=28)
        fronts = []
        for case in here:
            table.add_column(Text(f"{_in_lines(case['data'])}{_PAD}"), justify="right", overflow="fold", max_width=17)
            part = blocks[(blocks["data"] == case["data"]) & (blocks["train_size"] == case["train_size"])]
            fronts.append(set(of_case(part)["arm"]))
        sizes = [wording.size_label(case["train_size"], case["n_train"]) for case in here]
        table.add_row("", *(Text(f"{size}{_PAD}", style="dim") for size in sizes))
        for arm in arms:
            rows = [found.get((case["data"], case["train_size"], arm)) for case in here]
            cells = [
                _one_line(row, case, unit, arm in front) for row, case, front in zip(rows, here, fronts, strict=True)
            ]
            table.add_row(Text(arm), *cells)
        if best:
            known = [best.get((case["data"], case["train_size"])) for case in here]
            cells = [_one_line(row, case, unit, False) for row, case in zip(known, here, strict=True)]
            names = ", ".join(dict.fromkeys(str(row["block"]) for row in known if row))
            table.add_row(Text(f"oracle ({names})", style="dim"), *cells)
        made += [table, Text()]
    return made[:-1]


def _in_lines(label: str, width: int = 16) -> str:
    """A label that is too long for a column, broken where its dataset ends and its shift begins."""
    return label if len(label) <= width else label.replace("-", "-\n", 1)


def _one_line(row: dict[Hashable, Any] | None, case: dict[Hashable, Any], unit: tuple[float, str], front: bool) -> Text:
    """Accuracy and joules of one arm; a star where it is on the front."""
    if row is None or (wording.missing(row["accuracy"]) and wording.missing(row["energy_gross_j"])):
        lost = row is not None and row["role"] != "average" and not row["ok"]
        return Text(f"failed{_PAD}", style="red") if lost else Text(f"{wording.MISSING}{_PAD}", style="dim")
    accuracy = "" if wording.missing(row["accuracy"]) else wording.percent(row["accuracy"])
    text = Text(accuracy, style="bold green" if row["arm"] in _best(case, "winner") else "")
    if not wording.missing(row["energy_gross_j"]):
        text.append(f" {wording.joules(row['energy_gross_j'], unit):>8}")
    return text.append("*" if front else _PAD, style="bold")


def _best(shift: dict[Hashable, Any], what: str) -> list[str]:
    together = shift[f"{what}_tied"]
    return wording.tied(str(shift[f"{what}_winner"]), together if isinstance(together, str) else "")


def _legend(results: Results, analysis: Analysis, *, many: bool) -> str:
    methods = has_methods(analysis)
    text = "accuracy: bold is the best single block" + ("" if many else ", † the target block")
    if many and analysis.quality.has_joules:
        text += "; *: no other arm is as accurate for fewer joules"
    if methods and len(oracles(analysis)):
        text += "; oracle: that best block, as if it had been known, no arm that runs"
    if analysis.quality.has_joules:
        text += f"\njoules: gross, of {costed(results)}; {analysis.quality.energy}"
        text += "; last line: against full" if analysis.blocks["saving_gross"].notna().any() and not many else ""
    if any(answer.clear for answer in analysis.answers):
        text += f"\n{sentences.CLEARLY}"
    return text
