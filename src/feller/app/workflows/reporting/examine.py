"""From a regressor's run to how right it is, and to a page to look at."""

from typing import Any

from PIL import Image
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.next_steps import rewarding
from feller.app.workflows.reporting.examined import Told, examined, report
from feller.core.run_folder import Run
from feller.data.loading.targets import read_aimed
from feller.data.target import Target
from feller.evaluation.regressor import Oracle, errors, explained
from feller.evaluation.report.prediction_plots import classes_against, numbers_against
from feller.models.model import Model


def examine(run: Run, model: Model, *, data: str | None, samples: str | None, tell: Tell) -> dict[str, Any]:
    """Compare what a regressor tells of data that training did not see with the truth, and write the report.

    Args:
        run: Holds the model.
        model: What it holds.
        data: Data to judge it by; by default those that the fit kept back.
        samples: There are none; a name is refused.
        tell: Hears how it goes.

    Raises:
        InputError: If run or data are not what they must be.
        UsageError: If samples are named.
    """
    modality = model.description.modality
    oracle = Oracle(model, modality)
    target = oracle.target
    it = examined(
        run,
        model,
        data=data,
        samples=samples,
        read_other=lambda source, asked: read_aimed(source, modality, target, asked.longest),
    )
    tell.task("asking about data")
    told, truth = oracle.tell(it.real).cpu(), it.real.wanted(target)
    tell.done()
    title = f"{', '.join(target.names)} of {it.asked.data}, told by the recipe {it.asked.recipe}"
    found = Told(
        title=title if data is None else f"{title}, asked about {data}",
        judged=f"Judged: what the network tells of {len(it.real):,} examples {it.which}",
        numbers=errors(target, told, truth),
        explanations=explained(target),
        pictures=[("Told against true", _picture(target, told, truth))],
        heading="Answers",
        next_steps=[*rewarding(run, target)],
    )
    return report(it, found, tell)


def _picture(target: Target, told: Tensor, truth: Tensor) -> Image.Image:
    if target.classes:
        return classes_against(told.argmax(1).numpy(), truth[:, 0].long().numpy(), target.classes)
    return numbers_against(told.numpy(), truth.numpy(), target.names)
