"""Race: try every block for an epoch, keep the better half by validation loss, and so on; then tune the winner.

What anybody can do who has a validation set and joules to spare. Its `adapt` phase is that of `fixed` with the block
it found, so what the choice costs and what it gains stand apart.
"""

from __future__ import annotations

from bench.methods import Adapted, Method, Options, Task
from bench.suite.spec import Positive


class RaceOptions(Options):
    """Attributes:
    full: whether tuning everything is a candidate too.
    lr: null: the suite's.
    """

    full: bool = True
    lr: Positive | None = None


METHOD = Method(
    name="race",
    about="tries every block for an epoch, halves the field by validation loss, tunes the winner",
    labels="needed",
    options=RaceOptions,
    cite="successive halving: arXiv 1502.07943",
)


def adapt(task: Task, options: RaceOptions) -> Adapted:
    """Run the race and tune the winner from the source model on, by the suite's protocol."""
    from bench.catalog.models import FULL
    from bench.models.blocks import train_only

    candidates = [*task.block_map, *([FULL] if options.full else [])]
    parameters = {name: train_only(task.model, task.block_map, (name,)) for name in candidates}
    states = dict.fromkeys(candidates, task.source_state)
    losses: dict[str, float] = {}
    field, epochs = candidates, 1
    with task.phase("select"):
        while len(field) > 1:
            for name in field:
                task.model.load_state_dict(states[name])
                losses[name] = min(task.tune(parameters[name], lr=options.lr, epochs=epochs).val_losses)
                states[name] = {key: value.clone() for key, value in task.model.state_dict().items()}
            field = sorted(field, key=lambda name: losses[name])[: len(field) // 2]
            epochs *= 2
        task.reset()
    winner = field[0]
    outcome = task.tune(parameters[winner], lr=options.lr)
    facts = {"winner": winner, "last_losses": {name: round(loss, 4) for name, loss in losses.items()}}
    return Adapted.by_tuning(outcome, parameters[winner], **facts)
