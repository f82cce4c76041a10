"""Quantise a net in ONNX to int8, statically, with ranges from calibration inputs. Needs the extra `ort`.

Quantised value q of a real value x: q = clamp(round(x / s) + z, -128, 127), with a scale s and a zero point z of each
tensor; weights have z = 0 and a scale per output channel (Jacob et al. 2018, arXiv 1712.05877; onnxruntime's QDQ form:
QuantizeLinear and DequantizeLinear around each operation).
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from bench.errors import RequestError
from bench.runtimes.onnx_model import INPUT, check_installed

PERCENTILE = 99.99
"""Share of an activation's values within its range, in percent. The rest is clamped: a single value far out would
else cost all others their resolution. On the released ResNet-26 argmax agrees on 98.2 % of 2,000 images of CIFAR-10
(JPEG) with it, 97.7 % with the whole range, 96.2 % with 99.9."""

METHOD = f"percentile {PERCENTILE:g}"

CALIBRATION_BATCH = 16
"""Inputs that run through the net at once, at most, while ranges are taken."""


def to_int8(content: bytes, inputs: Tensor) -> bytes:
    """Quantise weights and activations to int8.

    Args:
        content: a net in float32, from `to_onnx`.
        inputs: [N, ...] as the net will get them; the range of each activation holds `PERCENTILE` of its values.

    Raises:
        RequestError: there are no inputs, onnxruntime cannot quantise this net, or the extra is missing.
    """
    check_installed()
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not len(inputs):
        raise RequestError("runtime onnx-int8: there are no calibration images to take ranges from")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, made = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        try:
            # folds BatchNorm and constants, so that fewer values are rounded
            quant_pre_process(onnx.load_from_string(content), prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared, made, _reader(inputs), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile, extra_options={"CalibPercentile": PERCENTILE},
            )  # fmt: skip
        except Exception as error:  # onnxruntime raises whatever comes up on its way
            reason = " ".join(str(error).split())[:160]
            raise RequestError(f"runtime onnx-int8: cannot be quantised ({type(error).__name__}: {reason})") from None
        return made.read_bytes()


def _reader(inputs: Tensor) -> object:
    """Feeds the inputs to onnxruntime's calibration, a batch at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not typed
        def __init__(self) -> None:
            # onnxruntime stacks what it collects, so all batches must be of one size
            size = next(n for n in range(min(CALIBRATION_BATCH, len(inputs)), 0, -1) if len(inputs) % n == 0)
            self._batches = iter(inputs.split(size))

        def get_next(self) -> dict[str, object] | None:
            """The next batch by the name of the input; None after the last."""
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch.detach().cpu().contiguous().numpy()}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's account of its steps, and its advice to pre-process, which was followed, from the log."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
