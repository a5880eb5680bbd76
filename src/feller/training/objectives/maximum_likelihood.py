"""Maximum likelihood training of a flow, differentiated through its ODE solution."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Rng
from feller.networks.condition_dropout import check_cond_dropout
from feller.paths import Path
from feller.sampling.divergence import Divergence, Hutchinson
from feller.sampling.likelihood import initial_log_prob, integrate_log_density
from feller.sampling.solvers.runge_kutta import Midpoint
from feller.sampling.solvers.solver import Solver, with_space
from feller.spaces import Space
from feller.training.batch_checks import read_batch
from feller.training.objective import Batch, ConditionalObjective, Example


@dataclass(frozen=True)
class MaximumLikelihood(ConditionalObjective):
    """Negative log-likelihood -log p_1(x_1) in nats, computed by integrating the flow from data to source.

    Each loss solves the whole ODE and keeps its autograd graph, so this objective is practical only for fine-tuning.
    Discrete-valued data such as pixels need dequantisation; otherwise the density becomes unbounded. Source: Grathwohl
    et al. 2019, "FFJORD", arXiv 1810.01367; Lipman et al. 2024, arXiv 2412.06264, section 3.6.
    """

    needs_plain_network: ClassVar[bool] = True
    path: Path
    """Path of the model; its process must be a deterministic flow."""
    space: Space
    solver: Solver = field(default_factory=Midpoint)
    """ODE solver of the flow; steps are taken in `space`."""
    steps: int = 20
    divergence: Divergence = field(default_factory=Hutchinson)
    end_time: float = 1.0
    """Time of the data; slightly below 1 if the velocity is infinite at t = 1."""
    cond_dropout: float = 0.1
    """Probability of dropping the conditions of an example, for classifier-free guidance."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x_1, cond = read_batch(batch, rng, null=self.null)
        return {
            "x_1": x_1,
            "probes": self.divergence.probes(x_1, rng.stream("probe")),
            "given": self.drop_conditions(cond, rng, network),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_1, cond = example["x_1"], example["given"]
        process, valid = self.path.process(network, cond), cond.get("valid")
        times = [self.end_time * (1 - i / self.steps) for i in range(self.steps + 1)]
        solver, probes = with_space(self.solver, self.space), example["probes"]
        x_0, change = integrate_log_density(
            process, x_1, times, solver, divergence=self.divergence, probes=probes, valid=valid
        )
        return change - initial_log_prob(self.path, self.space, x_0, valid)
