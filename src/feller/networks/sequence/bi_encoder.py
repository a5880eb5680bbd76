"""Bi-encoder (two-tower model) of documents: a fixed text encoder, and a learned image encoder into the same space."""

from dataclasses import dataclass, field
from hashlib import blake2b

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.migrations import names_before
from feller.core.pytree import Cond
from feller.core.rng import RandomStream, Rng
from feller.data.documents.document_encoder import DocumentEmbeddings, DocumentEncoder
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.blocks.condition_encoders import ConditionTypes
from feller.networks.network_config import NetworkConfig, seeded_init
from feller.networks.sequence.ngram_vectors import HashedNgrams

MAX_LOGIT_SCALE = 100.0
"""Upper bound on the logit scale (inverse temperature)."""
CHUNK_SIZE = 256
"""Number of images per forward pass."""


@dataclass(frozen=True)
class BiEncoder(NetworkConfig):
    """Image encoder that maps image codes to the space of the text vectors of `HashedNgrams`.

    The norm of an output vector is the learned logit scale, so the inner product of an output with a text vector is a
    logit. Initial weights are small and random instead of zero, because a zero vector has no direction.
    """

    vocabulary: DocumentVocabulary
    grid: tuple[int, int]
    """Numbers of rows and columns in an image's grid of codes."""
    width: int = 32
    """Number of features per code."""
    size: int = 512
    """Dimension of the text and image vectors."""

    def __post_init__(self) -> None:
        if self.grid[0] * self.grid[1] != self.vocabulary.picture:
            raise UsageError(f"a grid of {self.vocabulary.picture} codes", f"{self.grid[0]} x {self.grid[1]}")
        if min(self.width, self.size) < 1:
            raise UsageError("width and size of at least 1", f"{self.width} and {self.size}")

    def build(self, shape: tuple[int, ...], conditions: ConditionTypes, rng: Rng) -> "BiEncoderNetwork":
        if not isinstance(shape, tuple) or len(shape) != 1 or conditions:
            raise UsageError(
                "BiEncoder expects tokens (n,) without conditions", found=f"{shape} and {conditions or 'no conditions'}"
            )
        with seeded_init(rng):
            return BiEncoderNetwork(self)


class BiEncoderNetwork(nn.Module):
    """Image encoder configured by `BiEncoder`, together with the text encoder."""

    def __init__(self, config: BiEncoder) -> None:
        super().__init__()
        width, self.vocabulary, self.grid = config.width, config.vocabulary, config.grid
        self.null_values: dict[str, int] = {}
        self.text_encoder = HashedNgrams(config.vocabulary, config.size)
        self.embed = nn.Embedding(config.vocabulary.codes + 1, width)  # the last is the mask
        layer_sizes = ((width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2))
        self.layers = nn.ModuleList(nn.Conv2d(c_in, c_out, 3, stride, 1) for c_in, c_out, stride in layer_sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(1, c_out) for _, c_out, _ in layer_sizes)
        self.head = nn.Linear(8 * width, config.size)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, x_t: Int[Tensor, "b picture"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b d"]:
        """Return the vectors of images, given as codes, multiplied by the logit scale; the time is ignored."""
        h = self.embed(x_t).transpose(1, 2).unflatten(2, self.grid)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = F.silu(norm(layer(h)))
        h = self.head(F.adaptive_avg_pool2d(h, 2).flatten(1))
        return F.normalize(h, dim=1) * self.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def vectors(self, rows: Int64[Tensor, "n l"]) -> DocumentEmbeddings:
        """Return the text and image embeddings of documents, which are given as rows of tokens."""
        text_vectors, has_text = self.text_encoder(rows)
        codes, image_rows = extract_images(rows, self.vocabulary)
        image_vectors = self.head.weight.new_zeros(len(rows), self.head.out_features)
        chunks = zip(codes.split(CHUNK_SIZE), image_rows.split(CHUNK_SIZE), strict=True)
        for chunk, chunk_rows in chunks:
            image_vectors.index_add_(
                0, chunk_rows, F.normalize(self(chunk, torch.zeros(len(chunk), device=rows.device), {}), dim=1)
            )
        has_image = torch.zeros_like(has_text).index_fill(0, image_rows, True)
        return DocumentEmbeddings(
            text_vectors.to(image_vectors.dtype), F.normalize(image_vectors, dim=1), has_text, has_image
        )


def extract_images(
    rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary
) -> tuple[Int64[Tensor, "m picture"], Int64[Tensor, " m"]]:
    """Return the images in documents as zero-based codes, and for each image the index of its document.

    A masked code has the value `vocabulary.codes`. Image segments that contain text or the wrong number of codes are
    skipped.
    """
    is_code, is_mask, is_break = vocabulary.is_code(rows), rows == vocabulary.mask, rows == vocabulary.break_token
    segment = is_break.cumsum(1)
    segment = segment + torch.arange(len(rows), device=rows.device)[:, None] * (rows.shape[1] + 1)
    num_segments = len(rows) * (rows.shape[1] + 1)
    code_counts = torch.bincount(segment[is_code], minlength=num_segments)
    is_image = (code_counts > 0) & (
        code_counts + torch.bincount(segment[is_mask], minlength=num_segments) == vocabulary.picture
    )
    is_image &= torch.bincount(segment[vocabulary.is_text(rows)], minlength=num_segments) == 0
    row, column = (is_image[segment] & (is_code | is_mask)).nonzero(as_tuple=True)
    codes = torch.where(is_mask, vocabulary.codes, rows - vocabulary.text)[row, column]
    return codes.view(-1, vocabulary.picture), row[:: vocabulary.picture]


def mask_tokens(
    rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary, prob: float, rng: RandomStream
) -> Int64[Tensor, "n l"]:
    """Replace each text token and each image code in documents by `<mask>`, with probability `prob`."""
    is_masked = rng.uniform(rows.shape, device=rows.device) < prob
    return torch.where(is_masked & (rows < vocabulary.eos), vocabulary.mask, rows)


@dataclass(frozen=True)
class LearnedDocumentEncoder(DocumentEncoder):
    """Document encoder with a trained `BiEncoder` network."""

    config: BiEncoder
    network: BiEncoderNetwork = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", self.config.build((1,), {}, Rng(0)))

    @property
    def module(self) -> BiEncoderNetwork:
        return self.network

    @property
    def name(self) -> str:
        """Short hash of the weights; parameters have the names of the first release, so that old hashes stay valid."""
        digest, weights = blake2b(digest_size=6), self.network.state_dict()
        old_names = names_before(self.network, weights)
        for key, value in weights.items():
            digest.update(old_names[key].encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def __call__(self, rows: Int64[Tensor, "n l"]) -> DocumentEmbeddings:
        return self.network.vectors(rows)
