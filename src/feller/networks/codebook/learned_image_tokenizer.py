"""Learned image tokenizer for documents, based on a convolutional network."""

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
"""Number of images per forward pass."""
WHITE = 255


@dataclass(frozen=True)
class LearnedImageTokenizer(ImageTokenizer):
    """Image tokenizer with a `ConvTokenizer` network, whose weights are random until a state dict is loaded."""

    config: ConvTokenizer
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    network: ConvTokenizerNetwork = field(init=False, repr=False, compare=False)
    """Configuration of the network that encodes and decodes; it does not include the weights."""

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
        """Hash of the weights; parameters have the names of the first release, so that recorded hashes stay valid."""
        digest, weights = blake2b(digest_size=6), self.network.state_dict()
        old_names = names_before(self.network, weights)
        for name in sorted(weights, key=old_names.__getitem__):
            digest.update(old_names[name].encode())
            digest.update(weights[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        """Encode images with pixels from 0 to 255, in chunks; the codes are on the device of the images."""
        check_images(pictures, self.shape)
        codec, weight = AsNumbers(), self.network.from_code.weight
        codes = [
            self.network.encode(codec.encode(chunk.to(weight.device), WHITE).to(weight.dtype)).to(pictures.device)
            for chunk in pictures.split(CHUNK_SIZE)
        ]
        return torch.cat(codes)

    @torch.no_grad()
    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        """Decode codes to images with pixels from 0 to 255, in chunks; the images are on the device of the codes."""
        check_codes(codes, self)
        if not len(codes):
            return torch.zeros(0, *self.shape, dtype=torch.uint8, device=codes.device)
        codec, device = AsNumbers(), self.network.from_code.weight.device
        images = [
            codec.decode(self.network.decode(chunk.to(device)), WHITE).to(codes.device)
            for chunk in codes.split(CHUNK_SIZE)
        ]
        return torch.cat(images)


def load_image_tokenizer(
    config: ConvTokenizer, shape: tuple[int, int, int], weights: Mapping[str, Tensor]
) -> LearnedImageTokenizer:
    """Return a learned image tokenizer with trained weights.

    Args:
        config: Configuration of the network.
        shape: Channels, height and width of an image.
        weights: State dict of the network.

    Raises:
        InputError: If the weights do not match the network's configuration.
    """
    tokenizer = LearnedImageTokenizer(config, shape)
    try:
        tokenizer.network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InputError(
            f"the weights do not match an image tokenizer for images of {list(shape)} with {config}",
            remedy="Use the run that the tokenizer was trained in",
        ) from error
    return tokenizer
