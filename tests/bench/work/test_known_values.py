"""Known values of methods without labels: the released BatchNorm net on CIFAR-10 (JPEG) with Gaussian noise.

Severity 5. The bounds are those measured apart from this code with the same net and images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

SUITE: dict[str, Any] = {
    "name": "known",
    "model": {"name": "resnet26", "checkpoint": "tbft-cifar10"},
    "data": [{"dataset": "cifar10", "shift": "gaussian_noise", "severity": 5}],
    "seeds": [0],
    "split": {"pool": 0.1, "val": 0.1, "test": 0.8},
    "train": {"threads": 1},
    "energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0},
}


def accuracies(folder: Path, **changes: Any) -> dict[tuple[str, str], float]:
    """(work, arm) -> accuracy."""
    (folder / "s.yaml").write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))
    code = "from bench.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "s.yaml", "--out", "r", "--source", "none"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "r" / "cells.jsonl").read_text().splitlines()]
    return {(line["work"], line["arm"]): line["accuracy_after"] for line in lines}


def test_adapting_to_500_images(real_cifar10: object, tmp_path: Path) -> None:
    methods = ["none", "adabn", "tent", {"tent": {"epochs": [5, 20], "lr": 0.01}}]
    found = {arm: value for (_, arm), value in accuracies(tmp_path, train_size=[500], methods=methods).items()}
    assert 0.21 <= found["none"] <= 0.22
    assert 0.52 <= found["adabn"] <= 0.55
    assert found["tent"] >= found["adabn"] - 0.01
    # at ten times the published rate it goes on lowering the entropy, and falls below what its statistics alone give
    assert found["tent(epochs=20,lr=0.01)"] < found["tent(epochs=5,lr=0.01)"] < found["adabn"]


def test_what_a_stream_does_to_them(real_cifar10: object, tmp_path: Path) -> None:
    """By classes and where few classes come, a batch's statistics say more of its classes than of the noise."""
    streams = {"order": ["iid", "classes"], "images": 1000}
    methods = ["none", "adabn", "tent", {"tent": {"lr": 0.01}}]
    found = accuracies(tmp_path, work={"stream": streams}, methods=methods)

    def of(order: str, arm: str) -> float:
        return found[f"stream({order}images=1000)", arm]

    assert of("", "adabn") > of("", "none") + 0.25
    assert of("order=classes,", "adabn") < of("order=classes,", "none")
    assert of("order=classes,", "tent(lr=0.01)") < of("order=classes,", "none")


def test_a_prior_shift_alone_hurts_adabn(real_cifar10: object, tmp_path: Path) -> None:
    """4 of 10 classes come, hardly corrupted: statistics of the batch cost tens of points."""
    data = [{"dataset": "cifar10", "shift": "brightness", "severity": 1}]
    work = {"stream": {"classes": [4, 10], "images": 1000}}
    found = accuracies(tmp_path, data=data, work=work, methods=["none", "adabn"])
    few, all_of_them = "stream(images=1000,classes=4)", "stream(images=1000,classes=10)"
    assert found[few, "adabn"] < found[few, "none"] - 0.15
    assert abs(found[all_of_them, "adabn"] - found[all_of_them, "none"]) < 0.1
