"""Composite shifts, prior shift and none: how they are written, their levels and target sets, and their images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.data.corruptions import corrupt
from bench.data.domain import load_domain, make_domain
from bench.data.shifts import few_classes, reweighted
from bench.errors import RequestError
from bench.suite.load import load_suite
from bench.suite.suite import Suite


def suite_of(*data: dict[str, Any], blocks: tuple[str, ...] = ("tbft", "full")) -> Suite:
    content = {"name": "c", "model": {"name": "resnet8"}, "data": [*data], "train_size": [50], "seeds": [0]}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "c.yaml").write_text(yaml.safe_dump(content | {"blocks": [*blocks]}))
        return load_suite(f"{folder}/c.yaml").suite


def test_a_composite_multiplies_as_one_value() -> None:
    suite = suite_of(
        {"dataset": "digits", "shift": ["noise+flip", "subpopulation+blur", "prior+fog", "fog"], "severity": 5},
        {"dataset": "digits", "shift": ["none", "subpopulation+flip"]},
        blocks=("full",),
    )
    assert [(spec.label, spec.level, spec.target_block) for spec in suite.data] == [
        ("digits-noise-flip-sev5", "input+output", "block1+fc"),
        ("digits-subpopulation-blur-sev5", "input+feature", "block1+block3"),
        ("digits-prior-fog-sev5", "input", "block1"),
        ("digits-fog-sev5", "input", "block1"),
        ("digits-none", "", None),
        ("digits-subpopulation-flip", "feature+output", "block3+fc"),
    ]


def test_tbft_of_a_composite_is_its_target_set() -> None:
    suite = suite_of({"dataset": "digits", "shift": "noise+flip"}, {"dataset": "digits", "shift": "flip"})
    assert [cell.cell_id for cell in suite.cells()] == [
        "digits-noise-flip/n=50/block1+fc/s=0", "digits-noise-flip/n=50/full/s=0",
        "digits-flip/n=50/fc/s=0", "digits-flip/n=50/full/s=0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"shift": "noise+nothing"}, "'nothing' is not a shift"),
        ({"shift": "noise+none"}, "'noise+none': none stands alone"),
        ({"shift": "noise+noise"}, "has a shift twice"),
        ({"shift": "noise+subpopulation"}, "put it first"),
        ({"shift": "noise+flip", "permutation": [1, 0]}, "belongs to `shift: permute`"),
        ({"shift": "noise+flip", "level": "input"}, "follows from the steps"),
        ({"shift": "noise+permute"}, "permutation is missing"),
        ({"shift": "flip+prior", "severity": 3}, "belongs to shifts at input level"),
        ({"shift": [["noise", "flip"]]}, "a composite is written as one text, such as fog+flip"),
        ({"shift": "prior", "shares": [1, 0, 1]}, "expected 10 shares"),
        ({"shift": "prior", "shares": [1] + [0] * 9}, "at least two classes"),
        ({"shift": "prior", "shares": [1, 2]}, "shares from 0 to 1"),
        ({"shift": "prior", "level": "input"}, "calls for no block"),
        ({"shift": "noise+continual"}, "stands alone"),
        ({"shift": "noise+"}, "'' is not a shift"),
    ],
)
def test_what_cannot_be_is_refused(point: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=r"^[^\n]*$") as caught:
        suite_of({"dataset": "digits", **point}, blocks=("full",))
    assert message in str(caught.value)


def test_images_of_a_composite_are_those_of_its_steps_in_order() -> None:
    suite = suite_of(
        {"dataset": "digits", "shift": "none"},
        {"dataset": "digits", "shift": "subpopulation"},
        {"dataset": "digits", "shift": "noise+flip", "severity": 3},
        {"dataset": "digits", "shift": "subpopulation+noise+flip", "severity": 3},
        {"dataset": "digits", "shift": "prior"},
        {"dataset": "digits", "shift": "prior", "shares": [1, 0.5, 0.1, 0, 0, 0, 0, 0, 0, 1], "name": "own"},
        blocks=("full",),
    )
    none, sub, both, three, few, own = (load_domain(make_domain(spec, lambda *_: None)) for spec in suite.data)
    assert np.array_equal(both.target.x, corrupt(np.asarray(none.target.x), "noise", 3, "digits"))
    assert np.array_equal(both.target.y, 9 - none.target.y)
    assert np.array_equal(three.target.x, corrupt(np.asarray(sub.target.x), "noise", 3, "digits"))
    assert np.array_equal(three.target.y, 4 - sub.target.y)
    assert both.source_key == none.source_key == few.source_key  # one source model serves them
    assert three.source_key == sub.source_key
    assert set(few.target.y) == {0, 1, 2, 3}
    counts = np.bincount(none.target.y)
    assert np.bincount(own.target.y, minlength=10).tolist() == [
        counts[0], round(counts[1] / 2), round(counts[2] / 10), 0, 0, 0, 0, 0, 0, counts[9]
    ]  # fmt: skip


def test_a_prior_shift_spreads_what_stays() -> None:
    labels = np.repeat([0, 1, 2], 10)
    assert reweighted(labels, (1.0, 0.3, 0.0)).tolist() == [*range(10), 10, 14, 19]
    assert few_classes(10) == (1.0,) * 4 + (0.0,) * 6
    assert few_classes(3) == (1.0, 1.0, 0.0)
