"""The history page in a real browser: it loads alone, is accessible, shows any series, and works by keyboard."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.history import history
from plots.page.history_page import write_history

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NASTY = "<img src=x onerror=alert(1)>"
CONDITION = "fc on digits-noise, 10 %"
VIEWS = [
    pytest.param({"width": 1200, "height": 900}, "light", id="wide-light"),
    pytest.param({"width": 360, "height": 740}, "dark", id="phone-dark"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory, write_nights: Callable[[Path], Any]) -> Path:
    """24 nights; the first cell costs 8 % more from night 12 on, the last loses ten points from night 15 on."""
    folder = tmp_path_factory.mktemp("history")
    nights = write_nights(folder)
    for night in range(24):
        logs = 0.005 * np.random.default_rng(night).standard_normal(4)
        logs[0] += 0.08 * (night >= 12)
        nights.write(
            night,
            name=f"{night:02} {NASTY if night == 12 else ''}".strip(),
            joules=lambda cell, logs=logs: math.exp(logs[cell]),
            accuracy=lambda cell, night=night: 0.7 if cell == 3 and night >= 15 else 0.8,
            manifest={"versions.torch": "2.9.0" if night < 12 else NASTY},
        )
    return write_history(history([nights.root]), folder / "history.html")


def opened(browser: Browser, file: Path, **more: Any) -> tuple[Page, list[str]]:
    """The page, and what it complains about or asks for."""
    page = browser.new_context(**more).new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: heard.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    return page, heard


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_loads_alone_and_is_accessible(browser: Browser, page_file: Path, size: Any, scheme: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page, heard = opened(browser, page_file, viewport=size, color_scheme=scheme)
    assert page.locator("[data-widget][data-ready]").count() == page.locator("[data-widget]").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    found = axe.Axe().run(page)
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found.response["violations"]] == []
    assert heard == []
    page.context.close()


def test_without_scripts_the_changes_are_there_in_words(browser: Browser, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    words = page.locator("ol.changes li")
    assert words.count() == 2
    assert "10.03 [" in words.nth(0).inner_text()
    assert f"run 12 {NASTY}" in words.nth(1).inner_text()
    assert page.locator("svg.sketch").count() == 2
    context.close()


def test_a_row_opens_its_series_and_the_keyboard_reads_it(browser: Browser, page_file: Path) -> None:
    page, heard = opened(browser, page_file)
    chart = page.locator("[data-block=history]")
    assert chart.locator("h3").inner_text() == "full on digits-flip, 10 %: accuracy"  # the worst change comes first
    row = page.locator("[data-block=changes] tbody tr", has_text=CONDITION)
    assert "torch 2.9.0 -> " in row.inner_text()
    row.get_by_role("button", name=f"Series of {CONDITION}").click()
    page.get_by_role("heading", name=f"{CONDITION}: joules").wait_for()
    drawn = chart.locator(".plot").evaluate("p => ({y: p.data[0].y, lines: p.layout.shapes.map(s => s.x0)})")
    assert len(drawn["y"]) == 24
    assert np.mean(drawn["y"][12:]) / np.mean(drawn["y"][:12]) == pytest.approx(math.exp(0.08), abs=0.01)
    assert drawn["lines"] == [11.5]
    assert "costs " in chart.get_by_role("status").inner_text()
    chart.locator(".plot").focus()
    for _ in range(13):
        page.keyboard.press("ArrowRight")
    assert chart.locator(".reading").inner_text().startswith(f"2025-01-13, run 12 {NASTY}: ")
    assert chart.locator(".reading").inner_text().endswith(", a change begins")
    chart.get_by_label("Measure").select_option("accuracy")
    page.get_by_role("heading", name=f"{CONDITION}: accuracy").wait_for()
    assert "No change is proven in this series." in chart.get_by_role("status").inner_text()
    chart.get_by_label("only conditions with a change").check()
    options = chart.get_by_role("combobox", name="Condition").locator("option").all_inner_texts()
    assert sorted(options) == [CONDITION, "full on digits-flip, 10 % (1 change)"]
    assert heard == []
    page.context.close()
