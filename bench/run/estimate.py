"""How long a suite may take on this device, from steps that were timed on it. Imports no torch unless it times some."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.catalog.models import FULL, BlockMap, BlockSet
from bench.data.locate import image_counts
from bench.store.cache_dir import cache_dir
from bench.store.durable import write_atomic
from bench.suite.data_axis import DataSpec, image_shape
from bench.suite.load import LoadedSuite
from bench.suite.suite import Cell, ModelSpec
from bench.suite.training import EngineSpec, TrainSpec
from hardware.device import machine

VERSION = 1
"""Raised when a timing means something else, so that no old one is used."""

STEP_S = 0.05
"""A timed step has as many of its batch's images as take about so long."""

FEW = 8
"""Images to warm up with, and to find out by how many more are worth their time."""

TRIES = 4
"""Times a step is timed; the shortest counts, as whatever else the machine does only ever adds."""

START_S = 0.5
"""What a repeat costs besides its work: starting its process, reading its data, first use of each kernel."""

RETAKE_S = 900.0
"""An idle baseline is taken again after so long (`hardware.Sampler.idle_due`)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides how long a step takes: cells that share it are timed once.

    Attributes:
        shape: classes, channels and pixels of a side.
        blocks: that are tuned; every parameter for a method that chooses them itself, which is the most it can cost.
        spec: how, with the default of everything that makes no difference to the time of a step.
        images: of a batch; fewer than the batch size where a cell trains on fewer.
    """

    shape: tuple[int, int, int]
    blocks: BlockSet
    spec: EngineSpec
    threads: int | None
    images: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds an image: once for what a cache keeps, in a training step, and in an evaluation."""

    front_s: float
    step_s: float
    eval_s: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that a suite may take, by what takes them. An upper estimate: no fine-tuning stops early.

    Attributes:
        source_s: training source models; once, they are kept.
        work_s: one fine-tuning of each repeat, and evaluating.
        window_s: doing work again to fill windows, guard bands, and starting processes.
        idle_s: idle baselines.
    """

    source_s: float
    work_s: float
    window_s: float
    idle_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.source_s + self.work_s + self.window_s + self.idle_s


class Estimator:
    """The kinds of step that a suite has, and what was timed of them on this device, in a file of the cache folder.

    Args:
        device: of torch.
        code: hash of a user's own model code.

    Raises:
        RequestError: the images of a folder are not here to be counted.
    """

    def __init__(self, loaded: LoadedSuite, *, device: str, code: str | None) -> None:
        self._suite, self._base, self._device = loaded.suite, loaded.base, device
        suite = loaded.suite
        self._counts = {data.label: image_counts(data) for data in suite.data}
        conditions: dict[str, list[Cell]] = {}
        for cell in suite.cells():
            conditions.setdefault(cell.condition_id, []).append(cell)
        # seeds take equally long
        self._conditions = [(cells[0], len(cells), self._kind_of(cells[0])) for cells in conditions.values()]
        sources = {
            json.dumps([data.dataset, data.source, data.image_size, data.superclasses]): data for data in suite.data
        }
        self._sources = (
            [(data, self._source_kind(data)) for data in sources.values()] if suite.model.checkpoint is None else []
        )
        kinds = dict.fromkeys([*(kind for _, kind in self._sources), *(kind for *_, kind in self._conditions)])
        facts = dataclasses.asdict(machine.facts())
        shared = [
            VERSION,
            [facts[name] for name in ("board", "cpu_model", "machine", "logical_cores", "governor")],
            [metadata.version("torch"), device],
            [suite.model.name, suite.model.width, suite.model.blocks, code],
        ]
        self._keys = {
            kind: _hash([shared, kind.spec.model_dump(), dataclasses.astuple(kind)[:2], kind.threads, kind.images])
            for kind in kinds
        }
        self._path = cache_dir() / "timings.json"
        self._known = _read(self._path)

    def lacking(self) -> list[Kind]:
        """The kinds that were not timed yet."""
        return [kind for kind, key in self._keys.items() if key not in self._known]

    def take(self, kind: Kind) -> None:
        """Time a kind, and keep the result.

        Raises:
            RequestError: the model cannot be built, or this machine cannot do what the kind asks for.
        """
        self._known[self._keys[kind]] = time_steps(
            kind, self._suite.model, self._suite.block_map, self._base, self._device
        )
        content = {key: dataclasses.astuple(rates) for key, rates in self._known.items()}
        write_atomic(self._path, json.dumps(content))

    def estimate(self) -> Estimate | None:
        """How long all repeats may take; None where a kind was not timed."""
        if self.lacking():
            return None
        energy = self._suite.energy
        source_s = work_s = window_s = 0.0
        for data, kind in self._sources:
            images = self._suite.model.source_train.epochs * self._counts[data.label][0]
            source_s += images * self._rates(kind).step_s
        for cell, n_cells, kind in self._conditions:
            repeats = n_cells * energy.repeats
            tuning_s, test_s = self._cell_seconds(cell, self._rates(kind))
            executions = max(1, math.ceil(energy.min_window_s / max(tuning_s, 1e-3)))  # work is done again as a whole
            work_s += repeats * (tuning_s + test_s)
            window_s += repeats * ((executions - 1) * tuning_s + 2 * energy.guard_s + START_S)
        baselines = 2 + (work_s + window_s) // RETAKE_S
        return Estimate(source_s, work_s, window_s, baselines * energy.idle_s)

    def _rates(self, kind: Kind) -> Rates:
        return self._known[self._keys[kind]]

    def _cell_seconds(self, cell: Cell, rates: Rates) -> tuple[float, float]:
        """Seconds of one fine-tuning with all of its epochs, and of evaluating before and after it."""
        n_target, split = self._counts[cell.data.label][1], self._suite.split
        n_train, n_val, n_test = cell.n_train(n_target), split.val * n_target, split.test * n_target
        spec = self._suite.tuning(cell)
        each_s = n_train * rates.step_s + n_val * rates.eval_s
        return (n_train + n_val) * rates.front_s + spec.epochs * each_s, 2 * n_test * (rates.front_s + rates.eval_s)

    def _kind_of(self, cell: Cell) -> Kind:
        spec = self._suite.tuning(cell)
        n_train = cell.n_train(self._counts[cell.data.label][1])
        return _kind(cell.data, cell.blocks or (FULL,), spec, spec.threads, min(spec.batch_size, n_train))

    def _source_kind(self, data: DataSpec) -> Kind:
        spec = self._suite.model.source_train
        return _kind(data, (FULL,), spec, self._suite.train.threads, min(spec.batch_size, self._counts[data.label][0]))


def _kind(data: DataSpec, blocks: BlockSet, spec: TrainSpec, threads: int | None, images: int) -> Kind:
    same = EngineSpec.model_fields.keys() - {"epochs", "lr", "momentum", "weight_decay", "patience", "compile"}
    plain = EngineSpec(patience=None, **{key: value for key, value in spec if key in same})
    return Kind(image_shape(data), blocks, plain, threads, images)


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Rates]:
    """What was timed before; nothing where the file is damaged, as it can be made again."""
    try:
        return {str(key): Rates(*map(float, rates)) for key, rates in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def time_steps(kind: Kind, spec: ModelSpec, block_map: BlockMap, base: Path, device_name: str) -> Rates:
    """Time a kind of step: fine-tune on random images for one epoch, with a cache for three too, and evaluate.

    Raises:
        RequestError: the model cannot be built, or this machine cannot do what the kind asks for.
    """
    import torch

    from bench.models.blocks import train_only
    from bench.models.build import build_model
    from bench.training.loop import Batchable, mean_loss
    from bench.training.tuner import Tuner, check_levers

    device, threads = torch.device(device_name), torch.get_num_threads()
    if kind.threads is not None:
        torch.set_num_threads(kind.threads)
    n_classes, channels, size = kind.shape
    model = build_model(spec, n_classes=n_classes, in_channels=channels, image_size=size, base=base).to(device)
    check_levers(model, kind.spec, device)
    parameters = train_only(model, block_map, kind.blocks)

    def images(n: int) -> Batchable:
        pixels = torch.rand(n, channels, size, size, device=device)
        return Batchable(pixels, torch.arange(n, device=device) % n_classes)

    def shortest_s(execute: Callable[[], object]) -> float:
        times = []
        for _ in range(TRIES):
            started_s = time.perf_counter()
            execute()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started_s)
        return min(times)

    with tempfile.TemporaryDirectory() as scratch:
        tuner = Tuner(model, parameters, kind.spec, Path(scratch))

        def epochs_s(batch: Batchable, epochs: int) -> float:
            return shortest_s(lambda: tuner.fine_tune(batch, batch, seed=0, epochs=epochs))

        few = min(FEW, kind.images)
        n = min(kind.images, max(few, int(few * STEP_S / epochs_s(images(few), 1))))
        batch = images(n)
        once_s = epochs_s(batch, 1)
        cached = tuner.cache_mb is not None
        thrice_s = epochs_s(batch, 3) if cached else 0.0
        forward_s = shortest_s(lambda: mean_loss(model, batch)) / n
    torch.set_num_threads(threads)
    if not cached:
        return Rates(0.0, max(once_s / n - forward_s, forward_s), forward_s)
    # of what is left to do in an epoch, a step is about three forward passes, an evaluation is one
    pass_s = max(0.0, thrice_s - once_s) / 2 / (4 * n)
    return Rates(forward_s, 3 * pass_s, pass_s)
