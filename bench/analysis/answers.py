"""Answer, per shift and train size, what to tune: nothing, one block, everything, or another arm; and how surely.

"Clearly" is said of a difference that holds among all claims of a report: each is corrected for the arms that it was
picked from, and all cases together say it falsely in at most 5 % of reports.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.statistics import CONFIDENCE, half_width, t_test
from bench.analysis.wording import missing
from bench.read.results import GROUP, NONE, UNTUNED

Floats = NDArray[np.float64]

PLAIN = ("single", "full")
"""Roles of the arms that every run of blocks has: one block, or everything."""

_EQUAL = 1e-12
"""Difference of two accuracies that is rounding of the computer."""

_PRINTED = 0.0005
"""Difference of two accuracies that is printed as 0.0 points."""

Kind = Literal["empty", "energy", "harm", "no help", "unsure", "full", "single", "tie", "other", "only"]
"""What an answer says.

empty: no result; energy: no accuracy; harm: every arm is worse than the untuned model; no help: none is better;
unsure: the best may be no better; full, single: everything, or one block, leads the other; tie: both are within one
test image; other: a set of blocks or a method leads; only: there is nothing to compare with, or no full fine-tuning.
"""


Claim = Literal["helps", "part or whole", "best"]
"""What is tested of each case: that tuning helps, or harms; that one block, or everything, is better than the other;
that one arm is better than all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One arm of a case.

    Attributes:
        arm, role: as in the block table.
        accuracy: mean over the seeds, a fraction; lo, hi: its 95 % interval; None where not known.
        joules: mean gross joules; None where not measured.
    """

    arm: str
    role: str
    accuracy: float | None
    lo: float | None
    hi: float | None
    joules: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is best for one shift and train size.

    Attributes:
        data, level, train_size, n_train: the case.
        kind: see `Kind`.
        untuned, single, full, leader: the source model as it is, the best single block, full fine-tuning, and the most
            accurate of all tuned arms; the cheapest where several tie. None where there is no such arm; without an
            accuracy where it gave no result.
        tied: arms within one test image of the leader (kind other), or single blocks within one of the best.
        others: every further arm, the most accurate first.
        lead: by how much the arm that the answer names leads what it is compared with, a fraction; lead_lo, lead_hi:
            its 95 % interval over seeds, not corrected for anything; None without one.
        second: name of the arm that it is compared with.
        clear: whether that lead is sure among all claims of the report; None without a test.
        seeds: pairs behind the comparison; 0 where that is not stated, as in a published table.
    """

    data: str
    level: str
    train_size: float
    n_train: float
    kind: Kind
    untuned: Option | None = None
    single: Option | None = None
    full: Option | None = None
    leader: Option | None = None
    tied: tuple[str, ...] = ()
    others: tuple[Option, ...] = ()
    lead: float | None = None
    lead_lo: float | None = None
    lead_hi: float | None = None
    second: str | None = None
    clear: bool | None = None
    seeds: int = 0

    @property
    def options(self) -> tuple[Option, ...]:
        """Every arm: the most accurate of methods and sets first where it leads, blocks, everything, untuned."""
        first = [self.leader] if self.leader and self.leader.role not in PLAIN else []
        known = [*first, self.single, self.full, self.untuned, *self.others]
        return tuple({option.arm: option for option in known if option is not None}.values())


@dataclass(frozen=True, slots=True)
class _Case:
    """Accuracies of one case.

    Attributes:
        accuracy: arm -> seed -> accuracy.
        options: arm -> figures, only those with an accuracy.
        image: what one test image is worth.
        stated: whether it is known how many seeds there are.
    """

    accuracy: Mapping[str, Mapping[int, float]]
    options: Mapping[str, Option]
    image: float
    stated: bool

    def mean(self, arm: str) -> float:
        return float(self.options[arm].accuracy or 0.0)

    def lead(self, first: str, second: str) -> float:
        return self.mean(first) - self.mean(second)

    def tie(self, first: str, second: str) -> bool:
        """Whether two arms are less than one test image apart."""
        gap = abs(self.lead(first, second))
        return gap < max(self.image - _EQUAL, _PRINTED)

    def best(self, arms: Sequence[str]) -> str:
        """The most accurate, of those that tie with it the cheapest."""
        top = max(arms, key=self.mean)

        def cost(arm: str) -> tuple[bool, float, float]:
            joules = self.options[arm].joules
            return (joules is None, joules or 0.0, -self.mean(arm))

        return min((arm for arm in arms if self.tie(arm, top)), key=cost)

    def differences(self, first: str, second: str) -> Floats:
        """Paired differences over the seeds that both have."""
        one, two = self.accuracy.get(first, {}), self.accuracy.get(second, {})
        return np.array([one[seed] - two[seed] for seed in one if seed in two])

    def p(self, first: str, others: Sequence[str]) -> float:
        """p of "first is not more than one test image better than every one of the others"; nan without a test.

        Each against `first` one-sided; all have to fall, so the largest counts and nothing is to be corrected
        (intersection-union test, Berger 1982). An accuracy is rounded to one image, and so is the spread of a
        difference, which a few seeds may not show.
        """
        if not others:
            return float("nan")
        pairs = [self.differences(first, other) for other in others]
        if min(map(len, pairs)) < 2:
            return float("nan")
        n = np.array([len(pair) for pair in pairs], dtype=float)
        sd = np.maximum([pair.std(ddof=1) for pair in pairs], self.image / np.sqrt(6))
        gap = np.array([pair.mean() for pair in pairs]) - self.image
        two_sided = t_test(gap, sd / np.sqrt(n), n - 1)[2]
        return float(np.where(gap > 0, two_sided / 2, 1 - two_sided / 2).max())

    def interval(self, first: str, second: str) -> tuple[float, float] | None:
        """95 % interval of the difference, not corrected; None below two seeds."""
        pairs = self.differences(first, second)
        if len(pairs) < 2:
            return None
        sd = max(float(pairs.std(ddof=1)), self.image / np.sqrt(6))
        half = float(half_width(np.array([len(pairs)]), np.array([sd]))[0])
        return float(pairs.mean()) - half, float(pairs.mean()) + half

    def may_be_none(self, first: str, second: str) -> bool:
        """Whether the interval of the difference reaches down to one test image; False without an interval."""
        ends = self.interval(first, second)
        return ends is not None and ends[0] <= self.image


def answers(blocks: pd.DataFrame, shifts: pd.DataFrame, seeds: pd.DataFrame) -> tuple[Answer, ...]:
    """Answer each case of the shift table, in its order.

    Args:
        blocks, shifts: tables of `bench.analysis.findings`.
        seeds: `bench.analysis.accuracy.by_seed` of the same records.
    """
    figures = _figures(blocks)
    by_seed = _by_seed(seeds)
    stated = {*blocks.loc[blocks["accuracy_n"].notna(), GROUP].itertuples(index=False, name=None)}
    images = (1 / seeds.groupby(GROUP, sort=False)["n_test"].min()).to_dict()
    found: list[tuple[Answer, tuple[Any, Claim | None], dict[Claim, float]]] = []
    for row in shifts[[*GROUP, "level", "n_train"]].to_dict("records"):
        key = (row["data"], row["train_size"])
        image = float(images.get(key, 0.0))
        of = figures.get(key, [])
        known = {option.arm: option for option in of if option.accuracy is not None}
        case = _Case(by_seed.get(key, {}), known, 0.0 if missing(image) else image, key in stated)
        answer, claim, claims = _answer(case, of, row)
        found.append((answer, (answer.train_size, claim), claims))
    chains: dict[str, dict[Any, float]] = {}
    for answer, _, claims in sorted(
        found, key=lambda one: size(one[0]), reverse=True
    ):  # where the most can be learned, first
        chain = chains.setdefault(answer.data, {})
        chain |= {(answer.train_size, claim): p for claim, p in claims.items()}
    sure = dict(zip(chains, rejected([*chains.values()]), strict=True))
    return tuple(
        replace(answer, clear=claim in sure[answer.data]) if claim[1] in claims else answer
        for answer, claim, claims in found
    )


def size(answer: Answer) -> tuple[float, float]:
    """Sort key: the number of training images, or the train size as given where that is not known."""
    return (0.0 if missing(answer.n_train) else answer.n_train, answer.train_size)


def rejected(chains: Sequence[Mapping[Hashable, float]], level: float = 1 - CONFIDENCE) -> list[set[Hashable]]:
    """Find the claims of each chain of p values that hold.

    A chain is tested in its order until one claim fails, each at level / m, with m the number of chains that are not
    yet through; a chain that is through leaves its share to the others (Bretz et al. 2009, "A graphical approach to
    sequentially rejective multiple test procedures"). The chance of any false claim among all stays below the level. A
    chain without a claim does not count. Here the cases of a shift are one chain, the largest train size first.
    """
    largest = sorted(max(chain.values()) for chain in chains if chain)
    left = len(largest)
    for p in largest:
        if p * left > level:
            break
        left -= 1
    limit = level / max(left, 1)
    return [{claim for claim, _ in itertools.takewhile(lambda one: one[1] <= limit, chain.items())} for chain in chains]


class _Arms(NamedTuple):
    """The arms of a case that decide: all tuned ones, the single blocks, and the best of each kind, or None."""

    tuned: Sequence[str]
    singles: Sequence[str]
    leader: str
    single: str | None
    full: str | None
    untuned: str | None

    @property
    def second(self) -> Sequence[str]:
        """All tuned arms but the leader."""
        return [arm for arm in self.tuned if arm != self.leader]


def _arms(case: _Case) -> _Arms | None:
    """Choose the arms; None where nothing tuned has an accuracy."""
    roles = {arm: option.role for arm, option in case.options.items()}
    untuned = next((arm for arm in (NONE, UNTUNED) if arm in roles), None)
    tuned = [arm for arm, role in roles.items() if arm != untuned and role != UNTUNED]
    if not tuned:
        return None
    singles = [arm for arm in tuned if roles[arm] == "single"]
    full = next((arm for arm in tuned if roles[arm] == "full"), None)
    single = case.best(singles) if singles else None
    leader = case.best(tuned)
    if roles[leader] not in PLAIN:  # a block or everything goes before an arm that is not told from it
        plain = [arm for arm in (single, full) if arm is not None and case.tie(arm, leader)]
        leader = case.best(plain) if plain else leader
    return _Arms(tuned, singles, leader, single, full, untuned)


def _answer(
    case: _Case, of: Sequence[Option], row: Mapping[Hashable, Any]
) -> tuple[Answer, Claim | None, dict[Claim, float]]:
    """The answer of one case without its clearness, the claim that it makes, and the p values of the case's claims."""
    found = Answer(
        data=row["data"], level=row["level"], train_size=row["train_size"], n_train=row["n_train"], kind="empty"
    )
    arms = _arms(case)
    if arms is None:
        measured = [option for option in of if option.joules is not None]
        single = min((o for o in measured if o.role == "single"), key=lambda o: o.joules or 0.0, default=None)
        full = next((option for option in measured if option.role == "full"), None)
        kind: Kind = "energy" if measured else "empty"
        return replace(found, kind=kind, single=single, full=full, others=tuple(measured)), None, {}
    lost = [option for option in of if option.accuracy is None and option.role != UNTUNED]
    rest = sorted((case.options[arm] for arm in arms.tuned), key=lambda option: -(option.accuracy or 0.0))
    kind, claim, first, second = _verdict(case, arms)
    chain = {}
    for name, p in _claims(case, arms):
        if missing(p):
            break
        chain[name] = p
    ends = None if second is None else case.interval(first, second)
    near, named = (arms.tuned, arms.leader) if kind == "other" else (arms.singles, arms.single)
    answer = replace(
        found,
        kind=kind,
        untuned=_of(case, arms.untuned),
        single=_of(case, arms.single) or next((option for option in lost if option.role == "single"), None),
        full=_of(case, arms.full) or next((option for option in lost if option.role == "full"), None),
        leader=case.options[arms.leader],
        tied=tuple(arm for arm in near if named is not None and arm != named and case.tie(arm, named)),
        others=(*rest, *lost),
        lead=None if second is None else case.lead(first, second),
        lead_lo=ends and ends[0],
        lead_hi=ends and ends[1],
        second=second,
        seeds=0 if second is None or not case.stated else len(case.differences(first, second)),
    )
    return answer, claim, chain


def _verdict(case: _Case, arms: _Arms) -> tuple[Kind, Claim | None, str, str | None]:
    """Kind of an answer, its claim, the arm that it names, and what that is compared with."""
    kind: Kind
    leader, single, full, untuned = arms.leader, arms.single, arms.full, arms.untuned
    if untuned is not None:
        if case.tie(leader, untuned) or case.lead(leader, untuned) < 0:
            kind = "no help" if case.tie(leader, untuned) else "harm"
            return kind, "helps" if kind == "harm" else None, untuned, max(arms.tuned, key=case.mean)
        if case.may_be_none(leader, untuned):
            return "unsure", "helps", leader, untuned
    second = max(arms.second, key=case.mean, default=None)
    if second is not None and (case.options[leader].role not in PLAIN or single is None or full is None):
        return "only" if case.options[leader].role in PLAIN else "other", "best", leader, second
    if single is None or full is None or second is None:
        return "only", "helps", leader, untuned
    if case.tie(single, full):
        return "tie", None, single, full
    block_leads = case.lead(single, full) > 0
    kind, first, second = ("single", single, full) if block_leads else ("full", full, single)
    return kind, "part or whole", first, second


def _claims(case: _Case, arms: _Arms) -> Iterator[tuple[Claim, float]]:
    """The claims that an answer may make, in the order in which they are tested, with their p values.

    A claim about an arm that was picked from k has k times its p (Bonferroni), one of two directions twice.
    """
    if arms.untuned is not None:
        helps, harms = len(arms.tuned) * case.p(arms.leader, [arms.untuned]), case.p(arms.untuned, arms.tuned)
        yield "helps", 2 * float(np.fmin(helps, harms))
    if arms.single is not None and arms.full is not None:
        block, whole = len(arms.singles) * case.p(arms.single, [arms.full]), case.p(arms.full, arms.singles)
        yield "part or whole", 2 * float(np.fmin(block, whole))
    plain = all(case.options[arm].role in PLAIN for arm in arms.tuned)
    if arms.second and not (plain and arms.single is not None and arms.full is not None):
        yield "best", len(arms.tuned) * case.p(arms.leader, arms.second)


def _of(case: _Case, arm: str | None) -> Option | None:
    return None if arm is None else case.options[arm]


def _figures(blocks: pd.DataFrame) -> dict[tuple[Any, Any], list[Option]]:
    """The arms of each case, without Block Avg; the untuned model only where no arm `none` gives its accuracy."""
    found: dict[tuple[Any, Any], list[Option]] = {}
    columns = [*GROUP, "arm", "role", "accuracy", "accuracy_lo", "accuracy_hi", "energy_gross_j"]
    for data, size, arm, role, *numbers in blocks.loc[blocks["role"] != "average", columns].itertuples(index=False):
        accuracy, lo, hi, joules = (None if missing(float(value)) else float(value) for value in numbers)
        option = Option(arm=arm, role=role, accuracy=accuracy, lo=lo, hi=hi, joules=joules)
        found.setdefault((data, size), []).append(option)
    return found


def _by_seed(seeds: pd.DataFrame) -> dict[tuple[Any, Any], dict[str, dict[int, float]]]:
    found: dict[tuple[Any, Any], dict[str, dict[int, float]]] = {}
    rows = seeds[[*GROUP, "arm", "seed", "accuracy_after"]].itertuples(index=False)
    for data, size, arm, seed, accuracy in rows:
        found.setdefault((data, size), {}).setdefault(cast(str, arm), {})[cast(int, seed)] = cast(float, accuracy)
    return found
