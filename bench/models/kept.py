"""Kept: the models that a run's arms left, one safetensors file each, and back to torch modules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from bench.catalog.methods import load_method
from bench.errors import JouletuneError, RequestError, nearest
from bench.models.build import build_model
from bench.store.durable import write_through
from bench.store.run_dir import MAX_MODEL_BYTES, RunDir
from bench.suite.cell import Cell
from bench.suite.load import suite_of
from bench.suite.model import ModelSpec
from hardware.files import read_bytes

FORMAT = 1
"""Version of what stands in the header beside the tensors."""


def keep(model: nn.Module, file: Path, folder: Path, cell: Cell, *, n_classes: int, shape: tuple[int, ...]) -> None:
    """Write a model that an arm left, as a whole.

    Args:
        model: its state dict is written.
        file: below the run folder.
        folder: of the run.
        shape: of an image, [C, H, W].

    Raises:
        JouletuneError: the file cannot be written, or the state has what no such file holds.
    """
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    header = {
        "format": FORMAT,
        "cell_id": cell.cell_id,
        "n_classes": n_classes,
        "in_channels": shape[0],
        "image_size": shape[1],
        "channels_last": any(_is_channels_last(value) for value in model.state_dict().values()),
    }
    try:
        content = write_tensors(state, metadata={"jouletune": json.dumps(header)})
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise JouletuneError(f"the model cannot be kept ({' '.join(str(error).split())[:200]})") from None
    write_through(file, lambda opened: opened.write(content), root=folder)


def load_model(run: Path | str, cell: str, *, repeat: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The model that a cell's arm left, in evaluation mode on the CPU, and the record that names it.

    Args:
        run: its folder.
        cell: id of the cell.
        repeat: which; None: the newest that was kept.

    Raises:
        RequestError: no such cell, or its model was not kept, changed since, or cannot be built here.
    """
    folder = RunDir.existing(run)
    records = folder.records([])
    mine = [record for record in records if record["cell_id"] == cell and repeat in (None, record["repeat"])]
    if not mine:
        raise RequestError(f"{folder.path}: no such cell {cell!r}; {nearest(cell, [r['cell_id'] for r in records])}")
    record = next((record for record in reversed(mine) if record.get("model_file")), None)
    if record is None:
        raise RequestError(f"{folder.path}: no model of {cell} was kept; `jouletune run --keep-models` keeps them")
    header, state = _read(folder, str(record["model_file"]), record.get("model_sha256"))
    manifest = folder.read_manifest([])
    if manifest is None:
        raise RequestError(f"{folder.path}: its manifest is missing, which says what the model is")
    suite, base = suite_of(manifest)
    return _rebuilt(suite.model, base, header, state, record), record


def _read(folder: RunDir, name: str, sha256: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file, once its hash is found right."""
    path = folder.models_dir / name
    try:
        if Path(name).name != name:
            raise OSError(0, "it is a path and not the name of a file")
        content = read_bytes(path, limit=MAX_MODEL_BYTES, root=folder.path)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RequestError(f"{path}: changed since the run wrote it")
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["jouletune"])
        if header["format"] != FORMAT:
            raise RequestError(f"{path}: has format {header['format']}, this version reads {FORMAT}; upgrade jouletune")
        return header, read_tensors(content)
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise RequestError(f"{path}: not a model that a run kept ({' '.join(str(error).split())[:120]})") from None


def _rebuilt(
    spec: ModelSpec, base: Path, header: Mapping[str, Any], state: dict[str, Tensor], record: Mapping[str, Any]
) -> nn.Module:
    shape = {key: header[key] for key in ("n_classes", "in_channels", "image_size")}
    model = build_model(spec, base=base, **shape)
    if state.keys() != model.state_dict().keys():
        loaded = load_method(str(record["method"]))
        if loaded.rebuild is None:
            raise RequestError(f"method {record['method']!r} has no `rebuild`, which makes its model from the tensors")
        model = loaded.rebuild(model, state, loaded.options(record.get("options") or {}))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RequestError(f"the kept tensors do not fit {spec.name} ({' '.join(str(error).split())[:200]})") from None
    if header["channels_last"]:
        model.to(memory_format=torch.channels_last)  # so that sums have the order that they had
    return model.eval()


def _is_channels_last(value: Tensor) -> bool:
    return value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
