"""Load weights from a file without executing anything in it, strictly, and name what does not fit."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import pickle
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.locate import MAX_BYTES, check_size
from bench.errors import RequestError
from bench.store.durable import write_through

MAX_EXTRA_BYTES = 100_000_000
"""Of a file, besides four times what its model has."""


def load_weights(model: nn.Module, path: Path, *, fresh: Collection[str] = ()) -> None:
    """Fill a model from a state dict.

    Args:
        fresh: names of parameters that keep the model's values; the file has them too, for any number of classes.

    Raises:
        RequestError: the file is not there, holds anything but tensors, or does not fit the model.
    """
    own = model.state_dict()
    size = sum(value.numel() * value.element_size() for value in own.values())
    state = read_state(path, max_bytes=MAX_EXTRA_BYTES + 4 * size)
    missing = sorted(set(own) - set(state))
    foreign = sorted(set(state) - set(own))
    for key in fresh:
        if key in state and state[key].shape[1:] == own[key].shape[1:] and state[key].dim() == own[key].dim():
            state[key] = own[key]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, the model's {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        *([f"lacks {_some(missing)}"] if missing else []),
        *([f"has also {_some(foreign)}"] if foreign else []),
        *([_some(shapes)] if shapes else []),
    ] or [
        f"{key} is {state[key].dtype}, the model's {own[key].dtype}"
        for key in own
        if state[key].is_floating_point() != own[key].is_floating_point() or state[key].is_complex()
    ]
    problems = problems or [  # of 8 bits, which torch does not test for finite values
        f"{key} is {state[key].dtype}, the model's {own[key].dtype}"
        for key in own
        if state[key].is_floating_point() and state[key].itemsize == 1
    ]
    if problems:
        raise RequestError(f"{path}: does not fit the model: {'; '.join(problems)}")
    endless = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if endless:
        raise RequestError(f"{path}: {_some(endless)}: holds values that are not finite")
    model.load_state_dict(state, strict=True)


def read_state(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """A state dict of tensors on the CPU, by the ending of the file: `.safetensors`, which holds nothing else, or
    torch's own format, read by an unpickler that is restricted to tensors and plain containers.

    Args:
        max_bytes: of the file.

    Raises:
        RequestError: as `load_weights`.
    """
    check_size(path, max_bytes)
    try:
        state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except FileNotFoundError:
        raise RequestError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from None
    for key, value in state.items():
        # nested tensors first: they have no shape
        odd = [name for name, is_so in (("nested", value.is_nested), ("quantised", value.is_quantized),
               ("sparse", value.layout is not torch.strided), ("without values", value.is_meta)) if is_so]  # fmt: skip
        if odd:
            raise RequestError(f"{path}: {key} is {odd[0]}; expected dense tensors, as model.state_dict() has them")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except SafetensorError as error:
        raise RequestError(f"{path}: not a safetensors file ({' '.join(str(error).split())[:120]})") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        _check_parts(path)
        state: Any = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RequestError):
        raise
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error):  # a class or a function beyond tensors and containers
            raise RequestError(f"{path}: holds more than weights and is not opened; save model.state_dict()") from None
        raise RequestError(f"{path}: not a torch checkpoint; expected one that torch.save made") from None
    except Exception as error:  # damaged bytes make the reader fail in ways it does not list
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise RequestError(f"{path}: not a torch checkpoint ({reason})") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # as MCUNet and many trainers save it
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise RequestError(f"{path}: not a state dict; save model.state_dict()")
    return state


def _check_parts(path: Path) -> None:
    """Refuse what torch's unpickler makes of any size: a part that is compressed, and a `bytearray` of N zeros."""
    compressed = False
    with contextlib.suppress(zipfile.BadZipFile, NotImplementedError), zipfile.ZipFile(path) as archive:
        compressed = any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())
    if compressed:
        raise RequestError(f"{path}: its parts are compressed; expected a checkpoint that torch.save made")
    if path.stat().st_size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if any(content.find(b"c%s\nbytearray\n" % module) >= 0 for module in (b"builtins", b"__builtin__")):
                raise RequestError(f"{path}: holds more than weights and is not opened; save model.state_dict()")


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a state dict as a whole: a reader sees it complete or not at all."""
    write_through(path, lambda temporary: torch.save(model.state_dict(), temporary))


def is_whole(path: Path) -> bool:
    """Whether a file is one that `save_weights` wrote: an archive whose parts have their CRC-32."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers with their names, whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.cpu().flatten().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(name[:100] for name in names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )
