"""Suite and Cell: the checked content of a suite file, and the matrix that it spans."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bench.catalog.datasets import DATASETS
from bench.catalog.methods import method_names
from bench.catalog.models import FULL, MODEL_NAMES, BlockSet, find_model
from bench.catalog.paper import PUBLISHED
from bench.errors import nearest, show
from bench.store.durable import json_sha256
from bench.suite.arm import Arm
from bench.suite.battery import BatterySpec
from bench.suite.cell import Cell, Variant
from bench.suite.data_axis import DataSpec, expand, n_target
from bench.suite.exclude import cell_values, excluded, rules_of, sought_values
from bench.suite.methods import TBFT, arms_of, block_sets, is_block_set, leaves_part, not_in_a_stream, trains
from bench.suite.model import ModelSpec
from bench.suite.spec import Axis, Name, Seed, Spec, axis, wrong
from bench.suite.training import AXES, TuneSpec, refusal
from bench.suite.work import ADAPT, Infer, Stream, Work, content_of, of_content, works_of

MAX_CELLS = 200_000
MAX_COUNT = 10_000_000
MAX_COMPARED = 10_000_000
"""Exclude rules times cells."""


def _train_size(size: Any) -> Any:
    expected = f"a fraction between 0 and 1 or a whole count from 2 to {MAX_COUNT:,}"
    if type(size) not in (int, float) or not math.isfinite(size):
        raise wrong(f"expected {expected}, got {show(size)}")
    if not 2 <= size <= MAX_COUNT if isinstance(size, int) else not 0 < size < 1:
        raise wrong(f"{show(size)} is out of range; expected {expected}")
    return size


class SplitSpec(Spec):
    """How target images divide into the pool to train from, validation and test (the paper's: 70/15/15).

    Attributes:
        official: take the test images, and the validation images where there are any, that the data sets apart itself;
            `pool` and `val` then divide its training images.
    """

    pool: Annotated[float, Field(gt=0, lt=1)] = 0.70
    val: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    official: bool = False

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.pool + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise wrong(f"pool + val + test must be 1, not {total:g}")
        return self


class EnergySpec(Spec):
    """How often and how long a cell is measured. The defaults suit a USB meter.

    Attributes:
        repeats: executions of a cell, each in a process and a window of its own.
        min_window_s: a shorter fine-tuning is done again within the window until it is that long, and until it
            lasted four periods of a meter.
        idle_s: length of an idle baseline; 0 measures none, and there are no net joules.
        guard_s: quiet before and after the work; as much of it is used as the source needs.
        cooldown_s: longest wait, before a repeat, for the device to come back to its first temperature.
        stop: `decided` ends the repeats of a case once the order of its arms by joules is sure (`bench.run.decided`).
    """

    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    min_window_s: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    idle_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    guard_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    cooldown_s: Annotated[float, Field(ge=0, le=3600)] = 120.0
    stop: Literal["decided"] | None = None


class Suite(Spec):
    """A checked suite: every name in it exists and every combination makes sense.

    Made by `bench.suite.load.load_suite`, which gives the errors their file and line. The fields are the keys of the
    file; `block_map` and `axes` follow from them.
    """

    name: Name
    title: str = ""
    version: Annotated[int, Field(ge=1)] = 1
    model: ModelSpec
    data: Annotated[tuple[DataSpec, ...], BeforeValidator(expand)]
    work: Annotated[tuple[Work, ...], PlainValidator(works_of), PlainSerializer(content_of)] = (None,)
    train_size: Annotated[tuple[Annotated[float | int, BeforeValidator(_train_size)], ...], Axis] = ()
    blocks: tuple[BlockSet, ...] = ()
    methods: tuple[Arm, ...] = ()
    seeds: Annotated[tuple[Seed, ...], Axis]
    train: TuneSpec = TuneSpec()
    energy: EnergySpec = EnergySpec()
    split: SplitSpec = SplitSpec()
    timeout_s: Annotated[float, Field(gt=0, le=7 * 86_400)] = 3600.0
    exclude: Annotated[tuple[dict[str, Any], ...], BeforeValidator(rules_of)] = ()
    battery: BatterySpec | None = None

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property (its issue 1362)
    @property
    def block_map(self) -> dict[str, tuple[str, ...]]:
        """Block -> module paths of the model."""
        return self.model.block_map

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Key of `train` that holds a list -> its values."""
        return self.train.axes

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == PUBLISHED:
            raise wrong(f"{PUBLISHED!r} stands for the published tables; choose another name")
        return name

    @field_validator("model")
    @classmethod
    def _is_known(cls, model: ModelSpec) -> ModelSpec:
        entry = find_model(model.name)
        if entry is None:
            raise wrong(f"{show(model.name)} is not a model; {nearest(model.name, MODEL_NAMES)}", "name")
        if "width" in model.model_fields_set and entry.kind != "paper":
            raise wrong(f"only the paper's resnets have a width, {model.name} has not", "width")
        if model.norm != "batch" and entry.kind != "paper":
            raise wrong(f"only the paper's resnets have one to choose, {model.name} has not", "norm")
        if model.blocks is None and entry.blocks is None:
            raise wrong(f"blocks is missing: a model of one's own ({model.name}) must name its blocks")
        if model.blocks is not None and not model.blocks:
            raise wrong("empty; expected at least one block, {name: [module, ...]}", "blocks")
        for name, modules in (model.blocks or {}).items():
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name in (FULL, TBFT):
                raise wrong(f"{show(name)} cannot be a block's name", "blocks", name)
            if not modules or not all(modules) or len(set(modules)) < len(modules):
                raise wrong("expected a list of module paths, none of them twice", "blocks", name)
        return model

    @field_validator("data")
    @classmethod
    def _noises_a_block(cls, data: tuple[DataSpec, ...], info: ValidationInfo) -> tuple[DataSpec, ...]:
        block_map = info.data["model"].block_map if "model" in info.data else {}
        for number, spec in enumerate(data if block_map else (), start=1):
            if spec.noised_block is not None and spec.noised_block not in block_map:
                given = show(spec.noised_block)
                hint = nearest(spec.noised_block, block_map)
                raise wrong(f"point {number} noises {given}, which is not a block of the model; {hint}")
        return data

    @field_validator("blocks", mode="before")
    @classmethod
    def _are_blocks(cls, entries: Any, info: ValidationInfo) -> Any:
        if isinstance(entries, tuple) or not {"model", "data"} <= set(info.data):
            return entries  # made in code, or refused already
        return tuple(block_sets(axis(entries), info.data["model"].block_map, info.data["data"]))

    @field_validator("methods", mode="before")
    @classmethod
    def _are_arms(cls, entries: Any, info: ValidationInfo) -> Any:
        if isinstance(entries, tuple) or not {"model", "data"} <= set(info.data):
            return entries  # made in code, or refused already
        block_map, data = info.data["model"].block_map, info.data["data"]
        names = {*block_map, FULL, TBFT} - {*method_names()}
        arms: dict[Arm, None] = {}
        for number, entry in enumerate(axis(entries)):
            if is_block_set(entry, names):
                try:
                    found = [*map(Arm.of_blocks, block_sets((entry,), block_map, data))]
                except PydanticCustomError as error:
                    raise wrong(str(error), number) from None
            else:
                found = [*arms_of(entry, number, names)]
            for arm in found:
                if arm in arms:
                    raise wrong(f"{arm.label} is given twice", number)
                arms[arm] = None
        return tuple(arms)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Check the parts against each other: arms, sizes against the data, ways of training, rules against cells."""
        labels = [arm.label for arm in self.arms]
        if not labels:
            raise wrong("blocks is missing, or methods")
        twice = [label for label, count in Counter(labels).items() if count > 1]
        if twice:
            raise wrong(f"two arms are called {show(twice[0])}; their results could not be told apart")
        self._check_work()
        sizes = (self.data, self.work, self.sizes, self.arms, self.seeds, *self.axes.values())
        points = math.prod(map(len, sizes))
        if points > MAX_CELLS:
            raise wrong(f"spans {points} cells; at most {MAX_CELLS} fit in one suite")
        # `tbft` is no label: which block it stands for depends on the cell
        known = dict.fromkeys([label for label in labels if label != TBFT] + [*self.block_map, FULL])
        for key in self.train.per_block:
            if key not in known:
                hint = nearest(key, known)
                raise wrong(
                    f"no block set or method of the suite is called {show(key)}; {hint}", "train", "per_block", key
                )
        entry = find_model(self.model.name)
        for data in self.data:
            self._check_sizes(data)
            if self.split.official and (data.dataset != "folder" or data.target is not None):
                raise wrong(f"{data.label} has no train and test part of its own that is known", "split", "official")
            if entry is not None and entry.kind in ("torchvision", "mobile") and DATASETS[data.dataset].channels == 1:
                takes = f"takes colour images, those of {data.label} are grey"
                raise wrong(f"{self.model.name} {takes}; take one of the paper's, e.g. resnet8", "model", "name")
        self._check_exclude()
        self._check_parts()
        last, seen = (next(reversed(self.block_map)),), set()
        for cell in self.cells():
            if (cell.arm, cell.variant) in seen or not trains(cell.arm):
                continue
            seen.add((cell.arm, cell.variant))
            refused = refusal(self.tuning(cell), last_layer=cell.blocks == last)
            if refused is not None:
                key, why = refused
                raise wrong(f"{why} (cell {cell.cell_id})" if cell.variant else why, "train", key)
        return self

    def _check_work(self) -> None:
        """Check what is done in the windows against the arms and the data."""
        if not self.streams:
            if not self.train_size:
                raise wrong("train_size is missing")
            for data in self.data:
                if data.corruptions is not None:
                    raise wrong(f"{data.label} is several shifts in a row, which only a stream meets; add work: stream")
            return
        if self.train_size:
            raise wrong("a stream has no training images; drop it", "train_size")
        if self.axes:
            raise wrong("a stream is not trained on; give it one value", "train", next(iter(self.axes)))
        for arm in self.arms:
            why = not_in_a_stream(arm)
            if why is not None:
                raise wrong(f"{arm.label} {why}", "methods" if arm in self.methods else "blocks")

    def _check_parts(self) -> None:
        """Check that what answers in stages has a part that can."""
        for cell in self.cells():
            part = leaves_part(cell.arm)
            if part and self.model.cut is None:
                raise wrong(f"cut is missing: {cell.arm.label} sets a head behind it", "model")
            if isinstance(cell.work, Infer) and cell.work.ratio is not None and not part:
                raise wrong(
                    f"{cell.arm.label} leaves no part that could answer; exclude it, or give it work without a ratio",
                    "work", "infer", "ratio",
                )  # fmt: skip

    def _check_sizes(self, data: DataSpec) -> None:
        known = n_target(data)  # a folder's images are counted when they are read
        share = 1.0 if self.split.official else self.split.pool  # how many there are is known when they are read
        for number, size in enumerate(self.train_size):
            loc = ("train_size", number)
            if isinstance(size, float) and size > share + 1e-9:
                raise wrong(f"{size:g} of the target data is more than the pool to train from ({share:g})", *loc)
            if known is None:
                continue
            if isinstance(size, int) and size > round(share * known):
                has = f"has to train from ({round(share * known)}: {share:g} of {known})"
                raise wrong(f"{size} images are more than {data.label} {has}", *loc)
            if isinstance(size, float) and round(size * known) < 2:
                few = f"{size:g} of the {known} images of {data.label}"
                raise wrong(f"{few} is less than 2, the fewest to train on", *loc)
        for part in ("val", "test"):
            if known is not None and round(getattr(self.split, part) * known) < 1:
                raise wrong(f"leaves no image of the {known} of {data.label}", "split", part)

    def _check_exclude(self) -> None:
        for number, rule in enumerate(self.exclude):
            for key in rule:
                if key in AXES and key not in self.axes:
                    raise wrong(f"train.{key} is no axis of this suite; give it a list there", "exclude", number, key)
        if not self.exclude:
            return
        matrix = list(self.matrix())
        if len(self.exclude) * len(matrix) > MAX_COMPARED:
            many = f"{len(self.exclude)} rules for {len(matrix)} cells"
            raise wrong(f"{many}; rules times cells may be {MAX_COMPARED:,} at most", "exclude")
        used = {number for _, numbers in excluded(self.exclude, matrix) for number in numbers}
        for number in sorted(set(range(len(self.exclude))) - used):
            rule = self.exclude[number]
            for key, wanted in rule.items():
                values = {cell_values(cell)[key]: None for cell in matrix}
                if sought_values(wanted).isdisjoint(values):
                    names = [str(value) for value in values]
                    quoted = isinstance(wanted, str) and wanted in names
                    hint = "drop the quotes" if quoted else nearest(str(wanted), names)
                    raise wrong(f"no cell of the suite has {show(wanted)} here; {hint}", "exclude", number, key)
            raise wrong(f"{show(rule)} matches no cell of the suite", "exclude", number)
        if not self.cells():
            raise wrong("every cell is excluded; nothing is left to run", "exclude")

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What is compared: an arm of `fixed` for each of `blocks`, `tbft` among them, then those of other methods."""
        return (*map(Arm.of_blocks, self.blocks), *self.methods)

    @property
    def streams(self) -> bool:
        """Whether the test images arrive in a stream, and there are no training images."""
        return any(isinstance(work, Stream) for work in self.work)

    @property
    def sizes(self) -> tuple[float | int, ...]:
        """Train sizes; 0 alone where there are no training images."""
        return (0,) if self.streams else self.train_size

    def cells(self) -> list[Cell]:
        """The matrix less what is excluded, in the order data, train size, work, seed, variant, arm."""
        if not self.exclude:
            return list(self.matrix())
        return [cell for cell, rules in excluded(self.exclude, self.matrix()) if not rules]

    def matrix(self) -> Iterator[Cell]:
        """Every point. A `tbft` that names a block already listed is that block's cell, once."""
        points = itertools.product(self.data, self.sizes, self.work, self.seeds, self.variants())
        for data, size, work, seed, variant in points:
            arms = (Arm.of_blocks(data.target_blocks or (FULL,)) if arm.blocks == (TBFT,) else arm for arm in self.arms)
            for arm in dict.fromkeys(arms):
                yield Cell(data, size, arm, seed, variant, work)

    def variants(self) -> list[Variant]:
        """Every point on the axes of `train`; the empty one where it has none."""
        return [tuple(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    def tuning(self, cell: Cell) -> TuneSpec:
        """How a cell is fine-tuned."""
        return self.train.for_arm(cell.arm.label, dict(cell.variant))

    def content(self) -> dict[str, Any]:
        """The suite as plain data for a manifest; what it does not use only where former versions had it."""
        content = self.model_dump(mode="json")
        for key, unused in (("methods", []), ("work", [{ADAPT: None}]), ("battery", None)):
            if content[key] == unused:
                del content[key]
        if content["energy"]["stop"] is None:
            del content["energy"]["stop"]
        if not content["split"]["official"]:
            del content["split"]["official"]
        for point in content["data"]:
            for key in ("corruptions", "shares"):
                if point[key] is None:
                    del point[key]
        return content

    @classmethod
    def of_content(cls, content: Mapping[str, Any], base: Path = Path()) -> Self:
        """Make the suite again from its `content`, of this version or of one that knew fewer keys.

        Args:
            base: folder that relative paths in it start from.

        Raises:
            ValueError: the content is not that of a suite, or has what this version does not know.
        """
        try:
            given = {key: value for key, value in content.items() if key not in ("block_map", "axes")}
            entry = find_model(given["model"]["name"])
            if entry is not None and entry.kind != "paper":
                given["model"] = {key: value for key, value in given["model"].items() if key != "width"}
            given["train"] = given.get("train", {}) | content.get("axes", {})
            context = {"base": base}
            points = map(json.dumps, given["data"])
            given["data"] = tuple(DataSpec.model_validate_json(point, context=context) for point in points)
            given["blocks"] = tuple(map(tuple, given["blocks"]))
            if given.get("battery"):
                given["battery"] = BatterySpec.model_validate(given["battery"])
            given["methods"] = tuple(
                Arm(arm["method"], tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in arm["options"]))
                for arm in given.get("methods", ())
            )
            if "work" in given:
                given["work"] = of_content(given["work"])
            if not given["train_size"]:
                given["train_size"] = ()
            return cls.model_validate(given, context=context)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the content of a suite ({error!r})") from None

    def digest(self) -> str:
        """Hash of what is run: comments, order of keys, the title and the battery do not change it."""
        content = self.content()
        for key in ("title", "version", "battery"):
            content.pop(key, None)
        return json_sha256(content)
