"""Commands that only list: blocks of a model, completion of a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.commands import cli
from bench.cost.by_block import by_block, of_catalog
from bench.errors import RequestError

ROOT = Path(__file__).resolve().parents[3]


def blocks(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["blocks", *arguments])


def test_blocks_of_the_papers_net_add_up() -> None:
    found = {one.name: one for one in by_block(of_catalog("resnet26", classes=10, channels=3, image_size=32, width=16))}
    assert [*found] == ["block1", "block2", "block3", "fc", "(no block)", "full"]
    parts = [one for name, one in found.items() if name != "full"]
    assert sum(one.parameters for one in parts) == found["full"].parameters
    assert sum(one.forward_macs for one in parts) == found["full"].forward_macs
    assert (found["fc"].parameters, found["fc"].forward_macs) == (64 * 10 + 10, 64 * 10)
    # forward of all, and once more for the gradient of its own weights: nothing before it trains
    assert found["fc"].step_macs == found["full"].forward_macs + 640
    assert found["fc"].step_macs < found["block1"].step_macs <= found["full"].step_macs
    assert found["block1"].paths == ("conv1", "layer1")


def test_blocks_are_listed_for_a_name_and_for_a_suites_own_model(tmp_path: Path) -> None:
    shown = blocks("resnet8", "--classes", "3").output
    assert "resnet8, 3 classes, images of 3 x 32 x 32" in shown
    assert "195" in shown  # 64 x 3 + 3
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build(n_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, n_classes))\n",
        encoding="utf-8",
    )
    (tmp_path / "own.yaml").write_text(
        "name: own\nmodel: {name: 'net:build', blocks: {body: ['1'], fc: ['2']}}\n"
        "data: [{dataset: digits, shift: flip}]\ntrain_size: [0.1]\nblocks: [fc]\nseeds: [0]\n",
        encoding="utf-8",
    )
    own = blocks(str(tmp_path / "own.yaml")).output
    assert "260" in own  # 64 x 4 + 4
    assert "body" in own


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["resnet27"], "'resnet27' is not a model"),
        (["mine:net"], "give the suite's file"),
        (["resnet18", "--channels", "1"], "takes colour images"),
        (["nowhere.yaml"], "no such file"),
    ],
)
def test_wrong_models_are_one_line(arguments: list[str], told: str) -> None:
    done = blocks(*arguments)
    assert isinstance(done.exception, RequestError)
    assert told in str(done.exception)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell]).output
    assert "_JOULETUNE_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("jouletune ba", "battery"),
        ("jouletune run quick", "quickstart"),
        ("jouletune compare --only", "--only-changed"),
    ],
)
def test_completion_finds_commands_suites_and_options(words: str, expected: str) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "_JOULETUNE_COMPLETE": "bash_complete", "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli"], env=environment, capture_output=True, text=True, check=False
    )
    assert expected in [line.partition(",")[2] for line in done.stdout.splitlines()], done
