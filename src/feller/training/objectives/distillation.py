"""Progressive distillation: one student step replaces several teacher steps."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_number
from feller.core.pytree import State, broadcast_time, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.networks.condition_dropout import check_cond_dropout, drop_conditions
from feller.paths import Path
from feller.paths.processes import Process
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, Solver, simulate
from feller.sampling.sampler_config import SamplerConfig
from feller.sampling.solvers.solver import with_space
from feller.spaces import Space, as_manifold
from feller.training.batch_checks import read_batch
from feller.training.losses import Loss, SquaredError
from feller.training.objective import Batch, Example, Objective, ObjectiveConfig, TrainingContext, sample_source


@dataclass(frozen=True)
class Distillation(ObjectiveConfig):
    """Progressive distillation: the velocity of one Euler step of the student matches several steps of a teacher.

    Training states are sampled from the conditional path through the data, so data are used at every time t.
    Source: Salimans and Ho 2022, "Progressive distillation for fast sampling of diffusion models", arXiv 2202.00512.
    """

    path: Path
    space: Space
    nfe: int = 8
    """Number of Euler steps of the student, of equal size."""
    teacher_steps: int = 2
    """Teacher steps per student step."""
    solver: Solver = field(default_factory=Midpoint)
    """Solver of the teacher."""
    criterion: Loss = field(default_factory=SquaredError)
    cond_dropout: float = 0.1

    requires: ClassVar[tuple[str, ...]] = ("teacher",)

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
        check_number("nfe", self.nfe, ge=1)
        check_number("teacher_steps", self.teacher_steps, ge=1)

    def sampler_config(self, default: SamplerConfig) -> SamplerConfig:
        return SamplerConfig("euler", self.nfe)

    def build(self, context: TrainingContext) -> Objective:
        """Return the training objective, which holds the teacher network of `context`.

        Raises:
            UsageError: If the context has no teacher.
            TypeError: If the space is not a manifold.
        """
        context.check(self)
        as_manifold(self.space)
        return DistillationObjective(self, context)


class DistillationObjective(Objective):
    """Training objective configured by `Distillation`, together with the teacher network that the student imitates."""

    def __init__(self, config: Distillation, context: TrainingContext) -> None:
        self.config, self.null = config, context.null
        self.teacher: Any = context.teacher
        self.solver = with_space(config.solver, config.space)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        config, (x_1, cond) = self.config, read_batch(batch, rng, null=self.null)
        n, device = num_examples(x_1), next(leaves(x_1)).device
        cond = drop_conditions(cond, self.null, config.cond_dropout, rng, network)
        x_0 = sample_source(config.space, x_1, rng)
        t = rng.stream("time").randint(config.nfe, (n,), device).to(torch.get_default_dtype()) / config.nfe
        x_t = config.path.sample(x_0, x_1, broadcast_time(t, x_1), rng.stream("path"))
        with torch.no_grad():
            process = _rescaled_process(config.path.process(self.teacher, cond), t, 1 / config.nfe)
            x_s = simulate(process, x_t, linear_grid(config.teacher_steps), self.solver, rng.fold_in("teacher"))
            target = tree_map(lambda displacement: displacement * config.nfe, as_manifold(config.space).log(x_t, x_s))
        return {"x_t": x_t, "t": broadcast_time(t, x_1), "target": target, "given": cond}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the loss of the student's velocity against the teacher's mean velocity over the step."""
        x_t, t, cond = example["x_t"], example["t"], example["given"]
        characteristics = self.config.path.characteristics(network(x_t, t, cond), x_t, t)
        velocity = tree_map(lambda leaf: leaf.velocity, characteristics)
        return self.config.criterion(velocity, example["target"], x_t, t, cond.get("valid"))


def _rescaled_process(process: Process, start: Float[Tensor, " b"], span: float) -> Process:
    """Return the teacher's process on [start, start + span] as a process on [0, 1]: one student step."""

    def rescaled(x: State, fraction: Tensor) -> State:
        return tree_map(lambda leaf: leaf * span, process(x, (start + span * fraction).to(fraction.dtype)))

    return rescaled
