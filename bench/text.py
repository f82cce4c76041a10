"""Text for people: foreign text made safe to print, a duration, a series in one line."""

from __future__ import annotations

import codecs
import functools
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

REPLACE = "jouletune"
"""Name of the codec error handler that writes what an encoding lacks in ASCII: see `replace_unencodable`."""

BARS = "▁▂▃▄▅▆▇█"
_ASCII = {
    **dict(zip(map(ord, BARS), "_.:-=+*#", strict=True)),
    **dict.fromkeys((0x2212, 0x2013, 0x2014), "-"),  # minus sign and dashes
    **{0xD7: "x", 0xB1: "+/-", 0x2192: "->", 0x2020: "+", 0x2026: "...", 0x2502: "|"},
}


_FOLDERS = re.compile(
    r"""\A~?/(?!(?:dev|sys|proc)/)[^\n:;,"'`()<>|]*/(?=[^/\n]*\Z)  # a path alone
        |(?<=["'`])~?/(?!(?:dev|sys|proc)/)[^"'`\n]*/(?=[^/"'`\n]*["'`])  # in quotes: likewise
        |(?:^|(?<=[\s"'`(\[{=:,])|(?<=file://))  # where a path begins; not within a URL or a cell id
        ~?/(?!(?:dev|sys|proc)/)(?:[^\s/:;,"'`()<>|]+/+)+""",
    re.VERBOSE | re.MULTILINE,
)


def shown(text: object, keep: str = "") -> str:
    """Replace what a terminal would obey, or could not show, by a visible escape such as ``\\x1b``.

    That is every character that Unicode does not call printable: control characters (newlines too), the start of
    CSI and OSC sequences, bidirectional controls, invisible characters, lone surrogates of file names.

    Args:
        text: of any origin; turned into a `str` first.
        keep: characters to leave as they are, such as a newline.
    """
    whole = str(text)
    if whole.translate(dict.fromkeys(map(ord, keep))).isprintable():  # 30 times as fast as to look at each character
        return whole
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in whole)


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Key that sorts n=2 before n=10, whatever the digits: of any script and number, also more than `int` takes."""
    return tuple(
        (len(part.lstrip("0")), part.lstrip("0")) if part.isdecimal() else (-1, part)
        for part in re.findall(r"\d+|\D+", text)
    )


def without_folders(text: str) -> str:
    """Leave of each absolute path in a text its last part: `/home/ann/data/cifar` -> `…/cifar`. Device files stay."""
    return _FOLDERS.sub("\N{HORIZONTAL ELLIPSIS}/", text) if "/" in text else text


def echo(*lines: object, err: bool = False) -> None:
    """Print lines to stdout, or to stderr, each `shown`: a newline within one cannot forge another."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        print(*map(shown, lines), sep="\n", file=stream, flush=True)


def console(**options: Any) -> Console:
    """Make the console of a command: no string is taken for markup, and every text is `shown`.

    Args:
        options: of `rich.console.Console`.
    """
    return _console_class()(markup=False, emoji=False, highlight=False, **options)


@functools.cache
def _console_class() -> type[Console]:
    # rich is imported late: `jouletune --help` does without
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class ShownConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(shown(text, "\n\t"), **options)  # before a table measures it

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else shown(text, "\n"), style, control)

    return ShownConsole


def replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Write what the encoding of a stream lacks in ASCII: ``±`` as ``+/-``, a surrogate as its escape, else ``?``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_ASCII)
    return "".join(c if c.isascii() else shown(c) if not c.isprintable() else "?" for c in lacking), error.end


codecs.register_error(REPLACE, replace_unencodable)


def duration(seconds: float) -> str:
    """Write seconds for a person: 75 -> `1 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


_SCALES = ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "\N{MICRO SIGN}J"))


def joule_scale(largest_j: float) -> tuple[float, str]:
    """The unit in which energies up to this one read best, kJ to µJ, and its size in J."""
    size = abs(largest_j) * 1.0005  # what three digits round up to 1000 is 1 of the next unit
    return next((one for one in _SCALES if size >= one[0]), _SCALES[-1] if size > 0 else _SCALES[1])


def joules(value_j: float) -> str:
    """Write an energy with three digits and the unit that suits it: 0.00123 -> `1.23 mJ`."""
    size, unit = joule_scale(value_j)
    return f"{value_j / size:.3g} {unit}"


def spark(values: Sequence[float | None]) -> str:
    """Draw one bar per value, from the lowest to the highest; a blank for None."""
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    low, span = min(known), max(known) - min(known)
    # noise of a tenth of a percent is no event: it must not fill the height
    span = max(span, 1e-3 * abs(low), 1e-9)
    return "".join(" " if value is None else BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)


def first_few(items: Sequence[str], limit: int = 3) -> str:
    """Join texts, those beyond the limit only counted: `a; b; c; and 2 more`."""
    return "; ".join(items[:limit]) + (f"; and {len(items) - limit} more" if len(items) > limit else "")
