"""Probes: what forward passes over a few labelled images tell of a shift, for `bench.catalog.shift_rule`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.catalog.shift_rule import Probes
from bench.errors import JouletuneError
from bench.suite.training import EVAL_BATCH
from bench.training.layers import NORMALISING, batch_statistics, batchnorms, head_inputs, linear_head
from bench.training.task import UnlabelledTask

FOLDS = 5
SHRINKAGE = 0.3
"""Of the covariance within the classes towards a round one, where a discriminant is cross-validated."""

NULL_QUANTILE = 0.9
FIRST = 1 / 3
"""Share of the layers whose drift counts as that of the input: a third, as the paper's nets have three stages."""

Moments = tuple[Tensor, Tensor, list[int]]
"""Mean and mean square of each channel of each layer, [N, channels] or [channels], and the channels of each layer."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a net in one state makes of the images.

    Attributes:
        logits: [N, n_classes].
        features: [N, n_features], what reaches the head.
        state: the net's buffers, BatchNorm's statistics among them.
    """

    logits: Tensor
    features: Tensor
    state: dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Views of the labelled images that were probed, and answers to them.

    Attributes:
        y: labels [N].
        source, target: with BatchNorm's statistics of the source and of these images; None without BatchNorm.
        answers: class for each image, by name: `source` and `target` of the net, `source_head` and `target_head` of
            cross-validated heads, `prior` of the net with the classes' shares.
        drift: as in Probes.
        source_accuracy: likewise.
    """

    y: Tensor
    source: View
    target: View | None
    answers: dict[str, Tensor]
    drift: float
    source_accuracy: float

    def probes(self, chosen: Tensor | None = None) -> Probes:
        """The figures of the rule.

        Args:
            chosen: indices of images, with repetitions, as the bootstrap draws them; None: each once.
        """
        right = {name: (found == self.y) for name, found in self.answers.items()}
        share = {name: float((ok if chosen is None else ok[chosen]).double().mean()) for name, ok in right.items()}
        y = self.y if chosen is None else self.y[chosen]
        renamed = {
            name: gain_of_renaming(y, self.answers[name] if chosen is None else self.answers[name][chosen])
            for name in ("source", "target")
            if name in self.answers
        }
        return Probes(
            accuracy=share["source"],
            head=share["source_head"],
            prior=share["prior"],
            permuted=renamed["source"],
            drift=self.drift,
            source_accuracy=self.source_accuracy,
            target_accuracy=share.get("target"),
            target_head=share.get("target_head"),
            target_permuted=renamed.get("target"),
        )

    def replicates(self, n: int, seed: int) -> Iterator[Probes]:
        """The figures of n samples of these images, drawn with repetitions."""
        rng = np.random.default_rng(seed)
        for _ in range(n):
            yield self.probes(torch.from_numpy(rng.integers(0, len(self.y), len(self.y))))


def see(task: UnlabelledTask, images: Tensor, y: Tensor, n_statistics: int) -> Seen:
    """Run the probes: the images once as the net is, once for statistics, once with those.

    Args:
        task: whose model has a linear head and the source's weights; it has them again afterwards.
        images: [N, C, H, W].
        y: labels, int64 [N].
        n_statistics: from the first how many of the images BatchNorm's statistics are taken.

    Raises:
        JouletuneError: the head's input does not give the logits, so that no head can be solved on it.
    """
    task.model.eval()
    with moments(task.model) as seen:
        source = look(task, images)
    y = y.cpu()
    head = linear_head(task.model)
    assert head is not None
    with torch.no_grad():
        if not torch.allclose(head(source.features), source.logits, rtol=1e-2, atol=1e-2):
            raise JouletuneError(
                "the last layer of the net does not give its logits: no head can be solved on its input"
            )
    views = {"source": source}
    if batchnorms(task.model):
        take_statistics(task, images[:n_statistics])
        views["target"] = look(task, images)
        task.model.load_state_dict(task.source_state)
    answers = {}
    for name, view in views.items():
        answers[name] = view.logits.argmax(1).cpu()
        answers[f"{name}_head"] = cross_validated(view.features, y, task.n_classes, task.seed)
        task.count_macs(FOLDS * (len(y) * view.features.shape[1] ** 2 + view.features.shape[1] ** 3 // 3))
    answers["prior"] = (source.logits + log_shares(y, task.n_classes).to(source.logits)).argmax(1).cpu()
    source_accuracy = float(task.source_facts["layers"]["accuracy"])
    return Seen(y, source, views.get("target"), answers, _of_first(seen, task.source_facts["layers"]), source_accuracy)


def first_drift(task: UnlabelledTask, images: Tensor) -> float:
    """Drift of early layers on images, [N, C, H, W], as in `Probes`."""
    with moments(task.model) as seen:
        for x in images.split(EVAL_BATCH):
            task.logits(x)
    return _of_first(seen, task.source_facts["layers"])


def _of_first(seen: list[Moments], facts: Mapping[str, Tensor]) -> float:
    n_first = max(1, math.ceil(FIRST * len(seen[0][2])))
    drifts = drift(mean_moments(seen), facts) / facts["null"].double().cpu()
    return float(drifts[:n_first].max())


@torch.no_grad()
def look(task: UnlabelledTask, images: Tensor) -> View:
    """Logits and features of images, in evaluation mode, and the state that gave them."""
    head = linear_head(task.model)
    assert head is not None
    task.model.eval()
    with head_inputs(head) as features:
        logits = torch.cat([task.logits(x) for x in images.split(EVAL_BATCH)])
    state = {name: value.clone() for name, value in task.model.named_buffers()}
    return View(logits, torch.cat(features).float(), state)


@torch.no_grad()
def take_statistics(task: UnlabelledTask, images: Tensor) -> None:
    """Replace BatchNorm's running statistics by those of images, the mean over batches of nearly equal size."""
    with batch_statistics(task.model):
        for x in images.tensor_split(max(1, len(images) // EVAL_BATCH)):
            task.logits(x)


def put_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Set the buffers of a model to those of a view."""
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(state[name])


def log_shares(y: Tensor, n_classes: int) -> Tensor:
    """Logarithm of each class's share among labels, one added to each count, against equal shares."""
    counts = torch.bincount(y.cpu(), minlength=n_classes).double() + 1
    return (counts / counts.sum() * n_classes).log()


def gain_of_renaming(y: Tensor, answers: Tensor) -> float:
    """How much more answers are right when each class is renamed for the best, one to one (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    n = int(max(y.max(), answers.max())) + 1
    confusion = torch.bincount(y * n + answers, minlength=n * n).reshape(n, n).numpy()
    rows, columns = linear_sum_assignment(-confusion)
    return float(confusion[rows, columns].sum() - np.trace(confusion)) / len(y)


def cross_validated(features: Tensor, y: Tensor, n_classes: int, seed: int) -> Tensor:
    """Answers of linear discriminants, each image's by one that was fitted without it, in stratified folds.

    Args:
        features: [N, n_features].
        y: labels [N], on the CPU.
        seed: draws the folds.

    Returns:
        Classes [N]. A class that a fold's training part lacks is never answered.
    """
    x = features.double().cpu()
    rng = np.random.default_rng(seed)
    fold = torch.empty(len(y), dtype=torch.int64)
    for label in range(n_classes):
        members = torch.from_numpy(rng.permutation(torch.nonzero(y == label).flatten().numpy()))
        fold[members] = (torch.arange(len(members)) + int(rng.integers(FOLDS))) % FOLDS
    found = torch.empty(len(y), dtype=torch.int64)
    for number in range(FOLDS):
        inside, out = fold != number, fold == number
        if not inside.any() or not out.any():
            continue
        labels = F.one_hot(y[inside], n_classes).double()
        counts = labels.sum(0)
        means = (labels.T @ x[inside]) / counts.clamp(min=1)[:, None]
        centred = x[inside] - means[y[inside]]
        covariance = centred.T @ centred / max(1, len(centred) - int((counts > 0).sum()))
        variance = covariance.diagonal().mean().clamp(min=1e-12)
        mixed = (1 - SHRINKAGE) * covariance + (SHRINKAGE + 1e-6) * variance * torch.eye(len(covariance)).double()
        weight = torch.linalg.solve(mixed, means.T).T
        share = torch.where(counts > 0, (counts.clamp(min=1) / counts.sum()).log(), torch.tensor(-1e300).double())
        found[out] = (x[out] @ weight.T + share - 0.5 * (weight * means).sum(1)).argmax(1)
    return found


# -- statistics of layers -------------------------------------------------------------------------------


class moments:
    """Collect meanwhile each channel's mean and mean square of every image, before each normalisation layer, or after
    each convolution of a net without one. Gives a list with a Moments for each pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers: list[nn.Module] = [m for m in model.modules() if isinstance(m, NORMALISING)]
        self._before = bool(self._layers)
        self._layers = self._layers or [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        self._now: list[Tensor] = []
        self.seen: list[Moments] = []

    def __enter__(self) -> list[Moments]:
        last = self._layers[-1]

        def note(layer: nn.Module, x: Tensor) -> None:
            x = x.detach().flatten(2) if x.dim() > 2 else x.detach()[:, :, None]
            self._now.append(torch.stack([x.mean(2), x.square().mean(2)]))
            if layer is last:
                both = torch.cat(self._now, 2)
                self.seen.append((both[0], both[1], [part.shape[2] for part in self._now]))
                self._now = []

        self._handles = [
            layer.register_forward_pre_hook(lambda layer, inputs: note(layer, inputs[0]))
            if self._before
            else layer.register_forward_hook(lambda layer, _, output: note(layer, output))
            for layer in self._layers
        ]
        return self.seen

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def mean_moments(seen: list[Moments]) -> Moments:
    """The same over all images, in double precision on the CPU."""
    means, squares = torch.cat([part[0] for part in seen]), torch.cat([part[1] for part in seen])
    return means.double().cpu().mean(0), squares.double().cpu().mean(0), seen[0][2]


def drift(now: Moments, facts: Mapping[str, Tensor]) -> Tensor:
    """Mean over the channels of each layer of KL(N(target) || N(source)), [layers].

    1/2 (v / V + (m - M)^2 / V - 1 + ln(V / v)), of means m, M and variances v, V.
    """
    mean, square, sizes = now
    source_mean, source_variance = (facts[name].double().cpu() for name in ("mean", "variance"))
    variance = (square - mean**2).clamp(min=1e-8)
    source_variance = source_variance.clamp(min=1e-8)
    apart = (mean - source_mean) ** 2 / source_variance
    kl = 0.5 * (variance / source_variance + apart - 1 + (source_variance / variance).log())
    return torch.stack([part.mean() for part in kl.split(sizes)])


@torch.no_grad()
def layer_facts(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What may be shipped of a source model for the probes.

    Args:
        images: of the source, [N, C, H, W].
        labels: [N].

    Returns:
        `mean` and `variance` of each channel; `null` of each layer, the 90 % quantile over the classes of the drift of
        that class's images alone; `accuracy` [1] on these images.
    """
    model.eval()
    with moments(model) as seen:
        answers = torch.cat([model(x).argmax(1) for x in images.split(EVAL_BATCH)])
    means, squares = (torch.cat(parts).double().cpu() for parts in zip(*(part[:2] for part in seen), strict=True))
    sizes = seen[0][2]
    facts = {"mean": means.mean(0), "variance": squares.mean(0) - means.mean(0) ** 2}
    y = labels.cpu()
    drifts = [drift((means[y == k].mean(0), squares[y == k].mean(0), sizes), facts) for k in y.unique()]
    facts["null"] = torch.stack(drifts).quantile(NULL_QUANTILE, dim=0).clamp(min=1e-6)
    facts["accuracy"] = (answers == labels).double().mean().cpu()[None]
    return {name: value.float() for name, value in facts.items()}
