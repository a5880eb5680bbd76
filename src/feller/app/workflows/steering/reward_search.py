"""Reward search: optimise source points for a high reward, without training (D-Flow)."""

import math
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from feller.app.config import SteerConfig, single_values
from feller.app.modalities.registration import registration_of
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.run_status import read_undertrained_notice
from feller.app.workflows.steering.model_flow import BATCH_SIZE_DIVISOR, CONDITION, check_differentiable, search_problem
from feller.app.workflows.steering.reward_specs import nondifferentiable_rewards, parse_rewards
from feller.control.inverse.d_flow import (
    ChiPrior,
    NoPrior,
    NormConstraint,
    OptimizedSource,
    SourcePrior,
    optimize_source,
)
from feller.control.optimize.evolution import Evolution
from feller.control.optimize.lbfgs import LBFGS
from feller.control.optimize.minimize import Minimizer
from feller.control.rewards.named_rewards import RewardSum, RewardTerm, StateReward, dataset_reward, is_user_reward
from feller.control.rewards.reward import evaluate_reward
from feller.core.errors import UsageError
from feller.core.pytree import Cond, State, concatenate, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.models.families.model_family import default_batch_size, iter_batches
from feller.models.model import Model, load_model
from feller.sampling.sampler_config import SamplerConfig
from feller.training.engine import get_engine

DEFAULT_SAMPLER = SamplerConfig("midpoint", 12)
"""Default sampler with six midpoint steps, which suffice along the directions in which the data vary."""
STEPS = 20
N = 16
LINE_SEARCH_STEPS = 8
"""Maximum number of evaluations per line search, which an unbounded reward could otherwise continue forever."""


@dataclass(frozen=True, eq=False)
class RewardSearchResult:
    """Result of a reward search: samples before and after it, with the same conditions."""

    unsteered: Dataset
    samples: Dataset
    numbers: dict[str, Any]
    path: pathlib.Path
    notes: tuple[str, ...] = ()
    """Notes on defaults that were chosen."""
    sketch: str = ""
    """Notice that the model is undertrained; empty if it is not."""


def search_reward(run: Run, config: SteerConfig, *, reporter: Reporter = SILENT) -> RewardSearchResult:
    """Optimise source points for the reward of their samples, and write the samples.

    Args:
        run: Run with the model, which is not changed.
        config: Options of `feller steer`; `steps` are L-BFGS steps, or steps of an evolution strategy for a reward
            without a gradient.
        reporter: Progress and log output.

    Raises:
        InputError: If the run is damaged, or the reward is not finite or has no gradient at the start.
        UsageError: If an argument is wrong, or the model does not support steering.
    """
    rewards, conditions_given, seed, over = (
        config.rewards,
        single_values(config.given),
        config.seed,
        config.search.optimize,
    )
    n, prior = N if config.n is None else config.n, parse_prior(config.search.prior)
    steps = STEPS if config.steps is None else config.steps
    sampling = SamplerConfig(config.search.solver or DEFAULT_SAMPLER.solver, config.search.nfe or DEFAULT_SAMPLER.nfe)
    model, start_time = load_model(run), time.monotonic()
    sketch = read_undertrained_notice(run)
    model.network.to(get_engine().device)
    modality = model.spec.modality
    place = run.output_path(config.out)
    modality.check_place(place)
    total_reward, rng = parse_rewards(run, modality, rewards), Rng(seed).fold_in("sample")
    reward = StateReward(total_reward, modality)
    conditions, fixed = model.parse_conditions(n, conditions_given or None, rng)
    conditions = modality.add_derived_conditions(conditions)
    check_differentiable(model, sampling, fixed)
    # also raises the errors of a failing reward
    search = _choose_minimizer(model, total_reward, rewards, steps, seed, reporter)
    for text, term in zip(rewards, total_reward.terms, strict=True):
        if is_user_reward(text) and term.violation is None:
            reporter.log(_unbounded(text, term.factor))
    reporter.start("optimising the reward")
    unsteered_batches, solutions = [], []
    device = next(model.network.parameters()).device
    size = max(1, default_batch_size(model.spec.space, device) // BATCH_SIZE_DIVISOR)
    for rows, on_progress in iter_batches(n, size, reporter.progress):
        count, batch_rng = rows.stop - rows.start, replace(rng, first_example=rows.start)
        batch_cond, batch_clamped = (
            tree_map(lambda leaf, rows=rows: leaf[rows].to(device), tree) for tree in (conditions, fixed)
        )
        x_0 = model.spec.space.sample_base(count, batch_rng.stream("source"), device)
        problem = search_problem(
            model,
            x_0,
            batch_cond,
            batch_clamped,
            guidance=config.guidance,
            sampling=sampling,
            variables=over,
            rng=batch_rng,
        )
        with torch.no_grad():
            unsteered_batches.append(problem.flow(problem.start, torch.arange(count, device=device)))

        def loss(end: State, numbers: Tensor, batch_cond: Cond = batch_cond) -> Tensor:
            return -reward_or_nan(reward, end, tree_map(lambda leaf: leaf[numbers], batch_cond))

        solutions.append(
            optimize_source(
                problem.flow,
                loss,
                problem.start,
                problem.space,
                minimizer=search(rows.start),
                prior=prior,
                mask=problem.mask,
                on_progress=on_progress,
            )
        )
    reporter.finish()
    before, steered = (
        Dataset(concatenate(*(modality.decode(part) for part in ends)), conditions, modality)
        for ends in (unsteered_batches, [one.end for one in solutions])
    )
    modality.write(steered.values, steered.given, place)
    numbers = {**_numbers(total_reward, before, steered, solutions, over), "seconds": time.monotonic() - start_time}
    unknown = registration_of(modality).valid_needs if "validity" not in numbers else ""
    free = [name for name in model.spec.frequencies if name not in conditions_given]
    notes = (
        f"each sample is optimised for at most {steps} steps; each solve takes {sampling.nfe} network calls (--steps,"
        " --nfe)",
        *(f"{name} was sampled with its training frequencies (--given {name}=...)" for name in free),
        *([f"the validity of samples was not checked: install {unknown}"] if unknown else []),
    )
    if sketch:
        reporter.log(f"the steered model is undertrained: {sketch}")
    return RewardSearchResult(before, steered, numbers, place, notes, sketch)


def parse_prior(text: str) -> SourcePrior:
    """Return the prior on source points that a text names: `shell`, `none` or `radius=W`.

    Raises:
        UsageError: If the prior is unknown.
    """
    name, _, strength = text.partition("=")
    if text in ("shell", "none"):
        return NormConstraint() if text == "shell" else NoPrior()
    try:
        number = float(strength)
    except ValueError:
        number = -1.0
    if name != "radius" or not 0 <= number < math.inf:
        raise UsageError("shell, radius=NUMBER or none", repr(text), argument="prior")
    return ChiPrior(number)


def reward_or_nan(reward: StateReward, x: State, cond: Cond) -> Tensor:
    """Return the reward of states, with NaN where it is undefined, from which the line search steps back."""
    value = reward(x, cond)
    if isinstance(value, Tensor) and value.shape == (num_examples(x),):
        return value
    return evaluate_reward(lambda *_: value, x, cond)


def _numbers(
    reward: RewardSum, before: Dataset, after: Dataset, solutions: list[OptimizedSource], variables: str
) -> dict[str, Any]:
    """Return the metrics of a reward search, computed from the samples as written to files."""
    rewards = [dataset_reward(reward, data) for data in (before, after)]
    calls = torch.cat([one.nfe for one in solutions]).double()
    improved = rewards[1] > rewards[0]
    sizes = None if variables == "condition" else torch.cat([_size(one.source) for one in solutions]).mean().item()
    return {
        "n": len(after),
        "reward_before": rewards[0].mean().item(),
        "reward": rewards[1].mean().item(),
        **({} if reward.bounded_term is None else _bounded(reward.bounded_term, before, after)),
        "improved": improved.double().mean().item(),
        **_validity(before, after, improved),
        "solves": calls.mean().item(),
        **({} if sizes is None else {"source_size": sizes}),
    }


def _validity(before: Dataset, after: Dataset, improved: Bool[Tensor, " n"]) -> dict[str, float]:
    """Return the fractions of valid samples: before, after, and improved as well; empty without a validity rule."""
    valid = registration_of(after.modality).valid
    was, now = valid(before), valid(after)
    if was is None or now is None:
        return {}
    both = now & improved.cpu().numpy()
    shares = {"validity_before": was, "validity": now, "improved_valid": both}
    return {name: float(marks.mean()) for name, marks in shares.items()}


def _bounded(term: RewardTerm, before: Dataset, after: Dataset) -> dict[str, float]:
    """Return the mean of the bounded quantity before and after the search, its bound, and the way to the bound.

    The way is the fraction by which the search reduced the mean violation of the bound; 1 without a violation before.
    """
    assert term.violation is not None
    assert term.bound is not None
    first, last = (dataset_reward(term.reward, data) for data in (before, after))
    violated, remaining = (term.violation(found).abs().mean().item() for found in (first, last))
    progress = 1 - remaining / violated if violated > 0 else 1.0 if remaining == 0 else 0.0
    return {
        "bounded_before": first.mean().item(),
        "bounded": last.mean().item(),
        "bounded_target": term.bound,
        "bounded_progress": progress,
    }


def _unbounded(text: str, factor: float) -> str:
    """Return a note that a user-defined reward is unbounded, and how to set a target for it."""
    name, side = text.rpartition("*")[2].strip(), "<=" if factor < 0 else ">="
    return f'the reward has no bound, so it is optimised without limit; `--reward "{name} {side} NUMBER"` sets a target'


def _size(source: State) -> Tensor:
    """Return the mean square of the entries of each source point, which is about 1 under the source distribution."""
    if isinstance(source, dict):
        source = {name: leaf for name, leaf in source.items() if not name.startswith(CONDITION)}
    real = [leaf.flatten(1).double() for leaf in leaves(source) if leaf.is_floating_point()]
    return torch.cat(real, 1).square().mean(1)


def _choose_minimizer(
    model: Model, reward: RewardSum, rewards: Sequence[str], steps: int, seed: int, reporter: Reporter
) -> Callable[[int], Minimizer]:
    """Return L-BFGS as the minimiser, or an evolution strategy if a reward has no gradient.

    Returns:
        Function from the index of a batch's first sample to the minimiser of this batch.
    """
    without = nondifferentiable_rewards(model, reward, rewards)
    if not without:
        # one line search per sample: a shared one would couple the samples of a batch
        return lambda first: LBFGS(steps=steps, max_line_search=LINE_SEARCH_STEPS)
    reporter.log(
        f"no gradient: {', '.join(without)}; using an evolution strategy with {Evolution.population} proposals per step"
        " and sample"
    )
    rng = Rng(seed).fold_in("search")
    return lambda first: Evolution(steps=steps, rng=replace(rng, first_example=first))
