"""Set-up of training from a plan, including a trial of loss and sampling on a few examples."""

import contextlib
import copy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from feller.app.workflows.fitting.fit_plan import FitPlan
from feller.app.workflows.fitting.run_training import TrainingJob
from feller.app.workflows.fitting.validate_user_code import check_components
from feller.app.workflows.run_config import FitRecord
from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves, num_examples
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.core.user_code import user_frame
from feller.data.batches import batch_loader
from feller.data.modality import Dataset
from feller.models.export.user_network import with_detected_call
from feller.models.families.model_family import DivergedError
from feller.models.model import Model
from feller.networks.blocks.lora import LoRA
from feller.networks.network_config import count_parameters, limit_parameter_bytes
from feller.networks.step_end import load_start_weights
from feller.networks.unwrapping import null_values
from feller.training.engine import Engine
from feller.training.loop import make_train_state
from feller.training.objective import Objective, TrainingContext
from feller.training.parallelize import check_parallelize
from feller.training.training_inputs import example_source

TRIAL_NFE = 4
"""Number of function evaluations (network calls) per sample in the trial."""
MIN_SELECTION_EXAMPLES = 20
"""Minimum number of held-out examples that may select the weights."""
MAX_TRIAL_EXAMPLES = 16
"""Maximum number of examples in a trial."""


def set_up_training(run: Run, plan: FitPlan, engine: Engine, max_bytes: int = sys.maxsize) -> TrainingJob:
    """Split the data, build the network, and test the loss and sampling on a few examples.

    Raises:
        InputError: If the data lack a condition of their modality.
        UsageError: If the recipe does not match the data, or there is no training budget.
    """
    record, recipe, start_model, access = plan.record, plan.recipe, plan.start_model, plan.access
    if recipe.train.steps is None and recipe.train.minutes is None:
        raise UsageError(expected="a budget: --steps or --minutes")
    data, held_out = plan.split
    data = data.modality.for_training(data, Rng(record.seed).fold_in("evened"))
    if start_model is not None:
        start_model.network.to(engine.device).eval()
    check_parallelize(recipe.train, recipe.objective, recipe.architecture, engine)
    spec = limit_parameter_bytes(max_bytes, lambda: with_detected_call(recipe.model_spec(data)))
    description = replace(spec, aux_hashes=plan.aux_networks)
    if plan.frequencies is not None:
        description = replace(description, frequencies=plan.frequencies)
    network = limit_parameter_bytes(max_bytes, lambda: description.build(Rng(record.seed)))
    if start_model is not None:
        load_start_weights(network, start_model.network.state_dict())
        if (rank := (lora := record.config.training.lora).rank) is not None:
            network = LoRA(network, rank, Rng(record.seed).fold_in("rank"), lora.target_modules)
    teacher = None if start_model is None else start_model.network
    objective = recipe.objective.build(TrainingContext(teacher=teacher, null=null_values(network)))
    example_source(objective, recipe.train.augmentation, network)  # raises an error before anything is written
    state = make_train_state(network.to(engine.device), recipe.train)
    access.check_setup(record, objective, network, data, engine)
    network_copy = copy.deepcopy(network)  # the trial must not update codebook statistics
    trial_size = _few(data, has_user_code=bool(record.provenance.code))
    _try_loss(objective, network_copy, data.subset(torch.arange(trial_size)), record, engine)
    if record.provenance.code and not recipe.aux_networks and not description.family.why_no_samples:
        _try_sampling(Model.from_spec(description, network_copy), trial_size, Rng(record.seed).fold_in("trial"), record)
    recipe_flag = f"--recipe {shlex.quote(record.provenance.recipe)} " if record.provenance.code else ""
    return TrainingJob(
        record={**record.content, "recipe": to_dict(recipe)},
        summary=(
            f"{record.data}: {data.total:,} training examples, {len(held_out):,} held out; recipe"
            f" {record.provenance.recipe}, size {record.provenance.size}, {count_parameters(network):,}"
            f" parameters{access.privacy_text}"
        ),
        notes=record.provenance.notes,
        config=recipe.train,
        objective=objective,
        description=description,
        state=state,
        data=data,
        held_out=held_out if recipe.train.keep_best and len(held_out) >= MIN_SELECTION_EXAMPLES else None,
        resume_command=f"feller fit --resume {recipe_flag}--out {shlex.quote(str(run.path))}",
    )


def _try_loss(objective: Objective, network: nn.Module, dataset: Dataset, record: FitRecord, engine: Engine) -> None:
    """Compute the loss of a few examples once, so that errors are raised before anything is written."""
    rng = Rng(record.seed).fold_in("trial")
    batch = engine.to_device(batch_loader(dataset, len(dataset), rng)(0, slice(None)))
    n = num_examples(batch["x_1"]) if "x_1" in batch else 0
    with _trial(record, n):
        if record.provenance.code and objective.flow_matching is not None:
            check_components(objective.flow_matching, network, batch, rng)
        example = objective.draw(batch, rng, network)
        loss = objective.loss(network, example)
    if record.provenance.code:
        _check_loss(loss, num_examples(example), network, record)


def _few(data: Dataset, *, has_user_code: bool) -> int:
    """Return the number of trial examples; for user code, a number that differs from every size in the data.

    With two examples of two columns, for instance, times of shape [2] without trailing axes would silently broadcast
    over the columns.
    """
    dims = {dim for leaf in leaves(data.values) for dim in leaf.shape[1:]}
    max_examples = min(len(data), MAX_TRIAL_EXAMPLES)
    return (
        next((n for n in range(3, max_examples + 1) if n not in dims), max_examples)
        if has_user_code
        else min(len(data), 2)
    )


def _check_loss(loss: Any, n: int, network: nn.Module, record: FitRecord) -> None:
    """Raise an error if a user-defined loss is not one value per example, or has no gradient."""
    if not isinstance(loss, Tensor):
        raise UsageError(f"a loss tensor with one value per example, [{n}]", type(loss).__name__)
    if loss.shape != (n,):
        raise UsageError(f"a loss with one value per example, [{n}]", list(loss.shape))
    if not loss.requires_grad:
        raise InputError(
            f"the loss of {record.provenance.recipe} has no gradient with respect to the weights. Look for detach,"
            " rounding, or operations outside torch"
        )
    with _trial(record, n):
        loss.mean().backward()
        network.zero_grad(set_to_none=True)


def _try_sampling(model: Model, n: int, rng: Rng, record: FitRecord) -> None:
    """Sample with few function evaluations, so that errors in user code are raised before training.

    Untrained weights may give infinite samples, which is not an error.
    """
    sampling = replace(model.spec.sampling, nfe=TRIAL_NFE)
    with _trial(record, n), contextlib.suppress(DivergedError):
        model.sample_dataset(n, sampling=sampling, rng=rng)


@contextlib.contextmanager
def _trial(record: FitRecord, n: int) -> Iterator[None]:
    """Context that turns an error inside feller into an InputError that names the user's recipe.

    `n` is the number of examples in the trial. Errors in user code and errors without user code are unchanged.
    """
    try:
        yield
    except (UsageError, InputError):
        raise
    except Exception as error:
        if not record.provenance.code or user_frame(error):  # the command line reports the line in user code
            raise
        message = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{record.provenance.recipe} fails in a trial with {n} examples, inside feller: {message};"
            " set FELLER_TRACEBACK=1 to see where"
        ) from error
