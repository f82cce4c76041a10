"""Tables as Markdown, LaTeX, CSV and in the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from bench.analysis import analyse, from_records, load, tables
from bench.analysis.latex import escape_latex, to_latex
from bench.analysis.sentences import headline_sentences, quality_sentences, shift_sentences
from bench.analysis.summary import summary_csv, to_csv
from bench.analysis.tables import (
    Grid,
    escape_markdown,
    grids,
    to_markdown,
)
from bench.analysis.terminal import terminal_table
from bench.analysis.wording import MISSING, joules, size_label
from bench.store.record import Record
from bench.text import natural

ACCURACY = {"block1": 0.2, "block2": 0.4, "fc": 0.9, "full": 0.95}
JOULES = {"block1": 80.0, "block2": 60.0, "fc": 30.0, "full": 100.0}


def lines(seeds: int = 2, data: str = "digits-flip", size: float = 0.1, **more: Any) -> list[dict[str, Any]]:
    """Every block on every seed; accuracies rise by a point per seed, joules by 10 %."""
    fixed = {"source": "meter", "source_kind": "power", "grade": "B"}
    return [
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
                    "accuracy_before": 0.1,
                    "accuracy_after": ACCURACY[block] + seed / 100,
                    "n_train": 140,
                    "n_test": 360,
                    "energy_gross_j": JOULES[block] * 1.1**seed,
                    "train_time_s": 2.0,
                }
                | fixed
                | more
            ).to_json()
        )
        for seed in range(seeds)
        for block in ACCURACY
    ]


def made(records: list[dict[str, Any]]) -> dict[str, Grid]:
    results = from_records(records)
    return {grid.name: grid for grid in grids(results, analyse(results))}


def shown(records: list[dict[str, Any]], width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal_table(from_records(records)))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    return text


def test_accuracy_grid_in_the_papers_form() -> None:
    grid = made(lines())["accuracy"]
    assert grid.header == (
        "Data",
        "Level",
        "Train size",
        "untuned",
        "block1",
        "block2",
        "fc",
        "Block Avg",
        "full",
        "Gain",
    )
    row = grid.rows[0]
    # mean of 0.90 and 0.91; half of the interval: 12.706 * 0.00707 / sqrt(2) = 0.0635
    assert [entry.text for entry in row[:3]] == ["digits-flip", "output", "10 %"]
    assert row[3].text == "10.0 ± 0.0"
    assert (row[6].text, row[6].best, row[6].target) == ("90.5 ± 6.4", True, True)
    assert [entry.best for entry in row] == [index == 6 for index in range(10)]  # full is higher, and no single block
    assert row[7].text == "50.5 ± 6.4"
    assert row[9].text == "+40.0 [40.0, 40.0]"


def test_saving_and_joule_grids_name_source_kind_and_grade() -> None:
    grid = made(lines())
    assert [entry.text for entry in grid["energy_saving"].rows[0][3:]] == [
        "20.0 [20.0, 20.0]", "40.0 [40.0, 40.0]", "70.0 [70.0, 70.0]", "43.3 [43.3, 43.3]",
    ]  # fmt: skip
    assert grid["energy"].rows[0][5].best  # the least joules
    for name in ("energy_saving", "energy"):
        assert "meter (power, grade B)" in grid[name].note
    assert "energy_saving_net" not in grid


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"source": "simulated?power_w=5", "flags": ("simulated",)}, "simulated"),
        ({"source": "replay:x.csv", "flags": ("replayed",)}, "replayed"),
        ({"source_kind": "estimate", "grade": "C"}, "estimate"),
    ],
)
def test_what_was_not_measured_is_named_in_every_joule_table(fields: dict[str, Any], word: str) -> None:
    records = lines(**fields)
    for name, grid in made(records).items():
        if name != "accuracy":
            assert f"not measured: {word}" in to_markdown(grid)
            assert f"not measured: {word}" in to_latex(grid)
    assert f"not measured: {word}" in " ".join(shown(records).split())
    assert {row["caveat"] for row in csv.DictReader(io.StringIO(summary_csv(analyse(from_records(records)))))} == {word}


def test_without_joules_there_is_no_joule_table() -> None:
    blank = {"source": None, "source_kind": None, "grade": None, "energy_gross_j": None}
    assert list(made(lines(**blank))) == ["accuracy"]
    text = shown(lines(**blank))
    assert "No energy measured" in text
    assert " J" not in text


def test_latex_escapes_what_a_user_may_write() -> None:
    assert escape_latex(r"a_b & 50 % #1 {x} ~^\ $") == (
        r"a\_b \& 50 \% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )
    text = to_latex(made(lines(data="my_data & 100%"))["accuracy"]).replace(r"\allowbreak{}", "")
    assert r"my\_data \& 100\%" in text
    assert "my_data" not in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrr"):
        assert rule in text
    assert r"{\bfseries \num{90.5 +- 6.4}}$^\dagger$" in text


def test_markdown_escapes_pipes_and_html() -> None:
    text = to_markdown(made(lines(data="a|b<script>"))["accuracy"])
    assert r"a\|b\<script\>" in text
    assert "**90.5 ± 6.4** †" in text


def test_summary_has_one_row_per_cell_and_leaves_nulls_empty() -> None:
    records = lines()
    records[0] |= {"status": "failed", "accuracy_after": None, "energy_gross_j": None, "grade": None}
    text = summary_csv(analyse(from_records(records)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 8
    failed, done = rows[0], rows[1]
    assert (failed["failed"], failed["accuracy_percent"], failed["energy_gross_j"]) == ("1", "", "")
    assert (done["ok"], done["accuracy_percent"], done["energy_gross_j"], done["n_train"]) == (
        "1",
        "40.0",
        "60.0",
        "140",
    )
    assert float(done["accuracy_wilson_lo95_percent"]) < 40 < float(done["accuracy_wilson_hi95_percent"])
    assert done["energy_net_j"] == done["energy_gross_sd_j"] == ""
    assert pd.read_csv(io.StringIO(text))["energy_gross_j"].notna().sum() == 7


@pytest.mark.parametrize("width", [80, 100])
def test_terminal_table_fits(width: int) -> None:
    text = shown(lines(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "90.5 %†" in text  # the target
    assert "\N{MINUS SIGN}70 %" in text  # its joules against full
    assert "untuned 10.0 %" in text
    sentence = (
        "digits-flip (output): tuning everything is clearly better than any single block, for 3.3 times the joules. "
        "fc alone: 90.5 % for 31.5 J; tuning everything: 95.5 % for 105 J; untuned: 10.0 %."
    )
    assert sentence in " ".join(text.split())


def test_terminal_table_with_failures_and_many_rows() -> None:
    records = [entry for n in range(30) for entry in lines(1, data=f"d{n}")]
    records[1] |= {"status": "failed", "accuracy_after": None, "energy_gross_j": None}
    text = shown(records)
    assert "failed" in text
    assert "and 6 more rows in the report" in text
    assert "(one seed, no interval)" in " ".join(text.split())
    assert "1 repeat failed; in no average." in text


def test_rich_markup_in_a_label_is_only_text() -> None:
    assert "[bold]x[/bold]" in shown(lines(data="[bold]x[/bold]"), 100)


def test_sentences_over_several_sizes_and_a_target_that_loses() -> None:
    records = [entry for size in (0.1, 0.2) for entry in lines(size=size)]
    analysis = analyse(from_records(records))
    assert shift_sentences(analysis) == [
        "digits-flip (output) at 20 %: tuning everything is clearly better than any single block, for 3.3 times the "
        "joules. fc alone: 90.5 % for 31.5 J; tuning everything: 95.5 % for 105 J; untuned: 10.0 %. The same at 10 %."
    ]
    assert "from +40.0 to +40.0" in headline_sentences(analysis)[0]
    wrong = analyse(from_records([entry | {"level": "input"} for entry in lines(1)]))
    assert "the target block is 30.0 points less accurate than Block Avg" in headline_sentences(wrong)[0]


def test_headlines_of_the_paper_in_words() -> None:
    results = load("paper")
    analysis = analyse(results)
    gain, saving = headline_sentences(analysis, published=True)
    assert "15.31 points" in gain
    assert "41.57 %" in saving
    assert "53.65" in quality_sentences(analysis, published=True)[0]


def test_captions_of_the_paper_are_of_single_steps_and_printed_means() -> None:
    results = load("paper")
    found = {grid.name: grid for grid in grids(results, analyse(results))}
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(terminal_table(results))
    texts = [*(to_markdown(grid) for grid in found.values()), console.file.getvalue()]  # type: ignore[attr-defined]  # a StringIO
    for text in texts:
        assert not any(words in text for words in ("fine-tuning", "pair", "1 image", "repeat"))
    assert "Gross energy of one training step on one image in J; n not stated" in found["energy"].note
    assert "from printed means of one training step on one image. By MACs" in found["energy_saving"].note
    assert "of the same step. " in found["energy_saving"].note
    assert "Gross energy of one fine-tuning in J" in made(lines())["energy"].note


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0341, "34.1 mJ"), (2030.0, "2.03 kJ"), (98.8, "98.8 J"), (None, MISSING), (float("nan"), MISSING)],
)
def test_joules_in_words(value: float | None, text: str) -> None:
    assert joules(value) == text


@pytest.mark.parametrize(
    ("size", "n_train", "text"),
    [(0.1, 140, "10 %"), (64, 64, "64 images"), (1, 1400, "100 %"), (1, 1, "1 image"), (0, None, MISSING)],
)
def test_train_sizes_in_words(size: float, n_train: float | None, text: str) -> None:
    assert size_label(size, n_train) == text


def test_theory_stands_beside_the_measured_saving() -> None:
    macs = {"block1": 80, "block2": 70, "fc": 25, "full": 100}
    records = [one | {"train_macs": macs[one["blocks"]] * 10, "step_macs": macs[one["blocks"]]} for one in lines()]
    grid = made(records)["energy_saving"]
    row = dict(zip(grid.header, (entry.text for entry in grid.rows[0]), strict=True))
    assert (row["fc"], row["fc by MACs"]) == ("70.0 [70.0, 70.0]", "75.0")
    assert row["Block Avg by MACs"] == "41.7"
    assert "multiply-accumulates" in grid.note
    assert "MACs" not in to_markdown(made(lines())["energy_saving"])  # records of an older version have none
    rows = {row["cell_id"]: row for row in csv.DictReader(io.StringIO(summary_csv(analyse(from_records(records)))))}
    fc, full = rows["digits-flip/n=0.1/fc/s=1"], rows["digits-flip/n=0.1/full/s=1"]
    assert (float(fc["saving_gross_percent"]), float(fc["saving_theory_percent"])) == (70.0, 75.0)
    assert (float(full["saving_theory_percent"]), float(full["step_macs"])) == (0.0, 100)


FORMULAE = {
    text: f"'{text}" for text in ("=1+1", "+SUM(A1)", "-2+3", "@x", "\t=1", "\n=1", '=HYPERLINK("http://x")')
} | {
    "\r=1": r"\r=1",
    "=1\x1b[31m": r"'=1\x1b[31m",
}
"""Text -> as a CSV has it."""


def test_no_text_of_a_csv_is_a_formula_and_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"data": [*FORMULAE, "-5", "+1e3", "plain", None], "joules": [-1.5, *([2.0] * 12)]})
    rows = list(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    assert [row["data"] for row in rows] == [*FORMULAE.values(), "-5", "+1e3", "plain", ""]
    assert [float(row["joules"]) for row in rows] == [-1.5, *([2.0] * 12)]
    assert table["data"][0] == "=1+1"  # what is written is a copy


@pytest.mark.parametrize("label", FORMULAE)
def test_labels_that_look_like_formulae_reach_no_file_as_such(label: str) -> None:
    records = lines(data=label)
    for row in csv.DictReader(io.StringIO(summary_csv(analyse(from_records(records))), newline="")):
        assert row["data"] == FORMULAE[label]
        assert row["cell_id"].startswith(FORMULAE[label])


def test_labels_are_plain_text_in_latex_and_markdown() -> None:
    nasty = "[x]*\\input{/etc/passwd} & 50 % $a_1^2$ `~` <b> \x1b[31m\n\r\t#"
    grid = made(lines(data=nasty))["accuracy"]
    tex, markdown = to_latex(grid).replace(r"\allowbreak{}", ""), to_markdown(grid)
    assert escape_latex(nasty) in tex
    assert r"\input" not in tex
    assert r"{[}x]{*}\textbackslash{}input\{/etc/passwd\} \& 50 \% \$a\_1\textasciicircum{}2\$" in tex
    assert r"\&" in markdown
    assert escape_markdown(nasty) in markdown
    for text in (tex, markdown):
        assert text.replace("\n", "").isprintable()
        assert r"x1b" in text


def test_a_net_rate_whose_joules_are_near_0_is_not_told() -> None:
    records = lines(seeds=3)
    for record in records:
        record["energy_net_j"] = (
            1e-9 if record["blocks"] == "fc" and record["seed"] == 1 else record["energy_gross_j"] / 2
        )
    text = to_markdown(made(records)["energy_saving_net"])
    assert "not told from 0" in text
    assert "Not told from 0: the net joules are too near to 0" in text
    assert not [number for number in re.findall(r"[\d.]+", text) if float(number.strip(".") or 0) > 1000]
    plain = to_markdown(made(lines(seeds=3))["energy_saving"])
    assert "told from 0" not in plain
    assert "with the idle power" in plain


@pytest.mark.parametrize(
    "arm", ["1" * 5000, "\N{SUPERSCRIPT TWO}", "block\N{CIRCLED DIGIT THREE}", "\N{ARABIC-INDIC DIGIT TWO}"]
)
def test_digits_of_any_kind_in_an_arm_are_sorted(arm: str) -> None:
    records = [*lines(), *[entry | {"arm": arm, "blocks": arm, "cell_id": arm} for entry in lines()[:1]]]
    assert any(arm[:20] in cell for cell in made(records)["accuracy"].header)


def test_numbers_in_names_are_sorted_by_their_value() -> None:
    assert sorted(["n=10", "n=2", "n=02", "n", "a9"], key=natural) == ["a9", "n", "n=2", "n=02", "n=10"]


def test_a_table_is_bounded_and_says_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    monkeypatch.setattr(tables, "MAX_ARMS", 2)
    grid = made([entry for n in range(5) for entry in lines(1, data=f"d{n}")])["accuracy"]
    assert len(grid.rows) == 3
    assert "2 more rows and 4 more arms: see summary.csv" in grid.note


def test_a_sentence_describes_a_few_sources_only() -> None:
    records = [entry | {"source": f"meter{n}"} for n in range(11) for entry in lines(1, data=f"d{n}")]
    assert "and 3 more sources" in repr(analyse(from_records(records)).quality)
