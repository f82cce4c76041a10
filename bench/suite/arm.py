"""Arm: what is compared, a method with its options. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bench.catalog.models import BlockSet

FIXED = "fixed"
"""The method that tunes a named block set; its one option is `blocks`."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A method with its options: two arms are the same only where both agree.

    Attributes:
        options: (key, value) pairs in the order their author gave them; a list is a tuple here.
    """

    method: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of_blocks(cls, blocks: BlockSet) -> Arm:
        """The arm of `fixed` that tunes a block set."""
        return cls(FIXED, (("blocks", blocks),))

    @property
    def blocks(self) -> BlockSet:
        """The block set that `fixed` tunes; empty for a method that chooses its parameters itself."""
        return dict(self.options)["blocks"] if self.method == FIXED else ()

    @property
    def label(self) -> str:
        """As in a cell's id: `block2+block3` of `fixed`, `name` or `name(key=value,...)` of any other method."""
        if self.method == FIXED:
            return "+".join(self.blocks)
        return with_options(self.method, self.options)


def with_options(method: str, options: Iterable[tuple[str, Any]]) -> str:
    """`method(key=value,...)`, the method's name alone where there are no options."""
    return f"{method}({','.join(f'{key}={_written(value)}' for key, value in options)})".removesuffix("()")


def _written(value: Any) -> str:
    """A value as in a suite; what would break an id (`/`, `,`, blanks) is percent-encoded."""
    if isinstance(value, tuple):
        return "+".join(map(_written, value))
    return as_written(value) if not isinstance(value, str) else quote(value, safe=":", errors="surrogatepass")


def as_written(value: object) -> str:
    """A scalar as YAML writes it: null, true, false, or its text."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
