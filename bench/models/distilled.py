"""Distilled: a source model made by distillation from a teacher, then jointly with its part; cached, resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.catalog.models import BlockMap
from bench.data.domain import Domain
from bench.data.images import Pixels
from bench.data.locate import locate_checkpoint
from bench.errors import RequestError
from bench.models.blocks import block_parameters
from bench.models.build import build_model, users_code
from bench.models.checkpoint import fingerprint, is_whole, load_weights, save_weights
from bench.models.staged import cut_path, outputs_of
from bench.models.teacher import load_teacher, taught
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256, write_atomic
from bench.suite.model import ModelSpec
from bench.training.augment import augment
from bench.training.distil import Distiller, General
from bench.training.layers import linear_head

VERSION = 1
"""Version of the training: raise it when that changes, so that no older cached model is used."""

HELD = 10
"""One of so many images is held out, for the errors in the manifest."""

CUT_IMAGES = 2000
"""Images, at most, that `cut: auto` is chosen on."""

Reporter = Callable[[int, int], None]
Choose = Callable[[nn.Module, BlockMap, Callable[[Pixels], Tensor], Pixels, Tensor], tuple[str, list[dict[str, Any]]]]
"""`bench.cost.cut_choice.choose_cut`, which needs what is known of models."""


def make_distilled_model(
    spec: ModelSpec,
    own: Domain,
    every: list[Domain],
    *,
    base: Path,
    device: torch.device,
    reporter: Callable[[str], Reporter],
    choose: Choose,
) -> tuple[Path, dict[str, Any]]:
    """The file of a distilled model's weights, with as many outputs as were distilled; trains it unless it is cached.

    Args:
        own: the cell's data.
        every: all data of the suite.
        choose: chooses the cut where the suite leaves that to it.
        reporter: what is done, in words -> what is called with (done, total) meanwhile.

    Returns:
        The file, and facts for the manifest: the teacher, the images, the cut, and the losses and errors per epoch.

    Raises:
        RequestError: teacher, checkpoint or cut are wrong.
    """
    train = spec.source_train
    assert train.teacher is not None
    domains = every if train.images == "all" else [own]
    shapes = {domain.source.x.shape[1:] for domain in domains}
    if len(shapes) > 1:
        raise RequestError(f"model.source_train.images: 'all' are of {len(shapes)} sizes; give one image_size")
    teaching = reporter(f"training {train.teacher.name}")
    teacher = load_teacher(train.teacher, domains, spec, base=base, device=device, on_epoch=teaching)
    what = {
        "model": spec.model_dump(mode="json", exclude={"blocks", "checkpoint"}),
        "sources": [domain.source_key for domain in domains],
        "code": users_code(spec, base),
        "teacher": fingerprint(teacher.net),
        "version": VERSION,
    }
    pixels, labels, n_labels = _general(domains, train.most_images, train.seed, train.views)
    images_key = json_sha256([what["sources"], train.most_images, train.seed, train.views])
    known = taught(teacher, train.teacher, pixels, images_key, reporter("computing the teacher's embeddings"))
    if train.ce_labels == "teacher":
        if known.probabilities is None:
            raise RequestError(
                f"model.source_train.ce_labels: {train.teacher.name} gives an embedding and no classes; use own"
            )
        targets, n_labels = known.probabilities, known.probabilities.shape[1]
    else:
        targets = torch.from_numpy(labels)
    model, start = _start(spec, n_labels, pixels.shape, base)
    key = json_sha256(what | {"start": start})[:16]
    path = cache_dir() / "models" / f"{spec.label.replace(':', '-')}-distilled-{key}.pth"
    facts_path = path.with_suffix(".json")
    if is_whole(path) and facts_path.is_file():
        facts: dict[str, Any] = json.loads(facts_path.read_text())
        return path, facts
    order = torch.from_numpy(np.random.default_rng(train.seed).permutation(len(pixels)))
    data = General(pixels, known.embedding, targets, order[len(order) // HELD :], order[: len(order) // HELD])
    state = path.with_suffix(".epoch")
    cut, why, history = _distil(spec, model.to(device), data, labels, state=state, reporter=reporter, choose=choose)
    facts = {
        "teacher": train.teacher.name,
        "teacher_sha256": known.sha256,
        "images": len(pixels),
        "held_out": len(data.held),
        "cut": cut,
        "cut_choice": why,
        "epochs": history,
    }
    save_weights(model.cpu().to(memory_format=torch.contiguous_format), path)
    write_atomic(facts_path, json.dumps(facts))
    for file in (state, state.with_suffix(".joint")):
        file.unlink(missing_ok=True)
    return path, facts


def _distil(
    spec: ModelSpec,
    model: nn.Module,
    data: General,
    labels: np.ndarray[Any, np.dtype[np.int64]],
    *,
    state: Path,
    reporter: Callable[[str], Reporter],
    choose: Choose,
) -> tuple[str | None, list[dict[str, Any]] | None, list[dict[str, Any]]]:
    """Train a model in place; gives the cut, what each candidate scored where it was chosen, and the epochs.

    Args:
        labels: int64 [N], the images' own, which a choice of the cut goes by.
        state: file of the last whole epoch; with the ending `.joint` that of the joint training.
    """
    train, head = spec.source_train, linear_head(model)
    if head is None:
        raise RequestError("model.source_train: sskd needs a model that ends in a linear layer")

    def to_batch(taken: Pixels) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(taken.transpose(0, 3, 1, 2))).to(head.weight.device).float()
        return x.div_(127.5).sub_(1) if spec.pixels == "signed" else x.div_(255)

    shared: dict[str, Any] = {"n_embedding": data.embedding.shape[1], "spec": train, "to_batch": to_batch}
    cut = None if spec.cut is None or spec.cut == "auto" else cut_path(model, spec.block_map, spec.cut)
    first = Distiller(model, head, cut=None, n_part=0, state=state, **shared)
    first.run(data, reporter(f"distilling {spec.label}"), epochs=train.epochs, joint=False)
    history, why = first.history, None
    if spec.cut == "auto":
        sample = data.train[:CUT_IMAGES].numpy()
        cut, why = choose(model, spec.block_map, to_batch, data.pixels[sample], torch.from_numpy(labels[sample]))
    if train.joint_epochs:
        assert cut is not None
        with torch.no_grad(), outputs_of(model, cut) as seen:
            model.eval()(to_batch(data.pixels[:2]))
        n_part = seen[cut].shape[1]
        joint = Distiller(model, head, cut=cut, n_part=n_part, state=state.with_suffix(".joint"), **shared)
        joint.run(data, reporter(f"training {spec.label} with its part"), epochs=train.joint_epochs, joint=True)
        history = history + joint.history
    return cut, why, history


def _general(
    domains: list[Domain], most: int | None, seed: int, views: int | None
) -> tuple[Pixels, np.ndarray[Any, np.dtype[np.int64]], int]:
    """Source images of all domains in a row, labels among the classes of all, and how many classes those are."""
    pixels, labels, first = [], [], 0
    for domain in domains:
        n = len(domain.source.y)
        chosen = np.sort(np.random.default_rng(seed).permutation(n)[: most or n])
        pixels.append(domain.source.x[chosen])
        labels.append(domain.source.y[chosen].astype(np.int64) + first)
        first += len(domain.source.classes)
    x, y = np.concatenate(pixels), np.concatenate(labels)
    if views is not None:
        generator = torch.Generator().manual_seed(seed)
        plain = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).float()
        copies = [augment(plain, generator).byte().numpy().transpose(0, 2, 3, 1) for _ in range(views)]
        x, y = np.concatenate([x, *copies]), np.concatenate([y] * (1 + views))
    return x, y, first


def _start(spec: ModelSpec, n_classes: int, shape: tuple[int, ...], base: Path) -> tuple[nn.Module, str]:
    """The student with its first weights: drawn, or a checkpoint's, with its head where that has as many outputs."""
    # not the draw of the fresh head that a cell starts from, which would then know what is distilled here
    torch.manual_seed(spec.source_train.seed + 1)
    made = {"n_classes": n_classes, "in_channels": shape[3], "image_size": shape[1]}
    model = build_model(spec, base=base, **made)
    if spec.checkpoint is not None:
        checkpoint = locate_checkpoint(spec.checkpoint)
        try:
            load_weights(model, checkpoint)
        except RequestError:
            head = {id(one) for one in block_parameters(model, spec.block_map, [*spec.block_map][-1])}
            fresh = [name for name, parameter in model.named_parameters() if id(parameter) in head]
            load_weights(model, checkpoint, fresh=fresh)
    return model, fingerprint(model)
