"""Noise in a block of the model, images of noise, and selection by a part of a name: the suites motivation and
system-cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.analysis import from_records
from bench.data.domain import load_domain, make_domain
from bench.errors import RequestError
from bench.models.block_noise import make_noised_model
from bench.models.blocks import block_parameters, check_blocks, train_only
from bench.models.build import build_model
from bench.models.checkpoint import read_state
from bench.models.resnet import ResNet
from bench.suite.data_axis import DataSpec
from bench.suite.load import load_suite
from bench.suite.suite import Suite
from bench.training.loop import accuracy, fine_tune, to_tensors

SUITE = """
name: trial
model: {name: resnet8, width: 4}
data: [{dataset: digits, shift: block_noise, noised_block: [block1, block2, fc], noised_accuracy: 0.3}]
train_size: [0.4]
blocks: [tbft, block3]
seeds: [0]
train: {epochs: 8, batch_size: 32, lr: 0.05, bn_mode: train}
"""


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "trial.yaml").write_text(SUITE)
    return load_suite(str(tmp_path / "trial.yaml")).suite


def test_level_and_target_follow_from_the_noised_block(suite: Suite) -> None:
    points = {data.label: (data.level, data.target_block) for data in suite.data}
    assert points == {
        "digits-noise-in-block1": ("input", "block1"),
        "digits-noise-in-block2": ("feature", "block2"),
        "digits-noise-in-fc": ("output", "fc"),
    }
    tuned = {(cell.data.label, cell.blocks_label) for cell in suite.cells()}
    assert ("digits-noise-in-block2", "block2") in tuned
    assert len(tuned) == 6


def test_all_noised_blocks_share_their_images(suite: Suite) -> None:
    folders = {make_domain(data, quiet) for data in suite.data}
    assert len(folders) == 1
    domain = load_domain(folders.pop())
    assert len(domain.target.y) == 899


def test_noise_of_the_size_that_leaves_the_wanted_accuracy(suite: Suite, tmp_path: Path) -> None:
    domain = load_domain(make_domain(suite.data[0], quiet))
    torch.manual_seed(0)
    model = build_model(suite.model, n_classes=10, in_channels=1, image_size=8, base=tmp_path)
    source = to_tensors(domain.source, torch.device("cpu"))
    fine_tune(model, list(model.parameters()), source, source, suite.train, seed=0)
    clean = {name: value.clone() for name, value in model.state_dict().items()}
    for data in suite.data:
        model.load_state_dict(clean)
        path, facts = make_noised_model(model, suite, data, domain, weights_sha256="source", on_step=quiet)
        noised = read_state(path)
        changed = {name for name in clean if not torch.equal(clean[name], noised[name])}
        model.load_state_dict(noised)
        assert changed  # parameters of the block and nothing else: no statistics, no other block
        block = {id(parameter) for parameter in block_parameters(model, suite.block_map, str(data.noised_block))}
        assert changed == {name for name, parameter in model.named_parameters() if id(parameter) in block}
        assert accuracy(model, source) == pytest.approx(0.3, abs=0.03)
        assert facts["accuracy_noised"] == pytest.approx(0.3, abs=0.03)
        assert facts["accuracy_clean"] > 0.8
        drawn = torch.cat([(noised[name] - clean[name]).flatten() for name in sorted(changed)])
        assert float(drawn.std()) == pytest.approx(facts["sigma"], rel=0.25)
        # found once: with the weights at hand the model is not even looked at
        again = make_noised_model(torch.nn.Identity(), suite, data, domain, weights_sha256="source", on_step=quiet)
        assert again == (path, facts)


def test_noise_cannot_leave_more_than_there_is(suite: Suite, tmp_path: Path) -> None:
    domain = load_domain(make_domain(suite.data[0], quiet))
    model = build_model(suite.model, n_classes=10, in_channels=1, image_size=8, base=tmp_path)  # knows nothing
    with pytest.raises(RequestError, match=r"without noise; none can leave it 0\.300"):
        make_noised_model(model, suite, suite.data[0], domain, weights_sha256="w", on_step=quiet)


def test_a_record_names_the_target_itself() -> None:
    common = {"cell_id": "c", "repeat": 0, "status": "ok", "data": "d", "train_size": 0.1, "blocks": "fc", "seed": 0,
              "method": "fixed", "level": "feature"}  # fmt: skip
    records = from_records([common | {"target_block": "block2"}, common | {"data": "e"}]).records
    assert list(records["target"]) == ["block2", "block3"]  # without one, the level's


def test_selection_by_a_part_of_a_name_is_that_of_the_released_script() -> None:
    published = load_suite("system-cost-published").suite
    model = ResNet(4, n_classes=10)
    check_blocks(model, published.block_map)  # though its blocks overlap
    sizes = {block: sum(p.numel() for p in block_parameters(model, published.block_map, block)) for block in
             published.block_map}  # fmt: skip
    assert sizes == {"block1": 180_400, "block2": 69_600, "block3": 277_440, "fc": 650}
    train_only(model, published.block_map, ("block1",))
    assert model.get_submodule("layer3.2.conv1").weight.requires_grad
    assert not model.get_submodule("layer3.2.bn1").weight.requires_grad
    with pytest.raises(RequestError, match="has no parameters to tune"):
        check_blocks(model, {"a": ("*conv7*",)})


def test_random_images(suite: Suite) -> None:
    wide = {data.label: data for data in load_suite("system-cost").suite.data}["random-128px"]
    small = DataSpec(dataset="random", shift="none", level="", label="r", image_size=16, classes=3)
    domain = load_domain(make_domain(small, quiet))
    assert domain.target.x.shape == (1000, 16, 16, 3)
    assert set(domain.target.y) == {0, 1, 2}
    assert domain.source.classes == ("0", "1", "2")
    assert abs(float(domain.target.x.mean()) - 127.5) < 1
    assert (wide.classes, wide.image_size, wide.target_block) == (17, 128, None)


def test_a_run_on_random_images_has_costs_and_no_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from bench.run.runner import RunOptions, run_suite

    monkeypatch.setenv("JOULETUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "s.yaml").write_text(
        "name: s\nmodel: {name: resnet8, width: 4, source_train: {epochs: 1}}\n"
        "data: [{dataset: random, image_size: 8, classes: 3}]\ntrain_size: [4]\nblocks: [fc, full]\nseeds: [0]\n"
        "split: {pool: 0.998, val: 0.001, test: 0.001}\ntrain: {epochs: 1, batch_size: 1, patience: null, threads: 1}\n"
        "energy: {repeats: 1, min_window_s: 0, idle_s: 0, guard_s: 0, cooldown_s: 0}\n"
    )
    options = RunOptions(out=tmp_path / "run", source="none")
    assert run_suite(load_suite(str(tmp_path / "s.yaml")), options, Console(quiet=True)).failed == 0
    rows = {row["blocks"]: row for row in map(json.loads, (tmp_path / "run/cells.jsonl").read_text().splitlines())}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert rows["fc"]["accuracy_after"] is rows["fc"]["best_epoch"] is rows["fc"]["target_block"] is None
    assert (rows["fc"]["steps"], rows["fc"]["n_val"]) == (4, 1)
    forward = rows["full"]["forward_macs"]
    assert rows["fc"]["step_macs"] == forward + 16 * 3
    assert rows["fc"]["train_macs"] == 4 * (forward + 16 * 3) + forward
    assert rows["full"]["step_macs"] == 3 * forward - 9 * 3 * 4 * 64
