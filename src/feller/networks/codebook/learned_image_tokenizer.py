"""Codes of pictures that a network has learned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.migrations import names_before
from feller.core.rng import Rng
from feller.data.documents.image_tokenizers import ImageTokenizer, check_codes, check_images
from feller.data.images.pixel_codes import AsNumbers
from feller.networks.codebook.conv_tokenizer import ConvTokenizer, ConvTokenizerNetwork

CHUNK_SIZE = 256
"""Pictures that go through the network at once."""
WHITE = 255


@dataclass(frozen=True)
class LearnedImageTokenizer(ImageTokenizer):
    """A tokeniser in the place of the codes of documents; its weights are new ones until others are loaded."""

    config: ConvTokenizer
    shape: tuple[int, int, int]
    """Channels, height and width of a picture."""
    network: ConvTokenizerNetwork = field(init=False, repr=False, compare=False)
    """Whose weights a record does not hold."""

    def __post_init__(self) -> None:
        network = self.config.build(self.shape, {}, Rng(0)).eval().requires_grad_(False)
        object.__setattr__(self, "network", network)

    @property
    def codebook_size(self) -> int:
        return self.config.quantizer.codebook_size

    @property
    def grid(self) -> tuple[int, int]:
        return self.network.grid

    @property
    def module(self) -> nn.Module:
        return self.network

    @property
    def name(self) -> str:
        """A hash of the weights, under the names that they had when runs began to hold it."""
        digest, weights = blake2b(digest_size=6), self.network.state_dict()
        before = names_before(self.network, weights)
        for name in sorted(weights, key=before.__getitem__):
            digest.update(before[name].encode())
            digest.update(weights[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Turn levels from 0 to 255 into codes, some pictures at a time; where the pictures are."""
        check_images(pictures, self.shape)
        code, weight = AsNumbers(), self.network.from_code.weight
        parts = [
            self.network.encode(code.encode(some.to(weight.device), WHITE).to(weight.dtype)).to(pictures.device)
            for some in pictures.split(CHUNK_SIZE)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        """Turn codes into levels from 0 to 255, some pictures at a time; where the codes are."""
        check_codes(codes, self)
        if not len(codes):
            return torch.zeros(0, *self.shape, dtype=torch.uint8, device=codes.device)
        code, device = AsNumbers(), self.network.from_code.weight.device
        parts = [
            code.decode(self.network.decode(some.to(device)), WHITE).to(codes.device)
            for some in codes.split(CHUNK_SIZE)
        ]
        return torch.cat(parts)


def load_image_tokenizer(
    config: ConvTokenizer, shape: tuple[int, int, int], weights: Mapping[str, Tensor]
) -> LearnedImageTokenizer:
    """Return the codes of a network that was trained.

    Args:
        config: Of the network.
        shape: Channels, height and width of its pictures.
        weights: Its state.
    """
    codes = LearnedImageTokenizer(config, shape)
    try:
        codes.network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InputError(
            f"these weights are not those of a tokeniser of pictures of {list(shape)} with {config}",
            remedy="Name the run that it was fitted in",
        ) from error
    return codes
