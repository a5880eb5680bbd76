"""From a vocoder's run to how near its sounds come to real ones, and to a page and files to look at and listen to."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from feller.app.reporter import Tell
from feller.app.workflows.reporting.examined import Told, examined, report
from feller.core.errors import InputError, cannot_write
from feller.core.run_folder import Run
from feller.data.loading.raw import Sound
from feller.data.loading.read import read
from feller.data.speech.audio_io import write_sound
from feller.data.speech.figure import Drawn, spectrograms
from feller.data.speech.griffin_lim import GriffinLim
from feller.data.speech.sounds import Sounds
from feller.evaluation.report.wording import number
from feller.evaluation.speech.vocoder import EXPLAIN, Copied, copied
from feller.models.model import Model
from feller.networks.audio.neural import Neural, SoundNetwork
from feller.training.engine import engine

MAX_PIECES = 100
"""Pieces that are copied, at most."""
SHOWN = 3
"""Of which so many are drawn and written to files, each beside its copies."""
FOLDER = "copies"


def resynthesise(run: Run, model: Model, *, data: str | None, samples: str | None, tell: Tell) -> dict[str, Any]:
    """Make sounds of the log mels of those that training did not see, and report how near they come.

    Args:
        run: Holds the model.
        model: What it holds.
        data: Sounds to judge it by; by default those that the fit kept back.
        samples: There are none; a name is refused.
        tell: Hears how it goes.

    Raises:
        InputError: If run or data are not what they must be.
        UsageError: If samples are named.
    """
    modality, network = model.description.modality, model.network
    if not isinstance(modality, Sounds) or not isinstance(network, SoundNetwork):
        raise InputError(f"{run.model} names a vocoder of {modality.called}, expected one of sounds; fit it anew")
    it = examined(
        run,
        model,
        data=data,
        samples=samples,
        read_other=lambda source, asked: read(source, like=modality),
    )
    some = it.real.subset(_spaced(len(it.real)))
    real = modality.sounds(some.values, some.given)
    tell.task("making sounds")
    ours = copied(Neural(network, modality.mel), real, modality.mel)
    theirs = copied(GriffinLim(), real, modality.mel)
    tell.done()
    if engine().is_first:
        _write(run, real, ours, theirs)
        tell.say(f"the first {min(SHOWN, len(real))} sounds lie beside their copies in {run.path / FOLDER}")
    title = f"{it.asked.data} resynthesised, by the recipe {it.asked.recipe}"
    found = Told(
        title=title if data is None else f"{title}, tried on {data}",
        judged=f"Judged: copies, made of their log mels alone, of {len(real):,} pieces of sounds {it.which}",
        numbers={
            "spectral_error": ours.spectral_error,
            "spectral_error_griffin_lim": theirs.spectral_error,
            "log_mel_error": ours.log_mel_error,
            "log_mel_error_griffin_lim": theirs.log_mel_error,
            "real_time_factor": ours.real_time_factor,
            "real_time_factor_griffin_lim": theirs.real_time_factor,
        },
        explanations=EXPLAIN,
        pictures=[
            ("Each real sound, its copy, and that of Griffin-Lim", _picture(modality, real, ours, theirs)),
        ],
        heading="Copies",
        said=(
            f"Spectra of copies are off by {number(ours.spectral_error)}, log mels by {number(ours.log_mel_error)};"
            f" those of Griffin-Lim, which learns nothing, by {number(theirs.spectral_error)} and"
            f" {number(theirs.log_mel_error)}."
        ),
    )
    return report(it, found, tell)


def _spaced(n: int) -> torch.Tensor:
    """Return the numbers of some of n pieces, all over them."""
    return torch.linspace(0, n - 1, min(n, MAX_PIECES)).round().long()


def _picture(modality: Sounds, real: Sequence[Sound], ours: Copied, theirs: Copied) -> Image.Image:
    """Draw the first sounds, each in a row with its copies."""
    rows = zip(real[:SHOWN], ours.sounds, theirs.sounds, strict=False)
    mels = [modality.mel.log_mel(torch.from_numpy(sound.samples)) for row in rows for sound in row]
    return spectrograms([Drawn(mel.numpy()) for mel in mels], modality.mel.top, 3)


def _write(run: Run, real: Sequence[Sound], ours: Copied, theirs: Copied) -> None:
    """Write the first sounds and their copies, to listen to.

    Raises:
        InputError: If the disk refuses, or a link leads elsewhere.
    """
    folder = run.path / FOLDER
    if folder.is_symlink():
        raise InputError(f"{folder} is a link; remove it")
    try:
        folder.mkdir(exist_ok=True)
        for i in range(min(SHOWN, len(real))):
            for name, sound in (("real", real[i]), ("copy", ours.sounds[i]), ("griffin-lim", theirs.sounds[i])):
                write_sound(sound, folder / f"{i + 1}-{name}.wav")
    except OSError as error:
        raise cannot_write(folder, error) from error
