"""Edit matching: learning of the rates of insertions, deletions and substitutions along an edit path."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import check_kind
from feller.core.rng import Rng
from feller.networks.condition_dropout import check_cond_dropout
from feller.paths.edits.edit_path import MAX_TIME, EditPath
from feller.paths.time_distributions import Stratified, TimeDistribution
from feller.spaces.sequences import Sequences
from feller.training.batch_checks import read_batch
from feller.training.losses.edit_divergence import edit_divergence
from feller.training.objective import Batch, ConditionalObjective, Example, cast_like


@dataclass(frozen=True)
class EditMatching(ConditionalObjective):
    """Edit matching: the divergence of predicted from true edit rates, divided by the maximum length.

    The minimiser generates the marginals of the path. Source: Havasi et al. 2025, arXiv 2506.09018.
    """

    family: ClassVar[str] = "edits"
    path: EditPath
    time_distribution: TimeDistribution = field(default_factory=Stratified)
    """Distribution of the training time."""
    cond_dropout: float = 0.1
    """Probability of dropping the conditions of an example, for classifier-free guidance."""

    def __post_init__(self) -> None:
        check_kind("path", self.path, EditPath, "feller.EditFlow(space=feller.Sequences(27, 64))")
        check_cond_dropout(self.cond_dropout)

    @property
    def space(self) -> Sequences:
        """Space of the sequences."""
        return self.path.space

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Sample the source, the time t, and the sequence x_t with the edits that remain.

        Args:
            batch: `x_1`, padded sequences; `x_0`, the source of paired data; conditions, by name or under `given`.
            rng: Random stream of the step.
            network: Network that supplies the null values of dropped conditions if the objective's `null` is None.

        Raises:
            InputError: If sequences have tokens outside the vocabulary, or padding before a token.
        """
        x_1, cond = read_batch(batch, rng, own_times=True, null=self.null)
        self.space.check(x_1)
        n, device = len(x_1), x_1.device
        if "x_0" in batch:
            x_0 = cast_like(batch["x_0"], x_1)
            self.space.check(x_0)
        else:
            x_0 = self.space.sample_base(n, rng.stream("source"), device)
        t = batch.get("t")
        if t is None:
            t = self.time_distribution(n, rng.stream("time"), device).clamp(max=MAX_TIME)
        x_t, target = self.path.sample_with_target(x_0, x_1, t, rng.stream("path"))
        return {
            "x_t": x_t,
            "t": t,
            "target": target,
            "given": self.drop_conditions({k: v for k, v in cond.items() if k != "valid"}, rng, network),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_t, t = example["x_t"], example["t"]
        divergence = edit_divergence(self.path, network(x_t, t, example["given"]), x_t, t, example["target"])
        return self.weight(t) * divergence / self.space.max_length  # a weight by length would change the minimiser

    def weight(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the weight of the divergence at time t; with d tau / dt, the loss would be a likelihood bound."""
        return torch.as_tensor(self.path.schedule(t).sigma).sqrt() * self.path.tau_speed(t)
