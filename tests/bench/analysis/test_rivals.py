"""Many arms: phases, the front, the oracle, joules per image, and a terminal table that does not wrap."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bench.analysis import analyse, from_records
from bench.analysis.front import front, front_sentences, of_case, oracles
from bench.analysis.tables import accuracy_grid, image_grid, phase_grid
from bench.analysis.terminal import terminal_table
from plots import pareto, phases
from plots.drawing.style import colours, turns

METHODS = [
    *("none", "adabn", "tent", "auto-rgn", "auto-snr", "bias", "bn", "cotta(views=8,mirror=false)", "eata"),
    *("elastic(times=macs)", "lame", "memo", "race", "random", "random(count=2)", "sar", "shot", "t3a"),
]
BLOCKS = {"block1": (0.70, 3.0), "block3": (0.80, 2.0), "full": (0.78, 6.0)}


def line(arm: str, accuracy: float, joules: float | None, **more: Any) -> dict[str, Any]:
    method = "fixed" if arm in BLOCKS else arm.partition("(")[0]
    return {
        "cell_id": f"d-noise/n=40/{arm}/s=0", "data": "d-noise", "level": "input", "train_size": 40.0, "seed": 0,
        "arm": arm, "method": method, "blocks": arm if arm in BLOCKS else "", "repeat": 0, "status": "ok",
        "target_block": "block1", "accuracy_before": 0.5, "accuracy_after": accuracy, "energy_gross_j": joules,
        "grade": None if joules is None else "A", "source": "m", "source_kind": "power", "variant": "", "n_train": 40,
        "options": {"count": 2} if "count" in arm else {"count": 1} if arm == "random" else None,
    } | more  # fmt: skip


def lines() -> list[dict[str, Any]]:
    made = [line(arm, *figures) for arm, figures in BLOCKS.items()]
    for number, arm in enumerate(METHODS):
        joules = None if arm == "none" else 0.5 + number
        made.append(line(arm, 0.5 if arm == "none" else 0.45 + number / 50, joules))
    return made


def shown(records: list[dict[str, Any]], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal_table(from_records(records)))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]  # a StringIO


def test_twenty_arms_have_a_row_each_in_eighty_columns() -> None:
    text = shown(lines())
    assert max(map(len, text.splitlines())) <= 80
    rows = {row.split()[0]: row for row in text.splitlines() if row.strip()}
    for arm in [*BLOCKS, *METHODS]:
        assert arm in rows, arm
        assert " %" in rows[arm]
    assert rows["oracle"].split()[:3] == ["oracle", "(block3)", "80.0"]
    starred = {name for name, row in rows.items() if row.rstrip("\N{NO-BREAK SPACE} ").endswith("*")}
    assert starred == {"none", "block3"} | set(of_case(analyse(from_records(lines())).blocks)["arm"])
    assert "oracle: that best block, as if it had been known, no arm that runs" in " ".join(text.split())


def test_the_front_starts_with_what_costs_nothing() -> None:
    records = [line("none", 0.5, None), line("adabn", 0.48, 1.0), line("tent", 0.6, 2.0), line("full", 0.59, 6.0)]
    analysis = analyse(from_records(records))
    assert list(of_case(analysis.blocks)["arm"]) == ["none", "tent"]
    assert front_sentences(analysis) == [
        "d-noise: on the front of accuracy against joules are none 50.0 %, tent 60.0 % for 2.00 J."
    ]
    assert list(front(pd.DataFrame({"energy_gross_j": [1.0, 1.0, 2.0], "accuracy": [0.4, 0.5, 0.5]})).index) == [1]
    assert not front_sentences(analyse(from_records([line(arm, *figures) for arm, figures in BLOCKS.items()])))


def test_the_oracle_is_a_row_of_the_analysis_and_no_arm() -> None:
    analysis = analyse(from_records(lines()))
    assert oracles(analysis)[["arm", "block", "accuracy"]].to_numpy().tolist() == [["oracle", "block3", 0.80]]
    assert "oracle" not in set(analysis.blocks["arm"])
    grid = accuracy_grid(analysis)
    assert grid.header[-1] == "Oracle"
    assert grid.rows[0][-1].text == "80.0 (block3)"
    blocks_only = analyse(from_records([line(arm, *figures) for arm, figures in BLOCKS.items()]))
    assert "Oracle" not in accuracy_grid(blocks_only).header


def with_phases() -> list[dict[str, Any]]:
    both = {"select": {"time_s": 1.0, "energy_gross_j": 2.0}, "adapt": {"time_s": 3.0, "energy_gross_j": 4.0}}
    short = {"select": {"time_s": 0.01, "energy_gross_j": None}, "adapt": {"time_s": 3.0, "energy_gross_j": 4.0}}
    alone = {"adapt": {"time_s": 1.0, "energy_gross_j": 1.0}}
    return [
        line("race", 0.8, 6.0, phases=both),
        line("race", 0.8, 8.0, phases=both | {"adapt": {"time_s": 5.0, "energy_gross_j": 6.0}}, repeat=1),
        line("elastic", 0.8, 4.0, phases=short),
        line("full", 0.8, 1.0, phases=alone),
    ]


def test_phases_are_means_and_what_is_not_resolved_stays_empty() -> None:
    results = from_records(with_phases())
    analysis = analyse(results)
    table = analysis.phases.set_index(["arm", "phase"])
    assert table.loc[("race", "adapt"), ["energy_gross_j", "time_s", "energy_n"]].tolist() == [5.0, 4.0, 2]
    assert pd.isna(table.loc[("elastic", "select"), "energy_gross_j"])
    assert table.loc[("elastic", "select"), "unresolved"] == 1
    grid = phase_grid(results, analysis)
    assert grid.header == ("Data", "Train size", "Arm", "select", "adapt")
    assert {row[2].text: [entry.text for entry in row[3:]] for row in grid.rows} == {
        "race": ["2 J, 1 s", "5 J, 4 s"],
        "elastic": ["\N{EN DASH} J, 0.01 s", "4 J, 3 s"],
    }
    none = from_records(lines())
    assert not phase_grid(none, analyse(none)).rows


def test_phases_are_stacked_bars_that_add_up() -> None:
    results = from_records(with_phases())
    (drawn,) = phases.draw(results, analyse(results))
    (axes,) = drawn.figure.axes
    bars = {patch.get_gid(): patch for patch in axes.patches if patch.get_gid()}
    assert set(bars) == {"select-race", "adapt-race", "adapt-elastic", "adapt-full"}
    select, adapt = bars["select-race"], bars["adapt-race"]
    assert (select.get_x(), select.get_width(), adapt.get_x(), adapt.get_width()) == (0.0, 2.0, 2.0, 5.0)
    none = from_records(lines())
    assert phases.draw(none, analyse(none)) == []


def test_joules_per_image_stand_against_the_model_as_it_is() -> None:
    work = {"work": "stream", "n_images": 100}
    records = [line("none", 0.5, 1.0, **work), line("tent", 0.6, 4.0, **work)]
    results = from_records(records)
    grid = image_grid(results, analyse(results))
    assert [entry.text for entry in grid.rows[0][3:]] == ["0.01 (1.00x)", "0.04 (4.00x)"]
    assert grid.rows[0][0].text == "d-noise, stream"
    assert not image_grid(from_records(lines()), analyse(from_records(lines()))).rows
    assert "one pass of the stream" in shown(records)


def test_two_option_sets_have_two_rows_and_two_looks() -> None:
    analysis = analyse(from_records(lines()))
    arms = [(arm, role) for arm, role in zip(analysis.blocks["arm"], analysis.blocks["role"], strict=True)]
    palette = colours(arms)
    assert palette["random"] != palette["random(count=2)"]
    turn = turns(palette)
    looks = [(palette[arm], turn[arm]) for arm, _ in arms]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("lowest", [0.01, 3.0])
def test_the_figure_names_the_front_and_the_model_that_is_not_adapted(lowest: float) -> None:
    records = [entry for entry in lines() if entry["arm"] != "adabn"] + [line("adabn", 0.52, lowest)]
    results = from_records(records)
    (drawn,) = pareto.draw(results, analyse(results))
    (axes,) = drawn.figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert any(text.startswith("untuned") for text in texts)
    assert "block3" in texts
    drawn.figure.canvas.draw()
    assert not any("$" in label.get_text() for label in axes.get_xticklabels())
