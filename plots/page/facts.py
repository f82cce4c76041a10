"""The parts of the report that say how far it can be trusted and what it was made of: quality, manifest, files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bench.analysis import Analysis, Results, wording
from hardware.measure.grade import FLAGS
from plots.page.frame import definitions, scrolled_table, section

MAX_FAILURES = 50


def quality(analysis: Analysis) -> str:
    """What was left out, the grades, every flag with its meaning, the repeats without a result."""
    known = analysis.quality
    facts = {
        "Repeats": ", ".join(f"{count} {status}" for status, count in known.statuses.items()),
        "Grades of joules": ", ".join(f"{count} x {grade}" for grade, count in sorted(known.grades.items())),
        "Flags": "none" if not known.flags else "",
        **{f"{flag} ({count})": FLAGS.get(flag, "not known to this version") for flag, count in known.flags.items()},
        "Cells with unstable joules": ", ".join(known.unstable[:MAX_FAILURES]) or "none",
    }
    body = definitions({name: text for name, text in facts.items() if text})
    if known.failures:
        shown = known.failures[:MAX_FAILURES]
        rows = [
            f'<tr><th scope="row">{escape(lost.cell_id)}</th><td>{lost.repeat}</td><td>{escape(lost.status)}</td>'
            f"<td>{escape(lost.error) or wording.MISSING}</td></tr>"
            for lost in shown
        ]
        more = len(known.failures) - len(shown)
        body += '<h3 id="without-result">Repeats without a result</h3>'
        body += scrolled_table("without-result", ("Cell", "Repeat", "Status", "Why"), rows)
        body += f'<p class="muted">and {more} more in cells.jsonl</p>' if more > 0 else ""
    return section("Quality", body)


def facts(results: Results, files: Sequence[tuple[str, str]]) -> str:
    """Manifest and suite of each run, and links to the files beside the page."""
    body = ""
    for run, manifest in zip(results.runs, results.manifests, strict=True):
        suite, rest, text = manifest.get("suite"), manifest, None
        if isinstance(suite, dict):
            text = suite.get("text")
            # the suite as written says what its parsed content says, and more readably
            rest = manifest | {"suite": {key: suite[key] for key in suite if key not in {"text", "content"}}}
        flat = dict(_flatten(rest))
        if flat:
            body += f"<details><summary>Manifest of {escape(run)}</summary>{definitions(flat)}</details>"
        if text:
            title = f"Suite of {escape(run)}"
            body += f"<details><summary>{title}</summary>"
            body += f'<pre tabindex="0" role="group" aria-label="{title}">{escape(str(text))}</pre></details>'
    links = "".join(f'<li><a href="{escape(path)}">{escape(text)}</a></li>' for text, path in files)
    return section("Facts and files", f"{body}<ul>{links}</ul>")


def _flatten(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested facts as 'device.name' -> text; a long text, such as the suite as written, is cut."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for index, inner in enumerate(value):
            yield from _flatten(inner, f"{prefix}[{index}]")
    elif value is not None:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield prefix, text if len(text) <= 400 else f"{text[:400]}\N{HORIZONTAL ELLIPSIS}"
