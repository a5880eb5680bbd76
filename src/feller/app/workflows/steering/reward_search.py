"""Optimisation of source points for a high reward of the samples, without training the model (D-Flow)."""

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
from feller.core.precision import parse_precision
from feller.core.pytree import Cond, State, concatenate, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.models.families.model_family import default_batch_size, iter_batches
from feller.models.model import Model, load_model
from feller.sampling.sampler_config import SamplerConfig
from feller.training.engine import get_engine

DEFAULT_SAMPLER = SamplerConfig("midpoint", 12)
"""Default sampler of the search: six midpoint steps, accurate enough in the directions in which the data vary."""
STEPS = 20
N = 16
LINE_SEARCH_STEPS = 8
"""Maximum number of evaluations per line search; without a limit, the search would not end for an unbounded reward."""


@dataclass(frozen=True, eq=False)
class RewardSearchResult:
    """Result of a reward search: samples before and after the search, from the same conditions, with their metrics."""

    unsteered: Dataset
    samples: Dataset
    numbers: dict[str, Any]
    path: pathlib.Path
    notes: tuple[str, ...] = ()
    """Notes on default settings that were used."""
    sketch: str = ""
    """Notice that the model is undertrained; empty if the model is not undertrained."""


def search_reward(run: Run, config: SteerConfig, *, reporter: Reporter = SILENT) -> RewardSearchResult:
    """Optimise source points to maximise the reward of the resulting samples, and write the samples.

    Args:
        run: Run with the model, which is not changed.
        config: Options of `feller steer`; `steps` are L-BFGS steps, or steps of an evolution strategy for a reward
            without a gradient.
        reporter: Progress and log output.

    Raises:
        InputError: If the run is damaged, or the reward is not finite or has no gradient at the start.
        UsageError: If an argument is wrong, or the model does not support steering.
    """
    rewards = config.rewards
    conditions_given = single_values(config.given)
    seed = config.seed
    variables = config.search.optimize
    n, prior = N if config.n is None else config.n, parse_prior(config.search.prior)
    steps = STEPS if config.steps is None else config.steps
    sampling = SamplerConfig(
        config.search.solver or DEFAULT_SAMPLER.solver,
        config.search.nfe or DEFAULT_SAMPLER.nfe,
        precision=parse_precision(config.flow.precision),
    )
    model, start_time = load_model(run), time.monotonic()
    notice = read_undertrained_notice(run)
    model.network.to(get_engine().device)
    modality = model.spec.modality
    path = run.output_path(config.out)
    modality.check_place(path)
    total_reward, rng = parse_rewards(run, modality, rewards), Rng(seed).fold_in("sample")
    reward = StateReward(total_reward, modality)
    conditions, clamped = model.parse_conditions(n, conditions_given or None, rng)
    conditions = modality.add_derived_conditions(conditions)
    check_differentiable(model, sampling, clamped)
    # also raises the errors of a failing reward
    make_minimizer = _choose_minimizer(model, total_reward, rewards, steps, seed, reporter)
    for text, term in zip(rewards, total_reward.terms, strict=True):
        if is_user_reward(text) and term.violation is None:
            reporter.log(_unbounded(text, term.factor))
    reporter.start("optimising the reward")
    unsteered_batches, solutions = [], []
    device = next(model.network.parameters()).device
    batch_size = max(1, default_batch_size(model.spec.space, device) // BATCH_SIZE_DIVISOR)
    for rows, on_progress in iter_batches(n, batch_size, reporter.progress):
        count, batch_rng = rows.stop - rows.start, replace(rng, first_example=rows.start)
        batch_cond, batch_clamped = (
            tree_map(lambda leaf, rows=rows: leaf[rows].to(device), tree) for tree in (conditions, clamped)
        )
        x_0 = model.spec.space.sample_base(count, batch_rng.stream("source"), device)
        problem = search_problem(
            model,
            x_0,
            batch_cond,
            batch_clamped,
            guidance=config.flow.guidance,
            sampling=sampling,
            variables=variables,
            rng=batch_rng,
        )
        with torch.no_grad():
            unsteered_batches.append(problem.flow(problem.start, torch.arange(count, device=device)))

        def loss(endpoint: State, indices: Tensor, batch_cond: Cond = batch_cond) -> Tensor:
            return -reward_or_nan(reward, endpoint, tree_map(lambda leaf: leaf[indices], batch_cond))

        solutions.append(
            optimize_source(
                problem.flow,
                loss,
                problem.start,
                problem.space,
                minimizer=make_minimizer(rows.start),
                prior=prior,
                mask=problem.mask,
                on_progress=on_progress,
            )
        )
    reporter.finish()
    unsteered, steered = (
        Dataset(concatenate(*(modality.decode(state) for state in batches)), conditions, modality)
        for batches in (unsteered_batches, [solution.end for solution in solutions])
    )
    modality.write(steered.values, steered.given, path)
    metrics = {
        **_numbers(total_reward, unsteered, steered, solutions, variables),
        "seconds": time.monotonic() - start_time,
    }
    for text, term in zip(rewards, total_reward.terms, strict=True):
        if term is total_reward.bounded_term:
            reporter.log(
                f"{text}: on average {metrics['bounded_before']:.3g} before, {metrics['bounded']:.3g} after; the reward"
                " is minus the squared violation of the bound, so that 0 is the best value"
            )
    missing_package = registration_of(modality).valid_needs if "validity" not in metrics else ""
    sampled = [name for name in model.spec.frequencies if name not in conditions_given]
    notes = (
        f"each sample is optimised for at most {steps} steps; each solve takes {sampling.nfe} network calls (--steps,"
        " --nfe)",
        *(f"{name} was sampled with its training frequencies (--given {name}=...)" for name in sampled),
        *([f"the validity of samples was not checked: install {missing_package}"] if missing_package else []),
    )
    if notice:
        reporter.log(f"the steered model is undertrained: {notice}")
    return RewardSearchResult(unsteered, steered, metrics, path, notes, notice)


def parse_prior(text: str) -> SourcePrior:
    """Return the prior on source points for a text.

    `shell` keeps the initial norm of a source point; `radius=W` adds W times the negative log density of the norm to
    the objective; `none` is no prior.

    Raises:
        UsageError: If the prior is unknown.
    """
    name, _, strength = text.partition("=")
    if text in ("shell", "none"):
        return NormConstraint() if text == "shell" else NoPrior()
    try:
        weight = float(strength)
    except ValueError:
        weight = -1.0
    if name != "radius" or not 0 <= weight < math.inf:
        raise UsageError("shell, radius=WEIGHT with a weight of at least 0, or none", repr(text), argument="prior")
    return ChiPrior(weight)


def reward_or_nan(reward: StateReward, x: State, cond: Cond) -> Tensor:
    """Return the reward of each state x under the conditions `cond`; NaN where the reward is undefined.

    NaN is returned instead of an error, so that the line search shortens its step.
    """
    value = reward(x, cond)
    if isinstance(value, Tensor) and value.shape == (num_examples(x),):
        return value
    return evaluate_reward(lambda *_: value, x, cond)


def _numbers(
    reward: RewardSum, unsteered: Dataset, steered: Dataset, solutions: list[OptimizedSource], variables: str
) -> dict[str, Any]:
    """Return the metrics of a reward search, computed from the samples as written to files."""
    rewards = [dataset_reward(reward, data) for data in (unsteered, steered)]
    nfe = torch.cat([solution.nfe for solution in solutions]).double()
    is_improved = rewards[1] > rewards[0]
    source_size = (
        None
        if variables == "condition"
        else torch.cat([_size(solution.source) for solution in solutions]).mean().item()
    )
    return {
        "n": len(steered),
        "reward_before": rewards[0].mean().item(),
        "reward": rewards[1].mean().item(),
        **({} if reward.bounded_term is None else _bounded(reward.bounded_term, unsteered, steered)),
        "improved": is_improved.double().mean().item(),
        **_validity(unsteered, steered, is_improved),
        "solves": nfe.mean().item(),
        **({} if source_size is None else {"source_size": source_size}),
    }


def _validity(unsteered: Dataset, steered: Dataset, improved: Bool[Tensor, " n"]) -> dict[str, float]:
    """Return the fractions of valid samples: before, after, and improved as well; empty without a validity rule."""
    is_valid = registration_of(steered.modality).valid
    valid_before, valid_after = is_valid(unsteered), is_valid(steered)
    if valid_before is None or valid_after is None:
        return {}
    improved_valid = valid_after & improved.cpu().numpy()
    masks = {"validity_before": valid_before, "validity": valid_after, "improved_valid": improved_valid}
    return {name: float(mask.mean()) for name, mask in masks.items()}


def _bounded(term: RewardTerm, unsteered: Dataset, steered: Dataset) -> dict[str, float]:
    """Return the mean of the bounded quantity before and after the search, its bound, and the way to the bound.

    The way is the fraction by which the search reduced the mean violation of the bound; 1 without a violation before.
    """
    assert term.violation is not None
    assert term.bound is not None
    first, last = (dataset_reward(term.reward, data) for data in (unsteered, steered))
    violated, remaining = (term.violation(found).abs().mean().item() for found in (first, last))
    progress = 1 - remaining / violated if violated > 0 else 1.0 if remaining == 0 else 0.0
    return {
        "bounded_before": first.mean().item(),
        "bounded": last.mean().item(),
        "bounded_target": term.bound,
        "bounded_progress": progress,
    }


def _unbounded(text: str, factor: float) -> str:
    """Return a note that the reward `text` has no upper bound, and how to write a target value for it."""
    name, sign = text.rpartition("*")[2].strip(), "<=" if factor < 0 else ">="
    return f'the reward has no bound, so it is optimised without limit; `--reward "{name} {sign} NUMBER"` sets a target'


def _size(source: State) -> Tensor:
    """Return the mean squared entry of each source point; it is near 1 for points from a standard normal source."""
    if isinstance(source, dict):
        source = {name: leaf for name, leaf in source.items() if not name.startswith(CONDITION)}
    entries = [leaf.flatten(1).double() for leaf in leaves(source) if leaf.is_floating_point()]
    return torch.cat(entries, 1).square().mean(1)


def _choose_minimizer(
    model: Model, reward: RewardSum, rewards: Sequence[str], steps: int, seed: int, reporter: Reporter
) -> Callable[[int], Minimizer]:
    """Return L-BFGS as the minimiser, or an evolution strategy if a reward has no gradient.

    Returns:
        Function from the index of a batch's first sample to the minimiser of this batch.
    """
    no_gradient = nondifferentiable_rewards(model, reward, rewards)
    if not no_gradient:
        # one line search per sample: a shared one would couple the samples of a batch
        return lambda first_example: LBFGS(steps=steps, max_line_search=LINE_SEARCH_STEPS)
    reporter.log(
        f"no gradient: {', '.join(no_gradient)}; using an evolution strategy with {Evolution.population} proposals per"
        " step and sample"
    )
    rng = Rng(seed).fold_in("search")
    return lambda first_example: Evolution(steps=steps, rng=replace(rng, first_example=first_example))
