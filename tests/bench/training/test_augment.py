"""What a source model is fed: mirrored and moved images, and pixels on the scale it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.data.domain import load_domain, make_domain
from bench.data.images import Images
from bench.errors import RequestError
from bench.models.source import make_source_model
from bench.suite.model import ModelSpec
from bench.suite.training import SourceTrainSpec
from bench.training.augment import augment, keep
from bench.training.loop import to_tensors


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_image_is_a_mirrored_or_plain_crop_of_the_padded_one() -> None:
    images = torch.arange(1.0, 1 + 40 * 3 * 16 * 16).reshape(40, 3, 16, 16)
    changed = augment(images, seeded(0))
    padded = F.pad(images, (2, 2, 2, 2))
    found = set()
    for image, source in zip(changed, padded, strict=True):
        for down in range(5):
            for right in range(5):
                crop = source[:, down : down + 16, right : right + 16]
                found |= {
                    (down, right, mirrored) for mirrored in (0, 1) if image.equal(crop.flip(2) if mirrored else crop)
                }
    assert len(found) > 20
    assert {axis for axis, _, _ in found} == {axis for _, axis, _ in found} == set(range(5))
    assert changed.is_contiguous()


def test_equal_seeds_give_equal_images() -> None:
    images = torch.rand(20, 1, 8, 8)
    assert augment(images, seeded(1)).equal(augment(images, seeded(1)))
    assert not augment(images, seeded(1)).equal(augment(images, seeded(2)))
    assert keep(images, seeded(1)) is images


def test_augmented_source_model_is_another_and_repeatable(tmp_path: Path, make_suite: Callable[..., Any]) -> None:
    suite = make_suite()
    domain = load_domain(make_domain(suite.data[0], lambda done, total: None))
    states = []
    for augmented in (False, True, True):
        spec = ModelSpec(name="resnet8", width=2, source_train=SourceTrainSpec(epochs=1, augment=augmented))
        path = make_source_model(spec, domain, tmp_path, torch.device("cpu"), lambda done, total: None)
        states.append(torch.load(path, weights_only=True)["conv1.weight"])
        path.unlink()
    assert not states[0].equal(states[1])
    assert states[1].equal(states[2])


def test_pixels_from_minus_1_or_0_to_1() -> None:
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 3, 1)
    images = Images(pixels, np.array([0]), ("a",))
    cpu = torch.device("cpu")
    assert to_tensors(images, cpu).x.flatten().tolist() == pytest.approx([-1, -0.6, 1])
    assert to_tensors(images, cpu, "unit").x.flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_a_released_checkpoint_brings_its_pixels(make_suite: Callable[..., Any]) -> None:
    def pixels(**model: Any) -> str:
        cifar = [{"dataset": "cifar10", "shift": "flip"}]
        return str(make_suite(model={"name": "resnet26", **model}, data=cifar).model.pixels)

    assert pixels() == pixels(checkpoint="tbft-cifar10") == "signed"
    assert pixels(checkpoint="tbft-living17") == pixels(pixels="unit") == "unit"
    with pytest.raises(RequestError, match=r"model\.pixels: tbft-living17 was trained on 'unit'"):
        pixels(checkpoint="tbft-living17", pixels="signed")
