"""jouletune's door into pytest: options, a marker and a fixture. Loaded in every pytest session, so it does nothing.

It stands outside of `bench` on purpose: a project may well have a package of that name, and importing ours before any
test asks for it would hide theirs. What `--suite` and the fixture `joules` do is in `bench.pytest_plugin.plugin`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench.pytest_plugin.joules import Joules

MARKER = (
    "joules(repeats=5, min_window_s=10, idle_s=30, guard_s=2): how the fixture `joules` measures: number and "
    "length of its windows, of the idle baseline, of the quiet around a window"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("jouletune", "joules and accuracies (jouletune)")
    group.addoption(
        "--suite",
        action="append",
        default=[],
        metavar="SUITE",
        help="Run the cells of a jouletune suite, a shipped name or a path, as benchmarks. May be given several times. "
        "Without a test path beside it nothing else is collected.",
    )
    group.addoption("--suite-cells", metavar="GLOB", help="Only cells whose id matches, e.g. 'digits-*/fc/*'.")
    group.addoption(
        "--suite-out",
        metavar="DIR",
        help="Run folder; what is finished there is not run again. Default: results/pytest/SUITE-TIME, a new one each "
        "time. With several suites DIR/SUITE.",
    )
    group.addoption(
        "--joules-source",
        default="auto",
        metavar="NAME",
        help="Energy source of cells and of the fixture `joules`; see `jouletune sources`. Default: auto.",
    )
    group.addoption(
        "--joules-device",
        default="cpu",
        metavar="DEVICE",
        help="Torch device that trains the cells, and whose energy is looked for. Default: cpu.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if config.getoption("suite"):
        _plugin(config).load_suites()


@pytest.fixture
def joules(request: pytest.FixtureRequest, benchmark: Any) -> Iterator[Joules]:
    """Joules of a function of one's own: `joules(function, *args)` calls it in windows long enough for the meter.

    What it finds goes to `benchmark.extra_info`, the JSON of pytest-benchmark and a table at the end.
    """
    plugin = _plugin(request.config)
    measuring = plugin.joules(request.node, benchmark)
    yield measuring
    plugin.note_joules(request.node, measuring, benchmark)


def _plugin(config: pytest.Config) -> Any:
    """The part that does the work; from the first suite or the first use of the fixture on."""
    known = config.pluginmanager.get_plugin("jouletune-session")
    if known is not None:
        return known
    try:
        from bench.pytest_plugin.plugin import JoulesPlugin
    except ModuleNotFoundError as error:
        import bench

        if hasattr(bench, "__version__") and error.name != "bench.pytest_plugin":
            raise
        raise pytest.UsageError(
            f"jouletune's package `bench` is hidden by one of the same name, {bench.__file__ or list(bench.__path__)}; "
            "run pytest from another folder"
        ) from None
    plugin = JoulesPlugin(config)
    config.pluginmanager.register(plugin, "jouletune-session")
    return plugin
