"""Training of a law of texts token after token: its likelihood itself."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Draws
from feller.paths.autoregressive import Autoregressive
from feller.spaces import Space
from feller.spaces.tokens import until_end
from feller.training.condition_dropout import drop_conditions
from feller.training.losses import CrossEntropy
from feller.training.objective import Batch, Example, Objective


@dataclass(frozen=True)
class NextToken(Objective):
    """Cross-entropy of each token given those before it: -log p(x_1) in nats per token of the text."""

    space: Space
    """Texts of one length, as `Tokens`."""
    drop: float = 0.1
    """Chance that an example's conditions are dropped, for guidance and for sampling without them."""
    end: int | None = None
    """Symbol with which a text ends; what follows its first is not counted."""

    @property
    def path(self) -> Autoregressive:
        """Say of which family the network is."""
        return Autoregressive()

    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Return the data as state and as target; nothing is random but which conditions are dropped."""
        x_1, given = batch["x_1"], batch.get("given", {})
        if self.end is not None:
            within = until_end(x_1, self.end)
            given = {**given, "valid": within & given["valid"] if "valid" in given else within}
        return {
            "x_t": x_1,
            "t": torch.zeros(len(x_1), device=x_1.device),
            "target": x_1,
            "given": drop_conditions(given, getattr(network, "nulls", {}), self.drop, draws),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Average over the valid tokens."""
        x_t, t, given = example["x_t"], example["t"], example["given"]
        return CrossEntropy()(network(x_t, t, given), example["target"], x_t, t, given.get("valid"))
