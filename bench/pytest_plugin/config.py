"""The options of a test session that pytest-benchmark and xdist decide on, and lines between pytest's progress."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


class Lines(io.TextIOBase):
    """A file that writes whole lines between the dots of pytest's progress, past its capturing."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        self._config = config
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        plugins = self._config.pluginmanager
        reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
        if lines and reporter is not None and self._config.option.verbose >= 0:
            with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
                reporter.ensure_newline()
                for line in lines:
                    reporter.write_line(line.rstrip())
        return len(text)


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that several processes share."""
    with (folder / "jouletune.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parallel(config: pytest.Config) -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ or config.getoption("dist", "no") != "no"


def benchmarks_run(config: pytest.Config) -> bool:
    """Tell whether pytest-benchmark measures in this session, by its own rules."""
    option = config.option
    return not _parallel(config) and (option.benchmark_enable or not option.benchmark_disable)


def benchmarks_skipped(config: pytest.Config) -> bool:
    return bool(config.option.benchmark_skip and not config.option.benchmark_only)


def why_not(config: pytest.Config) -> str:
    """Give the reason why nothing is measured, where `benchmarks_run` is false."""
    if _parallel(config):
        return "under xdist every worker would measure all joules; run without -n to measure"
    return "--benchmark-disable"
