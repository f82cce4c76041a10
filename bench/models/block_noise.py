"""Noise put into one block of a model, of the size that leaves a given accuracy; found once and cached.

The experiment that motivates target blocks in arXiv 2403.15905: tuning the noised block should restore most accuracy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.data.domain import Domain
from bench.data.splits import interleave
from bench.errors import JouletuneError, RequestError
from bench.models.blocks import block_parameters
from bench.models.checkpoint import is_whole, save_weights
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256, write_atomic
from bench.suite.data_axis import DataSpec
from bench.suite.suite import Suite
from bench.training.loop import accuracy, to_tensors

VERSION = 1
"""Version of the search: raise it when that changes, so that no older cached result is used."""

IMAGES = 1000
"""Source images that the accuracy is taken from; those of the target stay unseen."""

CHANCES = 1.5
"""Default of the accuracy to leave, in multiples of chance. The published noise of fc, a standard
deviation of 6, leaves the released ResNet-26 14 % of CIFAR-10."""

NEAR = 0.005
"""Difference from the wanted accuracy at which the search ends."""

DOUBLINGS, HALVINGS = 24, 14
SEED = 0


def make_noised_model(
    model: nn.Module,
    suite: Suite,
    data: DataSpec,
    domain: Domain,
    *,
    weights_sha256: str,
    on_step: Callable[[int, int], None],
) -> tuple[Path, dict[str, Any]]:
    """Write the model's weights with noise in one block, or find them in the cache.

    Every parameter of the block gets sigma times a draw from the standard normal distribution, the same draw for every
    sigma, so that the accuracy falls as sigma grows; sigma is doubled until it is low enough and then bisected.

    Args:
        model: with the source weights; may be left with noise in it.
        weights_sha256: fingerprint of the source weights.
        on_step: called with (done, total) after each accuracy.

    Returns:
        The file, and facts for the manifest: block, sigma, seed, images, and accuracy on these source images without
        noise, wanted and left.

    Raises:
        RequestError: no noise leaves that accuracy.
    """
    assert data.noised_block is not None
    wanted = data.noised_accuracy or CHANCES / len(domain.source.classes)
    what = {
        "weights": weights_sha256,
        "block": suite.block_map[data.noised_block],
        "wanted": wanted,
        "source": domain.source_key,
        "pixels": suite.model.pixels,
        "version": VERSION,
    }
    key = json_sha256(what)[:16]
    path = cache_dir() / "models" / f"{suite.model.label.replace(':', '-')}-noise-{data.noised_block}-{key}.pth"
    facts_path = path.with_suffix(".json")
    if is_whole(path) and facts_path.is_file():
        facts: dict[str, Any] = json.loads(facts_path.read_text())
        return path, facts
    noise = _Noise(model, suite, data.noised_block, domain)
    clean = noise.accuracy(0.0)
    if not clean > wanted:
        raise RequestError(
            f"{data.label}: the model has an accuracy of {clean:.3f} without noise; none can leave it {wanted:.3f}"
        )
    sigma, left = _search(noise.accuracy, wanted, on_step)
    if abs(left - wanted) > max(0.05, 0.5 * wanted):
        raise RequestError(f"{data.label}: no noise found that leaves an accuracy of {wanted:.3f}; nearest: {left:.3f}")
    noise.accuracy(sigma)
    facts = {
        "block": data.noised_block,
        "sigma": sigma,
        "seed": SEED,
        "images": noise.images,
        "accuracy_clean": clean,
        "accuracy_wanted": wanted,
        "accuracy_noised": left,
    }
    save_weights(model.cpu(), path)
    write_atomic(facts_path, json.dumps(facts))
    return path, facts


def _search(
    accuracy_at: Callable[[float], float], wanted: float, on_step: Callable[[int, int], None]
) -> tuple[float, float]:
    """(sigma, accuracy) with the accuracy nearest to what is wanted."""
    low, high = 0.0, 2.0**-10
    seen: list[tuple[float, float]] = []
    for _ in range(DOUBLINGS):
        seen.append((high, accuracy_at(high)))
        on_step(len(seen), DOUBLINGS + HALVINGS)
        if seen[-1][1] <= wanted:
            break
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        if abs(seen[-1][1] - wanted) <= NEAR:
            break
        middle = math.sqrt(low * high) if low else high / 2
        seen.append((middle, accuracy_at(middle)))
        on_step(len(seen), DOUBLINGS + HALVINGS)
        if seen[-1][1] > wanted:
            low = middle
        else:
            high = middle
    on_step(DOUBLINGS + HALVINGS, DOUBLINGS + HALVINGS)
    return min(seen, key=lambda found: abs(found[1] - wanted))


class _Noise:
    """A model, one random draw for the parameters of a block, and source images to measure its effect on."""

    def __init__(self, model: nn.Module, suite: Suite, block: str, domain: Domain) -> None:
        self._model = model
        self._parameters = block_parameters(model, suite.block_map, block)
        self._clean = [parameter.detach().clone() for parameter in self._parameters]
        generator = torch.Generator().manual_seed(SEED)  # on the CPU: the same draw wherever the model is
        self._draw = [
            torch.randn(parameter.shape, generator=generator).to(parameter.device) for parameter in self._parameters
        ]
        chosen = np.sort(interleave(domain.source.y, np.random.default_rng(SEED))[:IMAGES])
        self.images = len(chosen)
        self._data = to_tensors(domain.source.take(chosen), self._parameters[0].device, suite.model.pixels)

    def accuracy(self, sigma: float) -> float:
        """Put noise of this size in. Returns the accuracy that is left, 0 where the output overflows."""
        with torch.no_grad():
            for parameter, clean, draw in zip(self._parameters, self._clean, self._draw, strict=True):
                parameter.copy_(clean + sigma * draw)
        try:
            return accuracy(self._model, self._data)
        except JouletuneError:
            return 0.0
