"""From a run to what could be learned about single rows, and what bounds it."""

from typing import Any

from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.read import read
from feller.draws import Draws
from feller.errors import InputError, UsageError
from feller.journeys.asked import Asked, asked_of, parts, read_again, same_data
from feller.journeys.attacked import attack
from feller.journeys.audited import ToldRows, findings
from feller.journeys.calculate import reconstruction
from feller.journeys.private.exposed import exposed, numbers_of
from feller.journeys.private.promise import promised
from feller.journeys.private.purse import ledger_of
from feller.journeys.tell import SILENT, Tell
from feller.journeys.tuned import recipe_of, tuned_of
from feller.model import Model, load_model
from feller.objective import Objective
from feller.paths import Brownian, Estimates
from feller.privacy.ledger import Ledger
from feller.privacy.reconstruct import mse_bound, van_trees
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
    tell: Tell = SILENT,
) -> dict[str, Any]:
    """Say what is promised about rows, what bounds their reconstruction, and what attacks reach; write the page.

    Args:
        run: Holds the model, and the ledger of a private one.
        data: The rows that it learned from; by default where the fit found them.
        shown: So many of the most exposed rows are named.
        seed: Of all randomness.
        tell: Hears how it goes.

    Returns:
        The numbers that the page shows, and where it is under `report`.

    Raises:
        InputError: If the ledger is not that of the run, or the data are not those that it learned from.
        UsageError: If the run is of a kind that no audit knows.
    """
    model = load_model(run)
    model.network.to(engine().device)
    _check_kind(run, model)
    asked = asked_of(run)
    ledger = _ledger(run, asked)
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
    shown_rows = None if ledger is None else _told(run, train, numbers, shown)
    found = attack(model, _objective(run), train, held_out, expenses, delta, draws, tell)
    numbers |= found.numbers
    for note in found.notes:
        tell.say(note)
    page = findings(run, asked, model.description.modality, ledger, numbers, found, shown_rows)
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
    least = 1 / eta2
    numbers |= {
        "fisher_rows": len(eta2),
        "fisher_least": least.min().item(),
        "fisher_median": least.median().item(),
        "fisher_with_prior": van_trees(eta2.mean().item(), spread**0.5),
        "spread": spread,
    }
    line = mse_bound(numbers["epsilon_2"], 2.0) if isinstance(train.modality, Images) else None
    order = least.argsort()[:shown]
    rows = [(int(found.rows[i]), least[i].item(), least[i].item() / spread) for i in order.tolist()]
    return ToldRows(least.numpy(), line, spread, rows)


def _check_kind(run: Run, model: Model) -> None:
    """Refuse runs that hold no model of examples.

    Raises:
        UsageError: Then.
    """
    path = model.description.path
    if isinstance(path, Brownian | Estimates):
        kind = "joins populations" if isinstance(path, Brownian) else "tells numbers of data"
        raise UsageError(f"{run.path} {kind}; an audit is about a model that draws examples")
    if tuned_of(run) is not None:
        raise UsageError(f"{run.path} was tuned and learned from no rows itself; audit the run that it began with")


def _ledger(run: Run, asked: Asked) -> Ledger | None:
    """Return what was spent, if the run is private.

    Raises:
        InputError: If the ledger is missing, or of another run.
    """
    ledger = ledger_of(run)
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
