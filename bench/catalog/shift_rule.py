"""The rule by which `auto` tells the kind of a shift from probes, in plain numbers: no image and no net is needed here.

So a run's probes can be judged again by another rule, without running anything: `scripts/judge_auto.py`. How the
thresholds were chosen, and on what: docs/auto.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["none", "prior", "input", "feature", "output", "composite"]
KINDS: tuple[Kind, ...] = ("none", "prior", "input", "feature", "output", "composite")
Statistics = Literal["source", "target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What forward passes over labelled images of the target tell. Accuracies are fractions of these images.

    Attributes:
        accuracy: of the source model.
        head: of a linear discriminant on its features, cross-validated.
        prior: of the source model whose logits are moved by the logarithm of the classes' shares.
        permuted: how much more accurate it is under the best renaming of its answers (Hungarian method).
        drift: of the statistics of the first third of the layers, in units of what a change of classes makes: 1 is the
            90 % quantile over images of one class alone.
        source_accuracy: of the source model on source images.
        target_accuracy, target_head, target_permuted: the same with BatchNorm's statistics taken from the target; None
            where the net has none.
    """

    accuracy: float
    head: float
    prior: float
    permuted: float
    drift: float
    source_accuracy: float
    target_accuracy: float | None = None
    target_head: float | None = None
    target_permuted: float | None = None

    @property
    def best(self) -> float:
        """Accuracy without another head, with the better statistics."""
        return max(self.accuracy, self.target_accuracy or 0.0)

    @property
    def best_head(self) -> float:
        """Accuracy of another head, with the better statistics."""
        return max(self.head, self.target_head or 0.0)

    @property
    def repaired(self) -> float:
        """What statistics of the target give, with the head as it is or with another; negative where they harm."""
        if self.target_accuracy is None or self.target_head is None:
            return 0.0
        return max(self.target_accuracy - self.accuracy, self.target_head - self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where the rule draws its lines; differences of accuracy, but for `drift`.

    Attributes:
        permuted, head: an output-level shift has at least these gains of a renaming and of another head.
        prior: a prior shift has at least this gain of the classes' shares.
        drift, repaired: an input-level shift has at least this drift, or this gain of the target's statistics.
        drop: and costs at least this much against the source.
        feature: a feature-level shift has at least this gain of another head.
        confidence: share of the bootstrap's votes below which the safe arm is taken.
    """

    permuted: float = 0.10
    head: float = 0.10
    prior: float = 0.04
    drift: float = 1.0
    repaired: float = 0.06
    drop: float = 0.05
    feature: float = 0.06
    confidence: float = 0.5


DEFAULT = Thresholds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a shift is taken for, and what it calls for.

    Attributes:
        kind: of the shift.
        statistics: of the source or of the target, that BatchNorm starts from.
        head: whether the head is solved anew first.
        tune: whether the first block is trained; what validates best of before and after is kept.
        reason: in words.
    """

    kind: Kind
    statistics: Statistics = "source"
    head: bool = False
    tune: bool = False
    reason: str = ""


def decide(probes: Probes, at: Thresholds = DEFAULT) -> Decision:
    """The kind of a shift and the cheapest adaptation that it calls for.

    Output level: another head, solved in closed form, knows the classes that the old one confuses, and a renaming of
    its answers explains a part of it. Input level: the statistics of early layers moved, or taking them from the target
    repairs something. Prior: the classes' shares alone explain the loss. Feature level: another head gains and none of
    the above holds. Otherwise nothing is done.
    """
    p = probes
    permuted = max(p.permuted, p.target_permuted or 0.0) >= at.permuted and p.best_head - p.best >= at.head
    if not permuted and p.prior - p.accuracy >= at.prior and (p.target_accuracy or 0.0) < p.accuracy + 0.02:
        return Decision(kind="prior", reason=f"the shares of the classes alone give {p.prior - p.accuracy:+.0%}")
    of_target = max(p.target_accuracy or 0.0, p.target_head or 0.0)
    target_better = p.target_accuracy is not None and of_target > max(p.accuracy, p.head)
    head_of: Statistics = "target" if (p.target_head or 0.0) > p.head else "source"
    moved = f"early layers drift {p.drift:.1f} times as far as a change of classes takes them"
    repaired = f"the target's statistics give {p.repaired:+.0%}"
    at_input = p.drift >= at.drift or p.repaired >= at.repaired
    if permuted:
        renamed = f"another head gives {p.best_head - p.best:+.0%}, answers that are renamed alone {p.permuted:+.0%}"
        if not at_input:
            return Decision(kind="output", statistics=head_of, head=True, reason=renamed)
        return Decision(kind="composite", statistics=head_of, head=True, reason=f"{renamed}; {moved}; {repaired}")
    costs = p.source_accuracy - p.accuracy
    if at_input and (costs >= at.drop or p.repaired >= at.repaired):
        head_first = p.best_head > p.best + 0.02
        statistics: Statistics = head_of if head_first else "target" if target_better else "source"
        why = f"{moved}; {repaired}; it costs {costs:.0%}"
        return Decision(kind="input", statistics=statistics, head=head_first, tune=True, reason=why)
    if not at_input and p.head - p.accuracy >= at.feature:
        why = f"another head gives {p.head - p.accuracy:+.0%}, answers are not renamed, statistics stay"
        return Decision(kind="feature", statistics=head_of, head=True, reason=why)
    return Decision(kind="none", reason=f"{p.accuracy:.0%} right, and no probe gives more than its threshold")


def confidence(decision: Decision, replicates: Iterable[Probes], at: Thresholds = DEFAULT) -> float:
    """Share of the bootstrap's replicates whose kind is the decision's."""
    votes = [decide(replicate, at).kind == decision.kind for replicate in replicates]
    return sum(votes) / len(votes)


def safe(decision: Decision, probes: Probes) -> Decision:
    """The arm that is taken where the votes are divided: another head, kept if it validates better than the source."""
    statistics: Statistics = "target" if (probes.target_head or 0.0) > probes.head else "source"
    why = f"the votes are divided ({decision.kind}: {decision.reason}); the head alone, if it validates better"
    return dataclasses.replace(decision, statistics=statistics, head=True, tune=False, reason=why)
