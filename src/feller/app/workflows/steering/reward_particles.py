"""Samples of a model tilted by a reward, by weighted particles (twisted SMC) and without training."""

import time
from dataclasses import replace
from typing import cast

import torch

from feller.app.config import SteerConfig, single_values
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.run_status import read_undertrained_notice
from feller.app.workflows.steering.inverse_problems import check_kept, effective_sizes, kept_rows
from feller.app.workflows.steering.model_flow import make_process
from feller.app.workflows.steering.reward_search import RewardSearchResult
from feller.app.workflows.steering.reward_specs import nondifferentiable_rewards, parse_rewards
from feller.control.inverse.particles import TwistedChain, particle_grid, run_particles
from feller.control.inverse.twisted_chains import GaussianChain, RewardTwist, TokenChain
from feller.control.inverse.twisted_smc import TwistedSMC
from feller.control.rewards.named_rewards import StateReward, dataset_reward
from feller.core.errors import UsageError
from feller.core.precision import parse_precision
from feller.core.pytree import Cond, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset
from feller.models.model import Model, load_model
from feller.networks.mixed_precision import at_precision
from feller.paths import Affine
from feller.sampling.guidance import cfg
from feller.training.engine import get_engine


def sample_by_particles(run: Run, config: SteerConfig, *, reporter: Reporter = SILENT) -> RewardSearchResult:
    """Draw samples of the model's distribution tilted by exp(reward), and write the samples.

    All particles form one group with the same conditions; their end is resampled, and n of them are written.

    Args:
        run: Run with the model, which is not changed.
        config: Options of `feller steer`.
        reporter: Progress and log output.

    Raises:
        InputError: If the run is damaged, or the reward is not finite.
        UsageError: If an argument is wrong, or the model is neither a flow with noise nor a chain of tokens.
    """
    method, rewards, given = TwistedSMC(), config.rewards, single_values(config.given)
    particles = config.measurement.particles or method.particles
    method = replace(method, particles=particles, steps=config.steps or method.steps)
    n = check_kept(config.n, particles)
    model, start_time = load_model(run), time.monotonic()
    notice, modality, device = read_undertrained_notice(run), model.spec.modality, get_engine().device
    model.network.to(device)
    path = run.output_path(config.out)
    modality.check_place(path)
    total_reward, rng = parse_rewards(run, modality, rewards), Rng(config.seed).fold_in("particles")
    reward = StateReward(total_reward, modality)
    one, clamped = model.parse_conditions(1, given or None, rng)
    if clamped:
        raise UsageError(
            "particles cannot hold parts of the data fixed",
            remedy=f"Leave out --given {', '.join(clamped)}",
            argument="given",
        )
    conditions = tree_map(lambda leaf: leaf.repeat_interleave(particles, 0), one)
    conditions = tree_map(lambda leaf: leaf.to(device), modality.add_derived_conditions(conditions))
    chain = _chain(model, conditions, RewardTwist(reward, conditions), particles, config)
    without = nondifferentiable_rewards(model, total_reward, rewards) if isinstance(chain, GaussianChain) else rewards
    x_0 = model.spec.space.sample_base(particles, rng.stream("source"), device)
    reporter.start("sampling by particles")
    found = run_particles(
        chain,
        model.spec.path.initial_state(x_0),
        particle_grid(method.steps),
        particles,
        rng,
        on_progress=reporter.progress,
    )
    reporter.finish()
    kept = kept_rows(1, particles, n).to(device)
    conditions = tree_map(lambda leaf: leaf[kept], conditions)
    steered = Dataset(modality.decode(tree_map(lambda leaf: leaf[kept], found.state)), conditions, modality)
    unsteered = model.sample_dataset(n, given=conditions, guidance=config.flow.guidance, rng=rng.fold_in("before"))
    modality.write(steered.values, steered.given, path)
    numbers = {
        "n": n,
        "reward_before": dataset_reward(total_reward, unsteered).mean().item(),
        "reward": dataset_reward(total_reward, steered).mean().item(),
        **effective_sizes([found.ess]),
        "seconds": time.monotonic() - start_time,
    }
    notes = (
        f"{particles} particles in {method.steps} steps (--particles, --steps); the samples follow the model's"
        " distribution times exp(reward) as far as the effective sample size allows",
        *([f"no gradient, so steps are not guided: {', '.join(without)}"] if without else []),
    )
    return RewardSearchResult(unsteered, steered, numbers, path, notes, notice)


def _chain(model: Model, cond: Cond, twist: RewardTwist, particles: int, config: SteerConfig) -> TwistedChain:
    """Return the chain of a model with a twist; UsageError if it is neither a flow with noise nor one of tokens."""
    path, guidance, precision = model.spec.path, config.flow.guidance, parse_precision(config.flow.precision)
    if model.family.is_process and path.is_flow and path.affine_schedule is not None:
        rows = torch.arange(particles, device=get_engine().device)
        return GaussianChain(make_process(model, cond, {}, guidance, precision)(rows), cast(Affine, path), twist)
    if model.family.is_process and path.is_discrete:
        model.check_guidance(guidance)
        network = at_precision(model.network.eval().requires_grad_(False), precision)
        return TokenChain(cfg(network, guidance, droppable=model.droppable()), path, cond, twist)
    raise UsageError(
        "particles need a flow with an affine path (points, images) or a chain of tokens; this model"
        f" {model.family.describe()}",
        remedy="Leave out --method smc",
        argument="method",
    )
