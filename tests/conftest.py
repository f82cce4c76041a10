"""What several test modules share."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from bench.data.cifar10 import read_cifar10
from bench.data.images import Images
from bench.data.locate import locate
from bench.errors import RequestError
from bench.store.record import Record
from bench.suite.data_axis import DataSpec
from bench.suite.load import LoadedSuite, load_suite
from bench.suite.suite import Suite

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bench", "hardware", "plots", "suites")

_VALID: dict[str, Any] = {
    "name": "trial",
    "title": "A small valid suite",
    "model": {"name": "resnet8"},
    "data": [{"dataset": "digits", "shift": "noise"}, {"dataset": "digits", "shift": "flip"}],
    "train_size": [0.1, 40],
    "blocks": ["block1", ["block2", "block3"], "fc", "full"],
    "seeds": [0, 1],
    "train": {"epochs": 2, "batch_size": 32, "lr": 0.01, "per_block": {"fc": {"lr": 0.1}}},
    "energy": {"repeats": 2, "min_window_s": 0, "idle_s": 0, "guard_s": 0, "cooldown_s": 0},
}


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_works() -> None:
    """A shell that starts the tests in the background lets them ignore Ctrl-C, and so all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Domains and source models made by tests go to a folder of their own, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOULETUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))  # no calibration of the user's own
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of larger data sets; skips the test where there is none."""
    given = os.environ.get("JOULETUNE_DATA")
    if not given:
        pytest.skip("JOULETUNE_DATA is not set: the larger data sets are not here")
    return Path(given)


@pytest.fixture(scope="session")
def real_cifar10(data_dir: Path) -> tuple[Images, Images]:
    """CIFAR-10's train and test part, read once; skips the test where it is not here."""
    data = DataSpec(dataset="cifar10", shift="flip", level="output", label="cifar10-flip")
    try:
        located = locate(data)
    except RequestError:
        pytest.skip(f"no CIFAR-10 in {data_dir}")

    def progress(done: int, total: int) -> None:
        assert 0 < done <= total

    return read_cifar10(located, progress)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that is installed, headless; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (on Debian: apt install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it comes with the extra test")
    # Chromium refuses to run as root with its sandbox
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture
def valid() -> dict[str, Any]:
    """The content of a valid suite, to be changed by the test."""
    return copy.deepcopy(_VALID)


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[..., Path]:
    """Writes a suite file: text as it is, anything else as YAML."""

    def write(content: object, name: str = "s.yaml") -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def make_suite(valid: dict[str, Any], write_suite: Callable[..., Path]) -> Callable[..., Suite]:
    """Loads the valid suite with some root keys replaced; None drops a key."""

    def make(**changes: object) -> Suite:
        content = {key: value for key, value in (valid | changes).items() if value is not None}
        return load_suite(str(write_suite(content))).suite

    return make


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A complete record with some fields replaced."""

    def make(**changes: Any) -> Record:
        fields: dict[str, Any] = {
            "cell_id": "digits-noise/n=0.1/block1/s=0",
            "repeat": 0,
            "status": "ok",
            "dataset": "digits",
            "shift": "noise",
            "level": "input",
            "data": "digits-noise",
            "train_size": 0.1,
            "blocks": "block1",
            "seed": 0,
            "method": "fixed",
            "model": "resnet8",
            "bn_mode": "train",
            "started_at": "2025-01-01T00:00:00+00:00",
            "accuracy_before": 0.25,
            "accuracy_after": 0.5,
        }
        return Record(**(fields | changes))

    return make


class NightWriter:
    """Writes run folders as a lab's nightly runs leave them: a manifest and a line per repeat.

    Attributes:
        root: folder of the runs.
        loaded: the suite that they ran.
    """

    def __init__(self, root: Path, loaded: LoadedSuite) -> None:
        import hardware
        from bench.run.surroundings import make_manifest

        self.root = root
        self.loaded = loaded
        self._cells = loaded.suite.cells()
        self._manifest = make_manifest(loaded, hardware.choose("simulated"), torch_device="cpu").to_dict()

    def write(
        self,
        day: int,
        *,
        name: str | None = None,
        joules: Callable[[int], float] = lambda _cell: 1.0,
        accuracy: Callable[[int], float] = lambda _cell: 0.8,
        seconds: Callable[[int], float] = lambda _cell: 2.0,
        manifest: Mapping[str, Any] | None = None,
        record: Mapping[str, Any] | None = None,
        keep: int | None = None,
    ) -> Path:
        """The run of a day, counted from 2025-01-01.

        Args:
            joules, accuracy, seconds: of the cell of a number; repeats of a night differ by a tenth of a per cent.
            manifest: keys to replace, by dotted name; record: fields of every record to replace.
            keep: repeats to write, as if the run had been stopped after so many.
        """
        night = datetime(2025, 1, 1, 2) + timedelta(days=day)
        folder = self.root / (name or night.date().isoformat())
        folder.mkdir(parents=True)
        content = copy.deepcopy(self._manifest)
        stamp = f"{night.isoformat(timespec='seconds')}+00:00"
        content |= {"created_at": stamp, "sessions": [{"started_at": stamp, "idle": [], "ended_at": stamp}]}
        for key, value in (manifest or {}).items():
            *path, last = key.split(".")
            place = content
            for part in path:
                place = place[part]
            place[last] = value
        (folder / "manifest.json").write_text(json.dumps(content, indent=2))
        rng = np.random.default_rng(day)
        lines = []
        for repeat in range(self.loaded.suite.energy.repeats):
            for number, cell in enumerate(self._cells):
                fields: dict[str, Any] = {
                    "cell_id": cell.cell_id, "repeat": repeat, "status": "ok", "dataset": cell.data.dataset,
                    "shift": cell.data.shift, "level": cell.data.level, "data": cell.data.label,
                    "train_size": cell.train_size, "blocks": "+".join(cell.blocks), "seed": cell.seed,
                    "method": "fixed", "model": "resnet8", "bn_mode": "train", "started_at": stamp, "n_train": 90,
                    "n_val": 180, "n_test": 359, "accuracy_before": 0.5,
                    "accuracy_after": round(359 * accuracy(number)) / 359, "best_epoch": 10, "epochs_run": 10,
                    "steps": 60, "train_time_s": seconds(number), "executions": 3, "source": "simulated",
                    "source_kind": "power", "grade": "B", "idle_power_w": 2.0,
                    "energy_gross_j": 10.0 * joules(number) * math.exp(0.001 * rng.standard_normal()),
                    "energy_net_j": 6.0 * joules(number), "energy_u_j": 0.2, "energy_net_u_j": 0.2,
                }  # fmt: skip
                lines.append(Record(**(fields | dict(record or {}))).to_json())
        (folder / "cells.jsonl").write_text("".join(f"{line}\n" for line in lines[:keep]))
        return folder

    @staticmethod
    def day(number: int) -> str:
        """The date of a day that `write` takes."""
        return (date(2025, 1, 1) + timedelta(days=number)).isoformat()


@pytest.fixture(scope="session")
def write_nights() -> Callable[..., NightWriter]:
    """Makes a writer of nightly runs under a folder: of four cells, two repeats each, or of another suite."""

    def make(folder: Path, **changes: object) -> NightWriter:
        suite = folder / "nightly.yaml"
        content = _VALID | {"train_size": [0.1], "blocks": ["fc", "full"], "seeds": [0]} | changes
        suite.write_text(yaml.safe_dump(content, sort_keys=False))
        return NightWriter(folder / "runs", load_suite(str(suite)))

    return make


@pytest.fixture
def nights(tmp_path: Path, write_nights: Callable[..., NightWriter]) -> NightWriter:
    """Nightly runs of four cells under tmp_path / "runs"."""
    return write_nights(tmp_path)


# -- the wheel, built and installed -----------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it, and a folder far from the checkout to work in."""

    wheel: Path
    prefix: Path
    cwd: Path

    def run(
        self, program: str, *arguments: str, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return run(self.prefix / "bin" / program, *arguments, cwd=cwd or self.cwd, **environment)

    def python(self, code: str) -> str:
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def run(program: Path | str, *arguments: str, cwd: Path, **added: str) -> subprocess.CompletedProcess[str]:
    """Run a program that knows nothing of the checkout, of this environment or of this test session."""
    ours = ("PYTHON", "PYTEST", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | added
    return subprocess.run(
        [str(program), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution from a copy without leftovers of older builds."""
    folder = tmp_path_factory.mktemp("build")
    source, out = folder / "source", folder / "dist"
    leftovers = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*PACKAGES, "results/reference"):
        shutil.copytree(ROOT / name, source / name, ignore=leftovers)
    for name in ("pyproject.toml", "README.md", "LICENSE", "jouletune_pytest.py"):
        shutil.copy(ROOT / name, source / name)
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own that borrows this one's dependencies."""
    prefix = tmp_path_factory.mktemp("installed") / "v"
    cwd = tmp_path_factory.mktemp("elsewhere")
    done = run(sys.executable, "-m", "venv", str(prefix), cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(prefix / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index", str(wheel), cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    # Folders named in a .pth come after the wheel's, and their own .pth files, an editable install's
    # among them, are not read: jouletune can only be the wheel.
    borrowed = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    own = next(prefix.glob("lib/python*/site-packages"))
    (own / "borrowed.pth").write_text("".join(f"{entry}\n" for entry in borrowed))
    for script in entry_points(group="console_scripts"):
        if script.name in ("pytest", "pytest-benchmark"):  # borrowed packages leave theirs behind
            path = prefix / "bin" / script.name
            path.write_text(
                f"#!{prefix}/bin/python\nfrom {script.module} import {script.attr}\nif __name__ == '__main__':\n"
                f"    raise SystemExit({script.attr}())\n"
            )
            path.chmod(0o755)
    return Installed(wheel, prefix, cwd)


@pytest.fixture(scope="session")
def run_elsewhere() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run` of this module."""
    return run
