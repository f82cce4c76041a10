"""Weights from a file: never executed, loaded strictly, and what does not fit is named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import RequestError


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model from a state dict.

    Raises:
        RequestError: the file is not there, holds anything but tensors, or does not fit the model.
    """
    state = read_state(path)
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    foreign = sorted(set(state) - set(own))
    shapes = [
        f"{key} is {tuple(state[key].shape)}, the model's {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        *([f"lacks {_some(missing)}"] if missing else []),
        *([f"has also {_some(foreign)}"] if foreign else []),
        *([_some(shapes)] if shapes else []),
    ]
    if problems:
        raise RequestError(f"{path}: does not fit the model: {'; '.join(problems)}")
    model.load_state_dict(state, strict=True)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict of tensors on the CPU; the unpickler is restricted to tensors and plain containers.

    Raises:
        RequestError: as `load_weights`.
    """
    try:
        state: Any = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise RequestError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:
        raise RequestError(f"{path}: holds more than weights and is not opened; save model.state_dict()") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise RequestError(f"{path}: not a torch checkpoint ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RequestError(f"{path}: not a state dict; save model.state_dict()")
    return state


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a state dict as a whole: a reader sees it complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(model.state_dict(), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
