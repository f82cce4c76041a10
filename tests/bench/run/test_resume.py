"""Whether a run goes on in its folder: with the same data, code and settings, and a suite that only gained cells."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import save_file

import hardware
from bench import cli
from bench.errors import RequestError
from bench.run.resume import add_fingerprints, continued
from bench.run.surroundings import make_manifest
from bench.store.manifest import Fingerprints, Manifest, Session
from bench.suite.load import LoadedSuite, load_suite

HERE = Path("results/trial")


@pytest.fixture
def load(valid: dict[str, Any], write_suite: Callable[..., Path]) -> Callable[..., LoadedSuite]:
    """Loads the valid suite with some root keys replaced."""

    def make(**changes: Any) -> LoadedSuite:
        return load_suite(str(write_suite(copy.deepcopy(valid) | changes)))

    return make


def manifest(loaded: LoadedSuite, device: str = "cpu") -> Manifest:
    return make_manifest(loaded, hardware.choose("simulated"), torch_device=device)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [0, 1, 2]},
        {"blocks": ["block1", ["block2", "block3"], "fc", "full", "block2"]},
        {"train_size": [0.1, 40, 0.2]},
        {"data": [{"dataset": "digits", "shift": name} for name in ("noise", "flip", "blur")]},
        {"energy": {"repeats": 3, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_added_is_run_alone(load: Callable[..., LoadedSuite], changes: dict[str, Any]) -> None:
    first = load()
    old = manifest(first)
    old.sessions.append(Session(started_at="2026-01-01T00:00:00+00:00"))
    before, text = old.suite, first.text
    grown = load(**changes)
    known = continued(old, manifest(grown), grown.suite, HERE)
    assert known.suite is not None
    assert yaml.safe_load(known.suite.text or "") == yaml.safe_load(grown.text)
    assert known.sessions[0].suite == before
    assert before is not None
    assert before.text == text
    same = continued(known, manifest(grown), grown.suite, HERE)
    assert same.sessions[0].suite == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": [0]}, "the suite lacks 16 cells of the run, e.g. digits-noise/n=0.1/block1/s=1"),
        ({"timeout_s": 60}, "the suite changed: timeout_s 3600.0 -> 60.0"),
        ({"train": {"epochs": 3, "batch_size": 32, "lr": 0.01}}, "the suite changed: train.epochs 2 -> 3"),
        ({"model": {"name": "resnet14"}, "seeds": [0, 1, 2]}, "the suite changed: model.name resnet8 -> resnet14"),
        (
            {"energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0}},
            "the suite changed: energy.repeats 2 -> 1",
        ),
        (
            {"data": [{"dataset": "digits", "shift": "noise", "severity": 2, "name": "digits-noise"},
                      {"dataset": "digits", "shift": "flip"}]},
            "the suite changed what digits-noise/n=0.1/block1/s=0 is",
        ),
    ],
)  # fmt: skip
def test_what_is_changed_or_taken_away_is_refused(
    load: Callable[..., LoadedSuite], changes: dict[str, Any], told: str
) -> None:
    old, new = manifest(load()), load(**changes)
    with pytest.raises(RequestError) as refused:
        continued(old, manifest(new), new.suite, HERE)
    assert told in str(refused.value)
    assert "--fresh" in str(refused.value)


def test_another_device_source_or_machine_is_refused(load: Callable[..., LoadedSuite]) -> None:
    loaded = load()
    new = manifest(loaded)
    assert new.device is not None
    assert new.source is not None
    other = new.model_copy(
        update={
            "torch_device": "cuda",
            "source": new.source.model_copy(update={"name": "rapl"}),
            "device": new.device.model_copy(update={"cpu_model": "A76"}),
        }
    )
    with pytest.raises(RequestError, match=r"device was cuda.*energy source was rapl, now simulated; machine was "):
        continued(other, new, loaded.suite, HERE)
    with pytest.raises(RequestError, match="not one of this version"):
        continued(Manifest(), new, loaded.suite, HERE)


def test_other_data_code_or_weights_are_refused_and_named() -> None:
    known = Manifest()
    first = Fingerprints(model_code="a", data={"digits-flip": "b"}, weights={"digits-flip": "c"})
    add_fingerprints(known, first, HERE)
    add_fingerprints(known, Fingerprints(model_code="a", data={"digits-noise": "d"}), HERE)
    assert known.fingerprints == first.model_copy(update={"data": {"digits-flip": "b", "digits-noise": "d"}})
    for other, told in (
        (Fingerprints(model_code="z"), "the code of the model changed"),
        (Fingerprints(model_code="a", data={"digits-flip": "z"}), "data of digits-flip changed"),
        (Fingerprints(model_code="a", weights={"digits-flip": "z"}), "source weights of digits-flip changed"),
    ):
        with pytest.raises(RequestError, match=told):
            add_fingerprints(known, other, HERE)


MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, n_classes)

    def forward(self, x):
        return self.fc(self.body(x).relu().mean((2, 3)))

def make(n_classes):
    return Net(n_classes)
"""

SUITE = """
name: own
model: {{name: "own_net:make", checkpoint: w.safetensors, blocks: {{body: [body], fc: [fc]}}}}
data: [{{dataset: folder, source: {images}, shift: flip}}]
train_size: [0.5]
blocks: [fc]
seeds: {seeds}
train: {{epochs: 1, batch_size: 8, threads: 1}}
energy: {{repeats: 1, min_window_s: 0, idle_s: 0, guard_s: 0, cooldown_s: 0}}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, a model of its own, weights, and a suite that names all three, started from beside it."""
    folder = tmp_path / "own"
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(20):
            add_image(folder, name, number, rng)
    (folder / "own_net.py").write_text(MODEL)
    write_weights(folder, 0.1)
    (folder / "own.yaml").write_text(SUITE.format(images="images", seeds=[0]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    return folder


def add_image(folder: Path, name: str, number: int, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")


def write_weights(folder: Path, value: float) -> None:
    shapes = {"body.weight": (4, 3, 3, 3), "body.bias": (4,), "fc.weight": (2, 4), "fc.bias": (2,)}
    save_file({name: np.full(shape, value, np.float32) for name, shape in shapes.items()}, folder / "w.safetensors")


def run(*options: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jouletune", "run", "own/own.yaml", "--source", "none", *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def test_a_whole_run_is_not_continued_with_other_data_code_or_weights(
    own: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    cells = Path("results/own/cells.jsonl")
    before = cells.read_bytes()
    suite = own / "own.yaml"
    suite.write_text(SUITE.format(images="images", seeds=[0, 1]))
    capfd.readouterr()

    def refused(told: str) -> None:
        for options in ((), ("--dry-run",)):
            assert run(*options) == 2
            out, err = capfd.readouterr()
            assert f"results/own holds another run ({told})" in err, err
            assert "--fresh" in err
            assert "#0" not in out
        assert cells.read_bytes() == before

    add_image(own, "a", 20, np.random.default_rng(1))
    refused("data of folder-flip changed")
    (own / "images" / "a" / "20.png").unlink()
    (own / "own_net.py").write_text(MODEL + "# another\n")
    refused("the code of the model changed")
    (own / "own_net.py").write_text(MODEL)
    write_weights(own, 0.2)
    refused("source weights of folder-flip changed")
    write_weights(own, 0.1)
    suite.write_text(SUITE.format(images="images", seeds=[0, 1]).replace("epochs: 1", "epochs: 2"))
    refused("the suite changed: train.epochs 1 -> 2")
    # as it was, an added seed is run alone; the folder of the suite is not the current one
    suite.write_text(SUITE.format(images="images", seeds=[0, 1]))
    assert run("--dry-run") == 0
    assert capfd.readouterr().out == "folder-flip/n=0.5/fc/s=1 #0\n"
    assert run() == 0
    assert [json.loads(line)["seed"] for line in cells.read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize("outside", [False, True], ids=["beside the suite", "elsewhere"])
def test_a_manifest_with_absolute_paths_is_continued_with_added_cells(own: Path, outside: bool) -> None:
    """Former versions wrote the paths of data as absolute ones, so that the digest of such a suite is another now."""
    images = own / "images"
    if outside:
        images = images.rename(own.parent / "images")
    suite = own / "own.yaml"
    suite.write_text(SUITE.format(images=images, seeds=[0]))
    loaded = load_suite("own/own.yaml")
    old = manifest(loaded)
    assert old.suite is not None
    assert old.suite.content is not None
    assert old.suite.content["data"][0]["source"] != str(images)
    for written in (str(images), old.suite.content["data"][0]["source"]):
        old.suite.content["data"][0]["source"] = written
        old.suite.sha256 = "that of a former version"
        suite.write_text(SUITE.format(images=images, seeds=[0, 1]))
        grown = load_suite("own/own.yaml")
        known = continued(old.model_copy(deep=True), manifest(grown), grown.suite, HERE, grown.base)
        assert known.seeds == [0, 1]
        suite.write_text(SUITE.format(images="other", seeds=[0, 1]))
        other = load_suite("own/own.yaml")
        with pytest.raises(RequestError, match=r"the suite changed what folder-flip/n=0.5/fc/s=0 is"):
            continued(old.model_copy(deep=True), manifest(other), other.suite, HERE, other.base)
