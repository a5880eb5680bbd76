"""A bi-encoder of documents: fixed vectors of texts, and a small network that learns to place pictures among them."""

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
from feller.data.documents.vectors import DocumentVectors, Vectors
from feller.data.documents.vocabulary import Symbols
from feller.networks.architecture import Architecture, weights_from
from feller.networks.sequence.ngram_vectors import Ngrams

SHARPEST = 100.0
"""Bound of the inverse temperature."""
PICTURES = 256
"""Pictures that are looked at together."""


@dataclass(frozen=True)
class BiEncoder(Architecture):
    """Codes of a picture, on their grid, become a vector among those of texts.

    The answer has the learned inverse temperature as its length: its inner product with the vector of a text is a
    logit. A new network answers with small random vectors; at zero it would have no direction.
    """

    symbols: Symbols
    grid: tuple[int, int]
    """Rows and columns of the codes of a picture."""
    width: int = 32
    """Features of each code."""
    size: int = 512
    """Numbers of a vector."""

    def __post_init__(self) -> None:
        if self.grid[0] * self.grid[1] != self.symbols.picture:
            raise UsageError(f"a grid of {self.symbols.picture} codes", f"{self.grid[0]} x {self.grid[1]}")
        if min(self.width, self.size) < 1:
            raise UsageError("a width and a size of at least 1", f"{self.width} and {self.size}")

    def build(self, shape: tuple[int, ...], conditions: dict[str, int], draws: Rng) -> "BiEncoderNetwork":
        """Make a network with new weights, for rows of symbols of any length."""
        if not isinstance(shape, tuple) or len(shape) != 1 or conditions:
            raise UsageError(
                "BiEncoder expects rows of symbols alone", found=f"{shape} and {conditions or 'no conditions'}"
            )
        with weights_from(draws):
            return BiEncoderNetwork(self)


class BiEncoderNetwork(nn.Module):
    """The network of `BiEncoder`, and the vectors of texts beside it."""

    def __init__(self, settings: BiEncoder) -> None:
        super().__init__()
        width, self.symbols, self.grid = settings.width, settings.symbols, settings.grid
        self.nulls: dict[str, int] = {}
        self.texts = Ngrams(settings.symbols, settings.size)
        self.enter = nn.Embedding(settings.symbols.codes + 1, width)  # the last is a code that is not known
        sizes = ((width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2))
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, step, 1) for a, b, step in sizes)
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for _, b, _ in sizes)
        self.leave = nn.Linear(8 * width, settings.size)
        self.sharpness = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, x_t: Int[Tensor, "b picture"], t: Float[Tensor, " b"], given: Cond) -> Float[Tensor, "b d"]:
        """Return the vectors of pictures, as long as the inverse temperature, whatever the time."""
        h = self.enter(x_t).transpose(1, 2).unflatten(2, self.grid)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = F.silu(norm(layer(h)))
        h = self.leave(F.adaptive_avg_pool2d(h, 2).flatten(1))
        return F.normalize(h, dim=1) * self.sharpness.exp().clamp(max=SHARPEST)

    def vectors(self, rows: Int64[Tensor, "n l"]) -> Vectors:
        """Return the vectors of documents."""
        text, has_text = self.texts(rows)
        codes, owner = pictures_of(rows, self.symbols)
        picture = self.leave.weight.new_zeros(len(rows), self.leave.out_features)
        parts = zip(codes.split(PICTURES), owner.split(PICTURES), strict=True)
        for some, whose in parts:
            picture.index_add_(0, whose, F.normalize(self(some, torch.zeros(len(some), device=rows.device), {}), dim=1))
        has_picture = torch.zeros_like(has_text).index_fill(0, owner, True)
        return Vectors(text.to(picture.dtype), F.normalize(picture, dim=1), has_text, has_picture)


def pictures_of(rows: Int64[Tensor, "n l"], symbols: Symbols) -> tuple[Int64[Tensor, "m picture"], Int64[Tensor, " m"]]:
    """Return the pictures of documents as codes from 0, and the row of each.

    A code that a `<mask>` stands for has the number `symbols.codes`; what has not as many codes as a picture is none.
    """
    code, gap, cut = symbols.is_code(rows), rows == symbols.mask, rows == symbols.cut
    segment = cut.cumsum(1)
    segment = segment + torch.arange(len(rows), device=rows.device)[:, None] * (rows.shape[1] + 1)
    many = len(rows) * (rows.shape[1] + 1)
    codes = torch.bincount(segment[code], minlength=many)
    right = (codes > 0) & (codes + torch.bincount(segment[gap], minlength=many) == symbols.picture)
    right &= torch.bincount(segment[symbols.is_text(rows)], minlength=many) == 0
    row, place = (right[segment] & (code | gap)).nonzero(as_tuple=True)
    found = torch.where(gap, symbols.codes, rows - symbols.text)[row, place]
    return found.view(-1, symbols.picture), row[:: symbols.picture]


def with_gaps(rows: Int64[Tensor, "n l"], symbols: Symbols, chance: float, draw: RandomStream) -> Int64[Tensor, "n l"]:
    """Put `<mask>` in the place of some text and codes, each by that chance."""
    gone = draw.uniform(rows.shape, device=rows.device) < chance
    return torch.where(gone & (rows < symbols.eos), symbols.mask, rows)


@dataclass(frozen=True)
class Finder(DocumentVectors):
    """The bi-encoder with its weights."""

    settings: BiEncoder
    network: BiEncoderNetwork = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", self.settings.build((1,), {}, Rng(0)))

    @property
    def module(self) -> BiEncoderNetwork:
        """The network, and how often n-grams were counted."""
        return self.network

    @property
    def name(self) -> str:
        """What tells it from others: a short hash of its weights, under the names that they had first."""
        whole, weights = blake2b(digest_size=6), self.network.state_dict()
        before = names_before(self.network, weights)
        for key, value in weights.items():
            whole.update(before[key].encode())
            whole.update(value.detach().cpu().contiguous().numpy().tobytes())
        return whole.hexdigest()

    @torch.no_grad()
    def __call__(self, rows: Int64[Tensor, "n l"]) -> Vectors:
        """Return the vectors of documents, as rows of symbols."""
        return self.network.vectors(rows)
