"""Findings and summary of an audit for its report."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from feller.app.workflows.auditing import linear_reconstruction, noise_check, plan_calculator
from feller.app.workflows.auditing.attacks import Attacked
from feller.app.workflows.auditing.audit_target import Opened
from feller.app.workflows.auditing.fisher_leakage import ToldRows
from feller.app.workflows.auditing.gradient_inversion import ALARM, Inverted
from feller.app.workflows.auditing.retraining_attacks import candidates, flags
from feller.app.workflows.private import guarantee_text
from feller.app.workflows.run_config import Asked
from feller.evaluation.attacks.attack_scores import EXPLAIN, PLANTED, WAYS
from feller.evaluation.report.figure import Picture
from feller.evaluation.report.html import Grid
from feller.evaluation.report.leakage_plots import bounds_picture, guesses_picture
from feller.evaluation.report.page import Findings
from feller.evaluation.report.wording import capital, is_number, sentence
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


WITHOUT = (
    "This model was trained WITHOUT privacy: nothing bounds what it tells of single rows. What follows was measured,"
    " and proves nothing where it finds nothing."
)
CERTAIN = 0.995
"""Share of cells guessed right from which a bound promises nothing."""
TOLD = "Members of the training data and unseen examples, told apart: 0.5 and 0.01 are guessing."
BEYOND = "An attack that proves more than the ledger states would mean that the guarantee does not hold."
MEASURED = "How much single rows show"
SEEN = "What somebody could guess"
EXPOSED = "Of the rows that were watched, the most exposed above and the least exposed below: least error without bias"
SEEDED = "The noise was drawn from a seed that is written down: NOTHING is protected from who knows it. Beside that: "


def findings(
    it: Opened,
    numbers: Mapping[str, Any],
    found: Attacked,
    watched: ToldRows | None = None,
    shown: int = 10,
    inverted: Inverted | None = None,
) -> Findings:
    """Put together what the page shows."""
    run, asked, ledger, kind = it.run, it.asked, it.ledger, it.model.description.modality
    words = [] if ledger is None else plan_calculator.words(dict(numbers))
    pictures: list[tuple[str, Picture]] = []
    if watched is not None:
        caption = "How near an attacker without bias can come to each row"
        pictures.append((caption, bounds_picture(watched.least, watched.line, watched.spread)))
        if watched.picture is not None:
            pictures.append((EXPOSED, watched.picture))
    pictures += [] if inverted is None else inverted.pictures
    if found.guesses:
        pictures.append(("How often each cell is guessed right", guesses_picture(found.guesses)))
    return Findings(
        title=f"{asked.data}, fitted with the recipe {asked.recipe}: what could be learned about single rows",
        command=shlex.join(["feller", "audit", str(run.path), *flags(numbers)]),
        said=f"{SEEDED if _seeded(asked) else ''}{said(ledger, numbers)}",
        judged=" ".join(sentence(line) for line in words),
        numbers=numbers,
        explanations={
            **EXPLAIN,
            **guarantee_text.EXPLAIN,
            **plan_calculator.EXPLAIN,
            **linear_reconstruction.EXPLAIN,
            **noise_check.EXPLAIN,
        },
        promise=WITHOUT if ledger is None else guarantee_text.sentence(ledger, asked, kind),
        spent=ledger.lines() if ledger else (),
        beware=guarantee_text.beware(ledger),
        notes=found.notes,
        curve=None,
        pictures=pictures,
        measured=MEASURED,
        seen=SEEN,
        grids=[
            *([_attacks(numbers)] if any(f"{way}_auc" in numbers for way in WAYS) else []),
            *([_rebuilt(numbers)] if "rebuilt_error" in numbers else []),
            *candidates(numbers),
            *([_columns(found)] if found.guesses else []),
            *([_exposed(watched.most_exposed(shown))] if watched is not None else []),
            *(inverted.grids if inverted is not None else ()),
        ],
    )


def _seeded(asked: Asked) -> bool:
    return asked.private is not None and asked.private.unsafe_seed is not None


def _attacks(numbers: Mapping[str, Any]) -> Grid:
    """List the attacks on membership, each beside what the guarantee allows."""
    most = numbers.get("epsilon")
    rows = [
        (how, numbers[f"{way}_auc"], numbers[f"{way}_caught"], numbers[f"{way}_epsilon"], most)
        for way, how in WAYS.items()
        if f"{way}_auc" in numbers
    ]
    return Grid(
        "Who was learned from",
        TOLD if most is None else f"{TOLD} {BEYOND}",
        ("told", "area under ROC", "caught at 1 % false", "epsilon proven", "epsilon stated"),
        rows,
    )


def _rebuilt(numbers: Mapping[str, Any]) -> Grid:
    """Set an attack on single rows beside what bounds it."""
    steady = 2 * numbers.get("rebuilt_steady", 0) > numbers["rebuilt_rows"]
    least, known = numbers.get("fisher_median") if steady else None, numbers.get("fisher_with_prior")
    return Grid(
        "Rows rebuilt by who knows all others",
        "At the best weights the slopes of all rows add up to nothing, so those of the others tell the row, exactly"
        " where no noise is added. With much noise the answers are biased: then only the error over many rows is bound,"
        " by that of who knows what rows look like. Mean squared errors per number.",
        ("attack", "error", "least by its bound", "answering the mean"),
        [
            ("as it answers, the row in the middle", numbers["rebuilt_error"], least, numbers["spread"]),
            ("cut to 0 to 1, over all rows", numbers["rebuilt_error_known"], known, numbers["spread"]),
        ],
    )


def _exposed(rows: Sequence[tuple[int, float, float]]) -> Grid:
    """List the rows of which most was told."""
    return Grid(
        "The most exposed rows",
        "Of the rows of which account was kept, those of which most was told: least mean squared error of an"
        " attacker who knows all other rows and answers without bias. Above 1 in the last column, answering the mean is"
        " better, so that such an attacker learns nothing of use. Rows are numbered as they were learned from, from 0:"
        " these are no lines of the file where some of its rows were kept back.",
        ("row", "least error", "over that of answering the mean"),
        rows,
    )


def _columns(found: Attacked) -> Grid:
    """List what is guessed of each column."""
    return Grid(
        "Cells of a row, guessed by who knows all its others",
        "Without a model the commonest value is named. With it, people that it never saw are guessed better, too: that"
        " is knowledge of people in general. What it knows of its own rows beyond that is bounded in the last column.",
        ("column", "commonest value", "unseen rows", "learned rows", "learned rows at most"),
        [(one.name, one.before, one.others, one.members, _bound(one.bound)) for one in found.guesses],
    )


def _bound(share: float | None) -> float | str | None:
    """Return a bound, or that it is none: every cell may be guessed right."""
    return "1.00, which promises nothing" if share is not None and share >= CERTAIN else share
