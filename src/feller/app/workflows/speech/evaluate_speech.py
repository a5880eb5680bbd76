"""Evaluate a speech model: recognition, similarity, detection."""

import pathlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from feller.app.modalities.speech import require_speech
from feller.app.reporter import Tell
from feller.app.workflows.next_steps import steps
from feller.app.workflows.reporting.evaluate_non_generative import EvaluationRequest, Told, examined, report
from feller.app.workflows.run_config import parts
from feller.app.workflows.speech.recordings import Continued, continued
from feller.app.workflows.speech.synthesize import Manner, say, timed
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
class Attentive(SpeechRecognizer):
    """Hears and rates sounds one by one."""

    count: int
    """Sounds that are heard, and then rated."""
    tell: Tell
    listener: SpeechRecognizer = field(default_factory=Whisper)
    heard: dict[Waveform, str] = field(default_factory=dict)
    """What is said in each, as it was heard; grows."""
    rated: list[Waveform] = field(default_factory=list)
    """Grows too."""

    def transcribe(self, sounds: Sequence[Waveform]) -> list[str]:
        """Return what is said in each sound."""
        for sound in sounds:
            (self.heard[sound],) = self.listener.transcribe([sound])
            self.tell.progress(len(self.heard) / self.count / 2, f"{len(self.heard):,} of {self.count:,} heard")
        return [self.heard[sound] for sound in sounds]

    def rate(self, sound: Waveform) -> MOSRatings:
        """Return how people would rate a sound."""
        found = opinion(sound)
        self.rated.append(sound)
        share = (1 + len(self.rated) / self.count) / 2
        self.tell.progress(min(share, 1.0), f"{len(self.rated):,} of {self.count:,} rated")
        return found


LISTED = 20
"""Sounds that are told one by one; the others are counted."""


def suspect(run: Run, model: Model, samples: str, tell: Tell) -> dict[str, Any]:
    """Ask the detector of a run about sounds.

    Args:
        run: Holds it.
        model: Whose sounds it knows.
        samples: A folder of sounds, or one.
        tell: Hears what it says of each.

    Raises:
        InputError: If there are no sounds, or they are too short.
        UsageError: If the run has no detector yet.
    """
    if not run.detector.is_file():
        raise UsageError("has no detector yet", remedy=f"Train it with: feller evaluate {run.path}", file=run.path)
    detector, mel = load_detector(run.detector), require_speech(model).mel
    found = load_waveforms(pathlib.Path(samples))
    mels = log_mels(RawSpeech(found.values, names=found.names), mel)
    short = [name for name, each in zip(found.names, mels, strict=True) if len(each) < WINDOW_FRAMES]
    if short:
        raise InputError(
            expected=f"sounds of at least {WINDOW_FRAMES / FRAMES:g} s", remedy="Leave shorter ones out", place=short[0]
        )
    chances = dict(zip(found.names, detector.generated_prob(mels).tolist(), strict=True))
    for name, chance in [*chances.items()][:LISTED]:
        tell.say(f"{name}: made by this model with a chance of {chance:.0%}, as far as its detector can tell")
    made = sum(chance > 0.5 for chance in chances.values())
    tell.say(f"{made:,} of {len(chances):,} sounds seem to be made by this model; it learned from {detector.data}")
    return {"made": made, "n": len(chances), "chances": {name: round(chance, 4) for name, chance in chances.items()}}


MOST, SECONDS = 24, 90.0
"""Utterances that are continued, at most, and seconds that an evaluation of all takes, about."""
TRACED = 24
"""Of the training data, to learn what the model's sounds look like."""
SHOWN = 4
"""On the page."""


def measure(request: EvaluationRequest) -> dict[str, Any]:
    """Let a model go on where speakers whom training did not hear stop, and write the report.

    Samples are sounds of which is to be told whether this model made them, and nothing else.

    Raises:
        InputError: If run or data are not what they must be.
        UsageError: If data have no utterances of two words.
    """
    run, model, tell = request.run, request.model, request.tell
    if request.samples is not None:
        if request.data is not None:
            raise UsageError("asks the detector, and --data judges the model", remedy="Choose one", argument="samples")
        return suspect(run, model, request.samples, tell)
    kind, draws = require_speech(model), Rng(0).fold_in("evaluate")
    it = examined(request, lambda source, asked: read(source, like=kind))
    learned = parts(it.asked, it.whole.with_modality(kind))[0]
    train = kind.for_training(learned, draws.fold_in("train"))
    real = kind.for_training(it.real, draws.fold_in("real"))
    cuts = continued(kind, real.subset(torch.arange(min(len(real), request.effort.limit(MOST, SECONDS)))))
    numbers: dict[str, Any] = {}
    said, sounds = None, list[tuple[str, bytes]]()
    if cuts:
        said = _said(model, cuts, draws, tell)
        tell.task("listening")
        ears = Attentive(2 * len(cuts), tell)
        judges = Judges(recognizer=ears, predict_mos=ears.rate)
        found = speech_quality(said.made, said.again, draws.fold_in("judges"), judges)
        tell.task("looking for traces")
        numbers |= {**found.numbers, **_traces(run, model, train, said, draws, tell), "synthesis": said.pace}
        tell.done()
        sounds = _heard(said, ears.heard)
        for note in found.notes:
            tell.say(note)
    else:
        tell.say(
            "no utterance has two words, so that nothing can be said behind a voice, and durations alone are judged"
        )
    numbers |= _durations(kind, real, train, draws)
    told = Told(
        title=f"{it.asked.data}, by the recipe {it.asked.provenance.recipe}",
        tried="going on with",
        judged=f"Judged: the second halves of {len(cuts):,} utterances, said anew behind the first, {it.which}"
        if said
        else f"Judged: durations of phones of {len(real):,} utterances {it.which}",
        numbers=numbers,
        pictures=[("Each real half, and the one that was said anew", _picture(kind, said))] if said else [],
        sounds=sounds,
        heading="Speech",
        next_steps=[*steps("speech", run, words=next(iter(kind.texts(it.real.values)), "") or "hello")],
    )
    return report(it, told)


@dataclass(frozen=True, eq=False)
class _Said:
    """Second halves that were said anew."""

    cuts: Sequence[Continued]
    new: Sequence[Float[Tensor, "_ bands"]]
    made: Utterances
    """What the model said."""
    again: Utterances
    """What was really said, through the same vocoder."""
    pace: float
    """Seconds of the network for one of speech."""


def _said(model: Model, cuts: Sequence[Continued], draws: Rng, tell: Tell) -> _Said:
    """Go on with the first halves, and make sounds of all."""
    kind = require_speech(model)
    tell.task("speaking")
    began = time.perf_counter()
    new = _spoken(model, cuts, draws)
    took = time.perf_counter() - began
    tell.task("making sounds")
    mels = (new, [cut.real for cut in cuts], [cut.heard for cut in cuts])
    made, again, heard = ([kind.sound(mel) for mel in each] for each in mels)
    texts = [cut.text for cut in cuts] if kind.inventory.english and all(cut.text for cut in cuts) else None
    pace = took * FRAMES / max(sum(map(len, new)), 1)
    return _Said(cuts, new, Utterances(made, texts, heard), Utterances(again, texts, heard), pace)


def _spoken(model: Model, cuts: Sequence[Continued], draws: Rng) -> list[Float[Tensor, "_ bands"]]:
    """Return log mels of what follows the first halves."""
    manner = Manner(sampling=model.spec.sampling)
    scripts = timed(model, [cut.script for cut in cuts], manner, draws)
    return [each.mel[each.first :] for each in say(model, scripts, manner, draws.fold_in("said"))]


def _durations(kind: Speech, real: Dataset, train: Dataset, draws: Rng) -> dict[str, Any]:
    """Hide durations of whole pieces of utterances, and fill them in."""
    if kind.duration_regressor is None or kind.duration_sampler is None:
        return {}
    phone, true = real.values["phone"], real.values["duration"]
    valid = phone >= 0
    hidden = DURATION_MASK(unit_ids(valid), valid, draws.stream("hidden"))
    about = PhoneDurations(phone, true, hidden)
    known = PhoneDurations(train.values["phone"], train.values["duration"], train.values["phone"] >= 0)
    numbers: dict[str, Any] = {}
    for lasting, count, end in ((kind.duration_regressor, 1, ""), (kind.duration_sampler, NUM_SAMPLES, "_drawn")):
        drawn = [
            lasting.infill(true, valid & ~hidden, phone.clamp(min=0), rng=draws.fold_in(f"{k}"), valid=valid)
            for k in range(count)
        ]
        found = durations_quality(torch.stack(drawn), about, known)
        numbers |= {f"{name}{end}": value for name, value in found.items()}
    return {name: value for name, value in numbers.items() if name in METRICS}


def _traces(run: Run, model: Model, train: Dataset, said: _Said, draws: Rng, tell: Tell) -> dict[str, Any]:
    """Train what tells the model's sounds from real ones, keep it in the run, and try it on what was said anew."""
    kind = require_speech(model)
    learned = continued(kind, train.subset(torch.arange(min(len(train), TRACED))))
    if not learned:
        return {}
    made = vocode(_spoken(model, learned, draws.fold_in("traces")), kind.mel, kind.vocoder)
    real = [cut.real for cut in learned]
    real_ones = [*real, *vocode(real, kind.mel, kind.vocoder)]
    tell.progress(0.0, "training the detector")

    def follow(at: StepMetrics) -> None:
        tell.progress(at.progress, f"step {at.step:,} of the detector")

    detector = fit_detector(real_ones, made, draws.fold_in("detector"), follow=follow)
    if get_engine().is_main_process:
        save_detector(run.detector, detector)
    unseen, again = (
        [kind.mel.log_mel(torch.from_numpy(one.samples)) for one in each.sounds] for each in (said.made, said.again)
    )
    numbers: dict[str, Any] = {}
    for name, others in (("detected", [cut.real for cut in said.cuts]), ("detected_resynthesised", again)):
        apart = detector.evaluate(others, unseen)
        numbers |= dict(zip((name, f"{name}_low", f"{name}_high"), (apart.accuracy, *apart.interval), strict=True))
    return numbers


def _picture(kind: Speech, said: _Said) -> Any:
    """Draw the first real halves, each beside what was said anew."""
    pairs = [*zip(said.cuts, said.new, strict=True)][:SHOWN]
    return spectrograms(
        [SpectrogramPanel(mel.numpy()) for cut, new in pairs for mel in (cut.real, new)], kind.mel.f_max, 2
    )


def _heard(said: _Said, heard: Mapping[Waveform, str]) -> list[tuple[str, bytes]]:
    """Return the first sounds to listen to: what was asked, and what a machine heard of it, where it listened."""
    rows = [*zip(said.cuts, said.made.prompts or (), said.again.sounds, said.made.sounds, strict=True)][:SHOWN]
    return [
        (words, wav(sound))
        for cut, first, real, new in rows
        for words, sound in (
            ("what was heard", first),
            (_caption(f"really: {cut.text}", heard.get(real)), real),
            (_caption(f"to be said anew: {cut.text}", heard.get(new)), new),
        )
    ]


def _caption(asked: str, heard: str | None) -> str:
    """Put what a machine heard behind what was asked, where it listened."""
    asked = asked.removesuffix(": ")
    return asked if heard is None else f"{asked} (Whisper hears: {heard.strip() or 'nothing'})"
