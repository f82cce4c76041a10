"""auto: its rule on plain numbers, its probes against cases computed by hand, what it does, and degenerate input."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.catalog.shift_rule import Probes, confidence, decide
from bench.errors import JouletuneError
from bench.suite.training import EngineSpec
from bench.training.loop import Batchable, accuracy, fine_tune
from bench.training.probes import (
    Seen,
    View,
    cross_validated,
    drift,
    gain_of_renaming,
    layer_facts,
    log_shares,
    mean_moments,
    moments,
)


def probes(**given: float | None) -> Probes:
    same: dict[str, Any] = {"accuracy": 0.8, "head": 0.8, "permuted": 0.0, "drift": 0.1}
    same["prior"] = given.get("accuracy", 0.8)
    return Probes(**same | {"source_accuracy": 0.85, "target_accuracy": 0.78, "target_head": 0.77} | given)


@pytest.mark.parametrize(
    ("given", "kind", "head", "tune", "statistics"),
    [
        ({}, "none", False, False, "source"),
        ({"accuracy": 0.03, "head": 0.8, "permuted": 0.7, "target_accuracy": 0.03}, "output", True, False, "source"),
        (
            {"accuracy": 0.2, "head": 0.45, "target_accuracy": 0.52, "target_head": 0.48, "drift": 15},
            "input",
            False,
            True,
            "target",
        ),
        (
            {"accuracy": 0.4, "head": 0.6, "target_accuracy": None, "target_head": None, "drift": 5},
            "input",
            True,
            True,
            "source",
        ),
        (
            {"accuracy": 0.6, "head": 0.7, "target_accuracy": 0.61, "target_head": 0.69},
            "feature",
            True,
            False,
            "source",
        ),
        (
            {"accuracy": 0.1, "head": 0.45, "permuted": 0.3, "target_accuracy": 0.07, "target_head": 0.5, "drift": 12},
            "composite",
            True,
            False,
            "target",
        ),
        ({"accuracy": 0.72, "head": 0.85, "prior": 0.8, "target_accuracy": 0.49}, "prior", False, False, "source"),
        ({"accuracy": 0.79, "drift": 1.4}, "input", False, True, "source"),
        ({"accuracy": 0.82, "drift": 1.4}, "none", False, False, "source"),
    ],
)
def test_the_rule(given: dict[str, Any], kind: str, head: bool, tune: bool, statistics: str) -> None:
    found = decide(probes(**given))
    assert (found.kind, found.head, found.tune, found.statistics) == (kind, head, tune, statistics)
    assert found.reason


def test_confidence_is_the_share_of_votes() -> None:
    flip = probes(accuracy=0.1, permuted=0.5, target_accuracy=0.1)
    assert confidence(decide(probes()), [probes(), probes(), flip, probes()]) == 0.75


def test_renaming_by_hand() -> None:
    y = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    answers = torch.tensor([1, 1, 0, 0, 2, 2, 2, 0])  # 3 right as they are, 7 where 0 and 1 are exchanged
    assert gain_of_renaming(y, answers) == 4 / 8
    assert gain_of_renaming(y, y) == 0


def test_log_shares_by_hand() -> None:
    found = log_shares(torch.tensor([0, 0, 0, 1]), 3)  # counts and one: 4, 2, 1 of 7, times 3 classes
    np.testing.assert_allclose(found.numpy(), np.log([12 / 7, 6 / 7, 3 / 7]))


def test_each_image_is_answered_without_it() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.randn(60, 4, generator=generator) + 4 * torch.nn.functional.one_hot(y, 4)
    assert (cross_validated(x, y, 3, 0) == y).double().mean() > 0.9
    wrong = y.clone()
    wrong[7] = (y[7] + 1) % 3  # a discriminant that had seen this label with such a lever could repeat it
    far = x.clone()
    far[7] = 100 * x[7]
    assert cross_validated(far, wrong, 3, 0)[7] != wrong[7]
    alone = torch.zeros(60, dtype=torch.int64)
    alone[0] = 1  # what its fold has never seen is never answered
    assert cross_validated(x, alone, 3, 0)[0] == 0


def test_drift_by_hand() -> None:
    """N(1, 4) against N(0, 1): (4 + 1 - 1 - ln 4) / 2; the second layer is where it was."""
    facts = {"mean": torch.zeros(2), "variance": torch.ones(2)}
    found = drift((torch.tensor([1.0, 0.0]), torch.tensor([5.0, 1.0]), [1, 1]), facts)
    np.testing.assert_allclose(found.numpy(), [0.5 * (4 - math.log(4)), 0], atol=1e-12)


def test_moments_are_those_of_what_reaches_each_normalisation(lab: Any) -> None:
    net, data = lab.Net(), lab.images(10)
    net.eval()
    with moments(net) as seen, torch.no_grad():
        net(data.x[:6])
        net(data.x[6:])
    means, squares, sizes = mean_moments(seen)
    stem = net.stem(data.x).detach()
    assert sizes == [4, 6]
    np.testing.assert_allclose(means[:4].numpy(), stem.mean((0, 2, 3)).numpy(), atol=1e-6)
    np.testing.assert_allclose(squares[:4].numpy(), stem.square().mean((0, 2, 3)).numpy(), atol=1e-6)
    facts = layer_facts(net, data.x, data.y)
    np.testing.assert_allclose(facts["mean"][:4].numpy(), means[:4].numpy(), atol=1e-6)
    alone = [drift((m, s, z), facts) for m, s, z in (_of_class(net, data, k) for k in range(3))]
    np.testing.assert_allclose(facts["null"].numpy(), torch.stack(alone).quantile(0.9, dim=0).numpy(), rtol=1e-3)


def _of_class(net: nn.Module, data: Batchable, k: int) -> Any:
    with moments(net) as seen, torch.no_grad():
        net(data.x[data.y == k])
    return mean_moments(seen)


def test_replicates_draw_images_together() -> None:
    y = torch.arange(40) % 2
    answers = {name: y.clone() for name in ("source", "source_head", "prior")}
    answers["source"][:20] = 1 - answers["source"][:20]
    empty = View(torch.zeros(0), torch.zeros(0), {})
    seen = Seen(y, empty, None, answers, 0.2, 0.9)
    assert seen.probes().accuracy == 0.5
    drawn = [*seen.replicates(50, 0)]
    assert all(one.head == 1 and one.target_accuracy is None for one in drawn)
    assert 0.2 < min(one.accuracy for one in drawn) < 0.5 < max(one.accuracy for one in drawn) < 0.8


# -- on a small net ------------------------------------------------------------------------------------


NETS: dict[str, Any] = {}


@pytest.fixture(params=["batch", "group", "none"])
def trained(request: pytest.FixtureRequest, lab: Any) -> Any:
    """A net that has learned its source, and the facts of it."""
    if request.param not in NETS:
        torch.manual_seed(0)
        net = lab.Net("group" if request.param == "none" else request.param)
        if request.param == "none":
            net.norm1, net.norm2 = nn.Identity(), nn.Identity()
        source = distinct(300, 0)
        spec = EngineSpec.model_validate({"epochs": 12, "batch_size": 20, "lr": 0.05})
        fine_tune(net, [*net.parameters()], source, distinct(60, 1), spec, seed=0)
        assert accuracy(net, distinct(300, 2)) > 0.9
        NETS[request.param] = net, {"layers": layer_facts(net, source.x, source.y)}
    return lab, *NETS[request.param]


def distinct(n: int, seed: int) -> Batchable:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randn(n, 2, 6, 6, generator=generator)
    return Batchable(x + y[:, None, None, None] * torch.tensor([1.0, -0.7])[:, None, None], y)


def run(trained: Any, train: Batchable, val: Batchable, **options: Any) -> Any:
    lab, net, facts = trained
    task = lab.task("auto", model=copy.deepcopy(net), train=train, source_facts=facts, epochs=3, lr=0.01)
    task.val = val
    if isinstance(net.norm1, nn.Identity):
        task.block_map = {"block1": ("stem",), "block2": ("body",), "fc": ("fc",)}
    adapted = lab.run("auto", task, **options)
    json.dumps(dict(adapted.facts), allow_nan=False)
    return task, adapted


def test_nothing_is_spent_where_nothing_shifts(trained: Any) -> None:
    task, adapted = run(trained, distinct(60, 3), distinct(30, 4))
    assert adapted.facts["decision"] == "none"
    assert set(task.ledger) == {"select"}
    assert all(torch.equal(value, task.source_state[name]) for name, value in task.model.state_dict().items())
    answers = adapted.facts["answers"]
    assert set(map(len, answers.values())) == {90}
    again = Probes(**adapted.facts["probes"])
    assert decide(again).kind == "none"  # a record is enough to judge again


def test_exchanged_labels_are_recognised_and_repaired(trained: Any) -> None:
    def exchanged(data: Batchable) -> Batchable:
        return Batchable(data.x, torch.tensor([1, 0, 2])[data.y])

    task, adapted = run(trained, exchanged(distinct(60, 3)), exchanged(distinct(30, 4)))
    assert adapted.facts["decision"] == "output"
    assert adapted.facts["confidence"] > 0.9
    assert accuracy(task.model, exchanged(distinct(300, 5))) > 0.9


def test_a_moved_input_is_recognised(trained: Any) -> None:
    def moved(data: Batchable) -> Batchable:
        return Batchable(0.4 * data.x + 9, data.y)

    task, adapted = run(trained, moved(distinct(60, 3)), moved(distinct(30, 4)))
    assert adapted.facts["probes"]["drift"] > 1
    if adapted.facts["probes"]["accuracy"] < 0.9:
        assert adapted.facts["decision"] == "input"
    before = accuracy(trained[1], moved(distinct(300, 5)))
    assert accuracy(task.model, moved(distinct(300, 5))) >= before


def test_degenerate_input_is_told(trained: Any) -> None:
    few = distinct(30, 4)
    one_class = Batchable(few.x, torch.zeros(30, dtype=torch.int64))
    equal = Batchable(few.x[:1].repeat(30, 1, 1, 1), few.y)
    for train, words in (
        (Batchable(few.x[:1], few.y[:1]), "tell nothing"),
        (one_class, "of one class"),
        (equal, "are equal"),
    ):
        task, adapted = run(trained, train, few)
        assert words in adapted.facts["reason"]
        assert (adapted.facts["decision"], adapted.facts["fell_back"]) == ("none", True)
        assert all(torch.equal(value, task.source_state[name]) for name, value in task.model.state_dict().items())
    broken = Batchable(few.x.clone(), few.y)
    broken.x[3, 0, 0, 0] = float("nan")
    with pytest.raises(JouletuneError, match="auto: 1 of 30 training images have pixels that are not finite"):
        run(trained, broken, few)
    with pytest.raises(JouletuneError, match="auto: 1 of 30 validation images"):
        run(trained, few, broken)
    half = distinct(30, 6)
    contradicting = Batchable(torch.cat([half.x, half.x]), torch.cat([half.y, (half.y + 1) % 3]))
    run(trained, contradicting, few)
    run(trained, Batchable(few.x[:6], few.y[:6]), Batchable(few.x[6:8], few.y[6:8]))  # two images of a class


def test_divided_votes_take_the_safe_arm(trained: Any) -> None:
    _, adapted = run(trained, distinct(60, 3), distinct(30, 4), confidence=1.0)
    if adapted.facts["confidence"] < 1:
        assert adapted.facts["fell_back"]
        assert adapted.facts["kept"] in ("head", "source")


def test_without_labels_it_says_what_it_cannot_see(trained: Any) -> None:
    lab, net, facts = trained
    same = distinct(60, 3)
    for data, decision in ((same, "none"), (Batchable(0.4 * same.x + 9, same.y), "input")):
        task = lab.task("auto-unlabelled", model=copy.deepcopy(net), train=data, source_facts=facts)
        adapted = lab.run("auto-unlabelled", task)
        assert adapted.facts["decision"] == decision
        assert "cannot be seen without labels" in adapted.facts["reason"]
