"""Attention patterns of language models: which tokens a prediction may depend on.

The input is shifted by one position for every pattern: a begin token (BOS) comes first, and the output at position
i, which reads token i - 1, predicts token i. Weights trained with one pattern therefore fit the others.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import check_integer
from feller.core.pytree import Cond
from feller.networks.image.dit import AttentionFn

CLEAN = "clean"
"""Key of `cond` for the data tokens [b, n], which are the context of noisy blocks in training."""
LOOKAHEAD = "lookahead"
"""Key of `cond` for the number of later tokens, [b], that may be attended to; used to anneal a causal pattern."""
ConvFn = Callable[[Float[Tensor, "b m width"], Float[Tensor, "width taps"]], Float[Tensor, "b n width"]]
"""Function from features and the weights of 2 reach + 1 taps to the depthwise convolution of the features."""


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """Arrangement of the tokens that a transformer reads, and the attention and convolution between them."""

    tokens: Int[Tensor, "b m"]
    positions: Int[Tensor, " m"]
    """Positions for the rotary embeddings; the BOS token has position 0."""
    attend: AttentionFn
    convolve: ConvFn
    outputs: Int[Tensor, " n"]
    """Index of the input whose output predicts each token."""


class AttentionPattern(abc.ABC):
    """Base class of attention patterns. Subclasses implement `arrange`."""

    @abc.abstractmethod
    def arrange(self, x_t: Int[Tensor, "b n"], cond: Cond, bos: int) -> TokenLayout:
        """Return the layout of a batch of texts; `bos` is the index of the BOS token in the embedding table."""


@dataclass(frozen=True)
class FullAttention(AttentionPattern):
    """Attention to all tokens, for masked diffusion; padding tokens (`valid` False) are not attended to."""

    def arrange(self, x_t: Int[Tensor, "b n"], cond: Cond, bos: int) -> TokenLayout:
        tokens = F.pad(x_t, (1, 0), value=bos)
        m, valid, lookahead = tokens.shape[1], cond.get("valid"), cond.get(LOOKAHEAD)
        attn_mask = None if valid is None else F.pad(valid, (1, 0), value=True)[:, None, None]
        if lookahead is not None:
            near = distances(m, x_t.device) <= lookahead[:, None, None, None]
            attn_mask = near if attn_mask is None else attn_mask & near
        return TokenLayout(
            tokens,
            torch.arange(m, device=x_t.device),
            lambda query, key, value: F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask),
            lambda h, weight: _two_sided(h, weight, None if valid is None else F.pad(valid, (1, 0), value=True)),
            torch.arange(m - 1, device=x_t.device),
        )


@dataclass(frozen=True)
class CausalAttention(AttentionPattern):
    """Attention to earlier tokens only, for next-token prediction."""

    def arrange(self, x_t: Int[Tensor, "b n"], cond: Cond, bos: int) -> TokenLayout:
        n = x_t.shape[1]
        positions = torch.arange(n, device=x_t.device)
        return TokenLayout(
            F.pad(x_t, (1, 0), value=bos)[:, :n],
            positions,
            lambda query, key, value: F.scaled_dot_product_attention(query, key, value, is_causal=True),
            causal_conv,
            positions,
        )


@dataclass(frozen=True)
class BlockAttention(AttentionPattern):
    """Attention within a noisy block and to the clean tokens before it, for block diffusion.

    One evaluation reads the clean tokens, causally, and one noisy copy of each block, which starts with the last token
    before the block. `cond["clean"]` are the clean tokens; by default they are those of x_t, which is right for the
    first block with masks. Source: Arriola et al. 2025, arXiv 2503.09573, section 3.2, but with a causal context, so
    that the context does not depend on the block size.
    """

    size: int = 16
    """Number of tokens per block; the last block may be shorter."""

    def __post_init__(self) -> None:
        check_integer("size", self.size, ge=1)

    def arrange(self, x_t: Int[Tensor, "b n"], cond: Cond, bos: int) -> TokenLayout:
        n, size, device = x_t.shape[1], self.size, x_t.device
        num_blocks = max(-(-n // size), 1)
        clean = F.pad(cond.get(CLEAN, x_t), (1, 0), value=bos)  # position i holds token i - 1
        context = clean[:, : (num_blocks - 1) * size]
        noisy = F.pad(x_t, (0, num_blocks * size - n)).unflatten(1, (num_blocks, size))
        blocks = torch.cat([clean[:, : num_blocks * size : size, None], noisy], 2)
        first = torch.arange(num_blocks, device=device) * size
        positions = first[:, None] + torch.arange(size + 1, device=device)
        is_real = positions.flatten() <= n
        same_block = torch.arange(num_blocks, device=device).repeat_interleave(size + 1)
        before = torch.arange(context.shape[1], device=device) < first.repeat_interleave(size + 1)[:, None]
        within = (same_block[:, None] == same_block) & is_real
        lookahead = cond.get(LOOKAHEAD)
        if lookahead is not None:
            near = distances(size + 1, device).repeat(num_blocks, num_blocks) <= lookahead[:, None, None, None]
            mask = torch.cat([before.expand(len(x_t), 1, *before.shape), within & near], 3)
        else:
            mask = torch.cat([before, within], 1)
        outputs = context.shape[1] + torch.arange(num_blocks * (size + 1), device=device)
        return TokenLayout(
            torch.cat([context, blocks.flatten(1)], 1),
            torch.cat([torch.arange(context.shape[1], device=device), positions.flatten()]),
            _context_and_blocks(context.shape[1], mask),
            lambda h, weight: _block_conv(h, weight, context.shape[1], num_blocks, size, is_real),
            outputs.unflatten(0, (num_blocks, size + 1))[:, :size].flatten()[:n],
        )


def distances(n: int, device: torch.device) -> Int[Tensor, "n n"]:
    """Return the number of positions by which key j comes after query i, j - i."""
    index = torch.arange(n, device=device)
    return index - index[:, None]


def convolve(padded: Float[Tensor, "b m width"], weight: Float[Tensor, "width taps"]) -> Float[Tensor, "b n width"]:
    """Return the depthwise convolution without padding, n = m - taps + 1."""
    # conv2d is faster than conv1d here
    return F.conv2d(padded.mT[:, :, None], weight[:, None, None], groups=len(weight))[:, :, 0].mT


def causal_conv(h: Float[Tensor, "b n width"], weight: Float[Tensor, "width taps"]) -> Float[Tensor, "b n width"]:
    """Return the convolution with the taps of the present and past inputs only."""
    reach = weight.shape[1] // 2
    return convolve(F.pad(h, (0, 0, reach, 0)), weight[:, : reach + 1])


def block_conv(
    h: Float[Tensor, "b n width"], weight: Float[Tensor, "width taps"], before: Float[Tensor, "b reach width"]
) -> Float[Tensor, "b n width"]:
    """Return the convolution with all taps; `before` are the features before the first input."""
    return convolve(F.pad(torch.cat([before, h], 1), (0, 0, 0, weight.shape[1] // 2)), weight)


def _two_sided(h: Tensor, weight: Tensor, valid: Bool[Tensor, "b n"] | None) -> Tensor:
    reach = weight.shape[1] // 2
    return convolve(F.pad(h if valid is None else h * valid[:, :, None], (0, 0, reach, reach)), weight)


def _context_and_blocks(context: int, mask: Bool[Tensor, "*b noisy all"]) -> AttentionFn:
    """Return the attention that is causal for the first `context` inputs and masked for the noisy ones."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        noisy = F.scaled_dot_product_attention(query[:, :, context:], key, value, attn_mask=mask)
        if not context:
            return noisy
        q, k, v = (part[:, :, :context] for part in (query, key, value))
        return torch.cat([F.scaled_dot_product_attention(q, k, v, is_causal=True), noisy], 2)

    return attend


def _block_conv(
    h: Tensor, weight: Tensor, context: int, num_blocks: int, size: int, is_real: Bool[Tensor, " noisy"]
) -> Tensor:
    """Return the causal convolution of the context, and that of each noisy block after its context."""
    reach = weight.shape[1] // 2
    padded = F.pad(h[:, :context], (0, 0, reach, 0))
    noisy = (h[:, context:] * is_real[:, None]).unflatten(1, (num_blocks, size + 1)).flatten(0, 1)
    first = torch.arange(num_blocks, device=h.device) * size
    before = padded[:, first[:, None] + torch.arange(reach, device=h.device)].flatten(0, 1)
    blocks = block_conv(noisy, weight, before).unflatten(0, (-1, num_blocks)).flatten(1, 2)
    return torch.cat([convolve(padded, weight[:, : reach + 1]), blocks], 1) if context else blocks
