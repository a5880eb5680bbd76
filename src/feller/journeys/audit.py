"""From a run to what could be learned about single rows, and what bounds it."""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64, Int64
from PIL import Image
from torch import Tensor

from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.read import read
from feller.draws import Draws
from feller.errors import InputError, UsageError
from feller.journeys.asked import Asked, asked_of, parts, read_again, same_data
from feller.journeys.attacked import attack, attack_told
from feller.journeys.audited import ToldRows, findings
from feller.journeys.calculate import reconstruction
from feller.journeys.inverted import invert
from feller.journeys.private.exposed import exposed, numbers_of
from feller.journeys.private.guarantee import Allowance
from feller.journeys.private.promise import promised
from feller.journeys.private.purse import own_ledger
from feller.journeys.rebuilt import rebuilt_rows
from feller.journeys.retrained import Retraining
from feller.journeys.tell import SILENT, Tell
from feller.journeys.tuned import recipe_of, tuned_of
from feller.model import Model, load_model
from feller.objective import Objective
from feller.paths import Brownian, Estimates
from feller.perturbation import Perturbation
from feller.privacy.ledger import Ledger
from feller.privacy.reconstruct import mse_bound, van_trees_at_best
from feller.report.exposed_rows import exposed_picture
from feller.report.page import write_report
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.engine import engine

NAME = "audit"
"""Of the page, behind `report-`."""
MOST_ROWS = 2_000
"""By which it is told in which directions rows vary."""


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
    shown_rows = None if ledger is None else _told(run, train, numbers, shown)
    if isinstance(objective, Perturbation):
        shown_rows = _rebuilt(objective, asked, train, numbers, shown, draws, tell)
    if isinstance(model.description.path, Estimates):
        found = attack_told(model, objective, train, held_out, delta, draws, tell)
    else:
        found = attack(model, objective, train, held_out, expenses, delta, draws, tell)
    found = retraining.beside(found, model, train, held_out, draws, tell)
    numbers |= found.numbers
    tells = isinstance(model.description.path, Estimates)
    inverted = None if ledger is None or tells else invert(run, objective, train, draws.named("inversion"), tell)
    if inverted is not None:
        numbers |= inverted.numbers
        found = replace(found, notes=(*found.notes, *inverted.notes))
    for note in found.notes:
        tell.say(note)
    page = findings(run, asked, model.description.modality, ledger, numbers, found, shown_rows, inverted)
    tell.say(page.said)
    write_report(run.path, page, f"report-{NAME}")
    return {**numbers, "report": f"{run.path / f'report-{NAME}.html'}"}


def _told(run: Run, train: Dataset, numbers: dict[str, Any], shown: int) -> ToldRows | None:
    """Return what the training told about rows that were watched, and add its numbers; None where none were."""
    found = exposed(run)
    if found is None:
        return None
    eta2 = found.scaled_to(read_counters(run)["step"])
    values = numbers_of(train.modality.encode(train.values))
    if values is None:
        raise InputError(f"{run.exposure} is about rows with numbers, and this run's have none; remove it")
    spread = values.flatten(1).double().var(0).mean().item()
    line = mse_bound(numbers["epsilon_2"], 2.0) if isinstance(train.modality, Images) else None
    picture = exposed_picture(train, found.rows, 1 / eta2)
    return told_rows(eta2, spread, line, numbers, shown, _variances(values), found.rows, picture)


def told_rows(
    eta2: Float64[Tensor, " n"],
    spread: float,
    line: float | None,
    numbers: dict[str, Any],
    shown: int,
    variances: Float64[Tensor, " d"],
    places: Int64[Tensor, " n"] | None = None,
    picture: Image.Image | None = None,
) -> ToldRows:
    """Put together what is told about some rows, and add its numbers.

    Args:
        eta2: Information per number about each.
        spread: Mean squared error of answering the mean.
        line: The bound for all rows, in the same units.
        numbers: Are added to.
        shown: So many of the most exposed are named.
        variances: Of rows, in their own directions.
        places: Of the rows in what was learned from; by default they are all.
        picture: Of the most and the least exposed.
    """
    least = 1 / eta2
    numbers |= {
        "fisher_rows": len(eta2),
        "fisher_least": least.min().item(),
        "fisher_median": least.median().item(),
        "fisher_with_prior": van_trees_at_best(eta2.mean().item(), variances),
        "spread": spread,
    }
    order = least.argsort()[:shown]
    names = order if places is None else places[order]
    rows = [(int(names[k]), least[i].item(), least[i].item() / spread) for k, i in enumerate(order.tolist())]
    return ToldRows(least.cpu().numpy(), line, spread, rows, picture)


def _rebuilt(
    objective: Perturbation, asked: Asked, train: Dataset, numbers: dict[str, Any], shown: int, draws: Draws, tell: Tell
) -> ToldRows | None:
    """Rebuild rows of a linear model, and add the numbers; None where no noise bounds what is told."""
    tell.task("rebuilding rows from the weights and all others")
    rho = asked.private.rho if isinstance(asked.private, Allowance) else math.inf
    found = rebuilt_rows(objective, train, rho, draws.named("rebuilt"))
    tell.done()
    rebuilt = found.rebuilt
    numbers |= {
        "rebuilt_rows": len(rebuilt.which),
        "rebuilt_error": rebuilt.error.median().item(),
        "rebuilt_error_known": rebuilt.error_known.mean().item(),
        "spread": found.spread,
    }
    if math.isinf(rho):
        return None
    numbers |= {"rebuilt_steady": int(rebuilt.steady.sum()), "rebuilt_below": int(rebuilt.below.sum())}
    numbers["label_least"] = (1 / found.labels.max()).item()
    return told_rows(
        found.eta2, found.spread, mse_bound(numbers["epsilon_2"]), numbers, shown, _variances(found.minimum.x[:, 1:])
    )


def _variances(values: Tensor) -> Float64[Tensor, " d"]:
    """Return the variances of rows in their own directions, by at most MOST_ROWS of them."""
    rows = values.flatten(1)[torch.randperm(len(values), generator=Draws(0).at("variances").shared())[:MOST_ROWS]]
    rows = rows.double() - rows.double().mean(0)
    found = torch.linalg.svdvals(rows).square() / len(rows)
    return torch.cat([found, found.new_zeros(rows.shape[1] - len(found))])


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
