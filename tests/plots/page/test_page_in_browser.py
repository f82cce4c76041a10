"""The report page in a real browser: it loads alone, sorts, filters, shows traces, and works by keyboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.analysis import load
from bench.compare import compare
from bench.store.manifest import Manifest
from bench.store.record import Record
from bench.store.run_dir import RunDir
from hardware.measure.trace import write_trace
from plots.drawing import style
from plots.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

ACCURACY = {"block1": 0.2, "block2": 0.4, "block3": 0.6, "fc": 0.9, "full": 0.95}
NASTY = "</script><img src=x onerror=alert(1)>&lt;b&gt;"
PEAK_W = 17.25
MISSING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
VIEWS = [
    pytest.param({"width": 1200, "height": 900}, "light", id="wide-light"),
    pytest.param({"width": 360, "height": 740}, "dark", id="phone-dark"),
]
CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"


def make_run(folder: Path, name: str, *, factor: float = 1.0) -> RunDir:
    """Three shifts, one with a hostile name, each with five arms and four seeds; every repeat has a trace."""
    run = RunDir(folder / name)
    run.traces_dir.mkdir(parents=True)
    number = 0
    for data in ("digits-noise", "digits-flip", NASTY):
        for block, accuracy in ACCURACY.items():
            for seed in range(4):
                number += 1
                joules = factor * (10 + 100 * accuracy + seed / 10)
                shape = [(50 + i / 20, 5.0 if 100 < i < 300 else 2.0) for i in range(400)]
                shape[201] = (shape[201][0], PEAK_W)
                facts = {"source": "meter", "quiet_from_s": 53, "t0_s": 55, "t1_s": 65, "quiet_until_s": 67}
                record: dict[str, Any] = {
                    "cell_id": f"{data}/n=0.1/{block}/s={seed}",
                    "repeat": 0,
                    "status": "ok",
                    "dataset": "digits",
                    "shift": "flip",
                    "level": "output",
                    "data": data,
                    "train_size": 0.1,
                    "blocks": block,
                    "seed": seed,
                    "method": "fixed",
                    "model": "resnet8",
                    "bn_mode": "train",
                    "started_at": "2025-01-01T00:00:00+00:00",
                    "accuracy_before": 0.1,
                    "accuracy_after": accuracy - seed / 1000,
                    "n_train": 90,
                    "n_test": 180,
                    "energy_gross_j": joules,
                    "energy_net_j": joules / 2,
                    "energy_u_j": joules / 50,
                    "idle_power_w": 2.0,
                    "train_time_s": 1.0,
                    "executions": 1,
                    "source": "meter",
                    "source_kind": "power",
                    "grade": "B" if seed else "A",
                    "flags": ("short_idle",) if seed else (),
                    "trace": write_trace(run.traces_dir, f"t{number}", shape, column="power_w", facts=facts),
                }
                if (data, block, seed) == ("digits-noise", "fc", 3):
                    record |= {"energy_gross_j": None, "energy_net_j": None, "grade": "X", "flags": ("source_died",)}
                run.append(Record(**record))
    content = {"suite": {"title": f"A run {NASTY}", "text": f"title: {NASTY}"}, "device": {"name": NASTY}}
    run.write_manifest(Manifest.of(content, []))
    return run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    run, base = make_run(folder, "run"), make_run(folder, "base", factor=0.8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "PNG_DPI", 30)
        results = load(run)
        return write_report(results, run, comparisons=[compare(results, load(base))]).html


@dataclass
class Visit:
    """An open page and everything it complained about or asked for."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def rows(self, column: int, table: str = "cells") -> list[str]:
        cells = self.page.locator(f"[data-block={table}] tbody tr > :nth-child({column})")
        return cells.all_inner_texts()


def wait(page: Page, expression: str) -> None:
    """Until an expression holds. playwright's own waiting evaluates in the page, which the page's policy forbids."""
    end_s = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end_s, expression
        page.wait_for_timeout(20)


def open_page(context: BrowserContext, file: Path, *, ready: bool = True) -> Visit:
    page = context.new_page()
    visit = Visit(page)
    page.on("console", lambda message: visit.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: visit.messages.append(f"error: {error}"))
    page.on("dialog", lambda dialog: visit.messages.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: visit.requests.append(request.url))
    page.goto(file.as_uri())
    if ready:
        page.wait_for_selector("html[data-ready]")
    return visit


@pytest.fixture(scope="module")
def visit(browser: Browser, report: Path) -> Iterator[Visit]:
    """The page, wide and light, for all tests; in the end it has complained about nothing and asked for nothing."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    opened = open_page(context, report)
    yield opened
    assert opened.messages == []
    assert opened.requests == [report.as_uri()]
    context.close()


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_loads_alone_and_is_accessible(browser: Browser, report: Path, size: Any, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    context = browser.new_context(viewport=size, color_scheme=scheme)
    visit = open_page(context, report)
    assert visit.messages == []
    assert visit.requests == [report.as_uri()]
    widgets = visit.page.locator("[data-widget]")
    assert widgets.count() == 4
    assert visit.page.locator("[data-widget][data-ready]").count() == 4
    assert visit.page.locator("[data-plain]:visible").count() == 0
    # nothing but tables and figures in their own frames is wider than the screen
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    found = axe.Axe().run(visit.page)
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found.response["violations"]] == []
    assert visit.messages == []
    context.close()


def test_without_scripts_the_words_figures_and_tables_are_there(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    visit = open_page(context, report, ready=False)
    assert visit.page.locator("section:visible").count() == 8
    assert visit.page.locator("figure svg:visible").count() == 4
    assert visit.page.get_by_text("Every cell is a row of summary.csv").is_visible()
    context.close()


def test_summary_comes_first(visit: Visit) -> None:
    headings = visit.page.locator("h2").all_inner_texts()
    assert headings == [
        *("Summary", "Against base", "Figures", "Tables", "Cells", "Power traces", "Quality", "Facts and files")
    ]
    assert "of grade X, joules left out" in visit.text("section[aria-labelledby=summary]")


# -- the table ---------------------------------------------------------------------------------------------


def clean_table(visit: Visit) -> Locator:
    """The table of cells without a filter, sorted by cell."""
    table = visit.page.locator("[data-block=cells]")
    for button in (table.get_by_role("button", name="Clear filters"), table.get_by_role("button", name="Gross, J")):
        if button.is_enabled():
            button.click()
    table.get_by_role("button", name="Cell", exact=True).click()
    return table


def test_sorts(visit: Visit) -> None:
    table = clean_table(visit)
    gross = table.get_by_role("button", name="Gross, J")
    place = table.locator("thead th").all_inner_texts().index("Gross, J") + 1
    gross.click()
    up = visit.rows(place)
    assert [float(text) for text in up] == sorted(float(text) for text in up)
    assert gross.locator("..").get_attribute("aria-sort") == "ascending"
    gross.click()
    down = visit.rows(place)
    assert [float(text) for text in down] == sorted((float(text) for text in down), reverse=True)
    assert float(down[0]) == pytest.approx(105.3)
    table.get_by_role("button", name="Next rows").click()
    table.get_by_role("button", name="Next rows").click()
    assert visit.rows(place)[-1] == MISSING  # what was not measured comes last, either way
    assert table.locator("thead th[aria-sort=descending]").count() == 1


def test_filters(visit: Visit) -> None:
    table = clean_table(visit)
    status = table.get_by_role("status")
    assert status.inner_text() == "Rows 1 to 25 of 60"
    table.get_by_label("Search").fill("FLIP fc")
    assert visit.rows(1) == [f"digits-flip/n=0.1/fc/s={seed}" for seed in range(4)]
    assert status.inner_text() == "Rows 1 to 4 of 4 (60 without filter)"
    table.get_by_label("Flags").select_option("short_idle")
    assert len(visit.rows(1)) == 3
    table.get_by_label("Arm").select_option("full")
    assert status.inner_text() == "No row matches; there are 60."
    table.get_by_role("button", name="Clear filters").click()
    assert status.inner_text() == "Rows 1 to 25 of 60"
    table.get_by_label("Grade").select_option("X")
    assert visit.rows(1) == ["digits-noise/n=0.1/fc/s=3"]


def test_turns_pages(visit: Visit) -> None:
    table = clean_table(visit)
    back, forth = table.get_by_role("button", name="Previous rows"), table.get_by_role("button", name="Next rows")
    seen = visit.rows(1)
    assert back.is_disabled()
    for _ in range(2):
        forth.click()
        seen += visit.rows(1)
    assert forth.is_disabled()
    assert len(seen) == len(set(seen)) == 60


def test_comparison_with_a_base(visit: Visit) -> None:
    part = visit.page.locator("section[aria-labelledby=against-base]")
    assert "worse" in part.locator("p").first.inner_text()
    part.get_by_label("Verdict").select_option("worse")
    assert part.locator("thead th").all_inner_texts()[5] == "Joules, gross, %"
    changes = visit.rows(6, "comparison-1")
    assert changes
    assert all(text.startswith("+25.0 [") for text in changes)


# -- the charts --------------------------------------------------------------------------------------------


def test_a_row_opens_its_trace(visit: Visit) -> None:
    page = visit.page
    clean_table(visit).get_by_label("Search").fill("full s=2")
    page.get_by_role("button", name="Power trace of digits-flip/n=0.1/full/s=2").click()
    heading = page.get_by_role("heading", name="digits-flip/n=0.1/full/s=2, repeat 0")
    heading.wait_for()
    wait(page, "document.activeElement.tagName === 'H3'")
    plot = page.locator("[data-block=power-traces] .plot")
    drawn = plot.evaluate("p => ({y: Math.max(...p.data[0].y), shapes: p.layout.shapes})")
    assert drawn["y"] == pytest.approx(PEAK_W, rel=1e-3)
    spans = [(shape["x0"], shape["x1"]) for shape in drawn["shapes"] if shape["type"] == "rect"]
    assert spans == [(-2, 0), (10, 12), (0, 10)]  # guard, guard, window
    assert [shape["y0"] for shape in drawn["shapes"] if shape["line"].get("dash")] == [2.0]
    said = visit.text("[data-block=power-traces] [role=status]")
    assert "Window 10.00 s." in said
    assert "Highest in the window 17.25 W." in said
    assert "Grade B: short_idle." in said


def test_the_front_and_the_switches(visit: Visit) -> None:
    page, chart = visit.page, visit.page.locator("[data-block=pareto-data]")
    points = "p => p.data[0].x.length"
    assert chart.locator(".plot").evaluate(points) == 5
    # five arms, each dearer and more accurate than the one before: all lie on the front
    assert chart.locator(".plot").evaluate("p => p.data[1].x.length") == 5
    chart.get_by_label("full").uncheck()
    wait(page, "document.querySelector('[data-block=pareto-data] .plot').data[0].x.length === 4")
    chart.get_by_label("95 % intervals").uncheck()
    wait(page, "!document.querySelector('[data-block=pareto-data] .plot').data[0].error_y.visible")
    chart.get_by_role("combobox", name="Shift").select_option(label=NASTY)
    assert chart.locator(".plot").evaluate("p => p.data[0].text.length") == 4
    hover = chart.locator(".plot")
    hover.focus()
    page.keyboard.press("ArrowRight")
    assert "block1" in chart.locator(".reading").inner_text()


def test_colours_follow_the_scheme(visit: Visit) -> None:
    colour = "() => document.querySelector('[data-block=pareto-data] .plot').layout.font.color"
    light = visit.page.evaluate(colour)
    visit.page.emulate_media(color_scheme="dark")
    wait(visit.page, f"({colour})() !== '{light}'")


# -- by keyboard alone -------------------------------------------------------------------------------------


def test_the_tab_key_reaches_everything_in_order(browser: Browser, report: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = open_page(context, report).page
    page.evaluate(
        """selector => document.querySelectorAll(selector).forEach((node, number) => {
            const shown = node.checkVisibility() && !node.disabled && !node.closest(".plot *");
            if (shown) node.dataset.stop = number;
        })""",
        CONTROLS,
    )
    wanted = page.evaluate("[...document.querySelectorAll('[data-stop]')].map(node => Number(node.dataset.stop))")
    reached, unmarked = [], []
    for _ in range(len(wanted)):
        page.keyboard.press("Tab")
        stop, outline, html = page.evaluate(
            """() => {
                const node = document.activeElement;
                return [node.dataset.stop, getComputedStyle(node).outlineStyle, node.outerHTML.slice(0, 120)];
            }"""
        )
        reached.append(None if stop is None else int(stop))
        if outline == "none":
            unmarked.append(html)
    assert reached == wanted
    assert unmarked == []
    context.close()


def test_everything_works_by_keyboard(visit: Visit) -> None:
    page, press = visit.page, visit.page.keyboard.press
    table = clean_table(visit)

    table.get_by_role("button", name="Accuracy, %").focus()
    press("Enter")
    assert page.evaluate("document.activeElement.parentElement.getAttribute('aria-sort')") == "ascending"
    table.get_by_label("Search").focus()
    page.keyboard.type("flip fc s=1")
    assert visit.rows(1) == ["digits-flip/n=0.1/fc/s=1"]
    table.get_by_role("button", name="Power trace of").focus()
    press("Enter")
    wait(page, "document.activeElement.textContent.startsWith('digits-flip/n=0.1/fc/s=1')")

    traces = page.locator("[data-block=power-traces]")
    traces.locator(".plot").focus()
    press("Home")
    reading = traces.locator(".reading")
    assert reading.inner_text() == f"{MINUS}5.00 s: 2.000 W"
    for _ in range(5):
        press("PageDown")
    assert reading.inner_text().endswith("in the window")
    span = "(() => { const [a, b] = document.querySelector('[data-block=power-traces] .plot')._fullLayout.xaxis.range;"
    span += " return b - a; })()"
    whole = page.evaluate(span)
    press("+")
    wait(page, f"Math.abs({span} - {whole / 2}) < 0.01")
    press("0")
    wait(page, f"Math.abs({span} - {whole}) < 0.01")
    traces.get_by_role("button", name="Zoom in").focus()
    press("Space")
    wait(page, f"Math.abs({span} - {whole / 2}) < 0.01")
    traces.get_by_role("button", name="Next trace").focus()
    press("Enter")
    traces.get_by_role("heading", name="digits-flip/n=0.1/fc/s=2").wait_for()

    pareto = page.locator("[data-block=pareto-data]")
    shift = pareto.get_by_role("combobox", name="Shift")
    shift.select_option(index=0)
    shift.focus()
    press("ArrowDown")
    assert shift.input_value() == "1"
    count = "document.querySelector('[data-block=pareto-data] .plot').data[0].x.length"
    before = page.evaluate(count)
    pareto.get_by_label("block1").focus()
    press("Space")
    wait(page, f"{count} === {before - 1}")

    page.locator("summary").first.focus()
    press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None


# -- hostile names -----------------------------------------------------------------------------------------


def test_hostile_names_are_texts(visit: Visit) -> None:
    page = visit.page
    assert visit.text("h1") == f"A run {NASTY}"
    clean_table(visit).get_by_label("Search").fill(NASTY.split("<img", maxsplit=1)[0])
    assert visit.rows(1)[0] == f"{NASTY}/n=0.1/block1/s=0"
    assert page.locator("img").count() == 0


def test_only_the_pages_own_scripts_may_run(browser: Browser, report: Path) -> None:
    context = browser.new_context()
    visit = open_page(context, report)
    visit.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src=data:, onerror='window.ran = true'>");
            return new Promise(done => setTimeout(done, 200));
        }"""
    )
    assert visit.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in message for message in visit.messages)
    context.close()
