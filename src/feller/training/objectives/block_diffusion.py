"""Block diffusion: masked diffusion of blocks of tokens, each given the blocks before it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError, check_kind
from feller.core.rng import RandomStream, Rng
from feller.networks.condition_dropout import check_cond_dropout
from feller.networks.sequence.language_attention import CLEAN, BlockAttention
from feller.networks.unwrapping import unwrap_network
from feller.spaces import Tokens
from feller.training.objective import Batch, ConditionalObjective, Example


@dataclass(frozen=True)
class BlockDiffusion(ConditionalObjective):
    """Block diffusion: an upper bound on the sum of -log p(block | previous blocks), in nats per place of the space.

    Each block is a masked diffusion; the network's `BlockAttention` has the size of the blocks. All blocks are trained
    with one network evaluation. Blocks of one token give the exact likelihood of an autoregressive model, and a single
    block gives the bound of masked diffusion. Source: Arriola et al. 2025, arXiv 2503.09573.
    """

    family: ClassVar[str] = "blocks"
    space: Tokens
    """Space of token sequences of fixed length."""
    cond_dropout: float = 0.1
    """Probability of dropping the conditions of an example, for classifier-free guidance."""
    eos_token_id: int | None = None
    """Token that ends a text; the loss ignores the blocks after its first occurrence, which are not sampled."""

    def __post_init__(self) -> None:
        check_kind("space", self.space, Tokens, "feller.Tokens(27, (64,))")
        check_cond_dropout(self.cond_dropout)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Sample a number of masked tokens for each block, and their positions; drop conditions of random examples.

        Raises:
            UsageError: If the network has no block attention.
        """
        block_size = block_size_of(network)
        x_1, cond = batch["x_1"], batch.get("given", {})
        u = rng.stream("time").uniform((len(x_1),), torch.float64, x_1.device)
        x_t, weight = mask_blocks(x_1, u, block_size, self.space.vocab_size, rng.stream("path"), self.eos_token_id)
        return {
            "x_t": x_t,
            "t": torch.zeros(len(x_1), device=x_1.device),
            "target": x_1,
            "weight": weight.float(),
            "given": self.drop_conditions(cond, rng, network),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        target = example["target"]
        logits = network(example["x_t"], example["t"], {**example["given"], CLEAN: target})
        return block_nats(logits, target, example["weight"]) / max(target.shape[1], 1)


def mask_blocks(
    x_1: Int[Tensor, "b n"],
    u: Float64[Tensor, " b"],
    block_size: int,
    vocab_size: int,
    rng: RandomStream,
    eos_token_id: int | None = None,
) -> tuple[Int[Tensor, "b n"], Float64[Tensor, "b n"]]:
    """Mask k of the m tokens of each block; return the tokens, and the weight m / k of each masked token, else 0.

    k is uniform on 1, ..., m, and stratified over the blocks of an example: block i of N has the uniform number
    u + i / N modulo 1. The weighted sum of the negative log probabilities of the masked tokens is an unbiased estimate
    of the bound.

    Args:
        x_1: Data tokens.
        u: Uniform number of each example.
        block_size: Number of tokens per block; the last block may be shorter.
        vocab_size: Id of the mask token.
        rng: Random stream of the positions.
        eos_token_id: Token that ends a text; blocks after its first occurrence have weight 0.
    """
    b, n = x_1.shape
    num_blocks = max(-(-n // block_size), 1)
    first = torch.arange(num_blocks, device=x_1.device) * block_size
    sizes = (n - first).clamp(max=block_size)  # [blocks]
    u_block = (u[:, None] + torch.arange(num_blocks, device=u.device) / num_blocks) % 1
    num_masked = (1 + (u_block * sizes).floor().long()).minimum(sizes)
    noise = F.pad(rng.uniform((b, n), torch.float64, x_1.device), (0, num_blocks * block_size - n), value=torch.inf)
    rank = noise.unflatten(1, (num_blocks, block_size)).argsort(2).argsort(2)
    is_masked = (rank < num_masked[:, :, None]).flatten(1)[:, :n]
    weight = (sizes / num_masked.clamp(min=1)).repeat_interleave(block_size, 1)[:, :n]
    weight = weight.double() * is_masked
    if eos_token_id is not None:
        weight = weight * starts_before_end(x_1, block_size, eos_token_id)
    return x_1.masked_fill(is_masked, vocab_size), weight


def starts_before_end(x_1: Int[Tensor, "b n"], block_size: int, eos_token_id: int) -> Int64[Tensor, "b n"]:
    """Return 1 for the tokens of blocks without an end token before them, else 0."""
    ended = (x_1 == eos_token_id).cumsum(1) > 0
    before_block = F.pad(ended, (1, 0))[:, : x_1.shape[1] : block_size]  # of the token before each block
    return 1 - before_block.long().repeat_interleave(block_size, 1)[:, : x_1.shape[1]]


def block_nats(
    logits: Float[Tensor, "b n symbols"], target: Int[Tensor, "b n"], weight: Float[Tensor, "b n"]
) -> Float[Tensor, " b"]:
    """Return the weighted sum of the negative log probabilities of each example, in nats."""
    nats = F.cross_entropy(logits.movedim(-1, 1), target, reduction="none")
    return torch.where(weight > 0, weight * nats, 0.0).sum(1)


def block_size_of(network: Any) -> int:
    """Return the number of tokens per block of a network, with or without wrappers.

    Raises:
        UsageError: If the network has no block attention.
    """
    attention = getattr(unwrap_network(network), "attention", None)
    if not isinstance(attention, BlockAttention):
        raise UsageError(
            argument="attention",
            expected="a network with BlockAttention(size)",
            found=type(network).__name__ if attention is None else repr(attention),
            remedy="Build LanguageTransformer(..., attention=BlockAttention(16))",
        )
    return attention.size
