"""Attacks on rows by what private steps at fixed weights would tell of them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from feller.app.workflows.private.guarantee import Guarantee
from feller.app.workflows.private.leakage_report import NUMBERS, numbers_of
from feller.app.workflows.private.private_training import clip_of
from feller.core.errors import UsageError
from feller.core.pytree import tree_map
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.evaluation.attacks.gradient_releases import Releases
from feller.evaluation.attacks.reconstruction import Law, Tried, slopes_at, tried
from feller.privacy.dp_sgd.clip_norm import Fixed
from feller.privacy.dp_sgd.per_example_clipping import trained
from feller.training.objective import Objective

ROUNDS = 2
"""Random numbers of each row in what all steps tell, each as often."""
DIRECTIONS = 64
"""In which a row is looked for, at most."""
SLOPES = 2**25
"""Numbers of a Jacobian that is laid out."""
LONG = 1e30
"""A clip norm that no gradient reaches."""
NOISES, FEWEST, STARTS, EASY = 8, 2, 4, 2**18
"""Draws of the noise at most and at least, starts of each search, and weights times draws that are quick."""


@dataclass(frozen=True, eq=False)
class Attacks:
    """What attacks on some rows came to."""

    one: list[Tried]
    """By one step that holds each row."""
    every: list[Tried]
    """By as many as hold a row on average."""
    held: int
    """So many."""


class Attack:
    """Some rows of a run, and what its steps would tell of them."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        train: Dataset,
        which: Int64[Tensor, " n"],
        planned: Guarantee,
        draws: Draws,
    ) -> None:
        device = next(network.parameters()).device
        self.network, self.objective, self.which, self.draws = network, objective, which, draws
        self.some, self.planned, self.device = train.subset(which), planned, device
        self.state = tree_map(lambda leaf: leaf.to(device), train.modality.encode(self.some.values))
        self.given = tree_map(lambda leaf: leaf.to(device), self.some.given)
        everything = numbers_of(train.modality.encode(train.values))
        numbers = numbers_of(self.state)
        if everything is None or numbers is None:
            raise UsageError("these rows have no numbers to be read")
        self.size = sum(weight.numel() for weight in trained(network).values())
        self.most = max(1, min(DIRECTIONS, SLOPES // (ROUNDS * self.size)))
        self.shape = numbers.shape[1:]
        self.rows = numbers.flatten(1)
        self.law = Law.of(everything.flatten(1).to(device), self.most)
        clip = clip_of(planned)
        norm = planned.clip if isinstance(clip, Fixed) else self._middle()
        self.clip, self.scale = norm, clip.sigma(planned.sigma) * norm

    def added(self, rounds: int, only: int | None = None, clip: float | None = None) -> Releases:
        """Return what rows, or only one of them, add to as many steps."""
        which = slice(None) if only is None else slice(only, only + 1)
        draws = replace(self.draws.named("met"), first=0 if only is None else only * rounds)

        def several(leaf: Tensor) -> Tensor:
            return leaf[which].repeat_interleave(rounds, 0)

        given = tree_map(several, self.given)

        def spell(z: Tensor) -> Any:
            x = z.unflatten(1, self.shape).repeat_interleave(rounds, 0)
            x_1 = {**tree_map(several, self.state), NUMBERS: x} if isinstance(self.state, dict) else x
            return self.objective.draw(self.network, {"x_1": x_1, "given": given}, draws)

        return Releases(self.objective.loss, self.network, clip or self.clip, spell)

    def _middle(self) -> float:
        """Return the middle of the lengths of gradients, which a clip norm that adapts follows."""
        return self.added(1, clip=LONG)(self.rows).norm(dim=1).median().item()

    def found(self, steps: int) -> Attacks:
        """Attack by one step, and by all steps that hold a row on average."""
        held = max(1, round(self.planned.batch / self.planned.n * steps))
        count, starts = max(FEWEST, min(NOISES, EASY // self.size)), max(1, min(STARTS, EASY // (2 * self.size)))
        ways = {"one": (1, self.scale)}
        rounds = min(ROUNDS, held)
        ways["all"] = (rounds, self.scale * (rounds / held) ** 0.5)
        several = []
        for name, (rounds, scale) in ways.items():
            grams = [
                slopes_at(self.added(rounds, i), self.rows[i : i + 1], self.law, rounds).sum(0)
                for i in range(len(self.rows))
            ]
            generator = self.draws.at(f"noise of {name}").shared()
            information = torch.stack(grams) / scale**2
            several.append(tried(self.added(rounds), self.rows, scale, self.law, information, generator, count, starts))
        return Attacks(several[0], several[1], held)
