"""Stage decision in runs: digits with a distilled net, in torch and in int8, and requests that cannot work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import bench

ROOT = Path(__file__).resolve().parents[3]
SUITE: dict[str, Any] = {
    "name": "small",
    "model": {
        "name": "resnet8",
        "cut": "block2",
        "source_train": {"loss": "sskd", "teacher": "resnet8", "epochs": 2, "joint_epochs": 3, "lr": 0.05},
    },
    "data": [{"dataset": "digits", "shift": "noise"}],
    "train_size": [200],
    "methods": ["heads"],
    "seeds": [0],
    "train": {"threads": 1},
    "energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0},
}


def run(folder: Path, *options: str, **changes: Any) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Run the suite; gives the process and its records."""
    content = {key: value for key, value in (SUITE | changes).items() if value is not None}
    (folder / "s.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "bench.cli", "run", "s.yaml", "--out", "r", "--source", "none", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    cells = folder / "r" / "cells.jsonl"
    return done, [json.loads(line) for line in cells.read_text().splitlines()] if cells.exists() else []


def test_a_run_from_distillation_to_stages(tmp_path: Path) -> None:
    """One run: heads adapt, and infer at three ratios and in int8; the kept model answers as the record says."""
    pytest.importorskip("onnxruntime", reason="the extra `ort` is not installed")
    work = [
        "adapt",
        {"infer": {"images": 135, "batch": 16, "ratio": [0, 0.5, 1]}},
        {"infer": {"images": 135, "ratio": 0.5, "runtime": "onnx-int8", "temperature": True}},
    ]
    done, records = run(tmp_path, "--keep-models", work=work)
    assert done.returncode == 0, done.stderr
    plain = next(record for record in records if record["work"] == "adapt")
    assert {"features", "fit"} <= plain["phases"].keys()
    assert plain["facts"]["cut"] == "layer2"
    by_ratio = {r["exits"]["ratio"]: r for r in records if r["exits"] and r["runtime"] is None}
    full, half, part = by_ratio[0.0], by_ratio[0.5], by_ratio[1.0]
    assert full["accuracy_after"] == full["exits"]["accuracy_full"] == plain["accuracy_after"]
    assert part["accuracy_after"] == part["exits"]["accuracy_part"]
    assert [r["exits"]["realised"] for r in (full, part)] == [0, 1]
    assert half["exits"]["realised"] == pytest.approx(0.5, abs=0.2)
    per_image = [r["train_macs"] / r["n_images"] for r in (full, half, part)]
    macs = full["exits"]
    assert per_image[0] == macs["part_macs"] + macs["rest_macs"]
    assert per_image[2] == macs["part_macs"]
    going_on = 1 - half["exits"]["realised_of_window"]
    assert per_image[1] == pytest.approx(macs["part_macs"] + going_on * macs["rest_macs"], rel=1e-6)
    quantised = next(r for r in records if r["runtime"])
    assert quantised["runtime"]["agreement"] >= 0.95
    assert quantised["runtime"]["part"]["agreement"] >= 0.95
    assert quantised["exits"]["temperature"] != 1
    kept = bench.load_model(tmp_path / "r", plain["cell_id"])
    assert kept.cut == "layer2"
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    facts = manifest["training"]["digits-noise"]
    assert [(one["phase"], one["epoch"]) for one in facts["epochs"]] == [
        *(("sskd", n) for n in (1, 2)), *(("joint", n) for n in (1, 2, 3))
    ]  # fmt: skip
    assert set(facts["epochs"][-1]["losses"]) == {"full_embedding", "full_classes", "part_classes", "part_embedding"}


NO_PART = {key: value for key, value in SUITE["model"].items() if key != "cut"}
TEACHER = {"loss": "sskd", "epochs": 1, "teacher": {"name": "teach:make", "outputs": 7}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"work": {"infer": {"ratio": 1.5}}}, "less than or equal to 1"),
        ({"work": {"infer": {"ratio": [0.5, -0.1]}}}, "greater than or equal to 0"),
        ({"work": {"infer": {"ratio": 0.5}}, "methods": None, "blocks": ["fc"]}, "leaves no part"),
        ({"model": {"name": "resnet8"}}, "cut is missing"),
        ({"model": NO_PART}, "cut"),
        ({"model": {"name": "resnet8", "cut": "block9"}}, "no block 'block9'"),
        ({"model": {"name": "resnet8", "cut": 7}}, "expected 1 to 3"),
        (
            {"work": {"infer": {"ratio": 0.5, "confidences": "pool"}}, "train_size": [0.7]},
            "leaves no image of the pool",
        ),
        ({"model": {"name": "resnet8", "cut": 2, "source_train": {"loss": "sskd"}}}, "teacher"),
        ({"model": {"name": "resnet8", "cut": 2, "source_train": {"loss": "sskd", "teacher": "resnet9"}}}, "no net"),
        ({"model": {"name": "resnet8", "cut": 2, "source_train": TEACHER}}, "gives (5,) an image; outputs says 7"),
        (
            {"model": {"name": "resnet8", "cut": 2, "source_train": TEACHER | {"augment": True}}},
            "views",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_line_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "teach.py").write_text(
        "from torch import nn\ndef make(n_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))\n"
    )
    done, _ = run(tmp_path, **changes)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert not (tmp_path / "r").exists()
