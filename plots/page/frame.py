"""The frame of a page: one self-contained HTML file, and the small parts that pages are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template

from plots.page.style import CSS
from plots.page.widgets import plotly_block, plotly_hash, script, script_hash

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>$title</title>
<style>$css</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>$title</h1>
<p class="muted">$subtitle</p>
$contents
</header>
<main id="content" tabindex="-1">
$body
</main>
$scripts
</body>
</html>
""")


def render_page(
    title: str, subtitle: str, sections: Iterable[str], *, widgets: Sequence[str] = (), charts: bool = False
) -> str:
    """A whole page. It asks for nothing from anywhere, and its policy keeps it so.

    Only the scripts given here may run: the policy names them by their hash, so that even a name in a record that
    slipped through as markup would do nothing.

    Args:
        title, subtitle: plain text, escaped here.
        sections: markup, see `section`; empty ones are left out.
        widgets: names of files in plots/web that its widgets need.
        charts: whether one of them draws with plotly.
    """
    body = "\n".join(filter(None, sections))
    scripts, allowed = "", []
    if widgets:
        code = script(widgets)
        allowed.append(script_hash(code))
        if charts:
            allowed.append(plotly_hash())
            scripts = plotly_block() + "\n"
        scripts += f"<script>{code}</script>"
    running = " ".join(f"'{name}'" for name in allowed) or "'none'"
    return _PAGE.substitute(
        title=escape(title),
        css=CSS,
        subtitle=escape(subtitle),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {running}",
        contents=_contents(body),
        body=body,
        scripts=scripts,
    )


def section(title: str, body: str) -> str:
    """A part of a page under a heading; '' where it would be empty."""
    name = re.sub(r"\W+", "-", title.lower())
    if not body:
        return ""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(title)}</h2>\n{body}\n</section>'


def _contents(body: str) -> str:
    found = re.findall(r'<section aria-labelledby="[^"]*">\n<h2 id="([^"]*)">(.*?)</h2>', body)
    if len(found) < 3:
        return ""
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in found)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def prose(sentence: str) -> str:
    """A sentence whose figures stay with their per cent signs."""
    return escape(sentence).replace(" %", "\N{NO-BREAK SPACE}%")


def paragraphs(sentences: Iterable[str]) -> str:
    return "".join(f"<p>{prose(sentence)}</p>" for sentence in sentences)


def bullets(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{prose(item)}</li>" for item in items) + "</ul>"


def note(title: str, items: Sequence[str]) -> str:
    """A box with what a reader must know; '' without any."""
    if not items:
        return ""
    return f'<aside class="note" aria-label="{escape(title)}"><h3>{escape(title)}</h3>{bullets(items)}</aside>'


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """(figure, what it is) in large letters; '' without any."""
    cells = "".join(f"<div><dt>{escape(text.strip())}</dt><dd>{escape(figure)}</dd></div>" for figure, text in figures)
    return f'<dl class="tiles">{cells}</dl>' if cells else ""


def definitions(facts: Mapping[str, str]) -> str:
    """Names and values in two columns."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def scrolled_table(label: str, head: Sequence[str], rows: Iterable[str], *, labels: int = 0) -> str:
    """A table in a frame that scrolls sideways on a narrow screen, by keyboard too.

    Args:
        label: id of its heading.
        head: names of the columns; the first `labels` of them are words, the rest figures (0: all are words).
        rows: markup of each row.
    """
    marks = [
        '<th scope="col">' if not labels or n < labels else '<th scope="col" class="figure">' for n in range(len(head))
    ]
    cells = "".join(f"{mark}{escape(text)}</th>" for mark, text in zip(marks, head, strict=True))
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-labelledby="{label}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
