"""From a run to what could be learned about single rows, and what bounds it."""

import math
from dataclasses import replace
from typing import Any

from feller.data.modality import Dataset
from feller.data.read import read
from feller.draws import Draws
from feller.errors import InputError, UsageError
from feller.journeys.asked import Asked, asked_of, parts, read_again, same_data
from feller.journeys.auditing.attacked import attack, attack_told
from feller.journeys.auditing.calculate import reconstruction
from feller.journeys.auditing.inverted import invert
from feller.journeys.auditing.noise_held import check_charged, check_held
from feller.journeys.auditing.page import findings
from feller.journeys.auditing.rebuilt import rebuilt_rows
from feller.journeys.auditing.retrained import Retraining
from feller.journeys.auditing.told_rows import ToldRows, all_rows, watched_rows
from feller.journeys.private.guarantee import Allowance
from feller.journeys.private.promise import promised
from feller.journeys.private.purse import own_ledger
from feller.journeys.tell import SILENT, Tell
from feller.journeys.tuned import recipe_of, tuned_of
from feller.model import Model, load_model
from feller.objective import Objective
from feller.paths import Brownian, Estimates
from feller.perturbation import Perturbation
from feller.privacy.ledger import Ledger
from feller.report.page import write_report
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.engine import engine

NAME = "audit"
"""Of the page, behind `report-`."""


def audit(
    run: Run,
    *,
    data: str | None = None,
    shown: int = 10,
    seed: int = 0,
    shadows: int | None = None,
    canaries: int | None = None,
    tell: Tell = SILENT,
) -> dict[str, Any]:
    """Say what is promised about rows, what bounds their reconstruction, and what attacks reach; write the page.

    Args:
        run: Holds the model, and the ledger of a private one.
        data: The rows that it learned from; by default where the fit found them.
        shown: So many of the most exposed rows are named.
        seed: Of all randomness.
        shadows: Models that are trained again, to tell members by; none by default.
        canaries: Rows that are planted in a training of its own, to be found; none by default.
        tell: Hears how it goes.

    Returns:
        The numbers that the page shows, and where it is under `report`.

    Raises:
        InputError: If the ledger is not that of the run, or the data are not those that it learned from.
        UsageError: If the run is of a kind that no audit knows, or cannot be trained again.
    """
    model = load_model(run)
    model.network.to(engine().device)
    _check_kind(run, model)
    asked = asked_of(run)
    ledger = _ledger(run, asked)
    retraining = Retraining.of(run, asked, model, ledger, shadows, canaries)
    train, held_out = parts(asked, _rows(asked, model, data))
    draws = Draws(seed).named("audit")
    numbers: dict[str, Any] = {}
    if ledger is None:
        tell.say("this model was trained WITHOUT privacy: nothing bounds what it tells of single rows")
    else:
        tell.task("counting")
        numbers |= {**promised(ledger), **reconstruction(ledger.expenses)}
        tell.done()
    expenses, delta = (ledger.expenses, ledger.delta) if ledger else ((), 0.0)
    objective = _objective(run)
    if isinstance(objective, Perturbation):
        if ledger is not None and isinstance(asked.private, Allowance):
            check_charged(run, ledger, asked.private)
        rows = _rebuilt(run, model, objective, asked, train, numbers, draws.named("rebuilt"), tell)
    else:
        rows = None if ledger is None else watched_rows(run, train, numbers["epsilon_2"])
    numbers |= {} if rows is None else rows.numbers
    tells = isinstance(model.description.path, Estimates)
    if tells:
        found = attack_told(model, objective, train, held_out, expenses, delta, draws, tell)
    else:
        found = attack(model, objective, train, held_out, expenses, delta, draws, tell)
    found = retraining.beside(found, model, train, held_out, draws, tell)
    numbers |= found.numbers
    inverted = None if ledger is None or tells else invert(run, objective, train, draws.named("inversion"), tell)
    if inverted is not None:
        numbers |= inverted.numbers
        found = replace(found, notes=(*found.notes, *inverted.notes))
    for note in found.notes:
        tell.say(note)
    page = findings(run, asked, model.description.modality, ledger, numbers, found, rows, shown, inverted)
    tell.say(page.said)
    write_report(run.path, page, f"report-{NAME}")
    return {**numbers, "report": f"{run.path / f'report-{NAME}.html'}"}


def _rebuilt(
    run: Run,
    model: Model,
    objective: Perturbation,
    asked: Asked,
    train: Dataset,
    numbers: dict[str, Any],
    draws: Draws,
    tell: Tell,
) -> ToldRows | None:
    """Rebuild rows of a linear model, and add the numbers; None where no noise bounds what is told."""
    tell.task("rebuilding rows from the weights and all others")
    rho = asked.private.rho if isinstance(asked.private, Allowance) else math.inf
    found = rebuilt_rows(objective, train, rho, draws)
    tell.done()
    numbers |= found.numbers
    if math.isinf(rho):
        return None
    numbers |= check_held(run, model.network, found.minimum.theta, objective.scale(len(train), rho)).numbers
    return all_rows(found, train, numbers["epsilon_2"])


def _check_kind(run: Run, model: Model) -> None:
    """Refuse runs that hold no model of examples.

    Raises:
        UsageError: Then.
    """
    if isinstance(model.description.path, Brownian):
        raise UsageError(f"{run.path} joins populations; an audit is about a model of one")
    if tuned_of(run) is not None:
        raise UsageError(f"{run.path} was tuned and learned from no rows itself; audit the run that it began with")


def _ledger(run: Run, asked: Asked) -> Ledger | None:
    """Return what was spent, if the run is private.

    Raises:
        InputError: If the ledger is missing, or of another run.
    """
    ledger = own_ledger(run, asked.fingerprint)
    if (ledger is None) != (asked.private is None):
        missing = "is missing" if ledger is None else "is of another run: this one was trained without privacy"
        raise InputError(f"{run.ledger} {missing}; bring the right one back")
    if ledger is None or asked.private is None:
        return None
    planned, taken = asked.private, read_counters(run)["step"]
    counted = sum(getattr(one, "steps", 0) for one in ledger.expenses)
    if (ledger.n, ledger.delta) != (planned.n, planned.delta) or taken > counted:
        raise InputError(
            f"{run.ledger} is of another run: it counts {counted:,} steps on {ledger.n:,} rows, and this run took"
            f" {taken:,} on {planned.n:,}; bring the right one back"
        )
    return ledger


def _rows(asked: Asked, model: Model, data: str | None) -> Dataset:
    """Read the rows that the run learned from, as the model sees them.

    Raises:
        InputError: If they are others.
    """
    modality = model.description.modality
    if data is None:
        return read_again(asked, modality).seen_as(modality)
    rows = read(data, size=asked.longest, like=modality)
    if not same_data(asked, rows):
        raise InputError(
            f"{data} is not what this run learned from: its fingerprint is another; name the rows that were fitted"
        )
    return rows.seen_as(modality)


def _objective(run: Run) -> Objective | None:
    """Return what the run was trained by; None where it needs an older model beside it."""
    recipe = recipe_of(run)
    taught = type(recipe.objective).taught is not Objective.taught
    return None if taught or recipe.pairs else recipe.objective
