"""What a private run promises, in words for people who do not know what epsilon is."""

import math

from feller.app.webui.loaded_run import Opened
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.guarantee_text import sentence
from feller.app.workflows.run_config import asked_of


def promise_of(one: Opened) -> str:
    """Return what is guaranteed, and what that means; nothing of a run without privacy.

    Raises:
        InputError: If the ledger is damaged.
    """
    ledger = None if one.is_bridge else ledger_of(one.run)
    if ledger is None or one.modality is None:
        return ""
    return f"{sentence(ledger, asked_of(one.run), one.modality)}\n{odds(ledger.epsilon(), ledger.delta)}"


def odds(epsilon: float, delta: float) -> str:
    """Say how often a guess is right at best: e^epsilon / (1 + e^epsilon) of an even chance, and delta beyond.

    Source: Kairouz, Oh and Viswanath 2015, "The composition theorem for differential privacy", arXiv 1311.0776: the
    best test between two data sets has that error.
    """
    right = min(1.0, (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon)))
    worth = "hardly better than a coin" if right < 0.6 else "better than a coin, never sure" if right < 0.99 else ""
    return (
        "In words: somebody who knows all other rows, and tosses a coin over whether one more row was learned from, is"
        f" right in 50 of 100 cases without the model, and in at most {math.ceil(1000 * right) / 10:g} of 100 with it"
        + (f": {worth}." if worth else ": that bound alone keeps nothing back, so look at the audit.")
    )
