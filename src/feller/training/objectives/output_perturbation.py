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
from feller.networks.linear_classifier import FeatureMap, LinearClassifier, LinearClassifierNetwork
from feller.privacy.accounting.calibration import calibrate
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.erm.glm import Logistic
from feller.privacy.erm.regularized_erm import ERMSolution, RegularizedERM, add_intercept, solve_erm
from feller.privacy.erm.weight_release import release_weights
from feller.privacy.noise.grid_noise import Noise
from feller.spaces import Space
from feller.training.objective import Batch, Example
from feller.training.objectives.one_shot import OneShotObjective, OneShotResult

EXPECTED_MAX_SCORE = 4.0
"""Score that weights are thought to give the longest row, where a decay is chosen."""
NONPRIVATE_L2 = 1e-5
"""Decay where nothing hides rows, in squared lengths of the longest row."""
MIN_L2 = 1e-9
"""Decay from which on the best weights are found whatever the rows are, so that no failure tells of them."""


@dataclass(frozen=True)
class OutputPerturbation(OneShotObjective):
    """Logistic loss with a decay of the weights, made as small as it gets, and noise on the weights.

    The unit is one row, added or removed, and the number of rows is public: a row moves the weights by at most
    L / (n decay), with L the length of the longest row that there could be.
    """

    family: ClassVar[str] = "regressor"
    target: Target
    """What is told: one of two classes."""
    space: Space
    features: FeatureMap
    l2_penalty: float | None = None
    """Of the weights, for each row; by default from the number of rows and the noise alone: where half the decay times
    the squared weights and the loss that the noise is expected to add, together, are least."""
    cond_dropout: float = 0.0
    """There are no conditions to drop."""

    def __post_init__(self) -> None:
        target = self.target
        if len(target.classes) != 2:
            found = f"{len(target.classes)} classes" if target.classes else "a number"
            choice = f": choose two, such as --target {target.names[0]}={','.join(target.classes[:2])}"
            raise UsageError(
                f"a logistic model tells two classes apart, and {target.names[0]} is {found}"
                f"{choice if target.classes else '; take --recipe regressor'}"
            )
        if self.l2_penalty is not None and not MIN_L2 <= self.l2_penalty < math.inf:
            raise UsageError(
                f"the decay to be finite and {MIN_L2:g} or more", f"{self.l2_penalty:g}", "It is what hides rows"
            )

    @property
    def max_row_norm(self) -> float:
        """How long a row is with its constant, at most."""
        return math.hypot(1.0, self.features.max_norm)

    def budget_rho(self, epsilon: float, ledger: Ledger) -> float:
        """Return what normal noise may cost: by its own law, which allows more than concentrated privacy at large."""
        return 0.5 / calibrate(epsilon, ledger.available_delta, 1.0, 1, ledger.events) ** 2

    def erm_problem(self, n: int, rho: float) -> RegularizedERM:
        """Return what is made least, which the number of rows and the budget decide."""
        decay = self.l2_penalty
        if decay is None:
            noise = (0.5 / rho) ** 0.5
            decay = self.max_row_norm**2 * max(
                (noise**2 / (2 * EXPECTED_MAX_SCORE**2 * n**2)) ** (1 / 3), NONPRIVATE_L2
            )
        return RegularizedERM(Logistic(), decay, self.max_row_norm)

    def solution(self, rows: Dataset, rho: float) -> ERMSolution:
        """Return the weights without noise, and all that they stand on: not to be told."""
        x = self.features.transform(rows.modality.encode(rows.values))
        y = rows.targets(self.target)[:, 0].to(x)
        return solve_erm(self.erm_problem(len(rows), rho), add_intercept(x), y)

    def noise_std(self, n: int, rho: float) -> float:
        """Return the standard deviation of the noise on each weight."""
        return self.erm_problem(n, rho).sensitivity(n) / 2 * (0.5 / rho) ** 0.5

    def fit(self, rows: Dataset, rho: float, noise: Noise) -> OneShotResult:
        solution, network = self.solution(rows, rho), LinearClassifierNetwork(self.features)
        theta, expenses = solution.theta, ()
        noise_std = 0.0 if math.isinf(rho) else self.noise_std(len(rows), rho)
        if noise_std:
            released = release_weights(solution, noise_std, noise)
            theta, expenses = released.theta, (released.event,)
        network.theta.data.copy_(theta)
        summary = (
            f"{len(theta):,} weights of length {theta.norm():.3g}, decay {solution.erm.l2:.3g}, noise {noise_std:.3g}"
        )
        return OneShotResult(LinearClassifier(self.features), network, expenses, summary)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        some = next(leaves(x))
        time = torch.zeros(num_examples(x), device=some.device)
        return {"x_t": x, "t": time, "target": batch["target"][:, 0].long(), "given": batch.get("given", {})}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        logits = network(example["x_t"], example["t"], example["given"])
        return F.cross_entropy(logits, example["target"], reduction="none")
