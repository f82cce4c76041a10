"""How long the gradients of each parameter take: its own, and that of the activations on the way to it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.training.task import Task

ROUNDS = 3
"""Each gradient is timed so often, and the shortest counts."""


def gradient_times(task: Task, *, measured: bool) -> dict[str, tuple[float, float]]:
    """Time of a tensor's own gradient, and of the activations' gradient from the tensor before it, for one batch.

    Only layers that have parameters are timed; what lies between them is left out.

    Args:
        measured: in seconds, on this device and a batch of the training images; otherwise in multiply-accumulates.

    Returns:
        Parameter name -> both, in the order of the backward pass, the output's layer first. A layer's first tensor
        carries the gradient of the activations of all layers nearer to the output that come after the tensor before.
    """
    layers = _layers_in_order(task)
    of_layer = _measured(task, layers) if measured else _counted(task, layers)
    found: dict[str, tuple[float, float]] = {}
    passed = 0.0  # through the layers nearer to the output, since the last tensor
    for path in reversed(layers):
        own, activations = of_layer[path]
        for name, seconds in own.items():
            found[name] = (seconds, passed)
            passed = 0.0
        passed += activations
    return found


def _layers_in_order(task: Task) -> dict[str, tuple[nn.Module, Tensor]]:
    """Path -> module and its input, in the order of the forward pass, of every module with parameters of its own."""
    seen: dict[str, tuple[nn.Module, Tensor]] = {}
    handles = []
    for path, module in task.model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:

            def note(module: nn.Module, inputs: tuple[Tensor, ...], path: str = path) -> None:
                seen.setdefault(path, (module, inputs[0].detach()))

            handles.append(module.register_forward_pre_hook(note))
    task.model.eval()
    try:
        with torch.no_grad():
            task.logits(task.train.x[: task.batch_size])
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _measured(task: Task, layers: dict[str, tuple[nn.Module, Tensor]]) -> dict[str, tuple[dict[str, float], float]]:
    found = {}
    for path, (module, inputs) in layers.items():
        x = inputs.requires_grad_()
        named = {f"{path}.{name}" if path else name: p for name, p in module.named_parameters(recurse=False)}
        for parameter in named.values():
            parameter.requires_grad_()
        out = module(x)
        gradient = torch.ones_like(out)
        found[path] = (
            {name: _seconds(out, parameter, gradient) for name, parameter in named.items()},
            _seconds(out, x, gradient),
        )
    n = min(task.batch_size, len(task.train.x))
    task.count_images(n)
    for _ in range(ROUNDS - 1):
        task.count_steps(n)  # the backward pass alone is done again
    return found


def _seconds(out: Tensor, of: Tensor, gradient: Tensor) -> float:
    return min(_timed(lambda: torch.autograd.grad(out, [of], gradient, retain_graph=True)) for _ in range(ROUNDS))


def _timed(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _counted(task: Task, layers: dict[str, tuple[nn.Module, Tensor]]) -> dict[str, tuple[dict[str, float], float]]:
    """By the products of each layer: a convolution's gradients cost what its forward pass does, each."""
    found = {}
    for path, (module, x) in layers.items():
        with torch.no_grad():
            out = module(x[:1])
        named = [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
        weight = getattr(module, "weight", None)
        is_product = isinstance(weight, Tensor) and weight.dim() > 1
        places = out.numel() // max(1, out.shape[1]) if is_product else 0
        macs = float(places * weight.numel()) if is_product and isinstance(weight, Tensor) else 0.0
        found[path] = ({name: macs if name.endswith("weight") else 0.0 for name in named}, macs)
    return found
