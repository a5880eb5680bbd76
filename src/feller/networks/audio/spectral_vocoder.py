"""Neural vocoder: a convolutional network that predicts the spectrum of each frame."""

import abc
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond
from feller.core.rng import Rng
from feller.data.speech.griffin_lim import MAX_LOG_MEL, Vocoder
from feller.data.speech.mel import MelConfig
from feller.networks.network_config import NetworkConfig, seeded_init


class VocoderNetwork(nn.Module, abc.ABC):
    """A network that makes sounds of log mels. Implement one method to add another."""

    @abc.abstractmethod
    def synthesize(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b n"]:
        """Return `frames * hop` samples of each, frame i the hop that begins at i hops."""


@dataclass(frozen=True, eq=False)
class NeuralVocoder(Vocoder):
    """Makes sounds by a network; its weights are in no record, so what draws speech is given it anew each time."""

    network: VocoderNetwork
    mel: MelConfig
    """How the log mels are made that it has learned from."""

    @torch.no_grad()
    def synthesize(self, mel: Float[Tensor, "frames bands"], settings: MelConfig) -> Float32[Tensor, " n"]:
        """Return `frames * hop` samples."""
        if settings != self.mel:
            raise InputError(
                f"this vocoder makes sounds of log mels of {self.mel}", found=settings, remedy="Take another"
            )
        if mel.ndim != 2 or not len(mel) or mel.shape[1] != settings.n_mels or not torch.isfinite(mel).all():
            raise InputError(f"finite log mels of {settings.n_mels} bands", list(mel.shape))
        weight = next(self.network.parameters())
        clamped = mel.clamp(max=MAX_LOG_MEL).to(weight.device, weight.dtype)
        return self.network.eval().synthesize(clamped[None])[0].float().cpu()


KERNEL_SIZE = 7
"""Frames that a convolution sees."""
EXPANSION = 3
"""Features inside a block, in units of those between blocks."""
MEL_MEAN, MEL_STD = -6.0, 2.5
"""About the mean and the deviation of log mels of speech: the network sees numbers near 1."""
MAX_LOG_AMPLITUDE = 6.0
"""Log amplitude beyond which no spectrum goes."""
LAYER_SCALE_INIT = 0.1
"""Share of a new block's answer that counts."""


@dataclass(frozen=True)
class SpectralVocoder(NetworkConfig):
    """Blocks of convolutions over frames tell amplitude and phase of each, and the inverse transform makes the sound.

    States are the samples of sounds: the network takes their log mels and makes sounds of these alone, which it also
    does of log mels that others made. Amplitudes begin as those of the bands, spread over their frequencies. Other than
    in the paper, nothing judges the sounds but spectra. Source: Siuzdak 2023, "Vocos: closing the gap between
    time-domain and Fourier-based neural vocoders for high-quality audio synthesis", arXiv 2306.00814.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    """How log mels are made."""
    width: int = 192
    """Features of each frame."""
    depth: int = 6
    """Blocks."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth) < 1:
            raise UsageError("width and depth of 1 or more", f"{self.width} and {self.depth}")

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], rng: Rng) -> "SpectralVocoderNetwork":
        """Make a network with new weights, for samples of sounds (n,); conditions tell it nothing."""
        if not isinstance(shape, tuple) or len(shape) != 1 or shape[0] % self.mel.hop_length:
            raise UsageError(
                f"SpectralVocoder expects samples of shape (n,), n a multiple of {self.mel.hop_length}", found=shape
            )
        with seeded_init(rng):
            return SpectralVocoderNetwork(self)


class SpectralVocoderNetwork(VocoderNetwork):
    """The network of `SpectralVocoder`."""

    band_weights: Tensor

    def __init__(self, config: SpectralVocoder) -> None:
        super().__init__()
        width, mel = config.width, config.mel
        self.config = config
        self.null_values: dict[str, int] = {}
        self.register_buffer("band_weights", band_interpolation(mel), persistent=False)
        self.embed = nn.Conv1d(mel.n_mels, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2 * (mel.n_fft // 2 + 1))

    def forward(self, x_t: Float[Tensor, "b n"], t: Float[Tensor, " b"], cond: Cond) -> dict[str, Tensor]:
        """Return what is made of the log mels of sounds, `state`, and how far its own log mels are off, `apart` [b]."""
        mel = self.config.mel
        target = mel.log_mel(x_t)
        audio = self.synthesize(target)
        return {"state": audio, "apart": (mel.log_mel(audio) - target).abs().flatten(1).mean(1)}

    def synthesize(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b n"]:
        """Return `frames * hop` samples of each."""
        h = self.norm(self.embed(((mel - MEL_MEAN) / MEL_STD).mT).mT)
        for block in self.blocks:
            h = block(h)
        output = self.head(self.final_norm(h))
        output = output.to(torch.promote_types(output.dtype, torch.float32))  # transforms know no halves
        log_gain, phase = output.chunk(2, 2)
        amplitude = (self._band_log_amplitudes(mel.to(output)) + log_gain).clamp(max=MAX_LOG_AMPLITUDE).exp()
        return istft(torch.polar(amplitude, phase), self.config.mel)

    def _band_log_amplitudes(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b frames bins"]:
        """Return log amplitudes of frequencies as those of the bands are: mean logarithms of mean amplitudes."""
        log_band_width = self.config.mel.filters.sum(1).clamp(min=1e-12).log().to(mel)
        return (mel - log_band_width) @ self.band_weights.to(mel)


class ConvNeXtBlock(nn.Module):
    """A convolution of each feature by itself, then two layers on each frame, beside a residual connection.

    Source: Liu et al. 2022, "A ConvNet for the 2020s", arXiv 2201.03545.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)
        self.layer_scale = nn.Parameter(torch.full((width,), LAYER_SCALE_INIT))

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Add what the block has to say."""
        y = self.norm(self.dwconv(x.mT).mT)
        return x + self.layer_scale * self.fc2(F.gelu(self.fc1(y)))


def band_interpolation(mel: MelConfig) -> Float[Tensor, "bands bins"]:
    """Return the shares with which bands tell the amplitude of each frequency, which sum to 1.

    A frequency in no band is told by that with the nearest centre.
    """
    weights = mel.filters.double()
    places = torch.arange(weights.shape[1], dtype=torch.float64)
    centres = (weights @ places) / weights.sum(1).clamp(min=1e-12)
    nearest = (centres[:, None] - places).abs().argmin(0)
    total = weights.sum(0)
    alone = F.one_hot(nearest, mel.n_mels).double().T
    return torch.where(total > 0, weights / total.clamp(min=1e-12), alone).float()


def istft(spectra: Tensor, mel: MelConfig) -> Float[Tensor, "b n"]:
    """Return the sounds whose frames have spectra, [b, frames, bins], as near as they can: `frames * hop` samples.

    Phases are those at the middle of a frame, which is the middle of its hop. Overlapping frames are weighted by their
    window, and divided by what these sum to.
    """
    frames = spectra.shape[1]
    hann = torch.hann_window(mel.win_length, dtype=spectra.real.dtype, device=spectra.device)
    parts = torch.fft.irfft(spectra, n=mel.n_fft).roll(mel.win_length // 2, 2)[:, :, : mel.win_length] * hann
    margin = (mel.win_length - mel.hop_length) // 2
    total = _overlap_add(hann.square().expand(1, frames, -1), mel.hop_length).clamp(min=1e-6)
    sound = _overlap_add(parts, mel.hop_length) / total
    return sound[:, margin : margin + frames * mel.hop_length]


def _overlap_add(segments: Float[Tensor, "b frames window"], hop: int) -> Float[Tensor, "b n"]:
    """Add parts, each of which begins a hop behind the one before."""
    frames, window = segments.shape[1:]
    n = (frames - 1) * hop + window
    return F.fold(segments.mT, (1, n), (1, window), stride=(1, hop))[:, 0, 0]
