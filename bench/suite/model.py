"""ModelSpec: which model a suite adapts, and where its weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from bench.catalog.checkpoints import CHECKPOINTS
from bench.catalog.mobile import read_architecture
from bench.catalog.models import find_model
from bench.errors import RequestError, nearest, show
from bench.suite.spec import Portable, Spec, user_path, wrong
from bench.suite.training import SourceTrainSpec


def _checkpoint(given: Any, info: ValidationInfo) -> Any:
    """Resolve the path of a checkpoint that is not a released one."""
    if given is None or (isinstance(given, str) and given in CHECKPOINTS):
        return given
    if not isinstance(given, str):
        raise wrong(f"expected text, got {show(given)}")
    if not given.endswith((".pth", ".pt", ".safetensors")):
        hint = nearest(given, CHECKPOINTS)
        raise wrong(f"{show(given)} is neither a .pth or .safetensors file nor a known name; {hint}")
    return user_path(given, info)


def _name(given: Any, info: ValidationInfo) -> Any:
    """Resolve the path of an architecture."""
    if not isinstance(given, str):
        raise wrong(f"expected text, got {show(given)}")
    return user_path(given, info) if given.endswith(".json") else given


class ModelSpec(Spec):
    """Which model, where its weights come from, and (for one's own) what its blocks are.

    Attributes:
        checkpoint: name of a released one, or a file.
        pixels: what the model is fed, `signed` (-1 to 1) or `unit` (0 to 1); a released checkpoint decides it.
        norm: of the paper's resnets: `batch`, as published, or `group`: GroupNorm of 8 groups, which has no running
            statistics; a released checkpoint decides it.
        cut: where its part ends, which answers where it is sure: behind so many of its `blocks`, behind the block of
            this name (or path), or `auto`: where a head's accuracy times the share of work that remains is largest.
        head: `keep` takes all of a checkpoint; `fresh` draws the last block anew, for other classes than its own.
    """

    name: Annotated[str, PlainValidator(_name), Portable]
    checkpoint: Annotated[str, PlainValidator(_checkpoint), Portable] | None = None
    width: Annotated[int, Field(ge=1, le=1024)] = 16
    blocks: dict[str, list[str]] | None = None
    pixels: Literal["signed", "unit"] = "signed"
    norm: Literal["batch", "group"] = "batch"
    head: Literal["keep", "fresh"] = "keep"
    cut: Annotated[int, Field(ge=1, le=1000)] | str | None = None
    source_train: SourceTrainSpec = SourceTrainSpec()

    @model_validator(mode="before")
    @classmethod
    def _take_released(cls, raw: Any) -> Any:
        released = CHECKPOINTS.get(str(raw.get("checkpoint"))) if isinstance(raw, dict) else None
        if released is None:
            return raw
        if raw.get("pixels", released.pixels) != released.pixels:
            raise wrong(f"{raw['checkpoint']} was trained on {released.pixels!r} ones", "pixels")
        if raw.get("norm", released.norm) != released.norm:
            raise wrong(f"{raw['checkpoint']} has {released.norm!r} norm", "norm")
        return raw | {"pixels": released.pixels} | ({"norm": released.norm} if released.norm != "batch" else {})

    @model_validator(mode="after")
    def _take_blocks(self) -> Self:
        """Take the blocks of an architecture from its file, so that a run's folder has them where the file is not."""
        if self.head == "fresh" and self.checkpoint is None:
            raise wrong("'fresh' is for a checkpoint's; without one the whole model is trained", "head")
        if self.source_train.joint_epochs and self.cut is None:
            raise wrong("is missing: joint_epochs train the part before it", "cut")
        if not self.name.endswith(".json") or self.blocks is not None:
            return self
        try:
            blocks = read_architecture(Path(self.name)).block_map()
        except RequestError as error:
            raise wrong(str(error), "name") from None
        object.__setattr__(self, "blocks", {name: [*paths] for name, paths in blocks.items()})
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `norm`, `head` and `cut` where they are as before there was another: hashes stay."""
        content: dict[str, Any] = handler(self)
        for key, value in (("norm", "batch"), ("head", "keep"), ("cut", None)):
            if content.get(key) == value:
                del content[key]
        return content

    @property
    def label(self) -> str:
        """Name for a record: `resnet26`, `resnet26-gn` with GroupNorm; of an architecture the name of its file."""
        name = Path(self.name).stem if self.name.endswith(".json") else self.name
        return f"{name}-gn" if self.norm == "group" else name

    @property
    def block_map(self) -> dict[str, tuple[str, ...]]:
        """Block -> its module paths, or patterns of parameter names; the head last."""
        if self.blocks is not None:
            return {name: tuple(modules) for name, modules in self.blocks.items()}
        entry = find_model(self.name)
        return dict(entry.blocks or {}) if entry else {}
