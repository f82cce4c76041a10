"""Stage: a model in two parts at work, of which the second runs only for images that the first is not sure of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.models.staged import Staged
from bench.training.decision import Decision

EVAL_BATCH = 64


class WithHead(nn.Module):
    """The part of a staged model with its head, as one net with two outputs, for a runtime."""

    def __init__(self, staged: Staged) -> None:
        super().__init__()
        self.front, self.part = staged.front, staged.part

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, C, H, W] -> what passes at the cut, logits of the part [N, n_classes]."""
        passed = self.front(x)
        return passed, self.part(passed)


@dataclass(frozen=True, slots=True)
class Stage:
    """Part and rest of a model, in whatever runtime.

    Attributes:
        part: images -> what passes at the cut, and the part's logits.
        rest: what passed -> logits of the full model.
        decision: when the part answers.
    """

    part: Callable[[Tensor], tuple[Tensor, Tensor]]
    rest: Callable[[Tensor], Tensor]
    decision: Decision

    @torch.no_grad()
    def logits(self, batches: Sequence[Tensor], beat: Callable[[int], None] = lambda _: None) -> tuple[Tensor, Tensor]:
        """The logits that answer, and which of them are the part's.

        Images that go on wait until as many are there as a batch has, from whatever batches they come: what leaves
        early makes no later batch smaller. They are not run from their pixels again.

        Args:
            batches: images [N, C, H, W].
            beat: called after each batch of the part.

        Returns:
            [N, n_classes] and bool [N], in the order of the images.
        """
        size = len(batches[0])
        found: list[Tensor] = []
        stayed: list[Tensor] = []
        waiting: list[Tensor] = []
        places: list[Tensor] = []
        first = 0

        def resume(least: int) -> None:
            while waiting and sum(map(len, waiting)) >= least:
                passed, at = torch.cat(waiting), torch.cat(places)
                waiting[:], places[:] = ([passed[size:]], [at[size:]]) if len(passed) > size else ([], [])
                later.append((at[:size], self.rest(passed[:size])))

        later: list[tuple[Tensor, Tensor]] = []
        for x in batches:
            passed, logits = self.part(x)
            stays = self.decision.stays(logits)
            found.append(logits)
            stayed.append(stays)
            if not bool(stays.all()):
                waiting.append(passed[~stays])
                places.append(first + torch.nonzero(~stays).flatten())
                resume(size)
            first += len(x)
            beat(0)
        resume(1)
        answers = torch.cat(found)
        for at, logits in later:
            answers[at] = logits.to(answers.device)
        return answers, torch.cat(stayed)

    @torch.no_grad()
    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the part and of the full model for every image, [N, n_classes] each."""
        pairs = []
        for x in images.split(EVAL_BATCH):
            passed, logits = self.part(x)
            pairs.append((logits, self.rest(passed)))
        part, full = zip(*pairs, strict=True)
        return torch.cat(part), torch.cat(full)
