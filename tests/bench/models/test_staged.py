"""A model cut in two: what passes, which cuts there are, and that the rest resumes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.catalog.mobile import RELEASED
from bench.catalog.models import RESNET_BLOCKS
from bench.cost import trace
from bench.cost.cut_choice import choose_cut
from bench.errors import RequestError
from bench.models.mobile import MobileNet
from bench.models.resnet import ResNet
from bench.models.staged import PartHead, Staged, cut_path, outputs_of
from bench.training.decision import Decision
from bench.work.stage import Stage, WithHead

IN3 = RELEASED["mcunet-in3"]


def mobile() -> nn.Module:
    torch.manual_seed(0)
    return MobileNet(IN3, 6).eval()


def staged(model: nn.Module, cut: str, n_features: int) -> Staged:
    torch.manual_seed(1)
    return Staged(model, cut, PartHead(n_features, 6)).eval()


@pytest.mark.parametrize(("cut", "path", "channels"), [(9, "blocks.8", 40), ("block3", "blocks.7", 24)])
def test_a_mobile_net_is_cut_behind_a_block_with_its_shortcut(cut: int | str, path: str, channels: int) -> None:
    model, x = mobile(), torch.randn(3, 3, 64, 64)
    assert cut_path(model, IN3.block_map(), cut) == path
    made = staged(model, path, channels)
    with torch.no_grad():
        passed = made.front(x)
        assert torch.equal(passed, model.upto(x, int(path.rpartition(".")[2]) + 1))  # type: ignore[operator]
        assert torch.allclose(made.rest(passed), model(x), atol=1e-6)
        assert torch.equal(made(x), model(x))
        with outputs_of(model, path) as seen:
            model(x)
        assert torch.allclose(seen[path], passed.mean((2, 3)))


@pytest.mark.parametrize("cut", [1, 2, 3, "layer2.0"])
def test_a_resnet_is_cut_behind_any_block(cut: int | str) -> None:
    torch.manual_seed(0)
    model, x = ResNet(2, n_classes=6, image_size=16).eval(), torch.randn(2, 3, 16, 16)
    path = cut_path(model, RESNET_BLOCKS, cut)
    made = staged(model, path, 1)
    with torch.no_grad():
        assert torch.allclose(made.rest(made.front(x)), model(x), atol=1e-6)


@pytest.mark.parametrize(
    ("cut", "message"),
    [(40, "expected 1 to 17"), ("blok2", "did you mean 'block2'"), ("fc", "nothing is left"), ("no", "no block 'no'")],
)
def test_a_cut_that_does_not_exist_is_one_line(cut: int | str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        cut_path(mobile(), IN3.block_map(), cut)
    assert "\n" not in str(caught.value)


def test_in3_behind_block_9_has_the_published_share_of_the_work() -> None:
    made = staged(mobile(), "blocks.8", 40)
    part, full = (trace(net, (1, 3, 176, 176)).step([]).forward_macs for net in (made.front, made.net))
    assert full / 1e6 == pytest.approx(81.6, abs=0.5)
    assert part / full == pytest.approx(0.623, abs=0.005)


def by_hand(made: Staged, x: Tensor, decision: Decision) -> tuple[Tensor, Tensor]:
    """Each image alone, from its pixels."""
    with torch.no_grad():
        part, full = made.part(made.front(x)), made.net(x)
    stays = decision.stays(part)
    return torch.where(stays[:, None], part, full), stays


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.5, 1.0])
def test_every_image_gets_exactly_the_part_s_answer_or_the_full_model_s(batch: int, quantile: float) -> None:
    torch.manual_seed(2)
    made = staged(ResNet(1, n_classes=6, image_size=16).eval(), "layer2", 32)
    x = torch.randn(23, 3, 16, 16)
    with torch.no_grad():
        sure = made.part(made.front(x)).softmax(1).amax(1)
    decision = Decision(float(sure.quantile(quantile)) if quantile < 1 else 2.0)
    stage = Stage(WithHead(made).eval(), made.rest, decision)
    answers, stays = stage.logits(x.split(batch))
    expected, expected_stays = by_hand(made, x, decision)
    assert torch.equal(stays, expected_stays)
    assert torch.allclose(answers, expected, atol=1e-6)
    assert 0 <= int(stays.sum()) <= 23


def counted(net: Callable[[Tensor], Tensor], seen: list[int]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        seen.append(len(x))
        return net(x)

    return run


def test_what_goes_on_resumes_in_whole_batches_and_no_image_starts_again() -> None:
    torch.manual_seed(2)
    made = staged(ResNet(1, n_classes=6, image_size=16).eval(), "layer1", 16)
    x, parts, rests = torch.randn(40, 3, 16, 16), [], []
    with torch.no_grad():
        sure = made.part(made.front(x)).softmax(1).amax(1)
    decision = Decision(float(sure.quantile(0.5)))
    stage = Stage(counted(WithHead(made).eval(), parts), counted(made.rest, rests), decision)  # type: ignore[arg-type]
    _, stays = stage.logits(x.split(8))
    on = int((~stays).sum())
    assert parts == [8] * 5
    assert sum(rests) == on
    assert rests[:-1] == [8] * (len(rests) - 1)  # regrouped: only the last may be smaller
    front, rest = (
        trace(net, (1, *shape)).step([]).forward_macs
        for net, shape in ((made.front, (3, 16, 16)), (made.rest, (16, 16, 16)))
    )
    assert front + rest == trace(made.net, (1, 3, 16, 16)).step([]).forward_macs


def test_auto_cuts_as_early_as_the_part_knows_enough() -> None:
    """Where all blocks hold the classes alike, the first leaves most of the work behind it."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1, bias=False) for _ in range(4)])
            self.fc = nn.Linear(4, 4)
            with torch.no_grad():
                for block in self.blocks:
                    block.weight.copy_(torch.eye(4)[:, :, None, None])

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return self.fc(x.mean((2, 3)))

    labels = torch.arange(80) % 4
    pixels = torch.eye(4)[labels][:, None, None, :].expand(80, 3, 3, 4).numpy().astype("uint8") * 200
    pixels = pixels + np.random.default_rng(0).integers(0, 20, pixels.shape, dtype=np.uint8)

    def to_batch(taken: object) -> Tensor:
        return torch.from_numpy(taken.transpose(0, 3, 1, 2).copy()).float()  # type: ignore[attr-defined]

    path, scored = choose_cut(Deep(), {"all": ("blocks",), "fc": ("fc",)}, to_batch, pixels, labels)
    assert path == "blocks.0"
    assert [one["macs_share"] for one in scored] == sorted(one["macs_share"] for one in scored)
    assert all(one["accuracy"] == 1 for one in scored)
    best = max(scored, key=lambda one: one["accuracy"] * (1 - one["macs_share"]))
    assert best["cut"] == path
