"""Evaluation of speech models: word error rate, speaker similarity, naturalness, and detection of generated speech."""

import pathlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.app.modalities.speech import require_speech
from feller.app.reporter import Reporter
from feller.app.workflows.next_steps import fill_templates
from feller.app.workflows.reporting.evaluate_non_generative import (
    ReportContent,
    load_evaluation_data,
    write_evaluation_report,
)
from feller.app.workflows.reporting.evaluation_request import EvaluationRequest
from feller.app.workflows.run_config import train_test_split
from feller.app.workflows.speech.recordings import SplitUtterance, split_utterances
from feller.app.workflows.speech.synthesize import SpeechSynthesisConfig, synthesize, with_durations
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import RawSpeech, Waveform
from feller.data.modality import Dataset
from feller.data.speech.audio_io import wav
from feller.data.speech.figure import SpectrogramPanel, spectrograms
from feller.data.speech.files import load_waveforms
from feller.data.speech.mel import FRAMES, log_mels
from feller.data.speech.modality import Speech
from feller.evaluation.metrics import METRICS
from feller.evaluation.speech.asr import SpeechRecognizer, Whisper
from feller.evaluation.speech.detector import fit_detector, load_detector, save_detector, vocode
from feller.evaluation.speech.duration_metrics import NUM_SAMPLES, PhoneDurations, durations_quality
from feller.evaluation.speech.mos import MOSRatings, opinion
from feller.evaluation.speech.speech_quality import Judges, Utterances, speech_quality
from feller.models.model import Model
from feller.networks.audio.synthetic_speech_detector import WINDOW_FRAMES
from feller.training.engine import get_engine
from feller.training.loop import StepMetrics
from feller.training.objectives.duration_infilling import DURATION_MASK
from feller.training.objectives.span_masks import unit_ids


@dataclass(frozen=True, eq=False)
class ASRCache(SpeechRecognizer):
    """Speech recogniser that caches its transcripts and reports progress."""

    n_sounds: int
    """Number of recordings that will be transcribed and rated, for progress reports."""
    reporter: Reporter
    transcriber: SpeechRecognizer = field(default_factory=Whisper)
    transcripts: dict[Waveform, str] = field(default_factory=dict)
    """Transcript of each recording transcribed so far; modified in place."""
    rated_sounds: list[Waveform] = field(default_factory=list)
    """Recordings rated so far; modified in place."""

    def transcribe(self, sounds: Sequence[Waveform]) -> list[str]:
        for sound in sounds:
            (self.transcripts[sound],) = self.transcriber.transcribe([sound])
            self.reporter.progress(
                len(self.transcripts) / self.n_sounds / 2, f"{len(self.transcripts):,} of {self.n_sounds:,} transcribed"
            )
        return [self.transcripts[sound] for sound in sounds]

    def rate(self, sound: Waveform) -> MOSRatings:
        """Return the predicted mean opinion scores of a recording."""
        rating = opinion(sound)
        self.rated_sounds.append(sound)
        fraction = (1 + len(self.rated_sounds) / self.n_sounds) / 2
        self.reporter.progress(min(fraction, 1.0), f"{len(self.rated_sounds):,} of {self.n_sounds:,} rated")
        return rating


MAX_LISTED = 20
"""Maximum number of recordings that are reported individually."""


def detect_generated(run: Run, model: Model, samples: str, reporter: Reporter) -> dict[str, Any]:
    """Classify recordings as generated or real with the detector of a run.

    Args:
        run: Run with a trained detector.
        model: Speech model that the detector was trained for.
        samples: Folder of recordings, or one file.
        reporter: Log output, which shows for each recording the probability that it is generated.

    Raises:
        InputError: If there are no recordings, or if a recording is too short.
        UsageError: If the run has no detector.
    """
    if not run.detector.is_file():
        raise UsageError(
            "the run has no detector", remedy=f"Train a detector: feller evaluate {run.path}", file=run.path
        )
    detector, mel = load_detector(run.detector), require_speech(model).mel
    sounds = load_waveforms(pathlib.Path(samples))
    mels = log_mels(RawSpeech(sounds.values, names=sounds.names), mel)
    too_short = [name for name, log_mel in zip(sounds.names, mels, strict=True) if len(log_mel) < WINDOW_FRAMES]
    if too_short:
        raise InputError(
            f"a recording of at least {WINDOW_FRAMES / FRAMES:g} s", "a shorter one", "Leave it out", place=too_short[0]
        )
    probs = dict(zip(sounds.names, detector.generated_prob(mels).tolist(), strict=True))
    for name, prob in [*probs.items()][:MAX_LISTED]:
        reporter.log(f"{name}: generated by this model with probability {prob:.0%}, according to its detector")
    num_generated = sum(prob > 0.5 for prob in probs.values())
    reporter.log(
        f"{num_generated:,} of {len(probs):,} recordings classified as generated (detector of {detector.data})"
    )
    return {"made": num_generated, "n": len(probs), "chances": {name: round(prob, 4) for name, prob in probs.items()}}


MAX_UTTERANCES, SECONDS = 24, 90.0
"""Maximum number of utterances that the model continues, and approximate duration of the evaluation in seconds."""
DETECTOR_UTTERANCES = 24
"""Number of training utterances for training the detector of generated speech."""
SHOWN = 4
"""Number of examples in the report."""


def evaluate_speech(request: EvaluationRequest) -> dict[str, Any]:
    """Let the model continue held-out utterances, evaluate the continuations, write the report and return the metrics.

    If `request` names samples, they are only classified as generated or real, as by `detect_generated`.

    Raises:
        InputError: If the run or the data are invalid.
        UsageError: If both samples and data are given.
    """
    run, model, reporter = request.run, request.model, request.tell
    if request.samples is not None:
        if request.data is not None:
            raise UsageError("--samples or --data", "both", "Choose one", argument="samples")
        return detect_generated(run, model, request.samples, reporter)
    modality, rng = require_speech(model), Rng(0).fold_in("evaluate")
    evaluation = load_evaluation_data(request, lambda source, record: read(source, like=modality))
    training_data = train_test_split(evaluation.record, evaluation.whole.with_modality(modality))[0]
    train = modality.for_training(training_data, rng.fold_in("train"))
    real = modality.for_training(evaluation.real, rng.fold_in("real"))
    cuts = split_utterances(
        modality, real.subset(torch.arange(min(len(real), request.effort.limit(MAX_UTTERANCES, SECONDS))))
    )
    metrics: dict[str, Any] = {}
    continuations, sounds = None, list[tuple[str, bytes]]()
    if cuts:
        continuations = _continue_utterances(model, cuts, rng, reporter)
        reporter.start("transcribing")
        asr_cache = ASRCache(2 * len(cuts), reporter)
        judges = Judges(recognizer=asr_cache, predict_mos=asr_cache.rate)
        quality = speech_quality(continuations.generated, continuations.resynthesized, rng.fold_in("judges"), judges)
        reporter.start("training the detector")
        metrics |= {
            **quality.numbers,
            **_detection_metrics(run, model, train, continuations, rng, reporter),
            "synthesis": continuations.pace,
        }
        reporter.finish()
        sounds = _listening_examples(continuations, asr_cache.transcripts)
        for note in quality.notes:
            reporter.log(note)
    else:
        reporter.log("no utterance has two words, so only durations are evaluated")
    metrics |= _durations(modality, real, train, rng)
    content = ReportContent(
        title=f"{evaluation.record.data}, by the recipe {evaluation.record.provenance.recipe}",
        tried="evaluated on",
        subject=f"Evaluated: second halves of {len(cuts):,} utterances, generated given the first halves,"
        f" {evaluation.origin_text}"
        if continuations
        else f"Evaluated: phone durations of {len(real):,} utterances {evaluation.origin_text}",
        numbers=metrics,
        pictures=[("Real second halves, each next to its continuation", _picture(modality, continuations))]
        if continuations
        else [],
        sounds=sounds,
        heading="Speech",
        next_steps=[
            *fill_templates("speech", run, words=next(iter(modality.texts(evaluation.real.values)), "") or "hello")
        ],
    )
    return write_evaluation_report(evaluation, content)


@dataclass(frozen=True, eq=False)
class _Continuations:
    cuts: Sequence[SplitUtterance]
    new_mels: Sequence[Float[Tensor, "_ bands"]]
    generated: Utterances
    """Second halves of the utterances as generated by the model."""
    resynthesized: Utterances
    """Second halves of the real utterances, resynthesized by the same vocoder."""
    pace: float
    """Network time in seconds per second of generated speech."""


def _continue_utterances(model: Model, cuts: Sequence[SplitUtterance], rng: Rng, reporter: Reporter) -> _Continuations:
    """Generate continuations of the first halves of utterances, and vocode them and the real second halves."""
    modality = require_speech(model)
    reporter.start("synthesising")
    start_time = time.perf_counter()
    new_mels = _continuation_mels(model, cuts, rng)
    seconds = time.perf_counter() - start_time
    reporter.start("vocoding")
    mels = (new_mels, [cut.target_mel for cut in cuts], [cut.prompt_mel for cut in cuts])
    generated, resynthesized, prompts = ([modality.sound(mel) for mel in group] for group in mels)
    texts = [cut.text for cut in cuts] if modality.inventory.english and all(cut.text for cut in cuts) else None
    pace = seconds * FRAMES / max(sum(map(len, new_mels)), 1)
    return _Continuations(
        cuts, new_mels, Utterances(generated, texts, prompts), Utterances(resynthesized, texts, prompts), pace
    )


def _continuation_mels(model: Model, cuts: Sequence[SplitUtterance], rng: Rng) -> list[Float[Tensor, "_ bands"]]:
    config = SpeechSynthesisConfig(sampling=model.spec.sampling)
    scripts = with_durations(model, [cut.script for cut in cuts], config, rng)
    return [speech.mel[speech.first_frame :] for speech in synthesize(model, scripts, config, rng.fold_in("said"))]


def _durations(modality: Speech, real: Dataset, train: Dataset, rng: Rng) -> dict[str, Any]:
    """Mask durations in real recordings, predict them with both duration models, and return the metrics."""
    if modality.duration_regressor is None or modality.duration_sampler is None:
        return {}
    phone, duration = real.values["phone"], real.values["duration"]
    valid = phone >= 0
    is_masked = DURATION_MASK(unit_ids(valid), valid, rng.stream("hidden"))
    evaluated = PhoneDurations(phone, duration, is_masked)
    training = PhoneDurations(train.values["phone"], train.values["duration"], train.values["phone"] >= 0)
    metrics: dict[str, Any] = {}
    for duration_model, count, suffix in (
        (modality.duration_regressor, 1, ""),
        (modality.duration_sampler, NUM_SAMPLES, "_drawn"),
    ):
        durations = [
            duration_model.infill(
                duration, valid & ~is_masked, phone.clamp(min=0), rng=rng.fold_in(f"{k}"), valid=valid
            )
            for k in range(count)
        ]
        scores = durations_quality(torch.stack(durations), evaluated, training)
        metrics |= {f"{name}{suffix}": value for name, value in scores.items()}
    return {name: value for name, value in metrics.items() if name in METRICS}


def _detection_metrics(
    run: Run, model: Model, train: Dataset, continuations: _Continuations, rng: Rng, reporter: Reporter
) -> dict[str, Any]:
    """Train a detector of generated speech, save it in the run, and evaluate it on the continuations."""
    modality = require_speech(model)
    cuts = split_utterances(modality, train.subset(torch.arange(min(len(train), DETECTOR_UTTERANCES))))
    if not cuts:
        return {}
    fake_mels = vocode(_continuation_mels(model, cuts, rng.fold_in("traces")), modality.mel, modality.vocoder)
    target_mels = [cut.target_mel for cut in cuts]
    real_mels = [*target_mels, *vocode(target_mels, modality.mel, modality.vocoder)]
    reporter.progress(0.0, "training the detector")

    def on_step(step_metrics: StepMetrics) -> None:
        reporter.progress(step_metrics.progress, f"detector step {step_metrics.step:,}")

    detector = fit_detector(real_mels, fake_mels, rng.fold_in("detector"), follow=on_step)
    if get_engine().is_main_process:
        save_detector(run.detector, detector)
    generated_mels, resynthesized_mels = (
        [modality.mel.log_mel(torch.from_numpy(sound.samples)) for sound in utterances.sounds]
        for utterances in (continuations.generated, continuations.resynthesized)
    )
    metrics: dict[str, Any] = {}
    for name, reference_mels in (
        ("detected", [cut.target_mel for cut in continuations.cuts]),
        ("detected_resynthesised", resynthesized_mels),
    ):
        detection = detector.evaluate(reference_mels, generated_mels)
        metrics |= dict(
            zip((name, f"{name}_low", f"{name}_high"), (detection.accuracy, *detection.interval), strict=True)
        )
    return metrics


def _picture(modality: Speech, continuations: _Continuations) -> Any:
    """Draw the spectrograms of the first real halves, each next to the generated one."""
    pairs = [*zip(continuations.cuts, continuations.new_mels, strict=True)][:SHOWN]
    return spectrograms(
        [SpectrogramPanel(mel.numpy()) for cut, new_mel in pairs for mel in (cut.target_mel, new_mel)],
        modality.mel.f_max,
        2,
    )


def _listening_examples(continuations: _Continuations, transcripts: Mapping[Waveform, str]) -> list[tuple[str, bytes]]:
    """Return the first examples as captioned audio, with their texts and transcripts in the captions."""
    rows = [
        *zip(
            continuations.cuts,
            continuations.generated.prompts or (),
            continuations.resynthesized.sounds,
            continuations.generated.sounds,
            strict=True,
        )
    ][:SHOWN]
    return [
        (caption, wav(sound))
        for cut, prompt, real, generated in rows
        for caption, sound in (
            ("prompt", prompt),
            (_caption(f"real: {cut.text}", transcripts.get(real)), real),
            (_caption(f"generated: {cut.text}", transcripts.get(generated)), generated),
        )
    ]


def _caption(caption: str, transcript: str | None) -> str:
    """Return a caption with the transcript appended, if there is one."""
    caption = caption.removesuffix(": ")
    return caption if transcript is None else f"{caption} (Whisper: {transcript.strip() or 'no speech'})"
