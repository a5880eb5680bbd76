"""Metrics of image tokenizers: reconstruction errors and codebook usage."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.models.model import Model
from feller.networks.codebook.conv_tokenizer import ConvTokenizerNetwork

CHUNK = 256
"""Number of images per batch."""


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """Codes of images, and the images decoded from them."""

    codes: Int64[Tensor, "n k"]
    values: UInt8[Tensor, "n c h w"]
    """Decoded images, with integer pixel values."""


def tokenizer_network(model: Model) -> ConvTokenizerNetwork:
    """Return the network of an image tokenizer; UsageError if the model is not an image tokenizer."""
    network = model.network.eval()
    if not isinstance(network, ConvTokenizerNetwork):
        raise UsageError(
            "this run is not an image tokenizer", remedy="Fit an image tokenizer with --recipe image-tokenizer"
        )
    return network


@torch.no_grad()
def reconstruct(model: Model, data: Dataset) -> Reconstructions:
    """Encode images and decode their codes, in batches; UsageError if the model is not an image tokenizer."""
    network = tokenizer_network(model)
    modality, device = model.spec.modality, network.from_code.weight.device
    all_codes, decoded = [], []
    for rows in torch.arange(len(data)).split(CHUNK):
        codes = network.encode(modality.encode(data.values[rows]).to(device))
        all_codes.append(codes.cpu())
        decoded.append(modality.decode(network.decode(codes)).cpu())
    return Reconstructions(torch.cat(all_codes), torch.cat(decoded))


def reconstruction_errors(
    real: UInt8[Tensor, "n c h w"], made: Reconstructions, *, count: int, grid: tuple[int, int], max_level: int
) -> dict[str, float | None]:
    """Return reconstruction errors, those of a baseline that downsamples images to the code grid, and codebook usage.

    Args:
        real: Images, with pixel values from 0 to `max_level`.
        made: Codes and reconstructions of the images.
        count: Codebook size.
        grid: Numbers of rows and columns in an image's grid of codes.
        max_level: Pixel value of white.

    Returns:
        Metrics by key; `psnr` is None if the error is zero.
    """
    frequencies = code_frequencies(made.codes, count)
    return {
        **pixel_errors(real, made.values, grid, max_level),
        "codebook_use": (frequencies > 0).double().mean().item(),
        "codebook_perplexity": torch.special.entr(frequencies).sum().exp().item(),
        "codes": count,
        "codes_per_picture": made.codes.shape[1],
    }


def pixel_errors(
    real: UInt8[Tensor, "n c h w"], made: UInt8[Tensor, "n c h w"], grid: tuple[int, int], max_level: int
) -> dict[str, float | None]:
    """Return the errors of reconstructions, and those of a baseline that downsamples images to the grid of codes.

    Args:
        real: Images, with pixel values from 0 to `max_level`.
        made: Reconstructions of the images.
        grid: Numbers of rows and columns in an image's grid of codes.
        max_level: Pixel value of white.
    """
    error, shrunk_error = (_error(real, images, max_level) for images in (made, downsample_to_grid(real, grid)))
    return {
        "reconstruction_mse": error,
        "reconstruction_mse_shrunk": shrunk_error,
        "psnr": _decibels(error),
        "psnr_shrunk": _decibels(shrunk_error),
    }


def code_frequencies(codes: Int64[Tensor, "n k"], count: int) -> Float64[Tensor, " count"]:
    """Return the relative frequency of each of `count` codes."""
    return codes.flatten().bincount(minlength=count).double() / max(codes.numel(), 1)


def downsample_to_grid(pictures: UInt8[Tensor, "n c h w"], grid: tuple[int, int]) -> UInt8[Tensor, "n c h w"]:
    """Replace the pixels in each cell of the grid by their mean, rounded to an integer pixel value."""
    height, width = pictures.shape[2:]
    pooled = F.adaptive_avg_pool2d(pictures.double(), grid).round()
    return F.interpolate(pooled, (height, width), mode="nearest-exact").to(torch.uint8)


def _error(real: Tensor, made: Tensor, max_level: int) -> float:
    """Return the mean squared error of pixels scaled to [0, 1]."""
    return ((real.double() - made.double()) / max_level).square().mean().item()


def _decibels(error: float) -> float | None:
    """Return the PSNR; None if it is infinite."""
    return -10 * math.log10(error) if error > 0 else None
