"""Model family of edit paths: sequences of variable length that change by insertions, deletions and substitutions."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.models.families.model_family import LogProb, LogProbRequest, ModelFamily, SampleRequest
from feller.models.families.stratified_bound import stratified_bound
from feller.networks.mixed_precision import at_precision
from feller.paths import Network
from feller.paths.edits.edit_path import EditPath
from feller.sampling.solvers.adaptive_edits import AdaptiveEdits
from feller.training.losses.edit_divergence import edit_divergence

MAX_TAU = 12.0
"""Time tau = -log sigma at which the integral of the bound ends; exp(-12) of the tokens are missing there."""


@dataclass(frozen=True)
class EditModel(ModelFamily):
    """Model of sequences of variable length, which change by edits from t = 0 to 1."""

    name: ClassVar[str] = "edits"
    is_process: ClassVar[bool] = True
    is_discrete: ClassVar[bool] = True
    has_bounds_only: ClassVar[bool] = True
    why_no_export: ClassVar[str] = "this network predicts edits of sequences; sample with `feller sample`"
    path: EditPath

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls(objective.path)

    def describe(self) -> str:
        return f"edits sequences along the path {type(self.path).__name__}"

    def require_path(self) -> EditPath:
        return self.path

    def check_request(self, request: SampleRequest) -> None:
        super().check_request(request)
        if request.observed is not None:
            raise UsageError(
                argument="template",
                expected="a model of tokens at fixed positions",
                found="a model of insertions",
                remedy="Fit with recipe text",
            )
        sampling = request.sampling
        if sampling.unmasking_order is not None or sampling.rates is not None:
            raise UsageError("an unmasking order and rates require tokens at fixed positions", remedy="Omit both")
        if sampling.solver != "euler":
            raise UsageError(f"{sampling.solver} does not support sequences", remedy="Use euler")

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> tuple[State, State]:
        sampling, space = request.sampling, self.path.space
        path = replace(self.path, token_sampler=sampling.token_sampler)
        guided: Network = sampling.guidance.apply(
            at_precision(network, sampling.precision), request.guidance, path, request.droppable
        )
        x_0 = space.sample_base(request.n, rng.stream("source"), next(network.parameters()).device)
        times, solver = sampling.times.grid(sampling.nfe), request.solver or AdaptiveEdits(space)
        x = request.simulate(path.process(guided, request.cond), x_0, times, solver, rng)
        if (x > space.pad_token_id).any():
            raise InputError("masks remain in the samples: the model is undertrained", remedy="Train longer")
        return x_0, x

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        """Return an estimate of a lower bound, from stratified times tau."""
        return stratified_bound(partial(self._integrand, network, request), request.x_1, request.times, rng)

    def _integrand(self, network: Any, request: LogProbRequest, u: Tensor, rng: Rng) -> Tensor:
        """Return the divergence at the times tau of uniform numbers u, divided by the density of tau."""
        x_1, space = request.x_1, self.path.space
        # density proportional to exp(-tau / 2): the divergence falls as exp(-tau) on average
        end = 1 - torch.exp(torch.tensor(-MAX_TAU / 2, dtype=torch.float64))
        root = 1 - u * end
        sigma, weight = root**2, 2 * end / root
        t = self.path.schedule.t_from_snr((1 - sigma) / sigma)
        x_0 = space.sample_base(len(x_1), rng.stream("source"), x_1.device)
        x_t, target = self.path.sample_with_target(x_0, x_1, t, rng.stream("path"))
        prediction = network(x_t, t.float(), request.cond)
        prediction = {name: value.double() for name, value in prediction.items()}
        return weight * edit_divergence(self.path, prediction, x_t, t, target)
