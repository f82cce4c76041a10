"""Judge rules of `auto` on stored probe values, and choose their thresholds, without running anything.

    python scripts/judge_auto.py [results/reference/shift_grid.jsonl.gz] [--tries 300]

A line of the file is one seed of one condition: the answers to each probed image, and the accuracy of every arm.
Families of shifts are held out as wholes: thresholds are chosen on those whose `half` is `choose`, and reported on the
others, whose seeds no choice has seen; then once more with each family held out in turn. Regret is the accuracy of the
oracle (the best of none, AdaBN and every single block, by test accuracy) less that of what a rule picked, in points.
docs/auto.md has what this prints.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.catalog.shift_rule import DEFAULT, Decision, Probes, Thresholds, confidence, decide, safe
from bench.training.probes import Seen, View

SINGLE = ("block1", "block2", "block3", "fc")
GRID: Mapping[str, tuple[float, ...]] = {
    "permuted": (0.05, 0.1, 0.15, 0.2),
    "head": (0.05, 0.1, 0.15, 0.2),
    "prior": (0.02, 0.04, 0.06, 0.1),
    "drift": (0.5, 0.75, 1.0, 1.5, 2.0),
    "repaired": (0.04, 0.06, 0.08, 0.1),
    "drop": (0.03, 0.05, 0.08, 0.12),
    "feature": (0.04, 0.06, 0.08, 0.1),
}
"""Values that are tried for each threshold."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A seed of a condition."""

    facts: Mapping[str, Any]
    seen: Seen
    probes: Probes

    @property
    def accuracy(self) -> Mapping[str, float]:
        found: Mapping[str, float] = self.facts["accuracy"]
        return found

    @property
    def oracle(self) -> float:
        return max(self.accuracy[name] for name in ("none", "adabn", *SINGLE) if name in self.accuracy)

    def regret(self, arm: str) -> float:
        """In points."""
        return 100 * (self.oracle - self.accuracy[arm])

    def cost(self, arm: str) -> float:
        """Multiply-accumulates relative to those of `full`."""
        done: Mapping[str, float] = self.facts["forwards"]
        return done.get(arm.removesuffix(">h"), 0.0) / done["full"]


Rule = Callable[[Row, Thresholds], tuple[str, str]]
"""(row, thresholds) -> kind of the shift, name of what is kept of what it does."""


def read(path: Path) -> list[Row]:
    """The rows of a file of stored probes."""
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            facts = json.loads(line)
            answers = {name: torch.tensor([int(k) for k in text]) for name, text in facts["answers"].items()}
            y = answers.pop("y")
            empty = View(torch.zeros(0), torch.zeros(0), {})
            seen = Seen(y, empty, empty, answers, facts["drift"], facts["source_accuracy"])
            rows.append(Row(facts, seen, seen.probes()))
    return rows


def prototype(row: Row, at: Thresholds) -> tuple[str, str]:
    """Rule 1: types by intervention probes, each with the block that TBFT tunes for it (the first rule of the project).

    It looks at what re-normalising gives the features, at what another head gives, and at the drop.
    """
    p = row.probes
    gain_in = (p.target_head or 0.0) - p.head if p.target_head is not None else 0.0
    gain_out = p.best_head - (p.target_accuracy if gain_in > 0 and p.target_accuracy is not None else p.accuracy)
    drop = p.source_accuracy - p.accuracy
    if drop < at.drop and gain_out < at.head:
        return "none", "none"
    moved = gain_in >= at.repaired or (p.drift >= at.drift and drop >= 2 * at.drop)
    renamed = gain_out >= 2 * at.head
    if moved and renamed:
        return "composite", "head, target statistics" if p.target_head is not None else "head, source statistics"
    return ("input", "block1") if moved else ("output", "fc") if renamed else ("feature", "block3")


def estimates(row: Row, at: Thresholds) -> tuple[str, str]:
    """Rule 2: no types and no gradients; the most accurate of what forward passes can try, if it gains enough."""
    p = row.probes
    tried = {"head, source statistics": p.head, "adabn": p.target_accuracy, "head, target statistics": p.target_head}
    known = {name: value for name, value in tried.items() if value is not None}
    best = max(known, key=lambda name: known[name])
    if known[best] - p.accuracy < at.feature:
        return "none", "none"
    if p.prior - p.accuracy >= at.prior and known[best] - p.prior < at.head:
        return "prior", "prior"
    return best, best


def auto(row: Row, at: Thresholds) -> tuple[str, str]:
    """Rule 3, that of the method: types, heads in closed form, the first block where the input has shifted."""
    found = decide(row.probes, at)
    return found.kind, carried_out(row, found)


def carried_out(row: Row, found: Decision) -> str:
    """What a decision leaves in the end, by the stored validation losses."""
    head = f"head, {found.statistics} statistics"
    start = head if found.head else "adabn" if found.statistics == "target" else "none"
    if found.tune:
        losses: Mapping[str, float] = row.facts["val_loss"]
        return min((start, "block1", "block1>h"), key=lambda name: losses[name])
    return "prior" if found.kind == "prior" else start


RULES: Mapping[str, Rule] = {"1 prototype": prototype, "2 estimates": estimates, "3 auto": auto}


def regrets(rows: Iterable[Row], rule: Rule, at: Thresholds) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([row.regret(rule(row, at)[1]) for row in rows])


def choose(rows: list[Row], rule: Rule, tries: int) -> Thresholds:
    """The thresholds of the lowest mean regret among the default and random points of the grid.

    A point that adapts to more than a tenth of the rows without a shift or with a prior shift is out.
    """
    rng = np.random.default_rng(0)
    points = [DEFAULT]
    points += [Thresholds(**{name: float(rng.choice(values)) for name, values in GRID.items()}) for _ in range(tries)]
    still = [row for row in rows if row.facts["family"] in ("none", "none-other", "prior")]

    def loss(at: Thresholds) -> float:
        spends = np.mean([rule(row, at)[1] not in ("none", "prior") for row in still]) if still else 0.0
        found = regrets(rows, rule, at)
        return float(found.mean() + 0.2 * np.quantile(found, 0.9) + (100 if spends > 0.1 else 0))

    return min(points, key=loss)


def interval(values: np.ndarray[Any, Any], groups: list[str]) -> tuple[float, float]:
    """95 % interval of a mean by the bootstrap over conditions, each with all of its seeds."""
    rng = np.random.default_rng(1)
    names = sorted(set(groups))
    parts = [values[np.array([group == name for group in groups])] for name in names]
    means = []
    for _ in range(1000):
        drawn = [parts[k] for k in rng.integers(0, len(parts), len(parts))]
        means.append(np.concatenate(drawn).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def line(name: str, rows: list[Row], values: np.ndarray[Any, Any], cost: float) -> str:
    groups = [f"{row.facts['net']} {row.facts['data']}" for row in rows]
    low, high = interval(values, groups)
    figures = f"{values.mean():.1f} ({low:.1f} to {high:.1f}) | {np.quantile(values, 0.9):.1f} | {values.max():.1f}"
    return f"| {name} | {len(values)} | {figures} | {100 * cost:.0f} |"


def cost_of_rule(rows: list[Row], rule: Rule, at: Thresholds) -> float:
    """Mean multiply-accumulates relative to `full`, probes included; a block that was tuned counts though not kept."""
    found = []
    for row in rows:
        kind, kept = rule(row, at)
        probed = (2 * (row.facts["train_size"] + row.facts["n_val"]) + row.facts["train_size"]) / row.facts["forwards"][
            "full"
        ]
        tuned = "block1" if kind == "input" else kept
        found.append(probed + row.cost(tuned))
    return float(np.mean(found))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    default = Path(__file__).parents[1] / "results/reference/shift_grid.jsonl.gz"
    parser.add_argument("file", nargs="?", type=Path, default=default)
    parser.add_argument("--tries", type=int, default=300, help="points of the grid of thresholds")
    parser.add_argument("--train-size", type=int, help="only rows with so many labels")
    given = parser.parse_args()
    rows = [row for row in read(given.file) if given.train_size in (None, row.facts["train_size"])]
    choosing, reporting = ([row for row in rows if row.facts["half"] == half] for half in ("choose", "report"))
    print(f"{len(choosing)} seeds of conditions to choose on, {len(reporting)} to report on\n")
    head = "| arm | n | mean regret (95 %) | 90th percentile | worst | MACs, % of full |\n|---|---|---|---|---|---|"
    print(head)
    chosen = {}
    for name, rule in RULES.items():
        chosen[name] = at = choose(choosing, rule, given.tries)
        print(line(f"rule {name}", reporting, regrets(reporting, rule, at), cost_of_rule(reporting, rule, at)))
    print(
        line(
            "rule 3 auto, as shipped",
            reporting,
            regrets(reporting, auto, DEFAULT),
            cost_of_rule(reporting, auto, DEFAULT),
        )
    )
    for arm in ("none", "adabn", *SINGLE, "full"):
        mine = [row for row in reporting if arm in row.accuracy]
        values = np.array([row.regret(arm) for row in mine])
        print(line(f"always {arm}", mine, values, float(np.mean([row.cost(arm) for row in mine]))))
    drawn = np.array([np.mean([row.regret(arm) for arm in SINGLE]) for row in reporting])
    print(line("random block", reporting, drawn, float(np.mean([[row.cost(a) for a in SINGLE] for row in reporting]))))
    for name, at in chosen.items():
        print(f"\nchosen for {name}: {dataclasses.asdict(at)}")
    print(
        "\n## Leave one family out, rule 3\n\n| family | n | mean regret | 90th percentile | worst |\n"
        "|---|---|---|---|---|"
    )
    out = []
    for family in sorted({row.facts["family"] for row in rows}):
        held = [row for row in rows if row.facts["family"] == family]
        at = choose([row for row in rows if row.facts["family"] != family], auto, given.tries // 5)
        values = regrets(held, auto, at)
        out.append(values)
        print(f"| {family} | {len(held)} | {values.mean():.1f} | {np.quantile(values, 0.9):.1f} | {values.max():.1f} |")
    every = np.concatenate(out)
    print(f"| all | {len(every)} | {every.mean():.1f} | {np.quantile(every, 0.9):.1f} | {every.max():.1f} |")
    by_net(reporting)
    composites(reporting)
    types(rows)
    calibration(rows)


def by_net(rows: list[Row]) -> None:
    print(
        "\n## By net, rule 3 as shipped, reporting half\n\n| net | n | mean regret | 90th percentile |\n"
        "|---|---|---|---|"
    )
    for net in sorted({row.facts["net"] for row in rows}):
        values = regrets([row for row in rows if row.facts["net"] == net], auto, DEFAULT)
        print(f"| {net} | {len(values)} | {values.mean():.1f} | {np.quantile(values, 0.9):.1f} |")
    print("\n| labels | n | mean regret | 90th percentile |\n|---|---|---|---|")
    for size in sorted({row.facts["train_size"] for row in rows}):
        values = regrets(
            [row for row in rows if row.facts["train_size"] == size and row.facts["net"] == "digits"], auto, DEFAULT
        )
        print(f"| {size}, digits | {len(values)} | {values.mean():.1f} | {np.quantile(values, 0.9):.1f} |")


def composites(rows: list[Row]) -> None:
    mixed = [row for row in rows if row.facts["family"].startswith("mix-") and row.facts["family"] != "mix-sub"]
    told = {"auto": regrets(mixed, auto, DEFAULT).mean()}
    told |= {
        f"tbft told {level}": np.mean([row.regret(arm) for row in mixed])
        for level, arm in (("input", "block1"), ("output", "fc"))
    }
    print(f"\nComposites, {len(mixed)} seeds: " + ", ".join(f"{name} {value:.1f}" for name, value in told.items()))


def types(rows: list[Row]) -> None:
    kinds = ("none", "prior", "input", "feature", "output", "composite")
    print("\n## What each family is taken for, all rows\n\n| family | " + " | ".join(kinds) + " |\n" + "|---" * 7 + "|")
    for family in sorted({row.facts["family"] for row in rows}):
        found = [decide(row.probes).kind for row in rows if row.facts["family"] == family]
        print(f"| {family} | " + " | ".join(str(found.count(kind)) for kind in kinds) + " |")


def calibration(rows: list[Row]) -> None:
    print("\n## Stated confidence, all rows\n\n| stated | n | within 1 point of the oracle |\n|---|---|---|")
    stated, right = [], []
    for row in rows:
        found = decide(row.probes)
        sure = confidence(found, row.seen.replicates(200, 0))
        kept = carried_out(row, found if sure >= DEFAULT.confidence else safe(found, row.probes))
        stated.append(sure)
        right.append(row.regret(kept) <= 1)
    for low, high in ((0, 0.5), (0.5, 0.8), (0.8, 0.9), (0.9, 1), (1, 2)):
        inside = [ok for sure, ok in zip(stated, right, strict=True) if low <= sure < high]
        share = f"{np.mean(inside):.0%}" if inside else ""
        print(f"| {low:.0%} to {min(high, 1):.0%} | {len(inside)} | {share} |")


if __name__ == "__main__":
    main()
