"""The options, the marker and the fixture that jouletune adds to pytest.

pytest loads this module in every session of every project. It stands outside of `bench`, and imports nothing of ours
before an option or the fixture is used, because a project may have a package `bench` of its own, which an import would
hide. `bench.pytest_plugin.plugin` has the code behind `--suite` and `joules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench.pytest_plugin.joules import Joules

UNMEASURED = "joules_not_measured_because"
"""Property of the report of a test that used `joules` where nothing is measured; its value is the reason."""

MARKER = (
    "joules(repeats=5, min_window_s=10, idle_s=30, guard_s=2, max_j=None, against=None, fail='5%'): how the fixture "
    "`joules` measures: number and length of its windows, of the idle baseline, of the quiet around a window; and "
    "what fails the test once it is proven: joules of a call, or so much more than in an earlier run"
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
    """Measure the joules of a function: `joules(function, *args)` calls it in windows long enough for the meter.

    The figures go to `benchmark.extra_info`, the JSON of pytest-benchmark and a table at the end.
    """
    plugin = _plugin(request.config)
    measuring = plugin.joules(request.node, benchmark)
    if not measuring.enabled:
        # a property is part of the test's report, which xdist's workers send to the process that writes the summary
        request.node.user_properties.append((UNMEASURED, plugin.why_not()))
    yield measuring
    plugin.note_joules(request.node, measuring, benchmark)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which tests used `joules` and were not measured; also in the process that xdist's workers report to."""
    tests: dict[str, set[str]] = {}
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        for name, reason in getattr(report, "user_properties", ()):
            if name == UNMEASURED:
                tests.setdefault(reason, set()).add(report.nodeid)
    for reason, ids in tests.items():
        count = "1 test that uses it was" if len(ids) == 1 else f"{len(ids)} tests that use it were"
        terminalreporter.section("joules not measured", yellow=True)
        terminalreporter.write_line(f"`joules` measured nothing, {count} executed once: {reason}.")


def _plugin(config: pytest.Config) -> Any:
    """Return the session's JoulesPlugin; make it at the first suite or the first use of the fixture."""
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
