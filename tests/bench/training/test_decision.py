"""Stage decision: thresholds, temperature and calibration error on cases by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.training.decision import (
    Decision,
    calibration_error,
    confidences,
    fit_temperature,
    published_threshold,
    threshold,
)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_threshold_lets_the_wanted_share_stay(ratio: float) -> None:
    """Of uniform confidences the (1 - r) quantile is 1 - r."""
    found = (torch.arange(2000).double() + 0.5) / 2000
    tau = threshold(found, ratio)
    assert float((found >= tau).double().mean()) == pytest.approx(ratio, abs=1e-3)
    if 0 < ratio < 1:
        assert tau == pytest.approx(1 - ratio, abs=1e-3)


def test_the_published_threshold_pulls_outer_quantiles_inwards() -> None:
    """E[quartile of 10 uniform values] = (1 + 9 q) / 11: 0.2955, 0.5, 0.7045."""
    rng = np.random.default_rng(0)
    for ratio, q in ((0.75, 0.25), (0.5, 0.5), (0.25, 0.75)):
        means = [published_threshold(torch.from_numpy(rng.random(4000)), ratio, seed) for seed in range(12)]
        exact = (1 + 9 * q) / 11
        assert np.mean(means) == pytest.approx(exact, abs=0.008)
    assert f"{(1 + 9 * 0.25) / 11:.4f}" == "0.2955"
    assert published_threshold(torch.rand(5), 0.5, 0) > 0  # fewer than ten


def test_nothing_stays_at_ratio_0_and_all_at_1() -> None:
    logits = torch.tensor([[100.0, -100.0], [0.0, 0.0]])
    assert not Decision(threshold(confidences(logits), 0.0)).stays(logits).any()
    assert Decision(threshold(confidences(logits), 1.0)).stays(logits).all()


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.9 sure and right in half of the cases, 0.6 sure and always right: 0.5 * 0.4 + 0.5 * 0.4."""
    sure = torch.tensor([0.9, 0.9, 0.6, 0.6])
    right = torch.tensor([True, False, True, True])
    assert calibration_error(sure, right) == pytest.approx(0.4, abs=1e-6)
    assert calibration_error(torch.ones(3), torch.ones(3, dtype=torch.bool)) == 0


def test_the_temperature_that_was_put_in_comes_out() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(20_000, 4, generator=generator)
    labels = torch.multinomial(true.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(3.0 * true, labels) == pytest.approx(3.0, rel=0.05)
    t = fit_temperature(3.0 * true, labels)
    right = true.argmax(1) == labels
    assert calibration_error(confidences(3 * true, t), right) < 0.2 * calibration_error(confidences(3 * true), right)
    assert (true.argmax(1) == (true / t).argmax(1)).all()  # it changes no answer


def test_the_published_energies_follow_the_model() -> None:
    """Saving = r (1 - E_part / E_full): the printed columns at r = 0.5 give 13.66, 15.14, 13.58, 14.22 %."""
    columns = {"13.66": (9.52, 8.22), "15.14": (12.42, 10.54), "13.58": (4.64, 4.01), "14.22": (6.19, 5.31)}
    savings = []
    for printed, (full, stage) in columns.items():
        saving = 100 * (1 - stage / full)
        assert f"{saving:.2f}" == printed
        part = 1 - (saving / 100) / 0.5
        assert full * (part + (1 - 0.5) * (1 - part)) == pytest.approx(stage)
        savings.append(saving)
    assert math.fsum(savings) / 4 == pytest.approx(14.15, abs=0.005)
