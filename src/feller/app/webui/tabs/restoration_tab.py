"""Tab "Restore": degrades and restores images, as an inverse problem."""

import pathlib
import secrets
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from feller.app.config import SampleConfig, SteerConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import condition_controls, conditions_from, guidance_from
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw_picture, sample_path, save_picture
from feller.app.webui.tab import Answers, OutputKind, PageContext, Tab, TabResult
from feller.app.webui.widgets import MAX_SEED, check_picture, choice, number, seed
from feller.app.webui.widgets import picture as picture_upload
from feller.app.workflows.sample import sample
from feller.app.workflows.steering.measurements import OPERATOR_USES, parse_operator
from feller.data.images.image_loading import FORMATS
from feller.data.images.image_resizing import from_pixels as image_of
from feller.data.images.modality import Images
from feller.data.modality import Dataset

MAX_PICTURES = 16
"""Maximum number of restored images per request."""
METHOD = "pigdm"
"""Name of the inverse problem solver: PiGDM, the fastest solver whose samples agree with the measurement."""
GREY = "grayscale"
OPERATORS = {
    "downsampling 2 x 2": "pool=2",
    "downsampling 4 x 4": "pool=4",
    "slight blur": "blur=0.7",
    "blur": "blur=1.5",
    GREY: "grey",
    "16 random sums of all pixels": "sums=16",
}
"""Name of a degradation -> measurement operator, as in `feller steer --operator`. Visitors cannot choose user-defined
operators, because these are code."""


def random_sample(run: LoadedRun, modality: Images, room: pathlib.Path) -> Dataset:
    """Draw one image from the model with a random seed and few function evaluations."""
    out, seed = str(sample_path(room, modality)), secrets.randbelow(MAX_SEED)
    return sample(run.run, config_of(SampleConfig, n=1, out=out, overwrite=True, nfe=16, seed=seed)).dataset


def at_size(image: Image.Image, modality: Images) -> Image.Image:
    """Return an image with the size and colour channels that the model expects."""
    mode = "L" if modality.channels == 1 else "RGB"
    return image.convert("RGB").convert(mode).resize((modality.width, modality.height), Image.Resampling.BOX)


def solve_inverse(
    run: LoadedRun,
    modality: Images,
    file: pathlib.Path,
    operator: str,
    answers: Answers,
    reporter: Reporter,
    **more: Any,
) -> Any:
    """Solve an inverse problem for the measurement in `file`, and write the posterior samples next to that file.

    Return the `InverseProblemResult` with the samples and their metrics.
    """
    from feller.app.workflows.steering.inverse_problems import solve_inverse_problem  # takes long to load

    config = config_of(
        SteerConfig,
        observe=str(file),
        operator=operator,
        n=answers["n"],
        method=METHOD,
        out=str(sample_path(file.parent, modality)),
        given=conditions_from(answers, modality),
        guidance=guidance_from(answers),
        seed=answers["seed"],
        **more,
    )
    return solve_inverse_problem(run.run, config, reporter=reporter)


def operators_of(modality: Images) -> dict[str, str]:
    """Return the measurement operators that apply to the size and channels of the images, by degradation name."""
    sides = (modality.height, modality.width)
    fits = {f"pool={n}" for n in (2, 4) if all(side % n == 0 and side > n for side in sides)}
    return {
        said: words
        for said, words in OPERATORS.items()
        if (words in fits if words.startswith("pool") else said != GREY or modality.channels == 3)
    }


def restore_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that degrades and restores images; None for other models."""
    modality = run.restorable_images
    if modality is None or not (operators := operators_of(modality)):
        return None
    uses = {said: OPERATOR_USES[words.partition("=")[0]] for said, words in operators.items()}

    def restore(answers: Answers, reporter: Reporter) -> TabResult:
        room, words = page.new_result_folder(), operators[answers["operator"]]
        sharp = _original_image(run, modality, check_picture(answers["observe"]), room)
        measured = parse_operator(words, None, tuple(sharp.shape[1:]))(sharp)
        np.save(room / "measured.npy", measured.numpy())
        solution = solve_inverse(run, modality, room / "measured.npy", words, answers, reporter)
        shown = [save_picture(image_of(modality.as_bytes(sharp[0])), room, "Original")]
        if measured.ndim == 4 and measured.shape[1] in (1, 3):
            shown.append(save_picture(image_of(modality.as_bytes(measured[0])), room, "Measurement"))
        shown += [
            draw_picture(solution.samples, room, "Posterior samples"),
            draw_picture(solution.posterior_mean, room, "Posterior mean"),
        ]
        unit = "" if words.startswith("sums") else f" of {modality.levels} gray levels"
        residual = solution.numbers["residual"]
        difference = "less than 0.01" if residual < 0.01 else f"{residual:.2f}"
        message = f"Root mean square residual of the measurement: {difference}{unit}."
        return TabResult(message=message, pictures=tuple(shown), files=(solution.path,))

    return Tab(
        name="Restore",
        description="Degrade an image, and sample images of the model that are consistent with the measurement. Without"
        " an upload, the image is a sample of the model.",
        controls={
            "observe": picture_upload("Image"),
            "operator": choice("Degradation", tuple(operators), uses=uses),
            "n": number("Number of samples", 4, 1, MAX_PICTURES),
            **condition_controls(run),
            "seed": seed(),
        },
        handler=restore,
        outputs=(OutputKind.PICTURES, OutputKind.FILES),
        button="Degrade and restore",
        max_pictures=4,
    )


def _original_image(run: LoadedRun, modality: Images, file: pathlib.Path | None, room: pathlib.Path) -> Tensor:
    """Return the uploaded image, or else a sample of the model, with pixel values as in the data, [1, c, h, w]."""
    if file is None:
        return random_sample(run, modality, room).values.float().cpu()
    with Image.open(file, formats=FORMATS) as there:
        small = at_size(there, modality)
    levels = np.asarray(small, dtype=np.float32).reshape(modality.height, modality.width, modality.channels)
    return torch.from_numpy(levels.transpose(2, 0, 1).copy())[None] * (modality.levels / 255)
