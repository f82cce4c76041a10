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
from bench.suite.training import SourceTrainSpec, TrainSpec
from bench.training.augment import augment, crop, keep
from bench.training.loop import Batchable, to_tensors, train_epoch


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


def test_a_crop_is_the_same_for_a_seed_stays_in_the_range_and_differs_between_images() -> None:
    x = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    made = [crop(x, torch.Generator().manual_seed(2), signed=False) for _ in range(2)]
    assert torch.equal(made[0], made[1])
    assert made[0].shape == x.shape
    assert made[0].min() >= 0
    assert made[0].max() <= 1
    signed = crop(x * 2 - 1, torch.Generator().manual_seed(2), signed=True)
    assert torch.allclose(signed, made[0] * 2 - 1, atol=1e-5)
    flat = crop(torch.full((64, 3, 8, 8), 0.5), torch.Generator().manual_seed(3), signed=False)
    spread = flat.flatten(1).amax(1) - flat.flatten(1).amin(1)
    assert spread.max() < 1e-5  # no part of an even image is another colour
    assert 0.28 < flat.min() < 0.35  # brightness by 0.6 ...
    assert 0.65 < flat.max() < 0.72  # ... to 1.4


def test_the_middle_of_a_ramp_is_cut_out_and_mirrored_in_half_of_the_images() -> None:
    ramp = torch.linspace(0.2, 0.8, 32).expand(200, 1, 32, 32)
    made = crop(ramp, torch.Generator().manual_seed(4), signed=False)
    rises = (made[:, 0, :, -1] - made[:, 0, :, 0]).mean(1) > 0
    assert 0.35 < rises.float().mean() < 0.65


@pytest.mark.parametrize(("step", "factor"), [(0, 0.0), (5, 0.5), (10, 1.0), (25, 0.5), (40, 0.0)])
def test_the_rate_rises_for_the_warm_up_and_falls_by_a_cosine(step: int, factor: float) -> None:
    spec = TrainSpec(epochs=4, schedule="cosine", warmup_epochs=1)
    assert spec.rate(1 + step // 10, step % 10, 10) == pytest.approx(factor)
    assert TrainSpec().rate(1 + step // 10, step % 10, 10) == 1.0


def test_the_optimiser_steps_at_the_rate_of_each_step_and_has_its_own_afterwards() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    seen: list[float] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["lr"]))
    data = Batchable(torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64))
    train_epoch(model, optimizer, data, 2, torch.Generator(), rate=lambda step, steps: step / steps)
    assert seen == [0.0, 0.125, 0.25, 0.375]
    assert optimizer.param_groups[0]["lr"] == 0.5
