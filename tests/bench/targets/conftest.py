"""Small quantised nets, and the firmware of one on an emulated board."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from bench.runtimes.integer import to_net
from bench.runtimes.onnx_model import OnnxModel, to_onnx
from bench.runtimes.quantise import to_int8
from hardware.firmware.arrays import write
from hardware.firmware.board import JouletuneDut
from hardware.firmware.net import Net
from hardware.instruments.emulated import EmulatedBoard, build, missing
from hardware.meters.link import SerialLink

Images = npt.NDArray[np.uint8]


def _layer(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())


class Small(nn.Module):
    """Convolution, an inverted residual block, another with stride; logits, or features of both parts."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = _layer(channels, 8, 3, 2 if channels == 3 else 1)
        narrow = (nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8))
        self.block = nn.Sequential(_layer(8, 24, 1), _layer(24, 24, 3, groups=24), *narrow)
        self.rest = nn.Sequential(_layer(8, 32, 1), _layer(32, 32, 3, 2, groups=32), nn.MaxPool2d(2), _layer(32, 24, 1))
        self.fc = nn.Linear(24, classes)
        self.features = False

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        x = x + self.block(x)
        full = self.rest(x).mean((2, 3))
        return (x.mean((2, 3)), full) if self.features else self.fc(full)


def as_inputs(images: Images) -> torch.Tensor:
    return torch.from_numpy(((images / 255 - 0.5) / 0.5).astype(np.float32)).permute(0, 3, 1, 2)


def quantised(model: Small, images: Images, rounding: str = "onnxruntime") -> tuple[Net, OnnxModel]:
    """The net in integers, and onnxruntime's."""
    shape = (images.shape[3], *images.shape[1:3])
    names = ("part", "full") if model.features else ("logits",)
    content = to_int8(to_onnx(model, shape, names), as_inputs(images[:64]))
    pixels = ([0.5] * shape[0], [0.5] * shape[0])
    ends = {"output": "full", "part": "part", "head": True, "images": images[:64]} if model.features else {}
    return to_net(content, shape, pixels, rounding=rounding, **ends), OnnxModel(content)  # type: ignore[arg-type]


def trained(images: Images, labels: npt.NDArray[np.int64], epochs: int) -> Small:
    torch.manual_seed(0)
    model = Small(images.shape[3], int(labels.max()) + 1)
    x, y = as_inputs(images), torch.from_numpy(labels)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            adam.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            adam.step()
    return model.eval()


@pytest.fixture(scope="session")
def digits() -> tuple[Images, npt.NDArray[np.int64]]:
    """1,797 images [8, 8, 1] as bytes, and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.clip(data.images[..., None] * 16, 0, 255).astype(np.uint8), data.target.astype(np.int64)


@pytest.fixture(scope="session")
def digits_model(digits: tuple[Images, npt.NDArray[np.int64]]) -> Small:
    return trained(digits[0][:900], digits[1][:900], 8)


Emulate = Callable[..., AbstractContextManager[JouletuneDut]]


@pytest.fixture
def emulate(tmp_path: Path) -> Emulate:
    """Build a net's firmware and run it under QEMU; gives the host's side of it."""
    if lacks := missing():
        pytest.skip(lacks)

    @contextmanager
    def start(net: Net, *, slots: int = 0, classes: int = 10, board: str = "mps2-an500") -> Iterator[JouletuneDut]:
        folder = tmp_path / f"firmware-{len(list(tmp_path.iterdir()))}"
        write(net, folder, slots=slots, classes=classes, board=board, model="small", weights_sha256="0" * 64)
        with EmulatedBoard(build(folder, board), board, folder / "port"):
            link = SerialLink(str(folder / "port"), 115200)
            try:
                dut = JouletuneDut(link)
                dut.connect()
                yield dut
            finally:
                link.close()

    return start


@pytest.fixture(scope="session")
def pets() -> Images:
    """64 photographs of pets, [32, 32, 3]; skipped where there are none."""
    import io
    import os
    import tarfile

    from PIL import Image

    file = Path(os.environ.get("JOULETUNE_DATA", "/nowhere")) / "images" / "pets3_128.tar.gz"
    if not file.exists():
        pytest.skip("no pets3 in JOULETUNE_DATA")
    found: list[Images] = []
    with tarfile.open(file) as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                held = archive.extractfile(member)
                assert held is not None
                found.append(np.asarray(Image.open(io.BytesIO(held.read())).convert("RGB").resize((32, 32)), np.uint8))
            if len(found) == 64:
                break
    return np.stack(found)
