"""Collection of BibTeX references of the methods that a run uses."""

import os
from typing import Any, cast

from feller.app.workflows.bridges.bridge_run import read_bridge_record, read_bridge_settings
from feller.app.workflows.bridges.cost_specs import SURFACE_PREFIXES, names_of
from feller.app.workflows.fine_tuned_run import read_recipe
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.privacy_config import ClosedFormBudget, Guarantee
from feller.app.workflows.run_config import FitRecord, read_fit_record
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
from feller.privacy.noise.banded_matrix import BandedToeplitz
from feller.sampling.guidance import cfg
from feller.training.objectives.marginal_fitting import MarginalFitting

SELECTION_METHODS: dict[str, Any] = {"aim": aim, "mst": mst}
"""Name in recipes of a method that selects marginals -> its function, whose docstring contains the references."""
MECHANISMS: dict[str, Any] = {AIM_CHOICE: aim, MST_CHOICE: mst}
"""Label of an event in a privacy ledger -> function that causes it, whose docstring contains the references."""


def cite(run: Run | str | os.PathLike[str]) -> str:
    """Return BibTeX entries of the papers whose methods a run uses.

    The references are collected from the docstrings of the objects in the run's recipe and model: path, objective,
    network, solver, privacy and fine-tuning.

    Args:
        run: Run or its folder.

    Raises:
        InputError: If the run is damaged.
    """
    return "\n\n".join(reference.bibtex for reference in references_of(to_run(run)))


def references_of(run: Run) -> tuple[BibEntry, ...]:
    """Return the bibliography entries of the papers whose methods a run uses."""
    spec, record = load_spec(run), read_fit_record(run)
    content = run.read_record(run.recipe)
    try:
        recipe: Recipe | None = read_recipe(run)
    except (KeyError, InputError):  # a bridge has no recipe, and user code may not be loaded
        recipe = None
    rank = (content.get("tuned") or {}).get("rank") or record.config.training.lora.rank
    ledger = ledger_of(run)
    components = (*_model(spec), *_recipe(recipe), *_private(record, ledger), *([LoRA] if rank else []), *_bridge(run))
    return cited_papers(*components)


def _model(spec: ModelSpec) -> tuple[Any, ...]:
    """Return the parts of a model, such as path and solver, whose docstrings cite papers."""
    try:
        solvers: tuple[Any, ...] = spec.sampling.resolve(spec.path, spec.space)[:2] if spec.family.is_process else ()
    except UsageError:  # not a sampler along a path
        solvers = ()
    guidance = (cfg,) if spec.cond_dropout and spec.frequencies else ()
    return spec.family, spec.space, spec.architecture, spec.sampling, *solvers, *guidance


def _bridge(run: Run) -> tuple[Any, ...]:
    """Return the parts of a bridge, such as settings and state costs, whose docstrings cite papers."""
    record = read_bridge_record(run)
    if record is None:
        return ()
    has_surface = any(name.startswith(SURFACE_PREFIXES) for name in names_of(record.costs))
    weighting = (unbalanced_weights,) if record.growth is not None else ()
    return read_bridge_settings(run), *([PointCloudSurface] if has_surface else []), *weighting


def _recipe(recipe: Recipe | None) -> tuple[Any, ...]:
    if recipe is None:
        return ()
    components = (recipe.objective, recipe.architecture, recipe.aux_networks, recipe.train)
    selection = (
        (SELECTION_METHODS.get(cast(MarginalFitting, recipe.objective).method),)
        if recipe.objective.family == "graphical"
        else ()
    )
    return (*components, *selection)


def _private(record: FitRecord, ledger: Ledger | None) -> tuple[Any, ...]:
    """Return the parts of private training, such as mechanisms and accountant, whose docstrings cite papers."""
    if not record.is_private:
        return ()
    events: tuple[DpEvent, ...] = () if ledger is None else ledger.events
    components = [MECHANISMS[event.label] for event in events if event.label in MECHANISMS]
    if isinstance(record.provenance.private, ClosedFormBudget) or any(isinstance(event, ZCdp) for event in events):
        components.append(Curator)
    if isinstance(record.provenance.private, Guarantee):
        components += [DPSGD, *([AdaptiveClipNorm] if record.provenance.private.adaptive else [])]
        components += [BandedToeplitz] if record.provenance.private.bands > 1 else []
    return (*components, compute_epsilon)
