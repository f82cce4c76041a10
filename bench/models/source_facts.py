"""Source facts: data that may be shipped with a source model, computed once while a run is prepared, and cached.

Their cost is that of whoever ships the model: it is in the manifest, and in no cell's joules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.domain import Domain
from bench.data.splits import interleave
from bench.errors import RequestError, nearest
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256, write_through
from bench.training.layers import freeze_but, scales_and_shifts
from bench.training.loop import to_tensors
from bench.training.probes import layer_facts

BATCH = 64
IMAGES = 2000
"""Source images that facts are taken from, at most."""

VERSION = 1
"""Raised when a fact is computed in another way, so that nobody starts from an old one."""


def fisher(model: nn.Module, images: Tensor, _: Tensor | None = None) -> dict[str, Tensor]:
    """Diagonal of the Fisher information of every scale and shift, from images without labels.

    F = mean over batches of (gradient of the batch's mean cross-entropy to its own predictions)^2 (EATA, Niu et al.
    2022, eq. 8 and released code), in evaluation mode.

    Args:
        images: [N, C, H, W].

    Returns:
        Parameter name -> tensor of its shape.
    """
    parameters = scales_and_shifts(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    freeze_but(model, parameters)
    model.eval()
    total = [torch.zeros_like(parameter) for parameter in parameters]
    batches = images.split(BATCH)
    for x in batches:
        logits = model(x)
        gradients = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1)), parameters)
        total = [value + gradient.square() / len(batches) for value, gradient in zip(total, gradients, strict=True)]
    return {names[id(parameter)]: value for parameter, value in zip(parameters, total, strict=True)}


FACTS: Mapping[str, Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]] = {
    "fisher": fisher,
    "layers": layer_facts,
}
"""Fact -> (model, source images [N, C, H, W], labels [N]) -> tensors by name."""


def make_source_facts(
    names: Collection[str], model: nn.Module, domain: Domain, *, pixels: str, device: torch.device, weights_sha256: str
) -> Path | None:
    """The file of a source model's facts; computes them unless they are cached. None without names.

    Args:
        model: with the weights of that fingerprint.
        pixels: what the model is fed.

    Raises:
        RequestError: no fact has such a name.
    """
    if not names:
        return None
    for name in names:
        if name not in FACTS:
            raise RequestError(f"{name!r} is not a fact of a source model; {nearest(name, FACTS)}")
    what = {"weights": weights_sha256, "source": domain.source_key, "facts": sorted(names), "version": VERSION}
    key = json_sha256(what)[:16]
    path = cache_dir() / "models" / f"facts-{key}.safetensors"
    if not path.is_file():
        chosen = np.sort(interleave(domain.source.y, np.random.default_rng(0))[:IMAGES])
        images = to_tensors(domain.source.take(chosen), device, pixels)
        model = model.to(device)
        flat = {
            f"{fact}/{name}": value.cpu().contiguous()
            for fact in sorted(names)
            for name, value in FACTS[fact](model, images.x, images.y).items()
        }
        write_through(path, lambda file: file.write(save(flat)))
    return path


def load_source_facts(path: Path | None, device: torch.device) -> dict[str, dict[str, Tensor]]:
    """The facts in a file, by name and by name of the parameter; none without a file."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in (load_file(path) if path is not None else {}).items():
        fact, _, name = key.partition("/")
        found.setdefault(fact, {})[name] = value.to(device)
    return found
