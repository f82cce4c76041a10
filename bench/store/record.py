"""Record: one finished repeat of a cell, as it stands in a line of cells.jsonl.

A field is declared once, in the part of a record that produces it, with its unit and its meaning; what follows from
its type and from that line are the check of what is read, the columns of the analysis and the table in
docs/contracts.md. To add a field is to add its line here, where what it is taken `of` is known already.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field

from bench.errors import show

SCHEMA = 1
"""Version of a line of cells.jsonl. 1: first."""

Status = Literal["ok", "failed", "timeout"]
Grade = Literal["A", "B", "C", "X"]
LARGEST = 1e100
"""No figure of a repeat is beyond this; products of three of them stay finite."""

MAX_WHOLE = 2**63
"""No whole number of a record is as large: a column of a table holds them in 64 bits."""

MAX_TEXT = 20_000
"""Characters of all texts of a record together."""

FREE = ("error", "cache_note")
"""Texts for people, which may repeat names that are no UTF-8; of the others each must be writable as it is."""


Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=MAX_WHOLE)]

REQUIRED = dataclasses.MISSING
"""Default of a field without which a record is none."""


def _f(unit: str, doc: str, *, of: str = "", read: bool = True, key: bool = False, default: Any = None) -> Any:
    """Declare a field of a record.

    Args:
        unit: '' where it has none.
        doc: meaning, for people.
        of: path to it from what its part is taken from, as `env_before.temperature_c`; '': its own name.
        read: whether the analysis reads it; else it stands in the record for whoever asks about one repeat.
        key: a text that says what the repeat is of, so it is required, and never null in a table.
    """
    metadata = {"unit": unit, "doc": doc, "of": of or None, "read": read, "key": key}
    return field(metadata=metadata, default=REQUIRED if key else default)


@dataclass(frozen=True, kw_only=True)
class CellFacts:
    """What a repeat is of: taken from the suite, the cell, how it is tuned (`spec`) and what was prepared for it."""

    cell_id: str = _f("", "readable, stable identity of the cell", of="cell.cell_id", key=True)
    dataset: str = _f("", "dataset name", of="cell.data.dataset", default=REQUIRED)
    shift: str = _f("", "shift name", of="cell.data.shift", default=REQUIRED)
    level: str = _f(
        "", "input, feature or output; of a composite shift several, joined by +", of="cell.data.level", key=True
    )
    data: str = _f("", "label of the dataset with its shift, as in cell_id", of="cell.data.label", key=True)
    train_size: Finite = _f(
        "", "as the suite gives it: a fraction of the target data or a count", of="cell.train_size", default=REQUIRED
    )
    arm: str | None = _f("", "what is compared, method and options: block1, full, name(key=value)", of="cell.arm.label")
    method: str = _f(
        "", "how the model was adapted; fixed: a named block set was tuned", of="cell.arm.method", key=True
    )
    options: dict[str, Any] | None = _f("", "options of the method; null where `blocks` says all", read=False)
    blocks: str = _f("", "what was tuned: a block, block+block, or full", of="cell.blocks_label", key=True)
    seed: Count = _f("", "draws the splits and the batch order", of="cell.seed", default=REQUIRED)
    work: str | None = _f("", "what was done in the window: adapt, infer(...), stream(...)", of="cell.work_label")
    variant: str = _f("", "point on the axes of train, as in cell_id: engine=fast", of="cell.variant_label", default="")
    model: str = _f("", "model name", of="suite.model.label", default=REQUIRED)
    bn_mode: str = _f("", "train, train_tuned, eval or adapt_once_then_eval", of="spec.bn_mode", default=REQUIRED)
    engine: str | None = _f("", "reference, truncated or fast", of="spec.engine")
    target_block: str | None = _f(
        "", "block that the shift calls for, of a composite the set of them", of="cell.data.target_block"
    )
    noise_sigma: Finite | None = _f(
        "", "standard deviation of the noise put into that block of the model", of="noise.sigma"
    )
    device: str | None = _f("", "torch device that trained", of="prepared.device_name")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How and when the repeat was executed: taken from its session."""

    repeat: Count = _f("", "number of this execution of the cell, from 0", default=REQUIRED)
    status: Status = _f("", "ok, failed or timeout", key=True)
    error: str | None = _f("", "why the repeat is not ok, or its joules are not")
    started_at: str = _f("", "UTC, ISO 8601", default=REQUIRED)
    source: str | None = _f("", "energy source")
    session: Count | None = _f("", "which of the manifest's sessions ran it, from 0", read=False)
    started_mono_s: Finite | None = _f("s", "start on the host's monotonic clock, one for a session", read=False)
    cooldown_s: Finite | None = _f("s", "waited before the repeat for the device to cool down", read=False)
    startup_s: Finite | None = _f("s", "process start to first training step, guard band excluded")
    model_file: str | None = _f("", "file under models/ with the adapted model, where it was kept", read=False)
    model_sha256: str | None = _f("", "hash of that file", read=False)
    schema: Count = _f("", "version of this line", default=SCHEMA)


@dataclass(frozen=True, kw_only=True)
class WorkFigures:
    """What the work reached and took: sent by the process that did it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="constants")
    """A figure that is no number must be refused where it arrives, and not become one that was not measured."""

    n_train: Count | None = _f("images", "labelled target images trained on")
    n_val: Count | None = _f("images", "target images that chose the epoch")
    n_test: Count | None = _f("images", "target images that gave the accuracy")
    trained_parameters: Count | None = _f("", "parameters that could change")
    accuracy_before: Share | None = _f("fraction", "of the source model on the target test images")
    accuracy_after: Share | None = _f("fraction", "after tuning, best epoch by validation loss")
    best_epoch: Count | None = _f("", "epoch kept, from 1; 0: none improved on the source model")
    epochs_run: Count | None = _f("", "epochs until the end or early stopping")
    steps: Count | None = _f("", "optimiser steps")
    levers: tuple[str, ...] = _f(
        "", "which work was saved; (inexact): at the price of another result", read=False, default=()
    )
    cache_mb: Finite | None = _f("MB", "activations of the frozen part that were kept", read=False)
    cache_note: str | None = _f("", "why they went where they did", read=False)
    data_variant: str | None = _f("", "which copy of the data, e.g. JPEG")
    labels: Literal["needed", "unused"] | None = _f(
        "", "needed: the method got labelled images; unused: it got images alone", read=False
    )
    facts: dict[str, Any] | None = _f("", "what the method chose, and why", read=False)
    n_images: Count | None = _f("images", "classified in one execution of a stream or an inference")
    stream: dict[str, Any] | None = _f(
        "", "order, block, batch and images of a stream, hash of its order, accuracy on each of its shifts", read=False
    )
    runtime: dict[str, Any] | None = _f(
        "", "what ran the net in place of torch, bytes of its weights, and how near it came to torch", read=False
    )
    exits: dict[str, Any] | None = _f(
        "", "stage decision: threshold, share that the part answered, accuracy and calibration of part and full model"
    )
    lap_s: Finite | None = _f("s", "of a board's own timer: one inference, or one training; its joules have the host's")
    instructions: Count | None = _f("", "of one inference, or one training, on an emulated board")
    step_instructions: Count | None = _f("", "of one step of SGD there")
    flash_bytes: Count | None = _f("B", "of a board: program and net, by the account of its firmware")
    sram_bytes: Count | None = _f("B", "of a board: image, activations, stored features, heads and stack")
    forward_macs: Count | None = _f("MAC", "one image forward, by arithmetic (`bench.cost`)")
    step_macs: Count | None = _f("MAC", "one step on a full batch: forward and the gradients it needs")
    step_bytes: Count | None = _f("B", "read and written by it, if no cache kept anything")
    train_macs: Count | None = _f(
        "MAC", "one fine-tuning as it ran, validation included; of a closed form its solution"
    )
    phase_macs: dict[str, Any] | None = _f("MAC", "the same, phase by phase", read=False)
    peak_rss_mb: Finite | None = _f("MB", "peak resident memory of the process until the end of training")
    unit: str | None = _f("", "of a wrapped command: what times and energies are per, one of these", read=False)
    units: Finite | None = _f("", "how many of them one execution did", read=False)


@dataclass(frozen=True, kw_only=True)
class WindowFigures:
    """What the energy source and the device showed of the window: taken from a `hardware.EnergyResult`."""

    train_time_s: Finite | None = _f(
        "s", "one execution, such as one fine-tuning, validation included", of="duration_s"
    )
    executions: Count | None = _f("", "executions inside the energy window; energies are per one")
    energy_gross_j: Finite | None = _f("J", "energy of one execution, such as one fine-tuning")
    energy_net_j: Finite | None = _f("J", "gross less idle power x time")
    energy_u_j: Finite | None = _f("J", "expanded uncertainty of the gross energy, k = 2")
    energy_net_u_j: Finite | None = _f("J", "expanded uncertainty of the net energy, k = 2")
    idle_power_w: Finite | None = _f("W", "idle baseline")
    source_kind: str | None = _f("", "counter, power or estimate")
    grade: Grade | None = _f("", "A, B, C or X: how far the joules can be trusted")
    flags: tuple[str, ...] = _f("", "what a reader of the figure must know", default=())
    rules: Count | None = _f("", "version of the rules of flags, grade and uncertainty; null: 1", read=False)
    energy_terms: tuple[dict[str, Any], ...] = _f(
        "J",
        "uncertainty budget: name, gross_j, net_j (k = 1), basis of each term, and what it is common to",
        of="terms",
        read=False,
        default=(),
    )
    phases: dict[str, Any] | None = _f(
        "", "seconds and joules of each phase of one; null joules: the source cannot resolve it"
    )
    band_s: Finite | None = _f("s", "what was integrated for one fine-tuning, guard bands included", read=False)
    lost_fraction: Finite | None = _f("fraction", "samples of the meter that are missing", read=False)
    longest_gap_s: Finite | None = _f("s", "longest time without a sample", read=False)
    bad_frames: Count | None = _f("", "broken frames of the meter, dropped", of="health.bad_frames", read=False)
    implausible: Count | None = _f("", "its readings that cannot be true, dropped", of="health.implausible", read=False)
    own_counter_j: Finite | None = _f(
        "J", "the source's counter over work and quiet together, where it has watts too",
        of="cross_check.counter_j", read=False,
    )  # fmt: skip
    own_integral_j: Finite | None = _f(
        "J", "its samples, integrated over the same time", of="cross_check.integral_j", read=False
    )
    temperature_before_c: Finite | None = _f(
        "degC", "hottest thermal zone before the work", of="env_before.temperature_c"
    )
    temperature_after_c: Finite | None = _f("degC", "and right after it", of="env_after.temperature_c", read=False)
    frequency_before_hz: Finite | None = _f(
        "Hz", "mean over the cores before the work", of="env_before.frequency_hz", read=False
    )
    frequency_after_hz: Finite | None = _f("Hz", "and right after it", of="env_after.frequency_hz", read=False)
    governor: str | None = _f("", "frequency governor after the work", of="env_after.governor", read=False)
    throttle_before: Count | None = _f(
        "", "a Raspberry Pi's throttle and undervoltage bits before", of="env_before.throttle_bits", read=False
    )
    throttle_after: Count | None = _f("", "and right after the work", of="env_after.throttle_bits", read=False)
    throttle_count_before: Count | None = _f(
        "", "how often an x86 processor had slowed down before", of="env_before.throttle_count", read=False
    )
    throttle_count_after: Count | None = _f("", "and right after the work", of="env_after.throttle_count", read=False)
    trace: str | None = _f("", "file under traces/", of="trace_file")
    trace_sha256: str | None = _f("", "hash of that file", read=False)


@dataclass(frozen=True, kw_only=True)
class Record(WindowFigures, WorkFigures, Execution, CellFacts):
    """One repeat: its parts, the last one first. Not measured is None, never 0. Accuracies are fractions of 1.

    Raises:
        ValueError: a value that no repeat can have (an unknown status, a fraction beyond 1, a figure
            that is not finite).
    """

    def __post_init__(self) -> None:
        if wrong := fault(vars(self)):
            raise ValueError(f"no record can have {wrong}")

    def to_json(self) -> str:
        """One line, without the newline."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """What follows from the declaration of a field.

    Attributes:
        kind: text, number, integer, list (of texts), object, or terms (a list of objects).
        required: a record without it is none.
        choices: what a text may be; anything where there are none.
        unit, read, key: see `_f`.
    """

    kind: str
    required: bool
    choices: tuple[str, ...]
    unit: str
    read: bool
    key: bool


_KINDS = {str: "text", float: "number", int: "integer", tuple[str, ...]: "list", dict[str, Any]: "object"}


def _info(spec: dataclasses.Field[Any], hint: Any) -> FieldInfo:
    bare = get_args(hint)[0] if type(None) in get_args(hint) else hint
    bare = get_args(bare)[0] if get_origin(bare) is Annotated else bare
    choices = get_args(bare) if get_origin(bare) is Literal else ()
    kind = "text" if choices else _KINDS.get(bare, "terms")
    facts = {name: spec.metadata[name] for name in ("unit", "read", "key")}
    return FieldInfo(kind=kind, required=spec.default is REQUIRED, choices=choices, **facts)


_HINTS = get_type_hints(Record, include_extras=True)
FIELDS = {spec.name: _info(spec, _HINTS[spec.name]) for spec in dataclasses.fields(Record)}
"""Every field of a record by its name, in the order of a line."""

UNITS = {name: info.unit for name, info in FIELDS.items()}
"""Unit of every field, '' where it has none."""

_SHARES = [name for name, hint in _HINTS.items() if Share in (hint, *get_args(hint))]
_OTHER = [name for name, info in FIELDS.items() if info.choices or info.kind in ("list", "object", "terms")]
_TYPES: dict[str, set[type]] = {
    "text": {str}, "number": {int, float}, "integer": {int},
    "list": {list, tuple}, "object": {dict}, "terms": {list, tuple},
}  # fmt: skip
_NAMES = tuple(FIELDS)


def foreign(line: Any) -> str:
    """Say why parsed JSON is no line of this version of cells.jsonl, '' where it may be one."""
    try:
        hash((line["cell_id"], line["repeat"], line["status"]))
        schema = line["schema"]
    except (TypeError, KeyError):
        return "is not a record"
    return "" if schema == SCHEMA else f"has schema {show(schema, 20)}, this version reads {SCHEMA}; upgrade jouletune"


def fault(line: Mapping[str, Any]) -> str:
    """Say in a few words what in a parsed line no record can have; '' where it is one.

    The lines of a run have few combinations of types, and nearly every line is right: its types are looked up together,
    its figures compared together, and one by one only where something is wrong.
    """
    values = (*map(line.get, _NAMES), 0, "")
    groups = _groups(tuple(map(type, values)))
    if groups is not None:
        numbers, whole, shares, texts = (take(values) for take in groups)
        if (
            # nan, which min and max may miss, makes a sum nan
            -LARGEST < min(numbers) <= max(numbers) < LARGEST
            and not math.isnan(sum(numbers) + sum(shares))
            and line["train_size"] >= 0
            and 0 <= min(whole) <= max(whole) < MAX_WHOLE
            and 0 <= min(shares) <= max(shares) <= 1
            and len(joined := "".join(texts)) <= MAX_TEXT
            and _can_be_written(joined)
            and all(_right(name, line[name]) for name in _OTHER if line.get(name))
        ):
            return ""
    for name, info in FIELDS.items():
        value = line.get(name)
        if value is None and info.required:
            return f"no {name}"
        if not _right(name, value):
            return f"{name} {_told(name, value)}"
    return "more text than a record can have" if sum(len(str(line.get(name))) for name in FIELDS) > MAX_TEXT else ""


@functools.lru_cache(maxsize=1000)
def _groups(types: tuple[type, ...]) -> tuple[Callable[[Any], tuple[Any, ...]], ...] | None:
    """Make getters of the numbers, whole numbers, shares and texts among the values of a line with these types.

    None where a type is wrong. The values are those of all fields, and 0 and '' after them, which are in each group
    of figures and of texts: so that no group is empty.
    """
    places: dict[str, list[int]] = {kind: [] for kind in ("number", "integer", "share", "text")}
    for place, (found, (name, info)) in enumerate(zip(types, FIELDS.items(), strict=False)):
        if found is type(None):
            if info.required:
                return None
            continue
        if found not in _TYPES[info.kind]:
            return None
        group = "share" if name in _SHARES else info.kind
        if group in places:
            places[group].append(place)
    zero = len(FIELDS)
    return tuple(itemgetter(*found, *(2 * [zero + (kind == "text")])) for kind, found in places.items())


def _right(name: str, value: Any) -> bool:
    """Whether a field can have a value."""
    info = FIELDS[name]
    if value is None:
        return True
    if info.kind == "text":
        fits = type(value) is str and len(value) <= MAX_TEXT and (name in FREE or _can_be_written(value))
        return fits and value in (info.choices or (value,))
    if info.kind == "object":
        return type(value) is dict
    if info.kind in ("list", "terms"):
        each = _is_term if info.kind == "terms" else lambda one: type(one) is str
        return type(value) in (list, tuple) and all(map(each, value))
    fits = type(value) in (int, float) and -LARGEST < value < LARGEST  # in one: nan, infinity, integers beyond a float
    if fits and info.kind == "integer":
        return type(value) is int and 0 <= value < MAX_WHOLE
    return fits and (name not in _SHARES or 0 <= value <= 1) and (name != "train_size" or value >= 0)


def _told(name: str, value: Any) -> str:
    nouns = {"list": "that are no list", "terms": "that are no budget", "object": "that are no object"}
    bare = name in [*_SHARES, "train_size"] and type(value) in (int, float)
    return nouns.get(FIELDS[name].kind) or (str(value) if bare else show(str(value), 40))


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_term(term: Any) -> bool:
    if type(term) is not dict or not {"name", "net_j"} <= term.keys():
        return False
    net_j = term["net_j"]
    return net_j is None or (type(net_j) in (int, float) and abs(net_j) < LARGEST)


def taken(part: type, produced: object) -> dict[str, Any]:
    """The fields of a part of a record, each from where its declaration says, None where there is nothing.

    Args:
        part: one of the parts of a record.
        produced: what they are taken from: an object, or a mapping of objects.
    """
    found = {}
    for spec in dataclasses.fields(part):
        value: Any = produced
        for step in (spec.metadata["of"] or spec.name).split("."):
            value = value.get(step) if isinstance(value, Mapping) else getattr(value, step, None)
        if isinstance(value, tuple):
            value = tuple(dataclasses.asdict(one) if not isinstance(one, str) else one for one in value)
        found[spec.name] = value
    return found
