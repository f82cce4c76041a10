"""Stop repeating where the order of the arms by joules is decided (`energy: {stop: decided}`).

After each repeat of a case (`Cell.group`: data, train size, work and way of training), the arms are put in the order
of their mean gross joules, and every two neighbours are compared: the logarithm of the ratio of their joules, averaged
over the seeds of a repeat, with a paired t test over the repeats. The order is decided once all neighbours differ at

    level / ((N - 1) * (k - 1)),   two-sided,

with N the repeats that the suite asks for, so N - 1 looks at most, and k arms, so k - 1 pairs of neighbours. The order
itself is read off the data, so a pair may be any of k (k - 1) / 2: that number takes the place of k - 1. By Bonferroni
the chance that any look calls a wrong order decided is at most `LEVEL` per case, whatever the repeats were before.
It holds for the run's seeds; what a meter adds to every repeat alike cancels in a ratio.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.run.plan import Repeat
from bench.suite.cell import Cell

LEVEL = 0.05
"""Chance, per case, that a wrong order of its arms ends its repeats."""


def decided(joules: Mapping[str, Sequence[float]], looks: int, level: float = LEVEL) -> float | None:
    """Test whether the order of the arms is decided.

    Args:
        joules: arm -> one figure per repeat, the geometric mean over its seeds; equally many for each.
        looks: how often at most it is asked, N - 1.

    Returns:
        The largest p among neighbours, corrected for looks and pairs, if it is at most `level`; None otherwise.
    """
    from scipy.special import stdtr

    arms = sorted(joules, key=lambda arm: sum(map(math.log, joules[arm])))
    n = min(map(len, joules.values()), default=0)
    if len(arms) < 2 or n < 2:
        return None
    worst = 0.0
    for first, second in itertools.pairwise(arms):
        logs = [math.log(b / a) for a, b in zip(joules[first], joules[second], strict=True)]
        mean = sum(logs) / n
        sd = math.sqrt(sum((value - mean) ** 2 for value in logs) / (n - 1))
        if mean <= 0:
            return None
        worst = max(worst, 2 * float(stdtr(n - 1, -mean * math.sqrt(n) / sd)) if sd else 0.0)
    corrected = worst * looks * len(arms) * (len(arms) - 1) / 2
    return corrected if corrected <= level else None


class Decisions:
    """Which cases of a run are decided, from its records.

    Args:
        cells: all that the command runs.
        repeats: asked for of each.
    """

    def __init__(self, cells: Iterable[Cell], repeats: int) -> None:
        self._cells: dict[str, list[Cell]] = {}
        for cell in cells:
            self._cells.setdefault(cell.group, []).append(cell)
        self._looks = max(repeats - 1, 1)
        self._joules: dict[tuple[str, int], float | None] = {}
        self._known: dict[tuple[str, int], dict[str, Any] | None] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record. A repeat that failed, or has joules of grade X, leaves its case undecided."""
        energy, grade = record.get("energy_gross_j"), record.get("grade")
        if record.get("status") != "ok" or grade == "X":
            return
        if energy is None or energy > 0:  # None: an arm that does no work, as `none`
            self._joules[str(record["cell_id"]), int(record["repeat"])] = energy

    def skips(self, repeat: Repeat) -> dict[str, Any] | None:
        """Facts of the decision that makes a repeat needless; None where it has to run."""
        case = repeat.cell.group
        for number in range(2, repeat.number + 1):
            if (found := self._after(case, number)) is not None:
                return found
        return None

    def _after(self, case: str, repeats: int) -> dict[str, Any] | None:
        """The decision after so many repeats, all of which every cell of the case has; arms without joules stay out."""
        key = (case, repeats)
        if key in self._known:
            return self._known[key]
        logs: dict[str, dict[int, list[float]]] = {}
        for cell in self._cells[case]:
            for number in range(repeats):
                if (cell.cell_id, number) not in self._joules:
                    return None  # not kept: it may come yet
                energy = self._joules[cell.cell_id, number]
                if energy is None:
                    continue
                logs.setdefault(cell.arm.label, {}).setdefault(number, []).append(math.log(energy))
        if any(len(of) < repeats for of in logs.values()):
            return None
        joules = {arm: [math.exp(sum(of[n]) / len(of[n])) for n in sorted(of)] for arm, of in logs.items()}
        p = decided(joules, self._looks)
        self._known[key] = None if p is None else {
            "case": case, "repeats": repeats, "p": p,
            "order": sorted(joules, key=lambda arm: sum(map(math.log, joules[arm]))),
        }  # fmt: skip
        return self._known[key]
