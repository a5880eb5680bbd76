"""From what was asked of a fit to a training that is known to fit together."""

import contextlib
import copy
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from feller.app.reporter import Tell
from feller.app.workflows.fitting.auxiliary_networks import Making, from_a_run
from feller.app.workflows.fitting.auxiliary_networks import make_document_parts as document_parts
from feller.app.workflows.fitting.auxiliary_networks import make_speech_parts as speech_parts
from feller.app.workflows.fitting.plan_fit import Begun
from feller.app.workflows.fitting.training_job import Prepared
from feller.app.workflows.fitting.validate_user_code import check_pieces
from feller.app.workflows.private.leakage_report import check_watched
from feller.app.workflows.private.pretrain_on_marginals import teach
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.private.private_training import privately
from feller.app.workflows.private.probe_rows import check_apart
from feller.app.workflows.run_config import Asked, parts
from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves, length
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.core.serialization import to_data
from feller.core.user_code import blamed
from feller.data.batches import batches, shuffled
from feller.data.documents.modality import Documents
from feller.data.modality import Dataset
from feller.data.speech.modality import Speech
from feller.data.tables.modality import Table
from feller.models.generation import Infinite
from feller.models.model import Model
from feller.models.recipes.recipe import DocumentParts, Recipe, SpeechParts
from feller.networks.architecture import parameters
from feller.training.engine import Engine
from feller.training.loop import Batches, make_learner
from feller.training.objective import Batch, Matching, Objective
from feller.training.parallelize import check_dress

FEW = 4
"""Network calls of samples that are drawn before anything is learned."""
MOST_TRIED = 16
"""Examples of a trial."""


def prepare(run: Run, begun: Begun, here: Engine) -> Prepared:
    """Split the data, build the network, and try both on a few examples.

    Args:
        run: Where all will be kept.
        begun: What was asked, read and chosen.
        here: Device and processes.

    Raises:
        InputError: If the data lack a condition of their modality.
        UsageError: If recipe and data do not fit.
    """
    asked, recipe, older = begun.asked, begun.recipe, begun.older
    training_data, held_out = parts(asked, begun.dataset)
    training_data = training_data.modality.for_learning(training_data, Draws(asked.seed).named("evened"))
    if older is not None:
        older.network.to(here.device).eval()
    check_dress(recipe.train, recipe.objective, recipe.architecture, here)
    objective = recipe.objective if older is None else recipe.objective.taught(older.network)
    description = replace(recipe, objective=objective).describe(training_data)
    description = replace(description, parts=begun.parts)
    if begun.frequencies is not None:
        description = replace(description, frequencies=begun.frequencies)
    network = description.build(Draws(asked.seed))
    if older is not None:
        network.load_state_dict(older.network.state_dict())
    learner, draws = make_learner(network.to(here.device), recipe.train), Draws(asked.seed).named("trial")
    if asked.code and isinstance(asked.private, Guarantee):
        check_apart(asked.recipe, objective, learner.network, training_data, here)
    some = training_data.subset(torch.arange(_few(training_data, own=bool(asked.code))))
    few = here.place(batches(some, len(some), draws)(0, slice(None)))
    tried = copy.deepcopy(learner.network)  # a codebook that follows what it sees must not count these
    _try(objective, tried, few, draws, asked)
    if asked.code and not recipe.parts and not description.path.instead:
        _try_drawing(Model(description, tried), len(some), draws, asked)
    own = f"--recipe {shlex.quote(asked.recipe)} " if asked.code else ""
    ready = Prepared(
        record={"asked": to_data(asked), "recipe": to_data(recipe)},
        summary=(
            f"{asked.data}: {training_data.total:,} to learn from, {len(held_out):,} kept back; recipe {asked.recipe}, "
            f"size {asked.size}, {parameters(network):,} weights"
        ),
        notes=asked.notes,
        training=recipe.train,
        seed=asked.seed,
        feed=_feeding(begun, training_data),
        objective=objective,
        description=description,
        learner=learner,
        bound=_bound(run, begun, training_data, here),
        again=f"feller fit --resume {own}--out {shlex.quote(str(run.path))}",
    )
    if asked.watched:
        check_watched(asked.watched, training_data, learner.network, asked.private)
    if not isinstance(asked.private, Guarantee):
        return ready
    if begun.ledger is None:
        raise InputError(
            f"{run.ledger} is missing, so nobody knows what this run has spent; bring it back, or start a new run"
        )
    ready = privately(
        run,
        ready,
        asked.private,
        begun.ledger,
        training_data,
        here=here,
        watched=asked.watched,
        seed=asked.seed,
    )
    law, kind = begun.law, training_data.modality
    if law is None or not isinstance(kind, Table):
        return ready

    def taught(tell: Tell) -> Batches:
        if not learner.step:
            tell.task("learning from rows of the counts")
            lessons = Draws(asked.seed).named("rehearsal")
            teach(learner, objective, kind, law, recipe.train, lessons, here, tell.progress)
            tell.done()
        return ready.feed(tell)

    return replace(ready, feed=taught)


def _few(data: Dataset, *, own: bool) -> int:
    """Return how many examples are tried: of own code a number that is no size of the data, so that no axis fits two.

    Times [b] that were not padded would else multiply two columns of two examples without a word.
    """
    sizes = {size for leaf in leaves(data.values) for size in leaf.shape[1:]}
    most = min(len(data), MOST_TRIED)
    return next((n for n in range(3, most + 1) if n not in sizes), most) if own else min(len(data), 2)


def _try(objective: Objective, network: nn.Module, batch: Batch, draws: Draws, asked: Asked) -> None:
    """Take one loss of a few examples, so that what does not fit together is refused before anything is written.

    Raises:
        InputError: If a recipe of the user's own fails, in its code or in what is made of it.
        UsageError: If there is not one loss for each example.
    """
    n = length(batch["x_1"]) if "x_1" in batch else 0
    with _trial(asked, n):
        if asked.code and isinstance(objective, Matching):
            check_pieces(objective, network, batch, draws)
        example = objective.draw(network, batch, draws)
        found = objective.loss(network, example)
    if asked.code:
        _check_loss(found, length(example), network, asked)


def _check_loss(found: Any, n: int, network: nn.Module, asked: Asked) -> None:
    """Refuse a loss of the user's that is not one number for each of n examples, or has no gradient.

    Raises:
        InputError: If it cannot be gone back through.
        UsageError: If there is not one loss for each example.
    """
    if not isinstance(found, Tensor):
        raise UsageError(
            f"the loss of {n} examples must be a tensor of one number for each, got {type(found).__name__}"
        )
    if found.shape != (n,):
        raise UsageError(f"the loss of {n} examples must be one number for each, [{n}], got {list(found.shape)}")
    if not found.requires_grad:
        raise InputError(
            f"the loss of {asked.recipe} has no gradient in the weights: something detaches, rounds or leaves torch"
        )
    with _trial(asked, n):
        found.mean().backward()
        network.zero_grad(set_to_none=True)


def _try_drawing(model: Model, n: int, draws: Draws, asked: Asked) -> None:
    """Draw samples in few calls, so that own code that is only drawn with fails now and not after the training.

    What weights that have learned nothing draw may be infinite.

    Raises:
        InputError: If it fails.
    """
    few = replace(model.description.sampling, calls=FEW)
    with _trial(asked, n), contextlib.suppress(Infinite):
        model.sample(n, sampling=few, draws=draws)


@contextlib.contextmanager
def _trial(asked: Asked, n: int) -> Iterator[None]:
    """Blame a recipe of the user's own for what fails in feller itself."""
    try:
        yield
    except (UsageError, InputError):
        raise
    except Exception as error:
        if not asked.code or blamed(error):  # the command line tells the line
            raise
        what = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{asked.recipe} fails at a trial of {n} examples, in what feller makes of it: {what}; FELLER_TRACEBACK=1"
            " before the command shows where"
        ) from error


def _bound(run: Run, begun: Begun, data: Dataset, here: Engine) -> Callable[[Prepared, Tell], Prepared]:
    """Return what makes the networks that the data need, and tells the objective what all the data are."""
    parts, kind = begun.recipe.parts, data.modality
    if parts is None:
        return lambda ready, tell: ready
    known = {*kind.modules} if begun.older is not None else set()
    known |= {"tokenizer"} if from_a_run(begun.asked.tokenizer) else set()
    making = Making(run=run, known=frozenset(known), seed=begun.asked.seed, here=here)

    def bound(ready: Prepared, tell: Tell) -> Prepared:
        if isinstance(kind, Speech) and isinstance(parts, SpeechParts):
            return replace(ready, description=speech_parts(making, parts, kind, ready.description, data, tell))
        if not isinstance(kind, Documents) or not isinstance(parts, DocumentParts):
            raise UsageError(f"the recipe's parts are {type(parts).__name__}, and {kind.called} have none of them")
        description, written = document_parts(making, parts, kind, ready.description, data, tell)
        tell.task("looking at the documents")
        objective = ready.objective.beside(written)
        tell.done()
        return replace(ready, description=description, objective=objective, feed=_feeding(begun, written))

    return bound


def _feeding(begun: Begun, data: Dataset) -> Callable[[Tell], Batches]:
    """Return what makes the batches of a fit."""
    return lambda tell: _feed(data, begun.recipe, begun.older, Draws(begun.asked.seed), tell)


def _feed(data: Dataset, recipe: Recipe, older: Model | None, draws: Draws, tell: Tell) -> Batches:
    """Return what gives each step its examples: the data, or pairs that the older model draws."""
    if not recipe.pairs:
        return batches(data, recipe.train.batch, draws, data.given["valid"].sum(1) if recipe.objective.cuts else None)
    if older is None:
        raise UsageError("this recipe draws pairs from an older model: name its run with --start-from")
    tell.task("drawing pairs")
    pairs = older.pairs(recipe.pairs, draws.named("pairs"), tell.progress)
    tell.done()
    return shuffled(pairs, recipe.train.batch, draws)
