"""How much of pictures is left when they are written as codes and read back."""

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
"""Pictures that go through the network at once."""


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """Pictures as codes, and what is read from these, in the levels of the pictures."""

    codes: Int64[Tensor, "n k"]
    values: UInt8[Tensor, "n c h w"]


def tokenizer_network(model: Model) -> ConvTokenizerNetwork:
    """Return the network of a model that writes codes; UsageError if it writes none."""
    network = model.network.eval()
    if not isinstance(network, ConvTokenizerNetwork):
        raise UsageError("this run writes no codes", remedy="Fit one that does: --recipe image-tokenizer")
    return network


@torch.no_grad()
def reconstruct(model: Model, data: Dataset) -> Reconstructions:
    """Write pictures as codes and read them back, some at a time; UsageError if the model writes no codes."""
    network = tokenizer_network(model)
    kind, device = model.spec.modality, network.from_code.weight.device
    written, read = [], []
    for rows in torch.arange(len(data)).split(CHUNK):
        codes = network.encode(kind.encode(data.values[rows]).to(device))
        written.append(codes.cpu())
        read.append(kind.decode(network.decode(codes)).cpu())
    return Reconstructions(torch.cat(written), torch.cat(read))


def reconstruction_errors(
    real: UInt8[Tensor, "n c h w"], made: Reconstructions, *, count: int, grid: tuple[int, int], max_level: int
) -> dict[str, float | None]:
    """Return how far copies are off, beside pictures that are shrunk to the grid, and how the codes are used.

    Args:
        real: The pictures, with levels from 0 to `max_level`.
        made: What became of them.
        count: Different codes.
        grid: Rows and columns of the codes of a picture.
        max_level: Level of white.

    Returns:
        Numbers by their names in `METRICS`; a ratio to an error of zero is None.
    """
    error, small = (_error(real, other, max_level) for other in (made.values, downsample_to_grid(real, grid)))
    shares = code_frequencies(made.codes, count)
    return {
        "reconstruction_mse": error,
        "reconstruction_mse_shrunk": small,
        "psnr": _decibels(error),
        "psnr_shrunk": _decibels(small),
        "codebook_use": (shares > 0).double().mean().item(),
        "codebook_perplexity": torch.special.entr(shares).sum().exp().item(),
        "codes": count,
        "codes_per_picture": made.codes.shape[1],
    }


def code_frequencies(codes: Int64[Tensor, "n k"], count: int) -> Float64[Tensor, " count"]:
    """Return how often each code is used, as a share of all."""
    return codes.flatten().bincount(minlength=count).double() / max(codes.numel(), 1)


def downsample_to_grid(pictures: UInt8[Tensor, "n c h w"], grid: tuple[int, int]) -> UInt8[Tensor, "n c h w"]:
    """Give all pixels of each cell of a grid their mean, rounded to a level."""
    height, width = pictures.shape[2:]
    small = F.adaptive_avg_pool2d(pictures.double(), grid).round()
    large = small.repeat_interleave(height // grid[0], 2).repeat_interleave(width // grid[1], 3)
    return large.to(torch.uint8)


def _error(real: Tensor, other: Tensor, max_level: int) -> float:
    """Return the mean square of the difference, in units of white."""
    return ((real.double() - other.double()) / max_level).square().mean().item()


def _decibels(error: float) -> float | None:
    """Return the ratio of white to an error; None where it is infinite."""
    return -10 * math.log10(error) if error > 0 else None
