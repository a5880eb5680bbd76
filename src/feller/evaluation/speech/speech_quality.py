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
    """Return the Fréchet distance between principal components of two sets, in percent of their variance in `real`.

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
    min_sounds = min(len(features), len(real))
    if min_sounds < MIN_SOUNDS:
        raise InputError(f"at least {MIN_SOUNDS} sounds in each set", f"{len(features)} and {len(real)}")
    num_components = min(COMPONENTS, min_sounds // SOUNDS_PER_COMPONENT) if components is None else components
    pca = Components.fit(real, num_components)
    projected, real_projected = pca.transform(features), pca.transform(real)
    variance = real_projected.var(0).sum().item()
    if not variance > 0:
        raise InputError("real sounds whose features differ", "equal features of all real sounds")
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
        fields = (None if field is None else [field[i] for i in order] for field in (self.texts, self.prompts))
        return Utterances([self.sounds[i] for i in order], *fields)


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
    """Compute metrics of generated speech, and as their floors the same metrics of real speech.

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
    metrics, notes = Numbers(), list[str]()
    for name, measure in MEASURES.items():
        try:
            metrics |= measure(made, real, rng.fold_in(name), judges)
        except NotInstalledError as error:
            notes.append(f"{name} are not measured: {error}")
    return SpeechQuality(metrics, (*notes, *_notes(made, metrics, judges)))


def _words(made: Utterances, real: Utterances, rng: Rng, judges: Judges) -> Numbers:
    metrics = Numbers()
    if made.texts is not None:
        subset = made.subsample(judges.max_transcribed, rng.fold_in("made"))
        wer = word_error_rate(subset.texts or (), judges.recognizer.transcribe(subset.sounds), rng)
        metrics |= {
            "word_error_rate": wer.rate,
            "word_error_rate_low": wer.low,
            "word_error_rate_high": wer.high,
            "word_error_rate_floor": None,
        }
        if real.texts is not None:
            subset = real.subsample(judges.max_transcribed, rng.fold_in("real"))
            floor = word_error_rate(subset.texts or (), judges.recognizer.transcribe(subset.sounds), rng)
            metrics["word_error_rate_floor"] = floor.rate
    return metrics


def _voices(made: Utterances, real: Utterances, rng: Rng, judges: Judges) -> Numbers:
    subset, real_subset = (
        group.subsample(judges.max_compared, rng.fold_in(name)) for group, name in ((made, "made"), (real, "real"))
    )
    vectors = judges.speaker_encoder.embed(subset.sounds)
    real_vectors = judges.speaker_encoder.embed(real_subset.sounds)
    metrics: Numbers = {"voiceless": float((~vectors.isfinite().all(1)).sum())}
    if subset.prompts is not None:
        metrics["speaker_similarity"] = _mean_similarity(vectors, judges.speaker_encoder.embed(subset.prompts))
        real_prompts = real_subset.prompts
        metrics["speaker_similarity_floor"] = (
            None if real_prompts is None else _mean_similarity(real_vectors, judges.speaker_encoder.embed(real_prompts))
        )
    return metrics | _distances(*(group[group.isfinite().all(1)] for group in (vectors, real_vectors)))


def _mean_similarity(vectors: Float[Tensor, "n f"], prompts: Float[Tensor, "n f"]) -> float | None:
    """Return the mean cosine similarity of each sound and its prompt; pairs without an embedding are skipped."""
    cosines = similarity(vectors, prompts)
    return cosines[cosines.isfinite()].double().mean().item() if cosines.isfinite().any() else None


def _distances(vectors: Float[Tensor, "n f"], real_vectors: Float[Tensor, "m f"]) -> Numbers:
    """Return the Fréchet distance of generated sounds from one half of the real sounds.

    Its floor is the distance of the other half from this half.
    """
    n = min(len(vectors), len(real_vectors) // 2)
    if n < MIN_SOUNDS:
        return {"frechet_speech": None, "frechet_speech_floor": None}
    real_half, other_half = real_vectors[:n], real_vectors[n : 2 * n]
    return {
        "frechet_speech": frechet_features(vectors[:n], real_half),
        "frechet_speech_floor": frechet_features(other_half, real_half),
    }


def _opinions(made: Utterances, real: Utterances, rng: Rng, judges: Judges) -> Numbers:
    metrics = Numbers()
    for utterances, name, suffix in ((made, "made", ""), (real, "real", "_floor")):
        sounds = [
            sound
            for sound in utterances.subsample(judges.max_rated, rng.fold_in(name)).sounds
            if sound.seconds >= MIN_SECONDS
        ]
        ratings = [judges.predict_mos(sound) for sound in sounds]
        means = torch.tensor([(mos.overall, mos.speech, mos.background) for mos in ratings]).mean(0).tolist()
        keys = (f"opinion{rating}{suffix}" for rating in ("", "_speech", "_background"))
        metrics |= dict(zip(keys, means if ratings else [None] * 3, strict=True))
    return metrics


Measure = Callable[[Utterances, Utterances, Rng, Judges], Numbers]
MEASURES: dict[str, Measure] = {"words": _words, "voices": _voices, "opinions": _opinions}


def _notes(made: Utterances, numbers: Numbers, judges: Judges) -> list[str]:
    notes = []
    for name, max_sounds in (
        ("word_error_rate", judges.max_transcribed),
        ("voiceless", judges.max_compared),
        ("opinion", judges.max_rated),
    ):
        if name in numbers and len(made.sounds) > max_sounds:
            label = "voices" if name == "voiceless" else name
            notes.append(f"{label}: evaluated on {max_sounds:,} of the {len(made.sounds):,} sounds, to save time")
    short = sum(sound.seconds < RELIABLE_SECONDS for sound in made.sounds)
    if "speaker_similarity" in numbers and short:
        notes.append(f"{short:,} sounds are shorter than {RELIABLE_SECONDS:g} s: speaker similarity is unreliable")
    if "frechet_speech" in numbers and numbers["frechet_speech"] is None:
        notes.append(f"frechet_speech needs at least {MIN_SOUNDS} sounds with a voice and {2 * MIN_SOUNDS} real sounds")
    return notes
