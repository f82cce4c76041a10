"""Foreign text is shown, never sent; what an encoding lacks is replaced."""

from __future__ import annotations

import io

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench import text

HOSTILE = {
    "an escape sequence": ("a\x1b[31mb", r"a\x1b[31mb"),
    "a window title": ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    "a C1 control": ("\x9b31m", r"\x9b31m"),
    "a newline that forges a line": ("a\nerror: b", r"a\nerror: b"),
    "a carriage return": ("bad\rgood", r"bad\rgood"),
    "a bidirectional control": ("a\u202eb", r"a\u202eb"),
    "a byte of a file name that is no UTF-8": ("a\udcff", r"a\udcff"),
    "an invisible character": ("a\u200bb", r"a\u200bb"),
}


@pytest.mark.parametrize(("given", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_foreign_text_is_shown(given: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text.shown(given) == expected
    text.echo(given)
    text.echo(given, "b", err=True)
    assert capsys.readouterr() == (f"{expected}\n", f"{expected}\nb\n")


@pytest.mark.parametrize(("given", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_a_console_shows_foreign_text_wherever_it_stands(given: str, expected: str) -> None:
    out = io.StringIO()
    console = text.console(file=out, force_terminal=True, color_system=None, width=80)
    table = Table(box=None)
    table.add_column(given)
    table.add_row(given, Text(given))
    console.print(given, Group(Text(given), table))
    assert text.shown(out.getvalue(), keep="\n") == out.getvalue()
    if "\n" not in given:
        assert out.getvalue().count(expected) >= 3


@pytest.mark.parametrize("given", ["[/b]", "[bold]x", "[link=http://a]b[/link]", ":smile:", "a [1, 2]"])
def test_a_console_takes_nothing_for_markup(given: str) -> None:
    out = io.StringIO()
    console = text.console(file=out, force_terminal=True, width=80)
    table = Table(given, box=None)
    table.add_row(given)
    console.print(given)
    console.print(table)
    assert out.getvalue().count(given) == 3


def test_printable_text_stays_as_it_is() -> None:
    assert text.shown("größer, 10 ± 2 %, 日本語 [x]") == "größer, 10 ± 2 %, 日本語 [x]"
    assert text.shown("a\nb\tc", keep="\n") == "a\nb\\tc"


def test_what_an_encoding_lacks_is_replaced() -> None:
    assert "10 ± 2 \N{EN DASH} 3 † ▁█ \udcff é".encode("ascii", text.REPLACE) == rb"10 +/- 2 - 3 + _# \udcff ?"
    assert "± é †".encode("latin-1", text.REPLACE) == b"\xb1 \xe9 +"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/home/ann/data/cifar", "…/cifar"),
        ("replay:/home/ann/t.csv", "replay:…/t.csv"),
        ("cannot read '/mnt/a/b.json': gone", "cannot read '…/b.json': gone"),
        ("file:///home/ann/x", "file://…/x"),
        ("~/.cache/jouletune/a.pt", "…/a.pt"),
        ("data=/mnt/a/b", "data=…/b"),
        ("digits-flip/n=0.1/fc/s=0", "digits-flip/n=0.1/fc/s=0"),
        ("odd (1)/n=0.1/neq(budget=0.1)/s=0", "odd (1)/n=0.1/neq(budget=0.1)/s=0"),
        ("gt;/n=0.1/fc/s=0", "gt;/n=0.1/fc/s=0"),
        ("https://arxiv.org/abs/2403.15905", "https://arxiv.org/abs/2403.15905"),
        ("/dev/ttyACM0, /sys/class/powercap", "/dev/ttyACM0, /sys/class/powercap"),
        ("tables/energy.md, J/s, and/or", "tables/energy.md, J/s, and/or"),
        ("/home/Ann Smith/my data/cifar 10", "…/cifar 10"),
        ("cannot read '/home/Ann Smith/a b.csv' (gone)", "cannot read '…/a b.csv' (gone)"),
        ("from /data/x to results/y", "from …/x to results/y"),
    ],
)
def test_absolute_paths_keep_their_last_part(given: str, expected: str) -> None:
    assert text.without_folders(given) == expected
