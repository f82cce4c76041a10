"""A run in the published tables' terms, and the figure that sets both side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.analysis import Results, load
from bench.compare import compare
from bench.compare.paper_terms import CORRUPTIONS, in_published_terms, of_the_paper
from bench.read.results import from_records
from bench.store.manifest import Manifest
from plots.beside_paper import draw
from plots.drawing.style import save

BLOCKS = {"block1": 0.74, "block2": 0.70, "block3": 0.70, "fc": 0.68, "full": 0.73}


def record(data: str, shift: str, block: str, seed: int, **more: Any) -> dict[str, Any]:
    return {
        "cell_id": f"{data}/n=0.1/{block}/s={seed}",
        "repeat": 0,
        "status": "ok",
        "dataset": "cifar10",
        "shift": shift,
        "level": "input",
        "data": data,
        "train_size": 0.1,
        "n_train": 1000,
        "blocks": block,
        "seed": seed,
        "method": "fixed",
        "model": "resnet26",
        "bn_mode": "train",
    } | more


def corrupted(kinds: dict[str, float], **more: Any) -> Results:
    """Three seeds; each corruption is off the published figures by so much."""
    return from_records(
        record(f"cifar10-{kind}-sev5", kind, block, seed, accuracy_after=value + off + seed / 1000, **more)
        for kind, off in kinds.items()
        for seed in range(3)
        for block, value in BLOCKS.items()
    )


def test_corruptions_are_compared_as_their_mean() -> None:
    kinds = {f"{name}-like" if name in ("snow", "frost", "motion_blur") else name: 0.0 for name in CORRUPTIONS}
    kinds |= {"fog": 0.03, "contrast": -0.03}
    mine = corrupted(kinds)
    comparison = compare(mine, load("paper"))
    cells = comparison.conditions.set_index("arm")
    assert list(cells["data"].unique()) == ["cifar10c"]
    assert cells.loc["block1", "accuracy_run"] == pytest.approx(0.741)
    assert cells.loc["block1", "accuracy_base"] == pytest.approx(0.7353)
    assert cells.loc["block1", "accuracy_verdict"] == "agrees"
    assert "cifar10c is the mean over 15 corruptions of the run." in comparison.notes
    assert any("made here" in note for note in comparison.notes)


def test_a_part_of_the_corruptions_is_said_to_be_one() -> None:
    comparison = compare(corrupted({"fog": 0.0, "gaussian_noise": 0.1}), load("paper"))
    assert any("mean over gaussian_noise, fog here" in note for note in comparison.notes)
    assert comparison.conditions.set_index("arm").loc["fc", "accuracy_run"] == pytest.approx(0.731)


def test_a_seed_that_lacks_a_corruption_is_in_no_mean() -> None:
    mine = corrupted({"fog": 0.0, "contrast": 0.0})
    short = mine.records.drop(mine.records.query("shift == 'fog' and seed == 2 and blocks == 'fc'").index)
    folded, _, _ = in_published_terms(Results(short, ({},), "t", ("t",)), load("paper"))
    assert (folded.records["blocks"] == "fc").sum() == 2
    assert (folded.records["blocks"] == "full").sum() == 3


def test_milder_corruptions_are_not_the_published_ones() -> None:
    mine = from_records([record("cifar10-fog-sev3", "fog", "fc", 0, accuracy_after=0.5)])
    folded, _, notes = in_published_terms(mine, load("paper"))
    assert list(folded.records["data"]) == ["cifar10-fog-sev3"]
    assert notes == []


def test_noised_blocks_meet_the_published_motivation() -> None:
    lines = [
        record("cifar10-noise-in-fc", "block_noise", block, seed, accuracy_after=value + seed / 1000,
               target_block="fc", level="output", data_variant="JPEG", train_size=5000)
        for seed in range(3)
        for block, value in (("block1", 0.36), ("block2", 0.68), ("block3", 0.84), ("fc", 0.84), ("full", 0.83))
    ]  # fmt: skip
    comparison = compare(from_records(lines), load("paper"))
    cells = comparison.conditions.set_index("arm")
    assert cells.loc["block1", "accuracy_base"] == pytest.approx(0.3630)
    assert cells.loc["Block Avg", "accuracy_base"] == pytest.approx(0.6807)
    assert cells.loc["fc", "accuracy_verdict"] == "agrees"


def test_steps_on_random_images_meet_the_published_costs() -> None:
    joules = {"block1": 85.0, "block2": 62.0, "block3": 55.0, "fc": 32.0, "full": 100.0}
    lines = [
        record("random-32px", "none", block, 0, repeat=repeat, dataset="random", level="", train_size=200,
               energy_gross_j=value * (1 + repeat / 500), grade="A", source="m", source_kind="power")
        for repeat in range(3)
        for block, value in joules.items()
    ]  # fmt: skip
    comparison = compare(from_records(lines), load("paper"))
    cells = comparison.conditions.set_index("arm")
    assert cells.loc["fc", "saving_base"] == pytest.approx(0.6792, abs=1e-4)
    assert cells.loc["fc", "saving_verdict"] == "agrees"
    assert not any("no joules" in note for note in comparison.notes)


def test_the_figure_holds_both_values_of_every_cell(tmp_path: Path) -> None:
    comparison = compare(corrupted({"fog": 0.0}), load("paper"))
    (drawn,) = draw(comparison)
    axes = drawn.figure.axes[0]
    bars = {patch.get_gid(): patch.get_height() for container in axes.containers for patch in container
            if hasattr(patch, "get_height")}  # fmt: skip
    lines = {line.get_gid(): line.get_ydata()[0] for line in axes.lines if str(line.get_gid()).startswith("published")}
    table = comparison.conditions.set_index("arm")
    for arm in table.index:
        assert bars[f"bar-{arm}"] == pytest.approx(100 * table.loc[arm, "accuracy_run"])
        assert lines[f"published-{arm}"] == pytest.approx(100 * table.loc[arm, "accuracy_base"])
    png, svg = save(drawn, tmp_path)
    assert png.stat().st_size > 5000
    assert "beside the published" in svg.read_text(encoding="utf-8")
    both = corrupted({"fog": 0.0})
    assert draw(compare(both, both)) == []  # two runs


def test_which_runs_are_of_the_paper() -> None:
    frame = pd.DataFrame()
    assert of_the_paper(Results(frame, (Manifest.of({"suite": {"name": "cifar-flip"}}, []),), "t", ("r",)))
    assert not of_the_paper(Results(frame, (Manifest.of({"suite": {"name": "mine"}}, []),), "t", ("r",)))
    assert not of_the_paper(Results(frame, (Manifest(),), "t", ("r",)))
