"""One cell in a fresh process: load, warm up, wait, train, wait, evaluate.

The parent imports this module too, for the entry point's name, so torch and all that needs it is imported inside the
function; in the child that costs nothing, the server it was forked from has imported it.
"""

from __future__ import annotations

import resource
import sys
import time
from multiprocessing.connection import Connection

from bench.process import child
from bench.process.messages import EPOCH, GO, RELEASE, CellJob, Evaluated, Ready, Trained

HEARTBEAT_S = 5.0
WARM_UP_IMAGES = 32
"""Enough to load every kernel; a whole batch of a large net would take longer than all else before the first step."""


def run_cell(connection: Connection, job: CellJob, log: str) -> None:
    """Entry point of a repeat's process."""
    child.run(connection, log, lambda: _run_cell(connection, job))


def _run_cell(connection: Connection, job: CellJob) -> None:
    import torch

    from bench.cost import cell_costs
    from bench.data.domain import load_domain
    from bench.data.locate import cache_dir
    from bench.data.splits import split_target
    from bench.methods import fixed
    from bench.models.source import load_source_model
    from bench.training.loop import Batchable, accuracy, to_tensors
    from bench.training.tuner import Tuner

    suite, cell, device = job.suite, job.cell, torch.device(job.device)
    spec = suite.tuning(cell)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    torch.backends.cudnn.benchmark = False
    domain = load_domain(job.prepared.domain)
    target = domain.target
    split = split_target(
        target.y,
        n_train=cell.n_train(len(target.y)),
        fractions=(suite.split.pool, suite.split.val, suite.split.test),
        label=cell.data.label,
        seed=cell.seed,
    )
    pixels = suite.model.pixels
    train, val = (to_tensors(target.take(part), device, pixels) for part in (split.train, split.val))
    model = load_source_model(suite.model, domain, job.prepared.weights, job.base).to(device)
    source_state = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = fixed.choose(cell, model, suite.block_map)
    tuner = Tuner(model, parameters, spec, cache_dir())

    # first use of each kernel, thread pool and allocator: not a part of what tuning costs. What is compiled is compiled
    # for the sizes of whole batches
    few = len(train.x) if spec.compile else min(WARM_UP_IMAGES, len(train.x))
    warm = Batchable(train.x[:few], train.y[:few])
    warm_val = val if spec.compile else Batchable(val.x[:few], val.y[:few])
    tuner.fine_tune(warm, warm_val, seed=cell.seed, epochs=1)
    model.load_state_dict(source_state)

    connection.send(Ready())
    child.expect(connection, GO)
    executions, heart = 0, _Heart(connection)
    t0 = time.monotonic()
    while True:
        # a cell too short for its energy source is executed again within the same window
        torch.manual_seed(cell.seed)
        model.load_state_dict(source_state)
        outcome = tuner.fine_tune(train, val, seed=cell.seed, on_epoch=heart.beat)
        executions += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        t1 = time.monotonic()
        if t1 - t0 >= job.window_s:
            break
    peak_rss_mb = _peak_rss_mb()  # before the test images come in
    connection.send(Trained(t0, t1, executions))
    child.expect(connection, RELEASE)

    test = to_tensors(target.take(split.test), device, pixels)
    after = accuracy(model, test)
    model.load_state_dict(source_state)
    connection.send(
        Evaluated(
            n_train=len(train.x),
            n_val=len(val.x),
            n_test=len(test.x),
            trained_parameters=sum(parameter.numel() for parameter in parameters),
            accuracy_before=accuracy(model, test),
            accuracy_after=after,
            best_epoch=outcome.best_epoch,
            epochs_run=outcome.epochs_run,
            steps=outcome.steps,
            peak_rss_mb=peak_rss_mb,
            levers=tuner.levers,
            cache_mb=tuner.cache_mb,
            cache_note=tuner.note or None,
            data_variant=domain.variant,
            **cell_costs(model, train.x, spec, outcome.epochs_run, len(val.x), cached=tuner.cache_mb is not None),
        )
    )


class _Heart:
    """Tells the parent now and then that a long fine-tuning goes on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last_s = time.monotonic()

    def beat(self, _: int) -> None:
        """After each epoch."""
        if time.monotonic() - self._last_s >= HEARTBEAT_S:
            self._last_s = time.monotonic()
            self._connection.send(EPOCH)


def _peak_rss_mb() -> float:
    """Peak resident memory of this process; the kernel counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
