"""Distil: train a net towards a teacher's embeddings, then jointly with a part of itself (MicroT, arXiv 2403.08040)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.images import Pixels
from bench.errors import JouletuneError
from bench.store.durable import write_through
from bench.suite.training import SourceTrainSpec
from bench.training.loop import make_optimizer

EVAL_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class General:
    """The images that a net is distilled on.

    Attributes:
        pixels: uint8 [N, H, W, C].
        embedding: the teacher's, [N, d].
        labels: int64 [N], or probabilities [N, K].
        train, held: numbers of the images to learn from, and of those that errors are taken from.
    """

    pixels: Pixels
    embedding: Tensor
    labels: Tensor
    train: Tensor
    held: Tensor


def sskd_losses(embedding: Tensor, teacher: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Loss 1 and Loss 2 of the paper's figure: the mean squared error to the teacher, and a cross-entropy.

    Args:
        embedding: a linear map of the features, [N, d].
        teacher: its embeddings, [N, d].
        labels: as in `General`.
    """
    return {"embedding": F.mse_loss(embedding, teacher), "classes": F.cross_entropy(logits, labels)}


def joint_losses(
    full: tuple[Tensor, Tensor], part: tuple[Tensor, Tensor], teacher: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Loss 3 to Loss 6 of the paper's figure, whose sum, with unit weights, is trained.

    Args:
        full, part: embedding [N, d], and logits [N, K], of the whole net and of its part.
    """
    return {
        "full_embedding": F.mse_loss(full[0], teacher),
        "full_classes": F.cross_entropy(full[1], labels),
        "part_classes": F.cross_entropy(part[1], labels),
        "part_embedding": F.mse_loss(part[0], teacher),
    }


def fit_of(embedding: Tensor, teacher: Tensor) -> dict[str, float]:
    """MSE, RMSE, and R^2 as the mean over the outputs that vary, of embeddings [N, d]."""
    error = (embedding - teacher).double().square()
    spread = (teacher.double() - teacher.double().mean(0)).square().sum(0)
    varies = spread > 0
    r2 = 1 - error.sum(0)[varies] / spread[varies]
    mse = float(error.mean())
    return {"mse": mse, "rmse": mse**0.5, "r2": float(r2.mean()) if len(r2) else 0.0}


class Distiller:
    """A net with what is added to it while it is distilled, and dropped afterwards.

    Args:
        model: whose last layer is linear and gives logits [N, K]; its input are the features.
        head: that layer.
        cut: path of the module behind which the part ends; None: there is no part.
        n_embedding: d of the teacher.
        n_part: values of the part, pooled.
        spec: protocol.
        state: file that holds the last whole epoch, so that a kill costs one at most.
        to_batch: uint8 [N, H, W, C] -> what the net is fed.
    """

    def __init__(
        self,
        model: nn.Module,
        head: nn.Linear,
        *,
        cut: str | None,
        n_embedding: int,
        n_part: int,
        spec: SourceTrainSpec,
        state: Path,
        to_batch: Callable[[Pixels], Tensor],
    ) -> None:
        self._model, self._head, self._cut, self._spec, self._state = model, head, cut, spec, state
        self._to_batch = to_batch
        device = head.weight.device
        generator = torch.Generator().manual_seed(spec.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            added: dict[str, nn.Module] = {"embedding": nn.Linear(head.in_features, n_embedding)}
            if cut is not None:
                added |= {"match": nn.Linear(n_part, n_embedding), "part": nn.Linear(n_part, head.out_features)}
        self._added = nn.ModuleDict(added).to(device)
        # in this order of values in memory, depth-wise convolutions take half the time or less
        model.to(memory_format=torch.channels_last)
        self.history: list[dict[str, Any]] = []

    def run(self, data: General, on_epoch: Callable[[int, int], None], *, epochs: int, joint: bool) -> None:
        """Train so many epochs with one kind of loss, from the last whole one on.

        Args:
            on_epoch: called with (done, total) after each epoch.
        """
        phase = "joint" if joint else "sskd"
        modules = [self._model, *(self._added.values() if joint else [self._added["embedding"]])]
        parameters = [parameter for module in modules for parameter in module.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = make_optimizer(parameters, self._spec)
        first = self._resume(phase, optimizer)
        for epoch in range(first, epochs + 1):
            losses = self._epoch(data, optimizer, epoch, joint=joint)
            fits = self._fits(data, joint=joint)
            self.history.append({"phase": phase, "epoch": epoch, "losses": losses} | fits)
            self._keep(phase, epoch, optimizer)
            on_epoch(epoch, epochs)

    def _epoch(self, data: General, optimizer: torch.optim.Optimizer, epoch: int, *, joint: bool) -> dict[str, float]:
        """One pass in an order of its own; gives the mean of each loss."""
        generator = torch.Generator().manual_seed(1000 * self._spec.seed + epoch)
        order = data.train[torch.randperm(len(data.train), generator=generator)]
        total: dict[str, float] = {}
        seen = 0
        self._model.train()
        for index in order.split(self._spec.batch_size):
            if len(index) < 2:
                continue  # too little variance for BatchNorm to normalise by
            losses = self._losses(data, index, joint=joint)
            weights = {"classes": self._spec.ce_weight}
            loss = torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum()
            if not bool(loss.isfinite()):
                raise JouletuneError(f"distillation diverged in epoch {epoch}: its loss is not finite; lower lr")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            seen += len(index)
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + float(value.detach()) * len(index)
        return {name: value / seen for name, value in total.items()}

    def _losses(self, data: General, index: Tensor, *, joint: bool) -> dict[str, Tensor]:
        device = self._head.weight.device
        teacher, labels = data.embedding[index].to(device), data.labels[index].to(device)
        logits, features, part = self._pass(data.pixels[index.numpy()])
        embedding = self._added["embedding"](features)
        if not joint:
            return sskd_losses(embedding, teacher, logits, labels)
        assert part is not None
        return joint_losses(
            (embedding, logits), (self._added["match"](part), self._added["part"](part)), teacher, labels
        )

    def _pass(self, pixels: Pixels) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits, features and the part's pooled values of images, in one forward pass."""
        from bench.training.layers import head_inputs

        x = self._to_batch(pixels).contiguous(memory_format=torch.channels_last)
        seen: list[Tensor] = []
        watched = self._model.get_submodule(self._cut) if self._cut is not None else None
        handle = watched.register_forward_hook(lambda _, __, out: seen.append(out)) if watched is not None else None
        try:
            with head_inputs(self._head) as features:
                logits = self._model(x)
        finally:
            if handle is not None:
                handle.remove()
        part = (seen[-1].mean((2, 3)) if seen[-1].dim() == 4 else seen[-1]) if seen else None
        return logits, features[-1], part

    @torch.no_grad()
    def _fits(self, data: General, *, joint: bool) -> dict[str, Any]:
        """Errors of the embeddings on held-out images."""
        self._model.eval()
        made: dict[str, list[Tensor]] = {"fit": [], "part_fit": []}
        for index in data.held.split(EVAL_BATCH):
            _, features, part = self._pass(data.pixels[index.numpy()])
            made["fit"].append(self._added["embedding"](features).cpu())
            if joint and part is not None:
                made["part_fit"].append(self._added["match"](part).cpu())
        teacher = data.embedding[data.held]
        return {name: fit_of(torch.cat(parts), teacher) for name, parts in made.items() if parts}

    def _keep(self, phase: str, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        content = {
            "phase": phase,
            "epoch": epoch,
            "model": self._model.state_dict(),
            "added": self._added.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": json.dumps(self.history),
        }
        write_through(self._state, lambda temporary: torch.save(content, temporary))

    def _resume(self, phase: str, optimizer: torch.optim.Optimizer) -> int:
        """Take up the last whole epoch; gives the number of the next."""
        if not self._state.is_file():
            return 1
        try:
            content = torch.load(self._state, weights_only=True, map_location=self._head.weight.device)
            self._model.load_state_dict(content["model"])
            self._added.load_state_dict(content["added"])
            self.history = json.loads(content["history"])
            if content["phase"] == phase:
                optimizer.load_state_dict(content["optimizer"])
                return int(content["epoch"]) + 1
        except Exception as error:  # a damaged file costs its epochs, and no more
            raise JouletuneError(f"{self._state}: cannot be taken up ({type(error).__name__}); remove it") from None
        # of the other phase: joint comes after sskd
        return 1 if phase == "joint" else self._spec.epochs + 1


def batches_of(n: int, size: int) -> Iterator[slice]:
    """Slices of at most so many of n."""
    return (slice(start, start + size) for start in range(0, n, size))
