"""Metrics of generated speech: word error rate, speaker similarity, opinion scores and Fréchet distances."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import InputError
from feller.core.optional_dependency import NotInstalledError
from feller.core.rng import Rng
from feller.data.loading.raw import Waveform
from feller.evaluation.speech.asr import SpeechRecognizer, Whisper, word_error_rate
from feller.evaluation.speech.mos import MIN_SECONDS, MOSRatings, opinion
from feller.evaluation.speech.speaker_similarity import RELIABLE_SECONDS, SpeakerEncoder, similarity
from feller.evaluation.two_sample import frechet

COMPONENTS = 128
"""Maximum number of principal components for a Fréchet distance."""
SOUNDS_PER_COMPONENT = 4
"""Minimum number of sounds per principal component in the smaller set, for a stable covariance."""
MIN_SOUNDS = 8
"""Minimum number of sounds in each set for a Fréchet distance."""


@dataclass(frozen=True, eq=False)
class Components:
    """Principal component analysis of features: their mean and principal directions."""

    mean: Float[Tensor, " f"]
    directions: Float[Tensor, "k f"]
    """Orthonormal principal directions, in order of decreasing variance."""

    @classmethod
    def fit(cls, features: Float[Tensor, "n f"], count: int) -> "Components":
        """Fit at most `count` principal components to features."""
        mean = features.double().mean(0)
        return cls(mean, torch.linalg.svd(features.double() - mean, full_matrices=False).Vh[:count])

    def transform(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n k"]:
        """Return the coordinates of features along the principal directions, relative to the mean."""
        return (features.double() - self.mean) @ self.directions.T


def frechet_features(
    features: Float[Tensor, "n f"], real: Float[Tensor, "m f"], components: int | None = None
) -> float:
    """Return 100 times the Fréchet distance of principal components, divided by the variance of those of `real`.

    Two sets from the same distribution also have a positive distance, which is larger for smaller sets: compare sets of
    equal size. With speaker embeddings as features, the distance detects missing voices and noise, but is hardly
    sensitive to the words. The FSD in papers uses wav2vec 2.0 features instead. Source: Le et al. 2023, "Voicebox",
    arXiv 2306.15687.

    Args:
        features: Features of the evaluated sounds; rows with NaN are dropped.
        real: Features of the real sounds, to which the principal components are fitted.
        components: Number of components; default: a quarter of the smaller set, at most 128.

    Raises:
        InputError: If either set has fewer than 8 sounds, or the real features are constant.
    """
    features, real = (rows[rows.isfinite().all(1)] for rows in (features, real))
    smaller = min(len(features), len(real))
    if smaller < MIN_SOUNDS:
        raise InputError(f"at least {MIN_SOUNDS} sounds in each set", f"{len(features)} and {len(real)}")
    num_components = min(COMPONENTS, smaller // SOUNDS_PER_COMPONENT) if components is None else components
    axes = Components.fit(real, num_components)
    projected, real_projected = axes.transform(features), axes.transform(real)
    variance = real_projected.var(0).sum().item()
    if not variance > 0:
        raise InputError("real sounds with different features", "equal features")
    return 100 * frechet(projected, real_projected) / variance


Numbers = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Utterances:
    """Sounds with their reference texts and speaker prompts."""

    sounds: Sequence[Waveform]
    texts: Sequence[str] | None = None
    """Reference text of each sound."""
    prompts: Sequence[Waveform] | None = None
    """For each sound, another recording of its speaker."""

    def __post_init__(self) -> None:
        for name, values in (("texts", self.texts), ("prompts", self.prompts)):
            if values is not None and len(values) != len(self.sounds):
                raise InputError(f"one entry of {name} for each of {len(self.sounds)} sounds", len(values))

    def subsample(self, max_sounds: int, rng: Rng) -> "Utterances":
        """Return a random subset of at most `max_sounds` utterances, in random order."""
        order = torch.randperm(len(self.sounds), generator=rng.stream("some").shared_generator())[:max_sounds].tolist()
        parts = (None if part is None else [part[i] for i in order] for part in (self.texts, self.prompts))
        return Utterances([self.sounds[i] for i in order], *parts)


@dataclass(frozen=True, eq=False)
class SpeechQuality:
    """Metrics of generated speech, with notes."""

    numbers: Numbers
    """Metrics by key; None if undefined."""
    notes: tuple[str, ...] = ()
    """Notes on the limitations of metrics and on missing metrics."""


@dataclass(frozen=True)
class Judges:
    """Networks that evaluate speech, and the maximum number of sounds that each evaluates.

    Speech recognition and opinion scores each take 0.5 s per sound on one CPU core.
    """

    recognizer: SpeechRecognizer = field(default_factory=Whisper)
    speaker_encoder: SpeakerEncoder = field(default_factory=SpeakerEncoder)
    predict_mos: Callable[[Waveform], MOSRatings] = opinion
    """Function that predicts the mean opinion scores of a sound."""
    max_transcribed: int = 50
    """Maximum number of transcribed sounds."""
    max_compared: int = 500
    """Maximum number of sounds whose speaker similarity is measured."""
    max_rated: int = 50
    """Maximum number of sounds for which opinion scores are predicted."""


def speech_quality(made: Utterances, real: Utterances, rng: Rng, judges: Judges | None = None) -> SpeechQuality:
    """Compute metrics of generated speech; floors are the same metrics of real speech.

    Args:
        made: Generated utterances.
        real: Held-out real utterances; resynthesize them with the vocoder of `made` to isolate the error of the model.
        rng: Random streams for subsampling.
        judges: Networks and limits; default: `Judges()`.

    Returns:
        Metrics and notes. Metrics whose package is not installed are missing; notes say how to install the package.

    Raises:
        InputError: If there are no sounds, or if a reference text has no words.
    """
    judges = judges or Judges()
    if not len(made.sounds) or not len(real.sounds):
        raise InputError("at least one generated and one real sound", f"{len(made.sounds)} and {len(real.sounds)}")
    numbers, notes = Numbers(), list[str]()
    for name, measure in MEASURES.items():
        try:
            numbers |= measure(made, real, rng.fold_in(name), judges)
        except NotInstalledError as error:
            notes.append(f"{name} are not measured: {error}")
    return SpeechQuality(numbers, (*notes, *_notes(made, numbers, judges)))


def _words(made: Utterances, real: Utterances, rng: Rng, judges: Judges) -> Numbers:
    numbers = Numbers()
    if made.texts is not None:
        some = made.subsample(judges.max_transcribed, rng.fold_in("made"))
        found = word_error_rate(some.texts or (), judges.recognizer.transcribe(some.sounds), rng)
        numbers |= {
            "word_error_rate": found.rate,
            "word_error_rate_low": found.low,
            "word_error_rate_high": found.high,
            "word_error_rate_floor": None,
        }
        if real.texts is not None:
            some = real.subsample(judges.max_transcribed, rng.fold_in("real"))
            floor = word_error_rate(some.texts or (), judges.recognizer.transcribe(some.sounds), rng)
            numbers["word_error_rate_floor"] = floor.rate
    return numbers


def _voices(made: Utterances, real: Utterances, rng: Rng, judges: Judges) -> Numbers:
    some, real_chosen = (
        part.subsample(judges.max_compared, rng.fold_in(name)) for part, name in ((made, "made"), (real, "real"))
    )
    own, real_vectors = judges.speaker_encoder.embed(some.sounds), judges.speaker_encoder.embed(real_chosen.sounds)
    numbers: Numbers = {"voiceless": float((~own.isfinite().all(1)).sum())}
    if some.prompts is not None:
        numbers["speaker_similarity"] = _mean_similarity(own, judges.speaker_encoder.embed(some.prompts))
        theirs = real_chosen.prompts
        numbers["speaker_similarity_floor"] = (
            None if theirs is None else _mean_similarity(real_vectors, judges.speaker_encoder.embed(theirs))
        )
    return numbers | _distances(*(part[part.isfinite().all(1)] for part in (own, real_vectors)))


def _mean_similarity(vectors: Float[Tensor, "n f"], prompts: Float[Tensor, "n f"]) -> float | None:
    """Return the mean similarity over pairs with valid embeddings."""
    found = similarity(vectors, prompts)
    return found[found.isfinite()].double().mean().item() if found.isfinite().any() else None


def _distances(own: Float[Tensor, "n f"], real_vectors: Float[Tensor, "m f"]) -> Numbers:
    """Return the Fréchet distance of samples from one half of the real sounds, and its floor from the other half."""
    n = min(len(own), len(real_vectors) // 2)
    if n < MIN_SOUNDS:
        return {"frechet_speech": None, "frechet_speech_floor": None}
    real_half, other = real_vectors[:n], real_vectors[n : 2 * n]
    return {
        "frechet_speech": frechet_features(own[:n], real_half),
        "frechet_speech_floor": frechet_features(other, real_half),
    }


def _opinions(made: Utterances, real: Utterances, rng: Rng, judges: Judges) -> Numbers:
    numbers = Numbers()
    for part, name, behind in ((made, "made", ""), (real, "real", "_floor")):
        sounds = [
            sound
            for sound in part.subsample(judges.max_rated, rng.fold_in(name)).sounds
            if sound.seconds >= MIN_SECONDS
        ]
        found = [judges.predict_mos(sound) for sound in sounds]
        means = torch.tensor([(one.overall, one.speech, one.background) for one in found]).mean(0).tolist()
        names = (f"opinion{rating}{behind}" for rating in ("", "_speech", "_background"))
        numbers |= dict(zip(names, means if found else [None] * 3, strict=True))
    return numbers


Measure = Callable[[Utterances, Utterances, Rng, Judges], Numbers]
MEASURES: dict[str, Measure] = {"words": _words, "voices": _voices, "opinions": _opinions}


def _notes(made: Utterances, numbers: Numbers, judges: Judges) -> list[str]:
    notes = []
    for name, most in (
        ("word_error_rate", judges.max_transcribed),
        ("voiceless", judges.max_compared),
        ("opinion", judges.max_rated),
    ):
        if name in numbers and len(made.sounds) > most:
            what = "voices" if name == "voiceless" else name
            notes.append(f"{what}: evaluated on {most:,} of the {len(made.sounds):,} sounds, to save time")
    short = sum(sound.seconds < RELIABLE_SECONDS for sound in made.sounds)
    if "speaker_similarity" in numbers and short:
        notes.append(f"{short:,} sounds are shorter than {RELIABLE_SECONDS:g} s: speaker similarity is unreliable")
    if "frechet_speech" in numbers and numbers["frechet_speech"] is None:
        notes.append(f"frechet_speech needs at least {MIN_SOUNDS} sounds with a voice and {2 * MIN_SOUNDS} real sounds")
    return notes
