"""Levers: which work an engine saves, which of it changes the result, and what cannot be had. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench.suite.training import EVAL_BATCH, Cache, EngineSpec, Head

MICRO_BATCH = 64
"""What the fast engine runs through the net at once on a CPU, for the same reason as EVAL_BATCH."""

Refusal = tuple[str, str]
"""Key of `train`, and why its value cannot be had."""


@dataclass(frozen=True, slots=True)
class Levers:
    """What is saved in one cell.

    Attributes:
        truncated: nothing frozen gets a gradient. Always exact.
        cache: where the frozen front part's output is kept; `auto` is memory, or disk where there is too little.
            Equal to rounding where the front part gives the same output in every epoch, except `half`.
        channels_last: order of values in memory. Equal to rounding.
        keep_memory: freed memory stays in the process. Always exact.
        micro_batch: images run through the net at once, None for the whole batch. Equal to rounding where no layer
            looks at other images of the batch.
        eval_batch: images evaluated at once. Equal to rounding.
        bfloat16: activations have 8 significant bits. Not exact.
        compiled: by torch.compile. Equal to rounding.
        head: `closed_form` reaches another optimum than training does. Not the same result.
    """

    truncated: bool
    cache: Cache
    channels_last: bool
    keep_memory: bool
    micro_batch: int | None
    eval_batch: int
    bfloat16: bool
    compiled: bool
    head: Head

    def names(self, cache: str | None) -> tuple[str, ...]:
        """As a record lists them; what is not equal to rounding ends in `(inexact)`.

        Args:
            cache: where the cache is in the end, None where there is none.
        """
        found = {
            "truncated": self.truncated,
            f"cache={cache}" + (" (inexact)" if cache == "half" else ""): cache is not None,
            "channels_last": self.channels_last,
            "keep_memory": self.keep_memory,
            f"micro_batch={self.micro_batch}": self.micro_batch is not None,
            "bfloat16 (inexact)": self.bfloat16,
            "compile": self.compiled,
            "closed_form (inexact)": self.head == "closed_form",
        }
        return tuple(name for name, used in found.items() if used)


def resolve(spec: EngineSpec, device: str) -> Levers:
    """What a cell's engine saves, on a kind of torch device (`cpu`, `cuda`), for a spec that is not refused."""
    fast = spec.engine == "fast"
    keeps = spec.cache if spec.cache != "auto" or fast else "off"
    if spec.cache == "auto" and not _cacheable(spec):
        keeps = "off"
    micro_batch = spec.micro_batch
    if micro_batch is None and fast and device == "cpu" and _separable(spec) and spec.batch_size > MICRO_BATCH:
        micro_batch = MICRO_BATCH
    if spec.head == "closed_form":
        keeps, micro_batch = "memory", None  # one pass over features, which the solution takes as a whole
    return Levers(
        truncated=spec.engine != "reference",
        cache=keeps,
        channels_last=fast if spec.channels_last is None else spec.channels_last,
        keep_memory=fast and device == "cpu" if spec.keep_memory is None else spec.keep_memory,
        micro_batch=micro_batch,
        eval_batch=spec.batch_size if spec.engine == "reference" else EVAL_BATCH,
        bfloat16=spec.precision == "bfloat16",
        compiled=spec.compile and spec.head != "closed_form",
        head=spec.head,
    )


def refusal(spec: EngineSpec, *, last_layer: bool) -> Refusal | None:
    """Why a way of training cannot be had, or None.

    Args:
        last_layer: whether the model's last block alone is tuned.
    """
    if spec.engine == "reference":
        return _of_reference(spec)
    keeps = spec.cache not in ("auto", "off")
    if keeps and spec.bn_mode == "train":
        return "cache", (
            f"{spec.cache!r} with bn_mode 'train': BatchNorm of the frozen part moves with every batch, so its output "
            "changes; set bn_mode to train_tuned, eval or adapt_once_then_eval"
        )
    if keeps and spec.augment and spec.views is None:
        return "cache", (
            f"{spec.cache!r} with augment: the images differ in every epoch, so there is nothing to keep; "
            "views: 4 makes four changed copies and keeps those"
        )
    if spec.views is not None and not spec.augment:
        return "views", f"{spec.views} with nothing to vary; add augment: true"
    if spec.micro_batch is not None and not _separable(spec):
        return "micro_batch", (
            f"{spec.micro_batch} with bn_mode {spec.bn_mode!r}: BatchNorm normalises by the whole batch; set bn_mode "
            "to eval or adapt_once_then_eval"
        )
    return _of_closed_form(spec, last_layer) if spec.head == "closed_form" else None


def _of_reference(spec: EngineSpec) -> Refusal | None:
    wanted = {
        "cache": spec.cache not in ("auto", "off"),
        "channels_last": spec.channels_last is True,
        "keep_memory": spec.keep_memory is True,
        "micro_batch": spec.micro_batch is not None,
        "precision": spec.precision != "float32",
        "compile": spec.compile,
        "head": spec.head != "sgd",
        "views": spec.views is not None,
    }
    for key, given in wanted.items():
        if given:
            return key, "engine 'reference' does all of the published work; engine 'truncated' takes levers one by one"
    return None


def _of_closed_form(spec: EngineSpec, last_layer: bool) -> Refusal | None:
    if not last_layer:
        return "head", "'closed_form' solves the model's last block and no other; put it under per_block or exclude"
    if spec.cache not in ("auto", "memory"):
        return "cache", f"{spec.cache!r} with head 'closed_form', which takes the features as a whole; leave it out"
    if spec.bn_mode == "train":
        return (
            "head",
            "'closed_form' needs features that stay; set bn_mode to train_tuned, eval or adapt_once_then_eval",
        )
    if spec.augment and spec.views is None:
        return "head", "'closed_form' sees each image once; views: 4 makes four changed copies"
    return None


def _cacheable(spec: EngineSpec) -> bool:
    """Whether the frozen front part gives an image the same output in every epoch, as far as the spec can tell."""
    return spec.bn_mode != "train" and (not spec.augment or spec.views is not None)


def _separable(spec: EngineSpec) -> bool:
    """Whether no layer looks at the other images of the batch."""
    return spec.bn_mode in ("eval", "adapt_once_then_eval")
