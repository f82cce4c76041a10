"""Size of the report page and the time until a reader can use it. Prints figures; asserts sizes, and no times.

python -m pytest -m long -s tests/benchmarks/test_report_page.py
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir
from hardware.measure.trace import write_trace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = ("block1", "block2", "block3", "fc", "full")
MAX_PAGE_BYTES = 15_000_000
OPENINGS = 5


def make_run(folder: Path, cells: int, *, repeats: int, traces: bool, samples: int = 700) -> RunDir:
    """A run of so many cells; a trace is a noisy meter at 10 Hz, and 2,500 of them differ: more are not shown."""
    draw = random.Random(0)
    run = RunDir(folder)
    run.traces_dir.mkdir(parents=True)
    facts = {"source": "um25c", "quiet_from_s": 5, "t0_s": 15, "t1_s": 60, "quiet_until_s": 68, "executions": 3}
    shapes = [
        [(i / 10, (4.8 if 150 < i < 600 else 2.1) + draw.gauss(0, 0.2)) for i in range(samples)]
        for _ in range(min(2500, cells * repeats) if traces else 0)
    ]
    written = [
        write_trace(run.traces_dir, f"shape-{number}", shape, column="power_w", facts=facts)
        for number, shape in enumerate(shapes)
    ]
    seeds = cells // (10 * len(BLOCKS))
    with run.cells_path.open("w", encoding="utf-8") as file:
        for cell in range(seeds * 10 * len(BLOCKS)):
            data, block, seed = (
                f"digits-noise-sev{cell % 10}",
                BLOCKS[cell // 10 % len(BLOCKS)],
                cell // 10 // len(BLOCKS),
            )
            name = f"{data}/n=0.1/{block}/s={seed}"
            for repeat in range(repeats):
                trace = None
                if traces:
                    trace = f"{cell}-{repeat}.csv.gz"
                    os.link(run.traces_dir / written[(cell + repeat) % len(written)], run.traces_dir / trace)
                joules = 10 + BLOCKS.index(block) + draw.gauss(0, 0.2)
                record = Record(
                    cell_id=name,
                    repeat=repeat,
                    status="ok",
                    dataset="digits",
                    shift="noise",
                    level="input",
                    data=data,
                    train_size=0.1,
                    blocks=block,
                    seed=seed,
                    method="fixed",
                    model="resnet26",
                    bn_mode="train",
                    started_at="2025-01-01T00:00:00+00:00",
                    accuracy_before=0.3,
                    accuracy_after=min(1.0, 0.5 + BLOCKS.index(block) / 10 + draw.gauss(0, 0.01)),
                    n_train=90,
                    n_test=1000,
                    train_time_s=3.1,
                    executions=3,
                    energy_gross_j=joules,
                    energy_net_j=joules / 2,
                    energy_u_j=joules / 30,
                    idle_power_w=2.1,
                    source="um25c",
                    source_kind="power",
                    grade="A",
                    trace=trace,
                )
                file.write(record.to_json() + "\n")
    run.write_manifest(Manifest.of({"suite": {"title": f"{cells} cells", "name": "large"}}, []))
    return run


def build(run: RunDir) -> tuple[float, float, float]:
    """(seconds, seconds of CPU, MB at most) of `jouletune report` in a process of its own."""
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    code = (
        "import resource, sys; from bench.cli.commands import cli; "
        f"cli.main(['report', {str(run.path)!r}], standalone_mode=False); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start_s, cpu_s, int(done.stderr.split()[-1]) / 1024


def open_times(browser: Browser, page: Path) -> list[float]:
    """Seconds from the start of the navigation until every widget works, each time in a fresh context."""
    times = []
    for _ in range(OPENINGS):
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        tab = context.new_page()
        # the moment in the page's own clock, which begins with the navigation
        tab.add_init_script(
            "new MutationObserver(() => { if ('ready' in document.documentElement.dataset) "
            "window.ready_ms ??= performance.now(); }).observe(document, { subtree: true, attributes: true });"
        )
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        times.append(tab.evaluate("window.ready_ms") / 1000)
        assert tab.locator("[data-widget][data-ready]").count() == tab.locator("[data-widget]").count()
        context.close()
    return times


@pytest.mark.parametrize(
    ("cells", "repeats", "traces"),
    [
        pytest.param(2_000, 1, True, id="2000-cells-with-traces"),
        pytest.param(2_000, 5, True, id="2000-cells-of-5-traces"),
        pytest.param(20_000, 5, False, id="100000-records"),
        pytest.param(4_000, 25, True, id="100000-records-with-traces", marks=pytest.mark.timeout(1800)),
    ],
)
def test_size_and_time(browser: Browser, tmp_path: Path, cells: int, repeats: int, traces: bool) -> None:
    run = make_run(tmp_path / "run", cells, repeats=repeats, traces=traces)
    seconds, cpu_s, peak_mb = build(run)
    size = run.report_path.stat().st_size
    opened = sorted(open_times(browser, run.report_path))
    print(
        f"\n{cells} cells x {repeats}{', traces' if traces else ''}: built in {seconds:.1f} s ({cpu_s:.1f} s CPU, "
        f"{peak_mb:.0f} MB at most), page {size / 1e6:.1f} MB, interactive after {opened[len(opened) // 2]:.2f} s "
        f"(median of {len(opened)}, {opened[0]:.2f} to {opened[-1]:.2f})"
    )
    print(f"load of the machine meanwhile: {os.getloadavg()[0]:.1f}")
    assert size <= MAX_PAGE_BYTES
