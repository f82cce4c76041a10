"""On board: one repeat on a microcontroller: images over, heads trained, images classified, the work timed by laps.

What is measured is what the board computes. One execution of `adapt` is the features of all training images and the
epochs of SGD; handing images over is not in it. The net takes the same steps for each image, so in the window the
features are computed of one image as often as there are images. One execution of `infer` is one image; of a net in two
parts as many leave early, evenly spread, as did of the test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.domain import load_domain
from bench.errors import CellFailedError
from bench.process.child import Parent
from bench.process.messages import GO, RELEASE, Alive, CellJob, Ready, Trained
from bench.store.record import WorkFigures
from bench.targets.build import extractor_sha256
from bench.targets.training import Training, training_of
from bench.work.adapt import Adapt
from hardware.firmware.board import About, JouletuneDut, Mode, note
from hardware.firmware.dut import Timed
from hardware.wire.dut import DutError

PLAIN_INPUT = 27_648
"""Bytes that plain firmware of MLPerf Tiny holds of an image."""

FIRST_S, LEAST_S = 60.0, 5.0
"""Longest wait for one inference or epoch whose time is not known yet, and least wait for any number of them."""

SLOW = 3.0
"""A board that takes so many times longer than it took before has stopped, give or take `LEAST_S`."""

SHORTEST_S = 0.1
"""Least length of a window: the two lines at its ends arrive apart, also where no joules are measured."""

SHORT_S, SOME, MOST = 0.05, 100, 99_999_999
"""Where one inference is shorter, so many are timed; most that a firmware counts."""

INPUTS = 5
"""MLPerf Tiny's energy runner measures so many inputs; repeat i of a cell takes the i-th of them in turn."""

Images = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Seen:
    """What classifying the test images showed.

    Attributes:
        right, early: how many were right, and left early.
        part, full: how many the part's head, and the full model's, had right.
    """

    right: int = 0
    early: int = 0
    part: int = 0
    full: int = 0


def run_on_board(parent: Parent, job: CellJob, dut: JouletuneDut) -> None:
    """Do the work of a repeat between the parent's GO and RELEASE.

    Raises:
        DutError: the board failed.
        CellFailedError: its firmware is of another net, or holds too few examples.
    """
    board = OnBoard(parent, job, dut)
    board.load(job.prepared.domain, job.prepared.weights, job.prepared.source_facts, job.prepared.cut)
    board.prepare()
    parent.send(Ready())
    parent.wait_for(GO)
    parent.send(board.measure())
    parent.wait_for(RELEASE)
    parent.send(WorkFigures(**board.figures()))


class OnBoard(Adapt):
    """A repeat under way; made, then `load`, `prepare`, `measure`, `figures`."""

    def __init__(self, parent: Parent, job: CellJob, dut: JouletuneDut) -> None:
        super().__init__(job.suite, job.cell, job.base, "cpu", lambda _: None)
        self._parent, self._job, self._dut = parent, job, dut
        self._about: About | None = dut.about
        self._training = training_of(job.suite, job.cell)
        self._count = 1
        self._each_s: dict[str, float] = {}
        self._ratio: float | None = getattr(job.cell.work, "ratio", None)
        self._threshold: float | None = None
        self._seen = Seen()
        self._facts: dict[str, Any] = {}
        self._lap_s: float | None = None
        self._instructions: int | None = None
        self._step_instructions: int | None = None
        self._parts: dict[str, Any] = {}

    def prepare(self) -> None:
        """Hand over and train all that the window needs, and see how long a repetition takes."""
        dut, about, training = self._dut, self._about, self._training
        target = load_domain(self._folder).target
        self._train, self._test = (target.take(part) for part in (self._split.train, self._split.test))
        if about is not None:
            self._check(about)
        elif self._test.x[0].size > PLAIN_INPUT:
            raise CellFailedError(f"images of {self._test.x[0].size} bytes; plain firmware holds {PLAIN_INPUT}")
        if training is not None:
            dut.clear()
            for place, (image, label) in enumerate(zip(self._train.x, self._train.y, strict=True)):
                self._load(image)
                dut.add(int(label), place + 1)
            dut.mode("both" if training.both else "head")
            dut.set({"rate": training.rate, "decay": training.decay, "exits": -1.0}, seed=self._cell.seed + 1)
            self._fit(training)
            if training.both:
                self._decide()
        if self._cell.work is not None or training is None:
            self._classify()
        chosen = self._job.repeat % INPUTS % len(self._test.x)
        self._load(self._test.x[chosen])
        if self._ratio is not None and training is not None and training.both:
            dut.set({"exits": self._seen.early / len(self._test.x)})
        self._time()

    def measure(self) -> Trained:
        """Do the work as often as the window needs."""
        if self._cell.work is None:
            return self._measure_training()
        timed = self._infer(self._count)
        figures = _figures(timed, self._count, self._about)
        self._lap_s, self._instructions = figures["lap_s"], figures["instructions"]
        return _trained(timed, timed, self._count)

    def _measure_training(self) -> Trained:
        training, images = self._training, len(self._train.x)
        assert training is not None
        done: list[tuple[Timed, Timed]] = []
        spans: list[tuple[str, float, float]] = []
        at_s = 0.0
        while not done or at_s - done[0][0].t0_s < max(self._job.window_s, SHORTEST_S):
            features, fit = self._infer(images), self._fit(training)
            spans += [("features", at_s or features.t0_s, features.t1_s), ("fit", features.t1_s, fit.t1_s)]
            at_s = fit.t1_s
            done.append((features, fit))
        features, fit = done[-1]
        self._parts = {
            "features": _figures(features, images, self._about),
            "fit": _figures(fit, training.epochs, self._about),
        }
        each, epoch = (self._parts[name]["instructions"] for name in ("features", "fit"))
        if each is not None and epoch is not None:
            self._instructions = images * each + training.epochs * epoch
            self._step_instructions = round(epoch / images)
        if features.lap_s is not None and fit.lap_s is not None:
            self._lap_s = features.lap_s + fit.lap_s
        return _trained(done[0][0], fit, len(done), tuple(spans))

    def _infer(self, count: int) -> Timed:
        timed = self._dut.infer(count, 0, silence_s=self._limit_s("infer", count))
        return self._seen_s("infer", timed)

    def _fit(self, training: Training) -> Timed:
        timed = self._dut.train(training.epochs, 0, silence_s=self._limit_s("train", training.epochs))
        return self._seen_s("train", timed)

    def _seen_s(self, word: str, timed: Timed) -> Timed:
        self._each_s[word] = max((timed.t1_s - timed.t0_s) / timed.count, self._each_s.get(word, 0.0) / 2)
        return timed

    def _limit_s(self, word: str, count: int) -> float:
        """Longest time in which so many repetitions are done, if the board has not stopped."""
        each_s = self._each_s.get(word)
        return FIRST_S * count if each_s is None else LEAST_S + SLOW * count * each_s

    def figures(self) -> dict[str, Any]:
        """Names as in `WorkFigures`. After training in the window the accuracy is that of the head that it left."""
        training, about = self._training, self._about
        if self._cell.work is None:
            self._classify()
        n_test = len(self._test.x)
        if self._parts:
            self._facts["parts"] = self._parts
        width = (about.features + 1 + (about.part_features + 1 if training and training.both else 0)) if about else 0
        trains, exits = training is not None, self._exits()
        early = exits["realised"] if exits else 0.0
        return {
            "n_train": len(self._train.x) if trains else 0,
            "n_test": n_test,
            "n_images": 1 if self._cell.work is not None else None,
            "trained_parameters": about.classes * width if about and trains else 0,
            "accuracy_after": self._seen.right / n_test,
            "epochs_run": training.epochs if training else 0,
            "steps": training.epochs * len(self._train.x) if training else 0,
            "labels": "needed" if trains else "unused",
            "forward_macs": about.macs if about else None,
            "train_macs": self._macs_of_one(early),
            "exits": exits,
            "lap_s": self._lap_s,
            "instructions": self._instructions,
            "step_instructions": self._step_instructions,
            "flash_bytes": about.flash if about else None,
            "sram_bytes": about.sram if about else None,
            "facts": self._facts or None,
        }

    def _macs_of_one(self, early: float) -> int | None:
        """Multiply-accumulates of the net in one execution."""
        about = self._about
        if about is None:
            return None
        if self._cell.work is None:
            return about.macs * len(self._train.x)
        return round(about.macs - early * (about.macs - about.part_macs))

    def _check(self, about: About) -> None:
        shape = (about.height, about.width, about.channels)
        if self._test.x.shape[1:] != shape:
            raise CellFailedError(f"the firmware takes images {shape}, the data has {self._test.x.shape[1:]}")
        training = self._training
        if training is None:
            return
        if about.weights != extractor_sha256(self._task.model):
            raise CellFailedError("the firmware is of another source model; build it again with jouletune firmware")
        if len(self._train.x) > about.slots:
            raise CellFailedError(f"{len(self._train.x)} training images; the firmware stores {about.slots}")

    def _load(self, image: Images) -> None:
        self._dut.load(np.ascontiguousarray(image).tobytes())

    def _decide(self) -> None:
        """Choose who answers: the full model, the part, or the part where it is sure enough."""
        if self._cell.work is None:
            return  # both heads are trained again in the window
        self._dut.mode("head" if self._ratio is None else "stage")
        if self._ratio is not None:
            self._threshold = self._dut.threshold(self._ratio)

    def _classify(self) -> None:
        """Classify the test images; where stages decide, also by each of the two heads alone."""
        training = self._training
        staged = training is not None and training.both and self._ratio is not None
        if training is not None and training.both and self._cell.work is None:
            self._dut.mode("head")
        self._seen = Seen()
        for number, (image, label) in enumerate(zip(self._test.x, self._test.y, strict=True)):
            self._load(image)
            if staged:
                self._seen.part += self._is_right("part", int(label))
                self._seen.full += self._is_right("head", int(label))
                self._dut.mode("stage")
            timed = self._infer(1)
            self._seen.right += int(np.argmax(timed.results)) == int(label)
            self._seen.early += note(timed, "exits-part") or 0
            if number % 20 == 19:
                self._parent.send(Alive())

    def _is_right(self, mode: Mode, label: int) -> bool:
        self._dut.mode(mode)
        return int(np.argmax(self._infer(1).results)) == label

    def _exits(self) -> dict[str, Any] | None:
        """What the decision came to, named as of `bench.work.infer`; None where there was none."""
        training, about, seen, count = self._training, self._about, self._seen, len(self._test.x)
        if self._ratio is None or training is None or not training.both or about is None:
            return None
        return {
            "ratio": self._ratio,
            "realised": seen.early / count,
            "realised_of_window": seen.early / count,
            "threshold": self._threshold,
            "threshold_by": "quantile",
            "confidences_of": "training",
            "accuracy_part": seen.part / count,
            "accuracy_full": seen.full / count,
            "part_macs": about.part_macs,
            "rest_macs": about.macs - about.part_macs,
        }

    def _time(self) -> None:
        """Find how often makes a window of the length that is needed, by this host's clock."""
        once = self._infer(1)
        each_s = once.t1_s - once.t0_s
        if each_s < SHORT_S:  # shorter than what may lie between two lines: some more of them say better
            more = self._infer(SOME)
            each_s = max((more.t1_s - more.t0_s) / SOME, 1e-7)
        self._count = min(max(1, int(np.ceil(1.1 * max(self._job.window_s, SHORTEST_S) / each_s))), MOST)


def _figures(timed: Timed, count: int, about: About | None) -> dict[str, Any]:
    """Seconds by the board's timer and instructions of one repetition."""
    ticks = note(timed, "ticks")
    return {
        "count": count,
        "lap_s": None if timed.lap_s is None else timed.lap_s / count,
        "instructions": None if ticks is None or about is None else about.instructions(ticks, count),
    }


def _trained(first: Timed, last: Timed, executions: int, spans: tuple[tuple[str, float, float], ...] = ()) -> Trained:
    if not last.t1_s > first.t0_s:
        raise DutError("start and end of the work arrived at once; a longer window is needed")
    return Trained(first.t0_s, last.t1_s, executions, spans, (), edge_u_s=max(first.edge_u_s, last.edge_u_s))
