"""LoRA: a product of two small matrices beside each layer's weight, the only thing that is trained; merged afterwards.

Of the package `peft`. The model that is left has the source's architecture: W + (alpha / rank) B A in place of W.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive

if TYPE_CHECKING:
    from torch import nn


class LoraOptions(Options):
    """Attributes:
    rank: columns of B and rows of A.
    alpha: the product counts alpha / rank times.
    head: whether the head is trained as a whole besides, as is usual where its classes are new.
    lr: null: the suite's.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 4
    alpha: Annotated[int, Field(ge=1, le=10_000)] = 8
    head: bool = True
    lr: Positive | None = None


METHOD = Method(
    name="lora",
    about="trains low-rank matrices beside the weights of convolutions and linear layers, and merges them",
    labels="needed",
    needs=("linear head",),
    options=LoraOptions,
    cite="arXiv 2106.09685",
    extra=("peft", "lora"),
)


def adapt(task: Task, options: LoraOptions) -> Adapted:
    """Put adapters in place, tune them by the suite's protocol, merge them and take them off."""
    wrapped = wrap(task.model, options)
    try:
        parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        outcome = task.tune(parameters, lr=options.lr)
    except BaseException:
        wrapped.unload()
        raise
    layers = len(wrapped.targeted_module_names)
    wrapped.merge_and_unload()
    return Adapted.by_tuning(outcome, parameters, layers=layers, rank=options.rank)


def wrap(model: nn.Module, options: LoraOptions) -> Any:
    """Put adapters into a model, in place; what trains has requires_grad.

    Layers whose channels are convolved in groups that the rank does not divide are left out, as `peft` does not take
    them.

    Returns:
        The `peft.LoraModel` around it.
    """
    from peft import LoraConfig, LoraModel
    from torch import nn

    from bench.training.layers import linear_head

    head = linear_head(model)
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and not (options.head and module is head)
        and not (isinstance(module, nn.Conv2d) and options.rank % module.groups)
    ]
    config = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=targets)
    wrapped = LoraModel(model, {"default": config}, "default")
    if options.head and head is not None:
        head.requires_grad_(True)
    return wrapped


trained_form = wrap
"""What trains while the model is adapted, for the price of its steps."""
