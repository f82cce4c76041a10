"""Models that a run kept: loaded again they answer as they did, to the last digit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import bench
from bench.data.domain import load_domain, make_domain
from bench.data.splits import split_target
from bench.errors import RequestError
from bench.suite.load import load_suite
from bench.training.loop import accuracy, to_tensors

SUITE: dict[str, Any] = {
    "name": "kept",
    "model": {"name": "resnet8", "width": 4, "source_train": {"epochs": 3}},
    "data": [{"dataset": "digits", "shift": "noise"}],
    "train_size": [60],
    "methods": ["full", "fc", "tent", "lame", "t3a", {"cotta": {"views": 2}}, "auto-rgn", "lora", "none"],
    "seeds": [0],
    "train": {"epochs": 3, "batch_size": 16, "lr": 0.05, "threads": 1, "engine": "fast"},
    "energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0},
}


def jouletune(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from bench.cli import main; main()", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(bench.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    (folder / "s.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    done = jouletune(folder, "run", "s.yaml", "--out", "r", "--source", "none", "--keep-models")
    assert done.returncode == 0, done.stderr
    return folder / "r"


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines()]


def test_every_kept_model_has_the_accuracy_of_its_record(run: Path) -> None:
    suite = load_suite(str(run.parent / "s.yaml")).suite
    domain = load_domain(make_domain(suite.data[0], lambda *_: None))
    split = split_target(domain.target.y, n_train=60, fractions=(0.70, 0.15, 0.15), label="digits-noise", seed=0)
    test = to_tensors(domain.target.take(split.test), torch.device("cpu"))
    found = records(run)
    assert len(found) == len(SUITE["methods"])
    for record in found:
        assert record["model_file"].endswith(".safetensors")
        model = bench.load_model(run, record["cell_id"])
        assert not model.training
        assert accuracy(model, test) == record["accuracy_after"], record["arm"]
    assert len({record["model_sha256"] for record in found}) == len(found)
    assert len({record["accuracy_after"] for record in found}) > 2


def test_the_files_are_safetensors_that_verify_checks(run: Path) -> None:
    record = next(one for one in records(run) if one["arm"] == "full")
    path = run / "models" / record["model_file"]
    assert "fc.weight" in load_file(path)
    done = jouletune(run.parent, "verify", "r")
    assert f"models        {len(SUITE['methods'])} as they were" in done.stdout
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(RequestError, match="changed since the run wrote it"):
            bench.load_model(run, record["cell_id"])
        assert jouletune(run.parent, "verify", "r").returncode == 1
    finally:
        path.write_bytes(content)


def test_load_describes_and_saves(run: Path) -> None:
    cell = "digits-noise/n=60/lame/s=0"
    done = jouletune(run.parent, "load", "r", cell, "--out", "m.pt")
    assert done.returncode == 0, done.stderr
    assert "as lame left it" in done.stdout
    assert (run.parent / "m.pt").is_file()
    for arguments, message in (
        (["r", "digits-noise/n=60/fce/s=0"], "no such cell 'digits-noise/n=60/fce/s=0'; did you mean"),
        (["r", cell, "--repeat", "3"], "no such cell"),
        (["r", cell, "--out", "m.txt"], "expected the name of a .pt file"),
        (["none", cell], "not a run folder"),
    ):
        wrong = jouletune(run.parent, "load", *arguments)
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert len(wrong.stderr.strip().splitlines()) == 1


def test_a_stream_leaves_no_model(run: Path) -> None:
    suite = {key: value for key, value in SUITE.items() if key not in ("train_size", "methods")}
    (run.parent / "t.yaml").write_text(yaml.safe_dump(suite | {"work": "stream", "methods": ["none"]}))
    done = jouletune(run.parent, "run", "t.yaml", "--out", "t", "--source", "none", "--keep-models")
    assert done.returncode == 2
    assert "--keep-models: a stream goes on adapting and leaves no model" in done.stderr
    assert not (run.parent / "t").exists()
