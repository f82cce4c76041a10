"""Follow: from a torch module and the shape of a batch to the list of its operations, mostly without computing them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.cost.step import Cost, Operand, Operation, Trace


def trace(model: nn.Module, shape: tuple[int, ...]) -> Trace:
    """Follow a batch of this shape [N, C, H, W] through the model, without computing anything where that can be.

    The model is left as it was: parameters, buffers and mode. A module that needs values to go on is run for once on
    the CPU, with images of zeros.
    """
    try:
        return _trace(model, shape, "meta")
    except Exception:  # whatever a module makes of a tensor that has no values
        return _trace(model, shape, "cpu")


def step_of(model: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Cost of a step on a batch of this shape that trains what has requires_grad."""
    return trace(model, shape).step([name for name, parameter in model.named_parameters() if parameter.requires_grad])


def _trace(model: nn.Module, shape: tuple[int, ...], device: str) -> Trace:
    parameters = dict(model.named_parameters())
    # copies: a forward pass in training mode moves BatchNorm's statistics
    state = {
        name: torch.empty_like(value, device=device) if device == "meta" else value.detach().to(device, copy=True)
        for name, value in [*parameters.items(), *model.named_buffers()]
    }
    recorder = _Recorder({name: state[name] for name in parameters})
    with _training(model), recorder.watching(model), torch.no_grad(), recorder:
        torch.func.functional_call(model, state, (torch.zeros(shape, device=device),))
    return Trace(tuple(recorder.operations), tuple(parameters), shape[0])


@contextlib.contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """Training mode for a moment: in evaluation torch fuses attention into one opaque kernel."""
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class _Recorder(TorchDispatchMode):
    """Sees every kernel, and which parameters reach it.

    What shares a storage shares a reach: views, and what is changed in place.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not type it
        self.operations: list[Operation] = []
        self._alive: list[Tensor] = []
        self._parameters = {_storage(value) for value in parameters.values()}
        self._reach: dict[int, int] = {}
        for place, value in enumerate(parameters.values()):
            self._reach[_storage(value)] = self._reach.get(_storage(value), 0) | 1 << place
            self._alive.append(value)
        self._where = [""]

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Know which module is at work."""
        hooks = []
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._where.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: self._where.pop() and None))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        taken = [value for value in _tensors([*args, *(kwargs or {}).values()]) if value.is_floating_point()]
        given = [value for value in _tensors([out]) if value.is_floating_point()]
        self._alive += given  # a storage that is gone would lend its address to another
        reach = 0
        for value in taken:
            reach |= self._reach.get(_storage(value), 0)
        sources = {_storage(value) for value in taken}
        view = not func._schema.is_mutable and all(_storage(value) in sources for value in given)
        for value in given:
            self._reach[_storage(value)] = self._reach.get(_storage(value), 0) | reach
        name = func._schema.name
        if taken and given and not view:
            for macs, factors in _products(name, taken, given, args):
                operands = tuple(self._operand(value) for value in factors)
                self.operations.append(Operation(self._where[-1], name, macs, operands, _bytes(given[:1])))
        return out

    def _operand(self, value: Tensor) -> Operand:
        storage = _storage(value)
        return Operand(self._reach.get(storage, 0), _bytes([value]), storage in self._parameters)


def _products(name: str, taken: list[Tensor], given: list[Tensor], args: Any) -> Iterable[tuple[int, list[Tensor]]]:
    """(MACs, operands with the two factors first) of each product inside a kernel; MACs 0 where there is none."""
    count = _COUNTS.get(name)
    if count is not None:
        macs, factors = count(given[0], args)
        ids = {id(factor) for factor in factors}
        return [(macs, [*factors, *(value for value in taken if id(value) not in ids)])]
    if name.startswith("aten::_scaled_dot_product"):
        query, key, value = args[:3]
        scores = query.numel() // query.shape[-1] * key.shape[-2]
        return [(scores * query.shape[-1], [query, key]), (scores * value.shape[-1], [query, value])]
    return [(0, taken)]


def _convolution(out: Tensor, args: Any) -> tuple[int, list[Tensor]]:
    x, weight, transposed = args[0], args[1], args[6]
    return (x if transposed else out).numel() * weight[:1].numel(), [x, weight]


def _matrices(first: int) -> Callable[[Tensor, Any], tuple[int, list[Tensor]]]:
    def count(_: Tensor, args: Any) -> tuple[int, list[Tensor]]:
        a, b = args[first : first + 2]
        return a.numel() * (b.shape[-1] if b.dim() > 1 else 1), [a, b]

    return count


_COUNTS: Mapping[str, Callable[[Tensor, Any], tuple[int, list[Tensor]]]] = {
    "aten::convolution": _convolution,
    "aten::mm": _matrices(0),
    "aten::bmm": _matrices(0),
    "aten::mv": _matrices(0),
    "aten::addmm": _matrices(1),
    "aten::baddbmm": _matrices(1),
}


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _storage(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def _bytes(values: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values)
