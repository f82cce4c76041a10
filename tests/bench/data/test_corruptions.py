"""The corruptions: formulas by hand, every size, equal seeds equal bytes, worse with severity."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bench.catalog.datasets import ARCHIVED, SHIFTS
from bench.data.corruptions import CHUNK, CORRUPTIONS, corrupt
from bench.data.corruptions.resample import bilinear, clipped_zoom, mirror, reflect, smear
from bench.data.corruptions.weather import plasma_fractal
from bench.data.images import Pixels, read_digits

OFFICIAL = [name for name in CORRUPTIONS if name not in ("noise", "blur")]


def pictures(n: int = 6, height: int = 32, width: int = 32, channels: int = 3) -> Pixels:
    """Smooth random colours: like photographs, they have edges and flat parts."""
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.standard_normal((n, height, width, channels)), (0, 2, 2, 0))
    low, high = smooth.min(axis=(1, 2), keepdims=True), smooth.max(axis=(1, 2), keepdims=True)
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def flat(*colour: int, size: int = 16) -> Pixels:
    return np.broadcast_to(np.array(colour, np.uint8), (1, size, size, len(colour))).copy()


# -- the catalogue -----------------------------------------------------------------------------------------


def test_every_corruption_of_the_catalogue_is_made_here_or_in_the_archive() -> None:
    made = {name for name, entry in SHIFTS.items() if entry.level == "input" and entry.form != "archive"}
    assert set(CORRUPTIONS) == made
    assert len(ARCHIVED) == 19
    assert {name.removesuffix("-like") for name in OFFICIAL} == set(ARCHIVED)


def test_like_marks_exactly_the_approximations() -> None:
    for name, entry in SHIFTS.items():
        assert (entry.form == "like") == name.endswith("-like"), name


# -- all of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (33, 47), (64, 64), (128, 128)], ids=str)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_grey_or_colour(name: str, size: tuple[int, int], channels: int) -> None:
    images = pictures(2, *size, channels)
    before = images.copy()
    for severity in (1, 5):
        worse = corrupt(images, name, severity, "d")
        assert worse.dtype == np.uint8
        assert worse.shape == images.shape
        assert np.array_equal(worse, corrupt(images, name, severity, "d"))
    assert np.array_equal(images, before)
    if (name, channels) != ("saturate", 1):  # there is nothing to saturate in grey
        assert not np.array_equal(worse, images)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_empty_set_and_a_single_pixel(name: str) -> None:
    assert corrupt(np.zeros((0, 8, 8, 3), np.uint8), name, 5, "d").shape == (0, 8, 8, 3)
    assert corrupt(np.full((1, 1, 1, 3), 9, np.uint8), name, 5, "d").shape == (1, 1, 1, 3)


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_black_and_white_pictures_break_nothing(name: str, colour: int) -> None:
    with np.errstate(all="raise"):
        corrupt(np.full((2, 32, 32, 3), colour, np.uint8), name, 5, "d")


# saturate first takes colour away, then adds it; glass blurs before it moves pixels, which at severity 1 it does not;
# elastic trades the affine part for displacements; spatter changes from water to mud; frost has its own test below
@pytest.mark.parametrize(
    "name", sorted(set(CORRUPTIONS) - {"saturate", "glass_blur", "elastic_transform", "spatter-like", "frost-like"})
)
def test_worse_with_severity(name: str) -> None:
    images = pictures(40)
    distance = [np.abs(corrupt(images, name, severity, "d").astype(float) - images).mean() for severity in range(1, 6)]
    assert distance == sorted(distance)
    assert distance[4] > 1.3 * distance[0]


def test_first_images_do_not_depend_on_how_many_follow() -> None:
    images = np.resize(pictures(5, 8, 8), (2 * CHUNK + 3, 8, 8, 3))
    for name in CORRUPTIONS:
        part = corrupt(images[: 2 * CHUNK], name, 3, "d")
        assert np.array_equal(corrupt(images, name, 3, "d")[: 2 * CHUNK], part), name


def test_draws_differ_between_datasets_severities_and_images() -> None:
    grey = np.full((2, 32, 32, 3), 128, np.uint8)
    for name in ("gaussian_noise", "snow-like", "fog"):
        assert not np.array_equal(corrupt(grey, name, 5, "a"), corrupt(grey, name, 5, "b")), name
        first, second = corrupt(grey, name, 5, "a")
        assert not np.array_equal(first, second), name


def test_another_process_makes_the_same_bytes() -> None:
    code = (
        "import zlib, numpy as np\n"
        "from bench.data.corruptions import CORRUPTIONS, corrupt\n"
        "x = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), np.uint8)\n"
        "print(*(zlib.crc32(corrupt(x, name, 5, 'd').tobytes()) for name in CORRUPTIONS))\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    images = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), np.uint8)
    here = [zlib.crc32(corrupt(images, name, 5, "d").tobytes()) for name in CORRUPTIONS]
    assert [int(value) for value in done.stdout.split()] == here


def test_golden_noise_of_quickstart() -> None:
    digits = read_digits().x[:899]
    assert zlib.crc32(corrupt(digits, "noise", 5, "digits").tobytes()) == 887366670


# -- noise -------------------------------------------------------------------------------------------------


def test_gaussian_noise_has_the_published_sigma() -> None:
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    for severity, sigma in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        noisy = corrupt(grey, "gaussian_noise", severity, "d") / 255
        assert noisy.std() == pytest.approx(sigma, rel=0.02)
        assert noisy.mean() == pytest.approx(127.5 / 255, abs=0.001)  # half a level is cut off


def test_shot_noise_is_counted_light() -> None:
    grey = np.full((20, 32, 32, 3), 102, np.uint8)  # 0.4 of the full scale: 20 of 50 photons
    noisy = corrupt(grey, "shot_noise", 5, "d")
    counts = np.ceil(noisy / 255 * 50 - 1e-9)
    assert np.array_equal((counts / 50 * 255).astype(np.uint8), noisy)
    assert counts.mean() == pytest.approx(20, rel=0.01)
    assert counts.var() == pytest.approx(20, rel=0.03)


def test_impulse_noise_is_salt_and_pepper() -> None:
    grey = np.full((50, 32, 32, 3), 100, np.uint8)
    noisy = corrupt(grey, "impulse_noise", 5, "d")
    assert set(np.unique(noisy)) == {0, 100, 255}
    assert (noisy != 100).mean() == pytest.approx(0.07, rel=0.03)
    assert (noisy == 0).sum() == pytest.approx((noisy == 255).sum(), rel=0.06)


def test_speckle_noise_leaves_black_alone_and_grows_with_the_light() -> None:
    assert not corrupt(np.zeros((1, 8, 8, 3), np.uint8), "speckle_noise", 5, "d").any()
    assert corrupt(np.full((50, 32, 32, 3), 102, np.uint8), "speckle_noise", 5, "d").std() / 255 == pytest.approx(
        0.4 * 0.2, rel=0.02
    )


# -- blur --------------------------------------------------------------------------------------------------


def point(size: int = 17) -> Pixels:
    image = np.zeros((1, size, size, 3), np.uint8)
    image[0, size // 2, size // 2] = 255
    return image


def test_defocus_spreads_a_point_over_a_soft_disk() -> None:
    # severity 4: the disk of radius 1 is a plus of five pixels; the 3x3 Gaussian of sigma 0.2 hardly softens it
    spread = corrupt(point(), "defocus_blur", 4, "d")[0, 7:10, 7:10, 0]
    assert spread.tolist() == [[0, 50, 0], [50, 51, 50], [0, 50, 0]] or spread.tolist() == [
        [0, 50, 0],
        [50, 50, 50],
        [0, 50, 0],
    ]


def test_gaussian_blur_of_a_point() -> None:
    weights = np.exp(-np.array([1.0, 0.0, 1.0]) / 2)
    tails = np.exp(-(np.arange(-4, 5) ** 2) / 2).sum()
    expected = (np.outer(weights, weights) / tails**2 * 255).astype(np.uint8)
    assert np.array_equal(corrupt(point(), "gaussian_blur", 5, "d")[0, 7:10, 7:10, 0], expected)


def test_glass_takes_each_pixel_from_its_upper_left() -> None:
    # severity 1 blurs with sigma 0.05, which is no blur at all; colours then say where a pixel came from
    rows, columns = np.mgrid[0:16, 0:16]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)[np.newaxis]
    moved = corrupt(image, "glass_blur", 1, "d")[0]
    steps = image[0].astype(int) - moved
    assert np.array_equal(moved[:2], image[0, :2])
    assert np.array_equal(moved[:, :2], image[0, :, :2])
    assert set(np.unique(steps[2:, 2:, :2])) == {0, 1}
    assert 0.3 < steps[2:, 2:, 0].mean() < 0.7


def test_smear_is_half_a_gaussian_in_the_direction_given() -> None:
    x = point() / 255
    weights = np.exp(-(np.arange(7) ** 2) / 2)
    weights /= weights.sum()
    right, down = smear(np.concatenate([x, x]), 3, 1.0, np.array([0.0, 90.0]))[..., 0]
    # each pixel looks to its right, so light moves to the left
    assert right[8, 8:4:-1] * 255 == pytest.approx(np.rint(weights[:4] * 255))
    assert down[8:4:-1, 8] * 255 == pytest.approx(np.rint(weights[:4] * 255))
    assert right.sum() == pytest.approx(1, abs=0.02)
    assert not np.delete(right, 8, axis=0).any()


def test_zoom_by_two_enlarges_the_centre() -> None:
    x = np.arange(4.0)[np.newaxis, :, np.newaxis, np.newaxis] * np.ones((1, 4, 4, 1))
    assert clipped_zoom(x, 1.0) == pytest.approx(x)
    # the two middle rows, 1 and 2, stretched over four
    assert clipped_zoom(x, 2.0)[0, :, 0, 0] == pytest.approx([1, 4 / 3, 5 / 3, 2])


def test_blur_leaves_flat_pictures_flat() -> None:
    for name in ("gaussian_blur", "defocus_blur", "glass_blur", "motion_blur-like", "zoom_blur", "elastic_transform"):
        worse = corrupt(flat(200, 100, 50, size=32), name, 5, "d").astype(int)
        assert np.abs(worse - [200, 100, 50]).max() <= 1, name


@pytest.mark.parametrize(("fold", "row"), [(reflect, "cbaabccba"), (mirror, "bcbabcbab")], ids=["reflect", "mirror"])
def test_beyond_the_border(fold: object, row: str) -> None:
    assert callable(fold)
    assert "".join("abc"[index] for index in fold(np.arange(-3, 6), 3)) == row


def test_bilinear_between_four_pixels() -> None:
    x = np.array([[0.0, 1.0], [2.0, 3.0]])[np.newaxis, :, :, np.newaxis]
    assert bilinear(x, np.array([[[0.5]]]), np.array([[[0.25]]]), mirror).item() == pytest.approx(1.25)


# -- weather -----------------------------------------------------------------------------------------------


def test_plasma_spans_0_to_1_and_less_decay_is_rougher() -> None:
    rng = np.random.default_rng(0)
    smooth, rough = plasma_fractal(20, 32, 3.0, rng), plasma_fractal(20, 32, 1.75, rng)
    for maps in (smooth, rough):
        assert maps.min(axis=(1, 2)) == pytest.approx(0)
        assert maps.max(axis=(1, 2)) == pytest.approx(1)
    assert np.abs(np.diff(rough)).mean() > np.abs(np.diff(smooth)).mean()


def test_plasma_by_hand_on_two_by_two() -> None:
    class Draws:
        """1 for the centre, then 2 and 3 for the two sides, in units of wibble."""

        def __init__(self) -> None:
            self.next = 0

        def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
            self.next += 1
            return np.full(shape, float(self.next))

    heights = plasma_fractal(1, 2, 3.0, Draws())[0]  # type: ignore[arg-type]  # numbers that are known
    # corner 0; centre 0 + 100 x 1; upper side (centre twice + corner twice) / 4 + 100 x 2; left side likewise with 3
    assert heights == pytest.approx(np.array([[0, 250], [350, 100]]) / 350)


def test_fog_keeps_the_brightest_pixel_and_lifts_black() -> None:
    images = pictures(10)
    foggy = corrupt(images, "fog", 5, "d")
    assert (foggy.max(axis=(1, 2, 3)) <= images.max(axis=(1, 2, 3))).all()
    assert foggy.std() < images.std()


def test_frost_weighs_picture_and_frost() -> None:
    black = corrupt(np.zeros((20, 32, 32, 3), np.uint8), "frost-like", 5, "d") / 255 / 0.45
    assert 0.4 < black.mean() < 0.7
    assert black.max() <= 1
    assert black[..., 2].mean() > black[..., 0].mean()  # it is bluish


def test_frost_hides_more_of_the_picture_with_severity() -> None:
    # its weight grows while the picture's shrinks, so the mean colour says nothing
    images = pictures(40)
    likeness = [
        np.corrcoef(corrupt(images, "frost-like", severity, "d").ravel(), images.ravel())[0, 1]
        for severity in range(1, 6)
    ]
    assert likeness == sorted(likeness, reverse=True)


def test_snow_is_white_and_falls() -> None:
    added = corrupt(np.zeros((50, 32, 32, 3), np.uint8), "snow-like", 2, "d").astype(float)
    assert np.array_equal(added[..., 0], added[..., 2])
    down, across = (np.abs(np.diff(added, axis=axis)).mean() for axis in (1, 2))
    assert down < across  # streaks are longer from top to bottom


def test_spatter_is_water_then_mud() -> None:
    black, white = np.zeros((20, 32, 32, 3), np.uint8), np.full((20, 32, 32, 3), 255, np.uint8)
    water = corrupt(black, "spatter-like", 3, "d").reshape(-1, 3)
    assert water.max() == int(238 * 0.5)
    assert (water[:, 0] <= water[:, 1]).all()
    mud = corrupt(white, "spatter-like", 5, "d")
    assert mud.min() < 80
    assert (mud[..., 0] >= mud[..., 2]).all()


# -- digital -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "severity", "before", "after"),
    [
        ("brightness", 5, (51, 102, 0), (89, 178, 0)),  # V 0.4 -> 0.7: times 1.75
        ("brightness", 5, (0, 0, 0), (76, 76, 76)),  # 0.3
        ("brightness", 1, (255, 10, 10), (255, 10, 10)),  # V cannot grow
        ("saturate", 1, (200, 100, 100), (200, 170, 170)),  # S 0.5 -> 0.15: 200 - 0.3 x 100
        ("saturate", 5, (200, 100, 150), (200, 0, 100)),  # S 0.5 -> 1.45, cut off at 1: 200 - 2 x (100, 50)
        ("saturate", 3, (80, 80, 80), (80, 80, 80)),
        ("saturate", 5, (100, 100, 100), (100, 80, 80)),  # no hue counts as red: S 0 -> 0.2
        ("contrast", 5, (10, 20, 30), (10, 20, 30)),  # flat already
        ("pixelate", 5, (10, 20, 30), (10, 20, 30)),
        ("jpeg_compression", 5, (128, 128, 128), (128, 128, 128)),
    ],
)
def test_colours_by_hand(name: str, severity: int, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    worse = corrupt(flat(*before), name, severity, "d")
    assert np.abs(worse.astype(int) - after).max() <= 1  # where the exact value is whole, rounding may fall below it


def test_contrast_by_hand() -> None:
    image = np.zeros((1, 2, 2, 1), np.uint8)
    image[0, 0] = 200  # mean 100
    assert corrupt(image, "contrast", 2, "d")[0, :, 0, 0].tolist() == [150, 50]


def test_pixelate_by_hand() -> None:
    # 4 pixels x 0.65 -> 2, and back: blocks of 2x2 with their mean
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1) * 10
    assert corrupt(image, "pixelate", 5, "d")[0, :, :, 0].tolist() == [
        [25, 25, 45, 45],
        [25, 25, 45, 45],
        [105, 105, 125, 125],
        [105, 105, 125, 125],
    ]


def test_elastic_moves_pixels_and_makes_no_new_colours() -> None:
    images = pictures(10)
    moved = corrupt(images, "elastic_transform", 3, "d")
    assert moved.min() >= images.min()
    assert moved.max() <= images.max()
    assert np.abs(moved.mean(axis=(1, 2)) - images.mean(axis=(1, 2))).mean() < 12
