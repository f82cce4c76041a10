"""What decides the arrays of a domain, as a hash: two suites with the same one share what is cached."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bench.data.breeds import class_folders, superclasses_of
from bench.data.locate import CIFAR10_PICKLES, Located, image_files
from bench.suite.data_axis import DataSpec

VERSION = 2
"""Raised when the making of a domain changes, so that nobody trains on an old one."""


def domain_key(data: DataSpec, located: Located, *, source_only: bool) -> str:
    """Hash of all that decides the arrays. For the source side that is what no input- or output-level shift touches."""
    # noise in the model leaves the data alone
    what = data.model_dump(mode="json", exclude={"label", "level", "noised_block", "noised_accuracy"})
    if data.classes is None:
        del what["classes"]  # only random images have a number of them
    files = _inputs(data, located)
    if source_only:
        what = {key: what[key] for key in ("dataset", "source", "image_size", "superclasses", "classes") if key in what}
        what["halved"] = data.target is None and data.dataset == "folder"
        if located.clean is not None:  # the same source, whether its target is corrupted here or was by others
            what["dataset"] = "cifar10"
            files = _inputs(data, located.clean)
    if data.target is not None and not source_only:
        files.append(Path(data.target))
    what["fingerprint"] = [_fingerprint(path) for path in files]
    what["version"] = VERSION
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def images_key(located: Located) -> str:
    """Hash of a dataset's images themselves, whatever is done to them."""
    what = [str(located.path), located.form, VERSION, *map(_fingerprint, _inputs(None, located))]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _inputs(data: DataSpec | None, located: Located) -> list[Path]:
    """The files and folders of images that are read; far larger ones may lie beside them, and are left alone."""
    if located.path is None:
        return []
    table = [located.table] if located.table is not None else []
    clean = _inputs(data, located.clean) if located.clean is not None else []
    if located.form == "pickles":
        return sorted((located.path / CIFAR10_PICKLES).glob("*_batch*"))
    if located.form == "npy":
        assert data is not None
        return [located.path / f"{data.shift}.npy", located.path / "labels.npy", *clean]
    if located.form == "imagenet":
        assert data is not None
        sides = superclasses_of(data, located).values()
        members = [member for side in sides for members in side for member in members]
        return [*table, *(folder for member in members for folder in class_folders(located.path, member))]
    return [located.path, *table, *clean]


def _fingerprint(path: Path) -> str:
    """Changes when a file is added, removed, resized or rewritten; contents are not read, which would take minutes."""
    files = [path] if path.is_file() else image_files(path) if path.is_dir() else []
    digest = hashlib.sha256()
    for file in files:
        facts = file.stat()
        digest.update(f"{file.relative_to(path)}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()
