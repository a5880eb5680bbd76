"""HiFi-GAN generator that loads pretrained weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import InputError
from feller.networks.audio.spectral_vocoder import VocoderNetwork

LEAKY_SLOPE, LAST_LEAKY_SLOPE = 0.1, 0.01
"""Negative slope of all leaky ReLUs except the last one, and negative slope of the last one."""
MAX_ENTRIES, MAX_NUMBER = 16, 8192
"""Maximum length of lists and maximum layer size in an untrusted config file."""
END_KERNEL_SIZE = 7
"""Kernel size of the first and the last convolution."""
WEIGHT_NORM_NAMES = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
"""Names of the norm g and the direction v of weight-normalised weights, in the old and in the new style of torch."""


@dataclass(frozen=True)
class HiFiGAN:
    """HiFi-GAN generator: transposed convolutions, each followed by residual blocks with several kernel sizes.

    Fields have the names in the published `config.json`; defaults are those of version 1 with a hop of 160 samples.
    Source: Kong, Kim and Bae 2020, "HiFi-GAN: Generative adversarial networks for efficient and high fidelity speech
    synthesis", arXiv 2010.05646, section 2.2 and appendix A.1.
    """

    upsample_rates: tuple[int, ...] = (5, 4, 4, 2)
    """Upsampling factor of each transposed convolution; the product of the factors is the hop length."""
    upsample_kernel_sizes: tuple[int, ...] = (11, 8, 8, 4)
    upsample_initial_channel: int = 512
    """Number of channels of the first layer, which each upsampling halves."""
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))

    def __post_init__(self) -> None:
        dilations = self.resblock_dilation_sizes
        sizes = (
            *self.upsample_kernel_sizes,
            *self.resblock_kernel_sizes,
            *(dilation for row in dilations for dilation in row),
        )
        longest = max(map(len, (self.upsample_rates, self.resblock_kernel_sizes, *dilations)))
        if longest > MAX_ENTRIES or max(self.upsample_initial_channel, *sizes) > MAX_NUMBER:
            raise InputError(
                f"lists of at most {MAX_ENTRIES} numbers, up to {MAX_NUMBER:,}",
                f"lists of up to {longest} numbers, up to {max(self.upsample_initial_channel, *sizes):,}",
            )
        rates, kernels, block_kernels = self.upsample_rates, self.upsample_kernel_sizes, self.resblock_kernel_sizes
        if not rates or len(rates) != len(kernels) or min(rates) < 1:
            raise InputError("upsample rates of at least 1, each with a kernel", f"rates {rates} and kernels {kernels}")
        if any(kernel < rate or (kernel - rate) % 2 for rate, kernel in zip(rates, kernels, strict=True)):
            raise InputError(
                "upsample kernel sizes that exceed their rates by 0 or an even number",
                f"rates {rates} and kernel sizes {kernels}",
            )
        if not block_kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in block_kernels):
            raise InputError("residual blocks with odd kernels", block_kernels)
        if len(dilations) != len(block_kernels) or any(not row or min(row) < 1 for row in dilations):
            raise InputError(f"dilations of 1 or more for each of {len(block_kernels)} residual blocks", dilations)
        if self.upsample_initial_channel < 2 ** len(rates) or self.upsample_initial_channel % 2 ** len(rates):
            raise InputError(f"upsample_initial_channel divisible by {2 ** len(rates)}", self.upsample_initial_channel)

    @property
    def hop(self) -> int:
        """Hop length: number of audio samples per frame."""
        return math.prod(self.upsample_rates)


class HiFiGANNetwork(VocoderNetwork):
    """HiFi-GAN generator as a torch module, with the weight names of published checkpoints."""

    def __init__(self, config: HiFiGAN, bands: int) -> None:
        super().__init__()
        initial_channels = config.upsample_initial_channel
        widths = [initial_channels >> i for i in range(len(config.upsample_rates) + 1)]
        upsampling = zip(pairwise(widths), config.upsample_rates, config.upsample_kernel_sizes, strict=True)
        block_sizes = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
        self.config = config
        self.conv_pre = nn.Conv1d(bands, initial_channels, END_KERNEL_SIZE, padding=END_KERNEL_SIZE // 2)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(c_in, c_out, kernel, rate, padding=(kernel - rate) // 2)
            for (c_in, c_out), rate, kernel in upsampling
        )
        self.resblocks = nn.ModuleList(ResidualBlock(width, *block) for width in widths[1:] for block in block_sizes)
        self.conv_post = nn.Conv1d(widths[-1], 1, END_KERNEL_SIZE, padding=END_KERNEL_SIZE // 2)

    def synthesize(self, mel: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b n"]:
        """Return `frames * hop` audio samples per example, from -1 to 1."""
        h, num_kernels = self.conv_pre(mel.mT), len(self.config.resblock_kernel_sizes)
        for i, upsample in enumerate(self.ups):
            h = upsample(F.leaky_relu(h, LEAKY_SLOPE))
            h = torch.stack([block(h) for block in self.resblocks[i * num_kernels : (i + 1) * num_kernels]]).mean(0)
        return torch.tanh(self.conv_post(F.leaky_relu(h, LAST_LEAKY_SLOPE)))[:, 0]


class ResidualBlock(nn.Module):
    """Residual block: pairs of a dilated and an undilated convolution, each pair with a residual connection."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        half_kernel = kernel // 2
        self.convs1 = nn.ModuleList(
            nn.Conv1d(width, width, kernel, dilation=dilation, padding=dilation * half_kernel) for dilation in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=half_kernel) for _ in dilations)

    def forward(self, x: Float[Tensor, "b width n"]) -> Float[Tensor, "b width n"]:
        for conv1, conv2 in zip(self.convs1, self.convs2, strict=True):
            x = x + conv2(F.leaky_relu(conv1(F.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE))
        return x


def remove_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Merge weight-normalised parameters, the norm g and the direction v, into weights w = g v / |v|.

    Other weights are returned unchanged.

    Source: Salimans and Kingma 2016, "Weight normalization", arXiv 1602.07868, equation 2.

    Raises:
        InputError: If g or v is missing, or if their shapes do not match.
    """
    merged = dict(weights)
    for g_name, v_name in WEIGHT_NORM_NAMES:
        for name in [name for name in weights if name.endswith((f".{g_name}", f".{v_name}"))]:
            stem = name.removesuffix(g_name).removesuffix(v_name)
            g, v = merged.pop(f"{stem}{g_name}", None), merged.pop(f"{stem}{v_name}", None)
            if g is None and v is None:
                continue  # merged already
            if g is None or v is None or g.shape != (v.shape[0], *(1,) * (v.ndim - 1)):
                raise InputError(
                    "weight normalisation with one norm for each output channel (norms [n, 1, ...] and directions"
                    " [n, ...])",
                    f"norms {'none' if g is None else list(g.shape)} and directions"
                    f" {'none' if v is None else list(v.shape)}",
                    place=f"{stem}weight",
                )
            merged[f"{stem}weight"] = g * v / v.flatten(1).norm(dim=1).reshape(g.shape)
    return merged


def load_generator(config: HiFiGAN, bands: int, weights: Mapping[str, Tensor]) -> HiFiGANNetwork:
    """Return a generator for log mels of `bands` bands with pretrained weights.

    The shapes of the weights are checked before memory is allocated.

    Raises:
        InputError: If the weights do not match the configuration.
    """
    with torch.device("meta"):
        network = HiFiGANNetwork(config, bands)
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    merged = remove_weight_norm(weights)
    mismatched = sorted({*shapes}.symmetric_difference(merged)) or [
        n for n in shapes if tuple(merged[n].shape) != shapes[n]
    ]
    if mismatched:
        name = mismatched[0]
        expected, actual = shapes.get(name, "none"), tuple(merged[name].shape) if name in merged else "none"
        raise InputError(
            f"the weights do not match the generator of config.json with {bands} bands: {len(mismatched)} tensors"
            f" differ, such as {name}: expected {expected}",
            found=actual,
        )
    state_dict = {name: merged[name].float() for name in shapes}
    network.load_state_dict(state_dict, assign=True)
    return network.eval().requires_grad_(False)
