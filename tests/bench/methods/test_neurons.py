"""neq and trady: what they keep, refuse and leave as it was, on a small net of every kind of convolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from bench.catalog.methods import load_method
from bench.catalog.mobile import Architecture, Block
from bench.errors import RequestError
from bench.models.mobile import MobileNet
from bench.suite.training import TuneSpec
from bench.training.loop import Batchable
from bench.work.adapt import adapt, make_task

NET = Architecture(8, (Block(3, 16, 16, 2, False), Block(5, 48, 16, 1, True)), None, 32, 3)
BLOCKS = dict(NET.block_map())


def run(method: str, options: dict[str, Any], **train: Any) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = MobileNet(NET, 3)
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(n, 3, 32, 32, generator=generator) for n in (24, 12)]
    data = [Batchable(x, torch.arange(len(x)) % 3) for x in images]
    settings = {"epochs": 3, "batch_size": 8, "lr": 0.05, "patience": None} | train
    loaded = load_method(method)
    task = make_task(loaded, model, data[0], data[1], block_map=BLOCKS, spec=TuneSpec(**settings), seed=0, n_classes=3)
    task.begin()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    return task, adapt(loaded, task, loaded.options(options)), before


@pytest.mark.parametrize("select", ["velocity", "random", "static", "full"])
@pytest.mark.parametrize("bn_mode", ["train", "eval"])
def test_neq_keeps_within_its_budget_and_does_its_looking_in_a_phase(select: str, bn_mode: str) -> None:
    task, adapted, _ = run("neq", {"select": select, "budget": 0.3}, bn_mode=bn_mode)
    facts = adapted.facts
    total = sum(conv.weight.numel() for conv in task.model.modules() if isinstance(conv, torch.nn.Conv2d))
    assert facts["budget_of"] == total
    if select == "full":
        assert facts["kept"] == total
        assert facts["claimed_saving"] == 0
    else:
        assert facts["budget"] - facts["largest_neuron"] < facts["kept"] <= facts["budget"] == int(0.3 * total)
        assert 0 < facts["claimed_saving"] < 1
    looked = task.ledger["select"].forward
    assert looked == 1 + (3 * 10 if select == "velocity" else 0)
    assert adapted.epochs_run == 3


def test_channels_that_no_epoch_kept_are_bit_identical_with_momentum_and_weight_decay() -> None:
    task, _, before = run("neq", {"select": "static", "budget": 0.2}, momentum=0.9, weight_decay=0.1)
    rows, moved = 0, 0
    for name, module in task.model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            same = (module.weight == before[f"{name}.weight"]).flatten(1).all(1)
            rows, moved = rows + len(same), moved + int((~same).sum())
    assert 0 < moved < rows / 2


@pytest.mark.parametrize(("budget", "of"), [(1, 1.0), (1.0, 1.0), (100, None)])
def test_a_budget_is_a_share_or_a_count(budget: float, of: float | None) -> None:
    _, adapted, _ = run("neq", {"select": "random", "budget": budget}, epochs=1)
    assert adapted.facts["kept"] == (adapted.facts["budget_of"] if of else pytest.approx(100, abs=48))
    assert adapted.facts["kept"] <= adapted.facts["budget"]


def test_trady_draws_input_channels_of_the_layers_that_matter() -> None:
    task, adapted, before = run("trady", {"budget": 0.2, "layers": 2}, bn_mode="eval", momentum=0.9)
    assert adapted.facts["layers"] == 2
    assert adapted.facts["kept"] <= adapted.facts["budget"]
    changed = {
        name
        for name, value in task.model.state_dict().items()
        if name.endswith("conv.weight") and not torch.equal(value, before[name])
    }
    assert 1 <= len(changed) <= 2
    assert 24 in task.ledger["select"].steps.values() or 8 in task.ledger["select"].steps.values()


@pytest.mark.parametrize("method", ["neq", "trady"])
@pytest.mark.parametrize("budget", [0, 0.0, -0.1, 1.5, "0.1", True, float("nan")])
def test_a_budget_of_0_or_above_1_is_refused(method: str, budget: Any) -> None:
    with pytest.raises(ValidationError):
        load_method(method).options({"budget": budget})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("neq", {"budget": 10**9}, "more than the convolutions have"),
        ("neq", {"select": "static", "scheme": "mbv2-1"}, "the scheme is for MobileNetV2"),
        ("neq", {"start": "static", "scheme": "proxyless-w0.3-2"}, "the scheme is for ProxylessNAS"),
        ("trady", {"layers": 99}, "more than the net's convolutions"),
    ],
)
def test_options_that_do_not_go_with_the_net_are_one_line(method: str, options: dict[str, Any], message: str) -> None:
    loaded = load_method(method)
    assert loaded.check is not None
    with pytest.raises(RequestError, match=message) as error:
        loaded.check(MobileNet(NET, 3), loaded.options(options))
    assert "\n" not in str(error.value)


def test_a_misspelt_scheme_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="mbv2-1"):
        load_method("neq").options({"scheme": "mbv2_1"})


def test_the_selection_is_the_same_for_a_seed(tmp_path: Path) -> None:
    states = [run("neq", {"budget": 0.3}, epochs=2)[0].model.state_dict() for _ in range(2)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
