"""The source model: a checkpoint's weights, or a model trained once on the source side and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch

from bench.catalog.models import FULL
from bench.data.domain import Domain
from bench.data.locate import locate_checkpoint
from bench.models.blocks import block_parameters, train_only
from bench.models.build import build_model, users_code
from bench.models.checkpoint import fingerprint, is_whole, load_weights, save_weights
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256
from bench.suite.model import ModelSpec
from bench.training.augment import changer
from bench.training.loop import make_optimizer, set_train_mode, to_tensors, train_epoch

VERSION = 2
"""Version of the training: raise it when that changes, so that no older cached model is used."""


def load_source_model(spec: ModelSpec, domain: Domain, weights: Path, base: Path) -> torch.nn.Module:
    """The model for a domain, filled from a file.

    Raises:
        RequestError: the weights do not fit.
    """
    model = fresh_model(spec, domain, base)
    load_weights(model, weights)
    return model


def make_source_model(
    spec: ModelSpec, domain: Domain, base: Path, device: torch.device, on_epoch: Callable[[int, int], None]
) -> Path:
    """The file of the source model's weights; trains it if there is neither a checkpoint nor a cached one.

    Args:
        on_epoch: called with (done, total) after each epoch of training.

    Raises:
        RequestError: the checkpoint is missing or does not fit the model and the data.
    """
    if spec.checkpoint is not None:
        path = locate_checkpoint(spec.checkpoint)
        if spec.head == "keep":
            load_source_model(spec, domain, path, base)
            return path
        return with_fresh_head(spec, domain, path, base)
    path = _cached(spec, _key(spec, domain, base))
    if is_whole(path):
        return path
    torch.manual_seed(spec.source_train.seed)
    model = fresh_model(spec, domain, base).to(device)
    parameters = train_only(model, {}, (FULL,))
    optimizer = make_optimizer(parameters, spec.source_train)
    epochs = spec.source_train.epochs
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    generator = torch.Generator().manual_seed(spec.source_train.seed)
    data = to_tensors(domain.source, device, spec.pixels)
    for epoch in range(1, epochs + 1):
        set_train_mode(model, spec.source_train.bn_mode, [])
        train_epoch(
            model, optimizer, data, spec.source_train.batch_size, generator,
            change=changer(spec.source_train.augment, data.x),
        )  # fmt: skip
        schedule.step()
        on_epoch(epoch, epochs)
    save_weights(model.cpu(), path)
    return path


def with_fresh_head(spec: ModelSpec, domain: Domain, checkpoint: Path, base: Path) -> Path:
    """A file of a checkpoint's weights with a last block drawn anew, for the classes of the domain."""
    torch.manual_seed(spec.source_train.seed)
    model = fresh_model(spec, domain, base)
    head = {id(one) for one in block_parameters(model, spec.block_map, [*spec.block_map][-1])}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in head]
    load_weights(model, checkpoint, fresh=names)
    path = _cached(spec, fingerprint(model))
    if not is_whole(path):
        save_weights(model, path)
    return path


def _cached(spec: ModelSpec, key: str) -> Path:
    return cache_dir() / "models" / f"{spec.label.replace(':', '-')}-{key[:16]}.pth"


def fresh_model(spec: ModelSpec, domain: Domain, base: Path) -> torch.nn.Module:
    """A model for the images of a domain, with weights drawn at random."""
    _, height, _, channels = domain.source.x.shape
    return build_model(spec, n_classes=len(domain.source.classes), in_channels=channels, image_size=height, base=base)


def _key(spec: ModelSpec, domain: Domain, base: Path) -> str:
    what = spec.model_dump(mode="json", exclude={"checkpoint", "blocks"})
    if spec.name.endswith(".json"):
        what["name"] = hashlib.sha256(Path(spec.name).read_bytes()).hexdigest()
    what |= {"source": domain.source_key, "code": users_code(spec, base), "version": VERSION}
    return json_sha256(what)
