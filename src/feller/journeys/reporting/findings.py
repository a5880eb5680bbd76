"""What an evaluation found, put together for its page."""

import datetime
import platform
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from feller import __version__
from feller.data import Backbones, Molecules, Points, Proteins
from feller.data.images.labelled import Labelled
from feller.data.modality import Dataset
from feller.data.molecules.balls import balls
from feller.data.proteins.frames import CA
from feller.data.proteins.modality import structures
from feller.data.proteins.trace import traces
from feller.data.table.modality import Table
from feller.data.text.modality import Text
from feller.data.text.page import MOST as MOST_TEXTS
from feller.description import Description
from feller.evaluate import change
from feller.evaluate.quality import EXPLAIN
from feller.evaluate.tables import as_written, cells, spread
from feller.journeys.asked import asked_of
from feller.journeys.exchange.brought import bringing, brought_of
from feller.journeys.fitting.at_once import is_found
from feller.journeys.onward import again, auditing, evaluating, fitting, onward, tuning
from feller.journeys.private import promise
from feller.journeys.private.purse import ledger_of
from feller.journeys.reporting.beside import tables_beside
from feller.journeys.reporting.judged import Judged
from feller.journeys.tuned import recipe_of, rule_of, tuned_of
from feller.journeys.unfinished import is_spent, stopped
from feller.record import from_data
from feller.report.grid import Grid
from feller.report.page import Findings
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.metrics import read_metrics
from feller.train.optimiser import Training

INSIDE = "Share of the samples that lie where the data can be; 1 is best. Only for sets that know where that is."
UNPROTECTED = (
    "Nothing is guaranteed about single rows: no --epsilon was asked for, so that samples and model may show rows of"
    " the table."
)
"""What is said first of tables, in which people may stand."""
MOST_SHOWN = {False: 100, True: 5000}
"""Pictures, and points."""


def findings(
    run: Run,
    about: Description,
    judged: Judged,
    numbers: dict[str, Any],
    notes: tuple[str, ...],
    earlier: tuple[str, ...] = (),
    sketch: str = "",
    grids: tuple[Grid, ...] = (),
) -> Findings:
    """Put together what the page shows; samples that no run drew here have neither training nor settings."""
    asked, recipe = asked_of(run), run.read_record(run.recipe)["recipe"]
    training, counters = from_data(Training, recipe["train"]), read_counters(run)
    own = judged.samples is None
    is_table = isinstance(judged.generated.modality, Table)
    tuned, ledger = tuned_of(run), ledger_of(run)
    said = brought_of(run)
    kind = f"fitted with the recipe {asked.recipe}" if tuned is None else f"tuned to {' and '.join(tuned.rewards)}"
    kind = kind if said is None else f"beside samples of the network of {asked.recipe}"
    title = f"{asked.data}, {kind}" if own else f"Samples in {judged.samples}"
    at_once = is_found(counters)
    is_done = at_once or training.share(counters["step"], counters["seconds"]) >= 1 or is_spent(run, asked)
    named = {"--samples": judged.samples, "--data": judged.data}
    if said is not None:
        whole = bringing(run, asked, said)
    elif tuned is not None:
        whole = tuning(run, asked, tuned, rule_of(recipe_of(run)), training)
    else:
        whole = fitting(run, asked, training)
    made = evaluating(run, asked, named) if any(named.values()) else whole
    shown = numbers if own else {name: value for name, value in numbers.items() if name not in ("steps", "seconds")}
    return Findings(
        title=title if judged.data is None else f"{title}, beside {judged.data}",
        command=made,
        made=datetime.datetime.now(datetime.UTC).date().isoformat(),
        unfinished=stopped(run, asked, training, counters) if own else "",
        sketch=sketch if is_done else "",
        judged=judged.sentence if ledger or not is_table else f"{judged.sentence} {UNPROTECTED}",
        described=asked.schema is not None,
        numbers=shown,
        explanations={
            **change.EXPLAIN,
            **EXPLAIN,
            **cells.EXPLAIN,
            **as_written.EXPLAIN,
            **spread.EXPLAIN,
            **promise.EXPLAIN,
            "inside": INSIDE,
        },
        missing=judged.missing(shown),
        promise=promise.sentence(ledger, asked, about.modality) if ledger else "",
        spent=(*ledger.lines(), *earlier) if ledger else (),
        beware=promise.beware(ledger),
        notes=(*(asked.notes if own else ()), *notes, *cells.told_lost(numbers)),
        settings=recipe if own else {},
        curve=read_metrics(run.metrics) if own and not at_once else None,
        pictures=tables_beside(judged, numbers) if isinstance(judged.generated.modality, Table) else _pictures(judged),
        grids=grids,
        next_steps=[
            *(onward(run, asked, about, judged.train) if own else ()),
            *(auditing(run, asked) if own else ()),
            (evaluating(run, asked, named), "measure again"),
            *(
                [again(run, asked, tuned, training if is_done else None, sketch if is_done else "")]
                if own and not at_once and (not is_done or asked.private is None)
                else ()
            ),
        ],
        versions={"feller": __version__, "torch": torch.__version__, "python": platform.python_version()},
    )


def _pictures(judged: Judged) -> list[tuple[str, Image.Image]]:
    """Show samples and real data, and say which these are."""
    unseen = len(judged.held_out) > 0
    real = judged.held_out if unseen else judged.train
    is_points = isinstance(judged.generated.values, Tensor) and judged.generated.values.ndim == 2
    number = min(len(judged.generated), len(real), MOST_SHOWN[is_points])
    theirs = "Real data that training did not see" if judged.data is None else f"Real data in {judged.data}"
    captions = (
        "Samples" if judged.samples is None else f"Samples in {judged.samples}",
        theirs if unseen else "Real data, from the training set",
    )
    some = _spread(judged.generated, number)
    shown = list(zip(captions, side_by_side(some, _spread(real, number)), strict=True))
    if judged.before is None:
        return shown
    first, _ = side_by_side(_spread(judged.before, number), some)
    return [("Before tuning, from the same source points", first), *shown]


def _spread(data: Dataset, number: int) -> Dataset:
    """Return examples from all over the data, as neighbouring windows of a text overlap, sorted by class.

    Of texts, of which a page holds few, no more than it holds: sorted, others would push all but the first class out.
    """
    number = min(number, MOST_TEXTS) if isinstance(data.modality, Text) else number
    label = data.values["label"] if isinstance(data.modality, Labelled) else data.given.get("label")
    rows = torch.arange(number) * len(data) // max(number, 1)
    if label is None:
        return data.subset(rows)
    by_class = label.cpu().argsort(stable=True)
    return data.subset(by_class[rows])  # each class with its share of the data


def side_by_side(first: Dataset, second: Dataset, behind: Dataset | None = None) -> tuple[Image.Image, Image.Image]:
    """Draw two sets of one kind, at one scale where what is drawn has lengths; points have others in grey behind."""
    kind = first.modality
    if isinstance(kind, Proteins):
        return side_by_side(structures(first), structures(second))
    if isinstance(kind, Backbones):
        a, b = ([atoms[:, CA] for atoms in kind.chains(some.values, some.given)] for some in (first, second))
        return traces(a, beside=b), traces(b, beside=a)
    if isinstance(kind, Molecules):
        one, other = (kind.molecules(some.values, some.given) for some in (first, second))
        return balls(one, beside=other), balls(other, beside=one)
    if isinstance(kind, Points):
        return kind.show_beside(first, second, behind), kind.show_beside(second, first, behind)
    return kind.show(first.values, first.given), second.modality.show(second.values, second.given)
