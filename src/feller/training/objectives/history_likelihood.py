"""Maximum likelihood of histories: several rows per person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_number
from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.networks.condition_dropout import check_cond_dropout
from feller.spaces.history_tokens import HistoryTokens
from feller.training.objective import Batch, Example, SelfContainedObjective


@dataclass(frozen=True)
class HistoryLikelihood(SelfContainedObjective):
    """Negative log-likelihood of a history in nats: that of the attributes, and of each row given the rows before it.

    The loss of an example is that of all rows of one person, so that DP-SGD clips one gradient per person.
    """

    family: ClassVar[str] = "histories"
    space: HistoryTokens
    marginals_budget: float = 0.5
    """Fraction of a privacy budget for marginals of the attributes, a row and the row before, from which the network is
    pretrained; 0 measures one-way marginals only, without pretraining."""
    cond_dropout: float = 0.0
    """Unused: observed values are columns of a history, not conditions."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
        check_number("marginals_budget", self.marginals_budget, ge=0, lt=1)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x_1 = self.space.cropped(batch["x_1"])
        return {"x_t": x_1, "t": torch.zeros(len(x_1), device=x_1.device), "given": {}}

    def similar_examples(self, example: Example) -> Sequence[Example]:
        """Split histories into groups of similar length, without the rows that are padding in all of a group."""
        groups = [
            tree_map(lambda leaf, index=index: leaf[index], example)
            for index in self.space.similar_lengths(example["x_t"])
        ]
        return [{**group, "x_t": self.space.cropped(group["x_t"])} for group in groups]

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        return -network(example["x_t"], example["t"], example["given"])
