"""Linear heads: as scikit-learn fits them, and by the steps of a microcontroller."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from bench.training.heads import fit_logistic, fit_sgd


def features(n: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(n) % classes
    x = torch.randn(n, 7, generator=generator) + 1.5 * torch.randn(classes, 7, generator=generator)[y]
    return x, y


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("c", [1.0, 0.05])
def test_logistic_regression_is_that_of_scikit_learn(classes: int, c: float) -> None:
    x, y = features(60, classes)
    layer = nn.Linear(7, classes)
    fit_logistic(layer, x, y, c=c, max_iter=500)
    # of two classes scikit-learn has one row; two opposite rows of half its size have half of its penalty
    model = LogisticRegression(C=2 * c if classes == 2 else c, max_iter=2000, tol=1e-9).fit(x.numpy(), y.numpy())
    assert np.allclose(layer(x).softmax(1).detach().numpy(), model.predict_proba(x.numpy()), atol=1e-3)


def test_a_class_without_images_and_features_of_any_scale() -> None:
    x, y = features(30, 3)
    layer = nn.Linear(7, 5)
    fit_logistic(layer, 50 * x, y, c=1.0)
    assert layer.weight.isfinite().all()
    assert set(layer(50 * x).argmax(1).tolist()) <= {0, 1, 2}


def test_sgd_takes_the_steps_of_the_gradient() -> None:
    x, y = features(8, 2)
    layer, reference = nn.Linear(7, 2), nn.Linear(7, 2)
    steps = fit_sgd(layer, x, y, lr=0.3, epochs=2, batch=3, generator=torch.Generator().manual_seed(4))
    for parameter in reference.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.3)
    order = torch.Generator().manual_seed(4)
    for _ in range(2):
        for index in torch.randperm(8, generator=order).split(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(reference(x[index]), y[index]).backward()
            optimizer.step()
    assert steps == 6
    assert torch.allclose(layer.weight, reference.weight, atol=1e-6)
    assert torch.allclose(layer.bias, reference.bias, atol=1e-6)
