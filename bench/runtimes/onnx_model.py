"""OnnxModel: a torch module exported to ONNX and run by onnxruntime on the CPU. Needs the extra `ort`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import RequestError

OPSET = 17
INPUT = "x"
EXTRA = "needs onnx and onnxruntime; pip install 'jouletune[ort]'"


def check_installed() -> None:
    """Check that the extra `ort` is there.

    Raises:
        RequestError: it is not.
    """
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        raise RequestError(f"runtime onnx {EXTRA}")


def to_onnx(model: nn.Module, shape: Sequence[int], outputs: Sequence[str] = ("logits",)) -> bytes:
    """Export a module, in evaluation mode, for batches of any size. The module is left as it was.

    Args:
        model: a tensor [N, *shape] -> a tensor for each of `outputs`, on any device.
        shape: of one input, e.g. [C, H, W].

    Raises:
        RequestError: the exporter does not know an operation, or the extra is missing.
    """
    check_installed()
    modes = {module: module.training for module in model.modules()}
    example = torch.zeros(2, *shape, device=next(iter(model.state_dict().values())).device)
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            file = Path(folder) / "model.onnx"
            torch.onnx.export(
                model.eval(), (example,), file, dynamo=False, opset_version=OPSET, input_names=[INPUT],
                output_names=[*outputs], dynamic_axes={name: {0: "n"} for name in (INPUT, *outputs)},
            )  # fmt: skip
            return file.read_bytes()
    except Exception as error:  # whatever the exporter makes of a user's own module
        raise RequestError(f"runtime onnx: the model cannot be exported ({_in_one_line(error)})") from None
    finally:
        for module, training in modes.items():
            module.training = training


def weight_bytes(content: bytes) -> int:
    """Bytes of the constants of a net in ONNX: weights, with scales and zero points, and without the graph's texts."""
    import onnx

    graph = onnx.load_from_string(content).graph
    return sum(onnx.numpy_helper.to_array(constant).nbytes for constant in graph.initializer)


class OnnxModel(nn.Module):
    """A net in ONNX. It is a torch module, so that whatever takes a model takes it; it has no parameters.

    Args:
        content: what `to_onnx` or `to_int8` returned.
        threads: of onnxruntime; None: as many as torch has.

    Attributes:
        content: as given.
    """

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        import onnxruntime

        super().__init__()
        self.content = content
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # threads that wait in a loop between two images would burn joules that torch's do not
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own per kind of failure
            raise RequestError(f"runtime onnx: onnxruntime does not run it ({_in_one_line(error)})") from None
        self._outputs = [output.name for output in self._session.get_outputs()]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """[N, ...] -> the output, or a tuple of them, on the CPU."""
        found = self._session.run(self._outputs, {INPUT: x.detach().cpu().contiguous().numpy()})
        tensors = tuple(map(torch.from_numpy, found))
        return tensors[0] if len(tensors) == 1 else tensors


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks, some of which go out several times an operation, from the log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
