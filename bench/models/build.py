"""Build the torch module of a model's name, with the outputs and the input size of the data."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from torch import nn

from bench.catalog.mobile import RELEASED, read_architecture
from bench.catalog.models import find_model, paper_resnet_depth
from bench.errors import RequestError
from bench.models.mobile import MobileNet
from bench.models.resnet import ResNet
from bench.suite.model import ModelSpec


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
        shape = {"n_classes": n_classes, "in_channels": in_channels, "width": spec.width, "image_size": image_size}
        return ResNet(n, norm=spec.norm, **shape)
    if entry.kind == "mobile":
        if in_channels != 3:
            raise RequestError(f"model.name: {spec.label} takes colour images; these are grey")
        found = RELEASED.get(spec.name) or read_architecture(Path(spec.name))
        return MobileNet(found, n_classes)
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
    try:
        function = getattr(_load(module_name, base), function_name)
    except (ImportError, AttributeError) as error:
        raise RequestError(
            f"model.name: {name}: {_in_one_line(error)} (looked in {base} and in the environment)"
        ) from None
    except Exception as error:
        raise RequestError(f"model.name: {name}: importing it failed with {_kind(error)}") from error
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
        raise RequestError(f"model.name: {name} failed with {_kind(error)}") from error
    if not isinstance(model, nn.Module):
        raise RequestError(f"model.name: {name} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


def users_code(spec: ModelSpec, base: Path) -> str | None:
    """SHA-256 of the file that a user's own model, or its architecture, comes from; None for the catalogue's."""
    if spec.name.endswith(".json"):
        return hashlib.sha256(Path(spec.name).read_bytes()).hexdigest()
    module_name, _, function_name = spec.name.partition(":")
    if not function_name:
        return None
    try:
        file = _load(module_name, base).__file__
    except Exception:  # building the model says what is wrong
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file is not None else None


def _load(name: str, base: Path) -> ModuleType:
    """A module, or one in a package, from its file in the suite's folder; else one that is installed.

    The folder is not put on the path: what else lies in it must not be imported in the place of a library.
    """
    top = name.partition(".")[0]
    found = PathFinder.find_spec(top, [str(base)])
    if found is None or (found.origin is None and importlib.util.find_spec(top) is not None):  # a folder of no code
        return importlib.import_module(name)
    loaded = sys.modules.get(top)
    if top in sys.stdlib_module_names or (loaded is not None and loaded.__file__ != found.origin):
        raise ImportError(f"{top} is also the name of a library; give the file another")
    if loaded is None:
        sys.modules[top] = module = importlib.util.module_from_spec(found)
        try:
            if found.loader is not None:
                found.loader.exec_module(module)
        except BaseException:
            del sys.modules[top]
            raise
    return importlib.import_module(name)


def _kind(error: Exception) -> str:
    return f"{type(error).__name__}: {_in_one_line(error)}"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
