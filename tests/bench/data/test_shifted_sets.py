"""Data sets that come shifted: the archive of CIFAR-10-C, and subpopulations of ImageNet, on small fakes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save

from bench.catalog.checkpoints import Released
from bench.catalog.datasets import ARCHIVED, DATASETS
from bench.data import fetch as downloads
from bench.data.domain import Domain, load_domain, make_domain
from bench.data.locate import CIFAR10C, TINY_SUBSET, locate
from bench.errors import JouletuneError, RequestError
from bench.suite.data_axis import DataSpec, n_target
from bench.suite.load import load_suite
from bench.suite.superclasses import read_table, shipped_table

N = 20  # images of a severity in the fake archive
CLASSES = DATASETS["cifar10"].classes or ()


def make(data: DataSpec) -> Domain:
    return load_domain(make_domain(data, lambda done, total: None))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("JOULETUNE_DATA", str(folder))
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def entry(make_suite: Callable[..., Any]) -> Callable[..., DataSpec]:
    """The first point of a suite with one data entry."""
    return lambda **content: make_suite(data=[content], train_size=[0.1]).data[0]  # type: ignore[no-any-return]


def picture(path: Path, shade: int, size: tuple[int, int] = (48, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


# -- CIFAR-10-C --------------------------------------------------------------------------------------------


@pytest.fixture
def archive(root: Path) -> Path:
    """A CIFAR-10-C of 20 images a severity: every pixel of image i at severity s is 10 s + i. And a small CIFAR-10."""
    for part in ("train", "test"):
        for number, name in enumerate(CLASSES):
            picture(root / "cifar10" / part / name / "0.png", number, (32, 32))
    folder = root / CIFAR10C
    folder.mkdir()
    values = np.add.outer(10 * np.arange(1, 6), np.arange(N)).ravel().astype(np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (5 * N, 32, 32, 3))
    for name in ("fog", "motion_blur"):
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.tile(np.arange(N, dtype=np.uint8) % 10, 5))
    return folder


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)
    return path


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_severity_of_the_archive(archive: Path, form: str, entry: Callable[..., DataSpec]) -> None:
    if form == "tar":
        packed(archive)
    domain = make(entry(dataset="cifar10c", shift="motion_blur", severity=3))
    assert domain.target.x.shape == (N, 32, 32, 3)
    assert domain.target.x[:, 5, 5, 1].tolist() == list(range(30, 30 + N))
    assert domain.target.y.tolist() == [*range(10), *range(10)]
    assert domain.target.classes == CLASSES
    assert len(domain.source.x) == 10
    assert make(entry(dataset="cifar10c", shift="fog")).target.x[0, 0, 0, 0] == 50  # severity 5 unless said


def test_the_archive_shares_its_source_model_with_cifar10(archive: Path, entry: Callable[..., DataSpec]) -> None:
    keys = {
        make(entry(dataset="cifar10c", shift="fog", severity=1)).source_key,
        make(entry(dataset="cifar10c", shift="motion_blur")).source_key,
        make(entry(dataset="cifar10", shift="fog")).source_key,
    }
    assert len(keys) == 1


def test_the_training_images_are_kept_once(archive: Path, entry: Callable[..., DataSpec], tmp_path: Path) -> None:
    for shift in ("fog", "motion_blur"):
        make(entry(dataset="cifar10c", shift=shift))
    made = make(entry(dataset="cifar10", shift="fog"))
    assert made.target.x.shape == (10, 32, 32, 3)
    files = list((tmp_path / "cache").rglob("source_x.npy"))
    assert len(files) == 4
    assert len({file.stat().st_ino for file in files}) == 1


def test_a_replaced_archive_is_read_again(archive: Path, entry: Callable[..., DataSpec]) -> None:
    data = entry(dataset="cifar10c", shift="fog", severity=1)
    assert make(data).target.x[0, 0, 0, 0] == 10
    np.save(archive / "fog.npy", np.zeros((5 * N, 32, 32, 3), np.uint8)[: 5 * N])
    (archive / "fog.npy").touch()
    assert make(data).target.x[0, 0, 0, 0] == 0


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"fog": np.zeros((51, 32, 32, 3), np.uint8)}, r"expected uint8 \(50000, 32, 32, 3\)"),
        ({"fog": np.zeros((5 * N, 32, 32, 3), np.float32)}, "float32"),
        ({"fog": np.uint8(3)}, "expected uint8"),
        ({"fog": np.array([{"a": 1}], object)}, "damaged"),
        ({"labels": np.zeros(7, np.uint8)}, r"labels\.npy does not fit"),
        ({"labels": np.full(5 * N, 10, np.uint8)}, r"labels\.npy does not fit"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_another_array_is_refused(
    archive: Path, form: str, damage: dict[str, Any], says: str, entry: Callable[..., DataSpec]
) -> None:
    for name, content in damage.items():
        np.save(archive / f"{name}.npy", content, allow_pickle=True)
    if form == "tar":
        packed(archive)
    with pytest.raises(RequestError, match=says):
        make(entry(dataset="cifar10c", shift="fog"))


def test_a_corruption_that_is_not_in_the_archive_is_named(archive: Path, entry: Callable[..., DataSpec]) -> None:
    data = entry(dataset="cifar10c", shift="snow")
    with pytest.raises(RequestError, match=r"no snow\.npy"):
        make(data)
    packed(archive)
    with pytest.raises(RequestError, match=r"no snow\.npy"):
        make(data)


def test_a_download_cut_short_is_named(archive: Path, entry: Callable[..., DataSpec]) -> None:
    content = packed(archive).read_bytes()
    archive.with_suffix(".tar").write_bytes(content[: len(content) // 3])
    with pytest.raises(RequestError, match="get the archive again"):
        make(entry(dataset="cifar10c", shift="fog"))


def test_an_absent_archive_says_what_to_get_and_where_to_put_it(archive: Path, entry: Callable[..., DataSpec]) -> None:
    shutil.rmtree(archive)
    with pytest.raises(RequestError, match=r"fetch cifar10c.*CIFAR-10-C\.tar.*zenodo\.org/records/2535967"):
        locate(entry(dataset="cifar10c", shift="fog"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"dataset": "cifar10", "shift": "snow"}, "only in the archive.*snow-like"),
        ({"dataset": "cifar10c", "shift": "snow-like"}, "cifar10c has no snow-like; did you mean 'snow'"),
        ({"dataset": "cifar10c", "shift": "flip"}, "cifar10c has no flip"),
        ({"dataset": "cifar10c", "shift": "fog", "source": "x"}, "takes no source"),
        ({"dataset": "digits", "shift": "saturate"}, "saturate needs colour"),
        ({"dataset": "imagenet", "shift": "fog"}, "imagenet has no fog"),
        ({"dataset": "imagenet", "shift": "subpopulation"}, "superclasses is missing"),
        ({"dataset": "imagenet", "shift": "subpopulation", "superclasses": "living71"}, "did you mean 'living17'"),
        ({"dataset": "imagenet", "shift": "subpopulation", "superclasses": "no.csv"}, "no.csv: cannot be read"),
    ],
)
def test_what_a_dataset_cannot_be_given(content: dict[str, Any], says: str, entry: Callable[..., DataSpec]) -> None:
    with pytest.raises(RequestError, match=says):
        entry(**content)


def test_fetch_checks_the_archive_and_leaves_no_half(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was fetched through robustbench, which checks what the server says of itself; now against our own MD5."""
    published = tmp_path / f"{CIFAR10C}.tar"
    monkeypatch.setattr(downloads, "CIFAR10C_FILE", published.as_uri())
    monkeypatch.setattr(downloads, "CIFAR10C_MD5", hashlib.md5(b"the archive").hexdigest())
    absent, wrong = r"could not be fetched from file:.*in another way", "gave a file with md5"
    for content, says in ((None, absent), (b"another", wrong)):
        if content is not None:
            published.write_bytes(content)
        with pytest.raises(JouletuneError, match=says):
            downloads.fetch("cifar10c", Console(quiet=True))
        assert not list((tmp_path / "cache").rglob(f"*{CIFAR10C}*"))
    published.write_bytes(b"the archive")
    path = downloads.fetch("cifar10c", Console(quiet=True))
    assert [entry.name for entry in path.parent.iterdir()] == [f"{CIFAR10C}.tar"]
    published.unlink()
    assert downloads.fetch("cifar10c", Console(quiet=True)) == path
    path.write_bytes(b"another")
    with pytest.raises(JouletuneError, match="not the published archive"):
        downloads.fetch("cifar10c", Console(quiet=True))


def test_fetch_replaces_a_wrong_checkpoint_that_is_there(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "published.pth").write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    released = Released("tbft/w.pth", sha256, (tmp_path / "published.pth").as_uri(), "weights")
    monkeypatch.setattr(downloads, "CHECKPOINTS", {"tbft-cifar10": released})
    there = tmp_path / "cache" / "data" / "tbft" / "w.pth"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"wrong")
    assert downloads.fetch("tbft-cifar10", Console(quiet=True)) == there
    assert there.read_bytes() == b"weights"


def test_fetch_takes_the_weights_out_of_a_training_scripts_checkpoint(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"fc.weight": torch.rand(2, 3), "fc.bias": torch.rand(2)}
    content = {"net": {f"module.{key}": value for key, value in state.items()}, "err_cls": np.float64(0.1)}
    published = tmp_path / "ckpt.pth"
    torch.save(content, published)
    right = hashlib.sha256(save(state)).hexdigest()
    there = tmp_path / "cache" / "data" / "memo" / "w.safetensors"
    for sha256, kept in (("0" * 64, False), (right, True)):
        released = Released("memo/w.safetensors", sha256, published.as_uri(), "weights", inside="net")
        monkeypatch.setattr(downloads, "CHECKPOINTS", {"memo-cifar10": released})
        if kept:
            assert downloads.fetch("memo-cifar10", Console(quiet=True)) == there
            assert {key: value.tolist() for key, value in load_file(there).items()} == {
                key: value.tolist() for key, value in state.items()
            }
        else:
            with pytest.raises(JouletuneError, match=f"holds weights with sha256 {right}, known is 0000"):
                downloads.fetch("memo-cifar10", Console(quiet=True))
            assert not there.exists()
    published.write_bytes(b"no checkpoint")
    there.unlink()
    with pytest.raises(JouletuneError, match="is not the published checkpoint"):
        downloads.fetch("memo-cifar10", Console(quiet=True))


# -- superclasses ------------------------------------------------------------------------------------------


def test_living17_has_17_superclasses_of_two_and_two() -> None:
    table = shipped_table("living17")
    assert len(table) == 17
    assert all((len(source), len(target)) == (2, 2) for source, target in table.values())
    members = [member for sides in table.values() for side in sides for member in side]
    assert len(set(members)) == 68
    assert all(len(member) == 9 and member[0] == "n" and member[1:].isdigit() for member in members)
    assert table["bear"] == (("n02134418", "n02133161"), ("n02134084", "n02132136"))


TABLE = {"a": {"source": ["n1"], "target": ["n2"]}, "b": {"source": ["n3"], "target": ["n4", "n5"], "wnid": "n9"}}
READ = {"a": (("n1",), ("n2",)), "b": (("n3",), ("n4", "n5"))}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", json.dumps(TABLE, indent=1)),
        ("t.yaml", "a: {source: [n1], target: [n2]}\nb: {source: [n3], target: [n4, n5]}\n"),
        ("t.csv", "superclass,note,side,wnid\na,,source,n1\na,,target,n2\nb,,source,n3\nb,,target,n4\nb,,target,n5\n"),
    ],
)
def test_tables_are_csv_json_or_yaml(tmp_path: Path, name: str, text: str, entry: Callable[..., DataSpec]) -> None:
    (tmp_path / name).write_text(text)
    assert read_table(tmp_path / name, name) == READ
    # relative to the suite, which lies in the same folder
    assert entry(dataset="imagenet", shift="subpopulation", superclasses=name).superclasses == READ


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "superclass,wnid\na,n1\n", "t.csv:1: no column 'side'"),
        ("t.csv", "superclass,side,wnid\na,sauce,n1\n", "t.csv:2: expected a superclass"),
        ("t.csv", "superclass,side,wnid\na,source\n", "t.csv:2: expected"),
        ("t.csv", "superclass,side,wnid\na,source,n1\na,target,n2\n", "at least two"),
        ("t.csv", "superclass,side,wnid\na,source,n1\na,target,n2\nb,source,n1\nb,target,n3\n", "given twice"),
        ("t.csv", "superclass,side,wnid\na,source,n1\nb,source,n2\n", "list of classes"),
        ("t.csv", b"\xff\xfe", "UTF-8"),
        ("t.csv", "", "t.csv:1"),
        ("t.json", "[1]", "t.json"),
        ("t.json", '{"a": {"source": ["n1"]}, "b": 1}', "t.json:1: a: expected"),
        ("t.yaml", "a: {source: [../x], target: [n1]}\nb: {source: [n2], target: [n3]}\n", "cannot be the name"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, name: str, text: str | bytes, says: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError, match=says):
        read_table(tmp_path / name, name)


# -- ImageNet and Tiny ImageNet ----------------------------------------------------------------------------


def imagenet(root: Path, parts: tuple[str, ...] = ("train", "val")) -> Path:
    """Two images per class and part; the shade says which class. And a class that no table names."""
    for part in parts:
        for number in range(1, 7):
            for image in range(2):
                picture(root / part / f"n{number}" / f"{part}_{image}.JPEG", 40 * number)
    return root


@pytest.mark.parametrize("inner", ["", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC"])
def test_imagenet_folder(root: Path, inner: str, entry: Callable[..., DataSpec]) -> None:
    imagenet(root / "imagenet" / inner)
    data = entry(dataset="imagenet", shift="subpopulation", superclasses=TABLE, image_size=32)
    domain = make(data)
    assert domain.source.x.shape == (8, 32, 32, 3)
    assert domain.target.x.shape == (12, 32, 32, 3)
    assert domain.source.y.tolist() == [0] * 4 + [1] * 4
    assert domain.target.y.tolist() == [0] * 4 + [1] * 8
    assert np.rint(domain.target.x.mean(axis=(1, 2, 3)) / 40).tolist() == [2] * 4 + [4] * 4 + [5] * 4
    assert (domain.source.classes, domain.variant) == (("a", "b"), None)
    assert n_target(data) is None


def test_imagenet_by_path_and_without_a_sorted_val(tmp_path: Path, root: Path, entry: Callable[..., DataSpec]) -> None:
    imagenet(tmp_path / "mine", ("train",))
    (tmp_path / "mine" / "val").mkdir()
    picture(tmp_path / "mine" / "val" / "ILSVRC2012_val_00000001.JPEG", 7)
    domain = make(entry(dataset="imagenet", shift="subpopulation", superclasses=TABLE, source="mine", image_size=16))
    assert (len(domain.source.x), len(domain.target.x), domain.variant) == (4, 6, "train part only")


def test_imagenet_that_changed_is_read_again(root: Path, entry: Callable[..., DataSpec]) -> None:
    imagenet(root / "imagenet")
    data = entry(dataset="imagenet", shift="subpopulation", superclasses=TABLE, image_size=16)
    before = make_domain(data, lambda done, total: None)
    picture(root / "imagenet" / "train" / "n6" / "more.JPEG", 3)  # in no superclass
    assert make_domain(data, lambda done, total: None) == before
    picture(root / "imagenet" / "train" / "n2" / "more.JPEG", 3)
    assert len(make(data).target.x) == 13


def test_imagenet_that_lacks_a_class_is_refused_before_anything_runs(
    root: Path, entry: Callable[..., DataSpec]
) -> None:
    data = entry(dataset="imagenet", shift="subpopulation", superclasses="living17")
    with pytest.raises(RequestError, match=r"no ImageNet.*image-net\.org.*imagenet/train/<wnid>.*source: PATH"):
        locate(data)
    imagenet(root / "imagenet")
    with pytest.raises(RequestError, match="lacks n01631663 and 67 more of the 68"):
        locate(data)


def test_an_empty_class_folder_is_named(root: Path, entry: Callable[..., DataSpec]) -> None:
    folder = imagenet(root / "imagenet", ("train",))
    for file in (folder / "train" / "n3").iterdir():
        file.unlink()
    with pytest.raises(RequestError, match="n3: no images"):
        make(entry(dataset="imagenet", shift="subpopulation", superclasses=TABLE))


@pytest.mark.parametrize("form", ["folder", "tar", "tiny-imagenet-200"])
def test_tiny_imagenet_takes_the_table_beside_it(root: Path, form: str, entry: Callable[..., DataSpec]) -> None:
    folder = root / (form if form.startswith("tiny") else TINY_SUBSET)
    imagenet(folder, ("train",))
    if form.startswith("tiny"):  # the published one has one more level
        for member in (folder / "train").iterdir():
            (member / "images").mkdir()
            for file in member.glob("*.JPEG"):
                file.rename(member / "images" / file.name)
    if form == "tar":
        with tarfile.open(root / f"{TINY_SUBSET}.tar.gz", "w:gz") as tar:
            tar.add(folder / "train", "train")
        shutil.rmtree(folder)
    data = entry(dataset="tiny_imagenet", shift="subpopulation")
    with pytest.raises(RequestError, match="no table of superclasses"):
        locate(data)
    (root / f"{TINY_SUBSET}.json").write_text(json.dumps(TABLE))
    domain = make(data)
    assert domain.source.x.shape == (4, 32, 32, 3)
    assert domain.target.y.tolist() == [0, 0, 1, 1, 1, 1]
    # another table makes another domain
    (root / f"{TINY_SUBSET}.json").write_text(json.dumps(TABLE | {"c": {"source": ["n6"], "target": ["n7"]}}))
    with pytest.raises(RequestError, match="n7"):
        make(data)


def test_a_damaged_tiny_archive_is_named(root: Path, entry: Callable[..., DataSpec]) -> None:
    (root / f"{TINY_SUBSET}.json").write_text(json.dumps(TABLE))
    archive = root / f"{TINY_SUBSET}.tar.gz"
    archive.write_bytes(b"\x1f\x8bnothing")
    data = entry(dataset="tiny_imagenet", shift="subpopulation")
    with pytest.raises(RequestError, match="not a readable archive"):
        make(data)
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("train/n1/a.JPEG")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"abcd"))
    with pytest.raises(RequestError, match=r"a\.JPEG: not a readable image"):
        make(data)


def test_absent_tiny_imagenet_says_what_goes_where(root: Path, entry: Callable[..., DataSpec]) -> None:
    with pytest.raises(RequestError, match=r"tiny_imagenet32_subset\.tar\.gz and tiny_imagenet32_subset\.json"):
        locate(entry(dataset="tiny_imagenet", shift="subpopulation"))


def test_real_tiny_imagenet(data_dir: Path) -> None:
    if not (data_dir / f"{TINY_SUBSET}.tar.gz").is_file():
        pytest.skip("Tiny ImageNet is not here")
    data = load_suite("living-tiny").suite.data[0]
    domain = make(data)
    for side in (domain.source, domain.target):
        assert side.x.shape == (10_000, 32, 32, 3)
        assert np.bincount(side.y).tolist() == [1000] * 10
    assert n_target(data) == 10_000


# -- shipped suites ----------------------------------------------------------------------------------------


def test_suites_of_cifar10c_have_the_15_of_the_paper() -> None:
    for name, official in (("cifar10c", True), ("cifar10c-like", False)):
        suite = load_suite(name).suite
        shifts = [data.shift.removesuffix("-like") for data in suite.data]
        assert len(shifts) == 15
        assert set(ARCHIVED) - set(shifts) == {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
        assert {data.severity for data in suite.data} == {5}
        assert any(data.shift.endswith("-like") for data in suite.data) != official


def test_living17_is_fed_what_its_checkpoint_was_trained_on() -> None:
    suite = load_suite("living17").suite
    assert suite.model.pixels == "unit"
    assert (suite.data[0].image_size, len(suite.data[0].members())) == (128, 17)
    assert load_suite("cifar10c").suite.model.pixels == "signed"
