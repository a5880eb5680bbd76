"""Recipes that start from an older model: continued training, reflow, distillation and flow maps."""

from dataclasses import replace

from feller.core.errors import UsageError
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.models.spec import state_shapes
from feller.networks.blocks.conditioning import TIME_OCTAVES
from feller.networks.step_end import WithStepEnd
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Tokens
from feller.training.objective import FlowMatching
from feller.training.objectives.distillation import Distillation
from feller.training.objectives.flow_map_losses import Consistency, FlowMapLoss, Lagrangian, MeanFlow, Shortcut
from feller.training.objectives.flow_maps import FlowMaps, check_flow_path
from feller.training.objectives.step_pairs import AnySteps, StepDistribution, StepsToLast

SMOOTH_OCTAVES = 3
"""Number of octaves of the features of time for losses that differentiate by time: up to 1 cycle over [0, 1]."""
NUM_REFLOW_PAIRS = 20_000
"""Number of (source, end) pairs sampled from the older model for reflow."""


def finetune_from(recipe: Recipe, base: Model) -> Recipe:
    """Return the recipe that continues the training of an older model on the data.

    Args:
        recipe: Recipe for the data. Its network, path and sampler settings are replaced by those of the older model,
            and its learning rate is multiplied by `finetune_lr_scale` of the objective, up to `max_finetune_lr` of the
            network.
        base: Older model.
    """
    spec, objective = base.spec, recipe.objective
    lr = min(objective.finetune_lr_scale * recipe.train.lr, spec.architecture.max_finetune_lr)
    return replace(
        recipe,
        architecture=spec.architecture,
        objective=objective.for_finetuning(getattr(spec.family, "path", None), spec.space, spec.cond_dropout),
        train=replace(recipe.train, lr=lr),
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


def flow_map(recipe: Recipe, teacher: Model | None) -> Recipe:
    """Return the recipe of a flow map, whose samples take one to four network evaluations, with the loss `Shortcut`.

    It learns the flow map of the teacher (progressive distillation for all step lengths), or from data without one.

    Args:
        recipe: Recipe for the data, whose training settings are kept.
        teacher: Older model, a flow, whose weights are the initial weights too; None to learn from data alone.
    """
    return _flow_map(recipe, teacher, Shortcut())


def mean_flow(recipe: Recipe, teacher: Model | None) -> Recipe:
    """Return the recipe of a flow map with the loss `MeanFlow`; arguments are those of `flow_map`."""
    return _flow_map(recipe, teacher, MeanFlow(), robustness=1.0, time_octaves=SMOOTH_OCTAVES)


def lagrangian(recipe: Recipe, teacher: Model | None) -> Recipe:
    """Return the recipe of a flow map with the loss `Lagrangian`; arguments are those of `flow_map`."""
    return _flow_map(recipe, teacher, Lagrangian())


def consistency(recipe: Recipe, teacher: Model | None) -> Recipe:
    """Return the recipe of a consistency model, a flow map to t = 1; arguments are those of `flow_map`."""
    return _flow_map(recipe, teacher, Consistency(), steps=StepsToLast(), nfe=2)


def _flow_map(
    recipe: Recipe,
    teacher: Model | None,
    loss: FlowMapLoss,
    *,
    steps: StepDistribution = AnySteps(),  # noqa: B008 - frozen
    robustness: float = 0.0,
    nfe: int = 4,
    time_octaves: int = TIME_OCTAVES,
) -> Recipe:
    flow = recipe.objective.flow_matching
    architecture = recipe.architecture
    if teacher is not None:
        spec = teacher.spec
        architecture = spec.architecture
        check_flow_path(spec.path, spec.space)
        if state_shapes(spec.space) != state_shapes(recipe.objective.space):
            raise UsageError(
                argument="start_from",
                expected=f"a model of states {state_shapes(recipe.objective.space)}, as the data have",
                found=state_shapes(spec.space),
                remedy="Give a run that was fitted to such data",
            )
        flow = (
            FlowMatching(spec.path, spec.space, cond_dropout=spec.cond_dropout)
            if flow is None or type(flow.path) is not type(spec.path)
            else flow.for_finetuning(spec.path, spec.space, spec.cond_dropout)
        )
    if flow is None:
        raise UsageError(
            argument="recipe",
            expected="data whose default recipe is a flow, such as points, images or arrays, for a flow map",
            found=recipe.objective.family,
            remedy="Use --recipe auto, or give a run of a flow with --start-from",
        )
    if not isinstance(architecture, WithStepEnd):
        architecture = WithStepEnd(architecture)
    architecture = replace(architecture, last_only=steps.last_only, time_octaves=time_octaves)
    return replace(
        recipe,
        architecture=architecture,
        objective=FlowMaps(flow, loss, steps, distills=teacher is not None, robustness=robustness, nfe=nfe),
    )


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
