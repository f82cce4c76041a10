"""Methods with labels: what they tune, and their criteria against cases computed by hand."""

from __future__ import annotations

import copy
import importlib.util
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.catalog.methods import load_method
from bench.errors import RequestError
from bench.methods.elastic import select
from bench.training.gradients import (
    mean_gradient,
    relative_norms,
    released_signal_to_noise,
    sample_moments,
    signal_to_noise,
    trial_importance,
)
from bench.training.loop import Batchable, fine_tune
from bench.training.profile import gradient_times

ONE_STEP = {"epochs": 1, "patience": None, "momentum": 0.0, "weight_decay": 0.0, "batch_size": 24, "bn_mode": "eval"}
"""Of plain SGD on all images at once."""


def changed(task: Any) -> set[str]:
    """Parameters that are not those of the source model any more."""
    return {name for name, p in task.model.named_parameters() if not torch.equal(p, task.source_state[name])}


def test_fixed_is_the_projects_training(lab: Any) -> None:
    task = lab.task("fixed", bn_mode="train")
    adapted = lab.run("fixed", task, blocks=("block2",))
    assert changed(task) == {"body.weight", "body.bias", "norm2.weight", "norm2.bias"}
    assert adapted.trained_parameters == sum(p.numel() for n, p in task.model.named_parameters() if n in changed(task))
    state = {name: value.clone() for name, value in task.model.state_dict().items()}
    task.begin()
    parameters = [*task.model.body.parameters(), *task.model.norm2.parameters()]
    for parameter in task.model.parameters():
        parameter.requires_grad_(any(parameter is one for one in parameters))
    outcome = fine_tune(task.model, parameters, task.train, task.val, task._spec, seed=0)
    assert (outcome.best_epoch, outcome.steps) == (adapted.best_epoch, adapted.steps)
    assert all(torch.equal(value, state[name]) for name, value in task.model.state_dict().items())


def test_bn_tunes_scales_and_shifts_only(lab: Any) -> None:
    for net in (lab.Net(), lab.Net("group")):
        task = lab.task("bn", model=net)
        adapted = lab.run("bn", task)
        assert changed(task) == {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}
        assert adapted.trained_parameters == 20


def test_bias_tunes_biases_only(lab: Any) -> None:
    task = lab.task("bias")
    lab.run("bias", task, lr=0.1)
    assert changed(task) == {"stem.bias", "norm1.bias", "body.bias", "norm2.bias", "fc.bias"} - {
        # what a convolution adds, the BatchNorm behind it takes off again
        *({"stem.bias"} if torch.equal(task.model.stem.bias, task.source_state["stem.bias"]) else set()),
        *({"body.bias"} if torch.equal(task.model.body.bias, task.source_state["body.bias"]) else set()),
    }


def test_random_draws_by_the_seed(lab: Any) -> None:
    drawn = [lab.run("random", lab.task("random", seed=seed)).facts["blocks"] for seed in range(12)]
    assert drawn == [lab.run("random", lab.task("random", seed=seed)).facts["blocks"] for seed in range(12)]
    assert {tuple(blocks) for blocks in drawn} == {("block1",), ("block2",), ("fc",)}
    assert lab.run("random", lab.task("random"), count=9).facts["blocks"] == ["block1", "block2", "fc"]
    task = lab.task("random", seed=3)
    blocks = lab.run("random", task, count=2).facts["blocks"]
    assert len(blocks) == 2
    owners = {"block1": ("stem", "norm1"), "block2": ("body", "norm2"), "fc": ("fc",)}
    assert {name.partition(".")[0] for name in changed(task)} <= {path for block in blocks for path in owners[block]}


# -- criteria, on a net of two linear layers --------------------------------------------------------

W1 = np.array([[1.0, -0.5], [0.25, 0.75], [-1.0, 0.5]])
W2 = np.array([[0.5, -1.0, 0.25], [-0.25, 0.5, 1.0], [0.1, 0.2, -0.3]])
X = np.array([[1.0, 2.0], [-0.5, 1.5], [0.25, -1.0], [2.0, 0.5]])
Y = np.array([0, 1, 2, 0])


def by_hand() -> tuple[np.ndarray, np.ndarray]:
    """Gradient of each image's cross-entropy to W1 [N, 3, 2] and W2 [N, 3, 3]: d = softmax - one-hot; d h', W2'd x'."""
    hidden = X @ W1.T
    logits = hidden @ W2.T
    d = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[Y]
    return np.einsum("ni,nj->nij", d @ W2, X), np.einsum("ni,nj->nij", d, hidden)


@pytest.fixture
def two_layers(lab: Any) -> Any:
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 3, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(W1))
        net[1].weight.copy_(torch.from_numpy(W2))
    task = lab.task("auto-rgn", model=net, train=Batchable(torch.from_numpy(X), torch.from_numpy(Y)))
    task.logits = lambda x, model=None: net(x)  # in double precision
    return task


def test_relative_gradient_norms_by_hand(two_layers: Any) -> None:
    parameters = list(two_layers.model.parameters())
    expected = [np.linalg.norm(g.mean(0)) / np.linalg.norm(w) for g, w in zip(by_hand(), (W1, W2), strict=True)]
    for size in (4, 3):  # the mean over the images is the same whatever the batches
        found = relative_norms(mean_gradient(two_layers, parameters, size), parameters)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    with torch.no_grad():
        parameters[0].zero_()
    assert relative_norms(mean_gradient(two_layers, parameters, 4), parameters)[0] == 0


def test_signal_to_noise_by_hand(two_layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = list(two_layers.model.parameters())
    gradients = by_hand()
    for chunk in (16, 3):
        monkeypatch.setattr("bench.training.gradients.CHUNK", chunk)
        moments = sample_moments(two_layers.model, parameters, two_layers.train)
        for (mean, variance), g in zip(moments, gradients, strict=True):
            np.testing.assert_allclose(mean.numpy(), g.mean(0), rtol=1e-10)
            np.testing.assert_allclose(variance.numpy(), g.var(0), rtol=1e-8)
        expected = [(g.mean(0) ** 2 / g.var(0)).mean() for g in gradients]
        np.testing.assert_allclose(signal_to_noise(moments).numpy(), expected, rtol=1e-6)


def test_the_released_signal_to_noise_by_hand() -> None:
    g = torch.tensor([[1.0, 2.0], [3.0, -2.0], [2.0, 0.0]])  # variances over the rows: 1 and 4
    expected = ((1 + 9 + 4) / 1 + (4 + 4 + 0) / 4) / 6
    assert released_signal_to_noise([g]).item() == pytest.approx(expected, rel=1e-6)
    assert released_signal_to_noise([torch.ones(1)]).item() == 0  # nothing varies over one channel


def test_an_image_has_a_gradient_of_its_own_behind_batchnorm(lab: Any) -> None:
    task = lab.task("auto-snr")
    task.model.eval()
    parameters = list(task.model.parameters())
    moments = sample_moments(task.model, parameters, task.train)
    each = []
    for x, y in zip(task.train.x, task.train.y, strict=True):
        loss = nn.functional.cross_entropy(task.model(x[None]), y[None])
        each.append(torch.autograd.grad(loss, parameters))
    for (mean, _), *gradients in zip(moments, *each, strict=True):
        torch.testing.assert_close(mean, torch.stack(gradients).mean(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_auto_rgn_sets_the_rates(lab: Any, form: str) -> None:
    task = lab.task("auto-rgn", **ONE_STEP)
    adapted = lab.run("auto-rgn", task, form=form, batches=1)
    # one step of the whole batch: what moved is share x lr x gradient
    moved = {n: p.detach() - task.source_state[n] for n, p in task.model.named_parameters()}
    ledger = task.ledger
    task.begin()
    parameters = dict(task.model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_()
    if form == "released":
        parameters = {name: p for name, p in parameters.items() if "norm" not in name}
        assert all(not moved[name].any() for name in moved if "norm" in name)
    gradients = mean_gradient(task, [*parameters.values()], 24)
    ratios = relative_norms(gradients, [*parameters.values()])
    shares = ratios / ratios.max()
    for name, gradient, share in zip(parameters, gradients, shares, strict=True):
        torch.testing.assert_close(moved[name], -0.05 * share * gradient, rtol=1e-3, atol=1e-7)
    assert max(adapted.facts["rate_shares"].values()) <= 1
    assert ledger["select"].steps[frozenset(parameters)] == 24


@pytest.mark.parametrize(
    ("options", "all_move"), [({"threshold": 0.0}, True), ({"threshold": 1.0}, False), ({}, False)]
)
def test_auto_snr_freezes_below_the_threshold(lab: Any, options: dict[str, float], all_move: bool) -> None:
    task = lab.task("auto-snr", epochs=1, patience=None, weight_decay=0.0, bn_mode="eval")
    adapted = lab.run("auto-snr", task, **options)
    assert (changed(task) == set(dict(task.model.named_parameters()))) is all_move
    assert changed(task)
    if options.get("threshold") == 1.0:
        assert len(changed(task)) == 1  # the one with the largest ratio
    assert all(0 <= share <= 1 for share in adapted.facts["kept_shares"].values())
    released = lab.run("auto-snr", task, form="released", **options)
    assert released.epochs_run == 1


# -- elastic ----------------------------------------------------------------------------------------


def brute_force(importance: list[float], dw: list[int], dy: list[int], budget: int) -> float:
    best = 0.0
    for chosen in itertools.product((False, True), repeat=len(dw)):
        numbers = [k for k, taken in enumerate(chosen) if taken]
        if numbers:
            time = sum(dw[k] for k in numbers) + sum(dy[: numbers[-1] + 1])
            if time <= budget:
                best = max(best, sum(importance[k] for k in numbers))
    return best


def test_the_selection_is_the_best_of_all_subsets_of_twelve_tensors() -> None:
    rng = np.random.default_rng(0)
    for trial in range(40):
        importance = rng.normal(0.3, 0.5, 12).round(3).tolist()
        dw, dy = (rng.integers(0, 40, 12).tolist() for _ in range(2))
        budget = int(rng.integers(0, 300))
        chosen = select(importance, dw, dy, budget)
        assert sum(importance[k] for k in chosen) == pytest.approx(brute_force(importance, dw, dy, budget)), trial
        if chosen:
            assert sum(dw[k] for k in chosen) + sum(dy[: chosen[-1] + 1]) <= budget
        assert chosen == sorted(set(chosen))


def test_a_tensor_is_worth_the_loss_that_it_takes_off(lab: Any) -> None:
    task = lab.task("elastic", bn_mode="eval", batch_size=24)
    task.begin()
    parameters = list(task.model.parameters())
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    importance = trial_importance(task, parameters, lr=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert max(importance) == pytest.approx(1)
    gradients = mean_gradient(task, parameters, 24)
    squares = torch.stack([g.square().sum() for g in gradients])  # a small step: g' is g
    torch.testing.assert_close(torch.tensor(importance), squares / squares.max(), rtol=0.05, atol=1e-3)


def test_times_of_gradients_follow_the_backward_pass(lab: Any) -> None:
    task = lab.task("elastic")
    task.begin()
    times = gradient_times(task, measured=False)
    assert [name.partition(".")[0] for name in times][::2] == ["fc", "norm2", "body", "norm1", "stem"]
    fc, body, stem = 6 * 3, 36 * 6 * 4 * 9, 36 * 4 * 2 * 9
    assert times["fc.weight"] == (fc, 0)
    assert times["norm2.weight"] == (0, fc)
    assert times["body.weight"] == (body, 0)
    assert times["norm1.weight"] == (0, body)
    assert times["stem.weight"] == (stem, 0)
    measured = gradient_times(task, measured=True)
    assert list(measured) == list(times)
    assert all(own > 0 and way >= 0 for own, way in measured.values())


def test_elastic_tunes_what_it_selects(lab: Any) -> None:
    task = lab.task("elastic", epochs=3, patience=None, weight_decay=0.0, bn_mode="eval")
    adapted = lab.run("elastic", task, budget=0.5, every=2, times="macs")
    assert adapted.facts["selections"] == 2
    assert changed(task)
    assert "stem.weight" not in changed(task)  # the deepest: what leads to it takes more than the budget
    assert set(task.ledger) == {"select", "adapt"}
    assert sum(part.epochs for part in task.ledger["adapt"].tuned) == 3
    everything = lab.task("elastic", epochs=1, weight_decay=0.0, bn_mode="eval")
    lab.run("elastic", everything, budget=1.0, times="macs")
    assert "stem.weight" in changed(everything)


# -- race -------------------------------------------------------------------------------------------


def test_race_ends_as_fixed_with_the_winner(lab: Any) -> None:
    task = lab.task("race", epochs=3)
    adapted = lab.run("race", task)
    winner = adapted.facts["winner"]
    assert set(adapted.facts["last_losses"]) == {"block1", "block2", "fc", "full"}
    state = {name: value.clone() for name, value in task.model.state_dict().items()}
    alone = lab.task("fixed", epochs=3)
    fixed = lab.run("fixed", alone, blocks=(winner,))
    assert all(torch.equal(value, state[name]) for name, value in alone.model.state_dict().items())
    assert (adapted.best_epoch, adapted.steps) == (fixed.best_epoch, fixed.steps)
    # 4 candidates for one epoch, 2 for two, and the winner for the protocol's
    assert [part.epochs for part in task.ledger["select"].tuned] == [1, 1, 1, 1, 2, 2]
    assert [part.epochs for part in task.ledger["adapt"].tuned] == [adapted.epochs_run]


def test_race_takes_the_lowest_validation_loss(lab: Any) -> None:
    task = lab.task("race", epochs=2)
    adapted = lab.run("race", task, full=False)
    losses = adapted.facts["last_losses"]
    assert "full" not in losses
    assert losses[adapted.facts["winner"]] == min(losses.values())


def test_a_loss_of_ones_own(lab: Any) -> None:
    task = lab.task("fixed", **ONE_STEP)
    task.begin()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return 2 * nn.functional.cross_entropy(logits, labels)

    task.tune([*task.model.fc.parameters()], loss=loss, lr=0.01)
    doubled = task.model.fc.bias - task.source_state["fc.bias"]
    task.begin()
    task.tune([*task.model.fc.parameters()], lr=0.02)
    torch.testing.assert_close(doubled, task.model.fc.bias - task.source_state["fc.bias"], rtol=1e-5, atol=1e-8)


# -- low-rank adapters --------------------------------------------------------------------------------


def test_lora_takes_one_step_as_computed_by_hand(lab: Any) -> None:
    """With B = 0 the gradient of A is 0 and that of B is s G A', s = alpha / rank: W moves by -lr s^2 G A'A."""
    pytest.importorskip("peft")
    from bench.methods.lora import METHOD, wrap

    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    with torch.no_grad():
        for layer, weight in zip(net, (W1, W2), strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.zero_()
    train = Batchable(torch.from_numpy(X).float(), torch.from_numpy(Y))
    task = lab.task("lora", model=net, train=train, **ONE_STEP | {"batch_size": 4, "lr": 0.1}, seed=3)
    task.val = train
    options = METHOD.options(rank=2, alpha=3)
    torch.manual_seed(3)  # as the task is seeded
    copied = copy.deepcopy(net)
    wrap(copied, options)
    a = copied[0].lora_A["default"].weight.detach().double().numpy()
    adapted = lab.run("lora", task, rank=2, alpha=3)
    g1, g2 = (gradient.mean(0) for gradient in by_hand())
    np.testing.assert_allclose(net[0].weight.detach().numpy(), W1 - 0.1 * 1.5**2 * g1 @ a.T @ a, atol=1e-6)
    np.testing.assert_allclose(net[1].weight.detach().numpy(), W2 - 0.1 * g2, atol=1e-6)  # the head as a whole
    assert not net[0].bias.any()
    assert adapted.trained_parameters == 2 * (2 + 3) + 3 * 3 + 3
    assert [type(module) for module in net] == [nn.Linear, nn.Linear]
    assert net.state_dict().keys() == task.source_state.keys()


def test_lora_of_a_convolution_is_merged(lab: Any) -> None:
    pytest.importorskip("peft")
    task = lab.task("lora")
    adapted = lab.run("lora", task, head=False)
    assert changed(task) >= {"stem.weight", "body.weight", "fc.weight"} - {"stem.bias"}
    assert changed(task) <= {"stem.weight", "body.weight", "fc.weight"}
    assert adapted.facts == {"layers": 3, "rank": 4}
    # a change of rank 4 at most, in [4 channels, 2 x 3 x 3] of the stem and [6, 4 x 3 x 3] of the body
    moved = task.model.body.weight - task.source_state["body.weight"]
    assert torch.linalg.matrix_rank(moved.flatten(1), atol=1e-6) <= 4


def test_lora_without_its_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    with pytest.raises(RequestError, match=r"^method 'lora' needs the package peft: pip install 'jouletune\[lora\]'$"):
        load_method("lora")


# -- GALA ---------------------------------------------------------------------------------------------


def test_gala_lets_a_layer_through_that_goes_on_its_way() -> None:
    """lr 1. First step: every layer. Then layer 0 turns by 90 degrees after a way of (-2, 0): u = (0, -1), u + way =
    (-2, -1), cosine 1/sqrt 5 = 0.45, held; layer 1 goes on. After the reset both are free again."""
    from bench.methods.gala import METHOD, Gate, cosine

    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False))
    gate = Gate(net, METHOD.options(reset=2))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    passed = []
    for first in ([2.0, 0.0], [0.0, 1.0], [0.0, 1.0]):
        net[0].weight.grad, net[1].weight.grad = torch.tensor([first]), torch.tensor([[1.0, 0.0]])
        gate(optimizer)
        passed.append([layer.weight.grad is not None for layer in net])
        optimizer.step()
    assert passed == [[True, True], [False, True], [True, True]]
    assert gate.shares() == {"0": 0.667, "1": 1.0}
    assert cosine(torch.tensor([0.0, -1.0]), torch.tensor([-2.0, -1.0])) == pytest.approx(5**-0.5)


def test_gala_tunes_and_says_what_it_updated(lab: Any) -> None:
    task = lab.task("gala", epochs=2)
    adapted = lab.run("gala", task)
    assert set(adapted.facts["updated_share"]) == {"stem", "norm1", "body", "norm2", "fc"}
    assert all(0 < share <= 1 for share in adapted.facts["updated_share"].values())
    assert "fc.weight" in changed(task)
