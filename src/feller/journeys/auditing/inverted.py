"""Rows that are read from private gradients, by who knows all other rows, beside what bounds that."""

import torch
from torch import nn

from feller.data.modality import Dataset
from feller.draws import Draws
from feller.journeys.auditing.gradient_attack import FEWEST, ROUNDS, Attack
from feller.journeys.auditing.inverted_words import Inverted, told
from feller.journeys.auditing.opened import Opened
from feller.journeys.private.exposed import NUMBERS, numbers_of
from feller.journeys.private.guarantee import Guarantee
from feller.journeys.tell import Tell
from feller.model import load_model
from feller.privacy.kinks import kinks
from feller.privacy.weights import trained
from feller.spaces import Euclidean, Product, Space
from feller.train.checkpoint import read_counters
from feller.train.engine import engine

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
