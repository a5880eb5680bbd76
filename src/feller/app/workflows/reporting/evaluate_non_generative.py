"""Evaluation of models that do not generate samples: tokenizers, regressors and vocoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from feller.app.workflows.next_steps import evaluate_command, fit_command, suggest_rewards
from feller.app.workflows.reporting.comparison import stem
from feller.app.workflows.reporting.evaluation_request import EvaluationRequest
from feller.app.workflows.run_config import FitRecord, read_bundle, read_fit_record
from feller.app.workflows.run_status import RunStatus, read_run_status, undertrained_notice
from feller.core.errors import InputError, UsageError, cannot_write
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import Waveform
from feller.data.loading.targets import read_with_target
from feller.data.modality import Dataset, Target
from feller.data.speech.audio_io import write_sound
from feller.data.speech.figure import SpectrogramPanel, spectrograms
from feller.data.speech.griffin_lim import GriffinLim
from feller.data.speech.sounds import Waveforms
from feller.evaluation.autoencoder_metrics import (
    autoencoder_errors,
    latents_of,
    reconstructed,
    reconstruction_distance,
)
from feller.evaluation.judge import train_judge
from feller.evaluation.metrics import HELD_OUT, TRAINED
from feller.evaluation.regression_metrics import TrainedRegressor, regression_errors
from feller.evaluation.report.prediction_plots import (
    plot_code_usage,
    plot_confusion_matrix,
    plot_predictions,
    plot_reconstructions_grid,
)
from feller.evaluation.report.report_page import RunReport, write_report
from feller.evaluation.speech.vocoder import VocoderScores, vocoder_scores
from feller.evaluation.tokenizer_metrics import code_frequencies, reconstruct, reconstruction_errors, tokenizer_network
from feller.networks.audio.spectral_vocoder import NeuralVocoder, VocoderNetwork
from feller.training.engine import get_engine


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """Run, and the examples on which its model is evaluated."""

    request: EvaluationRequest
    status: RunStatus
    """Status of the run; it is read first, so that damaged files are reported before any computation."""
    whole: Dataset
    """All data of the run, before the split into training and held-out examples."""
    train: Dataset
    """Training set of the run."""
    real: Dataset
    """Examples for the evaluation: the requested data; without a request, the held-out examples or, if there are none,
    the training set."""
    is_training_data: bool
    """True if `real` is the training set, because no examples are held out."""

    def limited_to(self, n: int) -> "EvaluationData":
        """Return a copy limited to the first n examples."""
        return self if n >= len(self.real) else replace(self, real=self.real.subset(torch.arange(n)))

    @property
    def data(self) -> str | None:
        """Path or name of the requested data; None for the data of the run."""
        return self.request.data

    @property
    def record(self) -> FitRecord:
        """Fit record of the run."""
        return self.status.record

    @property
    def origin_text(self) -> str:
        """Source of the examples, as the end of a sentence in the report."""
        if self.data is not None:
            return f"in {self.data}."
        if self.is_training_data:
            return "of the training set, since none are held out; expect larger errors on new data."
        return "held out."


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportContent:
    """Results of an evaluation, as shown on the report page."""

    title: str
    tried: str
    """Words between the title of the report and the name of the data, such as "evaluated on"."""
    subject: str
    numbers: Mapping[str, Any]
    pictures: Sequence[tuple[str, Image.Image]]
    heading: str
    """Heading above the figures."""
    sounds: Sequence[tuple[str, bytes]] = ()
    """Audio clips as pairs (caption, content of a .wav file)."""
    next_steps: Sequence[tuple[str, str]] = ()
    """Suggested commands with descriptions, in addition to the commands that evaluate again and resume."""


def load_evaluation_data(request: EvaluationRequest, read_other: Callable[[str, FitRecord], Dataset]) -> EvaluationData:
    """Read the data on which to evaluate a run.

    Args:
        request: Request; it must not name samples, because the model does not generate samples.
        read_other: Function (path or name, fit record) -> requested data.

    Raises:
        InputError: If the run or the data are invalid.
        UsageError: If the request names samples.
    """
    run, model, data = request.run, request.model, request.data
    if request.samples is not None:
        raise UsageError(
            f"there are no samples to evaluate: {model.family.why_no_samples}", remedy="Give data with --data instead"
        )
    record, modality = read_fit_record(run), model.spec.modality
    bundle = read_bundle(record, modality)
    all_data = bundle.raw
    status = read_run_status(run, record, modality, all_data)
    train, held_out = bundle.train, bundle.test
    if data is not None:
        held_out = read_other(data, record)
    real = held_out if len(held_out) else train
    return EvaluationData(request, status, all_data, train, real, real is train)


def write_evaluation_report(evaluation: EvaluationData, content: ReportContent) -> dict[str, Any]:
    """Write the report page; return the metrics by name, and the path of the page under the key `report`."""
    run, record, status = evaluation.request.run, evaluation.record, evaluation.status
    metrics = {
        **content.numbers,
        "compared_with": evaluation.data or (TRAINED if evaluation.is_training_data else HELD_OUT),
        **status.numbers,
    }
    evaluation.request.tell.log(content.subject)
    name = "report" if evaluation.data is None else f"report-{stem(evaluation.data)}"
    if get_engine().is_main_process:
        command = evaluate_command(run, record, {"--data": evaluation.data})
        is_trained = status.is_done and not (status.at_once or status.stopped_early)
        counters = status.counters
        notice = (
            undertrained_notice(run, record, evaluation.whole, counters["step"], counters["seconds"])
            if is_trained
            else ""
        )
        page = RunReport(
            title=content.title if evaluation.data is None else f"{content.title}, {content.tried} {evaluation.data}",
            command=fit_command(run, record, status.training) if evaluation.data is None else command,
            unfinished=status.incomplete_note,
            sketch=notice,
            compared=content.subject,
            numbers=metrics,
            guarantee=status.guarantee,
            expenses=status.expenses,
            caveat=status.caveat,
            notes=record.provenance.notes,
            settings=status.recipe,
            curve=status.curve,
            pictures=content.pictures,
            heading=content.heading,
            sounds=content.sounds,
            next_steps=[*content.next_steps, (command, "measure again"), *status.continue_commands(sketch=notice)],
        )
        write_report(run.path, page, name)
    return {**metrics, "report": f"{run.path / name}.html"}


PICTURES_SECONDS = 60.0
"""Approximate time in seconds for evaluating all held-out images."""
COLUMNS, ROWS = 12, 4
"""Number of columns, and number of rows, of images in the report; the reconstruction is below each image."""


def _load_images(request: EvaluationRequest, modality: Images) -> EvaluationData:
    """Return as many images to encode and decode as the effort of the evaluation allows."""
    evaluation = load_evaluation_data(
        request, lambda source, record: read(source, longest=record.config.data_loading.longest, like=modality)
    )
    return evaluation.limited_to(request.effort.limit(len(evaluation.real), PICTURES_SECONDS))


def evaluate_tokenizer(request: EvaluationRequest) -> dict[str, Any]:
    """Encode and decode held-out images, write a report on the reconstruction errors, and return the metrics."""
    model, reporter = request.model, request.tell
    network, modality = tokenizer_network(model), model.spec.modality.view(Images)
    if modality is None:
        content = model.spec.modality.display_name
        raise InputError(
            f"names a tokenizer for {content}",
            expected="a tokenizer for images",
            remedy="Fit the run again",
            file=request.run.model,
        )
    evaluation = _load_images(request, modality)
    reporter.start("reconstructing images")
    reconstructions = reconstruct(model, evaluation.real)
    reporter.finish()
    num_codes, codebook_size = reconstructions.codes.shape[1], network.config.quantizer.codebook_size
    metrics = reconstruction_errors(
        evaluation.real.values, reconstructions, count=codebook_size, grid=network.grid, max_level=modality.levels
    )
    noun = "Images" if evaluation.data is not None or evaluation.is_training_data else "Held-out images"
    selection = slice(COLUMNS * ROWS)
    content = ReportContent(
        title=f"{evaluation.record.data} tokenized by the recipe {evaluation.record.provenance.recipe}",
        tried="evaluated on",
        subject=f"Reconstructions from {num_codes} codes (codebook size {codebook_size}) of"
        f" {len(evaluation.real):,} images {evaluation.origin_text}",
        numbers=metrics,
        pictures=[
            (
                f"{noun}, each row above its reconstructions",
                plot_reconstructions_grid(
                    modality, evaluation.real.values[selection], reconstructions.values[selection], COLUMNS
                ),
            ),
            (
                "Frequencies of the codes",
                plot_code_usage(code_frequencies(reconstructions.codes, codebook_size).numpy()),
            ),
        ],
        heading="Reconstructions",
    )
    return write_evaluation_report(evaluation, content)


def evaluate_autoencoder(request: EvaluationRequest) -> dict[str, Any]:
    """Encode and decode held-out images, write a report on their reconstructions, and return the metrics."""
    model, reporter, rng = request.model, request.tell, Rng(0).fold_in("evaluate")
    modality, code = model.spec.modality.view(Images), latents_of(model)
    if modality is None or code is None:
        raise InputError("an autoencoder of images", "none", "Fit the run again", file=request.run.model)
    code.network.to(get_engine().device)
    evaluation = _load_images(request, modality)
    reporter.start("reconstructing images")
    real, train = (replace(data, given={}, modality=modality) for data in (evaluation.real, evaluation.train))
    copies = reconstructed(code, real)
    metrics: dict[str, Any] = autoencoder_errors(code, real, copies)
    reporter.start("judging the reconstructions")
    judge = train_judge(train, real, rng.fold_in("judge"), get_engine(), budget=request.effort)
    metrics |= reconstruction_distance(code, train, real, len(real), judge, rng)
    reporter.finish()
    channels, rows, columns = code.network.latent_shape
    noun = "Images" if evaluation.data is not None or evaluation.is_training_data else "Held-out images"
    selection = slice(COLUMNS * ROWS)
    content = ReportContent(
        title=f"{evaluation.record.data} encoded by the recipe {evaluation.record.provenance.recipe}",
        tried="evaluated on",
        subject=f"Reconstructions from {columns} x {rows} latents of {channels} channels of {len(real):,} images"
        f" {evaluation.origin_text}",
        numbers=metrics,
        pictures=[
            (
                f"{noun}, each row above its reconstructions",
                plot_reconstructions_grid(modality, real.values[selection], copies.values[selection], COLUMNS),
            ),
        ],
        heading="Reconstructions",
    )
    return write_evaluation_report(evaluation, content)


def evaluate_regressor(request: EvaluationRequest) -> dict[str, Any]:
    """Compare a regressor's predictions on held-out data with the true values, report and return the metrics."""
    model, reporter = request.model, request.tell
    modality = model.spec.modality
    regressor = TrainedRegressor(model, modality)
    target = regressor.target
    evaluation = load_evaluation_data(
        request, lambda source, record: read_with_target(source, modality, target, record.config.data_loading.longest)
    )
    evaluation = evaluation.limited_to(request.effort.n or len(evaluation.real))
    reporter.start("predicting")
    predictions, truth = regressor.predict(evaluation.real).cpu(), evaluation.real.targets(target)
    reporter.finish()
    content = ReportContent(
        title=f"{', '.join(target.names)} of {evaluation.record.data}, predicted by the recipe"
        f" {evaluation.record.provenance.recipe}",
        tried="evaluated on",
        subject=f"Predictions for {len(evaluation.real):,} examples {evaluation.origin_text}",
        numbers=regression_errors(target, predictions, truth),
        pictures=[("Predicted against true values", _picture(target, predictions, truth))],
        heading="Predictions",
        next_steps=[*suggest_rewards(request.run, target)],
    )
    return write_evaluation_report(evaluation, content)


def _picture(target: Target, predictions: Tensor, truth: Tensor) -> Image.Image:
    if target.classes:
        return plot_confusion_matrix(predictions.argmax(1).numpy(), truth[:, 0].long().numpy(), target.classes)
    return plot_predictions(predictions.numpy(), truth.numpy(), target.names)


MAX_PIECES, PIECES_SECONDS = 100, 60.0
"""Maximum number of audio clips to resynthesize, and approximate time in seconds for resynthesizing them."""
SHOWN = 3
"""Number of audio clips in the report, each shown with its resynthesized version as plots and audio."""
FOLDER = "copies"


def evaluate_vocoder(request: EvaluationRequest) -> dict[str, Any]:
    """Resynthesize held-out recordings from their log mel spectrograms, write a report, and return the metrics."""
    run, model, reporter = request.run, request.model, request.tell
    modality, network = model.spec.modality.view(Waveforms), model.network
    if modality is None or not isinstance(network, VocoderNetwork):
        raise InputError(
            f"names a vocoder for {model.spec.modality.display_name}",
            expected="a vocoder for sounds",
            remedy="Fit the run again",
            file=run.model,
        )
    evaluation = load_evaluation_data(request, lambda source, record: read(source, like=modality))
    sample = evaluation.real.subset(
        _spaced_indices(len(evaluation.real), request.effort.limit(MAX_PIECES, PIECES_SECONDS))
    )
    real = modality.sounds(sample.values, sample.given)
    reporter.start("resynthesizing")
    scores = vocoder_scores(NeuralVocoder(network, modality.mel), real, modality.mel)
    baseline = vocoder_scores(GriffinLim(), real, modality.mel)
    reporter.finish()
    if get_engine().is_main_process:
        _write_sounds(run, real, scores, baseline)
        reporter.log(f"wrote the first {min(SHOWN, len(real))} sounds and their copies to {run.path / FOLDER}")
    content = ReportContent(
        title=f"{evaluation.record.data} resynthesized by the recipe {evaluation.record.provenance.recipe}",
        tried="evaluated on",
        subject=f"Copies synthesized from the log mel spectrograms of {len(real):,} clips {evaluation.origin_text}",
        numbers={
            "spectral_error": scores.spectral_error,
            "spectral_error_griffin_lim": baseline.spectral_error,
            "log_mel_error": scores.log_mel_error,
            "log_mel_error_griffin_lim": baseline.log_mel_error,
            "real_time_factor": scores.real_time_factor,
            "real_time_factor_griffin_lim": baseline.real_time_factor,
        },
        pictures=[
            (
                "Each recording, its copy, and its Griffin-Lim copy",
                _spectrogram_picture(modality, real, scores, baseline),
            )
        ],
        heading="Copies",
    )
    return write_evaluation_report(evaluation, content)


def _spaced_indices(n: int, max_count: int) -> torch.Tensor:
    return torch.linspace(0, n - 1, min(n, max_count)).round().long()


def _spectrogram_picture(
    modality: Waveforms, real: Sequence[Waveform], scores: VocoderScores, baseline: VocoderScores
) -> Image.Image:
    rows = zip(real[:SHOWN], scores.sounds, baseline.sounds, strict=False)
    mels = [modality.mel.log_mel(torch.from_numpy(sound.samples)) for row in rows for sound in row]
    return spectrograms([SpectrogramPanel(mel.numpy()) for mel in mels], modality.mel.f_max, 3)


def _write_sounds(run: Run, real: Sequence[Waveform], scores: VocoderScores, baseline: VocoderScores) -> None:
    folder = run.path / FOLDER
    if folder.is_symlink():
        raise InputError("is a symbolic link", remedy="Remove it", file=folder)
    try:
        folder.mkdir(exist_ok=True)
        for i in range(min(SHOWN, len(real))):
            for name, sound in (("real", real[i]), ("copy", scores.sounds[i]), ("griffin-lim", baseline.sounds[i])):
                write_sound(sound, folder / f"{i + 1}-{name}.wav")
    except OSError as error:
        raise cannot_write(folder, error) from error
