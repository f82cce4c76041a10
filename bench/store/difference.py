"""Describe the differences of two nested mappings, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List 'train.lr 0.001 -> 0.01' for each key whose value differs, keys of `old` first."""
    before, after = flat(old), flat(new)
    return [
        f"{key} {_short(before.get(key))} -> {_short(after.get(key))}"
        for key in [*before, *(key for key in after if key not in before)]
        if before.get(key) != after.get(key)
    ]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings, keys joined by dots; lists stay whole."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
