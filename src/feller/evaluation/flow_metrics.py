"""Metrics of a model's generative process: likelihood of held-out data, and straightness of the flow."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch

from feller.core.distributed import SINGLE, ProcessGroup
from feller.core.pytree import leaves, tree_map
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.proteins.modality import Proteins
from feller.evaluation.comparison import subsample
from feller.evaluation.evaluation_budget import MIN_EXAMPLES
from feller.evaluation.protein_metrics import sequence_perplexity
from feller.models.families.elbo import ELBO, sampling_elbo, tightest_elbo
from feller.models.model import Model, no_progress
from feller.paths import TokenPath
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, trajectory
from feller.sampling.divergence import MAX_EXACT_DIMENSION
from feller.sampling.sampler_config import SamplerConfig
from feller.sampling.solvers.solver import expand_time
from feller.spaces import as_manifold

TIMES = 32
"""Number of times per example in the Monte Carlo estimate of the ELBO."""
NUM_CURVES, NUM_STEPS = 256, 32
"""Number of trajectories for the straightness metric, and of midpoint steps per trajectory."""
EXACT_SAMPLER, ESTIMATED_SAMPLER = SamplerConfig("rk4", 100), SamplerConfig("midpoint", 40)
"""Solvers for the likelihood: with exact divergence, and with estimated divergence."""
DIVERGENCE_COST = 2.0
"""Approximate time of one vector-Jacobian product, in evaluations of the network."""
MAX_EXACT, MAX_ESTIMATED, MOST_ROWS = 300, 100, 20_000
"""Maximum number of held-out examples for the likelihood: with exact divergence, with estimated divergence, of
tables."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowMetricOptions:
    """Options of the evaluation of a flow."""

    rng: Rng
    """Random streams."""
    ranks: ProcessGroup = SINGLE
    """Process group that splits the work."""
    fraction: float = 1.0
    """Number of examples, as a fraction of the default number."""
    min_examples: int = MIN_EXAMPLES
    """Minimum number of examples; fewer only measure the speed."""
    on_progress: Callable[[float], None] = no_progress
    """Progress callback, called with the completed fraction."""

    def for_part(self, name: str, progress_before: float = 0.0) -> "FlowMetricOptions":
        """Return the options for one part of the evaluation.

        Args:
            name: Name of the part, from which its random streams are derived.
            progress_before: Completed fraction of the evaluation when the part starts.
        """
        hook = lambda fraction: self.on_progress(progress_before + (1 - progress_before) * fraction)  # noqa: E731
        return replace(self, rng=self.rng.fold_in(name), on_progress=hook)


MetricValues = dict[str, float | str | None]


def flow_quality(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return metrics of a model's flow: held-out likelihood and straightness; for proteins, sequence perplexity.

    The result is empty if the model has no flow. `held_out` may be empty.
    """
    if model.family.has_row_likelihood:
        return row_nll(model, held_out, options.for_part("rows"))
    if model.family.is_discrete:
        return bits_per_token(model, held_out, options.for_part("code"))
    if held_out.modality.view(Proteins) is not None:
        return {"sequence_perplexity": sequence_perplexity(model, held_out, options.rng.fold_in("sequence"))}
    rng, num_curves = (
        options.rng.fold_in("straightness"),
        max(options.min_examples, round(NUM_CURVES * options.fraction)),
    )
    has_density = model.spec.modality.log_scale is not None
    share = _straightness_share(model, held_out, num_curves, options) if has_density else 1.0
    value = straightness(
        model, rng, num_curves, data=held_out, on_progress=lambda fraction: options.on_progress(share * fraction)
    )
    if value is None:
        return {}
    nll = likelihood(model, held_out, options.for_part("likelihood", share)) if has_density else {}
    return {**nll, "straightness": value}


def _straightness_share(model: Model, held_out: Dataset, num_curves: int, options: FlowMetricOptions) -> float:
    """Return the approximate fraction of the network evaluations that the straightness takes, for the progress."""
    dimension = getattr(model.spec.space, "dimension", 0)
    is_exact = dimension <= MAX_EXACT_DIMENSION
    sampler, probes = (EXACT_SAMPLER, dimension) if is_exact else (ESTIMATED_SAMPLER, 1)
    num_rows = min(len(held_out), _num_likelihood_rows(is_exact=is_exact, options=options))
    calls = 2 * NUM_STEPS * num_curves
    return calls / (calls + num_rows * sampler.nfe * (1 + DIVERGENCE_COST * probes))


def _num_likelihood_rows(*, is_exact: bool, options: FlowMetricOptions) -> int:
    return max(options.min_examples, round((MAX_EXACT if is_exact else MAX_ESTIMATED) * options.fraction))


def likelihood(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return the metrics `nll` in nats and, for images, `bits_per_dimension`; values are None without held-out data.

    They are also None if a held-out example has no density, such as an incomplete array.
    """
    is_exact = as_manifold(model.spec.space).dimension <= MAX_EXACT_DIMENSION
    names = ("nll", "bits_per_dimension") if held_out.modality.view(Images) is not None else ("nll",)
    if not len(held_out) or not model.supports_conditions(held_out):
        return dict.fromkeys(names)
    if held_out.modality.first_without_density(held_out.values) is not None:
        return dict.fromkeys(names)
    subset = subsample(held_out, _num_likelihood_rows(is_exact=is_exact, options=options), options.rng)
    sampling = EXACT_SAMPLER if is_exact else ESTIMATED_SAMPLER
    log_prob = model.log_prob(
        subset, sampling=sampling, rng=options.rng, process_group=options.ranks, on_progress=options.on_progress
    )
    nll = -log_prob.mean().item()
    return dict(zip(names, (nll, nll / math.log(2) / subset.values[0].numel()), strict=False))


def row_nll(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return the metric `nll`: the mean negative log-likelihood per held-out row, in nats; None without such rows."""
    if not len(held_out):
        return {"nll": None}
    subset = subsample(held_out, max(options.min_examples, round(MOST_ROWS * options.fraction)), options.rng)
    return {"nll": model.nll(subset, process_group=options.ranks, on_progress=options.on_progress).mean().item()}


def bits_per_token(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return the metrics `bits_per_token` and, if the sampler's rates have a looser ELBO, `bits_per_token_sampled`.

    Values are None without held-out data.
    """
    bounds = _bounds(model)
    if not len(held_out) or not model.supports_conditions(held_out):
        return dict.fromkeys(bounds)
    data = subsample(held_out, max(options.min_examples, round(MAX_ESTIMATED * options.fraction)), options.rng)
    num_tokens, bits = int(data.modality.num_entries(data.values).sum()), {}
    for i, (name, bound) in enumerate(bounds.items()):
        hook = lambda fraction, i=i: options.on_progress((i + fraction) / len(bounds))  # noqa: E731
        nats = model.nll(data, elbo=bound, times=TIMES, rng=options.rng, process_group=options.ranks, on_progress=hook)
        bits[name] = nats.sum().item() / math.log(2) / num_tokens
    return bits


def _bounds(model: Model) -> dict[str, ELBO | None]:
    """Return the ELBO that each likelihood metric uses, by metric name.

    There are two metrics if the rates of the sampler do not give the tightest ELBO.
    """
    spec = model.spec
    if not model.family.is_process or not spec.path.is_discrete:  # one likelihood, or one bound
        return {"bits_per_token": None}
    path, _, _ = spec.sampling.resolve(spec.path, spec.space)
    tightest, sampled = (elbo(cast(TokenPath, p)) for elbo, p in ((tightest_elbo, spec.path), (sampling_elbo, path)))
    bounds: dict[str, ELBO | None] = {"bits_per_token": tightest}
    if sampled != tightest:
        bounds["bits_per_token_sampled"] = sampled
    return bounds


@torch.no_grad()
def straightness(
    model: Model,
    rng: Rng,
    n: int = NUM_CURVES,
    steps: int = NUM_STEPS,
    *,
    data: Dataset | None = None,
    on_progress: Callable[[float], None] = no_progress,
) -> float | None:
    """Return the straightness E d(x_0, x_1)^2 / E integral |velocity|^2 dt, which is 1 for straight, uniform motion.

    If it is 1, one Euler step is exact. The velocity is measured between successive states of a simulation with the
    midpoint method.
    Source: Liu et al. 2022, "Flow straight and fast", arXiv 2209.03003, section 2.2, normalized.

    Args:
        model: Evaluated model; conditions are sampled with their training frequencies.
        rng: Random streams.
        n: Number of trajectories.
        steps: Number of steps per trajectory.
        data: Examples whose conditions are used, if the model has conditions that were selected at the fit.
        on_progress: Progress callback, called with the completed fraction.

    Returns:
        The straightness; None if the process has noise or jumps, or if the state space has no geodesics.
    """
    spec = model.spec
    if not model.family.is_process:
        return None
    path = spec.path
    try:
        space = as_manifold(spec.space)
    except TypeError:
        return None
    device = next(model.network.parameters()).device
    given = model.sample_conditions(n, {}, rng) if data is None else model.conditions_of(data, n, rng)
    cond = spec.modality.add_derived_conditions(given)
    process = path.process(model.network.eval(), tree_map(lambda leaf: leaf.to(device), cond))
    start = path.initial_state(space.sample_base(n, rng.stream("source"), device))
    if any(
        c.velocity is None or c.diffusion is not None or c.jumps is not None
        for c in leaves(process(start, expand_time(start, 0.0)))
    ):
        return None
    states = [start]
    for state in trajectory(process, start, linear_grid(steps), Midpoint(space), rng):
        on_progress(len(states) / steps)
        states.append(state)
    energy = sum(space.distance(a, b).double().square().mean().item() for a, b in pairwise(states)) * steps
    if not energy:  # no state moves
        return 1.0
    return space.distance(start, states[-1]).double().square().mean().item() / energy
