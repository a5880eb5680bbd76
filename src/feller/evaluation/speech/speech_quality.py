"""Quality of speech: words, speaker similarity, naturalness, Fréchet distances of features."""

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
"""Directions that are kept, at most."""
SOUNDS_PER_COMPONENT = 4
"""Sounds of the smaller set for each direction that is kept: their covariance is then more than chance."""
MIN_SOUNDS = 8
"""Sounds of a set, at least."""


@dataclass(frozen=True, eq=False)
class Components:
    """The directions in which the features of some sounds differ most."""

    mean: Float[Tensor, " f"]
    directions: Float[Tensor, "k f"]
    """Of length 1, at right angles, that of most variance first."""

    @classmethod
    def fit(cls, features: Float[Tensor, "n f"], count: int) -> "Components":
        """Find so many of them, or fewer where there are no more."""
        mean = features.double().mean(0)
        return cls(mean, torch.linalg.svd(features.double() - mean, full_matrices=False).Vh[:count])

    def transform(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n k"]:
        """Return how far features lie from the mean in these directions."""
        return (features.double() - self.mean) @ self.directions.T


def frechet_features(
    features: Float[Tensor, "n f"], real: Float[Tensor, "m f"], components: int | None = None
) -> float:
    """Return 100 times the Fréchet distance of features along the components of the real ones, in their variance.

    It is above zero for two sets of one law too, the more the smaller they are: compare at equal sizes. Of speaker
    vectors it tells voices that are missing, and noise, and hardly what is said. It is not the FSD of papers, which
    looks at wav2vec 2.0. Source: Le et al. 2023, "Voicebox", arXiv 2306.15687, whose way it is otherwise.

    Args:
        features: Of the sounds that are judged; rows with NaN are left out.
        real: Of those they are set beside, which the components belong to.
        components: How many; without it, a quarter of the smaller set, at most 128.

    Raises:
        InputError: If either set is smaller than 8, or the real ones do not differ.
    """
    features, real = (rows[rows.isfinite().all(1)] for rows in (features, real))
    smaller = min(len(features), len(real))
    if smaller < MIN_SOUNDS:
        raise InputError(f"{MIN_SOUNDS} or more sounds in each set", f"{len(features)} and {len(real)}")
    num_components = min(COMPONENTS, smaller // SOUNDS_PER_COMPONENT) if components is None else components
    axes = Components.fit(real, num_components)
    projected, real_projected = axes.transform(features), axes.transform(real)
    variance = real_projected.var(0).sum().item()
    if not variance > 0:
        raise InputError("the real sounds have the same features; expected different ones")
    return 100 * frechet(projected, real_projected) / variance


Numbers = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Utterances:
    """Sounds with what is known of each."""

    sounds: Sequence[Waveform]
    texts: Sequence[str] | None = None
    """What is, or was to be, said in them."""
    prompts: Sequence[Waveform] | None = None
    """Other sounds of the voices that speak, or should speak, in them."""

    def __post_init__(self) -> None:
        for name, values in (("texts", self.texts), ("prompts", self.prompts)):
            if values is not None and len(values) != len(self.sounds):
                raise InputError(f"one of the {name} for each of {len(self.sounds)} sounds", len(values))

    def subsample(self, max_sounds: int, rng: Rng) -> "Utterances":
        """Return at most so many of them, chosen at random, in an order of chance."""
        order = torch.randperm(len(self.sounds), generator=rng.stream("some").shared_generator())[:max_sounds].tolist()
        parts = (None if part is None else [part[i] for i in order] for part in (self.texts, self.prompts))
        return Utterances([self.sounds[i] for i in order], *parts)


@dataclass(frozen=True, eq=False)
class SpeechQuality:
    """How good speech is."""

    numbers: Numbers
    """By their names in `METRICS`; None where something cannot be told."""
    notes: tuple[str, ...] = ()
    """What is missing and why, for people."""


@dataclass(frozen=True)
class Judges:
    """Who looks at sounds, and at how many: on one core, hearing and rating take half a second for each."""

    recognizer: SpeechRecognizer = field(default_factory=Whisper)
    speaker_encoder: SpeakerEncoder = field(default_factory=SpeakerEncoder)
    predict_mos: Callable[[Waveform], MOSRatings] = opinion
    """Says how people would rate a sound."""
    max_transcribed: int = 50
    """Sounds that are written down, at most."""
    max_compared: int = 500
    """Sounds whose voices are compared, at most."""
    max_rated: int = 50
    """Sounds that are rated, at most."""


def speech_quality(made: Utterances, real: Utterances, rng: Rng, judges: Judges | None = None) -> SpeechQuality:
    """Measure sounds that were made and, beside them, real ones.

    Args:
        made: What a model made.
        real: Sounds that it has not seen. Brought to log mels and back first, they tell what the model itself loses.
        rng: Source of all that is random.
        judges: Who looks at them.

    Returns:
        Numbers, without those for which a package is not installed; a note names what installs it.

    Raises:
        InputError: If there are no sounds, or a text has no words.
    """
    judges = judges or Judges()
    if not len(made.sounds) or not len(real.sounds):
        raise InputError("sounds and real ones", f"{len(made.sounds)} and {len(real.sounds)}")
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
    """Return the mean similarity of those that both have a voice."""
    found = similarity(vectors, prompts)
    return found[found.isfinite()].double().mean().item() if found.isfinite().any() else None


def _distances(own: Float[Tensor, "n f"], real_vectors: Float[Tensor, "m f"]) -> Numbers:
    """Return the distance of samples from one half of the real sounds, and that of the other half, at equal sizes."""
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
    """Say what the numbers cannot tell."""
    notes = []
    for name, most in (
        ("word_error_rate", judges.max_transcribed),
        ("voiceless", judges.max_compared),
        ("opinion", judges.max_rated),
    ):
        if name in numbers and len(made.sounds) > most:
            what = "voices" if name == "voiceless" else name
            notes.append(f"{what}: {most:,} of the {len(made.sounds):,} sounds were looked at, to save time")
    short = sum(sound.seconds < RELIABLE_SECONDS for sound in made.sounds)
    if "speaker_similarity" in numbers and short:
        notes.append(f"{short:,} sounds are shorter than {RELIABLE_SECONDS:g} s, and their voices are hardly known")
    if "frechet_speech" in numbers and numbers["frechet_speech"] is None:
        notes.append(f"frechet_speech needs {MIN_SOUNDS} sounds with a voice, and {2 * MIN_SOUNDS} real ones")
    return notes
