"""Images that come divided into train, val and test, in a folder or an archive, and the split that keeps the parts."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.data.domain import Domain, load_domain, make_domain
from bench.data.splits import sizes, split_target
from bench.errors import RequestError
from bench.suite.data_axis import DataSpec

COUNTS = {"train": 10, "val": 3, "test": 4}
FRACTIONS = (0.64, 0.16, 0.2)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in COUNTS.items():
        for name in ("ant", "bee"):
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (20, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))


def pack(tree: Path) -> Path:
    archive = tree.with_name("set.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tree, "set_128")
    return archive


def domain_of(source: Path, **more: Any) -> Domain:
    given = {"dataset": "folder", "shift": "none", "level": "", "label": "set", "source": str(source), "image_size": 16}
    return load_domain(make_domain(DataSpec(**(given | more)), lambda *_: None))


def test_an_archive_and_its_folder_give_the_same_parts(tree: Path) -> None:
    folder, archive = domain_of(tree), domain_of(pack(tree))
    assert folder.own_split == archive.own_split == (20, 6, 8)
    assert folder.sha256 == archive.sha256
    assert folder.target.classes == ("ant", "bee")
    assert folder.target.x.shape == (34, 16, 16, 3)
    assert np.array_equal(folder.source.x, folder.target.x[:20])


def test_the_test_part_is_the_data_s_own_for_every_seed_and_no_image_is_in_two_parts(tree: Path) -> None:
    domain = domain_of(tree)
    for seed in range(3):
        split = split_target(
            domain.target.y, n_train=20, fractions=FRACTIONS, label="set", seed=seed, own=domain.own_split
        )
        assert sorted(split.test) == list(range(26, 34))
        assert sorted(split.val) == list(range(20, 26))
        assert sorted(split.train) == list(range(20))


def test_validation_is_drawn_from_the_training_part_where_the_data_has_none(tree: Path) -> None:
    y = domain_of(tree).target.y
    own = (20, 0, 14)
    assert sizes(34, FRACTIONS, own) == (16, 4, 14)
    split = split_target(y, n_train=16, fractions=FRACTIONS, label="set", seed=1, own=own)
    assert sorted([*split.train, *split.val]) == list(range(20))
    assert sorted(split.test) == list(range(20, 34))
    with pytest.raises(ValueError, match="pool has 16"):
        split_target(y, n_train=17, fractions=FRACTIONS, label="set", seed=1, own=own)


def test_a_class_without_test_images_is_refused(tree: Path) -> None:
    for file in (tree / "test" / "bee").iterdir():
        file.unlink()
    with pytest.raises(RequestError, match="'bee' has no image in test"):
        domain_of(pack(tree))


def test_a_relative_source_is_looked_for_in_the_data_folder_too(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tree)
    monkeypatch.setenv("JOULETUNE_DATA", str(tmp_path))
    spec = DataSpec.model_validate(
        {"dataset": "folder", "shift": "none", "level": "", "label": "set", "source": "set.tar.gz", "image_size": 16},
        context={"base": tmp_path / "elsewhere"},
    )
    assert load_domain(make_domain(spec, lambda *_: None)).own_split == (20, 6, 8)
