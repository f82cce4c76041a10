"""The frame of a page: one self-contained HTML file made of templates/, with the styles and scripts of web/."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.text import shown, without_folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: its heading, plain text.
        macro: macro of the page's template that makes its markup.
        view: arguments of the macro. Texts are plain and get escaped; only `Markup` is markup.
    """

    title: str
    macro: str
    view: Mapping[str, Any]


def render_page(
    template: str, title: str, subtitle: str, sections: Sequence[Section], *, widgets: Sequence[str] = ()
) -> str:
    """Render a whole page. It requests nothing from anywhere, and its policy forbids that it does.

    Only the page's own scripts may run: the policy names them by their hash, so that even markup that slipped through
    from a record would do nothing. A page without a widget has no script.

    Args:
        template: file in templates/ with the macros of the sections.
        title, subtitle: plain text.
        widgets: files in web/ that its widgets need, without ending.
    """
    environment = _environment()
    macros = environment.get_template(template).module
    bodies = [getattr(macros, section.macro)(**section.view) for section in sections]
    code = _script((*widgets, "start")) if any("data-widget=" in body for body in bodies) else ""
    allowed = " ".join(f"'{_hash(text)}'" for text in (code, _plotly())) if code else "'none'"
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        policy=Markup(f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {allowed}"),
        css=Markup(_web_file("page.css")),
        sections=[
            {"id": name, "title": section.title, "body": body}
            for name, section, body in zip(_ids(sections), sections, bodies, strict=True)
        ],
        script=Markup(code),
        plotly=_plotly_packed() if code else "",
    )


def packed(value: Any) -> Markup:
    """Pack JSON for the scripts as base64 of gzip: small, and no text in it can end or open an element.

    Raises:
        ValueError: nan or infinity in it.
    """
    return _pack(json.dumps(_public(value), allow_nan=False, separators=(",", ":")))


def _public(value: Any) -> Any:
    """Make the texts of a value safe to show: control characters become visible, folders of absolute paths left out."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return without_folders(shown(value, keep="\n\t\N{NO-BREAK SPACE}"))
    if isinstance(value, Mapping):
        return {_public(key): _public(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [one if isinstance(one, int | float) else _public(one) for one in value]
    return value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("plots.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_public,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["packed"] = packed
    # a figure stays on the line of its per cent sign
    environment.filters["prose"] = lambda sentence: sentence.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment


def _ids(sections: Sequence[Section]) -> list[str]:
    """Make anchors from the titles of the sections, each a different one."""
    names: list[str] = []
    for section in sections:
        stem = name = re.sub(r"\W+", "-", section.title.lower())
        while name in names:
            name = f"{stem}-{len(names)}"
        names.append(name)
    return names


def _script(widgets: Sequence[str]) -> str:
    """Join the scripts of these widgets, in the order of their dependence."""
    parts = [_web_file(f"{name}.js") for name in ("core", *widgets)]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def _web_file(name: str) -> str:
    return (resources.files("plots.page") / "web" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text


@cache
def _plotly_packed() -> Markup:
    """Pack plotly.js: 2 MB instead of 5, unpacked by the browser once a chart needs it."""
    return _pack(_plotly())


def _pack(text: str) -> Markup:
    # without a date: the same page is the same file
    return Markup(base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode())


def _hash(text: str) -> str:
    """Name a script as a Content-Security-Policy does."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
