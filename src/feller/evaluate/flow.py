"""What a model's flow says: how likely it finds data, and how straight it goes."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch

from feller.data import Dataset, Images, Proteins
from feller.draws import Draws
from feller.evaluate.comparison import pick
from feller.evaluate.sequences import sequence_perplexity
from feller.model import MOST_EXACT, Model, untold
from feller.paths import AnyOrder, Autoregressive, Graphical, TokenPath
from feller.processes import Characteristics, Process
from feller.ranks import ALONE, Ranks
from feller.sampling import Sampling
from feller.simulate import Midpoint, simulate
from feller.simulate.solver import clock
from feller.spaces import geometry
from feller.times import linear_grid
from feller.tree import State, leaves, tree_map

EXPLAIN = {
    "nll": "How surprised the model is by held-out data: minus its log density, in nats, averaged (given the label,"
    " where there are labels): lower is better, and only comparable on the same data in the same units.",
    "bits_per_dimension": "The same for whole levels, filled up with uniform noise, in bits for each number.",
    "bits_per_token": "How many bits a held-out symbol takes when the model packs the data: lower is better. Exact for"
    " a model that goes symbol by symbol, else a bound from above; only comparable on the same symbols.",
    "straightness": "How straight the way from noise to data is: 1 if all go ahead at one speed, which one step would"
    " follow; less if they bend or hesitate.",
}
"""What the numbers mean, for people."""
EARLY = 0.2
"""Share of the measuring that the straightness takes, about."""
MOST, MOST_LARGE, MOST_ROWS = 300, 100, 20_000
"""Held-out examples whose density is measured: few where it has to be estimated, many where that is a table's."""


def flow_quality(
    model: Model,
    held_out: Dataset,
    draws: Draws,
    ranks: Ranks = ALONE,
    share: float = 1.0,
    tell: Callable[[float], None] = untold,
) -> dict[str, float | str | None]:
    """Return the likelihood of held-out data and the straightness, or of proteins that of their sequences.

    Nothing where the model has no flow.

    Args:
        model: Whose flow it is.
        held_out: Real data; may be empty.
        draws: Source of all randomness.
        ranks: Processes that share the work.
        share: Of the steps that are taken, or, where there are none, of the examples: less tells how long all take.
        tell: Hears which share is done.
    """
    if isinstance(model.description.path, AnyOrder | Graphical):
        return surprise(model, held_out, draws.named("rows"), ranks, share, tell)
    if isinstance(model.description.path, TokenPath | Autoregressive):
        return code_length(model, held_out, draws.named("code"), ranks, share, tell)
    if isinstance(held_out.modality, Proteins):
        return {"sequence_perplexity": sequence_perplexity(model, held_out, draws.named("sequence"))}
    steps = max(1, round(32 * share))
    straight = straightness(model, draws.named("straightness"), steps=steps, tell=lambda part: tell(EARLY * part))
    if straight is None:
        return {}
    dense = model.description.modality.log_scale is not None
    late = lambda part: tell(EARLY + (1 - EARLY) * part)  # noqa: E731
    likely = likelihood(model, held_out, draws.named("likelihood"), ranks, share, late) if dense else {}
    return {**likely, "straightness": straight}


def likelihood(
    model: Model,
    held_out: Dataset,
    draws: Draws,
    ranks: Ranks = ALONE,
    share: float = 1.0,
    tell: Callable[[float], None] = untold,
) -> dict[str, float | str | None]:
    """Return `nll`, and for pictures `bits_per_dimension`; None where no data are held out."""
    exact = geometry(model.description.space).dimension <= MOST_EXACT
    names = ("nll", "bits_per_dimension") if isinstance(held_out.modality, Images) else ("nll",)
    if not len(held_out) or not model.can_do_with(held_out):
        return dict.fromkeys(names)
    some = pick(held_out, MOST if exact else MOST_LARGE, draws)
    sampling = Sampling("rk4", max(4, round(100 * share))) if exact else Sampling("midpoint", max(2, round(40 * share)))
    nll = -model.log_density(some, sampling=sampling, draws=draws, ranks=ranks, tell=tell).mean().item()
    return dict(zip(names, (nll, nll / math.log(2) / some.values[0].numel()), strict=False))


def surprise(
    model: Model,
    held_out: Dataset,
    draws: Draws,
    ranks: Ranks = ALONE,
    share: float = 1.0,
    tell: Callable[[float], None] = untold,
) -> dict[str, float | str | None]:
    """Return `nll`, what a held-out row takes in nats, columns in the order of the table; None where there are none."""
    if not len(held_out):
        return {"nll": None}
    some = pick(held_out, max(1, round(MOST_ROWS * share)), draws)
    return {"nll": model.code_length(some, ranks=ranks, tell=tell).mean().item()}


def code_length(
    model: Model,
    held_out: Dataset,
    draws: Draws,
    ranks: Ranks = ALONE,
    share: float = 1.0,
    tell: Callable[[float], None] = untold,
) -> dict[str, float | str | None]:
    """Return `bits_per_token`; None where no data are held out."""
    if not len(held_out) or not model.can_do_with(held_out):
        return {"bits_per_token": None}
    some = pick(held_out, max(1, round(MOST_LARGE * share)), draws)
    nats = model.code_length(some, draws=draws, ranks=ranks, tell=tell).sum().item()
    return {"bits_per_token": nats / math.log(2) / int(some.modality.counted(some.values).sum())}


@torch.no_grad()
def straightness(
    model: Model, draws: Draws, n: int = 256, steps: int = 32, tell: Callable[[float], None] = untold
) -> float | None:
    """Return 1 if all move straight ahead at one speed, less if they bend or hesitate.

    It is the mean of `d(x_0, x_1)^2` over that of the integral of `|velocity|^2`.
    One Euler step is exact where it is 1. The speed is that between the states of a simulation with midpoint steps.
    Source: Liu et al. 2022, "Flow straight and fast", arXiv 2209.03003, section 2.2, as a quotient without unit.

    Args:
        model: Its conditions are drawn as often as in the training data.
        draws: Source of the n starts.
        n: Curves that are averaged.
        steps: Of each.
        tell: Hears which share of them is done.

    Returns:
        The quotient, or None where a model has no flow: with noise, jumps, or on a space without geodesics.
    """
    about = model.description
    path = about.path
    try:
        space = geometry(about.space)
    except TypeError:
        return None
    device = next(model.network.parameters()).device
    given = about.modality.complete(model.conditions(n, {}, draws))
    process = path.process(model.network.eval(), tree_map(lambda leaf: leaf.to(device), given))
    start = path.start(space.reference(n, draws.at("source"), device))
    if any(
        now.velocity is None or now.diffusion is not None or now.jumps is not None for now in _parts(process, start)
    ):
        return None
    states = [start]
    for state in simulate(process, start, linear_grid(steps), Midpoint(space), draws):
        tell(len(states) / steps)
        states.append(state)
    energy = sum(space.distance(a, b).double().square().mean().item() for a, b in pairwise(states)) * steps
    if not energy:  # nobody moves, which one step would follow, too
        return 1.0
    return space.distance(start, states[-1]).double().square().mean().item() / energy


def _parts(process: Process, start: State) -> list[Characteristics]:
    """Return what each leaf of a process is made of."""
    return list(leaves(process(start, clock(start, 0.0))))
