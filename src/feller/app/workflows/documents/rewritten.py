"""What is lost of the pictures of documents before any model sees them: their codes are read back."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch

from feller.app.workflows.fitting.tokenised import from_a_run
from feller.app.workflows.next_steps import fitting
from feller.app.workflows.reporting.evaluate_non_generative import COLUMNS
from feller.app.workflows.reporting.examined import Examined
from feller.app.workflows.run_config import training_of
from feller.core.run_folder import Run
from feller.core.serialization import from_data
from feller.data.documents.documents_modality import CODES, Documents, Values, all_pictures
from feller.data.documents.token_layout import in_order
from feller.data.images.modality import Images
from feller.evaluation.image_tokenizer import Copies, copy_errors
from feller.evaluation.report.code_use import copies_picture
from feller.evaluation.report.wording import number
from feller.networks.codebook.image_codes import WHITE
from feller.training.optimizer import Training

ROWS = 2
"""Of pictures that are shown above what is read back."""
LONGER = 10
"""Times as many steps are advised where a tokeniser keeps too little."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rewritten:
    """What a tokeniser loses of pictures that a model is judged by."""

    numbers: dict[str, Any] = field(default_factory=dict)
    """Under the names of `evaluate.copies.EXPLAIN`; none where there are no pictures."""
    said: str = ""
    """One or two sentences, with a space in front; empty where nothing is lost."""
    pages: tuple[tuple[str, Any], ...] = ()
    next_steps: tuple[tuple[str, str], ...] = ()
    """How to have it learn longer, where it loses more than shrinking does."""


def rewritten(run: Run, kind: Documents, it: Examined, values: Values) -> Rewritten:
    """Read the pictures of documents back from their codes.

    Args:
        run: Holds the model.
        kind: Of its documents.
        it: What was asked of the fit.
        values: Documents with the codes of their pictures.
    """
    real = all_pictures(values)
    if not len(real):
        return Rewritten()
    codes, by = in_order(values["rows"], values[CODES]), kind.tokenizer
    made = Copies(codes, by.decode(codes))
    numbers = copy_errors(real, made, count=by.count, grid=by.grid, white=WHITE)
    if torch.equal(real, made.values):
        return Rewritten(numbers=numbers)
    shown = slice(COLUMNS * ROWS)
    pictures = copies_picture(Images(kind.height, kind.width, kind.channels), real[shown], made.values[shown], COLUMNS)
    poor = (numbers["reconstruction_mse"] or 0.0) > (numbers["reconstruction_mse_shrunk"] or 0.0)
    learns = by.module is not None and not it.asked.start_from and not from_a_run(it.asked.tokenizer)
    return Rewritten(
        numbers=numbers,
        said=_said_loss(numbers, _remedy(it, learns=learns) if poor else ""),
        pages=(("Pictures, each row above what is left of them as codes: nothing that is drawn is better", pictures),),
        next_steps=(_longer(run, it),) if poor and learns else (),
    )


def _said_loss(numbers: dict[str, Any], remedy: str) -> str:
    """Say what the tokeniser loses, and what to do about it."""
    own, small = (numbers[name] for name in ("psnr", "psnr_shrunk"))
    told = f" The tokeniser brings their pictures back with {number(own)} dB"
    if not remedy:
        return f"{told}, and no drawing has what it loses."
    less = "" if small is None else f", less than the {number(small)} dB of pictures shrunk to the grid of their codes"
    return f"{told}{less}, and no drawing has what it loses, such as colours: {remedy}."


def _remedy(it: Examined, *, learns: bool) -> str:
    """Say how to get a better tokeniser."""
    if learns:
        return "it was trained too short; fit anew with more --tokenizer.steps, as --resume leaves it as it is"
    if from_a_run(it.asked.tokenizer):
        return f"train {it.asked.tokenizer} on, then fit anew, as --resume leaves it as it is"
    if it.asked.start_from:
        return f"it is that of {it.asked.start_from}; fit that anew with more --tokenizer.steps"
    return "fit anew with --tokenizer learned"


def _longer(run: Run, it: Examined) -> tuple[str, str]:
    """Return what fits anew with a tokeniser that learns longer, and what it does."""
    flag, learned = "--tokenizer.steps", run.part_of(run.recipe, "recipe", "parts", "tokenizer")
    steps = LONGER * (from_data(Training, learned).steps or 1)
    words = [word for before, word in pairwise(("", *it.asked.fields)) if flag not in (before, word)]
    wanted = replace(it.asked, fields=(*words, flag, str(steps)))
    anew = Run(run.path.with_name(f"{run.path.name}-anew"))
    return fitting(anew, wanted, training_of(run)), "fit anew, with a tokeniser that learns longer"
