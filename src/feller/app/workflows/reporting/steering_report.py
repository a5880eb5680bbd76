"""What steering found, put together for its page."""

import shlex
from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from feller.app.workflows.reporting.side_by_side import side_by_side
from feller.app.workflows.steer import Steered
from feller.app.workflows.steering.inverse_problems import Explained
from feller.core.run_folder import Run
from feller.data.files import sample_folder
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.evaluation import fine_tuning, validity
from feller.evaluation.report.page import Findings, write_report

NAME = "report-steered"
"""Of the page, in the folder of the run; the next steering replaces it."""
MOST = 100
"""Samples that are shown."""
EXPLAIN = {
    **fine_tuning.EXPLAIN,
    **validity.EXPLAIN_VALIDITY,
    "bounded": "What the wish sets a bound to, such as ink, on average. The reward is minus the square of how far each"
    " sample is beyond the bound, so that 0 is best.",
    "improved": "Share of the samples whose reward is larger than before.",
    "solves": "How often the flow was solved for each sample, most times with its gradient.",
    "source_size": "Mean square of the numbers of a source, 1 for those that the model knows.",
    "residual": "By how much what the samples would measure differs from what was observed: the root mean square, in"
    " its units; as small as the noise is right.",
    "residual_before": "The same of samples that nothing was asked of: what an explanation must be much smaller than.",
    "noise": "Standard deviation of the measurements, as it was said (--noise).",
    "calls": "Network calls for each sample.",
    "unknown": "What was found of the operator, such as the logarithm of a width over that of the start.",
}
"""What the numbers mean, for people."""


def page_of_wish(run: Run, rewards: Sequence[str], found: Steered, command: Sequence[str]) -> str:
    """Write the page of samples that are as wished, beside those of the same source points; return where it is."""
    before, after = side_by_side(_first(found.before), _first(found.after))
    pictures = [("Before, from the same source points", before), ("Steered", after)]
    return _write(run, f"Samples steered to {' and '.join(rewards)}", found, pictures, command)


def page_of_observation(run: Run, operator: str, found: Explained, command: Sequence[str]) -> str:
    """Write the page of samples that explain an observation; return where it is."""
    seen, modality = found.measured, found.samples.modality
    observed = _picture(seen, modality)
    pictures = [("Observed", observed)] if observed is not None else []
    per = len(found.samples) // len(seen)
    pictures += [
        (f"Explained, {per} samples each, in their order", _shown(found.samples)),
        ("Mean of the samples of each observation", _shown(found.mean)),
    ]
    return _write(run, f"Samples that explain an observation ({operator})", found, pictures, command)


def _write(
    run: Run,
    title: str,
    found: Steered | Explained,
    pictures: Sequence[tuple[str, Image.Image]],
    words: Sequence[str],
) -> str:
    """Write a page into the folder of the run."""
    findings = Findings(
        title=title,
        command=shlex.join(["feller", *words]),
        sketch=found.sketch if isinstance(found, Steered) else "",
        numbers=found.numbers,
        explanations=EXPLAIN,
        notes=found.notes,
        curve=None,
        pictures=pictures,
    )
    with run.writing():
        write_report(run.path, findings, NAME)
    return f"{run.path / NAME}.html"


def _first(data: Dataset) -> Dataset:
    return data.subset(torch.arange(min(len(data), MOST)))


def _shown(data: Dataset) -> Image.Image:
    """Draw the first samples."""
    some = _first(data)
    return some.modality.show(some.values, some.given)


def _picture(measured: Float[Tensor, " m *k"], modality: Modality) -> Image.Image | None:
    """Draw measurements that are pictures; None for others."""
    if not isinstance(modality, Images) or measured.ndim != 4 or measured.shape[1] not in (1, 3):
        return None
    return sample_folder.tile(modality.as_bytes(measured[:MOST]))
