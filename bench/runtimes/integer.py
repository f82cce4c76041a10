"""Integer: read a net that onnxruntime quantised (QDQ form) as the 8-bit steps that the firmware runs.

Each operation between DequantizeLinear and QuantizeLinear becomes one step. BatchNormalization that could not be folded
into a convolution becomes a factor and an addend for each channel, in floats. Needs the extra `ort`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import RequestError
from bench.runtimes.onnx_model import INPUT, check_installed
from hardware.firmware.net import Kind, Net, NetError, Op, Rounding, Tensor

Array = npt.NDArray[Any]

PASSED = {"Flatten", "Reshape", "Squeeze", "Identity", "Dropout"}
"""Operations that change no value and, after pooling, no order."""


def to_net(
    content: bytes,
    shape: Sequence[int],
    pixels: tuple[Sequence[float], Sequence[float]],
    *,
    output: str = "logits",
    part: str | None = None,
    head: bool = False,
    rounding: Rounding = "onnxruntime",
    images: npt.NDArray[np.uint8] | None = None,
) -> Net:
    """Read a quantised net.

    Args:
        content: from `bench.runtimes.quantise.to_int8`.
        shape: of an image, [C, H, W].
        pixels: mean and standard deviation of each channel, by which an image in 0 to 1 was normalised.
        output, part: names of the graph's outputs that are kept: logits or features, and those of the first part.
        head: whether `output` are features.
        images: [N, H, W, C], from which features that the graph leaves in floats get their range; without any they have
            that of the map that they are the mean of.

    Raises:
        RequestError: it holds an operation that the firmware does not have, or the extra is missing.
    """
    check_installed()
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    try:
        net = _Reader(model.graph, shape).net(pixels, output=output, part=part, head=head, rounding=rounding)
        return net if images is None else _ranged(net, images)
    except NetError as error:
        raise RequestError(f"firmware: {error}") from None


class _Reader:
    """One graph on its way to steps; tensors of ours are [H, W, C], those of the graph [N, C, H, W] or [N, C]."""

    def __init__(self, graph: Any, shape: Sequence[int]) -> None:
        from onnx import numpy_helper

        self.constants: dict[str, Array] = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.nodes = list(graph.node)
        self.made = {name: node for node in self.nodes for name in node.output}
        self.users: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.tensors: dict[str, Tensor] = {}
        self.known: dict[str, str] = {}  # a value of the graph -> the tensor of ours that holds it
        self.ops: list[Op] = []
        self.shape = shape

    def net(
        self,
        pixels: tuple[Sequence[float], Sequence[float]],
        *,
        output: str,
        part: str | None,
        head: bool,
        rounding: Rounding,
    ) -> Net:
        channels, height, width = self.shape
        scale, zero = self._scale(INPUT)
        self.tensors[INPUT] = Tensor(height, width, channels, scale, zero)
        self.known[INPUT] = INPUT
        for node in self.nodes:
            self._read(node)
        names = {name: self._tensor(name) for name in (output, part) if name}
        ops = _in_order(self.ops, [names[name] for name in (part, output) if name])
        kept = {INPUT, *(op.output for op in ops)}
        mean, deviation = (np.asarray(list(one), np.float64) for one in pixels)
        levels = (np.arange(256) / 255.0 - mean[:, None]) / deviation[:, None]
        table = np.clip(np.rint(levels.astype(np.float32) / np.float32(scale)) + zero, -128, 127).astype(np.int8)
        return Net(
            tensors={name: tensor for name, tensor in self.tensors.items() if name in kept},
            ops=tuple(ops),
            input=INPUT,
            output=names[output],
            part=names[part] if part else None,
            table=table,
            head=head,
            rounding=rounding,
        )

    def _read(self, node: Any) -> None:
        kind = node.op_type
        if kind == "DequantizeLinear":
            if node.input[0] in self.constants:
                values, scale = (self._constant(name) for name in node.input[:2])
                self.constants[node.output[0]] = self._real(node, values, scale)
            else:
                self.known[node.output[0]] = self._tensor(node.input[0])
        elif kind == "QuantizeLinear":
            self.known[node.output[0]] = self._tensor(node.input[0])
        elif kind in PASSED:
            self._pass(node)
        elif kind in ("Constant", "Shape", "Gather", "Unsqueeze", "Concat") and node.input[:1] != [INPUT]:
            if kind == "Constant":
                self._note_constant(node)
        elif kind in ("Relu", "Clip"):
            self._activation(node)
        else:
            reader = getattr(self, f"_{kind.lower()}", None)
            if reader is None:
                raise NetError(f"operation {kind} of {node.output[0]}: the firmware has none")
            reader(node)

    def _conv(self, node: Any) -> None:
        weight = self._constant(node.input[1])
        attributes = _attributes(node)
        if (
            any(one != 1 for one in attributes.get("dilations", []))
            or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
        ):
            raise NetError(f"convolution {node.output[0]}: dilated, or with automatic padding")
        source = self.tensors[self._tensor(node.input[0])]
        group = attributes.get("group", 1)
        depthwise = group == source.channels == len(weight) and group > 1
        if group != 1 and not depthwise:
            raise NetError(f"convolution {node.output[0]}: {group} groups; the firmware has 1, or one for each channel")
        integers, scales = self._weights(node.input[1], len(weight))
        kernel = weight.shape[2:]
        stride, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0, 0, 0, 0])
        sizes = [
            (size + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1
            for i, size in enumerate((source.height, source.width))
        ]
        ordered = integers[:, 0].transpose(1, 2, 0) if depthwise else integers.transpose(0, 2, 3, 1)
        self._emit(
            node, "depthwise" if depthwise else "conv", (*sizes, len(weight)), inputs=node.input[:1],
            weight=np.ascontiguousarray(ordered),
            weight_scale=scales, bias=self._bias(node, source.scale * scales), kernel=tuple(kernel),
            stride=tuple(stride), pad=(pads[0], pads[1]),
        )  # fmt: skip

    def _gemm(self, node: Any) -> None:
        attributes = _attributes(node)
        transposed = bool(attributes.get("transB", 0))
        if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
            raise NetError(f"linear layer {node.output[0]}: with factors of its own")
        self._linear(node, transposed)

    def _matmul(self, node: Any) -> None:
        self._linear(node, transposed=False)

    def _linear(self, node: Any, transposed: bool) -> None:
        source = self.tensors[self._tensor(node.input[0])]
        shape = self._constant(node.input[1]).shape
        integers, scales = self._weights(node.input[1], shape[0] if transposed else shape[1])
        integers = integers if transposed else integers.T
        # a linear layer reads a flattened map channel by channel, and ours lies place by place
        ordered = integers.reshape(len(integers), source.channels, source.height, source.width).transpose(0, 2, 3, 1)
        self._emit(
            node, "conv", (1, 1, len(ordered)), inputs=node.input[:1], weight=np.ascontiguousarray(ordered),
            weight_scale=scales, bias=self._bias(node, source.scale * scales), kernel=(source.height, source.width),
        )  # fmt: skip

    def _add(self, node: Any) -> None:
        constant = next((name for name in node.input if name in self.constants), None)
        if constant is not None:
            raise NetError(f"addition {node.output[0]} of a constant: the firmware adds two tensors")
        shape = self.tensors[self._tensor(node.input[0])]
        if shape.size != self.tensors[self._tensor(node.input[1])].size:
            raise NetError(f"addition {node.output[0]}: of tensors of two shapes")
        self._emit(node, "add", (shape.height, shape.width, shape.channels), inputs=node.input[:2])

    def _averagepool(self, node: Any) -> None:
        self._pool(node, "mean")

    def _maxpool(self, node: Any) -> None:
        self._pool(node, "maximum")

    def _pool(self, node: Any, kind: Kind) -> None:
        attributes = _attributes(node)
        source = self.tensors[self._tensor(node.input[0])]
        kernel, stride = attributes["kernel_shape"], attributes.get("strides", [1, 1])
        pads = attributes.get("pads", [0, 0, 0, 0])
        if kind == "mean" and any(pads) and not attributes.get("count_include_pad", 0):
            raise NetError(f"pooling {node.output[0]}: a mean that leaves out the padding")
        if attributes.get("ceil_mode", 0) and any(
            (size + pads[i] + pads[i + 2] - kernel[i]) % stride[i]
            for i, size in enumerate((source.height, source.width))
        ):
            raise NetError(f"pooling {node.output[0]}: windows that reach beyond the map")
        sizes = [
            (size + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1
            for i, size in enumerate((source.height, source.width))
        ]
        shape = (*sizes, source.channels)
        self._emit(
            node, kind, shape, inputs=node.input[:1], kernel=tuple(kernel), stride=tuple(stride), pad=tuple(pads[:2])
        )

    def _globalaveragepool(self, node: Any) -> None:
        source = self.tensors[self._tensor(node.input[0])]
        self._emit(node, "mean", (1, 1, source.channels), inputs=node.input[:1], kernel=(source.height, source.width))

    def _reducemean(self, node: Any) -> None:
        axes = [*_attributes(node).get("axes", [])] or ([*self._constant(node.input[1])] if len(node.input) > 1 else [])
        if sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            raise NetError(f"mean {node.output[0]}: over something else than the map")
        self._globalaveragepool(node)

    def _batchnormalization(self, node: Any) -> None:
        scale, bias, mean, variance = (self._constant(name).astype(np.float64) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + _attributes(node).get("epsilon", 1e-5))
        source = self.tensors[self._tensor(node.input[0])]
        counts = 1 / np.float64(self._target(node.output[0])[1][0])
        self._emit(
            node, "affine", (source.height, source.width, source.channels), inputs=node.input[:1],
            factor=(source.scale * factor * counts).astype(np.float32),
            addend=((bias - mean * factor) * counts).astype(np.float32),
        )  # fmt: skip

    def _pad(self, node: Any) -> None:
        source = self.tensors[self._tensor(node.input[0])]
        value = self._constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        pads = [int(one) for one in self._constant(node.input[1])]
        ahead, behind = pads[: len(pads) // 2], pads[len(pads) // 2 :]
        if np.any(value) or len(ahead) != 4 or any((ahead[0], *ahead[2:], behind[0], *behind[2:])):
            raise NetError(f"padding {node.output[0]}: of something else than channels, with 0")
        shape = (source.height, source.width, source.channels + ahead[1] + behind[1])
        self._emit(node, "copy", shape, inputs=node.input[:1], shift=ahead[1])

    def _activation(self, node: Any) -> None:
        """Of a value that is quantised already: a copy with bounds."""
        source = self.tensors[self._tensor(node.input[0])]
        bounds = [0.0, np.inf]
        if node.op_type == "Clip":
            limits = [float(self._constant(name)) if name else None for name in [*node.input[1:3], "", ""][:2]]
            bounds = [-np.inf if limits[0] is None else limits[0], np.inf if limits[1] is None else limits[1]]
        self._emit(node, "copy", (source.height, source.width, source.channels), inputs=node.input[:1], bounds=bounds)

    def _emit(
        self, node: Any, kind: Kind, shape: tuple[int, int, int], *, inputs: Sequence[str],
        bounds: Sequence[float] = (-np.inf, np.inf), **facts: Any,
    ) -> None:  # fmt: skip
        """Add a step whose output has the scale of the QuantizeLinear that follows, after an activation between."""
        value = node.output[0]
        users = self.users.get(value, [])
        while len(users) == 1 and users[0].op_type in ("Relu", "Clip"):
            following = users[0]
            limits = [float(self._constant(name)) if name else None for name in [*following.input[1:3], "", ""][:2]]
            low = 0.0 if following.op_type == "Relu" else limits[0]
            high = None if following.op_type == "Relu" else limits[1]
            bounds = [max(bounds[0], -np.inf if low is None else low), min(bounds[1], np.inf if high is None else high)]
            value = following.output[0]
            self.known[value] = node.output[0]
            users = self.users.get(value, [])
        try:
            name, (scale, zero) = self._target(value)
        except NetError:
            if kind != "mean" or value in self.users:
                raise
            source = self.tensors[self._tensor(inputs[0])]  # an output in floats; a mean lies within its map's range
            name, (scale, zero) = value, (source.scale, source.zero)
        low_high = [int(np.clip(np.rint(one / scale) + zero, -128, 127)) for one in np.clip(bounds, -1e6, 1e6)]
        self.tensors[name] = Tensor(*shape, scale, zero)
        self.known[node.output[0]] = self.known[value] = name
        sources = tuple(self._tensor(one) for one in inputs)
        self.ops.append(Op(kind=kind, inputs=sources, output=name, low=low_high[0], high=low_high[1], **facts))

    def _target(self, value: str) -> tuple[str, tuple[float, int]]:
        """Name and scale of the tensor that a value of the graph becomes; one that is passed on has the last one's."""
        seen = value
        while True:
            users = self.users.get(seen, [])
            if any(user.op_type == "QuantizeLinear" for user in users):
                return value, self._scale(seen)
            if len(users) == 1 and users[0].op_type in {*PASSED, "Relu", "Clip"}:
                seen = users[0].output[0]
                continue
            raise NetError(f"{value} is not quantised")

    def _scale(self, value: str) -> tuple[float, int]:
        quantise = next((one for one in self.users.get(value, []) if one.op_type == "QuantizeLinear"), None)
        if quantise is None:
            raise NetError(f"{value} is not quantised")
        scale = self._constant(quantise.input[1])
        zero = self._constant(quantise.input[2])
        if scale.size != 1 or zero.dtype != np.int8:
            raise NetError(f"{value}: expected int8 with one scale")
        return float(scale.ravel()[0]), int(zero.ravel()[0])

    def _pass(self, node: Any) -> None:
        if node.input[0] in self.constants:
            return
        self.known[node.output[0]] = self._tensor(node.input[0])

    def _tensor(self, value: str) -> str:
        if value not in self.known:
            raise NetError(f"{value} comes from something that the firmware does not have")
        return self.known[value]

    def _constant(self, name: str) -> Array:
        if name not in self.constants:
            raise NetError(f"{name} is no constant")
        return self.constants[name]

    def _note_constant(self, node: Any) -> None:
        from onnx import numpy_helper

        value = _attributes(node).get("value")
        if value is not None:
            self.constants[node.output[0]] = numpy_helper.to_array(value)

    def _real(self, node: Any, values: Array, scale: Array) -> Array:
        zero = self._constant(node.input[2]) if len(node.input) > 2 else np.zeros(1, values.dtype)
        if scale.size > 1:
            axis = _attributes(node).get("axis", 1)
            wide = [1] * values.ndim
            wide[axis] = -1
            scale, zero = scale.reshape(wide), zero.reshape(wide)
        return (values.astype(np.int64) - zero) * scale.astype(np.float64)

    def _weights(self, name: str, outputs: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        """The integers of weights, and a scale for each output channel."""
        node = self.made.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            raise NetError(f"weights {name} are not quantised")
        integers, scale = self._constant(node.input[0]), self._constant(node.input[1])
        if integers.dtype != np.int8 or (len(node.input) > 2 and np.any(self._constant(node.input[2]))):
            raise NetError(f"weights {name}: expected int8 around 0")
        return integers, np.broadcast_to(scale.astype(np.float32).ravel(), outputs).copy()

    def _bias(self, node: Any, scale: Array) -> npt.NDArray[np.int32] | None:
        if len(node.input) < 3 or not node.input[2]:
            return None
        bias = np.rint(self._constant(node.input[2]).ravel() / scale)
        if np.abs(bias).max(initial=0) >= 1 << 31:
            raise NetError(f"{node.output[0]}: a bias of more than 32 bits")
        return np.asarray(bias, np.int32)


def _ranged(net: Net, images: npt.NDArray[np.uint8]) -> Net:
    """Give features that are a mean over a map the range that they have on some images, with a count on either side."""
    tensors, found = dict(net.tensors), net.run(images)
    for op in net.ops:
        if op.kind != "mean" or op.output not in found or any(op.output in other.inputs for other in net.ops):
            continue
        coarse = tensors[op.output]
        low, high = (coarse.scale * (int(end(found[op.output])) - coarse.zero) for end in (np.min, np.max))
        low, high = min(0.0, low - coarse.scale), max(0.0, high + coarse.scale)
        scale = float(np.float32((high - low) / 255))
        tensors[op.output] = dataclasses.replace(coarse, scale=scale, zero=int(np.rint(-128 - low / scale)))
    return dataclasses.replace(net, tensors=tensors)


def _attributes(node: Any) -> Mapping[str, Any]:
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _in_order(ops: Sequence[Op], outputs: Sequence[str]) -> list[Op]:
    """The steps that outputs need, those of the first output first."""
    by_output = {op.output: op for op in ops}
    done: dict[str, Op] = {}
    for output in outputs:
        needed, waiting = set[str](), [output]
        while waiting:
            name = waiting.pop()
            if name in by_output and name not in needed:
                needed.add(name)
                waiting += by_output[name].inputs
        done |= {op.output: op for op in ops if op.output in needed and op.output not in done}
    return list(done.values())
