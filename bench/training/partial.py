"""Partial: convolutions of which only some channels train, with a backward pass that costs what these channels cost.

The kept channels' weights are a parameter of their own, made once per epoch, and the optimiser sees no others: what is
frozen cannot be moved by momentum or weight decay, and has no gradient, no optimiser state and, where nothing needs it,
no stored activation. After each step the kept weights are written back to the net's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import RequestError

Axis = Literal["output", "input"]
"""Which channels of a convolution are kept or frozen. Output channels save the weight gradient's work, input channels
also the memory of the activations that it needs."""

Plan = Mapping[str, Tensor]
"""Path of a convolution -> kept channels, int64 and sorted, on the CPU. A convolution that is not in it is frozen."""

_backward = torch.ops.aten.convolution_backward


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Path -> every two-dimensional convolution, in the model's order."""
    return {path: module for path, module in model.named_modules() if type(module) is nn.Conv2d}


def n_units(conv: nn.Conv2d, axis: Axis) -> int:
    """Channels of a convolution along an axis."""
    return conv.out_channels if axis == "output" else conv.in_channels


def unit_size(conv: nn.Conv2d, axis: Axis) -> int:
    """Weights of one channel: of an output channel C_in / groups x k x k (k x k of a depth-wise one)."""
    return conv.weight.numel() // n_units(conv, axis)


def take(conv: nn.Conv2d, values: Tensor, index: Tensor, axis: Axis) -> Tensor:
    """Of something in the shape of the weight, that of some channels: [n, ...], a copy."""
    if axis == "output":
        return values.index_select(0, index)
    five, group, place = _by_group(conv, values, index)
    return five[group, :, place]


def put(conv: nn.Conv2d, values: Tensor, index: Tensor, axis: Axis, rows: Tensor) -> None:
    """Write what `take` gives back to its place."""
    if axis == "output":
        values.index_copy_(0, index, rows)
        return
    five, group, place = _by_group(conv, values, index)
    five[group, :, place] = rows


def _by_group(conv: nn.Conv2d, values: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A view [groups, out / groups, in / groups, k, k], and of each input channel its group and its place in it."""
    each = conv.in_channels // conv.groups
    five = values.unflatten(0, (conv.groups, conv.out_channels // conv.groups))
    return five, index // each, index % each


@dataclass(slots=True, eq=False)
class _Part:
    """A convolution in an epoch.

    Attributes:
        index: kept channels, on the device; empty where it is frozen.
        rows: their weights, which the optimiser moves; None where nothing, or everything, is kept.
        whole: everything is kept: the net's own parameter trains.
    """

    conv: nn.Conv2d
    axis: Axis
    index: Tensor
    rows: nn.Parameter | None = None
    whole: bool = False
    padding: tuple[int, int] = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """In place of the convolution's own."""
        conv = self.conv
        if self.whole or not torch.is_grad_enabled():
            return _forward(conv, x, conv.weight, conv.bias)
        if self.rows is None and not x.requires_grad:
            return _forward(conv, x, conv.weight.detach(), conv.bias)
        out: Tensor = _Convolution.apply(x, self.rows, conv.bias, self)
        return out

    def stored(self, x: Tensor) -> Tensor | None:
        """What the weight gradient needs of the input."""
        if self.rows is None:
            return None
        if self.axis == "input":
            return _channels(x, self.index)
        each_in, each_out = self._each()
        return _channels(x, self.index // each_out) if each_in == 1 and self.conv.groups > 1 else x

    def gradient(self, go: Tensor, x: Tensor) -> Tensor:
        """Of the kept weights, as `take` orders them.

        Args:
            go: gradient of the output [N, C_out, H', W'].
            x: what `stored` gave.
        """
        conv, index, n = self.conv, self.index, len(self.index)
        each_in, each_out = self._each()
        kernel = conv.weight.shape[2:]
        if self.axis == "output":
            if conv.groups == 1:
                return self._product(_channels(go, index), x, (n, conv.in_channels, *kernel), 1)
            if each_in == 1:
                return self._product(_channels(go, index), x, (n, 1, *kernel), n)
            return self._group_by_group(go, x, each_in, each_out)
        if conv.groups == 1:
            return self._product(go, x, (conv.out_channels, n, *kernel), 1).transpose(0, 1)
        if each_in == 1:
            outs = (index[:, None] * each_out + torch.arange(each_out, device=index.device)).flatten()
            found = self._product(_channels(go, outs), x, (n * each_out, 1, *kernel), n)
            return found.view(n, each_out, *kernel)
        return self._group_by_group(go, x, each_in, each_out)

    def _group_by_group(self, go: Tensor, x: Tensor, each_in: int, each_out: int) -> Tensor:
        """For groups of several channels, of which each keeps another number."""
        output = self.axis == "output"
        group = self.index // (each_out if output else each_in)
        kernel, made = self.conv.weight.shape[2:], []
        for number in torch.unique(group).tolist():
            mine = group == number
            outs = self.index[mine] if output else torch.arange(each_out, device=go.device) + number * each_out
            own = x[:, number * each_in : (number + 1) * each_in] if output else x[:, mine]
            shape = (len(outs), own.shape[1], *kernel)
            found = self._product(_channels(go, outs), own, shape, 1)
            made.append(found if output else found.transpose(0, 1))
        return torch.cat(made)

    def _product(self, go: Tensor, x: Tensor, shape: tuple[int, ...], groups: int) -> Tensor:
        conv = self.conv
        like = go.new_empty(shape)  # its values are not read
        gradient: Tensor = _backward(
            go, x, like, None, conv.stride, self.padding, conv.dilation, False, (0, 0), groups, (False, True, False)
        )[1]
        return gradient

    def input_gradient(self, go: Tensor, shape: torch.Size, weight: Tensor) -> Tensor:
        """Of the input [N, C_in, H, W]; the input's own values are not read."""
        conv = self.conv
        channels_last = go.dim() == 4 and not go.is_contiguous() and go.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        like = torch.empty(shape, dtype=go.dtype, device=go.device, memory_format=layout)
        gradient: Tensor = _backward(
            go, like, weight, None, conv.stride, self.padding, conv.dilation, False, (0, 0), conv.groups,
            (True, False, False),
        )[0]  # fmt: skip
        return gradient

    def _each(self) -> tuple[int, int]:
        conv = self.conv
        return conv.in_channels // conv.groups, conv.out_channels // conv.groups


def _channels(value: Tensor, index: Tensor) -> Tensor:
    """Some channels of [N, C, H, W], in its own order of values in memory, which `index_select` does not keep."""
    if value.is_contiguous() or not value.is_contiguous(memory_format=torch.channels_last):
        return value.index_select(1, index)
    return value.permute(0, 2, 3, 1).index_select(3, index).permute(0, 3, 1, 2)


def _forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = conv._conv_forward(x, weight, bias)
    return out


class _Convolution(torch.autograd.Function):
    """A convolution that stores for its backward pass what the kept channels need."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor | None, bias: Tensor | None, part: _Part) -> Tensor:
        ctx.part, ctx.shape = part, x.shape
        weight = part.conv.weight.detach()
        ctx.save_for_backward(part.stored(x), weight if ctx.needs_input_grad[0] else None)
        return _forward(part.conv, x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        go, (x, weight), part = gradients[0], ctx.saved_tensors, ctx.part
        to_x = part.input_gradient(go, ctx.shape, weight.to(go.dtype)) if weight is not None else None
        to_rows = part.gradient(go, x.to(go.dtype)) if x is not None else None
        to_bias = go.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return to_x, to_rows, to_bias, None


@dataclass(slots=True, eq=False)
class Partial:
    """The convolutions of a net in a fine-tuning, of which a plan per epoch says what trains.

    Attributes:
        lean: activations and BatchNorm that is held store what their backward pass needs and no more: a bit's byte in
            place of an image's value, and nothing.
        shares: path of a weight -> share of its channels that is kept, in the epoch that runs.
    """

    model: nn.Module
    axis: Axis
    lean: bool = False
    shares: dict[str, float] = field(default_factory=dict)
    _parts: dict[str, _Part] = field(default_factory=dict)
    _groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    _memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    _optimizer: torch.optim.Optimizer | None = None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let the net's convolutions follow the plans meanwhile."""
        patched: list[nn.Module] = []
        try:
            for path, conv in convolutions(self.model).items():
                none = torch.empty(0, dtype=torch.int64, device=conv.weight.device)
                self._parts[path] = _Part(conv, self.axis, none, padding=_padding(conv, path))
                _patch(conv, self._parts[path].forward)
                patched.append(conv)
            for module in self.model.modules() if self.lean else ():
                lean = _lean_forward(module)
                if lean is not None:
                    _patch(module, lean)
                    patched.append(module)
            yield
        finally:
            for module in patched:
                del module.__dict__["forward"]
            self._parts, self._groups, self._memory, self._optimizer = {}, {}, {}, None

    def follow(self, plan: Plan, optimizer: torch.optim.Optimizer) -> None:
        """Train from now on what a plan keeps, and leave all else of the convolutions' weights as it is.

        Args:
            optimizer: with a group for each parameter. What it remembers of a weight, such as its momentum, stays with
                the weight while that is frozen.
        """
        if self._optimizer is not optimizer:
            self._optimizer = optimizer
            owner = {id(group["params"][0]): group for group in optimizer.param_groups}
            self._groups = {path: owner[id(part.conv.weight)] for path, part in self._parts.items()}
            optimizer.register_step_post_hook(lambda *_: self._write_back())
        self.shares = {}
        for path, part in self._parts.items():
            self._put_away(path, part)
            weight, total = part.conv.weight, n_units(part.conv, self.axis)
            part.index = plan.get(path, part.index[:0]).to(weight.device)
            part.whole = len(part.index) == total
            part.rows = None
            if not part.whole and len(part.index):
                part.rows = nn.Parameter(take(part.conv, weight.detach(), part.index, self.axis))
            weight.requires_grad_(part.whole)
            weight.grad = None
            if len(part.index):
                self.shares[f"{path}.weight"] = len(part.index) / total
            self._take_up(path, part)

    @torch.no_grad()
    def _write_back(self) -> None:
        for part in self._parts.values():
            if part.rows is not None:
                put(part.conv, part.conv.weight.data, part.index, self.axis, part.rows.data)

    def _put_away(self, path: str, part: _Part) -> None:
        """Keep what the optimiser remembers of a convolution's weights, in the shape of all of them."""
        assert self._optimizer is not None
        moved = part.rows if part.rows is not None else part.conv.weight
        for name, value in self._optimizer.state.pop(moved, {}).items():
            kept = self._memory.setdefault(path, {})
            if part.rows is None or not isinstance(value, Tensor) or value.shape != part.rows.shape:
                kept[name] = value
                continue
            if not isinstance(kept.get(name), Tensor):
                kept[name] = torch.zeros_like(part.conv.weight)
            put(part.conv, kept[name], part.index, self.axis, value)

    def _take_up(self, path: str, part: _Part) -> None:
        assert self._optimizer is not None
        moved = part.rows if part.rows is not None else part.conv.weight
        self._groups[path]["params"] = [moved]
        if not len(part.index):
            return
        for name, value in self._memory.pop(path, {}).items():
            fits = isinstance(value, Tensor) and value.shape == part.conv.weight.shape and part.rows is not None
            self._optimizer.state[moved][name] = take(part.conv, value, part.index, self.axis) if fits else value
            if fits:
                self._memory.setdefault(path, {})[name] = value


def _patch(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
    module.__dict__["forward"] = forward  # before the class's; no entry of its modules, parameters or state


def _padding(conv: nn.Conv2d, path: str) -> tuple[int, int]:
    """In pixels.

    Raises:
        RequestError: a padding that the sliced backward pass does not know.
    """
    kernel, dilation = conv.kernel_size, conv.dilation
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same" and all(k % 2 for k in kernel):
        return dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2)
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise RequestError(f"the convolution {path} pads in a way that a part of it cannot be trained with")
    return int(conv.padding[0]), int(conv.padding[1])


def _lean_forward(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """A forward pass that stores less for the same gradients; None for a module that has none."""
    if type(module) in (nn.ReLU, nn.ReLU6):
        high = 6.0 if isinstance(module, nn.ReLU6) else float("inf")
        return lambda x: _Clamp.apply(x, high) if x.requires_grad else x.clamp(0, high)
    if isinstance(module, nn.BatchNorm2d):
        return lambda x: _batchnorm(module, x)
    return None


def _batchnorm(module: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Held BatchNorm whose scale is frozen is a product and a sum by channel, whose gradient needs no input."""
    held = not module.training and module.running_mean is not None and module.running_var is not None
    if not held or not x.requires_grad or (module.weight is not None and module.weight.requires_grad):
        return nn.BatchNorm2d.forward(module, x)
    assert module.running_mean is not None
    assert module.running_var is not None
    scale = (module.running_var + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach()
    out: Tensor = _Scale.apply(x, scale[:, None, None], module.bias, module)
    return out


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor | None, module: nn.BatchNorm2d) -> Tensor:
        ctx.save_for_backward(scale)
        return F.batch_norm(x, module.running_mean, module.running_var, module.weight, bias, eps=module.eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        go, (scale,) = gradients[0], ctx.saved_tensors
        return go * scale, None, go.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None, None


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, high: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < high))
        return x.clamp(0, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        (passes,) = ctx.saved_tensors
        return gradients[0] * passes, None
