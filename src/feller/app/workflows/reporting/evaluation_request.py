"""Request for an evaluation of a model."""

from dataclasses import dataclass

from feller.app.reporter import Reporter
from feller.core.run_folder import Run
from feller.evaluation.evaluation_budget import EvaluationBudget
from feller.models.model import Model


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationRequest:
    """Request for an evaluation: run, model, data or samples, and limits on the number of examples and time."""

    run: Run
    model: Model
    """Model to evaluate, already on its device."""
    data: str | None
    """Path or name of the data for the evaluation; None for the held-out examples of the run."""
    samples: str | None
    """Path of the samples to evaluate; None to generate them."""
    effort: EvaluationBudget
    tell: Reporter
