"""Recipes that start from an older model: continued training, reflow and distillation."""

from dataclasses import replace

from feller.core.errors import UsageError
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Tokens
from feller.training.objective import FlowMatching
from feller.training.objectives.distillation import Distillation

NUM_REFLOW_PAIRS = 20_000
"""Number of (source, end) pairs sampled from the older model for reflow."""


def finetune_from(recipe: Recipe, base: Model) -> Recipe:
    """Return the recipe that continues the training of an older model on the data.

    Args:
        recipe: Recipe for the data. Its network, path and sampler settings are replaced by those of the older model,
            and its learning rate is multiplied by `finetune_lr_scale` of the objective.
        base: Older model.
    """
    spec, objective = base.spec, recipe.objective
    return replace(
        recipe,
        architecture=spec.architecture,
        objective=objective.for_finetuning(getattr(spec.family, "path", None), spec.space, spec.cond_dropout),
        train=replace(recipe.train, lr=objective.finetune_lr_scale * recipe.train.lr),
        sampling=spec.sampling,
    )


def reflow(recipe: Recipe, base: Model) -> Recipe:
    """Return a reflow recipe: training on pairs from the older model straightens trajectories, so fewer steps suffice.

    Source: Liu et al. 2022, "Flow straight and fast", arXiv 2209.03003.

    Args:
        recipe: Recipe for the data, whose training settings are kept.
        base: Older model, a flow, from which pairs (source, end) are sampled.
    """
    _check_flows(base)
    spec = base.spec
    return replace(
        recipe,
        architecture=spec.architecture,
        objective=FlowMatching(spec.path, spec.space, cond_dropout=spec.cond_dropout),
        reflow_pairs=NUM_REFLOW_PAIRS,
        sampling=SamplerConfig("euler", 8),
    )


def distill(recipe: Recipe, teacher: Model) -> Recipe:
    """Return a distillation recipe: one Euler step learns the result of several finer steps of the teacher model.

    Args:
        recipe: Recipe for the data, whose training and sampler settings are kept.
        teacher: Older model, which must be a flow.
    """
    _check_flows(teacher)
    spec = teacher.spec
    objective = Distillation(spec.path, spec.space, cond_dropout=spec.cond_dropout)
    return replace(recipe, architecture=spec.architecture, objective=objective)


def _check_flows(base: Model) -> None:
    """Raise a UsageError for discrete models and for infilling models, which generate no complete samples."""
    if base.spec.modality.entry_label_counts:
        name = base.spec.modality.display_name
        raise UsageError(
            f"reflow and distil need complete samples, but a model of {name} fills in masked parts",
            remedy="Use a model that generates complete samples",
        )
    if isinstance(base.spec.space, Tokens):
        raise UsageError("reflow and distil need a flow, but this model is discrete", remedy="Use --recipe auto")
