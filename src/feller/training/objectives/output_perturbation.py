"""Private logistic regression by output perturbation: exact minimiser plus Gaussian noise on the weights.

Source: Chaudhuri, Monteleoni and Sarwate 2011, "Differentially private empirical risk minimization", algorithm 1, with
Gaussian noise; Guo, Karrer, Chaudhuri and van der Maaten 2022, arXiv 2201.12383, section 4.
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
from feller.networks.condition_dropout import check_cond_dropout
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
"""Assumed linear score of the row with the largest norm, from which the default L2 penalty is derived."""
NONPRIVATE_L2 = 1e-5
"""L2 penalty without privacy, in units of the largest squared row norm."""
MIN_L2 = 1e-9
"""Smallest L2 penalty for which the solver converges on any data; a failure would reveal information on rows."""


@dataclass(frozen=True)
class OutputPerturbation(OneShotObjective):
    """L2-regularised logistic regression, solved to optimality, with Gaussian noise on the weights.

    Neighbouring data differ by one row; the number of rows n is public. A row changes the weights by at most
    L / (n l2_penalty), where L is the largest possible row norm.
    """

    family: ClassVar[str] = "regressor"
    target: Target
    """Target that the model predicts, with two classes."""
    space: Space
    features: FeatureMap
    l2_penalty: float | None = None
    """L2 penalty on the weights (default: derived from n and the noise alone, to minimise the regularisation term plus
    the expected loss due to noise)."""
    cond_dropout: float = 0.0
    """Unused: there are no conditions."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
        target = self.target
        if len(target.classes) != 2:
            found = f"{len(target.classes)} classes" if target.classes else "a number"
            remedy = f"Choose two: --target {target.names[0]}={','.join(target.classes[:2])}"
            raise UsageError(
                f"two classes for a logistic model of {target.names[0]}",
                found,
                remedy if target.classes else "Use --recipe regressor",
            )
        if self.l2_penalty is not None and not MIN_L2 <= self.l2_penalty < math.inf:
            raise UsageError(
                f"a finite l2_penalty of at least {MIN_L2:g}",
                f"{self.l2_penalty:g}",
                "Choose a penalty in this range; it bounds the influence of a row",
            )

    @property
    def max_row_norm(self) -> float:
        """Upper bound on the norm of a row's features, including the intercept."""
        return math.hypot(1.0, self.features.max_norm)

    def budget_rho(self, epsilon: float, ledger: Ledger) -> float:
        """Return the budget as zCDP rho, computed by exact accounting of Gaussian noise.

        The result is larger than the rho that follows from epsilon by the general conversion to zCDP.
        """
        return 0.5 / calibrate(epsilon, ledger.available_delta, 1.0, 1, ledger.events) ** 2

    def erm_problem(self, n: int, rho: float) -> RegularizedERM:
        """Return the regularised problem for n rows and a zCDP budget of rho."""
        l2_penalty = self.l2_penalty
        if l2_penalty is None:
            noise_std = (0.5 / rho) ** 0.5
            l2_penalty = self.max_row_norm**2 * max(
                (noise_std**2 / (2 * EXPECTED_MAX_SCORE**2 * n**2)) ** (1 / 3), NONPRIVATE_L2
            )
        return RegularizedERM(Logistic(), l2_penalty, self.max_row_norm)

    def solution(self, rows: Dataset, rho: float) -> ERMSolution:
        """Return the solution before noise is added, for a zCDP budget of rho; it is not private."""
        x = self.features.transform(rows.modality.encode(rows.values))
        y = rows.targets(self.target)[:, 0].to(x)
        return solve_erm(self.erm_problem(len(rows), rho), add_intercept(x), y)

    def noise_std(self, n: int, rho: float) -> float:
        """Return the standard deviation of the noise on each weight, for n rows and a zCDP budget of rho."""
        return self.erm_problem(n, rho).sensitivity(n) / 2 * (0.5 / rho) ** 0.5

    def fit(self, rows: Dataset, rho: float, noise: Noise) -> OneShotResult:
        solution, network = self.solution(rows, rho), LinearClassifierNetwork(self.features)
        theta, events = solution.theta, ()
        noise_std = 0.0 if math.isinf(rho) else self.noise_std(len(rows), rho)
        if noise_std:
            released = release_weights(solution, noise_std, noise)
            theta, events = released.theta, (released.event,)
        network.theta.data.copy_(theta)
        summary = (
            f"{len(theta):,} weights of length {theta.norm():.3g}, decay {solution.erm.l2:.3g}, noise {noise_std:.3g}"
        )
        return OneShotResult(LinearClassifier(self.features), network, events, summary)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        leaf = next(leaves(x))
        time = torch.zeros(num_examples(x), device=leaf.device)
        return {"x_t": x, "t": time, "target": batch["target"][:, 0].long(), "given": batch.get("given", {})}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        logits = network(example["x_t"], example["t"], example["given"])
        return F.cross_entropy(logits, example["target"], reduction="none")
