"""Speaker embeddings (Resemblyzer) and their cosine similarity."""

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.optional_dependency import NotInstalledError, require_package
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import resample

RATE = 16_000
BANDS = 40
SIZE = 256
"""Embedding dimension."""
FFT, HOP = 400, 160
"""Frame length and hop length, in audio samples."""
WINDOW = 160
"""Number of frames per window."""
STEP = 77
"""Number of frames between the starts of windows, which gives 1.3 windows per second."""
MIN_COVERAGE = 0.75
"""Minimum fraction of the last window that lies inside the sound, unless the sound has only one window."""
MIN_RMS = 10 ** (-30 / 20)
"""RMS level to which quieter sounds are amplified."""
MIN_SECONDS = 0.25
"""Minimum length of a sound for an embedding, in seconds."""
RELIABLE_SECONDS = 1.5
"""Length of a sound below which its embedding is unreliable, in seconds. The speaker verification error is 5 % at 1 s
and 17 % at 0.5 s."""
BATCH = 128
"""Number of windows per batch."""


class Encoder(nn.Module):
    """Network for speaker embeddings: three LSTM layers over mel frames, and a linear projection of the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, SIZE, 3, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b size"]:
        """Return the speaker embedding of each window of mel frames, a nonnegative unit vector."""
        _, (state, _) = self.lstm(mel)
        return nn.functional.normalize(self.linear(state[-1]).relu(), dim=-1)


@dataclass(frozen=True, eq=False)
class SpeakerEncoder:
    """Encoder of sounds as speaker embeddings, with the weights of Resemblyzer.

    Only the weights and the windowing of Resemblyzer are used. Quiet sounds are amplified; pauses are not removed,
    since their removal does not improve verification. Cosine similarities are not comparable with those of WavLM
    embeddings in papers. Source: Wan et al. 2018, "Generalized end-to-end loss for speaker verification", arXiv
    1710.10467.
    """

    @cached_property
    def _encoder(self) -> Encoder:
        # not imported, only located: its pause detector fails with some versions of setuptools
        spec = find_spec("resemblyzer")
        if spec is None or not spec.submodule_search_locations:
            raise NotInstalledError("speaker similarity needs resemblyzer: pip install 'feller[judges]'")
        file = pathlib.Path(spec.submodule_search_locations[0], "pretrained.pt")
        if not file.is_file():
            raise InputError(
                expected="the weights of resemblyzer", found="no file", remedy="Reinstall resemblyzer", file=file
            )
        weights = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
        encoder = Encoder()
        encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
        return encoder.eval().requires_grad_(False)

    def embed(self, sounds: Sequence[Waveform]) -> Float32[Tensor, "n 256"]:
        """Return the normalized mean embedding of each sound; NaN if the sound is silent or shorter than 0.25 s."""
        means = [embeddings.mean(0, keepdim=True) for embeddings in self.embed_windows(sounds)]
        return nn.functional.normalize(torch.cat([torch.empty(0, SIZE), *means]))

    def embed_windows(self, sounds: Sequence[Waveform]) -> list[Float32[Tensor, "_ 256"]]:
        """Return the embeddings of each sound's 1.6 s windows, 1.3 per second; one NaN row if a sound has no window."""
        encoder = self._encoder
        windows = [_mel_windows(sound) for sound in sounds]
        stacked = torch.cat([torch.empty(0, WINDOW, BANDS), *windows])
        vectors = torch.cat([torch.empty(0, SIZE), *(encoder(x) for x in stacked.split(BATCH) if len(x))])
        by_sound = vectors.split([len(x) for x in windows])
        return [x if len(x) else torch.full((1, SIZE), torch.nan) for x in by_sound]


def _mel_windows(sound: Waveform) -> Float32[Tensor, "_ 160 40"]:
    """Return the mel frames of each window; empty for a silent or too short sound."""
    samples = resample(sound, RATE).samples
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    if len(samples) < MIN_SECONDS * RATE or not 0 < rms < np.inf:
        return torch.empty(0, WINDOW, BANDS)
    frames = len(samples) // HOP + 1
    starts = [*range(0, max(1, frames - WINDOW + STEP + 1), STEP)]
    if len(starts) > 1 and len(samples) - starts[-1] * HOP < MIN_COVERAGE * WINDOW * HOP:
        starts.pop()
    padded = np.pad(samples * max(1.0, MIN_RMS / rms), (0, max(0, (starts[-1] + WINDOW) * HOP - len(samples))))
    librosa = require_package("librosa", "speaker similarity", "judges")
    mel = librosa.feature.melspectrogram(y=padded, sr=RATE, n_fft=FFT, hop_length=HOP, n_mels=BANDS)
    mel = torch.from_numpy(mel.T.astype(np.float32))
    return torch.stack([mel[start : start + WINDOW] for start in starts])


def similarity(a: Float[Tensor, "n f"], b: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
    """Return the cosine similarity of each pair of embeddings; NaN if either is NaN.

    With Resemblyzer, the similarity is about 0.89 between utterances of one speaker and 0.55 between those of two
    speakers.
    """
    return nn.functional.cosine_similarity(a, b, dim=-1)
