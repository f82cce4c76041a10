"""Methods without labels: each one's update against a case computed by hand or in closed form, and blind to labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.catalog.methods import load_method, method_names
from bench.models.source_facts import FACTS, fisher
from bench.training.augment import augment
from bench.training.entropy import (
    cross_entropies,
    entropies,
    information_maximisation,
    laplacian_assignments,
    marginal_entropy,
    neighbours,
    pseudo_labels,
    reliable_and_new,
    support_head,
)
from bench.training.layers import batch_statistics, batchnorms, follow, lower_blocks, restore, scales_and_shifts
from bench.training.loop import Batchable, adapt_batchnorm
from bench.work.adapt import make_task

UNLABELLED = [name for name in method_names() if load_method(name).method.labels == "unused"]
QUICK: dict[str, dict[str, Any]] = {"shot": {"epochs": 2}, "memo": {"views": 4}, "cotta": {"views": 3}}


def rows(*probabilities: tuple[float, ...]) -> Tensor:
    """Logits of these predictions, in double precision."""
    return torch.tensor(probabilities, dtype=torch.float64).log()


def task_of(lab: Any, name: str, **more: Any) -> Any:
    model = more.pop("model", None) or lab.Net()
    source = lab.images(30, seed=9)
    facts = {fact: FACTS[fact](model, source.x, source.y) for fact in load_method(name).method.source_facts}
    return lab.task(name, model=model, source_facts=facts, **more)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", UNLABELLED)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_labels_change_no_bit(lab: Any, name: str, norm: str) -> None:
    if norm == "group" and "BatchNorm" in load_method(name).method.needs:
        pytest.skip("refused for this net")
    states = []
    for order in (torch.arange(24), torch.randperm(24, generator=torch.Generator().manual_seed(3))):
        torch.manual_seed(1)
        model = lab.Net(norm)
        train = lab.images(24)
        shared = task_of(lab, name, model=model)
        made = make_task(
            load_method(name),
            model,
            Batchable(train.x, train.y[order]),
            lab.images(12, seed=5),
            block_map=shared.block_map,
            spec=shared._spec,
            seed=0,
            n_classes=3,
            source_facts=shared.source_facts,
        )
        adapted = lab.run(name, made, **QUICK.get(name, {}))
        states.append(state_of(adapted.model or made.model))
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", UNLABELLED)
def test_the_same_twice(lab: Any, name: str) -> None:
    task = task_of(lab, name)
    first = lab.run(name, task, **QUICK.get(name, {}))
    state = state_of(first.model or task.model)
    second = lab.run(name, task, **QUICK.get(name, {}))
    assert all(torch.equal(value, state[key]) for key, value in (second.model or task.model).state_dict().items())
    assert second.facts == first.facts


def test_none_changes_nothing(lab: Any) -> None:
    task = task_of(lab, "none")
    lab.run("none", task)
    assert all(torch.equal(value, task.source_state[key]) for key, value in task.model.state_dict().items())
    assert task.ledger == {}


# -- statistics -------------------------------------------------------------------------------------


def test_adabn_takes_the_mean_over_the_batches(lab: Any) -> None:
    task = task_of(lab, "adabn")
    lab.run("adabn", task, batch=8)
    other = lab.Net()
    other.load_state_dict(task.source_state)
    adapt_batchnorm(other, task.images, 8)
    for mine, theirs in zip(batchnorms(task.model), batchnorms(other), strict=True):
        torch.testing.assert_close(mine.running_mean, theirs.running_mean)
        torch.testing.assert_close(mine.running_var, theirs.running_var)
    first = F.conv2d(task.images, task.model.stem.weight, task.model.stem.bias, padding=1)
    torch.testing.assert_close(task.model.norm1.running_mean, first.mean((0, 2, 3)))
    assert [layer.momentum for layer in batchnorms(task.model)] == [0.1, 0.1]
    assert all(torch.equal(p, task.source_state[name]) for name, p in task.model.named_parameters())


def test_batch_statistics_may_be_left_as_they_are(lab: Any) -> None:
    net = lab.Net()
    before = state_of(net)
    with batch_statistics(net, keep=False), torch.no_grad():
        logits = net(lab.images(8).x)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not net.training
    assert not torch.equal(logits, net(lab.images(8).x))


# -- TENT -------------------------------------------------------------------------------------------


def test_entropy_by_hand() -> None:
    found = entropies(rows((0.5, 0.5, 1e-300), (0.7, 0.2, 0.1)))
    by_hand = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    np.testing.assert_allclose(found.numpy(), [math.log(2), by_hand], rtol=1e-12)


def test_tent_takes_adams_step_on_the_entropy(lab: Any) -> None:
    task = task_of(lab, "tent")
    lab.run("tent", task, batch=24, lr=1e-3)
    moved = {name: p.detach() - task.source_state[name] for name, p in task.model.named_parameters()}
    task.begin()
    parameters = scales_and_shifts(task.model)
    with batch_statistics(task.model):
        gradients = torch.autograd.grad(entropies(task.model(task.images)).mean(), parameters)
    names = {id(p): name for name, p in task.model.named_parameters()}
    for parameter, gradient in zip(parameters, gradients, strict=True):
        step = -1e-3 * gradient / (gradient.abs() + 1e-8)  # Adam's first
        torch.testing.assert_close(moved.pop(names[id(parameter)]), step, rtol=1e-3, atol=1e-6)
    assert not any(value.any() for value in moved.values())


def test_tent_lowers_the_entropy_and_too_much_of_it_collapses(lab: Any) -> None:
    entropy = []
    for options in ({}, {"epochs": 5}, {"epochs": 200, "lr": 0.05}):
        task = task_of(lab, "tent")
        lab.run("tent", task, batch=12, **options)
        entropy.append(entropies(task.model(task.images)).mean().item())
    assert entropy[0] > entropy[1] > entropy[2]


# -- EATA -------------------------------------------------------------------------------------------


def test_eatas_filters_by_hand() -> None:
    margin = 0.4 * math.log(3)  # 0.439
    logits = rows((0.9, 0.05, 0.05), (0.4, 0.3, 0.3), (0.05, 0.9, 0.05))
    h = -(0.9 * math.log(0.9) + 0.1 * math.log(0.05))  # 0.394
    chosen, weights, mean = reliable_and_new(logits, None, margin=margin, max_cosine=0.5)
    assert chosen.tolist() == [True, False, True]  # the second is unsure
    np.testing.assert_allclose(weights.numpy(), [math.exp(margin - h)] * 2, rtol=1e-12)
    assert mean is not None
    np.testing.assert_allclose(mean.numpy(), [0.475, 0.475, 0.05], rtol=1e-12)
    # now what is like the mean is nothing new: cosines 0.72 (first and third), 0.17 (the new one)
    fresh = rows((0.9, 0.05, 0.05), (0.05, 0.05, 0.9))
    chosen, weights, moved = reliable_and_new(fresh, mean, margin=margin, max_cosine=0.5)
    assert chosen.tolist() == [False, True]
    assert moved is not None
    np.testing.assert_allclose(moved.numpy(), [0.9 * 0.475 + 0.005, 0.9 * 0.475 + 0.005, 0.9 * 0.05 + 0.09], rtol=1e-12)
    chosen, weights, same = reliable_and_new(fresh[:1], mean, margin=margin, max_cosine=0.5)
    assert (chosen.any(), len(weights)) == (torch.tensor(False), 0)
    assert same is mean


def test_fisher_by_hand() -> None:
    """One scale a before a head: p = softmax(w a x + b), gradient to a of the cross-entropy to its argmax."""
    net = nn.Sequential(nn.LayerNorm(2, elementwise_affine=True), nn.Linear(2, 2)).double()
    x = torch.tensor([[1.0, -1.0], [2.0, 0.5]], dtype=torch.float64)
    found = fisher(net, x)
    assert set(found) == {"0.weight", "0.bias"}
    hidden = F.layer_norm(x, (2,))
    logits = net(x)
    d = logits.softmax(1) - F.one_hot(logits.argmax(1), 2)
    upstream = d @ net[1].weight
    torch.testing.assert_close(found["0.weight"], (upstream * hidden).mean(0).square())
    torch.testing.assert_close(found["0.bias"], upstream.mean(0).square())


def test_eata_takes_sgds_step_on_its_loss(lab: Any) -> None:
    task = task_of(lab, "eata")
    options = {"batch": 24, "lr": 1e-2, "margin": 1.0, "max_cosine": 1.0, "fisher": 3.0}
    adapted = lab.run("eata", task, **options)
    moved = {name: p.detach() - task.source_state[name] for name, p in task.model.named_parameters()}
    assert adapted.facts == {"learned_share": 1.0}
    task.begin()
    parameters = scales_and_shifts(task.model)
    with batch_statistics(task.model):
        entropy = entropies(task.model(task.images))
        # at the source model the pull has no gradient yet
        gradients = torch.autograd.grad((entropy * (math.log(3) - entropy.detach()).exp()).mean(), parameters)
    names = {id(p): name for name, p in task.model.named_parameters()}
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(moved[names[id(parameter)]], -1e-2 * gradient, rtol=1e-3, atol=1e-7)


def test_eata_is_held_near_the_source(lab: Any) -> None:
    apart = []
    for weight in (0.0, 1e4):
        task = task_of(lab, "eata")
        lab.run("eata", task, batch=8, lr=1e-2, margin=1.0, max_cosine=1.0, fisher=weight, epochs=3)
        facts = task.source_facts["fisher"]
        named = dict(task.model.named_parameters())
        apart.append(sum((f * (named[n] - task.source_state[n]).square()).sum().item() for n, f in facts.items()))
    assert apart[1] < apart[0]


# -- SAR --------------------------------------------------------------------------------------------


def test_sar_steps_with_the_gradient_of_the_worst_point_nearby(lab: Any) -> None:
    task = task_of(lab, "sar")
    options = {"batch": 24, "lr": 1e-2, "margin": 1.0, "rho": 0.5, "layers": "all", "reset": 0.0}
    lab.run("sar", task, **options)
    moved = {name: p.detach() - task.source_state[name] for name, p in task.model.named_parameters()}
    task.begin()
    parameters = scales_and_shifts(task.model)

    def gradients() -> list[Tensor]:
        with batch_statistics(task.model, keep=False):
            return list(torch.autograd.grad(entropies(task.model(task.images)).mean(), parameters))

    first = gradients()
    length = torch.cat([g.flatten() for g in first]).norm()
    with torch.no_grad():
        for parameter, gradient in zip(parameters, first, strict=True):
            parameter.add_(0.5 * gradient / length)
    names = {id(p): name for name, p in task.model.named_parameters()}
    for parameter, gradient in zip(parameters, gradients(), strict=True):
        torch.testing.assert_close(moved[names[id(parameter)]], -1e-2 * gradient, rtol=1e-3, atol=1e-6)


def test_sar_leaves_the_upper_layers_and_starts_again_where_it_collapses(lab: Any) -> None:
    task = task_of(lab, "sar")
    assert lower_blocks(task.model, task.block_map) == [task.model.stem, task.model.norm1]
    adapted = lab.run("sar", task, batch=8, lr=1e-2, margin=1.0)
    assert torch.equal(task.model.norm2.weight, task.source_state["norm2.weight"])
    assert not torch.equal(task.model.norm1.weight, task.source_state["norm1.weight"])
    assert adapted.facts["resets"] == 0
    again = lab.run("sar", task, batch=24, margin=1.0, reset=10.0)
    assert again.facts["resets"] == 1
    assert torch.equal(task.model.norm1.weight, task.source_state["norm1.weight"])


# -- SHOT -------------------------------------------------------------------------------------------


def test_shots_losses_by_hand() -> None:
    logits = rows((0.8, 0.1, 0.1), (0.2, 0.6, 0.2))
    each = [-(0.8 * math.log(0.8) + 0.2 * math.log(0.1)), -(0.6 * math.log(0.6) + 0.4 * math.log(0.2))]
    mean = [0.5, 0.35, 0.15]
    diversity = -sum(m * math.log(m + 1e-5) for m in mean)
    assert information_maximisation(logits).item() == pytest.approx(sum(each) / 2 - diversity, rel=1e-9)


def test_pseudo_labels_come_from_clusters_not_from_predictions() -> None:
    angles = torch.tensor([0.0, 0.1, -0.1, 1.5, 1.6, 1.4])
    features = 3 * torch.stack([angles.cos(), angles.sin()], 1)
    logits = rows((0.9, 0.1), (0.8, 0.2), (0.7, 0.3), (0.1, 0.9), (0.2, 0.8), (0.55, 0.45)).float()
    assert logits.argmax(1).tolist() == [0, 0, 0, 1, 1, 0]
    assert pseudo_labels(features, logits).tolist() == [0, 0, 0, 1, 1, 1]
    # by hand, the first centre: sum p_0 f / sum p_0 of directions with a 1 appended
    points = F.normalize(torch.cat([features, torch.ones(6, 1)], 1), dim=1)
    centres = torch.stack([(p[:, None] * points).sum(0) / p.sum() for p in logits.softmax(1).T])
    nearest = (points @ F.normalize(centres, dim=1).T).argmax(1)
    assert nearest.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_class_without_a_member_attracts_nothing() -> None:
    features = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    logits[:, 2] = -1e4
    assert set(pseudo_labels(features, logits).tolist()) <= {0, 1}


def test_shot_leaves_the_head(lab: Any) -> None:
    task = task_of(lab, "shot")
    adapted = lab.run("shot", task, epochs=2, batch=12)
    assert torch.equal(task.model.fc.weight, task.source_state["fc.weight"])
    assert not torch.equal(task.model.stem.weight, task.source_state["stem.weight"])
    assert (adapted.steps, adapted.epochs_run) == (4, 2)


# -- T3A --------------------------------------------------------------------------------------------


def test_t3as_support_set_by_hand() -> None:
    weight = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    features = torch.tensor([[3.0, 0.0], [1.0, 0.9], [0.0, 1.0]], dtype=torch.float64)
    logits = features @ weight.T
    rows_of, counts = support_head(weight, torch.zeros(2, dtype=torch.float64), features, logits, keep=2)
    # class 0: its own row (logits 4, 0), (3, 0) with logits (6, 0), and (1, 0.9), the least sure, which falls out;
    # class 1: its own row and (0, 1)
    assert counts == [2, 2]
    torch.testing.assert_close(rows_of, torch.eye(2, dtype=torch.float64))
    rows_of, counts = support_head(weight, torch.zeros(2, dtype=torch.float64), features, logits, keep=5)
    assert counts == [3, 2]
    other = torch.tensor([1.0, 0.9], dtype=torch.float64) / math.hypot(1, 0.9)
    summed = torch.tensor([2.0, 0.0], dtype=torch.float64) + other
    torch.testing.assert_close(rows_of[0], summed / summed.norm())


def test_t3a_replaces_the_head_only(lab: Any) -> None:
    task = task_of(lab, "t3a")
    adapted = lab.run("t3a", task, keep=3)
    # a class that not even its own row is predicted to be of has no support, and is not predicted any more
    lengths = torch.tensor([float(count > 0) for count in adapted.facts["supports"]])
    torch.testing.assert_close(task.model.fc.weight.norm(dim=1), lengths)
    assert not task.model.fc.bias.any()
    assert torch.equal(task.model.stem.weight, task.source_state["stem.weight"])
    assert max(adapted.facts["supports"]) <= 3


# -- LAME -------------------------------------------------------------------------------------------


def test_lames_fixed_point() -> None:
    logits = rows((0.6, 0.4), (0.9, 0.1), (0.2, 0.8))
    nearest = torch.tensor([[1], [0], [1]])
    z = laplacian_assignments(logits, nearest, rounds=1000, tolerance=1e-12)
    p = logits.exp().numpy()
    for i, j in enumerate([1, 0, 1]):  # z_i is in proportion to p_i exp(z_j)
        expected = p[i] * np.exp(z[j].numpy())
        np.testing.assert_allclose(z[i].numpy(), expected / expected.sum(), rtol=1e-9)
    # it is no worse than the start in what LAME minimises: KL(z | p) - sum over neighbours of z_i . z_j
    alone = laplacian_assignments(logits, nearest[:, :0])
    np.testing.assert_allclose(alone.numpy(), p, rtol=1e-12)


def test_neighbours_by_direction() -> None:
    features = torch.tensor([[1.0, 0.0], [5.0, 0.5], [0.0, 1.0], [0.1, 3.0]])
    assert neighbours(features, features, 1, skip_self=True).tolist() == [[1], [0], [3], [2]]
    assert neighbours(features, features[:2], 5, skip_self=False).shape == (4, 2)


def test_lame_answers_in_agreement_with_its_neighbours(lab: Any) -> None:
    task = task_of(lab, "lame")
    adapted = lab.run("lame", task, neighbours=2)
    assert all(torch.equal(value, task.source_state[key]) for key, value in task.model.state_dict().items())
    x = lab.images(5, seed=7).x
    found = adapted.model(x)
    hidden = torch.relu(task.model.norm2(task.model.body(torch.relu(task.model.norm1(task.model.stem(x))))))
    features = hidden.mean((2, 3))
    nearest = neighbours(features, adapted.model.features, 2, skip_self=False)
    expected = task.model(x).softmax(1) * adapted.model.settled[nearest].sum(1).exp()
    torch.testing.assert_close(found.exp(), expected / expected.sum(1, keepdim=True))
    # an image does not depend on those beside it
    torch.testing.assert_close(adapted.model(x[:1]), found[:1])


# -- MEMO -------------------------------------------------------------------------------------------


def test_marginal_entropy_by_hand() -> None:
    logits = rows((0.8, 0.2), (0.4, 0.6))
    assert marginal_entropy(logits).item() == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)), rel=1e-12)
    assert marginal_entropy(logits[:1]).item() == pytest.approx(entropies(logits)[0].item())


def test_memo_takes_sgds_step_on_the_marginal_entropy(lab: Any) -> None:
    task = task_of(lab, "memo", train=lab.images(2))
    lab.run("memo", task, views=4, lr=0.1, batch=2)
    moved = {name: p.detach() - task.source_state[name] for name, p in task.model.named_parameters()}
    task.begin()
    order = torch.randperm(2, generator=task.generator)
    views = augment(task.images[order].repeat_interleave(4, dim=0), task.generator)
    task.model.eval()
    logits = task.model(views)
    loss = (marginal_entropy(logits[:4]) + marginal_entropy(logits[4:])) / 2
    for parameter in task.model.parameters():
        parameter.requires_grad_()
    loss = (marginal_entropy(task.model(views)[:4]) + marginal_entropy(task.model(views)[4:])) / 2
    named = dict(task.model.named_parameters())
    for name, gradient in zip(named, torch.autograd.grad(loss, [*named.values()]), strict=True):
        torch.testing.assert_close(moved[name], -0.1 * gradient, rtol=1e-3, atol=1e-6)


# -- CoTTA ------------------------------------------------------------------------------------------


def test_the_cross_entropy_to_a_teacher_by_hand() -> None:
    found = cross_entropies(rows((0.5, 0.5)), rows((0.9, 0.1)))
    assert found.item() == pytest.approx(math.log(2), rel=1e-12)
    same = rows((0.7, 0.2, 0.1))
    assert cross_entropies(same, same).item() == pytest.approx(entropies(same).item(), rel=1e-12)


def test_the_teacher_follows_and_weights_are_restored(lab: Any) -> None:
    teacher, student = lab.Net(), lab.Net()
    old, new = teacher.fc.weight.detach().clone(), student.fc.weight.detach().clone()
    follow(teacher, student, 0.75)
    torch.testing.assert_close(teacher.fc.weight.detach(), 0.75 * old + 0.25 * new)
    source = {name: torch.zeros_like(value) for name, value in student.state_dict().items()}
    restore(student, source, 0.5, torch.Generator().manual_seed(0))
    share = float((student.body.weight == 0).float().mean())
    assert 0.3 < share < 0.7
    restore(student, source, 1.0, torch.Generator())
    assert not any(p.any() for p in student.parameters())


@pytest.mark.parametrize("unsure", [0.0, 1.0])
def test_cottas_first_step(lab: Any, unsure: float) -> None:
    task = task_of(lab, "cotta")
    adapted = lab.run("cotta", task, batch=24, views=2, average=0.5, restore=0.0, unsure=unsure, lr=1e-3)
    assert adapted.facts == {"averaged_batches": int(unsure == 1.0)}
    student = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    for name, parameter in adapted.model.named_parameters():
        torch.testing.assert_close(parameter, 0.5 * task.source_state[name] + 0.5 * student[name])
    # Adam's first step along the gradient of the cross-entropy to the teacher, which is still the source model
    task.begin()
    order = torch.randperm(24, generator=task.generator)
    x = task.images[order]
    with batch_statistics(task.model, keep=False):
        with torch.no_grad():
            views = [task.model(augment(x, task.generator)) for _ in range(2)]
            target = torch.stack(views).mean(0) if unsure else task.model(x)
        named = {name: p.requires_grad_() for name, p in task.model.named_parameters()}
        gradients = torch.autograd.grad(cross_entropies(task.model(x), target).mean(), [*named.values()])
    for name, gradient in zip(named, gradients, strict=True):
        moved = student[name] - task.source_state[name]
        clear = gradient.abs() > 1e-5
        torch.testing.assert_close(moved[clear], -1e-3 * gradient.sign()[clear], rtol=1e-2, atol=1e-6)


def test_the_teacher_has_the_statistics_of_the_images(lab: Any) -> None:
    task = task_of(lab, "cotta")
    adapted = lab.run("cotta", task, batch=24, views=2, unsure=1.0, restore=0.0)
    first = F.conv2d(task.images, task.source_state["stem.weight"], task.source_state["stem.bias"], padding=1)
    torch.testing.assert_close(adapted.model.norm1.running_mean, first.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert all(layer.track_running_stats for layer in batchnorms(adapted.model))


def test_what_was_run_is_accounted_for(lab: Any) -> None:
    task = task_of(lab, "tent")
    lab.run("tent", task, epochs=2, steps=3)
    account = task.ledger["adapt"]
    assert account.forward == 0
    assert account.steps == {frozenset({"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}): 24 * 2 * 3}
    lab.run("adabn", task := task_of(lab, "adabn"))
    assert (task.ledger["adapt"].forward, task.ledger["adapt"].steps) == (24, {})
