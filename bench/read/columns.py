"""Make columns from the lines of a run: one row per repeat, with its arm and whether it counts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.catalog.methods import is_built_in, load_method
from bench.catalog.models import TARGET_BLOCKS
from bench.catalog.paper import PUBLISHED
from bench.errors import RequestError
from bench.read import published
from bench.store.durable import printable
from bench.store.record import FIELDS
from bench.suite.arm import with_options
from bench.suite.work import ADAPT

NAMED_METHODS = ("fixed", "tbft")
"""Methods whose arm is their `blocks`, in records that lack the field `arm`; others stand under their name there."""

EVERY_FIELD = (*(name for name, info in FIELDS.items() if info.kind != "terms"), "accuracy_sd", "target")
"""All that fits into one column."""

_NEEDED = ("options", "session", "band_s", "facts", "peak_rss_mb")
READ = (*(name for name, info in FIELDS.items() if info.read or name in _NEEDED), "accuracy_sd", "target")
"""Of those, what the analysis reads."""

TERMS = tuple(f"u_{name}_{basis}_j" for name in ("gain", "offset", "idle") for basis in ("gross", "net"))
"""Standard uncertainties that windows have in common, from the budget of a record; nan where it has none."""

_LARGEST_J = 1e100

_INDICES = ("seed", "repeat")
"""Whole numbers that are never missing; the other figures are floats, nan where they are."""


def row(line: Mapping[str, Any], names: Sequence[str] = READ) -> tuple[Any, ...]:
    """Take the values of a line of cells.jsonl under these names, None for what it lacks.

    A hundred thousand lines fit into memory as such tuples, and hardly as dictionaries. After them come TERMS.
    """
    return (*map(line.get, names), *_common_terms(line.get("energy_terms") or ()))


def _common_terms(terms: Sequence[Mapping[str, Any]]) -> tuple[float | None, ...]:
    """TERMS of a budget. One common to all windows of a source by another name counts as its zero, in quadrature."""
    if not terms:
        return (None,) * len(TERMS)
    found = dict.fromkeys(TERMS, 0.0)
    for term in terms:
        name = term.get("name")
        if name not in ("gain", "idle"):
            if name != "offset" and term.get("common") != "source":
                continue
            name = "offset"
        for basis in ("gross", "net"):
            value = term.get(f"{basis}_j")
            if isinstance(value, int | float) and 0 <= value < _LARGEST_J:
                found[f"u_{name}_{basis}_j"] = math.hypot(found[f"u_{name}_{basis}_j"], value)
    return tuple(found.values())


def make_frame(rows: Sequence[tuple[Any, ...]], run: str, names: Sequence[str] = READ) -> pd.DataFrame:
    """Make the frame of one run: one row per repeat, with the columns that `bench.read.results.Results` describes.

    Args:
        rows: of `row`, with the same names.
        run: what they are of.

    Raises:
        RequestError: a line with text where a number belongs.
    """
    columns = {}
    for place, name in enumerate((*names, *TERMS)):
        try:
            columns[name] = _column(name, [one[place] for one in rows])
        except (TypeError, ValueError, OverflowError):
            raise RequestError(f"{run}: a record's {name} has the wrong type; cells.jsonl is damaged") from None
    frame = pd.DataFrame(columns)
    frame["run"] = run
    given = frame["data"]
    # which copy of the data it was belongs to every figure that comes from it: re-encoded images cost accuracy
    variants = frame.dropna(subset=["data_variant"]).groupby("data")["data_variant"].first().to_dict()
    frame["data"] = frame["data"].map(
        {v: f"{v} ({variants[v]})" if v in variants else v for v in frame["data"].unique()}
    )
    # ways of training are compared with each other apart (bench.analysis.variants); here each is data of its own, so
    # that blocks are only ever compared within one
    frame["plain"] = frame["data"]
    frame["variant"] = frame["variant"].fillna("")
    works = frame["work"].fillna(ADAPT)
    if (other := works != ADAPT).any():  # what another work gives is not comparable, in any way of training
        frame.loc[other, "plain"] += ", " + works[other]
        frame["data"] = frame["plain"]
    varied = frame["variant"] != ""
    frame.loc[varied, "data"] = frame.loc[varied, "plain"] + ", " + frame.loc[varied, "variant"]
    frame["plain"] = kept_apart(frame["plain"], given, works)
    frame["data"] = kept_apart(frame["data"], given, works, frame["variant"])
    chosen = ~frame["method"].isin(NAMED_METHODS)
    frame["arm"] = frame["arm"].fillna(frame["blocks"].where(~chosen, frame["method"]))
    printed = (frame["blocks"] == published.PRINTED_AVERAGE) & (run == PUBLISHED)
    for kept in (published.AVERAGE, published.UNTUNED):  # names of rows that the analysis makes
        frame["arm"] = frame["arm"].mask(frame["arm"] == kept, f"{kept} (an arm)")
    if frame["options"].notna().any():
        _tell_options_apart(frame)
    frame["role"] = np.select(
        [
            chosen,
            printed,
            frame["blocks"] == "full",
            frame["blocks"].str.contains("+", regex=False),
        ],
        ["method", "average", "full", "set"],
        default="single",
    )
    by_level = frame["level"].map(dict(TARGET_BLOCKS))  # records of an older version have no block of their own
    frame["target"] = frame["target"].fillna(frame["target_block"]).fillna(by_level).fillna("")
    frame["ok"] = frame["status"] == "ok"
    frame["measured"] = frame["ok"] & (frame["grade"].fillna("") != "X") & (frame["energy_gross_j"] > 0)
    return frame


def kept_apart(labels: pd.Series, *origins: pd.Series) -> pd.Series:
    """Put a number behind a label that something else has too, e.g. data called like other data in a way of training.

    Args:
        labels: made of the origins.
        origins: what must be the same for two rows to be of one label.
    """
    rows = pd.DataFrame({"label": labels, **{str(number): origin for number, origin in enumerate(origins)}})
    kinds = rows.drop_duplicates()
    twice = kinds.duplicated("label")
    if not twice.any():
        return labels
    taken: set[str] = {*kinds["label"]}
    copies = dict.fromkeys(taken, 2)
    renamed: dict[Any, str] = {}
    for kind in kinds[twice].itertuples(index=False, name=None):
        while (name := f"{kind[0]} ({copies[kind[0]]})") in taken:
            copies[kind[0]] += 1
        taken.add(name)
        renamed[kind] = name
    told = [renamed.get(row, row[0]) for row in rows.itertuples(index=False, name=None)]
    return pd.Series(told, index=labels.index, dtype=labels.dtype)


def _tell_options_apart(frame: pd.DataFrame) -> None:
    """Put the options into arms that do not name them: two option sets of a method are two arms.

    That is the label of a record that names the method alone, or one that other options of the run have too. Defaults
    stay out of a label, as in a suite: those of our methods, and those of another's whose cell has the label in its id.
    """
    sets = frame.drop_duplicates(["arm", "method", "options"])[["arm", "method", "options", "cell_id"]]
    shared = sets.duplicated("arm", keep=False)
    unnamed = sets["options"].notna() & ((sets["arm"] == sets["method"]) | shared)
    defaults: dict[str, dict[str, Any] | None] = {}
    labels: dict[tuple[str, str, str], str] = {}
    for (arm, method, options, cell_id), several in zip(
        sets[unnamed].itertuples(index=False), shared[unnamed], strict=True
    ):
        of = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(options).items()}
        if method not in defaults:
            defaults[method] = load_method(method).options({}).model_dump() if is_built_in(method) else None
        known = defaults[method]
        if known is not None:
            of = {key: value for key, value in of.items() if key not in known or value != known[key]}
        elif not several and method in cell_id.split("/"):
            continue
        label = with_options(method, of.items())  # `fixed` too, whose options a record made by hand may hold
        labels[arm, method, options] = label if arm == method else f"{arm} {label}"
    if labels:
        keys = zip(frame["arm"], frame["method"], frame["options"], strict=True)
        frame["arm"] = pd.Series([labels.get(key, key[0]) for key in keys], index=frame.index, dtype="str")


def _column(name: str, values: Sequence[Any]) -> Any:
    info = FIELDS.get(name)
    kind = "text" if name == "target" else info.kind if info else "number"
    if kind == "list":
        return [";".join(map(str, value)) if value else "" for value in values]
    if kind == "object":
        known = [None if value is None else json.dumps(value, sort_keys=True) for value in values]
        return pd.Series(known, dtype="str")
    if name in _INDICES:
        return np.array([int(value or 0) for value in values], dtype=np.int64)
    if kind == "text":
        texts = {value: printable(str(value)) for value in set(values)}  # most stand in many records
        texts[None] = "" if info and info.key else None
        return pd.Series([*map(texts.get, values)], dtype="str")
    return np.array(values, dtype=float)  # None becomes nan
