"""Times of solver steps fitted to a model."""

from dataclasses import replace

from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.models.families.model_family import GuidanceScale
from feller.models.model import Model
from feller.networks.unwrapping import evaluation_mode
from feller.paths.time_distributions import Tabulated
from feller.sampling.sampler_config import SamplerConfig
from feller.sampling.time_grids import error_grid

FITTED_SAMPLES, FITTED_STEPS = 64, 64
"""Number of samples, and of steps, on which the errors of steps are measured."""


def fit_times(model: Model, sampling: SamplerConfig, guidance: GuidanceScale, rng: Rng) -> SamplerConfig:
    """Return sampler settings with the times of steps with about equal errors; see `error_grid`.

    Errors are measured on samples with conditions as in the training data, with 6 network evaluations per step.

    Raises:
        UsageError: If the model has noise, jumps or tokens.
    """
    spec, device = model.spec, next(model.network.parameters()).device
    path, _, _ = replace(sampling, solver="midpoint", nfe=2).resolve(spec.path, spec.space)
    cond = spec.modality.add_derived_conditions(model.sample_conditions(FITTED_SAMPLES, {}, rng))
    cond = tree_map(lambda leaf: leaf.to(device), cond)
    network = sampling.guidance.apply(model.network, guidance, path, model.droppable())
    x = path.initial_state(spec.space.sample_base(FITTED_SAMPLES, rng.stream("source"), device))
    with evaluation_mode(model.network):
        times = error_grid(path.process(network, cond), x, FITTED_STEPS, space=spec.space, fine_steps=FITTED_STEPS)
    return replace(sampling, times=Tabulated(tuple(times)))
