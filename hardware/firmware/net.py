"""Net: a net in 8-bit integers, with the arithmetic that the firmware does, bit for bit.

Quantised value q of a real x: x = s (q - z). Tensors are [height, width, channels]; weights have z = 0 and a scale for
each output channel. The sum of products and the bias is exact in 32 bits; what differs is how it is scaled down:

* ``onnxruntime``: y = clamp(rint(float(acc) m) + z), in single precision, halves to even, m = s_x s_w / s_y.
* ``tflite``: m as a fraction of 31 bits and a shift; the high half of the doubled product, rounded, then shifted right
  with rounding away from zero (gemmlowp, as TensorFlow Lite's reference kernels do; Jacob et al. 2018, 1712.05877).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Rounding = Literal["onnxruntime", "tflite"]
Kind = Literal["conv", "depthwise", "add", "mean", "maximum", "affine", "copy"]

ADD_SHIFT = 20
"""TensorFlow Lite adds in so many more bits."""

SMALL = 1 << 16


class NetError(Exception):
    """A net that the firmware cannot run."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and scale of an 8-bit tensor."""

    height: int
    width: int
    channels: int
    scale: float
    zero: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.height * self.width * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One step.

    Attributes:
        kind: ``conv`` [out, kh, kw, in] and ``depthwise`` [kh, kw, channels], with a bias in 32 bits; ``add`` of two;
            ``mean`` and ``maximum`` over a window; ``affine``, a factor and an addend for each channel, in single
            precision; ``copy``, which may scale, and fills channels that it adds with the real 0.
        inputs, output: names of tensors.
        kernel, stride, pad: rows and columns; pad is what lies above and to the left.
        low, high: of the result, for an activation that the range of the tensor does not clamp already.
        shift: channels in front of the copied ones.
    """

    kind: Kind
    inputs: tuple[str, ...]
    output: str
    weight: Bytes | None = None
    bias: Ints | None = None
    weight_scale: Floats | None = None
    factor: Floats | None = None
    addend: Floats | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    low: int = -128
    high: int = 127
    shift: int = 0

    @property
    def macs_each(self) -> int:
        """Multiply-accumulates for each value of the output."""
        if self.kind == "conv":
            assert self.weight is not None
            return int(np.prod(self.weight.shape[1:]))
        return self.kernel[0] * self.kernel[1] if self.kind == "depthwise" else 0


@dataclass(frozen=True, kw_only=True)
class Net:
    """Steps in their order; those that `part` needs come first.

    Attributes:
        input: [height, width, channels] of the image.
        output: logits, or the features that a head trains on.
        part: features of the first part of the net, whose head may answer alone; None without one.
        table: [channels, 256], the quantised value of each byte of an image.
        head: whether `output` are features, of which the board makes classes itself.
    """

    tensors: Mapping[str, Tensor]
    ops: Sequence[Op]
    input: str
    output: str
    table: Bytes
    part: str | None = None
    head: bool = False
    rounding: Rounding = "onnxruntime"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen = {self.input}
        for op in self.ops:
            if missing := [name for name in op.inputs if name not in seen]:
                raise NetError(f"{op.output}: {missing[0]} is not computed before it")
            if op.kind == "affine" and self.rounding == "tflite":
                raise NetError(
                    f"{op.output}: a scale for each channel without a convolution needs floats; use onnxruntime"
                )
            seen.add(op.output)
        for name in filter(None, (self.output, self.part)):
            if name not in seen:
                raise NetError(f"{name} is never computed")

    @property
    def part_ops(self) -> int:
        """Steps after which `part` is known; 0 without it."""
        return next((i + 1 for i, op in enumerate(self.ops) if op.output == self.part), 0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.macs_of(len(self.ops))

    def macs_of(self, count: int) -> int:
        """Multiply-accumulates of the first steps."""
        return sum(op.macs_each * self.tensors[op.output].size for op in self.ops[:count])

    def quantised(self, images: npt.NDArray[np.uint8]) -> Bytes:
        """Bytes of images [N, height, width, channels] -> their quantised values."""
        return np.stack([row[images[..., c]] for c, row in enumerate(self.table)], axis=-1)

    def run(self, images: npt.NDArray[np.uint8]) -> dict[str, Bytes]:
        """Compute the outputs of images [N, height, width, channels].

        Returns:
            Values [N, size] of `output` and `part` by their names.
        """
        known = {self.input: self.quantised(images)}
        for op in self.ops:
            known[op.output] = step(op, [known[name] for name in op.inputs], self.tensors, self.rounding)
        names = [self.output, *([self.part] if self.part else [])]
        return {name: known[name].reshape(len(images), -1) for name in names}

    def real(self, name: str, values: Bytes) -> Floats:
        """Real values of a tensor's quantised ones, as the firmware's head sees them."""
        tensor = self.tensors[name]
        return (values.astype(np.int32) - tensor.zero).astype(np.float32) * np.float32(tensor.scale)


def step(op: Op, x: Sequence[Bytes], tensors: Mapping[str, Tensor], rounding: Rounding) -> Bytes:
    """Compute one step for a batch: [N, height, width, channels] of each input -> of the output."""
    one, out = tensors[op.inputs[0]], tensors[op.output]
    if op.kind == "add":
        return _added(op, x, (one, tensors[op.inputs[1]], out), rounding)
    if op.kind == "affine":
        assert op.factor is not None
        assert op.addend is not None
        values = (x[0].astype(np.int32) - one.zero).astype(np.float32) * op.factor
        return _rounded(op, values + op.addend, out.zero)
    if op.kind == "copy":
        made = np.full((*x[0].shape[:3], out.channels), out.zero, np.int8)
        made[..., op.shift : op.shift + one.channels] = _scaled(
            op, x[0].astype(np.int32) - one.zero, ratio(op, tensors), out, rounding
        )
        return made
    if op.kind == "maximum":  # what lies outside of the map is the least value, so that it never wins
        return _clamp(op, _patches(op, x[0], out, -128).max(axis=(3, 4)).astype(np.int32))
    # and of sums the real 0
    patches = _patches(op, x[0], out, one.zero)
    if op.kind == "mean":
        acc = patches.astype(np.int32).sum(axis=(3, 4), dtype=np.int32) - one.zero * op.kernel[0] * op.kernel[1]
        return _scaled(op, acc, ratio(op, tensors), out, rounding)
    assert op.weight is not None
    if op.kind == "depthwise":
        centred = patches.astype(np.int32) - one.zero
        acc = np.einsum("nhwijc,ijc->nhwc", centred, op.weight.astype(np.int32), dtype=np.int32)
    else:
        # sums of products of bytes are whole numbers far below 2^53
        flat = patches.reshape(*patches.shape[:3], -1).astype(np.float64) - one.zero
        acc = (flat @ op.weight.reshape(len(op.weight), -1).T.astype(np.float64)).astype(np.int64).astype(np.int32)
    if op.bias is not None:
        acc = acc + op.bias
    return _scaled(op, acc, ratio(op, tensors), out, rounding)


def ratio(op: Op, tensors: Mapping[str, Tensor]) -> Floats:
    """The factor from a sum to the output's counts, in single precision, for each output channel."""
    one, out = tensors[op.inputs[0]], tensors[op.output]
    scale, target = np.float32(one.scale), np.float32(out.scale)
    if op.weight_scale is not None:
        return (scale * op.weight_scale.astype(np.float32) / target).astype(np.float32)
    if op.kind == "mean":
        target = np.float32(target * np.float32(op.kernel[0] * op.kernel[1]))
    return np.full(1, scale / target, np.float32)


def fixed(factor: float) -> tuple[int, int]:
    """A positive factor as (multiplier of 31 bits, shift): factor = multiplier / 2^31 x 2^shift."""
    if factor == 0:
        return 0, 0
    fraction, shift = math.frexp(factor)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def multiplied(acc: npt.NDArray[np.int64], multiplier: npt.NDArray[np.int64], shift: npt.NDArray[np.int64]) -> Any:
    """`MultiplyByQuantizedMultiplier` of TensorFlow Lite's reference, rounded twice."""
    product = (acc << np.maximum(shift, 0)) * multiplier
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # division by 2^31 that rounds to 0, as in C
    quotient = (np.abs(product + nudge) >> 31) * np.sign(product + nudge)
    right = np.maximum(-shift, 0)
    mask = (np.int64(1) << right) - 1
    remainder = quotient & mask
    threshold = (mask >> 1) + (quotient < 0)
    return (quotient >> right) + (remainder > threshold)


def add_factors(one: Tensor, two: Tensor, out: Tensor) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Multipliers of TensorFlow Lite's addition: of both inputs, and of their sum."""
    twice = 2 * max(one.scale, two.scale)
    return fixed(one.scale / twice), fixed(two.scale / twice), fixed(twice / ((1 << ADD_SHIFT) * out.scale))


def _added(op: Op, x: Sequence[Bytes], tensors: tuple[Tensor, Tensor, Tensor], rounding: Rounding) -> Bytes:
    one, two, out = tensors
    if rounding == "tflite":
        return _clamp(op, _add_fixed(x[0], x[1], one, two, out) + out.zero)
    a, b = (np.float32(np.float32(t.scale) / np.float32(out.scale)) for t in (one, two))
    left = (x[0].astype(np.int32) - one.zero).astype(np.float32) * a
    right = (x[1].astype(np.int32) - two.zero).astype(np.float32) * b
    return _rounded(op, left + right, out.zero)


def _add_fixed(a: Bytes, b: Bytes, one: Tensor, two: Tensor, out: Tensor) -> Any:
    (ma, sa), (mb, sb), (mo, so) = add_factors(one, two, out)
    left = multiplied((a.astype(np.int64) - one.zero) << ADD_SHIFT, np.int64(ma), np.int64(sa))  # type: ignore[arg-type]  # numbers broadcast
    right = multiplied((b.astype(np.int64) - two.zero) << ADD_SHIFT, np.int64(mb), np.int64(sb))  # type: ignore[arg-type]  # numbers broadcast
    return multiplied(left + right, np.int64(mo), np.int64(so))  # type: ignore[arg-type]  # numbers broadcast


def _scaled(op: Op, acc: Ints, factors: Floats, out: Tensor, rounding: Rounding) -> Bytes:
    if rounding == "onnxruntime":
        return _rounded(op, acc.astype(np.float32) * factors, out.zero)
    pairs = np.array([fixed(float(one)) for one in factors], np.int64)
    return _clamp(op, multiplied(acc.astype(np.int64), pairs[:, 0], pairs[:, 1]) + out.zero)


def _rounded(op: Op, values: Floats, zero: int) -> Bytes:
    # bounded before it becomes an integer, as the firmware does, where a float may be beyond 32 bits
    return _clamp(op, np.rint(np.clip(values, -SMALL, SMALL)).astype(np.int32) + zero)


def _clamp(op: Op, values: Any) -> Bytes:
    clamped: Bytes = np.clip(values, op.low, op.high).astype(np.int8)
    return clamped


def _patches(op: Op, x: Bytes, out: Tensor, fill: int) -> Bytes:
    """Windows [N, out height, out width, kh, kw, channels] of maps."""
    (kh, kw), (sy, sx), (top, left) = op.kernel, op.stride, op.pad
    rows, columns = (out.height - 1) * sy + kh, (out.width - 1) * sx + kw
    padded = np.full((len(x), max(rows, top + x.shape[1]), max(columns, left + x.shape[2]), x.shape[3]), fill, np.int8)
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded[:, :rows, :columns], (kh, kw), axis=(1, 2))
    found: Bytes = windows[:, ::sy, ::sx].transpose(0, 1, 2, 4, 5, 3)
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each tensor lies while the net runs.

    Attributes:
        offsets: bytes from the start of the arena, by name; the input image lies outside.
        arena: bytes.
        patch: bytes of the largest window of a convolution that is gathered.
    """

    offsets: Mapping[str, int]
    arena: int
    patch: int


def plan(net: Net) -> Plan:
    """Place tensors so that none overlaps another that is needed at the same time.

    Largest first, each at the lowest place that is free while it lives (greedy by size, as in TensorFlow Lite Micro's
    planner). The sum of two tensors of one shape, and a step that reads each place before it writes it, take the place
    of an input that is needed no more.
    """
    born = {op.output: index for index, op in enumerate(net.ops)}
    dies = dict(born)
    for index, op in enumerate(net.ops):
        for name in op.inputs:
            dies[name] = max(dies.get(name, 0), index)
    for name in filter(None, (net.output, net.part)):
        dies[name] = len(net.ops)
    root = {name: name for name in born}
    for index, op in enumerate(net.ops):
        same = [
            name
            for name in op.inputs
            if op.kind in ("add", "affine", "copy")
            and name in born
            and dies[name] == index
            and net.tensors[name].size == net.tensors[op.output].size
        ]
        if same:
            root[op.output] = root[same[0]]
    groups: dict[str, list[str]] = {}
    for name, first in root.items():
        groups.setdefault(first, []).append(name)
    spans = {
        first: (min(born[n] for n in names), max(dies[n] for n in names), max(net.tensors[n].size for n in names))
        for first, names in groups.items()
    }
    placed: dict[str, tuple[int, int]] = {}
    for first in sorted(spans, key=lambda name: (-spans[name][2], spans[name][0])):
        start, end, size = spans[first]
        busy = sorted(
            (at, at + -(-length // 8) * 8)
            for other, (at, length) in placed.items()
            if spans[other][0] <= end and start <= spans[other][1]
        )
        at = 0
        for low, high in busy:
            if at + size <= low:
                break
            at = max(at, high)
        placed[first] = (at, size)
    patch = max((op.macs_each for op in net.ops if op.kind == "conv"), default=0)
    arena = max((at + -(-size // 8) * 8 for at, size in placed.values()), default=0)
    return Plan({name: placed[first][0] for name, first in root.items()}, arena, patch)
