"""Rows that are read from private gradients, by who knows all other rows, beside what bounds that."""

import torch
from torch import nn

from feller.app.reporter import Tell
from feller.app.workflows.auditing.audit_target import Opened
from feller.app.workflows.auditing.gradient_attack import FEWEST, ROUNDS, Attack
from feller.app.workflows.auditing.inverted_words import Inverted, told
from feller.app.workflows.private.guarantee import Guarantee
from feller.app.workflows.private.leakage_report import NUMBERS, numbers_of
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.models.model import load_model
from feller.privacy.dp_sgd.per_example_clipping import trained
from feller.privacy.leakage.kinks import kinks
from feller.spaces import Euclidean, Product, Space
from feller.training.checkpoint import read_counters
from feller.training.engine import engine

ROWS, LEAST = 16, 4
"""That are attacked, and at least for a large network."""
SPACE = 2**27
"""Numbers of gradients that are held at once."""
LARGEST = 2**23
"""Weights of a network beyond which none is tried."""


def invert(it: Opened, draws: Draws, tell: Tell) -> Inverted:
    """Attack rows with what private steps at the run's last weights would tell of them.

    Args:
        it: A private run.
        draws: Source of all randomness.
        tell: Hears how it goes.
    """
    run, objective, train, planned = it.run, it.objective, it.train, it.asked.private
    if not isinstance(planned, Guarantee):
        return Inverted({})
    network = load_model(run, file=run.weights).network.to(engine().device)
    if objective is None or (why := _why_not(network, train)):
        why = "the loss of this model needs an older model" if objective is None else why
        return Inverted({}, notes=(f"no row is read from gradients: {why}",))
    tell.task("reading rows from gradients")
    size = sum(weight.numel() for weight in trained(network).values())
    count = min(ROWS, max(LEAST, SPACE // (ROUNDS * FEWEST * size)))
    which = torch.randperm(len(train), generator=draws.at("rows").shared())[:count].sort().values
    attack = Attack(network, objective, train, which, planned, draws)
    found = told(attack, attack.found(read_counters(run)["step"]))
    tell.done()
    return found


def _why_not(network: nn.Module, train: Dataset) -> str:
    """Say why gradients cannot be inverted; nothing where they can."""
    numbers = numbers_of(train.modality.encode(train.values))
    if numbers is None:
        return "rows are symbols to this model"
    if not numbers.flatten(1).double().var(0, correction=0).any():
        return "all rows are alike"
    if not _is_flat(train.modality.space()):
        return "rows are points of a curved space"
    if sharp := kinks(network):
        return f"{sharp[0]} jumps in its slope, so that no information bounds what is told"
    size = sum(weight.numel() for weight in trained(network).values())
    return f"its {size:,} weights are too many to lay out" if size > LARGEST else ""


def _is_flat(space: Space) -> bool:
    return isinstance(space.parts.get(NUMBERS) if isinstance(space, Product) else space, Euclidean)
