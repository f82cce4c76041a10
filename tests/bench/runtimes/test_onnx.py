"""Onnxruntime in float and in int8: parity with torch, the arithmetic of quantisation, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

pytest.importorskip("onnxruntime", reason="the extra `ort` is not installed")

from bench.errors import RequestError
from bench.models.resnet import ResNet
from bench.runtimes.onnx_model import OnnxModel, to_onnx, weight_bytes
from bench.runtimes.parity import parity
from bench.runtimes.quantise import to_int8
from bench.suite.suite import Suite

SHAPE = (3, 16, 16)
SUITE: dict[str, Any] = {
    "name": "small",
    "model": {"name": "resnet8", "source_train": {"epochs": 3}},
    "data": [{"dataset": "digits", "shift": "noise"}],
    "train_size": [300],
    "blocks": ["full"],
    "seeds": [0],
    "train": {"epochs": 3, "batch_size": 32, "lr": 0.01, "threads": 1},
    "energy": {"repeats": 1, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0},
}


def model() -> nn.Module:
    torch.manual_seed(0)
    made = ResNet(1, n_classes=5, image_size=16)
    made.train()
    for _ in range(3):  # running statistics that are not those of a fresh BatchNorm
        made(torch.randn(32, *SHAPE))
    return made


def run(folder: Path, **changes: Any) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Run the suite; gives the process and its records."""
    (folder / "s.yaml").write_text(yaml.safe_dump(SUITE | changes, sort_keys=False))
    command = [sys.executable, "-m", "bench.cli", "run", "s.yaml", "--out", "r", "--source", "none"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )  # fmt: skip
    cells = folder / "r" / "cells.jsonl"
    return done, [json.loads(line) for line in cells.read_text().splitlines()] if cells.exists() else []


def test_an_export_gives_the_same_logits_for_any_batch_and_leaves_the_model_alone() -> None:
    net = model().train()
    exported = OnnxModel(to_onnx(net, SHAPE), threads=1)
    assert net.training
    images = torch.randn(70, *SHAPE)
    near = parity(net.eval(), exported, images)
    assert (near.images, near.agreement) == (70, 1.0)
    assert near.max_difference < 1e-4 * near.largest_logit
    with torch.no_grad():
        assert torch.allclose(exported(images[:1]), net(images[:1]), atol=1e-5)


def test_a_module_with_two_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            out = self.net(x)
            return out, out.mean((2, 3))

    net, x = Two().eval(), torch.randn(3, *SHAPE)
    ours, theirs = net(x), OnnxModel(to_onnx(net, SHAPE, ("map", "mean")))(x)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_int8_has_scale_and_zero_point_everywhere_and_a_quarter_of_the_bytes() -> None:
    """q = round(x / s) + z: each weight comes back within half a step of its channel's scale."""
    import onnx
    from onnx.numpy_helper import to_array

    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 50)).eval()
    content = to_onnx(net, SHAPE)
    made = to_int8(content, torch.randn(64, *SHAPE))
    graph = onnx.load_from_string(made).graph
    constants = {one.name: to_array(one) for one in graph.initializer}
    weights = [node.input for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    by_shape = {constants[name].shape: (name, scale, zero) for name, scale, zero in weights}
    for layer in (net[0], net[4]):
        weight = layer.weight.detach().numpy()
        transposed = weight.shape not in by_shape
        name, scale, zero = by_shape[weight.T.shape if transposed else weight.shape]
        q, s, z = constants[name], constants[scale], constants[zero]
        assert q.dtype == np.int8
        assert not z.any()
        assert len(s) == layer.weight.shape[0]  # a scale per output channel
        real = (q.T if transposed else q).astype(np.float64) * s.reshape(-1, *[1] * (weight.ndim - 1))
        assert (np.abs(real - weight) <= 0.5001 * s.reshape(-1, *[1] * (weight.ndim - 1))).all()
    quantised = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert "x" in quantised  # the images too: a cast of floats to int8 would leave zeros
    assert weight_bytes(made) < 0.4 * weight_bytes(content)  # of a net this small, biases and scales show


def test_ranges_come_from_the_calibration_images() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    images = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    content = to_onnx(net, SHAPE)
    fitting, too_small = (OnnxModel(to_int8(content, scale * images)) for scale in (1.0, 0.05))
    assert parity(net, fitting, images).max_difference < 0.1 * parity(net, too_small, images).max_difference


@pytest.mark.parametrize("n", [1, 17, 200])
def test_any_number_of_calibration_images_will_do(n: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)).eval()
    assert OnnxModel(to_int8(to_onnx(net, SHAPE), torch.randn(n, *SHAPE)))(torch.zeros(1, *SHAPE)).shape == (1, 4)


def test_without_calibration_images_nothing_is_quantised() -> None:
    with pytest.raises(RequestError, match="no calibration images"):
        to_int8(to_onnx(model(), SHAPE), torch.zeros(0, *SHAPE))


def test_what_cannot_be_exported_is_one_line() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x.flatten(1) @ x.flatten(1).T).real

    net = Odd()
    net.register_buffer("none", torch.zeros(1))
    with pytest.raises(RequestError, match="cannot be exported") as caught:
        to_onnx(net, SHAPE)
    assert "\n" not in str(caught.value)


def test_hashes_of_suites_that_infer_in_torch_stay(make_suite: Callable[..., Suite]) -> None:
    """So that a run of an older version can be continued."""
    suite = make_suite(name="x", title=None, train=None, energy=None, train_size=[40], blocks=["fc"], seeds=[0],
                       data=[{"dataset": "digits", "shift": "flip"}],
                       work={"infer": {"batch": [1, 64], "images": 100}})  # fmt: skip
    assert suite.digest() == "d0cccc77e77160deec16894b6b5cb6bc085ac9a74822c2568c60ca57eaf83c96"
    runtimes = make_suite(work={"infer": {"runtime": ["torch", "onnx-int8"]}})
    assert Suite.of_content(runtimes.content()).digest() == runtimes.digest()
    assert {cell.work_label for cell in runtimes.cells()} == {"infer", "infer(runtime=onnx-int8)"}


def test_a_run_in_each_runtime(tmp_path: Path) -> None:
    work = {"infer": {"images": 50, "batch": 1, "runtime": ["torch", "onnx", "onnx-int8"]}}
    done, records = run(tmp_path, work=work)
    assert done.returncode == 0, done.stderr
    found = {record["work"].rpartition("runtime=")[2].rstrip(")"): record for record in records}
    plain, onnx, int8 = found["infer(batch=1,images=50"], found["onnx"], found["onnx-int8"]
    assert plain["runtime"] is None
    assert onnx["accuracy_after"] == plain["accuracy_after"]
    assert onnx["runtime"]["agreement"] == 1
    assert onnx["runtime"]["max_difference"] < 1e-4
    assert int8["runtime"]["agreement"] >= 0.98
    assert int8["runtime"]["calibration_images"] == 256
    assert int8["runtime"]["bytes"] < 0.3 * int8["runtime"]["float_bytes"]
    assert abs(int8["accuracy_after"] - plain["accuracy_after"]) < 0.05


def test_too_little_agreement_fails_unless_told_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"images": 135, "runtime": "onnx-int8", "int8_images": 1, "min_agreement": [1.0, None]}
    done, records = run(tmp_path, train_size=[20], train={"epochs": 1, "threads": 1}, work={"infer": options})
    strict, lenient = (
        next(record for record in records if ("agreement=null" in record["work"]) is wanted) for wanted in (False, True)
    )
    assert lenient["status"] == "ok"
    if lenient["runtime"]["agreement"] == 1:
        pytest.skip("int8 happened to agree on all images")
    assert done.returncode == 1
    assert strict["status"] == "failed"
    assert "min_agreement" in strict["error"]
    assert strict["energy_gross_j"] is None


def test_an_export_that_fails_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n_classes):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(64, n_classes)\n"
        "    def forward(self, x):\n"
        "        return self.fc(torch.fft.fft(x.flatten(1)).real)\n"
        "def make(n_classes):\n    return Net(n_classes)\n"
    )
    model = {"name": "mine:make", "blocks": {"fc": ["fc"]}}
    done, records = run(tmp_path, model=model, work={"infer": {"runtime": "onnx"}})
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "cannot be exported" in done.stderr
    assert not records
    assert not (tmp_path / "r").exists()
