"""From a model's name to a torch module with the outputs and the input size of the data."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

from torch import nn

from bench.errors import RequestError
from bench.models.catalog import find_model, paper_resnet_depth
from bench.models.resnet import ResNet
from bench.suite import ModelSpec


def build_model(spec: ModelSpec, *, n_classes: int, in_channels: int, image_size: int, base: Path) -> nn.Module:
    """A model with fresh weights, drawn from torch's global generator.

    Args:
        n_classes: outputs.
        in_channels: 1 or 3.
        image_size: pixels of a side.
        base: the suite's folder, where a user's own module is looked for first.

    Raises:
        RequestError: the model cannot be built for this data.
    """
    entry = find_model(spec.name)
    assert entry is not None
    n = paper_resnet_depth(spec.name)
    if entry.kind == "paper" and n is not None:
        return ResNet(n, n_classes=n_classes, in_channels=in_channels, width=spec.width, image_size=image_size)
    if entry.kind == "torchvision":
        return _torchvision(spec.name, n_classes=n_classes, in_channels=in_channels)
    return _users_own(spec.name, n_classes=n_classes, in_channels=in_channels, image_size=image_size, base=base)


def _torchvision(name: str, *, n_classes: int, in_channels: int) -> nn.Module:
    from torchvision.models import get_model

    if in_channels != 3:
        raise RequestError(
            f"model.name: {name} takes colour images; for grey ones take one of the paper's, e.g. resnet8"
        )
    model: nn.Module = get_model(name, weights=None, num_classes=n_classes)
    return model


def _users_own(name: str, *, n_classes: int, in_channels: int, image_size: int, base: Path) -> nn.Module:
    """`module:function`, called with those of n_classes, in_channels and image_size that it takes."""
    module_name, _, function_name = name.partition(":")
    if str(base) not in sys.path:
        sys.path.insert(0, str(base))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"model.name: {name}: {error} (looked in {base} and in the environment)") from None
    offered = {"n_classes": n_classes, "in_channels": in_channels, "image_size": image_size}
    try:
        taken = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise RequestError(f"model.name: {name} is not a function that makes a model") from None
    if "n_classes" not in taken:
        raise RequestError(f"model.name: {name} must take n_classes; it takes {', '.join(taken) or 'nothing'}")
    model = function(**{key: value for key, value in offered.items() if key in taken})
    if not isinstance(model, nn.Module):
        raise RequestError(f"model.name: {name} returned {type(model).__name__}; expected a torch.nn.Module")
    return model
