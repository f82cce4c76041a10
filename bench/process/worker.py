"""Run one cell in a fresh process: load, warm up, wait, work, wait, evaluate."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from bench.process.child import Parent
from bench.process.messages import GO, RELEASE, Alive, CellJob, Ready, Trained
from bench.store.record import WorkFigures

HEARTBEAT_S = 5.0
MAX_BEATS = 10_000
"""Epochs or steps whose times are kept."""


def run_cell(parent: Parent) -> None:
    """Entry point of a repeat's process; the job is a CellJob."""
    # these import torch, which the server has and the parent, which has this module, not
    from bench.work.kinds import work_of

    alive_s = time.monotonic()
    beats_s: list[float] = []

    def beat(_: int) -> None:
        nonlocal alive_s
        now_s = time.monotonic()
        if len(beats_s) < MAX_BEATS:
            beats_s.append(now_s)
        if now_s - alive_s >= HEARTBEAT_S:
            alive_s = now_s
            parent.send(Alive())

    job: CellJob = parent.job
    work = work_of(job.cell)(job.suite, job.cell, job.base, job.device, beat)
    work.load(job.prepared.domain, job.prepared.weights, job.prepared.source_facts, job.prepared.cut)
    work.warm_up()
    parent.send(Ready())
    parent.wait_for(GO)
    executions, alive_s = 0, time.monotonic()
    t0 = t1 = time.monotonic()
    work.spans.enter(work.phase, t0)
    while not executions or (t1 - t0 < job.window_s and not work.idle):
        # a cell too short for its energy source is executed again within the same window
        work.execute()
        executions += 1
        t1 = time.monotonic()
    work.spans.close(t1)
    peak_rss_mb = _peak_rss_mb()  # before the test images come in
    rhythm = _rhythm([one for one in beats_s if one >= t0], (t1 - t0) / executions)
    parent.send(Trained(t0, t1, executions, work.spans.take(), rhythm))
    parent.wait_for(RELEASE)
    if job.keep is not None and job.folder is not None:
        work.keep(job.keep, job.folder)
    parent.send(WorkFigures(peak_rss_mb=peak_rss_mb, **work.figures()))


def _rhythm(beats_s: Sequence[float], execution_s: float) -> tuple[float, ...]:
    """The times after which the work repeats, s: from one epoch, or step, to the next, and one execution."""
    between_s = [right - left for left, right in pairwise(beats_s)]
    return (*([median(between_s)] if between_s else []), execution_s)


def _peak_rss_mb() -> float:
    """Peak resident memory of this process; the kernel counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
