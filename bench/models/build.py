"""From a model's name to a torch module with the outputs and the input size of the data."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

from torch import nn

from bench.catalog.models import find_model, paper_resnet_depth
from bench.errors import RequestError
from bench.models.resnet import ResNet
from bench.suite.suite import ModelSpec


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
    _look_in(base)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"model.name: {name}: {error} (looked in {base} and in the environment)") from None
    except Exception as error:
        raise RequestError(f"model.name: {name}: importing it failed with {_said(error)}") from error
    offered = {"n_classes": n_classes, "in_channels": in_channels, "image_size": image_size}
    try:
        taken = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise RequestError(f"model.name: {name} is not a function that makes a model") from None
    if "n_classes" not in taken:
        raise RequestError(f"model.name: {name} must take n_classes; it takes {', '.join(taken) or 'nothing'}")
    try:
        model = function(**{key: value for key, value in offered.items() if key in taken})
    except Exception as error:
        raise RequestError(f"model.name: {name} failed with {_said(error)}") from error
    if not isinstance(model, nn.Module):
        raise RequestError(f"model.name: {name} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


def users_code(spec: ModelSpec, base: Path) -> str | None:
    """Hash of the file that a user's own model comes from, None for the catalogue's: the same name may mean another."""
    module_name, _, function_name = spec.name.partition(":")
    if not function_name:
        return None
    _look_in(base)
    try:
        found = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        return None  # building the model says what is wrong
    origin = Path(found.origin) if found is not None and found.origin else None
    return hashlib.sha256(origin.read_bytes()).hexdigest() if origin is not None and origin.is_file() else None


def _look_in(base: Path) -> None:
    if str(base) not in sys.path:
        sys.path.insert(0, str(base))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
