"""Neural vocoder that predicts the spectrum of each audio frame."""

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
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig, seeded_init


class VocoderNetwork(nn.Module, abc.ABC):
    """Base class of networks from log mels to audio. Subclasses implement `synthesize`."""

    @abc.abstractmethod
    def synthesize(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b n"]:
        """Return `frames * hop` audio samples per example (hop length `hop`); frame i starts at sample i * hop."""


@dataclass(frozen=True, eq=False)
class NeuralVocoder(Vocoder):
    """Vocoder with a neural network.

    A run does not record the weights of this network, so they must be loaded again for sampling.
    """

    network: VocoderNetwork
    mel: MelConfig
    """Log mel settings with which the network was trained."""

    @torch.no_grad()
    def synthesize(self, mel: Float[Tensor, "frames bands"], settings: MelConfig) -> Float32[Tensor, " n"]:
        """Return `frames * hop` audio samples, where `hop` is the hop length in the settings.

        Raises:
            InputError: If the log mel settings differ from those of training, or if log mels are not finite.
        """
        if settings != self.mel:
            raise InputError(
                f"this vocoder expects log mels of {self.mel}", found=settings, remedy="Use another vocoder"
            )
        if mel.ndim != 2 or not len(mel) or mel.shape[1] != settings.n_mels or not torch.isfinite(mel).all():
            raise InputError(f"finite log mels of {settings.n_mels} bands", list(mel.shape))
        weight = next(self.network.parameters())
        clamped = mel.clamp(max=MAX_LOG_MEL).to(weight.device, weight.dtype)
        return self.network.eval().synthesize(clamped[None])[0].float().cpu()


KERNEL_SIZE = 7
"""Kernel size of the convolutions, in frames."""
EXPANSION = 3
"""Width of a block's hidden layer, as a multiple of the block's width."""
MEL_MEAN, MEL_STD = -6.0, 2.5
"""Approximate mean and standard deviation of log mels of speech, with which inputs are normalised."""
MAX_LOG_AMPLITUDE = 6.0
"""Upper bound on the log amplitudes of a predicted spectrum."""
LAYER_SCALE_INIT = 0.1
"""Initial scale of the residual branch of a block (layer scale)."""


@dataclass(frozen=True)
class SpectralVocoder(NetworkConfig):
    """Vocos-style vocoder: ConvNeXt blocks predict the amplitudes and phases of each frame for an inverse STFT.

    States are audio samples. The network uses only the log mels of a state, so it also works on generated log mels. At
    initialisation, amplitudes are interpolated from the mel bands. Unlike in the paper, training uses spectral losses
    without a discriminator. Source: Siuzdak 2023, "Vocos: closing the gap between time-domain and Fourier-based neural
    vocoders for high-quality audio synthesis", arXiv 2306.00814.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    """Log mel settings of the inputs."""
    width: int = 192
    """Number of features per frame."""
    depth: int = 6
    """Number of ConvNeXt blocks."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth) < 1:
            raise UsageError("width and depth of at least 1", f"{self.width} and {self.depth}")

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "SpectralVocoderNetwork":
        """Return a new network for audio samples of shape (n,); conditions are ignored."""
        if not isinstance(shape, tuple) or len(shape) != 1 or shape[0] % self.mel.hop_length:
            raise UsageError(
                f"SpectralVocoder expects samples of shape (n,) with n a multiple of {self.mel.hop_length}", found=shape
            )
        with seeded_init(rng):
            return SpectralVocoderNetwork(self)


class SpectralVocoderNetwork(VocoderNetwork):
    """Vocos-style vocoder, configured by `SpectralVocoder`."""

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
        """Resynthesize the audio samples `x_t` from their log mels; `t` and `cond` are ignored.

        Return a dict: `state` is the resynthesized audio, and `apart`, [b], the mean absolute difference between its
        log mels and those of `x_t`.
        """
        mel = self.config.mel
        target = mel.log_mel(x_t)
        audio = self.synthesize(target)
        return {"state": audio, "apart": (mel.log_mel(audio) - target).abs().flatten(1).mean(1)}

    def synthesize(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b n"]:
        h = self.norm(self.embed(((mel - MEL_MEAN) / MEL_STD).mT).mT)
        for block in self.blocks:
            h = block(h)
        output = self.head(self.final_norm(h))
        output = output.to(torch.promote_types(output.dtype, torch.float32))  # the FFT has no half precision
        log_gain, phase = output.chunk(2, 2)
        amplitude = (self._band_log_amplitudes(mel.to(output)) + log_gain).clamp(max=MAX_LOG_AMPLITUDE).exp()
        return istft(torch.polar(amplitude, phase), self.config.mel)

    def _band_log_amplitudes(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b frames bins"]:
        """Return log amplitudes at the frequency bins, interpolated from the log means of the mel bands."""
        log_band_width = self.config.mel.filters.sum(1).clamp(min=1e-12).log().to(mel)
        return (mel - log_band_width) @ self.band_weights.to(mel)


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block with a residual connection: a depthwise convolution, then an MLP on each frame.

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
        y = self.norm(self.dwconv(x.mT).mT)
        return x + self.layer_scale * self.fc2(F.gelu(self.fc1(y)))


def band_interpolation(mel: MelConfig) -> Float[Tensor, "bands bins"]:
    """Return weights that interpolate mel bands to frequency bins; the weights of each bin sum to 1.

    A bin outside all bands takes the value of the band with the nearest centre.
    """
    weights = mel.filters.double()
    bins = torch.arange(weights.shape[1], dtype=torch.float64)
    centres = (weights @ bins) / weights.sum(1).clamp(min=1e-12)
    nearest = (centres[:, None] - bins).abs().argmin(0)
    total = weights.sum(0)
    one_hot = F.one_hot(nearest, mel.n_mels).double().T
    return torch.where(total > 0, weights / total.clamp(min=1e-12), one_hot).float()


def istft(spectra: Tensor, mel: MelConfig) -> Float[Tensor, "b n"]:
    """Return the inverse STFT of spectra [b, frames, bins], by weighted overlap-add: `frames * hop` audio samples.

    Phases are relative to the middle of a frame, which is also the middle of its hop.
    """
    frames = spectra.shape[1]
    hann = torch.hann_window(mel.win_length, dtype=spectra.real.dtype, device=spectra.device)
    segments = torch.fft.irfft(spectra, n=mel.n_fft).roll(mel.win_length // 2, 2)[:, :, : mel.win_length] * hann
    margin = (mel.win_length - mel.hop_length) // 2
    window_sum = _overlap_add(hann.square().expand(1, frames, -1), mel.hop_length).clamp(min=1e-6)
    audio = _overlap_add(segments, mel.hop_length) / window_sum
    return audio[:, margin : margin + frames * mel.hop_length]


def _overlap_add(segments: Float[Tensor, "b frames window"], hop: int) -> Float[Tensor, "b n"]:
    """Sum overlapping segments that start one hop apart."""
    frames, window = segments.shape[1:]
    n = (frames - 1) * hop + window
    return F.fold(segments.mT, (1, n), (1, window), stride=(1, hop))[:, 0, 0]
