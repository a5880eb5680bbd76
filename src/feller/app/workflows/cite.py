"""The papers that a run uses."""

import os
from typing import Any, cast

from feller.app.workflows.bridges.bridge_run import bridged_of, bridging_of
from feller.app.workflows.bridges.cost_names import SURFACES, names_of
from feller.app.workflows.fine_tuned_run import recipe_of
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.privacy_config import Allowance, Guarantee
from feller.app.workflows.run_config import FitRecord, record_of
from feller.control.bridges.costs.surface_cost import PointCloudSurface
from feller.control.bridges.unbalanced_weights import unbalanced_weights
from feller.core.citations import BibEntry, cited_papers
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, to_run
from feller.models.recipes.recipe import Recipe
from feller.models.spec import ModelSpec, load_spec
from feller.networks.blocks.lora import LoRA
from feller.privacy.accounting.accountant import compute_epsilon
from feller.privacy.accounting.dp_events import DpEvent, ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.dp_sgd.clip_norm import AdaptiveClipNorm
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.marginals.aim import CHOICE as AIM_CHOICE
from feller.privacy.marginals.aim import aim
from feller.privacy.marginals.curator import Curator
from feller.privacy.marginals.mst import CHOICE as MST_CHOICE
from feller.privacy.marginals.mst import mst
from feller.sampling.guidance import cfg
from feller.training.objectives.marginal_fitting import MarginalFitting

WAYS: dict[str, Any] = {"aim": aim, "mst": mst}
"""Ways of choosing tables, by the names that recipes have for them."""
MECHANISMS: dict[str, Any] = {AIM_CHOICE: aim, MST_CHOICE: mst}
"""The same, by what a ledger says was paid for."""


def cite(of: Run | str | os.PathLike[str]) -> str:
    """Return BibTeX of the papers whose methods a run uses.

    They are found from the objects of its recipe and of its model: path, objective, network, solver, privacy, tuning.
    Each class names its source in its own docstring.

    Args:
        of: The run, or its folder.

    Raises:
        InputError: If the run is damaged.
    """
    return "\n\n".join(reference.bibtex for reference in papers(to_run(of)))


def papers(run: Run) -> tuple[BibEntry, ...]:
    """Return these papers."""
    about, asked = load_spec(run), record_of(run)
    content = run.read_record(run.recipe)
    try:
        recipe: Recipe | None = recipe_of(run)
    except (KeyError, InputError):  # of a bridge, which is no recipe, or made of code that is not named
        recipe = None
    rank = (content.get("tuned") or {}).get("rank")
    ledger = ledger_of(run)
    parts = (*_model(about), *_recipe(recipe), *_private(asked, ledger), *([LoRA] if rank else []), *_bridge(run))
    return cited_papers(*parts)


def _model(about: ModelSpec) -> tuple[Any, ...]:
    """Return what the model is made of, and how it samples; data are not a method."""
    try:
        solved: tuple[Any, ...] = about.sampling.resolve(about.path, about.space)[:2] if about.family.is_process else ()
    except UsageError:  # it draws nothing along a path
        solved = ()
    guided = (cfg,) if about.cond_dropout and about.frequencies else ()
    return about.family, about.space, about.architecture, about.sampling, *solved, *guided


def _bridge(run: Run) -> tuple[Any, ...]:
    """Return how a bridge was looked for, and what of its costs and its members has a source of its own."""
    bridged = bridged_of(run)
    if bridged is None:
        return ()
    on_surface = any(name.startswith(SURFACES) for name in names_of(bridged.costs))
    grown = (unbalanced_weights,) if bridged.growth is not None else ()
    return bridging_of(run), *([PointCloudSurface] if on_surface else []), *grown


def _recipe(recipe: Recipe | None) -> tuple[Any, ...]:
    if recipe is None:
        return ()
    kept = (recipe.objective, recipe.architecture, recipe.aux_networks, recipe.train)
    way = (WAYS.get(cast(MarginalFitting, recipe.objective).method),) if recipe.objective.family == "graphical" else ()
    return (*kept, *way)


def _private(asked: FitRecord, ledger: Ledger | None) -> tuple[Any, ...]:
    """Return what hides rows, what chose what was counted of them, and what adds up the cost."""
    if not asked.is_private:
        return ()
    counted: tuple[DpEvent, ...] = () if ledger is None else ledger.events
    chose = [MECHANISMS[one.label] for one in counted if one.label in MECHANISMS]
    if isinstance(asked.provenance.private, Allowance) or any(isinstance(one, ZCdp) for one in counted):
        chose.append(Curator)
    if isinstance(asked.provenance.private, Guarantee):
        chose += [DPSGD, *([AdaptiveClipNorm] if asked.provenance.private.adaptive else [])]
    return (*chose, compute_epsilon)
