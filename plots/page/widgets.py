"""Interactive parts of a page: packed data, plotly, and the scripts that run them. All of it inside of the one file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any

_FIRST, _LAST = ("core",), ("start",)


def data_block(name: str, value: Any) -> str:
    """JSON for the scripts, by the id `name`. Base64 of gzip: small, and no text in it can end or be an element."""
    return _block(name, json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def widget(kind: str, name: str, value: Any, *, plain: str = "") -> str:
    """A place where the script plots/web/KIND.js builds something from `value`.

    Args:
        kind: name of the widget.
        name: id of its data, once per page.
        value: whatever JSON can hold; no nan.
        plain: markup for readers without scripts, hidden as soon as the widget is there.
    """
    fallback = f"<div data-plain>{plain}</div>" if plain else ""
    return f'<div data-widget="{escape(kind)}" data-block="{escape(name)}">{fallback}{data_block(name, value)}</div>'


@cache
def plotly_block() -> str:
    """plotly.js, packed: 2 MB instead of 5, and unpacked by the browser once a chart asks for it."""
    return _block("plotly", _plotly())


def plotly_hash() -> str:
    """What a Content-Security-Policy calls it."""
    return script_hash(_plotly())


def script(widgets: Sequence[str]) -> str:
    """The script of a page with these widgets: names of files in plots/web, in the order of their dependence."""
    folder = resources.files("plots.page") / "web"
    names = [*_FIRST, *widgets, *_LAST]
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in names]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def script_hash(text: str) -> str:
    """'sha256-...' of a script, by which a browser lets it run and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _block(name: str, text: str) -> str:
    # no date in it: the same page is the same file
    packed = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
    return f'<script type="text/plain" id="data-{escape(name)}">{packed}</script>'


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text
