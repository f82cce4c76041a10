"""What is said before a run starts: few test images, a busy machine. And the shipped suite for one's own folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.cli.commands import cli
from bench.run.cautions import cautions
from bench.suite.load import LoadedSuite, load_suite


def own_folders(base: Path, each: int) -> LoadedSuite:
    rng = np.random.default_rng(0)
    for side in ("source", "target"):
        for name in ("cat", "dog"):
            folder = base / "photos" / side / name
            folder.mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    suite = base / "mine.yaml"
    suite.write_text(CliRunner().invoke(cli, ["ls", "own-folders"]).stdout)
    return load_suite(str(suite))


def test_own_folders_compare_untuned_every_block_and_all_without_a_level(tmp_path: Path) -> None:
    loaded = own_folders(tmp_path, 3)
    assert {cell.arm.label for cell in loaded.suite.cells()} == {"none", "block1", "block2", "block3", "fc", "full"}
    assert {cell.data.level for cell in loaded.suite.cells()} == {""}


@pytest.mark.parametrize(("each", "said"), [(90, True), (700, False)])
def test_few_test_images_are_named_with_what_one_is_worth(tmp_path: Path, each: int, said: bool) -> None:
    suite = own_folders(tmp_path, each).suite  # 15 % of the target is for the test: 27, or 210
    told = cautions(suite, suite.data, measures=False)
    assert bool(told) is said
    if said:
        assert "27 test images, so one is 3.7 points" in told[0]
        assert "±15 points" in told[0]


def test_a_busy_machine_is_named_where_joules_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite("quickstart").suite
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    assert "load average 3.0 of the last minute on 4 cores" in cautions(suite, suite.data, measures=True)[0]
    assert cautions(suite, suite.data, measures=False) == []
    monkeypatch.setattr(os, "getloadavg", lambda: (0.4, 3.0, 3.0))
    assert cautions(suite, suite.data, measures=True) == []
