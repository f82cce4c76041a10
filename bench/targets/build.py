"""Build: make the firmware's net from a torch model: cut, quantised with calibration images, in 8-bit steps."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.errors import RequestError
from bench.models.checkpoint import fingerprint
from bench.runtimes.integer import to_net
from bench.runtimes.onnx_model import to_onnx
from bench.runtimes.quantise import to_int8
from bench.training.layers import linear_head
from hardware.firmware.arrays import write
from hardware.firmware.net import Net, NetError, Rounding

PIXELS = {"signed": (0.5, 0.5), "unit": (0.0, 1.0)}
"""Mean and deviation by which a byte / 255 becomes what a model is fed, see `bench.training.loop.to_tensors`."""

CALIBRATION_IMAGES = 256
BATCH = 16
"""onnxruntime's calibration takes batches of one size."""


class Extractor(nn.Module):
    """A model without its head: features of the part that ends at `cut`, and of the whole.

    Args:
        cut: path of the module that ends the part; None: the whole alone.

    Raises:
        RequestError: the model does not end in a linear layer, or has no such module.
    """

    def __init__(self, model: nn.Module, cut: str | None) -> None:
        super().__init__()
        self.net = copy.deepcopy(model)
        head = linear_head(self.net)
        if head is None:
            raise RequestError("firmware: the model does not end in a linear layer with a bias, which the board trains")
        path = next(name for name, module in self.net.named_modules() if module is head)
        parent, _, name = path.rpartition(".")
        setattr(self.net.get_submodule(parent), name, nn.Identity())
        self._seen: Tensor | None = None
        self.cut = cut
        if cut is not None:
            try:
                module = self.net.get_submodule(cut)
            except AttributeError:
                raise RequestError(f"--cut {cut}: the model has no such module, e.g. layer1") from None
            module.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._seen = output

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images [N, C, H, W] -> features of the whole, or of part and whole, [N, features] each."""
        full: Tensor = self.net(x)
        if self.cut is None:
            return full
        assert self._seen is not None
        return (self._seen.mean((2, 3)) if self._seen.dim() == 4 else self._seen), full


def extractor_sha256(model: nn.Module) -> str:
    """Hash of a model's tensors without those of its head, which the board trains itself."""
    head = linear_head(model)
    mine = {id(one) for one in head.parameters()} if head is not None else set()
    digest = hashlib.sha256()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if id(value) not in mine:
            digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
            digest.update(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def make_net(
    model: nn.Module, images: npt.NDArray[np.uint8], *, pixels: str, cut: str | None, head: bool, rounding: Rounding
) -> Net:
    """Quantise a model.

    Args:
        images: [N, H, W, C], to take ranges from.
        pixels: `signed` or `unit`.
        cut: as of `Extractor`; with a head only.
        head: whether the board trains heads on features; else the model's own logits answer.

    Raises:
        RequestError: it cannot be quantised, or holds what the firmware does not have.
    """
    images = images[: min(CALIBRATION_IMAGES, len(images)) // BATCH * BATCH or None]
    shape = (images.shape[3], *images.shape[1:3])
    mean, deviation = PIXELS[pixels]
    x = torch.from_numpy(((images / 255.0 - mean) / deviation).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    net = Extractor(model, cut) if head else model
    names = ["part", "full"] if head and cut is not None else ["full" if head else "logits"]
    content = to_int8(to_onnx(net, shape, names), x)
    return to_net(
        content, shape, ([mean] * shape[0], [deviation] * shape[0]), output=names[-1],
        part="part" if "part" in names else None, head=head, rounding=rounding, images=images if head else None,
    )  # fmt: skip


def write_firmware(
    model: nn.Module, net: Net, folder: Path, *, slots: int, classes: int, board: str, name: str
) -> dict[str, Any]:
    """Write the folder that builds the firmware; returns its manifest.

    Raises:
        RequestError: the net does not fit the board, or the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "net_data.h").exists():
        raise RequestError(f"{folder}: not empty and no firmware of jouletune; choose another --out")
    sha256 = extractor_sha256(model) if net.head else fingerprint(model)
    try:
        return write(net, folder, slots=slots, classes=classes, board=board, model=name, weights_sha256=sha256)
    except NetError as error:
        raise RequestError(f"firmware: {error}") from None
    except OSError as error:
        raise RequestError(f"{folder}: cannot write ({error.strerror}); choose another --out") from None
