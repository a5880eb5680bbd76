"""Evaluate tokenizers, regressors and vocoders, which draw no samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from feller.app.reporter import Tell
from feller.app.workflows.next_steps import evaluating, fitting, rewarding
from feller.app.workflows.reporting.comparison import stem
from feller.app.workflows.run_config import FitRecord, read_bundle, record_of
from feller.app.workflows.run_status import Standing, first_sketch, standing
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.run_folder import Run
from feller.data.images.modality import Images
from feller.data.loading.raw import Sound
from feller.data.loading.read import read
from feller.data.loading.targets import read_aimed
from feller.data.modality import Dataset, Target
from feller.data.speech.audio_io import write_sound
from feller.data.speech.figure import Drawn, spectrograms
from feller.data.speech.griffin_lim import GriffinLim
from feller.data.speech.sounds import Sounds
from feller.evaluation.effort import Effort
from feller.evaluation.image_tokenizer import code_shares, copies, copy_errors, writer
from feller.evaluation.metrics import HELD_OUT, TRAINED
from feller.evaluation.regressor import Oracle, errors
from feller.evaluation.report.page import RunReport, write_report
from feller.evaluation.report.prediction_plots import classes_against, copies_picture, numbers_against, use_picture
from feller.evaluation.speech.vocoder import Copied, copied
from feller.models.model import Model
from feller.networks.audio.spectral_vocoder import Neural, SoundNetwork
from feller.training.engine import engine


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationRequest:
    """Request for an evaluation: a run and its model, data or samples to compare with, and limits of time."""

    run: Run
    model: Model
    """On the device where it is to run."""
    data: str | None
    """Data to judge it by; by default those that the fit kept back."""
    samples: str | None
    """Samples to judge, where that makes sense."""
    effort: Effort
    tell: Tell


@dataclass(frozen=True, eq=False)
class Examined:
    """A run and the examples that it is asked about."""

    request: EvaluationRequest
    stands: Standing
    """How the run stands: what is damaged is told before anything is asked of the model."""
    whole: Dataset
    """All that the fit read."""
    real: Dataset
    """What it is asked about: what the user named, or what was kept back, or, where nothing was, the training data."""
    seen: bool
    """Whether it was trained on them."""

    def first(self, n: int) -> "Examined":
        """Return the same with the first n examples."""
        return self if n >= len(self.real) else replace(self, real=self.real.subset(torch.arange(n)))

    @property
    def data(self) -> str | None:
        """Name of the data that the user gave; None for those of the run."""
        return self.request.data

    @property
    def asked(self) -> FitRecord:
        """What was asked of the run."""
        return self.stands.asked

    @property
    def which(self) -> str:
        """Say where the examples come from, as the end of a sentence."""
        if self.data is not None:
            return f"in {self.data}."
        if self.seen:
            return "that it was trained on, since none are held out; of others it knows less."
        return "held out."


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What was found, for the page."""

    title: str
    tried: str
    """Stands between the title and the data that the user named, such as "tried on"."""
    judged: str
    numbers: Mapping[str, Any]
    pictures: Sequence[tuple[str, Image.Image]]
    heading: str
    """Of the pictures."""
    sounds: Sequence[tuple[str, bytes]] = ()
    """Captions and .wav files, to listen to."""
    next_steps: Sequence[tuple[str, str]] = ()
    """What the run is good for, beside measuring again and going on."""


def examined(request: EvaluationRequest, read_other: Callable[[str, FitRecord], Dataset]) -> Examined:
    """Read what a run is to be asked about.

    Args:
        request: What is asked for; a name of samples is refused, as there are none.
        read_other: Reads data that are named.

    Raises:
        InputError: If run or data are not what they must be.
        UsageError: If samples are named.
    """
    run, model, data = request.run, request.model, request.data
    if request.samples is not None:
        raise UsageError(f"there are no samples to judge, name data with --data: {model.family.why_no_samples}")
    asked, modality = record_of(run), model.description.modality
    loaded = read_bundle(asked, modality)
    whole = loaded.raw
    stands = standing(run, asked, modality, whole)
    train, held_out = loaded.train, loaded.test
    if data is not None:
        held_out = read_other(data, asked)
    real = held_out if len(held_out) else train
    return Examined(request, stands, whole, real, real is train)


def report(it: Examined, told: Told) -> dict[str, Any]:
    """Write the page, and return its numbers, and where it is under `report`."""
    run, asked, stands = it.request.run, it.asked, it.stands
    numbers = {**told.numbers, "compared_with": it.data or (TRAINED if it.seen else HELD_OUT), **stands.numbers}
    it.request.tell.say(told.judged)
    name = "report" if it.data is None else f"report-{stem(it.data)}"
    if engine().is_first:
        measured = evaluating(run, asked, {"--data": it.data})
        short = stands.is_done and not stands.at_once
        counters = stands.counters
        sketch = first_sketch(run, asked, it.whole, counters["step"], counters["seconds"]) if short else ""
        page = RunReport(
            title=told.title if it.data is None else f"{told.title}, {told.tried} {it.data}",
            command=fitting(run, asked, stands.training) if it.data is None else measured,
            unfinished=stands.unfinished,
            sketch=sketch,
            compared=told.judged,
            numbers=numbers,
            guarantee=stands.guarantee,
            expenses=stands.expenses,
            caveat=stands.caveat,
            notes=asked.provenance.notes,
            settings=stands.recipe,
            curve=stands.curve,
            pictures=told.pictures,
            heading=told.heading,
            sounds=told.sounds,
            next_steps=[*told.next_steps, (measured, "measure again"), *stands.again(sketch=sketch)],
        )
        write_report(run.path, page, name)
    return {**numbers, "report": f"{run.path / name}.html"}


PICTURES_SECONDS = 60.0
"""That all held-out pictures take, about."""
COLUMNS, ROWS = 12, 4
"""Pictures that are shown above their copies."""


def copy(request: EvaluationRequest) -> dict[str, Any]:
    """Write pictures that training did not see as codes, read them back, and report what is left of them."""
    model, tell = request.model, request.tell
    network, modality = writer(model), model.description.modality.view(Images)
    if modality is None:
        found = model.description.modality.called
        raise InputError(
            f"names a tokeniser of {found}", expected="one of pictures", remedy="Fit it anew", file=request.run.model
        )
    it = examined(request, lambda source, asked: read(source, longest=asked.config.reading.longest, like=modality))
    it = it.first(request.effort.limit(len(it.real), PICTURES_SECONDS))
    tell.task("writing and reading pictures")
    made = copies(model, it.real)
    tell.done()
    many, count = made.codes.shape[1], network.settings.quantiser.count
    numbers = copy_errors(it.real.values, made, count=count, grid=network.grid, white=modality.levels)
    whose = "Pictures" if it.data is not None or it.seen else "Held-out pictures"
    shown = slice(COLUMNS * ROWS)
    found = Told(
        title=f"{it.asked.data} as codes, by the recipe {it.asked.provenance.recipe}",
        tried="tried on",
        judged=f"Judged: copies, from {many} codes of {count} each, of {len(it.real):,} pictures {it.which}",
        numbers=numbers,
        pictures=[
            (
                f"{whose}, each row above its copies",
                copies_picture(modality, it.real.values[shown], made.values[shown], COLUMNS),
            ),
            ("How many codes are used how often", use_picture(code_shares(made.codes, count).numpy())),
        ],
        heading="Copies",
    )
    return report(it, found)


def examine(request: EvaluationRequest) -> dict[str, Any]:
    """Compare what a regressor tells of data that training did not see with the truth, and write the report."""
    model, tell = request.model, request.tell
    modality = model.description.modality
    oracle = Oracle(model, modality)
    target = oracle.target
    it = examined(request, lambda source, asked: read_aimed(source, modality, target, asked.config.reading.longest))
    it = it.first(request.effort.n or len(it.real))
    tell.task("asking about data")
    told, truth = oracle.tell(it.real).cpu(), it.real.wanted(target)
    tell.done()
    found = Told(
        title=f"{', '.join(target.names)} of {it.asked.data}, told by the recipe {it.asked.provenance.recipe}",
        tried="asked about",
        judged=f"Judged: what the network tells of {len(it.real):,} examples {it.which}",
        numbers=errors(target, told, truth),
        pictures=[("Told against true", _picture(target, told, truth))],
        heading="Answers",
        next_steps=[*rewarding(request.run, target)],
    )
    return report(it, found)


def _picture(target: Target, told: Tensor, truth: Tensor) -> Image.Image:
    if target.classes:
        return classes_against(told.argmax(1).numpy(), truth[:, 0].long().numpy(), target.classes)
    return numbers_against(told.numpy(), truth.numpy(), target.names)


MAX_PIECES, PIECES_SECONDS = 100, 60.0
"""Pieces that are copied, at most, and seconds that they take, about."""
SHOWN = 3
"""Of which so many are drawn and written to files, each beside its copies."""
FOLDER = "copies"


def resynthesise(request: EvaluationRequest) -> dict[str, Any]:
    """Make sounds of the log mels of those that training did not see, and report how near they come."""
    run, model, tell = request.run, request.model, request.tell
    modality, network = model.description.modality.view(Sounds), model.network
    if modality is None or not isinstance(network, SoundNetwork):
        raise InputError(
            f"names a vocoder of {model.description.modality.called}",
            expected="one of sounds",
            remedy="Fit it anew",
            file=run.model,
        )
    it = examined(request, lambda source, asked: read(source, like=modality))
    some = it.real.subset(_spaced(len(it.real), request.effort.limit(MAX_PIECES, PIECES_SECONDS)))
    real = modality.sounds(some.values, some.given)
    tell.task("making sounds")
    ours = copied(Neural(network, modality.mel), real, modality.mel)
    theirs = copied(GriffinLim(), real, modality.mel)
    tell.done()
    if engine().is_first:
        _write_sounds(run, real, ours, theirs)
        tell.say(f"the first {min(SHOWN, len(real))} sounds lie beside their copies in {run.path / FOLDER}")
    found = Told(
        title=f"{it.asked.data} resynthesised, by the recipe {it.asked.provenance.recipe}",
        tried="tried on",
        judged=f"Judged: copies, made of their log mels alone, of {len(real):,} pieces of sounds {it.which}",
        numbers={
            "spectral_error": ours.spectral_error,
            "spectral_error_griffin_lim": theirs.spectral_error,
            "log_mel_error": ours.log_mel_error,
            "log_mel_error_griffin_lim": theirs.log_mel_error,
            "real_time_factor": ours.real_time_factor,
            "real_time_factor_griffin_lim": theirs.real_time_factor,
        },
        pictures=[
            ("Each real sound, its copy, and that of Griffin-Lim", _spectrogram_picture(modality, real, ours, theirs)),
        ],
        heading="Copies",
    )
    return report(it, found)


def _spaced(n: int, most: int) -> torch.Tensor:
    """Return the numbers of some of n pieces, all over them."""
    return torch.linspace(0, n - 1, min(n, most)).round().long()


def _spectrogram_picture(modality: Sounds, real: Sequence[Sound], ours: Copied, theirs: Copied) -> Image.Image:
    """Draw the first sounds, each in a row with its copies."""
    rows = zip(real[:SHOWN], ours.sounds, theirs.sounds, strict=False)
    mels = [modality.mel.log_mel(torch.from_numpy(sound.samples)) for row in rows for sound in row]
    return spectrograms([Drawn(mel.numpy()) for mel in mels], modality.mel.top, 3)


def _write_sounds(run: Run, real: Sequence[Sound], ours: Copied, theirs: Copied) -> None:
    """Write the first sounds and their copies, to listen to."""
    folder = run.path / FOLDER
    if folder.is_symlink():
        raise InputError("is a link", remedy="Remove it", file=folder)
    try:
        folder.mkdir(exist_ok=True)
        for i in range(min(SHOWN, len(real))):
            for name, sound in (("real", real[i]), ("copy", ours.sounds[i]), ("griffin-lim", theirs.sounds[i])):
                write_sound(sound, folder / f"{i + 1}-{name}.wav")
    except OSError as error:
        raise cannot_write(folder, error) from error
