"""Prepare a run in a process of its own: read, shift and cache data, train source models, check blocks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.catalog.methods import Loaded, code_sha256, load_method
from bench.data.splits import Own, sizes
from bench.errors import RequestError
from bench.process.child import Parent
from bench.process.messages import Prepared, PrepareDone, PrepareJob, Progress
from bench.suite.arm import Arm
from bench.suite.work import Infer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bench.data.domain import Domain

PROGRESS_S = 0.2

CUT_IMAGES = 2000
"""Source images, at most, that `cut: auto` is chosen on."""

BUILD_S = 60.0
"""Longest that a user's function may take to build a model."""

STEP_S = 3600.0
"""Longest between two reports of progress, e.g. an epoch of training a source model."""


def prepare(parent: Parent) -> None:
    """Entry point of the process that makes data and source models ready; the job is a PrepareJob."""
    import torch

    from bench.data.domain import load_domain, make_domain
    from bench.models.block_noise import make_noised_model
    from bench.models.blocks import check_blocks, check_model
    from bench.models.build import users_code
    from bench.models.checkpoint import fingerprint
    from bench.models.source import fresh_model, load_source_model
    from bench.models.source_facts import make_source_facts
    from bench.runtimes.check import check_runtimes
    from bench.training.tuner import check_levers

    job: PrepareJob = parent.job
    if job.suite.train.threads is not None:
        torch.set_num_threads(job.suite.train.threads)
    device, device_name = usable_device(job.device)
    building = f"building {job.suite.model.name}"
    parent.send(Progress(building, 0, 1, limit_s=min(BUILD_S, job.suite.timeout_s)))
    check_runtimes(job.suite, job.base, job.device)
    check_model(job.suite, job.base)  # at once: reading data and training source models may take an hour
    loaded = {arm: load_method(arm.method) for arm in job.suite.arms}
    methods = {arm.label: one.method for arm, one in loaded.items()}
    parent.send(Progress(building, 1, 1, limit_s=STEP_S))
    prepared: dict[str, Prepared] = {}

    for data in job.data:
        folder = make_domain(data, _Reporter(parent, f"reading {data.label}"))
        domain = load_domain(folder)
        _check_sizes(job, data.label, len(domain.target.y) // len(data.parts), domain.own_split)
        if ":" in job.suite.model.name:
            parent.send(Progress(building, 0, 1, limit_s=min(BUILD_S, job.suite.timeout_s)))
            fresh_model(job.suite.model, domain, job.base)
            parent.send(Progress(building, 1, 1, limit_s=STEP_S))
        weights, distilled = _source_model(parent, data.label, domain, device)
        model = load_source_model(job.suite.model, domain, weights, job.base)
        weights_sha256 = fingerprint(model)
        check_blocks(model, job.suite.block_map)
        cut = distilled.get("cut")
        if job.suite.model.cut is not None and cut is None:
            cut, distilled = _find_cut(job, model.to(device), domain)
        for cell in job.suite.cells():
            check_levers(model, job.suite.tuning(cell), device)
        _check_options(loaded, model, job.suite.model.name)
        facts: dict[str, Any] = {}
        if data.noised_block is not None:
            searching = _Reporter(parent, f"finding the noise for {data.noised_block}")
            weights, facts = make_noised_model(
                model.to(device), job.suite, data, domain, weights_sha256=weights_sha256, on_step=searching
            )
        shipped = make_source_facts(
            {fact for method in methods.values() for fact in method.source_facts},
            model,
            domain,
            pixels=job.suite.model.pixels,
            device=device,
            weights_sha256=fingerprint(model),
        )
        prepared[data.label] = Prepared(
            folder,
            weights,
            domain.sha256,
            weights_sha256,
            facts,
            shipped,
            distilled,
            cut,
        )
    codes = {method.name: code_sha256(method.name) for method in methods.values()}
    known = {name: sha256 for name, sha256 in codes.items() if sha256 is not None}
    parent.send(PrepareDone(prepared, device_name, users_code(job.suite.model, job.base), known))


def _source_model(parent: Parent, label: str, domain: Domain, device: torch.device) -> tuple[Path, dict[str, Any]]:
    """The file of the source model's weights, and how it was distilled, where it was."""
    from bench.cost.cut_choice import choose_cut
    from bench.data.domain import load_domain, make_domain
    from bench.models.distilled import make_distilled_model
    from bench.models.source import make_source_model, with_fresh_head

    def report(what: str) -> _Reporter:
        return _Reporter(parent, what)

    job: PrepareJob = parent.job
    spec = job.suite.model
    if spec.source_train.loss != "sskd":
        training = report(f"training {spec.name} on the source of {label}")
        return make_source_model(spec, domain, job.base, device, training), {}

    # of the suite, and not of this command alone: a run of some of its cells starts from the same source model
    wanted = job.suite.data if spec.source_train.images == "all" else ()
    every = [load_domain(make_domain(one, report(f"reading {one.label}"))) for one in wanted]
    weights, facts = make_distilled_model(
        spec, domain, every, base=job.base, device=device, reporter=report, choose=choose_cut
    )
    return with_fresh_head(spec, domain, weights, job.base), facts


def _find_cut(job: PrepareJob, model: nn.Module, domain: Domain) -> tuple[str, dict[str, Any]]:
    """The path behind which the part ends, and for the manifest what each candidate scored, where it was chosen."""
    import numpy as np
    import torch

    from bench.cost.cut_choice import choose_cut
    from bench.data.images import Images
    from bench.models.staged import cut_path
    from bench.training.loop import to_tensors

    cut = job.suite.model.cut
    assert cut is not None
    if cut != "auto":
        return cut_path(model, job.suite.block_map, cut), {}
    device = next(model.parameters()).device
    chosen = np.sort(np.random.default_rng(0).permutation(len(domain.source.y))[:CUT_IMAGES])
    images = domain.source.take(chosen)

    def to_batch(pixels: Any) -> torch.Tensor:
        one = Images(pixels, np.zeros(len(pixels), np.int64), images.classes)
        return to_tensors(one, device, job.suite.model.pixels).x

    labels = torch.from_numpy(images.y.astype(np.int64))
    path, scored = choose_cut(model, job.suite.block_map, to_batch, images.x, labels)
    return path, {"cut": path, "cut_choice": scored}


class _Reporter:
    """Report the progress of a long step to the parent, a few times a second at most."""

    def __init__(self, parent: Parent, what: str) -> None:
        self._parent = parent
        self._what = what
        self._last_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._last_s > PROGRESS_S:
            self._last_s = time.monotonic()
            self._parent.send(Progress(self._what, done, total, limit_s=STEP_S))


def _check_options(loaded: Mapping[Arm, Loaded], model: torch.nn.Module, name: str) -> None:
    """Check that the model has what the methods act on, and that their options go with it."""
    from bench.training.layers import lacks

    for arm, one in loaded.items():
        lack = next(filter(None, (lacks(model, need) for need in one.method.needs)), None)
        if lack is not None:
            raise RequestError(f"{arm.label}: {name} has {lack}, so {one.method.name} has nothing to act on")
        if one.check is not None:
            try:
                one.check(model, one.options(dict(arm.options)))
            except RequestError as error:
                raise RequestError(f"{arm.label}: {error}") from None


def _check_sizes(job: PrepareJob, label: str, n_target: int, own: Own | None) -> None:
    """Check split and train sizes against the number of images, which of a user's folders is known only now."""
    split = job.suite.split
    if split.official and own is None:
        raise RequestError(f"split.official: {label} has no train and test part of its own")
    pool, n_val, n_test = sizes(n_target, (split.pool, split.val, split.test), own if split.official else None)
    if n_val < 1 or n_test < 1:
        raise RequestError(f"{label}: {n_target} target images leave none to validate or to test with")
    for size in job.suite.train_size:
        n_train = size if isinstance(size, int) else round(size * n_target)
        pooled = [w for w in job.suite.work if isinstance(w, Infer) and w.ratio is not None and w.confidences == "pool"]
        if pooled and n_train >= pool:
            raise RequestError(
                f"{label}: work.infer.confidences: train_size {size!r} leaves no image of the pool ({pool}) to take "
                "confidences of; use fewer, or validation"
            )
        if not 2 <= n_train <= pool:
            raise RequestError(
                f"{label}: train_size {size!r} is {n_train} images; expected 2 to {pool}, the pool of its {n_target}"
            )


def usable_device(name: str) -> tuple[torch.device, str]:
    """Get a torch device by name, and the name of the hardware.

    Raises:
        RequestError: no such device, or torch cannot use it.
    """
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise RequestError(f"--device {name}: torch cannot use it here ({reason})") from None
    return device, torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
