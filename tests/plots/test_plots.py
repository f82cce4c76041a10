"""Figures, by what is drawn in them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Text

from bench.analysis import Results, analyse, from_records, load
from bench.store.record import Record
from plots import accuracy, energy_saving, pareto
from plots.drawing import style
from plots.drawing.panels import MAX_PAGES, PER_PAGE
from plots.drawing.style import BLOCK_COLOURS, OTHER_COLOURS, Drawn, colours, render, save

ACCURACY = {"block1": 0.2, "block2": 0.4, "block3": 0.6, "fc": 0.9, "full": 0.95}
JOULES = {"block1": 80.0, "block2": 60.0, "block3": 50.0, "fc": 30.0, "full": 100.0}


def run(
    seeds: int = 2, datas: tuple[str, ...] = ("digits-flip",), sizes: tuple[float, ...] = (0.1, 0.3), **more: Any
) -> Results:
    return from_records(
        json.loads(
            Record(
                **{
                    "cell_id": f"{data}/n={size:g}/{block}/s={seed}",
                    "repeat": 0,
                    "status": "ok",
                    "dataset": "digits",
                    "shift": "flip",
                    "level": "output",
                    "data": data,
                    "train_size": size,
                    "blocks": block,
                    "seed": seed,
                    "method": "fixed",
                    "model": "resnet8",
                    "bn_mode": "train",
                    "started_at": "2025-01-01T00:00:00+00:00",
                    "accuracy_after": ACCURACY[block] + seed / 1000,
                    "energy_gross_j": JOULES[block] * 10 * size * 1.01**seed,
                    "energy_net_j": JOULES[block] * 5 * size,
                    "source": "meter",
                    "source_kind": "power",
                    "grade": "A",
                }
                | more
            ).to_json()
        )
        for data in datas
        for size in sizes
        for block in ACCURACY
        for seed in range(seeds)
    )


def draw(module: Any, results: Results) -> list[Drawn]:
    drawn: list[Drawn] = module.draw(results, analyse(results))
    return drawn


def marks(axes: Axes) -> list[tuple[str, float]]:
    """(arm, height) of each mark, from left to right."""
    found = [line for line in axes.lines if str(line.get_gid()).startswith("mark-")]
    found.sort(key=lambda line: float(line.get_xdata()[0]))
    return [(line.get_gid().removeprefix("mark-"), round(float(line.get_ydata()[0]), 2)) for line in found]


def words(drawn: Drawn) -> str:
    return " ".join(text.get_text() for text in drawn.figure.texts)


ARMS = [("block1", 20.0), ("block2", 40.0), ("block3", 60.0), ("fc", 90.0), ("Block Avg", 52.5), ("full", 95.0)]


def test_marks_have_the_heights_of_the_table_untuned_and_full_among_them() -> None:
    (drawn,) = draw(accuracy, run(seeds=1, accuracy_before=0.1))
    (axes,) = drawn.figure.axes
    assert marks(axes) == [("untuned", 10.0), *ARMS] * 2
    colours_of = {line.get_gid(): to_hex(line.get_color()) for line in axes.lines}
    assert [colours_of[f"mark-{arm}"] for arm in BLOCK_COLOURS] == [*BLOCK_COLOURS.values()]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10 %", "30 %"]
    assert axes.get_ylabel() == "accuracy, %"


def test_the_axis_is_as_wide_as_marks_and_whiskers() -> None:
    (drawn,) = draw(accuracy, run(seeds=1, sizes=(0.1,)))
    low, high = drawn.figure.axes[0].get_ylim()
    assert 10 < low < 20
    assert 95 < high < 105


def test_only_the_target_is_outlined() -> None:
    (drawn,) = draw(accuracy, run(seeds=1, sizes=(0.1,)))
    (axes,) = drawn.figure.axes
    edges = {line.get_gid(): line.get_markeredgewidth() for line in axes.lines}
    assert [arm for arm in ("block1", "block2", "block3", "fc", "full") if edges[f"mark-{arm}"]] == ["fc"]


def test_whiskers_are_the_interval() -> None:
    (drawn,) = draw(accuracy, run(sizes=(0.1,)))
    (axes,) = drawn.figure.axes
    (segment,) = axes.containers[0].lines[2][0].get_segments()
    half = 12.706205 * 0.1 / 2  # points: sd 0.1 / sqrt(2), over sqrt(2) seeds
    assert segment[:, 1] == pytest.approx([20.05 - half, 20.05 + half])
    assert "n = 2 seeds" in words(drawn)


def test_one_seed_has_no_whiskers() -> None:
    (drawn,) = draw(accuracy, run(seeds=1))
    assert not drawn.figure.axes[0].containers
    assert "n = 1 seed" in words(drawn)


def test_saving_marks_and_their_caption() -> None:
    (drawn,) = draw(energy_saving, run(sizes=(0.1,)))
    (axes,) = drawn.figure.axes
    assert marks(axes) == [("block1", 20), ("block2", 40), ("block3", 50), ("fc", 70), ("Block Avg", 45)]
    assert "meter (power, grade A)" in words(drawn)
    assert "simulated" not in words(drawn)


def test_the_page_has_a_figure_without_title_and_caption() -> None:
    (drawn,) = draw(accuracy, run(sizes=(0.1,)))
    rendered = render(drawn)
    assert "Accuracy by tuned block" in rendered.svg
    assert "Accuracy by tuned block" not in rendered.bare
    assert "digits-flip" in rendered.bare
    assert rendered.caption.startswith("Mean accuracy on the target")
    assert render(drawn).svg == rendered.svg  # hidden for a moment only


@pytest.mark.parametrize("module", [energy_saving, pareto])
def test_what_is_not_measured_is_in_title_and_caption(module: Any) -> None:
    results = run(source="simulated", flags=("simulated",))
    (drawn,) = draw(module, results)
    assert "(simulated)" in words(drawn)
    assert "not measured: simulated" in words(drawn)


def test_an_interval_below_zero_is_drawn_and_one_far_below_has_an_arrow() -> None:
    results = run(sizes=(0.1,))
    for block, factors in {"block1": (1.0, 1.1), "block2": (0.5, 1.7)}.items():
        for seed, factor in enumerate(factors):
            one = (results.records["blocks"] == block) & (results.records["seed"] == seed)
            results.records.loc[one, "energy_gross_j"] *= factor
    table = analyse(results).blocks.set_index("arm")["saving_gross_lo"]
    assert -1 < table["block1"] < 0
    assert table["block2"] < -1
    (drawn,) = draw(energy_saving, results)
    (axes,) = drawn.figure.axes
    lows = [one.lines[2][0].get_segments()[0][0, 1] for one in axes.containers if hasattr(one, "lines")]
    assert lows[:2] == pytest.approx([100 * table["block1"], -100])
    arrows = {line.get_gid() for line in axes.lines if str(line.get_gid()).startswith("further")}
    assert arrows == {"further-down-block2", "further-down-Block Avg"}  # which has block2 in it
    assert axes.get_ylim()[0] <= -100
    assert "Arrow: the interval reaches below" in words(drawn)


def test_negative_savings_stay_in_view() -> None:
    results = run()
    worse = results.records["blocks"] == "block1"
    results.records.loc[worse, ["energy_gross_j", "energy_net_j"]] *= 2
    (drawn,) = draw(energy_saving, results)
    (axes,) = drawn.figure.axes
    assert min(height for _, height in marks(axes)) == pytest.approx(-60)
    assert axes.get_ylim()[0] < -60


def test_nothing_to_draw_is_no_figure() -> None:
    blank = {"energy_gross_j": None, "energy_net_j": None, "source": None, "source_kind": None, "grade": None}
    assert draw(energy_saving, run(**blank)) == draw(pareto, run(**blank)) == []
    assert len(draw(accuracy, run(**blank))) == 1
    failed = run(status="failed", accuracy_after=None, **blank)
    assert draw(accuracy, failed) == []


def test_front_is_what_nothing_beats() -> None:
    points = pd.DataFrame(
        {"energy_gross_j": [1.0, 2.0, 3.0, 3.0, 4.0, 1.0], "accuracy": [0.5, 0.5, 0.7, 0.6, 0.9, 0.4]}
    )
    assert pareto.front(points).index.tolist() == [0, 2, 4]


def test_pareto_points_and_front() -> None:
    (drawn,) = draw(pareto, run(seeds=1, sizes=(0.1,)))
    (axes,) = drawn.figure.axes
    points = {
        (line.get_xdata()[0], round(float(line.get_ydata()[0]), 6)) for line in axes.lines if line.get_marker() == "o"
    }
    assert points == {(JOULES[arm], 100 * ACCURACY[arm]) for arm in ACCURACY}
    (line,) = (line for line in axes.lines if line.get_gid() == "front")
    assert line.get_xdata().tolist() == [30.0, 100.0]
    assert axes.get_xlabel() == "gross energy of one fine-tuning, J"


def test_the_paper_has_accuracies_and_savings_but_no_pareto() -> None:
    paper = load("paper")
    (drawn,) = draw(accuracy, paper)
    heights = [[height for _, height in marks(axes)][:4] for axes in drawn.figure.axes]
    assert heights == [[73.53, 70.18, 70.17, 68.24], [47.3, 55.57, 65.83, 59.06], [15.94, 29.78, 54.2, 84.43]]
    (saving,) = draw(energy_saving, paper)
    heights = [height for arm, height in marks(saving.figure.axes[0]) if arm != "Block Avg"]
    assert heights == [15.09, 37.74, 45.28, 67.92]
    assert draw(pareto, paper) == []


def test_many_shifts_are_paged_and_capped() -> None:
    datas = tuple(f"data-{n}" for n in range(PER_PAGE * MAX_PAGES + 3))
    drawn = draw(pareto, run(seeds=1, datas=datas, sizes=(0.1,)))
    assert [page.name for page in drawn] == ["pareto", *(f"pareto-{n}" for n in range(2, MAX_PAGES + 1))]
    assert "Page 1 of 8" in words(drawn[0])
    assert "3 more shifts" in words(drawn[-1])


def test_texts_do_not_overlap() -> None:
    (drawn,) = draw(accuracy, run(datas=("a", "a-data-label-that-is-far-too-long-for-its-panel", "$x_1$")))
    figure = drawn.figure
    figure.canvas.draw()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "a"
    assert "…" in titles[1]
    assert titles[2] == "$x_1$"
    boxes = [
        *(axes._left_title.get_window_extent() for axes in figure.axes),
        *(text.get_window_extent() for text in figure.texts),
        *(axes.xaxis.label.get_window_extent() for axes in figure.axes),
        *(legend.get_window_extent() for legend in figure.legends),
    ]
    width, height = figure.canvas.get_width_height()
    for index, box in enumerate(boxes):
        assert 0 <= box.x0 <= box.x1 <= width
        assert 0 <= box.y0 <= box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = dict(
        zip(["block1", "block2", "block3", "fc"], ["$x_1$", "_hidden", "a\x1b[31m\x00", "\u202e\n"], strict=True)
    )
    results = run(datas=("$\\frac{1}{0}$ \x07 \u202e",), sizes=(0.1,), source="$m$ \x1b]0;x\x07")
    results.records["arm"] = results.records["arm"].map(lambda arm: names.get(arm, arm))
    results.records["blocks"] = results.records["arm"]
    for module in (accuracy, energy_saving, pareto):
        (drawn,) = draw(module, results)
        (axes,) = drawn.figure.axes
        assert axes.get_title(loc="left") == "$\\frac{1}{0}$ \\x07 \\u202e"
        legend = [text.get_text().strip() for text in drawn.figure.legends[0].get_texts()]
        assert {"$x_1$", "_hidden", "a\\x1b[31m\\x00", "\\u202e\\n"} <= set(legend)
        _, svg = save(drawn, tmp_path)
        ElementTree.parse(svg)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]", svg.read_text(encoding="utf-8"))


def test_a_block_has_one_colour_everywhere() -> None:
    alone = colours([("fc", "single"), ("full", "full")])
    others = colours([*((f"layer{n}", "single") for n in range(1, 5)), ("fc", "single"), ("full", "full")])
    assert alone["fc"] == others["fc"] == BLOCK_COLOURS["fc"]
    assert len(set(others.values())) == len(others)
    many = colours([(f"layer{n}", "single") for n in range(40)])
    assert len(set(many.values())) == len(OTHER_COLOURS)


def test_files_are_written_whole_and_not_empty(tmp_path: Path) -> None:
    (drawn,) = draw(accuracy, run(datas=("<script>",)))
    png, svg = save(drawn, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.stat().st_size > 5_000
    markup = svg.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in markup
    assert "<script>" not in markup
    assert render(drawn).svg == markup  # the same figure gives the same file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.png", "accuracy.svg"]


def test_more_arms_than_can_be_told_apart_are_in_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "MAX_ARMS", 3)
    results = run(sizes=(0.1,), source="s" * 1_000)
    for module in (accuracy, energy_saving, pareto):
        (drawn,) = draw(module, results)
        assert "more arms are in the tables only" in words(drawn)
        assert drawn.figure.get_figheight() < 8
    assert len(pareto.widget_data(results, analyse(results))["arms"]) == 3


def test_names_on_the_front_cover_no_point_and_no_other_name() -> None:
    results = run(seeds=1, sizes=(0.1,))
    one = results.records[results.records["arm"] == "fc"]
    more = [  # close together, as the arms of a run often are
        one.assign(
            arm=f"method-{number}",
            role="method",
            method=f"method-{number}",
            accuracy_after=0.9 + number / 400,
            energy_gross_j=30 + number / 4,
        )
        for number in range(14)
    ]
    results = dataclasses.replace(results, records=pd.concat([results.records, *more], ignore_index=True))
    (drawn,) = draw(pareto, results)
    (axes,) = drawn.figure.axes
    renderer = drawn.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # Agg's canvas has one
    names = [text for text in axes.texts if text.get_text().startswith("method-")]
    boxes = [Text.get_window_extent(name, renderer) for name in names]
    assert len(names) >= 7
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    points = axes.transData.transform([line.get_xydata()[0] for line in axes.lines if len(line.get_xydata()) == 1])
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_arms_of_one_colour_differ_in_shape() -> None:
    palette = colours([(f"layer{n}", "single") for n in range(3 * len(OTHER_COLOURS))])
    turns = style.turns(palette)
    assert len({(palette[arm], turns[arm]) for arm in palette}) == len(palette)
