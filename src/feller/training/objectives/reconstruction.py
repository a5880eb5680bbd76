"""Training of a network that writes data as codes, by what is read from these."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Draws
from feller.paths.codes import Codes
from feller.spaces import Space
from feller.training.objective import Batch, Example, Objective


@dataclass(frozen=True)
class Reconstruction(Objective):
    """Squared error of what is read, the mean over the numbers of a state, and what the quantiser adds.

    Source: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937, equation 3.
    """

    path: Codes
    """That nothing is drawn."""
    space: Space
    """Where the states live."""

    @property
    def drop(self) -> float:
        """None: conditions tell such a network nothing."""
        return 0.0

    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Let codes that follow the data see the batch."""
        x = batch["x_1"]
        if hasattr(network, "follow"):
            network.follow(x, draws.named("codebook"))
        return {"x_t": x, "t": x.new_zeros(len(x)), "given": {}}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Compare what is read with what was written."""
        x = example["x_t"]
        read = network(x, example["t"], example["given"])
        return (read["state"] - x).square().flatten(1).mean(1) + read["apart"]
