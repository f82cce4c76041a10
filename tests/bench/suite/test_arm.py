"""Arms: method and options are one identity, in ids, records, frames and analysis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from bench.analysis.findings import analyse
from bench.read.results import from_records
from bench.store.record import Record
from bench.suite.arm import Arm
from bench.suite.load import load_suite, shipped_suites
from bench.suite.suite import Suite


@pytest.mark.parametrize(
    ("arm", "label"),
    [
        (Arm.of_blocks(("block1",)), "block1"),
        (Arm.of_blocks(("block2", "block3")), "block2+block3"),
        (Arm.of_blocks(("full",)), "full"),
        (Arm("auto"), "auto"),
        (Arm("neq", (("select", "velocity"), ("budget", 0.1))), "neq(select=velocity,budget=0.1)"),
        (Arm("tent", (("reset", None), ("momentum", False), ("layers", ("bn1", "bn2")))),
         "tent(reset=null,momentum=false,layers=bn1+bn2)"),
        (Arm("odd", (("path", "a/b, c"),)), "odd(path=a%2Fb%2C%20c)"),
    ],
)  # fmt: skip
def test_an_arm_is_called_by_its_method_and_options(arm: Arm, label: str) -> None:
    assert arm.label == label


@pytest.fixture
def two_budgets(make_suite: Callable[..., Suite]) -> Suite:
    """A suite with two option sets of a method that does not exist, beside two block sets."""
    suite = make_suite(
        data=[{"dataset": "digits", "shift": "flip"}], train_size=[0.1], blocks=["fc", "full"], seeds=[0, 1]
    )
    methods = tuple(Arm("made_up", (("budget", budget),)) for budget in (0.1, 0.25))
    return suite.model_copy(update={"methods": methods})


def test_two_options_of_a_method_are_two_cells(two_budgets: Suite) -> None:
    cells = [cell for cell in two_budgets.cells() if cell.seed == 0]
    assert [cell.condition_id for cell in cells] == [
        "digits-flip/n=0.1/fc",
        "digits-flip/n=0.1/full",
        "digits-flip/n=0.1/made_up(budget=0.1)",
        "digits-flip/n=0.1/made_up(budget=0.25)",
    ]
    assert [cell.cell_id for cell in cells] == [f"{cell.condition_id}/s=0" for cell in cells]
    assert len({cell.arm for cell in cells}) == 4
    assert two_budgets.content()["methods"][1] == {"method": "made_up", "options": [["budget", 0.25]]}
    assert two_budgets.digest() != two_budgets.model_copy(update={"methods": ()}).digest()


def test_options_are_kept_apart_from_records_to_analysis(two_budgets: Suite) -> None:
    joules = {"fc": 1.0, "full": 10.0, "made_up(budget=0.1)": 2.0, "made_up(budget=0.25)": 5.0}
    lines: list[dict[str, Any]] = []
    for cell in two_budgets.cells():
        arm = cell.arm
        record = Record(
            cell_id=cell.cell_id, repeat=0, status="ok", dataset="digits", shift="flip", level="output",
            data=cell.data.label, train_size=cell.train_size, blocks=cell.blocks_label, seed=cell.seed,
            method=arm.method, arm=arm.label, options=dict(arm.options) if arm.method != "fixed" else None,
            model="resnet8", bn_mode="train", started_at="2025-01-01T00:00:00+00:00", accuracy_after=0.5,
            train_time_s=1.0, energy_gross_j=joules[arm.label] + 0.01 * cell.seed, source="meter", source_kind="power",
            grade="A", n_train=90,
        )  # fmt: skip
        lines.append(json.loads(record.to_json()))
    assert lines[-1]["options"] == {"budget": 0.25}
    results = from_records(lines)
    roles = dict(zip(results.records["arm"], results.records["role"], strict=True))
    assert roles == {"fc": "single", "full": "full"} | dict.fromkeys(list(joules)[2:], "method")
    blocks = analyse(results).blocks.set_index("arm")
    assert blocks.loc[list(joules), "energy_gross_j"].to_dict() == pytest.approx(joules, rel=0.01)
    assert blocks.loc["made_up(budget=0.25)", "saving_gross"] == pytest.approx(0.5, abs=0.01)


def test_a_record_without_the_field_has_its_arm_from_blocks_or_method() -> None:
    shared = {"status": "ok", "data": "d", "train_size": 0.1, "level": "output"}
    kinds = [("fixed", "fc"), ("tbft", "fc"), ("auto", "block1")]
    lines = [
        {**shared, "cell_id": f"d/{number}", "method": method, "blocks": blocks}
        for number, (method, blocks) in enumerate(kinds)
    ]
    assert list(from_records(lines).records["arm"]) == ["fc", "fc", "auto"]


def test_two_arms_with_one_label_are_refused(two_budgets: Suite) -> None:
    for arm in (Arm("full"), Arm("made_up", (("budget", "0.1"),))):
        content = {name: getattr(two_budgets, name) for name in Suite.model_fields}
        with pytest.raises(ValidationError, match="two arms are called"):
            Suite.model_validate(content | {"methods": (*two_budgets.methods, arm)})


@pytest.mark.parametrize("name", shipped_suites())
def test_a_suite_is_made_again_from_what_a_manifest_holds(name: str) -> None:
    suite = load_suite(name).suite
    content = json.loads(json.dumps(suite.content()))
    again = Suite.of_content(content)
    assert (again.content(), again.digest()) == (suite.content(), suite.digest())
    # a manifest holds no folder of the user, so paths are not placed again
    assert [cell.cell_id for cell in again.cells()] == [cell.cell_id for cell in suite.cells()]
    del content["train"]["patience"]  # a key that an earlier version did not know
    assert Suite.of_content(content).train.patience == 5


def test_arms_with_options_are_made_again(two_budgets: Suite) -> None:
    assert Suite.of_content(json.loads(json.dumps(two_budgets.content()))).methods == two_budgets.methods
    for wrong in ({}, {"model": 5}, {"model": {"name": "resnet8"}, "data": [5]}):
        with pytest.raises(ValueError, match=r"content|validation"):
            Suite.of_content(wrong)
