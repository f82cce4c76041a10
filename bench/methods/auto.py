"""Auto: tells the kind of the shift from a few forward passes, then does the cheapest adaptation that it calls for.

The probes run in the phase `select`; `bench.catalog.shift_rule` decides, and says why; the bootstrap over the labelled
images says how sure that is. What follows is none of it, another head solved in closed form, or the first block trained
by the suite's protocol. docs/auto.md has the rule, what it was tried on, and where it fails.
"""

from __future__ import annotations

import dataclasses
import math
import string
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bench.catalog.shift_rule import Decision, Thresholds, confidence, decide, safe
from bench.errors import JouletuneError
from bench.methods import Adapted, Method, Options, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.training.loop import Batchable
    from bench.training.probes import Seen

DIGITS = string.digits + string.ascii_lowercase + string.ascii_uppercase
"""A character for each class, so that a record holds the answers to each image in short."""


class AutoOptions(Options):
    """Attributes:
    images: labelled ones that are probed at most, two thirds of them for training.
    replicates: of the bootstrap over them.
    confidence: share of its votes below which the safe arm is taken: another head, kept if it validates better.
    lr: of the first block's training; null: the suite's.
    """

    images: Annotated[int, Field(ge=6, le=100_000)] = 270
    replicates: Annotated[int, Field(ge=20, le=10_000)] = 200
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    lr: Annotated[float, Field(gt=0)] | None = None


METHOD = Method(
    name="auto",
    about="tells the kind of the shift from forward passes, then does the cheapest adaptation that it calls for",
    labels="needed",
    needs=("linear head",),
    source_facts=("layers",),
    options=AutoOptions,
    cite="docs/auto.md",
)


def adapt(task: Task, options: AutoOptions) -> Adapted:
    """Probe, decide, adapt."""
    from bench.models.blocks import block_parameters

    with task.phase("select"):
        why_not = _unusable(task)
        if why_not is not None:
            task.model.eval()
            return Adapted(facts={"decision": "none", "confidence": None, "fell_back": True, "reason": why_not})
        seen, n_train, n_val = _probe(task, options)
        probes = seen.probes()
        at = Thresholds(confidence=options.confidence)
        first = decide(probes, at)
        sure = confidence(first, seen.replicates(options.replicates, task.seed), at)
        divided = sure < at.confidence
        decision = safe(first, probes) if divided else first
    facts: dict[str, Any] = {
        "decision": first.kind,
        "confidence": round(sure, 3),
        "fell_back": divided,
        "reason": decision.reason,
        "probes": {key: None if v is None else round(v, 4) for key, v in dataclasses.asdict(probes).items()},
    }
    if task.n_classes <= len(DIGITS):
        answers = {"y": seen.y} | seen.answers
        facts["answers"] = {name: "".join(DIGITS[k] for k in found.tolist()) for name, found in answers.items()}
    if not (decision.head or decision.tune):
        kept = "source"
        if decision.kind == "prior":
            _weigh(task, seen)
            kept = "prior"
        return Adapted(facts=facts | {"kept": kept})
    work = _Work(task, seen, n_train, n_val, decision)
    if decision.head:
        work.solve_head()
    trained = 0
    if decision.tune:
        block = next(iter(task.block_map))
        parameters = block_parameters(task.model, task.block_map, block)
        work.train(parameters, options.lr)
        facts["block"] = block
        trained = sum(parameter.numel() for parameter in parameters)
    kept = work.keep_best(with_source=divided)
    if work.head_solved:
        trained += sum(parameter.numel() for parameter in work.head.parameters())
    losses = {name: round(loss, 4) if math.isfinite(loss) else None for name, loss in work.losses.items()}
    return Adapted(
        facts=facts | {"kept": kept, "val_losses": losses},
        epochs_run=work.epochs_run,
        best_epoch=work.best_epoch,
        steps=work.steps,
        trained_parameters=trained,
    )


def _unusable(task: Task) -> str | None:
    """Why nothing can be told from these images; None where something can.

    Raises:
        JouletuneError: pixels are not finite.
    """
    x, y = task.train.x, task.train.y
    for what, images in (("training", x), ("validation", task.val.x)):
        broken = int((~images.isfinite()).flatten(1).any(1).sum())
        if broken:
            raise JouletuneError(f"auto: {broken} of {len(images)} {what} images have pixels that are not finite")
    if len(x) < 2 or len(task.val.x) < 1:
        return f"{len(x)} training and {len(task.val.x)} validation images tell nothing; the source model stays"
    if len(y.unique()) < 2:
        return "all training images are of one class, so nothing can be told from their labels; the source model stays"
    if bool((x == x[0]).all()):
        return "all training images are equal, so nothing can be told from them; the source model stays"
    return None


def _probe(task: Task, options: AutoOptions) -> tuple[Seen, int, int]:
    """What is seen of the first training and validation images, and how many these are."""
    import torch

    from bench.training.probes import see

    n_val = min(len(task.val.x), max(options.images // 3, options.images - len(task.train.x)))
    n_train = min(len(task.train.x), options.images - n_val)
    x, y = (torch.cat([a[:n_train], b[:n_val]]) for a, b in ((task.train.x, task.val.x), (task.train.y, task.val.y)))
    return see(task, x, y, n_train), n_train, n_val


def _weigh(task: Task, seen: Seen) -> None:
    """Move the head's bias by the logarithm of the classes' shares, which runs no image."""
    import torch

    from bench.training.layers import linear_head
    from bench.training.probes import log_shares

    head = linear_head(task.model)
    assert head is not None
    with torch.no_grad():
        head.bias.add_(log_shares(seen.y, task.n_classes).to(head.bias))


class _Work:
    """The adaptation after a decision: states of the model with their validation losses, the best of which is kept.

    Args:
        seen: what the probes saw of the first `n_train` training and `n_val` validation images.

    Attributes:
        losses: validation loss of each state, by name.
        head_solved: whether another head was solved and may be kept.
    """

    def __init__(self, task: Task, seen: Seen, n_train: int, n_val: int, decision: Decision) -> None:
        from bench.training.layers import linear_head
        from bench.training.probes import put_state

        self._task = task
        view = seen.target if decision.statistics == "target" and seen.target is not None else seen.source
        put_state(task.model, view.state)
        head = linear_head(task.model)
        assert head is not None
        self.head = head
        self._train = self._features(task.train, view.features[:n_train])
        self._val = self._features(task.val, view.features[n_train : n_train + n_val])
        self.losses: dict[str, float] = {}
        self.epochs_run: int | None = None
        self.best_epoch: int | None = None
        self.steps = 0
        self.head_solved = False
        self._states: dict[str, dict[str, Tensor]] = {}
        self._source = seen.source.features[n_train : n_train + n_val], task.val.y[:n_val]
        self._note("as it is", self._loss())

    def solve_head(self, name: str = "head") -> None:
        """Solve the head on the features at hand."""
        from bench.training.closed_form import solve, solve_macs

        outcome = solve(self.head, self._train, self._val)
        self._task.count_macs(solve_macs(self.head, len(self._train.x), len(self._val.x)))
        self.head_solved = True
        self._note(name, outcome.val_losses[0])

    def train(self, parameters: list[nn.Parameter], lr: float | None) -> None:
        """Train parameters by the suite's protocol from the state at hand on, and solve the head again."""
        outcome = self._task.tune(parameters, lr=lr)
        self.epochs_run, self.best_epoch, self.steps = outcome.epochs_run, outcome.best_epoch, outcome.steps
        self._note("trained", min(outcome.val_losses))
        self._train, self._val = (self._features(data, None) for data in (self._task.train, self._task.val))
        self.solve_head("trained, head")

    def keep_best(self, *, with_source: bool) -> str:
        """Put the model into the state of the lowest validation loss, and name it.

        Without training only the newest state counts: the decision asked for it. The features of a state are those that
        its head was solved on, so its loss is a little low; training has to beat it all the same.

        Args:
            with_source: whether the source model may win too, as where the votes were divided.
        """
        candidates = dict(self.losses) if self.steps else {(last := [*self.losses][-1]): self.losses[last]}
        if self.steps and "head" in candidates:
            del candidates["as it is"]
        if with_source:
            from torch.nn import functional as F

            self._task.reset()
            features, y = self._source
            candidates["source"] = float(F.cross_entropy(self.head(features), y))
            self.losses["source"] = candidates["source"]
            self._states["source"] = dict(self._task.source_state)
        best = min(candidates, key=lambda name: candidates[name])
        self._task.model.load_state_dict(self._states[best])
        self._task.model.eval()
        return best

    def _features(self, data: Batchable, known: Tensor | None) -> Batchable:
        """What reaches the head, of those images that the probes have not run."""
        import torch

        from bench.training.loop import Batchable
        from bench.training.probes import look

        n_known = 0 if known is None else len(known)
        parts = [] if known is None else [known]
        if n_known < len(data.x):
            parts.append(look(self._task, data.x[n_known:]).features)
        return Batchable(torch.cat(parts).detach(), data.y)

    def _loss(self) -> float:
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            return float(F.cross_entropy(self.head(self._val.x), self._val.y))

    def _note(self, name: str, loss: float) -> None:
        self.losses[name] = loss if math.isfinite(loss) else float("inf")
        self._states[name] = {key: value.clone() for key, value in self._task.model.state_dict().items()}
