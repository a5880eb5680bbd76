"""Recipes of speech: an infilling transformer with duration models, and a vocoder."""

from dataclasses import dataclass, replace

from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.data.speech.modality import Speech
from feller.data.speech.phones import PLACES
from feller.data.speech.sounds import Waveforms
from feller.models.infilling import LearnedDurations
from feller.models.recipes.recipe import Recipe, SpeechAuxNetworks, require_modality
from feller.networks.audio.frame_infiller import FrameInfiller
from feller.networks.audio.spectral_vocoder import SpectralVocoder
from feller.paths import Affine
from feller.paths.schedules import LinearSigmaMin
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objectives.autoencoding import SpectralLoss, default_window_sizes
from feller.training.objectives.frame_infilling import Infilling
from feller.training.optimizer import TrainConfig


@dataclass(frozen=True)
class SpeechSize:
    """Sizes of the networks in a speech model, and their training settings."""

    network: FrameInfiller
    """Configuration of the infilling network."""
    batch: int
    window_frames: int
    """Number of frames per training example; longer sounds are randomly cropped to it."""
    lr: float
    minutes: float
    duration_size: int
    """Size of the duration models, as in `FrameInfiller.from_size`."""
    duration_steps: int
    """Number of training steps of the duration models."""


LABELS_PER_PHONE = len(PLACES)
"""Number of labels per phone, one for each position in a word; the labels of a phone share an embedding."""
SIZES = {
    "tiny": SpeechSize(
        FrameInfiller(64, 2, 2, group_size=LABELS_PER_PHONE, conv_channels=8),
        batch=8,
        window_frames=400,
        lr=2e-3,
        minutes=1.0,
        duration_size=1,
        duration_steps=100,
    ),
    "small": SpeechSize(
        FrameInfiller(96, 4, 4, group_size=LABELS_PER_PHONE, conv_channels=12),
        batch=8,
        window_frames=400,
        lr=2e-3,
        minutes=20.0,
        duration_size=2,
        duration_steps=800,
    ),
    "base": SpeechSize(
        FrameInfiller.from_size(8, group_size=LABELS_PER_PHONE, conv_channels=16),
        batch=16,
        window_frames=1600,
        lr=5e-4,
        minutes=600.0,
        duration_size=4,
        duration_steps=10_000,
    ),
}
NFE = 8
"""Number of network evaluations per sound; larger numbers do not improve quality."""


def speech(data: Dataset, size: str) -> Recipe:
    """Return a speech recipe: flow matching on masked frames, and duration models for the phones of a text.

    `size` is the size of the model: "tiny", "small" or "base".

    Source: Le et al. 2023, "Voicebox", arXiv 2306.15687.
    """
    modality = require_modality(data.modality, Speech, "speech", "a folder of sounds with transcripts")
    settings = SIZES[size]
    if "phone" not in data.values:
        raise UsageError("the recipe `speech` needs transcripts", remedy="Add a text file next to each sound file")
    modality = replace(modality, window_frames=settings.window_frames)
    if modality.duration_regressor is None:
        phones, durations = len(modality.inventory), data.values["duration"][data.values["phone"] >= 0]
        modality = replace(
            modality,
            duration_regressor=LearnedDurations.deterministic(settings.duration_size, phones, durations),
            duration_sampler=LearnedDurations.stochastic(settings.duration_size, phones, durations),
        )
    duration_training = TrainConfig(
        batch_size=16, lr=2e-3, warmup=50, lr_decay_fraction=0.5, ema_decay=0.99, steps=settings.duration_steps
    )
    return Recipe(
        modality=modality,
        architecture=settings.network,
        objective=Infilling(Affine(LinearSigmaMin()), modality.space(), max_length=settings.window_frames),
        aux_networks=SpeechAuxNetworks(durations=duration_training, duration_sampler=duration_training),
        sampling=SamplerConfig("midpoint", NFE),
        train=TrainConfig(
            batch_size=settings.batch,
            lr=settings.lr,
            warmup=200,
            lr_decay_fraction=0.5,
            ema_decay=0.999,
            grad_clip_norm=0.5,
            minutes=settings.minutes,
        ),
    )


VOCODER_SIZES = {"tiny": (64, 2, 2.0), "small": (192, 6, 20.0), "base": (384, 8, 120.0)}
"""For each size: width, depth and minutes of training of the vocoder."""
SEGMENT_FRAMES = 32
"""Number of frames per training example of the vocoder."""


def vocoder(data: Dataset, size: str) -> Recipe:
    """Return a vocoder recipe: waveforms from log-mel spectrograms; the data need no transcripts.

    `size` is the size of the model: "tiny", "small" or "base".

    On one CPU core the vocoder takes a tenth of the time of Griffin-Lim. In automatic scores of speaker similarity and
    quality, it was better than Griffin-Lim on digits at 8 kHz after two minutes of training, and worse on sentences at
    16 kHz after five minutes. Sentences need longer training.
    """
    modality = require_modality(data.modality, Waveforms, "vocoder", "a folder of sounds")
    mel = modality.mel
    width, depth, minutes = VOCODER_SIZES[size]
    window_sizes = default_window_sizes(mel.n_fft)
    segment_size = max(SEGMENT_FRAMES, -(-window_sizes[-1] // mel.hop_length)) * mel.hop_length
    return Recipe(
        architecture=SpectralVocoder(mel, width, depth),
        objective=SpectralLoss(modality.space(), window_sizes=window_sizes, segment_size=segment_size),
        train=TrainConfig(batch_size=16, lr=2e-3, minutes=minutes),
    )
