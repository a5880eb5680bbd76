"""The papers that a run uses."""

import os
from typing import Any

from feller.citing import Reference, sources_of
from feller.data.modality import Modality
from feller.description import Description, load_description
from feller.errors import InputError, UsageError
from feller.guidance import cfg
from feller.journeys.asked import Asked, asked_of
from feller.journeys.private.guarantee import Allowance, Guarantee
from feller.journeys.tuned import recipe_of
from feller.marginals.curator import Curator
from feller.networks.low_rank import LowRank
from feller.privacy.clipping import Adaptive
from feller.privacy.gradient import Private
from feller.recipes import Recipe
from feller.run import Run, as_run


def cite(of: Run | str | os.PathLike[str]) -> str:
    """Return BibTeX of the papers whose methods a run uses.

    They are found from the objects of its recipe and of its model: path, objective, network, solver, privacy, tuning.
    Each class names its source in its own docstring.

    Args:
        of: The run, or its folder.

    Raises:
        InputError: If the run is damaged.
    """
    return "\n\n".join(reference.bibtex for reference in papers(as_run(of)))


def papers(run: Run) -> tuple[Reference, ...]:
    """Return these papers."""
    about, asked = load_description(run), asked_of(run)
    content = run.read_record(run.recipe)
    try:
        recipe: Recipe | None = recipe_of(run)
    except (KeyError, InputError):  # of a bridge, which is no recipe, or made of code that is not named
        recipe = None
    rank = (content.get("tuned") or {}).get("rank")
    parts = (*_model(about), *_recipe(recipe), *_private(asked), *([LowRank] if rank else []))
    return sources_of(*parts)


def _model(about: Description) -> tuple[Any, ...]:
    """Return what the model is made of, and how it samples; data are not a method."""
    try:
        solved: tuple[Any, ...] = about.sampling.choose(about.path, about.space)[:2]
    except UsageError:  # it draws nothing along a path
        solved = ()
    guided = (cfg,) if about.drop and about.frequencies else ()
    return about.path, about.space, about.architecture, about.sampling, *solved, *guided


def _recipe(recipe: Recipe | None) -> tuple[Any, ...]:
    if recipe is None:
        return ()
    kept = (recipe.objective, recipe.architecture, recipe.parts, recipe.train)
    return tuple(part for part in kept if not isinstance(part, Modality))


def _private(asked: Asked) -> tuple[Any, ...]:
    if isinstance(asked.private, Guarantee):
        return Private, *([Adaptive] if asked.private.adaptive else [])
    return (Curator,) if isinstance(asked.private, Allowance) else ()
