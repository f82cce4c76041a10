"""Splits, shifts, folders of images, and the cache of what was made of them."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.catalog.datasets import DATASETS, SHIFT_LEVELS
from bench.data import domain as domains
from bench.data.corruptions import corrupt
from bench.data.domain import Domain, load_domain, make_domain
from bench.data.images import Images, read_digits, read_tree
from bench.data.locate import CIFAR10_PICKLES, data_dirs, locate
from bench.data.shifts import flip, permute, subpopulation
from bench.data.splits import Split, interleave, split_target
from bench.errors import JouletuneError, RequestError
from bench.store.cache_dir import cache_dir
from bench.suite.data_axis import DataSpec, n_target

FRACTIONS = (0.7, 0.15, 0.15)
Tree = Callable[..., Path]


def quiet(done: int, total: int) -> None:
    assert 0 < done <= total


def spec(dataset: str = "digits", shift: str = "noise", **more: Any) -> DataSpec:
    level = more.pop("level", SHIFT_LEVELS.get(shift))
    if shift == "subpopulation" and "superclasses" not in more:
        more["superclasses"] = dict(DATASETS[dataset].superclasses or {})
    return DataSpec(dataset=dataset, shift=shift, level=level, label=more.pop("label", f"{dataset}-{shift}"), **more)


def make(data: DataSpec) -> Domain:
    return load_domain(make_domain(data, quiet))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a folder of images: class -> how many."""

    def build(
        name: str = "pictures",
        counts: dict[str, int] | None = None,
        size: tuple[int, int] = (16, 16),
        mode: str = "RGB",
        suffix: str = "png",
    ) -> Path:
        rng = np.random.default_rng(len(name))
        channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
        for label, count in (counts or {"cat": 12, "dog": 8}).items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:03}.{suffix}")
        return tmp_path / name

    return build


# -- splits -----------------------------------------------------------------------------------------


def digits_split(n_train: int, seed: int, label: str = "digits-noise") -> Split:
    return split_target(read_digits().y[:899], n_train=n_train, fractions=FRACTIONS, label=label, seed=seed)


def test_split_parts_are_disjoint_and_of_their_size() -> None:
    split = digits_split(629, 0)
    assert [len(split.train), len(split.val), len(split.test)] == [629, 135, 135]
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(899))


def test_same_seed_same_split_another_seed_another() -> None:
    assert np.array_equal(digits_split(90, 1).train, digits_split(90, 1).train)
    assert set(digits_split(90, 1).train) != set(digits_split(90, 2).train)
    assert set(digits_split(90, 1).test) != set(digits_split(90, 2).test)
    assert set(digits_split(90, 1).train) != set(digits_split(90, 1, label="digits-flip").train)


def test_smaller_sizes_are_subsets_and_meet_the_same_val_and_test() -> None:
    small, large = digits_split(90, 3), digits_split(270, 3)
    assert set(small.train) < set(large.train)
    assert np.array_equal(small.val, large.val)
    assert np.array_equal(small.test, large.test)


def test_split_does_not_depend_on_what_was_drawn_before() -> None:
    np.random.seed(0)
    first = digits_split(90, 0).train
    np.random.default_rng().random(5)
    np.random.seed(1)
    assert np.array_equal(first, digits_split(90, 0).train)


def test_golden_split() -> None:
    """What was published with a seed stays what it was."""
    split = split_target(np.arange(20) % 2, n_train=4, fractions=(0.5, 0.25, 0.25), label="golden", seed=0)
    assert split.train.tolist() == [13, 14, 17, 16]
    assert split.test.tolist() == [18, 3, 8, 5, 6]


@pytest.mark.parametrize("counts", [(100, 100), (180, 20), (50, 30, 20), (7, 3)])
def test_every_front_part_has_the_classes_in_proportion(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = interleave(labels, np.random.default_rng(5))
    assert sorted(order) == list(range(len(labels)))
    for front in range(1, len(labels) + 1):
        seen = np.bincount(labels[order[:front]], minlength=len(counts))
        shares = np.array(counts) / len(labels)
        # a class is ahead or behind by less than one image of its own, and its share of one of each class
        assert np.all(np.abs(seen - front * shares) < 1 + len(counts) * shares)


def test_stratified_parts_of_digits() -> None:
    labels = read_digits().y[:899]
    split = split_target(labels, n_train=90, fractions=FRACTIONS, label="d", seed=0)
    for part in (split.train, split.val, split.test):
        shares = np.bincount(labels[part], minlength=10) / len(part)
        assert np.all(np.abs(shares - np.bincount(labels) / 899) < 2 / len(part))


def test_more_images_than_the_pool_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="pool has 629"):
        digits_split(630, 0)


# -- shifts -----------------------------------------------------------------------------------------


def test_flip_is_k_minus_1_minus_y() -> None:
    assert flip(np.array([0, 1, 9]), 10).tolist() == [9, 8, 0]


def test_permute_gives_label_y_the_yth_entry() -> None:
    assert permute(np.array([0, 1, 2, 2]), (2, 0, 1)).tolist() == [2, 0, 1, 1]


def test_subpopulation_has_other_members_under_the_same_superclass() -> None:
    images = read_digits()
    source, target = subpopulation(images, {"a": (("0",), ("1", "2")), "b": (("3",), ("4",))})
    assert source.classes == target.classes == ("a", "b")
    counts = np.bincount(images.y)
    assert np.bincount(source.y).tolist() == [counts[0], counts[3]]
    assert np.bincount(target.y).tolist() == [counts[1] + counts[2], counts[4]]
    assert np.array_equal(target.x[target.y == 1], images.x[images.y == 4])


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("shift", ["noise", "blur", "contrast"])
def test_corruption_is_deterministic_bounded_and_grows_with_severity(shift: str, size: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, size, size, 3), dtype=np.uint8)
    before = images.copy()
    distances = []
    for severity in range(1, 6):
        worse = corrupt(images, shift, severity, "d")
        assert worse.dtype == np.uint8
        assert worse.shape == images.shape
        assert np.array_equal(worse, corrupt(images, shift, severity, "d"))
        distances.append(np.abs(worse.astype(float) - images).mean())
    assert distances == sorted(distances)
    assert len(set(distances)) == 5
    assert np.array_equal(images, before)


def test_noise_differs_between_datasets_and_severities() -> None:
    grey = np.full((2, 32, 32, 1), 128, np.uint8)
    assert not np.array_equal(corrupt(grey, "noise", 5, "a"), corrupt(grey, "noise", 5, "b"))
    # sigma of CIFAR-10-C at severity 5 is 0.10 of the full scale
    assert corrupt(grey, "noise", 5, "a").std() == pytest.approx(25.5, rel=0.05)


def test_blur_keeps_the_channels_apart_and_the_images_too() -> None:
    images = np.zeros((2, 16, 16, 3), np.uint8)
    images[0, :, :, 0] = 255
    blurred = corrupt(images, "blur", 5, "d")
    assert blurred[0, :, :, 0].min() == 255
    assert blurred[0, :, :, 1:].max() == 0
    assert blurred[1].max() == 0


def test_contrast_moves_pixels_towards_each_images_mean() -> None:
    images = np.zeros((1, 16, 16, 1), np.uint8)
    images[0, :8] = 200
    assert set(np.unique(corrupt(images, "contrast", 5, "d"))) == {85, 115}  # 100 -+ 0.15 x 100


def test_an_unknown_corruption_is_an_error() -> None:
    with pytest.raises(ValueError, match="'motion_blur'"):
        corrupt(np.zeros((1, 8, 8, 1), np.uint8), "motion_blur", 1, "d")


# -- digits as a domain -----------------------------------------------------------------------------


def keys(domain_side: Any) -> set[bytes]:
    return {image.tobytes() for image in np.asarray(domain_side.x)}


def test_digits_have_what_the_catalogue_says() -> None:
    entry, images = DATASETS["digits"], read_digits()
    assert images.x.shape == (1797, entry.image_size, entry.image_size, entry.channels)
    assert (images.x.dtype, images.x.min(), images.x.max()) == (np.uint8, 0, 255)
    assert images.classes == entry.classes
    assert entry.n_per_class is not None
    assert np.bincount(images.y).tolist() == [entry.n_per_class[name] for name in images.classes]


def test_source_and_target_of_digits_share_no_image() -> None:
    domain = make(spec(shift="flip"))
    assert len(domain.source.y) + len(domain.target.y) == 1797
    assert not keys(domain.source) & keys(domain.target)


@pytest.mark.parametrize("shift", ["noise", "blur", "contrast", "flip", "subpopulation", "permute"])
def test_n_target_of_the_catalogue_is_what_is_read(shift: str) -> None:
    more = {"permutation": (1, 0, *range(2, 10))} if shift == "permute" else {}
    data = spec(shift=shift, **more)
    assert len(make(data).target.y) == n_target(data)


def test_only_the_level_of_a_shift_differs_from_the_clean_target() -> None:
    noise, flipped = make(spec(shift="noise")), make(spec(shift="flip"))
    permuted = make(spec(shift="permute", permutation=(*range(1, 10), 0)))
    assert np.array_equal(noise.source.x, flipped.source.x)
    assert np.array_equal(noise.source.y, flipped.source.y)
    assert not np.array_equal(noise.target.x, flipped.target.x)
    assert np.array_equal(9 - flipped.target.y, noise.target.y)
    assert np.array_equal(permuted.target.x, flipped.target.x)
    assert np.array_equal(permuted.target.y, (noise.target.y + 1) % 10)


def test_shifts_of_one_source_share_its_model_and_others_do_not(tree: Tree) -> None:
    by_shift = {shift: make(spec(shift=shift)).source_key for shift in ("noise", "blur", "flip", "subpopulation")}
    assert by_shift["noise"] == by_shift["blur"] == by_shift["flip"] != by_shift["subpopulation"]
    pictures = make(spec("folder", "noise", source=str(tree()), image_size=16))
    assert pictures.source_key not in by_shift.values()


def test_every_seed_and_block_set_meets_the_same_corrupted_pictures() -> None:
    first, again = make(spec()), make(spec(severity=None))
    assert np.array_equal(first.target.x, again.target.x)
    strong = make(spec(severity=5, label="digits-noise-sev5"))
    weak = make(spec(severity=1, label="digits-noise-sev1"))
    assert np.array_equal(strong.target.x, first.target.x)
    assert not np.array_equal(weak.target.x, first.target.x)


# -- folders of images ------------------------------------------------------------------------------


def test_folder_is_halved_into_source_and_target(tree: Tree) -> None:
    domain = make(spec("folder", "flip", source=str(tree()), image_size=16))
    assert domain.source.classes == ("cat", "dog")
    assert np.bincount(domain.source.y).tolist() == [6, 4]
    assert np.bincount(1 - domain.target.y).tolist() == [6, 4]
    assert not keys(domain.source) & keys(domain.target)


def test_folder_with_a_target_of_its_own(tree: Tree) -> None:
    source, target = tree("a"), tree("ab", {"cat": 3, "dog": 5})
    domain = make(spec("folder", "none", level="feature", source=str(source), target=str(target), image_size=16))
    assert (len(domain.source.y), np.bincount(domain.target.y).tolist()) == (20, [3, 5])
    first = np.asarray(Image.open(target / "cat" / "000.png"))
    assert np.array_equal(domain.target.x[0], first)


def test_folder_with_subpopulations(tree: Tree) -> None:
    source = tree("a", {"cat": 3, "lion": 4, "dog": 5, "wolf": 6})
    groups = {"feline": (("cat",), ("lion",)), "canine": (("dog",), ("wolf",))}
    data = spec("folder", "subpopulation", source=str(source), superclasses=groups, image_size=16)
    domain = make(data)
    assert domain.source.classes == ("feline", "canine")
    assert np.bincount(domain.source.y).tolist() == [3, 5]
    assert np.bincount(domain.target.y).tolist() == [4, 6]


@pytest.mark.parametrize("mode", ["L", "RGBA", "RGB"])
def test_every_kind_of_image_becomes_colour(tree: Tree, mode: str) -> None:
    folder = tree(mode=mode)
    images = read_tree(folder, None, quiet)
    assert images.x.shape == (20, 16, 16, 3)
    pixels = np.asarray(Image.open(folder / "cat" / "000.png"))
    expected = np.repeat(pixels[..., None], 3, axis=2) if mode == "L" else pixels[..., :3]
    assert np.array_equal(images.x[0], expected)


@pytest.mark.parametrize("size", [(40, 16), (16, 40), (7, 9), (16, 16), (1, 100)])
def test_odd_sizes_are_resized_by_the_shorter_side_and_cropped(tree: Tree, size: tuple[int, int]) -> None:
    folder = tree(counts={"cat": 1, "dog": 1}, size=size)
    assert read_tree(folder, 16, quiet).x.shape == (2, 16, 16, 3)


def test_crop_is_of_the_centre(tmp_path: Path) -> None:
    stripes = np.zeros((16, 48, 3), np.uint8)
    stripes[:, 16:32] = 255
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.fromarray(stripes).save(tmp_path / label / "x.png")
    assert read_tree(tmp_path, 16, quiet).x.min() == 255


def test_several_sizes_without_image_size_is_an_error(tree: Tree) -> None:
    folder = tree(counts={"cat": 1, "dog": 1})
    Image.new("RGB", (20, 20)).save(folder / "dog" / "big.png")
    with pytest.raises(RequestError, match="2 sizes; give image_size"):
        read_tree(folder, None, quiet)


def test_hidden_folders_and_other_files_are_passed_over(tree: Tree) -> None:
    folder = tree()
    (folder / ".thumbnails").mkdir()
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "README").write_text("x")
    images = read_tree(folder, 16, quiet)
    assert (images.classes, len(images.y)) == (("cat", "dog"), 20)


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("content", [b"", b"not an image", PNG, PNG + b"\0\0\0\rIHDR" + b"\xff" * 40], ids=repr)
def test_an_unreadable_image_is_named(tree: Tree, content: bytes) -> None:
    folder = tree()
    (folder / "dog" / "bad.png").write_bytes(content)
    with pytest.raises(RequestError, match=r"dog/bad\.png: not a readable image"):
        make(spec("folder", "noise", source=str(folder), image_size=16))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_a_damaged_image_is_named_or_read_but_never_breaks_out(tree: Tree, suffix: str) -> None:
    folder = tree(counts={"a": 1, "b": 1}, size=(24, 24), suffix=suffix)
    whole = (folder / "a" / f"000.{suffix}").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for at in rng.integers(0, len(damaged), 4):
            damaged[at] = rng.integers(256)
        (folder / "a" / f"000.{suffix}").write_bytes(damaged)
        try:
            read_tree(folder, 16, quiet)
        except RequestError:
            refused += 1
    assert refused > 0


def test_an_empty_class_is_named(tree: Tree) -> None:
    folder = tree()
    (folder / "emu").mkdir()
    with pytest.raises(RequestError, match="emu: no images in it"):
        make(spec("folder", "noise", source=str(folder), image_size=16))


def test_source_and_target_must_have_the_same_classes(tree: Tree) -> None:
    source, target = tree("a"), tree("ab", {"cat": 2, "fox": 2})
    data = spec("folder", "none", level="input", source=str(source), target=str(target), image_size=16)
    with pytest.raises(RequestError, match="same classes; only one has dog, fox"):
        make_domain(data, quiet)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere", "is not a folder"),
        ("flat", "has 0 sub-folders"),
        ("file", "is not a folder"),
        ("x" * 300, "cannot be read"),
    ],
    ids=["missing", "flat", "file", "too-long"],
)  # fmt: skip
def test_a_folder_that_is_none(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat" / "x.png")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match=says):
        locate(spec("folder", "noise", source=str(tmp_path / path), image_size=16))


def test_a_superclass_member_without_folder_is_named(tree: Tree) -> None:
    groups = {"a": (("cat",), ("dog",)), "b": (("fox",), ("wolf",))}
    data = spec("folder", "subpopulation", source=str(tree()), superclasses=groups, image_size=16)
    with pytest.raises(RequestError, match="no class 'fox'"):
        make_domain(data, quiet)


def test_a_permutation_that_does_not_fit_the_folder(tree: Tree) -> None:
    data = spec("folder", "permute", source=str(tree()), permutation=(1, 2, 0), image_size=16)
    with pytest.raises(RequestError, match="permutation has 3 labels, the data 2 classes"):
        make_domain(data, quiet)


# -- the cache --------------------------------------------------------------------------------------


def test_cache_lies_where_jouletune_cache_says(own_cache: Path) -> None:
    folder = make_domain(spec(), quiet)
    assert folder.parent == own_cache / "domains"
    assert cache_dir() == own_cache
    assert data_dirs()[-1] == own_cache / "data"


def test_a_domain_is_made_once(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_domain(spec(), quiet)
    monkeypatch.setattr(domains, "_sides", lambda *_: pytest.fail("made again"))
    assert make_domain(spec(), quiet) == folder
    assert sorted(entry.name for entry in folder.parent.iterdir()) == [folder.name]


def test_what_a_kill_leaves_is_passed_over(own_cache: Path) -> None:
    folder = make_domain(spec(), quiet)
    whole = np.load(folder / "target_x.npy")
    # killed before the rename: a folder with the dot's name; damaged by hand: one without its facts
    stale = folder.with_name(f".{folder.name}.{os.getpid()}")
    stale.mkdir()
    (stale / "source_x.npy").write_bytes(b"half")
    (folder / "facts.json").unlink()
    (folder / "target_x.npy").write_bytes(b"half")
    assert make_domain(spec(), quiet) == folder
    assert np.array_equal(load_domain(folder).target.x, whole)
    assert not stale.exists()


def test_what_is_cached_reaches_the_disk_before_it_is_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    folder = make_domain(spec(), quiet)
    arrays = {f"{part}_{kind}.npy" for part in ("source", "target") for kind in "xy"}
    assert {*arrays, "facts.json"} <= set(synced[:5])
    assert synced[5].startswith(f".{folder.name}")  # the folder while it has its temporary name, then the one above
    assert synced[-1] == "domains"


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda content: bytes(len(content)),  # as a power loss leaves a file that was not synced
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "a flipped bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["source_x.npy", "target_y.npy", "facts.json"])
def test_a_damaged_domain_is_made_again(own_cache: Path, name: str, damage: str) -> None:
    folder = make_domain(spec(), quiet)
    fingerprint = load_domain(folder).sha256
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(DAMAGE[damage](whole))
    assert make_domain(spec(), quiet) == folder
    assert (folder / name).read_bytes() == whole
    assert load_domain(folder).sha256 == fingerprint


def test_the_fingerprint_is_of_the_images_and_not_of_their_dates(tree: Tree, own_cache: Path) -> None:
    folder = tree()
    data = spec("folder", "noise", source=str(folder), image_size=16)

    def fingerprint() -> str:
        return load_domain(make_domain(data, quiet)).sha256

    before = fingerprint()
    for file in folder.rglob("*.png"):
        os.utime(file, ns=(1, 1))
    assert fingerprint() == before
    Image.new("RGB", (16, 16)).save(folder / "cat" / "000.png")
    assert fingerprint() != before


def test_a_making_that_fails_leaves_nothing(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(JouletuneError, match=r"No space left on device.*JOULETUNE_CACHE"):
        make_domain(spec(), quiet)
    assert list((own_cache / "domains").iterdir()) == []


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(JouletuneError, match="cannot write"):
        make_domain(spec(), quiet)


@pytest.mark.parametrize("change", ["rewritten", "rewritten-alike", "added", "removed", "renamed"])
def test_a_folder_that_changed_is_read_again(tree: Tree, own_cache: Path, change: str) -> None:
    folder = tree()
    data = spec("folder", "noise", source=str(folder), image_size=16)
    before = make_domain(data, quiet)
    file = folder / "cat" / "000.png"
    if change == "rewritten":
        Image.new("RGB", (16, 16)).save(file)
    elif change == "rewritten-alike":
        facts = file.stat()
        file.write_bytes((folder / "dog" / "000.png").read_bytes().ljust(facts.st_size, b"\0")[: facts.st_size])
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))  # as many bytes, a moment later
    elif change == "added":
        Image.new("RGB", (16, 16)).save(folder / "cat" / "new.png")
    elif change == "removed":
        file.unlink()
    else:
        file.rename(folder / "dog" / "moved.png")
    after = make_domain(data, quiet)
    assert after != before
    assert load_domain(after).source_key != load_domain(before).source_key


def test_a_domain_is_read_only_and_memory_mapped(own_cache: Path) -> None:
    domain = load_domain(make_domain(spec(), quiet))
    assert isinstance(domain.target.x, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        domain.target.x[0] = 0


# -- CIFAR-10 ---------------------------------------------------------------------------------------


@pytest.fixture
def small_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Tree) -> Path:
    classes = DATASETS["cifar10"].classes
    assert classes is not None
    for part, count in (("train", 3), ("test", 2)):
        tree(f"data/cifar10/{part}", dict.fromkeys(classes, count), (32, 32), suffix="jpg")
    monkeypatch.setenv("JOULETUNE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_cifar10_as_a_folder(small_cifar: Path) -> None:
    domain = make(spec("cifar10", "flip"))
    assert (len(domain.source.y), len(domain.target.y), domain.variant) == (30, 20, "JPEG")
    assert domain.source.classes == DATASETS["cifar10"].classes
    assert domain.target.y.tolist() == sorted(domain.target.y, reverse=True)


def test_cifar10_whose_test_lacks_a_class(small_cifar: Path) -> None:
    (small_cifar / "cifar10" / "test" / "frog").rename(small_cifar / "cifar10" / "test" / "toad")
    with pytest.raises(RequestError, match="train and test must have the same classes; only one has frog"):
        make_domain(spec("cifar10", "flip"), quiet)


def test_cifar10_that_is_not_here_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULETUNE_DATA", str(tmp_path))
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RequestError, match=r"jouletune fetch cifar10.*JOULETUNE_DATA"):
        locate(spec("cifar10", "flip"))


def test_cifar10_damaged_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULETUNE_DATA", str(tmp_path))
    (tmp_path / CIFAR10_PICKLES).mkdir()
    # a pickle that would run code if it were opened before its checksum is compared
    (tmp_path / CIFAR10_PICKLES / "data_batch_1").write_bytes(
        b"cos\nsystem\n(S'touch " + bytes(tmp_path / "pwned") + b"'\ntR."
    )
    with pytest.raises(RequestError, match="incomplete or damaged; run `jouletune fetch cifar10`"):
        make_domain(spec("cifar10", "flip"), quiet)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"\x1f\x8b\x08\0" + b"\xff" * 50], ids=["empty", "junk", "bad-gzip"])
def test_cifar10_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("JOULETUNE_DATA", str(tmp_path))
    (tmp_path / "cifar10_jpeg.tar.gz").write_bytes(content)
    with pytest.raises(RequestError, match=r"cifar10_jpeg\.tar\.gz: "):
        make_domain(spec("cifar10", "flip"), quiet)


def test_cifar10_archive_that_lacks_images(small_cifar: Path) -> None:
    with tarfile.open(small_cifar / "cifar10_jpeg.tar.gz", "w:gz") as tar:
        tar.add(small_cifar / "cifar10", ".")
    shutil.rmtree(small_cifar / "cifar10")
    with pytest.raises(RequestError, match="30 training and 20 test images; expected 50000 and 10000"):
        make_domain(spec("cifar10", "flip"), quiet)


def test_real_archive_has_what_the_catalogue_says(data_dir: Path) -> None:
    archive = data_dir / "cifar10_jpeg.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no cifar10_jpeg.tar.gz in {data_dir}")
    with tarfile.open(archive) as tar:
        images = [Path(member.name).parts for member in tar if member.isfile()]
    entry = DATASETS["cifar10"]
    assert sum(part == "test" for part, _, _ in images) == entry.n_target
    assert Counter(label for _, label, _ in images) == entry.n_per_class


@pytest.mark.long
def test_real_cifar10_has_what_the_catalogue_says(real_cifar10: tuple[Images, Images]) -> None:
    train, test = real_cifar10
    entry = DATASETS["cifar10"]
    assert entry.n_per_class is not None
    assert train.classes == test.classes == entry.classes
    assert train.x.shape == (50_000, 32, 32, 3)
    assert len(test.y) == entry.n_target
    assert np.bincount(np.concatenate([train.y, test.y])).tolist() == list(entry.n_per_class.values())
