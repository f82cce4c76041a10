"""What several test modules share."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bench.data.images import Images, read_cifar10
from bench.data.locate import locate
from bench.errors import RequestError
from bench.record import Record
from bench.suite import DataSpec, Suite
from bench.suite_file import load_suite

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

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
