"""What an audit came to, in the one sentence that is quoted."""

from collections.abc import Mapping
from typing import Any

from feller.app.workflows.auditing.inverted_words import ALARM
from feller.evaluation.attacks.explained import PLANTED, WAYS
from feller.evaluation.report.wording import capital, is_number
from feller.privacy.accounting.ledger import Ledger

GUESSING = 0.5
"""Area under ROC of who tosses a coin."""
SUSPECT = 0.55
"""Area under ROC from which members are told apart."""
WEAK = 0.9
"""Chance to guess right what is guessed once in ten without the model, beyond which next to nothing is bounded."""
MORE = 0.01
"""Share of copies beyond that of unseen data which is told first."""


def said(ledger: Ledger | None, numbers: Mapping[str, Any]) -> str:
    """Say in one sentence what the audit came to."""
    if ledger is None:
        return _without(numbers)
    epsilon, proven = numbers["epsilon"], max((numbers.get(f"{way}_epsilon") or 0.0 for way in WAYS), default=0.0)
    if numbers.get("noise_held", 1.0) < numbers.get("noise_held_least", 0.0):
        return f"ALARM: the weights hold {numbers['noise_held']:.3g} of the noise that the ledger counts."
    if numbers.get("rebuilt_below"):
        return f"ALARM: an attack rebuilds {numbers['rebuilt_below']} rows nearer than the bound that applies to it."
    if numbers.get("inversion_below"):
        return ALARM
    if proven > epsilon:
        return f"ALARM: attacks prove epsilon {proven:.3g}, above the {epsilon:.3g} that the ledger states."
    if (numbers.get("candidates_least") or 0.0) > (numbers.get("candidates_bound") or 1.0):
        named, most = numbers["candidates_right"], numbers["candidates_bound"]
        return f"ALARM: an attacker names {named:.3g} of the candidates, and the ledger allows {most:.3g}."
    guess = numbers.get("guess_0.1") or 0.0
    if guess > WEAK:
        return (
            f"Epsilon {epsilon:.3g} at delta {ledger.delta:.3g} bounds next to nothing: a value that is guessed right"
            f" once in ten without the model may be guessed right in {guess:.3g} with it; {_tried(numbers)}."
        )
    return (
        f"{capital(_tried(numbers))}. Epsilon {epsilon:.3g} at delta {ledger.delta:.3g} holds against all that was"
        " tried."
    )


def _without(numbers: Mapping[str, Any]) -> str:
    """Say the worst that was found of a model that was trained without privacy."""
    error, spread = numbers.get("rebuilt_error"), numbers.get("spread")
    if error is not None and spread is not None and error < spread:
        return (
            "Trained without privacy, and rows can be read from it: who knows all others rebuilds the row in the"
            f" middle with a mean squared error of {error:.3g}, where answering the mean errs by {spread:.3g}."
        )
    for name, what in (("copies", "samples count as training examples"), ("passages", "texts hold a training passage")):
        share, others = numbers.get(name), numbers.get(f"{name}_held_out") or 0.0
        if share is not None and share > others + MORE:
            return (
                f"Trained without privacy, and it copies: {share:.1%} of the {what}, {others:.1%} of unseen data;"
                f" {_tried(numbers)}."
            ).replace("%", " %")
    worst = _worst(numbers)
    if worst is not None and worst > SUSPECT:
        return f"Trained without privacy, and members are told from others: {_tried(numbers)}."
    nothing = f"Trained without privacy, so that nothing bounds what it tells of single rows; {_tried(numbers)}"
    if worst is None:
        return f"{nothing}, which proves nothing."
    return f"{nothing}: {'no' if round(worst, 3) <= GUESSING else 'little'} better, which proves nothing."


def _tried(numbers: Mapping[str, Any]) -> str:
    worst = _worst(numbers)
    if worst is None:
        return "no attack could be tried that tells members from others"
    return f"the best attack tells members from others with an area under ROC of {worst:.3f}, where 0.5 is guessing"


def _worst(numbers: Mapping[str, Any]) -> float | None:
    """Return the largest area under ROC of what was tried on members; None if nothing was."""
    areas = (numbers.get(f"{way}_auc") for way in WAYS if way not in PLANTED)
    return max(filter(is_number, areas), default=None)
