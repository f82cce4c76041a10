"""Estimate how long a suite takes on this device, from steps timed on it. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.catalog.models import FULL, BlockSet
from bench.data.locate import image_counts
from bench.process.ahead import Kind
from bench.process.messages import Timed
from bench.store.cache_dir import cache_dir
from bench.store.durable import json_sha256, write_atomic
from bench.suite.cell import Cell
from bench.suite.data_axis import DataSpec, image_shape
from bench.suite.methods import trains
from bench.suite.suite import Suite
from bench.suite.training import EngineSpec, TrainSpec
from bench.suite.work import Infer, Stream
from hardware.device import machine

VERSION = 1
"""Version of the timings: raise it when their meaning changes, so that no old one is used."""

START_S = 0.5
"""What a repeat costs besides its work: starting its process, reading its data, first use of each kernel."""

RETAKE_S = 900.0
"""An idle baseline is taken again after so long (`hardware.Sampler.idle_due`)."""


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
    """Estimate a suite from its kinds of step and their timings, which a file in the cache folder keeps.

    Args:
        device: of torch.
        code: hash of a user's own model code.

    Raises:
        RequestError: the images of a folder are not here to be counted.
    """

    def __init__(self, suite: Suite, *, device: str, code: str | None) -> None:
        self._suite = suite
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
            [suite.model.label, suite.model.width, suite.model.blocks, code],
        ]
        self._keys = {
            kind: json_sha256(
                [shared, kind.spec.model_dump(), kind.shape, kind.blocks, kind.threads, kind.images]
                + ([kind.arm.label, kind.stream] if kind.arm else [])
            )
            for kind in kinds
        }
        self._path = cache_dir() / "timings.json"
        self._known = _read(self._path)

    def lacking(self) -> list[Kind]:
        """List the kinds that were not timed yet."""
        return [kind for kind, key in self._keys.items() if key not in self._known]

    def keep(self, kind: Kind, rates: Timed) -> None:
        """Store the timings of a kind, for this and later estimates."""
        self._known[self._keys[kind]] = rates
        content = {key: dataclasses.astuple(rates) for key, rates in self._known.items()}
        write_atomic(self._path, json.dumps(content))

    def estimate(self) -> Estimate | None:
        """Estimate the time of all repeats; None where a kind was not timed."""
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

    def _rates(self, kind: Kind) -> Timed:
        return self._known[self._keys[kind]]

    def _cell_seconds(self, cell: Cell, rates: Timed) -> tuple[float, float]:
        """Seconds of one fine-tuning with all of its epochs, and of evaluating before and after it."""
        n_target, split = self._counts[cell.data.label][1], self._suite.split
        n_train, n_val, n_test = cell.n_train(n_target), split.val * n_target, split.test * n_target
        spec = self._suite.tuning(cell)
        each_s = n_train * rates.step_s + n_val * rates.eval_s
        tuning_s = (n_train + n_val) * rates.front_s + spec.epochs * each_s
        if not trains(cell.arm):
            tuning_s = n_train * rates.step_s
        pass_s = rates.front_s + rates.eval_s
        if isinstance(cell.work, Stream):
            n_images = min(cell.work.images or n_test, n_test) * len(cell.data.parts)
            return n_images * (rates.front_s + rates.step_s), n_images * pass_s
        if isinstance(cell.work, Infer):  # the window holds no adapting
            return cell.work.images * pass_s, tuning_s + 2 * n_test * pass_s
        return tuning_s, 2 * n_test * pass_s

    def _kind_of(self, cell: Cell) -> Kind:
        spec = self._suite.tuning(cell)
        n_train = cell.n_train(self._counts[cell.data.label][1])
        stream = isinstance(cell.work, Stream)
        batch = cell.work.batch if isinstance(cell.work, Stream) else min(spec.batch_size, n_train)
        kind = _kind(cell.data, cell.blocks or (FULL,), spec, spec.threads, batch)
        return kind if trains(cell.arm) else dataclasses.replace(kind, arm=cell.arm, stream=stream)

    def _source_kind(self, data: DataSpec) -> Kind:
        spec = self._suite.model.source_train
        return _kind(data, (FULL,), spec, self._suite.train.threads, min(spec.batch_size, self._counts[data.label][0]))


def _kind(data: DataSpec, blocks: BlockSet, spec: TrainSpec, threads: int | None, images: int) -> Kind:
    same = EngineSpec.model_fields.keys() - {"epochs", "lr", "momentum", "weight_decay", "patience", "compile"}
    plain = EngineSpec(patience=None, **{key: value for key, value in spec if key in same})
    return Kind(image_shape(data), blocks, plain, threads, images)


def _read(path: Path) -> dict[str, Timed]:
    """Read the stored timings; {} where the file is damaged, as they can be taken again."""
    try:
        return {str(key): Timed(*map(float, rates)) for key, rates in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
