"""What a model's flow says: how likely it finds data, and how straight it goes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch

from feller.core.distributed import SINGLE, ProcessGroup
from feller.core.pytree import State, leaves, tree_map
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
from feller.paths.processes import Characteristics, Process
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, trajectory
from feller.sampling.divergence import MAX_EXACT_DIMENSION
from feller.sampling.sampler_config import SamplerConfig
from feller.sampling.solvers.solver import expand_time
from feller.spaces import as_manifold

TIMES = 32
"""Network calls for the bound of an example: the mean over examples needs few."""
STRAIGHTNESS_FRACTION = 0.2
"""Share of the measuring that the straightness takes, about."""
NUM_CURVES = 256
"""Whose straightness is measured."""
MAX_EXACT, MAX_ESTIMATED, MOST_ROWS = 300, 100, 20_000
"""Held-out examples whose density is measured: few where it has to be estimated, many where that is a table's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowMetricOptions:
    """How a model is measured."""

    rng: Rng
    """Source of all randomness."""
    ranks: ProcessGroup = SINGLE
    """Processes that share the work."""
    fraction: float = 1.0
    """Of the usual number of examples: less takes less time."""
    on_progress: Callable[[float], None] = no_progress
    """Hears which share is done."""

    def for_part(self, name: str, progress_before: float = 0.0) -> "FlowMetricOptions":
        """Return how one part is measured, before which a share is done."""
        late = lambda part: self.on_progress(progress_before + (1 - progress_before) * part)  # noqa: E731
        return replace(self, rng=self.rng.fold_in(name), on_progress=late)


MetricValues = dict[str, float | str | None]


def flow_quality(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return the likelihood of held-out data and the straightness, or of proteins that of their sequences.

    Nothing where the model has no flow.

    Args:
        model: Whose flow it is.
        held_out: Real data; may be empty.
        options: They are measured.
    """
    if model.family.has_row_likelihood:
        return row_nll(model, held_out, options.for_part("rows"))
    if model.family.is_discrete:
        return bits_per_token(model, held_out, options.for_part("code"))
    if held_out.modality.view(Proteins) is not None:
        return {"sequence_perplexity": sequence_perplexity(model, held_out, options.rng.fold_in("sequence"))}
    first, curves = options.rng.fold_in("straightness"), max(MIN_EXAMPLES, round(NUM_CURVES * options.fraction))
    straight = straightness(
        model, first, curves, on_progress=lambda part: options.on_progress(STRAIGHTNESS_FRACTION * part)
    )
    if straight is None:
        return {}
    dense = model.spec.modality.log_scale is not None
    likely = likelihood(model, held_out, options.for_part("likelihood", STRAIGHTNESS_FRACTION)) if dense else {}
    return {**likely, "straightness": straight}


def likelihood(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return `nll`, and for pictures `bits_per_dimension`; None where no data are held out."""
    exact = as_manifold(model.spec.space).dimension <= MAX_EXACT_DIMENSION
    names = ("nll", "bits_per_dimension") if held_out.modality.view(Images) is not None else ("nll",)
    if not len(held_out) or not model.supports_conditions(held_out):
        return dict.fromkeys(names)
    some = subsample(
        held_out, max(MIN_EXAMPLES, round((MAX_EXACT if exact else MAX_ESTIMATED) * options.fraction)), options.rng
    )
    sampling = SamplerConfig("rk4", 100) if exact else SamplerConfig("midpoint", 40)
    found = model.log_prob(
        some, sampling=sampling, rng=options.rng, process_group=options.ranks, on_progress=options.on_progress
    )
    nll = -found.mean().item()
    return dict(zip(names, (nll, nll / math.log(2) / some.values[0].numel()), strict=False))


def row_nll(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return `nll`, what a held-out row takes in nats, columns in the order of the table; None where there are none."""
    if not len(held_out):
        return {"nll": None}
    some = subsample(held_out, max(MIN_EXAMPLES, round(MOST_ROWS * options.fraction)), options.rng)
    return {"nll": model.nll(some, process_group=options.ranks, on_progress=options.on_progress).mean().item()}


def bits_per_token(model: Model, held_out: Dataset, options: FlowMetricOptions) -> MetricValues:
    """Return `bits_per_token`, and `bits_per_token_sampled` where samples follow rates with a looser bound.

    None where no data are held out.
    """
    bounds = _bounds(model)
    if not len(held_out) or not model.supports_conditions(held_out):
        return dict.fromkeys(bounds)
    some = subsample(held_out, max(MIN_EXAMPLES, round(MAX_ESTIMATED * options.fraction)), options.rng)
    symbols, found = int(some.modality.num_entries(some.values).sum()), {}
    for i, (name, bound) in enumerate(bounds.items()):
        tell = lambda share, i=i: options.on_progress((i + share) / len(bounds))  # noqa: E731
        nats = model.nll(some, elbo=bound, times=TIMES, rng=options.rng, process_group=options.ranks, on_progress=tell)
        found[name] = nats.sum().item() / math.log(2) / symbols
    return found


def _bounds(model: Model) -> dict[str, ELBO | None]:
    """Return the bound that is reported under each name; one if samples follow the rates with the tight bound."""
    spec = model.spec
    if not model.family.is_process:  # what it takes is exact
        return {"bits_per_token": None}
    path, _, _ = spec.sampling.resolve(spec.path, spec.space)
    tight, sampled = (rule(cast(TokenPath, of)) for rule, of in ((tightest_elbo, spec.path), (sampling_elbo, path)))
    bounds: dict[str, ELBO | None] = {"bits_per_token": tight}
    if sampled != tight:
        bounds["bits_per_token_sampled"] = sampled
    return bounds


@torch.no_grad()
def straightness(
    model: Model, rng: Rng, n: int = NUM_CURVES, steps: int = 32, on_progress: Callable[[float], None] = no_progress
) -> float | None:
    """Return 1 if all move straight ahead at one speed, less if they bend or hesitate.

    It is the mean of `d(x_0, x_1)^2` over that of the integral of `|velocity|^2`.
    One Euler step is exact where it is 1. The speed is that between the states of a simulation with midpoint steps.
    Source: Liu et al. 2022, "Flow straight and fast", arXiv 2209.03003, section 2.2, as a quotient without unit.

    Args:
        model: Its conditions are drawn as often as in the training data.
        rng: Source of the n starts.
        n: Curves that are averaged.
        steps: Of each.
        on_progress: Hears which share of them is done.

    Returns:
        The quotient, or None where a model has no flow: with noise, jumps, or on a space without geodesics.
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
    cond = spec.modality.add_derived_conditions(model.sample_conditions(n, {}, rng))
    process = path.process(model.network.eval(), tree_map(lambda leaf: leaf.to(device), cond))
    start = path.initial_state(space.sample_base(n, rng.stream("source"), device))
    if any(
        now.velocity is None or now.diffusion is not None or now.jumps is not None for now in _parts(process, start)
    ):
        return None
    states = [start]
    for state in trajectory(process, start, linear_grid(steps), Midpoint(space), rng):
        on_progress(len(states) / steps)
        states.append(state)
    energy = sum(space.distance(a, b).double().square().mean().item() for a, b in pairwise(states)) * steps
    if not energy:  # nobody moves, which one step would follow, too
        return 1.0
    return space.distance(start, states[-1]).double().square().mean().item() / energy


def _parts(process: Process, start: State) -> list[Characteristics]:
    """Return what each leaf of a process is made of."""
    return list(leaves(process(start, expand_time(start, 0.0))))
