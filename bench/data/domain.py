"""Domain: the source images a model learned from and the target images it meets, made once and cached."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data.breeds import read_breeds
from bench.data.cifar10c import read_cifar10c
from bench.data.corruptions import corrupt
from bench.data.fingerprint import domain_key
from bench.data.images import Images, Progress, read_cifar10, read_digits, read_tree
from bench.data.locate import Located, cache_dir, check_tree, locate
from bench.data.shifts import DEFAULT_SEVERITY, flip, permute, subpopulation
from bench.data.splits import interleave
from bench.errors import JouletuneError, RequestError
from bench.suite import DataSpec


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Both sides of a shift.

    Attributes:
        source: what the source model is trained on, memory-mapped.
        target: what it is tuned and tested on, memory-mapped.
        variant: which copy of the data, e.g. JPEG.
        source_key: hash of the source side alone: shifts that share it share a source model.
    """

    source: Images
    target: Images
    variant: str | None
    source_key: str


def load_domain(folder: Path) -> Domain:
    """The domain that `make_domain` cached in a folder."""
    facts = json.loads((folder / "facts.json").read_text())
    classes = tuple(facts["classes"])
    parts = [
        Images(np.load(folder / f"{part}_x.npy", mmap_mode="r"), np.load(folder / f"{part}_y.npy"), classes)
        for part in ("source", "target")
    ]
    return Domain(parts[0], parts[1], facts["variant"], facts["source_key"])


def make_domain(data: DataSpec, progress: Progress) -> Path:
    """Read, shift and cache a dataset, unless that was done before. Returns the cache folder.

    Raises:
        RequestError: the data is missing or unreadable.
        JouletuneError: the cache cannot be written.
    """
    folder = _folder(data)
    if (folder / "facts.json").is_file():
        return folder
    located = locate(data)
    source, target = _sides(data, located, progress)
    try:
        with _new_folder(folder) as temporary:
            for part, images in (("source", source), ("target", target)):
                np.save(temporary / f"{part}_x.npy", np.ascontiguousarray(images.x))
                np.save(temporary / f"{part}_y.npy", images.y)
            facts = {
                "classes": source.classes,
                "variant": located.variant,
                "source_key": domain_key(data, located, source_only=True),
            }
            (temporary / "facts.json").write_text(json.dumps(facts))
    except OSError as error:
        raise JouletuneError(
            f"{folder}: cannot write ({error.strerror}); set JOULETUNE_CACHE to a roomier folder"
        ) from None
    return folder


def _sides(data: DataSpec, located: Located, progress: Progress) -> tuple[Images, Images]:
    if data.target is not None:
        assert data.source is not None
        classes = check_tree(Path(data.source), f"{data.label}: source")
        other = check_tree(Path(data.target), f"{data.label}: target")
        if classes != other:
            odd = sorted(set(classes) ^ set(other))
            raise RequestError(
                f"{data.label}: source and target must have the same classes; only one has {', '.join(odd[:5])}"
            )
        return (
            read_tree(Path(data.source), data.image_size, progress),
            read_tree(Path(data.target), data.image_size, progress),
        )
    if data.dataset in ("imagenet", "tiny_imagenet"):
        return read_breeds(data, located, progress)
    if data.dataset == "cifar10c":
        assert located.path is not None
        assert located.clean is not None
        source, _ = read_cifar10(located.clean, progress)
        severity = data.severity or DEFAULT_SEVERITY
        return source, read_cifar10c(located.path, data.shift, severity, source.classes)
    if data.dataset == "cifar10":
        source, target = read_cifar10(located, progress)
        pooled = Images(np.concatenate([source.x, target.x]), np.concatenate([source.y, target.y]), source.classes)
    else:
        pooled = read_digits() if data.dataset == "digits" else _read_folder(data, progress)
        # half to learn from, half to meet; drawn once, whatever the suite's seeds
        order = interleave(pooled.y, np.random.default_rng(0))
        half = (len(order) + 1) // 2
        source, target = pooled.take(order[half:]), pooled.take(order[:half])
    return _shifted(data, pooled, source, target)


def _shifted(data: DataSpec, pooled: Images, source: Images, target: Images) -> tuple[Images, Images]:
    n_classes = len(source.classes)
    if data.shift == "subpopulation":
        missing = [m for sides in data.members().values() for side in sides for m in side if m not in pooled.classes]
        if missing:
            raise RequestError(f"{data.label}: no class {missing[0]!r} in {data.source}")
        return subpopulation(pooled, data.members())
    if data.shift == "flip":
        return source, Images(target.x, flip(target.y, n_classes), target.classes)
    if data.shift == "permute":
        assert data.permutation is not None
        if len(data.permutation) != n_classes:
            raise RequestError(
                f"{data.label}: permutation has {len(data.permutation)} labels, the data {n_classes} classes"
            )
        return source, Images(target.x, permute(target.y, data.permutation), target.classes)
    severity = data.severity or DEFAULT_SEVERITY
    return source, Images(corrupt(target.x, data.shift, severity, data.dataset), target.y, target.classes)


def _read_folder(data: DataSpec, progress: Progress) -> Images:
    assert data.source is not None
    return read_tree(Path(data.source), data.image_size, progress)


def _folder(data: DataSpec) -> Path:
    return cache_dir() / "domains" / f"{data.label}-{domain_key(data, locate(data), source_only=False)[:16]}"


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all; where two make the same, the first to finish wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if (folder / "facts.json").is_file():
                return
            shutil.rmtree(folder, ignore_errors=True)  # not one of ours: ours are whole
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
