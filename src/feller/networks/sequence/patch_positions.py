"""Embedding of the index of each image code within its image, for networks over document tokens."""

import abc
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from feller.data.documents.vocabulary import DocumentVocabulary


class HolePositions(abc.ABC):
    """Base class of conventions for the indices of the codes after a hole of an image."""

    @abc.abstractmethod
    def extents(self, sizes: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """Return the number of indices that each hole takes up, given the number of codes that it hides."""


@dataclass(frozen=True)
class CollapsedHoles(HolePositions):
    """Convention of codes that are counted as if holes were empty, so that holes of any size look alike."""

    def extents(self, sizes: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        return torch.zeros_like(sizes)


@dataclass(frozen=True)
class PlannedHoles(HolePositions):
    """Convention of codes that keep their true index within the image, because the sizes of holes are known."""

    def extents(self, sizes: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        return sizes


class PatchPositions(nn.Module):
    """Embedding of each image code's 1-based index within its image; other tokens have index 0 and embedding 0.

    A `<mask>` token stands for a hole: codes that are left out of the image and written later in the row, after an
    `<infill>` token. The `<mask>` has the index of the code before it. The `<infill>` token and the codes that fill the
    hole continue from this index. `holes` determines the indices of the codes after a `<mask>`.
    """

    def __init__(self, vocabulary: DocumentVocabulary, width: int, std: float, holes: HolePositions) -> None:
        super().__init__()
        self.vocabulary, self.holes = vocabulary, holes
        self.embed = nn.Embedding(vocabulary.picture + 1, width, padding_idx=0)
        nn.init.trunc_normal_(self.embed.weight, std=std, a=-3 * std, b=3 * std)
        with torch.no_grad():
            self.embed.weight[0] = 0

    def forward(self, positions: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Return the embeddings of patch positions."""
        return self.embed(positions)

    def advance(self, tokens: Int[Tensor, "b m"], last: Int[Tensor, " b"] | None) -> Int[Tensor, "b m"] | None:
        """Return the patch position of one new token per row, given that of the token before it (`last`).

        Return None for several tokens per row or an `<infill>` token, which require `positions`.
        """
        if tokens.shape[1] != 1 or last is None or (tokens == self.vocabulary.infill).any():
            return None
        is_code = self.vocabulary.is_code(tokens)
        position = (last[:, None] + is_code).clamp_(max=self.vocabulary.picture)
        return position.mul_(is_code | (tokens == self.vocabulary.mask))

    def positions(
        self,
        tokens: Int[Tensor, "b n"],
        sample: Int[Tensor, "b n"] | None = None,
        hole_sizes: Int[Tensor, "b n"] | None = None,
    ) -> Int[Tensor, "b n"]:
        """Return the 1-based index of each image code within its image, from the tokens of its sample up to it.

        Args:
            tokens: Rows of tokens.
            sample: Number of the sample to which each token belongs; None if a row is a single sample.
            hole_sizes: Number of codes that each `<mask>` hides, 0 at other tokens; None to count the codes that fill
                the holes, which come later in complete rows.
        """
        is_code = self.vocabulary.is_code(tokens)
        is_mask = tokens == self.vocabulary.mask
        is_infill = tokens == self.vocabulary.infill
        is_start = tokens == self.vocabulary.eos
        if sample is not None:
            is_start = is_start | F.pad(sample[:, 1:] != sample[:, :-1], (1, 0))
        code_count, hole_count, infill_count = is_code.cumsum(1), is_mask.cumsum(1), is_infill.cumsum(1)

        # Outside of holes: number of codes since the image began, that is since the last token of another kind.
        is_outside = is_start | ~(is_code | is_mask)
        patch_index = code_count - _count_before(is_code, is_outside)

        # The k-th <infill> of a document fills its k-th <mask>; holes are numbered within the row.
        rank = infill_count - _count_before(is_infill, is_start)
        hole = rank + _count_before(is_mask, is_start)
        is_fill = (is_code | is_infill) & (rank > 0) & (hole <= hole_count)
        hole = hole.clamp(max=tokens.shape[1])
        if hole_sizes is None:
            sizes = torch.zeros_like(F.pad(tokens, (1, 0))).scatter_add(1, hole * is_fill, (is_code & is_fill).long())
            hole_sizes = sizes.gather(1, hole_count) * is_mask

        # Codes that fill a hole continue from the index at the hole. Codes that filled earlier holes of the same image
        # count too, so codes are counted from the <infill> of the image's first hole.
        index_at_hole = _scatter_by_number(patch_index, hole_count * is_mask)
        first_hole = 1 + _count_before(is_mask, is_start | (tokens == self.vocabulary.break_token))
        first_hole_of = _scatter_by_number(first_hole, hole_count * is_mask)
        count_at_infill = _scatter_by_number(code_count, hole * is_infill)
        num_filled = code_count - count_at_infill.gather(1, first_hole_of.gather(1, hole))
        fill_index = index_at_hole.gather(1, hole) + num_filled

        # Codes and holes after a hole of the same image are moved by its extent.
        extents = self.holes.extents(hole_sizes * is_mask)
        extent_before = extents.cumsum(1) - extents
        shift = extent_before - torch.where(is_outside, extent_before, 0).cummax(1).values
        return torch.where(is_fill, fill_index, patch_index + shift).clamp(max=self.vocabulary.picture)


def _count_before(is_counted: Bool[Tensor, "b n"], is_start: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return for each position the number of counted tokens before the latest start; 0 before the first start."""
    return torch.where(is_start, is_counted.cumsum(1) - is_counted.long(), 0).cummax(1).values


def _scatter_by_number(values: Int[Tensor, "b n"], index: Int[Tensor, "b n"]) -> Int[Tensor, "b n1"]:
    """Scatter values to the 1-based indices `index`; values with index 0 are dropped, and entry 0 is 0."""
    scattered = values.new_zeros(len(values), values.shape[1] + 1)
    return scattered.scatter(1, index, values * (index > 0))
