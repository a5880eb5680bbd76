"""Recipes that begin where an older model ended."""

from dataclasses import replace

from feller.core.errors import UsageError
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Tokens
from feller.training.objective import FlowMatching
from feller.training.objectives.distillation import Distillation

PAIRS = 20_000
"""Drawn from the older model for reflow."""


def onwards(recipe: Recipe, older: Model) -> Recipe:
    """Train the older model on, on the data."""
    about, usual = older.description, recipe.objective
    return replace(
        recipe,
        architecture=about.architecture,
        objective=usual.onward(getattr(about.family, "path", None), about.space, about.cond_dropout),
        train=replace(recipe.train, lr=usual.onward_lr * recipe.train.lr),
        sampling=about.sampling,
    )


def reflow(recipe: Recipe, older: Model) -> Recipe:
    """Train on pairs that the older model connects: its paths become straight, and need fewer steps.

    Source: Liu et al. 2022, "Flow straight and fast", arXiv 2209.03003.
    """
    _check_flows(older)
    about = older.description
    return replace(
        recipe,
        architecture=about.architecture,
        objective=FlowMatching(about.path, about.space, cond_dropout=about.cond_dropout),
        pairs=PAIRS,
        sampling=SamplerConfig("euler", 8),
    )


def distil(recipe: Recipe, older: Model) -> Recipe:
    """Train one Euler step to go where several finer steps of the older model go."""
    _check_flows(older)
    about = older.description
    objective = Distillation(about.path, about.space, cond_dropout=about.cond_dropout)
    return replace(recipe, architecture=about.architecture, objective=objective)


def _check_flows(older: Model) -> None:
    """Refuse a model of symbols, which jump, and one that fills in, which does nothing without what is around."""
    if older.description.modality.labels:
        called = older.description.modality.called
        raise UsageError(
            f"reflow and distil learn from whole samples, and a model of {called} fills in", remedy="Use another"
        )
    if isinstance(older.description.space, Tokens):
        raise UsageError("reflow and distil make flows straighter, and symbols do not flow", remedy="Use --recipe auto")
