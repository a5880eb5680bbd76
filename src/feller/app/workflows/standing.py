"""How a run stands: how far it came, what was promised of its rows and what that cost, as all its pages say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feller.app.workflows.fine_tuned_run import Tuned
from feller.app.workflows.fitting.closed_form import is_found
from feller.app.workflows.next_steps import again
from feller.app.workflows.private import guarantee_text
from feller.app.workflows.private.budget import ledger_of
from feller.app.workflows.private.spent import earlier_lines
from feller.app.workflows.run_config import Asked, training_of
from feller.app.workflows.unfinished import is_spent, stopped
from feller.core.run_folder import Run
from feller.data.modality import Dataset, Modality
from feller.evaluation.report.loss_curve import Curve
from feller.privacy.accounting.ledger import Ledger
from feller.training.checkpoint import read_counters
from feller.training.metrics_log import read_metrics
from feller.training.optimizer import Training


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """What the folder of a run tells, whatever is measured of its model."""

    run: Run
    asked: Asked
    kind: Modality
    """Of what the model draws or takes."""
    recipe: Mapping[str, Any]
    """As it is recorded."""
    training: Training
    """What was planned."""
    counters: dict[str, Any]
    """What was done."""
    ledger: Ledger | None
    """What its rows were charged; None of a run that is not private."""
    earlier: Sequence[str]
    """What other fits of the same rows spent, line by line."""

    @property
    def at_once(self) -> bool:
        """Whether the model was found by a look at all rows, without any training."""
        return is_found(self.counters)

    @property
    def is_done(self) -> bool:
        """Whether all was done that was planned, or all that may be."""
        enough = self.training.share(self.counters["step"], self.counters["seconds"]) >= 1
        return self.at_once or enough or is_spent(self.run, self.asked)

    @property
    def unfinished(self) -> str:
        """Why it is not complete, and how to go on; empty if it is."""
        return stopped(self.run, self.asked, self.training, self.counters)

    @property
    def numbers(self) -> dict[str, Any]:
        """Return what was promised, in numbers, how many steps there were and how long they took."""
        promised = guarantee_text.promised(self.ledger) if self.ledger else {}
        return {**promised, **guarantee_text.timing(self.counters, self.ledger)}

    @property
    def promise(self) -> str:
        """What is guaranteed of the rows, to be quoted."""
        return guarantee_text.sentence(self.ledger, self.asked, self.kind) if self.ledger else ""

    @property
    def spent(self) -> Sequence[str]:
        """What was paid for in privacy, line by line."""
        return (*self.ledger.lines(), *self.earlier) if self.ledger else ()

    @property
    def beware(self) -> str:
        """What is not covered by the promise."""
        return guarantee_text.beware(self.ledger)

    @property
    def curve(self) -> Curve | None:
        """The recorded steps; None where there were none."""
        return None if self.at_once else read_metrics(self.run.metrics)

    def again(self, tuned: Tuned | None = None, sketch: str = "") -> list[tuple[str, str]]:
        """Return the command that trains more, and what it does; none where no more training can be.

        Args:
            tuned: What a tuning was asked for.
            sketch: What is said of a run that had little training.
        """
        if self.at_once or (self.is_done and self.asked.private is not None):
            return []
        return [again(self.run, self.asked, tuned, self.training if self.is_done else None, sketch)]


def standing(run: Run, asked: Asked, kind: Modality, data: Dataset) -> Standing:
    """Read how a run stands.

    Args:
        run: Its folder.
        asked: What was asked of it.
        kind: Of what the model draws or takes.
        data: All that it was fitted to, which earlier fits may have spent of.

    Raises:
        InputError: If a file of it is damaged.
    """
    recipe, ledger = run.part_of(run.recipe, "recipe"), ledger_of(run)
    return Standing(
        run=run,
        asked=asked,
        kind=kind,
        recipe=recipe,
        training=training_of(run),
        counters=read_counters(run),
        ledger=ledger,
        earlier=earlier_lines(run, asked.data, data) if ledger else (),
    )
