"""Two linear heads on a frozen net, behind its part and at its end, fitted to features that are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive

if TYPE_CHECKING:
    from torch import Tensor, nn


class HeadsOptions(Options):
    """Attributes:
    solver: `lbfgs`: logistic regression, as published; `closed_form`: a linear discriminant; `sgd`: a few passes of
        plain SGD, as on a microcontroller.
    c: of lbfgs: weight of the errors against the size of the weights.
    epochs, lr, batch: of sgd.
    """

    solver: Literal["lbfgs", "closed_form", "sgd"] = "lbfgs"
    c: Positive = 1.0
    epochs: Annotated[int, Field(ge=1, le=1000)] = 20
    lr: Positive = 0.1
    batch: Annotated[int, Field(ge=1, le=100_000)] = 16


METHOD = Method(
    name="heads",
    about="fits linear heads behind the part of model.cut and at the end, on features that are computed once",
    labels="needed",
    needs=("linear head",),
    part=True,
    options=HeadsOptions,
    cite="arXiv 2403.08040",
)


def adapt(task: Task, options: HeadsOptions) -> Adapted:
    """Compute the features of part and whole in one pass (phase features), and fit both heads (phase fit)."""
    import torch

    from bench.models.staged import PartHead, Staged, outputs_of
    from bench.training.closed_form import solve
    from bench.training.heads import fit_logistic, fit_sgd
    from bench.training.layers import freeze_but, head_inputs, linear_head
    from bench.training.loop import Batchable

    model, cut, head = task.model, task.cut, linear_head(task.model)
    assert cut is not None
    assert head is not None
    freeze_but(model, ())
    model.eval()

    @torch.no_grad()
    def features(images: Tensor) -> tuple[Tensor, Tensor]:
        part: list[Tensor] = []
        with head_inputs(head) as full, outputs_of(model, cut) as seen:
            for x in images.split(task.batch_size):
                task.logits(x)
                part.append(seen[cut])
        return torch.cat(part), torch.cat(full)

    solved = options.solver == "closed_form"
    with task.phase("features"):
        of_train = features(task.train.x)
        of_val = features(task.val.x) if solved else None
    made = PartHead(of_train[0].shape[1], task.n_classes).to(head.weight.device)
    steps = 0
    with task.phase("fit"):
        for number, layer in enumerate((made.linear, head)):
            x, y = of_train[number], task.train.y
            if options.solver == "lbfgs":
                steps += fit_logistic(layer, x, y, c=options.c)
            elif options.solver == "sgd":
                steps += fit_sgd(
                    layer, x, y, lr=options.lr, epochs=options.epochs, batch=options.batch, generator=task.generator
                )
            else:
                assert of_val is not None
                steps += solve(layer, Batchable(x, y), Batchable(of_val[number], task.val.y)).steps
    trained = sum(p.numel() for layer in (made.linear, head) for p in (layer.weight, layer.bias))
    facts: dict[str, Any] = {"cut": cut, "features": [x.shape[1] for x in of_train], "evaluations": steps}
    return Adapted(model=Staged(model, cut, made), facts=facts, epochs_run=1, steps=steps, trained_parameters=trained)


def rebuild(model: nn.Module, state: Mapping[str, Tensor], options: HeadsOptions) -> nn.Module:
    """Put a kept model together again: the net, cut where it was, with the head of its part."""
    from bench.models.staged import PartHead, Staged

    n_classes, n_features = state["part.linear.weight"].shape
    return Staged(model, bytes(state["cut_path"].tolist()).decode(), PartHead(n_features, n_classes))
