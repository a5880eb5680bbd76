"""Recipes that begin where an older model ended."""

from dataclasses import replace

from feller.core.errors import UsageError
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Tokens
from feller.training.objective import FlowMatching
from feller.training.objectives.distillation import Distillation

NUM_REFLOW_PAIRS = 20_000
"""Drawn from the older model for reflow."""


def finetune_from(recipe: Recipe, base: Model) -> Recipe:
    """Train the older model on, on the data."""
    spec, objective = base.spec, recipe.objective
    return replace(
        recipe,
        architecture=spec.architecture,
        objective=objective.for_finetuning(getattr(spec.family, "path", None), spec.space, spec.cond_dropout),
        train=replace(recipe.train, lr=objective.finetune_lr_scale * recipe.train.lr),
        sampling=spec.sampling,
    )


def reflow(recipe: Recipe, base: Model) -> Recipe:
    """Train on pairs that the older model connects: its paths become straight, and need fewer steps.

    Source: Liu et al. 2022, "Flow straight and fast", arXiv 2209.03003.
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
    """Train one Euler step to go where several finer steps of the older model go."""
    _check_flows(teacher)
    spec = teacher.spec
    objective = Distillation(spec.path, spec.space, cond_dropout=spec.cond_dropout)
    return replace(recipe, architecture=spec.architecture, objective=objective)


def _check_flows(base: Model) -> None:
    """Refuse a model of symbols, which jump, and one that fills in, which does nothing without what is around."""
    if base.spec.modality.entry_label_counts:
        called = base.spec.modality.display_name
        raise UsageError(
            f"reflow and distil learn from whole samples, and a model of {called} fills in", remedy="Use another"
        )
    if isinstance(base.spec.space, Tokens):
        raise UsageError("reflow and distil make flows straighter, and symbols do not flow", remedy="Use --recipe auto")
