"""Distillation: its losses by hand, R^2, one forward pass for both parts, and taking up after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

from bench.models.resnet import ResNet
from bench.suite.training import SourceTrainSpec, TeacherSpec
from bench.training.distil import Distiller, General, fit_of, joint_losses, sskd_losses
from bench.training.layers import linear_head

N, D, K = 60, 5, 3


def spec(**changes: Any) -> SourceTrainSpec:
    return SourceTrainSpec(
        **{"loss": "sskd", "teacher": TeacherSpec(name="resnet8"), "epochs": 4, "batch_size": 16, "lr": 0.05} | changes
    )


def general() -> General:
    rng = np.random.default_rng(0)
    labels = torch.arange(N) % K
    pixels = rng.integers(0, 60, (N, 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(N), :, :, labels.numpy()] += 150
    embedding = torch.from_numpy(rng.standard_normal((K, D))).float()[labels]
    return General(pixels, embedding, labels, torch.arange(6, N), torch.arange(6))


def to_batch(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1


def distiller(state: Path, *, cut: str | None = None, **changes: Any) -> tuple[nn.Module, Distiller]:
    torch.manual_seed(0)
    model = ResNet(1, n_classes=K, image_size=8, width=8)
    head = linear_head(model)
    assert head is not None
    made = Distiller(
        model, head, cut=cut, n_embedding=D, n_part=16 if cut else 0, spec=spec(**changes), state=state,
        to_batch=to_batch,
    )  # fmt: skip
    return model, made


def test_the_losses_by_hand() -> None:
    """Embeddings off by 1 and 2 in two outputs: (1 + 4) / 2; even logits of two classes: ln 2."""
    teacher, off = torch.zeros(1, 2), torch.tensor([[1.0, 2.0]])
    even, label = torch.zeros(1, 2), torch.tensor([0])
    found = sskd_losses(off, teacher, even, label)
    assert {name: round(float(value), 4) for name, value in found.items()} == {"embedding": 2.5, "classes": 0.6931}
    four = joint_losses((off, even), (2 * off, torch.tensor([[0.0, 2.0]])), teacher, label)
    assert {name: round(float(value), 4) for name, value in four.items()} == {
        "full_embedding": 2.5,
        "full_classes": 0.6931,
        "part_classes": 2.1269,  # ln(1 + e^2)
        "part_embedding": 10.0,
    }
    soft = sskd_losses(off, teacher, torch.tensor([[0.0, 2.0]]), torch.tensor([[0.5, 0.5]]))
    assert float(soft["classes"]) == pytest.approx((2.1269 + 0.1269) / 2, abs=1e-4)


def test_r2_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    teacher, made = torch.randn(2, 30, 4, generator=generator)
    found = fit_of(made, teacher)
    assert found["r2"] == pytest.approx(r2_score(teacher, made), abs=1e-5)
    assert found["rmse"] ** 2 == pytest.approx(found["mse"])
    assert fit_of(teacher, teacher)["r2"] == 1


def test_the_error_falls_and_every_epoch_is_told(tmp_path: Path) -> None:
    _, made = distiller(tmp_path / "state")
    seen: list[tuple[int, int]] = []
    made.run(general(), lambda done, total: seen.append((done, total)), epochs=6, joint=False)
    losses = [one["losses"]["embedding"] for one in made.history]
    assert losses[-1] < 0.6 * losses[0]
    assert made.history[-1]["fit"]["r2"] > made.history[0]["fit"]["r2"]
    assert seen == [(n, 6) for n in range(1, 7)]


def test_all_four_losses_fall_in_one_forward_pass_a_batch(tmp_path: Path) -> None:
    model, made = distiller(tmp_path / "state", cut="layer2")
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    made.run(general(), lambda *_: None, epochs=10, joint=True)
    first, last = made.history[0]["losses"], made.history[-1]["losses"]
    assert all(last[name] < first[name] for name in first)
    assert len(first) == 4
    assert len(passes) == 10 * (4 + 1)  # 54 images in batches of 16, and one batch of held-out ones
    assert {"fit", "part_fit"} <= made.history[0].keys()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_cross_entropy_counts_by_its_weight(tmp_path: Path, weight: float) -> None:
    model, made = distiller(tmp_path / "state", ce_weight=weight)
    head = linear_head(model)
    assert head is not None
    before = head.bias.detach().clone()
    made.run(general(), lambda *_: None, epochs=1, joint=False)
    moved = not torch.allclose(head.bias, before, atol=1e-3)  # weight decay alone moves it by less
    assert moved == (weight > 0)


def test_a_kill_costs_one_epoch_at_most(tmp_path: Path) -> None:
    """Stopped within the third epoch, the same four are reached as without a stop."""
    whole, run = distiller(tmp_path / "whole")
    run.run(general(), lambda *_: None, epochs=4, joint=False)

    class Kill(BaseException):
        pass

    def killed(done: int, total: int) -> None:
        if done == 2:
            raise Kill

    state = tmp_path / "state"
    _, first = distiller(state)
    with pytest.raises(Kill):
        first.run(general(), killed, epochs=4, joint=False)
    again, second = distiller(state)
    seen: list[int] = []
    second.run(general(), lambda done, _: seen.append(done), epochs=4, joint=False)
    assert seen == [3, 4]
    assert [one["epoch"] for one in second.history] == [1, 2, 3, 4]
    for ours, theirs in zip(again.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.allclose(ours.double(), theirs.double(), atol=1e-6)
