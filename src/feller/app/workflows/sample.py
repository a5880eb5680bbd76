"""From a run folder to samples."""

import os
import pathlib

from feller.app.reporter import SILENT, Tell
from feller.app.workflows.sampler import complete_rows, ready
from feller.core.errors import UsageError
from feller.core.output_shards import check_numbers
from feller.core.run_folder import Run, as_run
from feller.data.modality import Dataset, Modality
from feller.data.tables.mixed import Mixed
from feller.data.tables.modality import Table
from feller.models.model import OnStep, unseen
from feller.paths import Choice, Order
from feller.paths.discrete.rates import Rates
from feller.training.engine import engine

MANY = 250_000
"""Samples beyond which people hear that they need not be held all at once."""


def sample(
    run: Run | str | os.PathLike[str],
    n: int = 64,
    *,
    out: str | None = None,
    given: dict[str, str] | None = None,
    guidance: float = 1.0,
    solver: str | None = None,
    calls: int | None = None,
    choice: Choice | None = None,
    order: Order | None = None,
    rates: Rates | None = None,
    jump: float | None = None,
    known: str | None = None,
    complete: str | None = None,
    weights: pathlib.Path | None = None,
    compiled: bool = False,
    seen: OnStep = unseen,
    seed: int = 0,
    tell: Tell = SILENT,
) -> tuple[Dataset, pathlib.Path]:
    """Draw samples and write them.

    Args:
        run: Holds the model; or its folder.
        n: Number of samples.
        out: A file whose ending decides the form, or a folder; by default `samples` in the run.
        given: Conditions by name, such as {"label": "7"}; others are drawn as often as in the training data.
        guidance: 1 is the plain conditional, 0 the unconditional, more sharpens.
        solver: Name of a solver; by default the model's own.
        calls: Network calls per sample; dopri5 chooses its own.
        choice: How symbols are drawn from what the network says; by default as it says.
        order: Which masked symbols are revealed first; by default chance decides.
        rates: Rates of the jumps of symbols; by default those of the model.
        jump: Share of the jumps in a superposition of flow and jumps, for models that can do both.
        known: Text to fill in: `___` stands for what is missing, an underscore a symbol, as does all after its end.
        complete: Table whose gaps are filled, in place of n new rows.
        weights: Which of the run's weights draw; by default their average.
        compiled: Compile the network first, which pays for many samples only.
        seen: Hears time and states of a batch on their way, of a process in time.
        seed: Of all randomness.
        tell: Hears how it goes.

    Returns:
        The samples, and where they are.

    Raises:
        InputError: If the run is damaged, or the disk is full.
        UsageError: If an argument is wrong.
    """
    run = as_run(run)
    check_numbers(n=n)
    drawing = ready(
        run,
        given=given,
        guidance=guidance,
        solver=solver,
        calls=calls,
        choice=choice,
        order=order,
        rates=rates,
        jump=jump,
        known=known,
        weights=weights,
        compiled=compiled,
        seen=seen,
        seed=seed,
        tell=tell,
    )
    modality, place = drawing.model.description.modality, run.place(out)
    modality.check_place(place)
    if complete is not None:
        _check_complete(modality, given or {})
        return complete_rows(drawing.model, complete, place, drawing.sampling, drawing.draws, tell)
    drawing.check()
    if n > MANY:
        tell.say(f"all {n:,} samples are held in memory; with --shard 100000 they go to several files, one at a time")
    tell.task("sampling")
    drawn = drawing.draw(n, ranks=engine(), tell=tell.progress)
    tell.done()
    if engine().is_first:
        drawing.write(drawn, place)
    engine().wait()  # until what was written is there for all
    return drawn, place


def _check_complete(modality: Modality, given: dict[str, str]) -> None:
    """Refuse to fill gaps where there can be none.

    Raises:
        UsageError: Then.
    """
    if modality.view(Mixed):
        raise UsageError("this model draws all columns together, and fills no gaps; fit one with --recipe table")
    if not modality.view(Table):
        raise UsageError("--complete fills the gaps of a table, and this model's data are no table; leave it out")
    if given:
        raise UsageError("--complete takes what is given from its table; leave --given out")
