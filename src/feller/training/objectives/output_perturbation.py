"""The logistic model of two classes that fits best, told with normal noise: no step, and no draw but the noise.

Source: Chaudhuri, Monteleoni and Sarwate 2011, "Differentially private empirical risk minimization", algorithm 1, here
with normal noise; Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 4.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import leaves, num_examples
from feller.core.rng import Rng
from feller.data.modality import Dataset, Target
from feller.networks.linear import Features, Linear, LinearNetwork
from feller.privacy.accounting.calibration import calibrate
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.erm.glm import Logistic
from feller.privacy.erm.leakage import release
from feller.privacy.erm.ridge import Minimum, Ridge, minimum_of, with_constant
from feller.privacy.noise.grid_noise import Noise
from feller.spaces import Space
from feller.training.objective import Batch, Example
from feller.training.objectives.one_shot import AtOnce, Told

REACH = 4.0
"""Score that weights are thought to give the longest row, where a decay is chosen."""
LEAST = 1e-5
"""Decay where nothing hides rows, in squared lengths of the longest row."""
SMALLEST = 1e-9
"""Decay from which on the best weights are found whatever the rows are, so that no failure tells of them."""


@dataclass(frozen=True)
class Perturbation(AtOnce):
    """Logistic loss with a decay of the weights, made as small as it gets, and noise on the weights.

    The unit is one row, added or removed, and the number of rows is public: a row moves the weights by at most
    L / (n decay), with L the length of the longest row that there could be.
    """

    family: ClassVar[str] = "regressor"
    target: Target
    """What is told: one of two classes."""
    space: Space
    features: Features
    decay: float | None = None
    """Of the weights, for each row; by default from the number of rows and the noise alone: where half the decay times
    the squared weights and the loss that the noise is expected to add, together, are least."""
    cond_dropout: float = 0.0
    """There are no conditions to drop."""

    def __post_init__(self) -> None:
        about = self.target
        if len(about.classes) != 2:
            found = f"{len(about.classes)} classes" if about.classes else "a number"
            choice = f": choose two, such as --target {about.names[0]}={','.join(about.classes[:2])}"
            raise UsageError(
                f"a logistic model tells two classes apart, and {about.names[0]} is {found}"
                f"{choice if about.classes else '; take --recipe regressor'}"
            )
        if self.decay is not None and not SMALLEST <= self.decay < math.inf:
            raise UsageError(
                f"the decay to be finite and {SMALLEST:g} or more", f"{self.decay:g}", "It is what hides rows"
            )

    @property
    def length(self) -> float:
        """How long a row is with its constant, at most."""
        return math.hypot(1.0, self.features.length)

    def afford(self, epsilon: float, ledger: Ledger) -> float:
        """Return what normal noise may cost: by its own law, which allows more than concentrated privacy at large."""
        return 0.5 / calibrate(epsilon, ledger.open, 1.0, 1, ledger.expenses) ** 2

    def ridge(self, n: int, rho: float) -> Ridge:
        """Return what is made least, which the number of rows and the budget decide."""
        decay = self.decay
        if decay is None:
            noise = (0.5 / rho) ** 0.5
            decay = self.length**2 * max((noise**2 / (2 * REACH**2 * n**2)) ** (1 / 3), LEAST)
        return Ridge(Logistic(), decay, self.length)

    def minimum(self, rows: Dataset, rho: float) -> Minimum:
        """Return the weights without noise, and all that they stand on: not to be told."""
        x = self.features.see(rows.modality.encode(rows.values))
        y = rows.wanted(self.target)[:, 0].to(x)
        return minimum_of(self.ridge(len(rows), rho), with_constant(x), y)

    def scale(self, n: int, rho: float) -> float:
        """Return the standard deviation of the noise on each weight."""
        return self.ridge(n, rho).sensitivity(n) / 2 * (0.5 / rho) ** 0.5

    def find(self, rows: Dataset, rho: float, noise: Noise) -> Told:
        """Find the weights, and add the noise."""
        minimum, network = self.minimum(rows, rho), LinearNetwork(self.features)
        theta, expenses = minimum.theta, ()
        scale = 0.0 if math.isinf(rho) else self.scale(len(rows), rho)
        if scale:
            released = release(minimum, scale, noise)
            theta, expenses = released.theta, (released.expense,)
        network.theta.data.copy_(theta)
        said = (
            f"{len(theta):,} weights of length {theta.norm():.3g}, decay {minimum.ridge.decay:.3g}, noise {scale:.3g}"
        )
        return Told(Linear(self.features), network, expenses, said)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return the rows: nothing is random."""
        x = batch["x_1"]
        some = next(leaves(x))
        time = torch.zeros(num_examples(x), device=some.device)
        return {"x_t": x, "t": time, "target": batch["target"][:, 0].long(), "given": batch.get("given", {})}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Compare answer and truth by the cross entropy."""
        answer = network(example["x_t"], example["t"], example["given"])
        return F.cross_entropy(answer, example["target"], reduction="none")
