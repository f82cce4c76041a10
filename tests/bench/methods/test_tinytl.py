"""TinyTL: it starts as the source model, and moves biases, branches and the head alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.catalog.methods import load_method
from bench.catalog.mobile import RELEASED
from bench.methods.tinytl import TinytlOptions, insert
from bench.models.mobile import MobileNet
from bench.models.resnet import ResNet
from tests.bench.methods.conftest import CLASSES, Lab


@pytest.mark.parametrize(
    ("net", "size", "branches"),
    [(lambda: ResNet(1, n_classes=3, image_size=16), 16, 3), (lambda: MobileNet(RELEASED["mcunet-in3"], 3), 48, 18)],
)
def test_it_starts_as_the_source_model(net: type, size: int, branches: int) -> None:
    torch.manual_seed(0)
    model, x = net().eval(), torch.randn(2, 3, size, size)
    with torch.no_grad():
        before = model(x)
        names = {name for name, _ in model.named_parameters()}
        made = insert(model, TinytlOptions()).eval()
        assert torch.allclose(made(x), before, atol=1e-6)
    assert sum(name.endswith(".branch") for name, _ in made.named_modules()) == branches
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert all(name.endswith(".bias") or ".branch." in name or name in ("fc.weight", "classifier.linear.weight")
               for name in trained)  # fmt: skip
    assert len(names & {name.replace("inner.", "") for name, _ in made.named_parameters()}) == len(names)


def test_only_that_moves_and_every_execution_starts_anew(lab: Lab) -> None:
    class Blocks(lab.Net):  # type: ignore[misc, name-defined]
        """As the small net, its second convolution in a block of two."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1))

    torch.manual_seed(0)
    task = lab.task("tinytl", model=Blocks(), bn_mode="eval")
    source = {name: value.clone() for name, value in task.model.state_dict().items()}
    first = lab.run("tinytl", task)
    state = {name: value.clone() for name, value in first.model.state_dict().items()}
    moved = {
        name.replace("inner.", "")
        for name, value in first.model.named_parameters()
        if ".branch." not in name and not torch.equal(value, source[name.replace("inner.", "")])
    }
    assert moved
    assert all(name.endswith("bias") or name == "fc.weight" for name in moved)
    assert any(
        ".branch." in name and value.abs().sum() > 0 for name, value in state.items() if name.endswith("3.weight")
    )
    again = lab.run("tinytl", task)
    assert all(torch.equal(value, state[name]) for name, value in again.model.state_dict().items())
    assert all(torch.equal(value, source[name]) for name, value in task.model.state_dict().items())
    rebuilt = load_method("tinytl").rebuild(Blocks(), state, TinytlOptions())
    rebuilt.load_state_dict(state)
    assert rebuilt(torch.zeros(1, 2, 6, 6)).shape == (1, CLASSES)
