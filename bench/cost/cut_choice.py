"""Choose where a part model ends: `cut: auto`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.catalog.models import BlockMap
from bench.cost.follow import trace
from bench.data.images import Pixels
from bench.errors import RequestError
from bench.models.staged import cut_path, outputs_of
from bench.training.closed_form import solve
from bench.training.cut import cut_after
from bench.training.distil import batches_of
from bench.training.layers import head_inputs, linear_head
from bench.training.loop import Batchable

VALIDATE = 4
"""One of so many images validates the heads."""

BATCH = 64


@torch.no_grad()
def choose_cut(
    model: nn.Module, block_map: BlockMap, to_batch: Callable[[Pixels], Tensor], pixels: Pixels, labels: Tensor
) -> tuple[str, list[dict[str, Any]]]:
    """Choose the cut with the largest (accuracy of the part above chance) x (share of the MACs that remain behind it).

    Behind every block a linear discriminant is fitted to the pooled values, and one to the features of the whole net;
    accuracies are those on images that none was fitted to, as shares of the whole net's: with a_k, a of cut k and the
    whole, chance p and the share c_k of the MACs up to the cut, the largest (a_k - p) / (a - p) * (1 - c_k) is chosen.

    Args:
        to_batch: pixels [N, H, W, C] -> what the net is fed.
        pixels, labels: [N, H, W, C] and int64 [N].

    Returns:
        The path of the module behind which the part ends, and what each candidate scored.

    Raises:
        RequestError: the model can be cut behind none of its blocks.
    """
    blocks = getattr(model, "blocks", None)
    numbers = range(1, len(blocks)) if isinstance(blocks, nn.ModuleList | nn.Sequential) else range(1, len(block_map))
    paths: list[str] = []
    for number in numbers:
        try:
            paths.append(cut_path(model, block_map, number))
        except RequestError:
            continue  # several values pass there
    head = linear_head(model)
    if not paths or head is None:
        raise RequestError("model.cut: 'auto' finds no block behind which the model can be cut")
    model.eval()
    found: dict[str, list[Tensor]] = {path: [] for path in paths}
    with head_inputs(head) as features, outputs_of(model, *paths) as seen:
        for part in batches_of(len(pixels), BATCH):
            model(to_batch(pixels[part]))
            for path in paths:
                found[path].append(seen[path].cpu())
    n_classes = int(labels.max()) + 1
    shape = to_batch(pixels[:1]).shape
    whole = trace(model, tuple(shape)).step([]).forward_macs
    full = _accuracy(torch.cat(features).cpu(), labels, n_classes)
    chance = float(torch.bincount(labels).max()) / len(labels)
    scored: list[dict[str, Any]] = []
    for path in paths:
        share = trace(cut_after(model, path).front, tuple(shape)).step([]).forward_macs / whole
        accuracy = _accuracy(torch.cat(found[path]), labels, n_classes)
        score = max(0.0, accuracy - chance) / max(full - chance, 1e-9) * (1 - share)
        figures = {"accuracy": accuracy, "macs_share": share, "score": score}
        scored.append({"cut": path} | {name: round(value, 4) for name, value in figures.items()})
    best = max(scored, key=lambda one: one["score"])
    return str(best["cut"]), scored


def _accuracy(features: Tensor, labels: Tensor, n_classes: int) -> float:
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[: len(labels) // VALIDATE]] = True
    layer = nn.Linear(features.shape[1], n_classes)
    train, val = Batchable(features[~held], labels[~held]), Batchable(features[held], labels[held])
    solve(layer, train, val)
    return float((layer(val.x).argmax(1) == val.y).float().mean())
