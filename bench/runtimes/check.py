"""Check, before anything runs, that the runtimes that a suite names can run its model here."""

from __future__ import annotations

from pathlib import Path

from bench.errors import RequestError
from bench.models.build import build_model
from bench.runtimes.onnx_model import check_installed, to_onnx
from bench.suite.data_axis import image_shape
from bench.suite.suite import Suite
from bench.suite.work import Infer


def check_runtimes(suite: Suite, base: Path, device: str) -> None:
    """Export the model for each form of the suite's data, with fresh weights, where a cell runs in onnxruntime.

    Args:
        base: the suite's folder.
        device: of torch, where the arms adapt.

    Raises:
        RequestError: the extra is missing, the model cannot be exported, or the device is not the CPU.
    """
    wanted = {work.runtime for work in suite.work if isinstance(work, Infer)} - {"torch"}
    if not wanted:
        return
    check_installed()
    if not device.startswith("cpu"):
        raise RequestError(f"work.infer.runtime: {min(wanted)} runs on the CPU; --device {device} would be compared")
    for n_classes, channels, size in dict.fromkeys(map(image_shape, suite.data)):
        model = build_model(suite.model, n_classes=n_classes, in_channels=channels, image_size=size, base=base)
        to_onnx(model, (channels, size, size))
