"""Domain: the source and the target images of a shift, made once and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.catalog.datasets import BLOCK_NOISE, DATASETS, NO_SHIFT, PRIOR
from bench.data import cached
from bench.data.breeds import class_folders, read_breeds, superclasses_of
from bench.data.cifar10 import read_cifar10, read_cifar10c
from bench.data.corruptions import corrupt
from bench.data.images import Images, Progress, random_images, read_digits, read_tree
from bench.data.locate import CIFAR10_PICKLES, Located, check_tree, image_files, locate
from bench.data.parts import PARTED, Parts, read_parts
from bench.data.shifts import DEFAULT_SEVERITY, few_classes, flip, permute, reweighted, subpopulation
from bench.data.splits import Own, interleave
from bench.errors import RequestError
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256
from bench.suite.data_axis import DataSpec

VERSION = 2
"""Version of `make_domain`: raise it when that changes, so that no older cached domain is used."""


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Both sides of a shift.

    Attributes:
        source: what the source model is trained on, memory-mapped.
        target: what it is tuned and tested on, memory-mapped.
        variant: which copy of the data, e.g. JPEG.
        source_key: hash of the source side alone: shifts that share it share a source model.
        sha256: fingerprint of the images, labels and class names of both sides.
        own_split: images of the target that the data sets apart itself, one part after the other; None: it does not.
    """

    source: Images
    target: Images
    variant: str | None
    source_key: str
    sha256: str = ""
    own_split: Own | None = None


def load_domain(folder: Path) -> Domain:
    """The domain that `make_domain` cached in a folder."""
    source, target, facts = cached.load(folder)
    return Domain(source, target, facts["variant"], facts["source_key"], cached.fingerprint(facts), _own(facts))


def _own(facts: Mapping[str, Any]) -> Own | None:
    counts = facts.get("own_split")
    return (counts[0], counts[1], counts[2]) if counts is not None else None


def make_domain(data: DataSpec, progress: Progress) -> Path:
    """Read, shift and cache a dataset, unless that was done before and is whole. Returns the cache folder.

    Raises:
        RequestError: the data is missing or unreadable.
        JouletuneError: the cache cannot be written.
    """
    located = locate(data)
    name = f"{data.dataset}-{data.shift}" if data.shift == BLOCK_NOISE else data.label  # one for all noised blocks
    folder = cache_dir() / "domains" / f"{name}-{_domain_key(data, located, source_only=False)[:16]}"
    if cached.read_facts(folder) is None:
        clean = _clean_cifar10(data, located, progress)
        parts = read_parts(located, data.image_size, progress) if located.form in PARTED else None
        sides = _sides(data, located, clean, progress) if parts is None else _of_parts(data, parts)
        facts: dict[str, Any] = {}
        if parts is not None and data.shift != "subpopulation":  # which draws its images from all parts
            facts["own_split"] = [len(part.y) for part in parts]
        facts |= {"variant": located.variant, "source_key": _domain_key(data, located, source_only=True)}
        # a suite of 15 corruptions keeps its training images once
        shared = {"source": clean.folder} if clean is not None and sides[0] is clean.source else {}
        cached.write(folder, sides, facts, shared)
    return folder


@dataclass(frozen=True, slots=True, eq=False)
class _Clean:
    """Unshifted CIFAR-10, cached, so that a suite of 15 corruptions decodes it once."""

    folder: Path
    source: Images
    target: Images


def _clean_cifar10(data: DataSpec, located: Located, progress: Progress) -> _Clean | None:
    if data.dataset not in ("cifar10", "cifar10c"):
        return None
    images = located.clean or located
    what = [str(images.path), images.form, VERSION, *map(_fingerprint, _inputs(None, images))]
    folder = cache_dir() / "images" / f"cifar10-{json_sha256(what)[:16]}"
    if cached.read_facts(folder) is None:
        cached.write(folder, read_cifar10(images, progress), {}, {})
    source, target, _ = cached.load(folder)
    return _Clean(folder, source, target)


def _of_parts(data: DataSpec, parts: Parts) -> tuple[Images, Images]:
    """The part to train from, and all of them."""
    every = _in_a_row(part for part in parts if len(part.y))
    return _shifted(data, every, parts[0], every)


def _sides(data: DataSpec, located: Located, clean: _Clean | None, progress: Progress) -> tuple[Images, Images]:
    if data.target is not None:
        assert data.source is not None
        classes = check_tree(Path(data.source), f"{data.label}: source")
        other = check_tree(Path(data.target), f"{data.label}: target")
        if classes != other:
            odd = sorted(set(classes) ^ set(other))
            raise RequestError(
                f"{data.label}: source and target must have the same classes; only one has {', '.join(odd[:5])}"
            )
        source, target = (read_tree(Path(path), data.image_size, progress) for path in (data.source, data.target))
        return source, target
    if data.dataset == "random":
        assert data.classes is not None
        assert data.image_size is not None
        # a source there must be; nothing is learned from it
        sizes = (2 * data.classes, DATASETS["random"].n_target or 0)
        source, target = (random_images(n, data.classes, data.image_size, seed=seed) for seed, n in enumerate(sizes))
        return source, target
    if data.dataset in ("imagenet", "tiny_imagenet"):
        return read_breeds(data, located, progress)
    if data.dataset == "cifar10c":
        assert located.path is not None
        assert clean is not None
        severity = data.severity or DEFAULT_SEVERITY
        made = (read_cifar10c(located.path, shift, severity, clean.source.classes) for shift in data.parts)
        return clean.source, _in_a_row(made)
    if clean is not None:
        source, target = clean.source, clean.target
        if "subpopulation" not in data.steps:
            return _shifted(data, source, source, target)
        pooled = Images(np.concatenate([source.x, target.x]), np.concatenate([source.y, target.y]), source.classes)
    else:
        pooled = (
            read_digits() if data.dataset == "digits" else read_tree(Path(str(data.source)), data.image_size, progress)
        )
        # half to learn from, half to meet; drawn once, whatever the suite's seeds
        order = interleave(pooled.y, np.random.default_rng(0))
        half = (len(order) + 1) // 2
        source, target = pooled.take(order[half:]), pooled.take(order[:half])
    return _shifted(data, pooled, source, target)


def _shifted(data: DataSpec, pooled: Images, source: Images, target: Images) -> tuple[Images, Images]:
    """Both sides, the target's with each step of the shift in order."""
    for step in data.steps:
        if step == "subpopulation":
            missing = [m for two in data.members().values() for one in two for m in one if m not in pooled.classes]
            if missing:
                raise RequestError(f"{data.label}: no class {missing[0]!r} in {data.source}")
            source, target = subpopulation(pooled, data.members())
        else:
            target = _stepped(data, step, target)
    return source, target


def _stepped(data: DataSpec, step: str, target: Images) -> Images:
    n_classes = len(target.classes)
    if step in (BLOCK_NOISE, NO_SHIFT):
        return target
    if step == "flip":
        return Images(target.x, flip(target.y, n_classes), target.classes)
    if step == "permute":
        assert data.permutation is not None
        if len(data.permutation) != n_classes:
            raise RequestError(
                f"{data.label}: permutation has {len(data.permutation)} labels, the data {n_classes} classes"
            )
        return Images(target.x, permute(target.y, data.permutation), target.classes)
    if step == PRIOR:
        shares = data.shares or few_classes(n_classes)
        if len(shares) != n_classes:
            raise RequestError(f"{data.label}: {len(shares)} shares, but the data has {n_classes} classes")
        return target.take(reweighted(target.y, shares))
    severity = data.severity or DEFAULT_SEVERITY
    parts = (step,) if len(data.steps) > 1 else data.parts
    made = (Images(corrupt(target.x, part, severity, data.dataset), target.y, target.classes) for part in parts)
    return _in_a_row(made)


def _in_a_row(parts: Iterable[Images]) -> Images:
    """The images of several shifts, one after the other."""
    first, *more = parts
    if not more:
        return first
    every = (first, *more)
    return Images(np.concatenate([one.x for one in every]), np.concatenate([one.y for one in every]), first.classes)


def _domain_key(data: DataSpec, located: Located, *, source_only: bool) -> str:
    """Hash of all that decides the arrays. For the source side that is what no input- or output-level shift touches."""
    # noise in the model leaves the data alone
    what = data.model_dump(mode="json", exclude={"label", "level", "noised_block", "noised_accuracy"})
    for key in (
        "classes",
        "corruptions",
        "shares",
    ):  # that few data have; without it the key is as before there was one
        if what[key] is None:
            del what[key]
    if located.form in PARTED:
        what["parts"] = True
    files = _inputs(data, located)
    if source_only:
        what = {
            key: what[key]
            for key in ("dataset", "source", "image_size", "superclasses", "classes", "parts")
            if key in what
        }
        what["halved"] = data.target is None and data.dataset == "folder"
        if located.clean is not None:  # the same source, whether its target is corrupted here or was by others
            what["dataset"] = "cifar10"
            files = _inputs(data, located.clean)
    if data.target is not None and not source_only:
        files.append(Path(data.target))
    what["fingerprint"] = [_fingerprint(path) for path in files]
    what["version"] = VERSION
    return json_sha256(what)


def _inputs(data: DataSpec | None, located: Located) -> list[Path]:
    """List the files and folders of images that are read; others beside them are not looked at."""
    if located.path is None:
        return []
    table = [located.table] if located.table is not None else []
    clean = _inputs(data, located.clean) if located.clean is not None else []
    if located.form == "pickles":
        return sorted((located.path / CIFAR10_PICKLES).glob("*_batch*"))
    if located.form == "npy":
        assert data is not None
        return [*(located.path / f"{shift}.npy" for shift in dict.fromkeys(data.parts)), located.path / "labels.npy",
                *clean]  # fmt: skip
    if located.form == "imagenet":
        assert data is not None
        sides = superclasses_of(data, located).values()
        members = [member for side in sides for members in side for member in members]
        return [*table, *(folder for member in members for folder in class_folders(located.path, member))]
    return [located.path, *table, *clean]


def _fingerprint(path: Path) -> str:
    """Hash names, sizes and times of the files of a folder; contents are not read, which would take minutes."""
    files = [path] if path.is_file() else image_files(path) if path.is_dir() else []
    digest = hashlib.sha256()
    for file in files:
        facts = file.stat()
        digest.update(f"{file.relative_to(path)}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()
