"""Exact network of block diffusion for a small distribution over token sequences."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.networks.sequence.language_attention import CLEAN, BlockAttention


@dataclass(frozen=True)
class Prefix:
    """Cache of the exact network: the tokens read so far, including the BOS token."""

    tokens: Tensor
    length: int = 0

    def select(self, index: Tensor) -> "Prefix":
        return replace(self, tokens=self.tokens[index])


class ExactBlocks:
    """Exact posteriors p(x_i | tokens before the block, unmasked tokens in the block) by enumeration."""

    null_values: dict[str, int | float] = {}  # noqa: RUF012 - as in networks

    def __init__(self, probs: Tensor, size: int) -> None:
        """Store the joint probabilities, [K, ..., K] with one axis per token."""
        self.probs, self.attention = probs, BlockAttention(size)
        self.bos_token_id, self.n = probs.shape[0], probs.ndim
        self.states = torch.tensor(list(product(range(probs.shape[0]), repeat=probs.ndim)))
        self.num_evaluated = 0
        self.tables: dict[int, Tensor] = {}

    def parameters(self) -> Iterator[Tensor]:
        return iter([self.probs])

    def init_cache(self, batch_size: int, max_length: int) -> Prefix:
        return Prefix(torch.zeros(batch_size, 0, dtype=torch.long))

    def decode_step(self, tokens: Tensor, cache: Prefix, cond: dict[str, Tensor]) -> tuple[Tensor, Prefix]:
        read = torch.cat([cache.tokens, tokens], 1)
        return torch.zeros(len(tokens), self.bos_token_id), Prefix(read, read.shape[1])

    def block_logits(self, tokens: Tensor, cache: Prefix, cond: dict[str, Tensor]) -> Tensor:
        self.num_evaluated += len(tokens)
        known = torch.cat([cache.tokens, tokens], 1)
        assert (known[:, 0] == self.bos_token_id).all()
        return self.posteriors(known[:, 1:], cond)[:, known.shape[1] - tokens.shape[1] :]

    def __call__(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        size, clean = self.attention.size, cond[CLEAN]
        logits = []
        for start in range(0, self.n, size):
            known = torch.cat([clean[:, :start], x_t[:, start : start + size]], 1)
            logits.append(self.posteriors(known, cond)[:, start:])
        return torch.cat(logits, 1)

    def posteriors(self, known: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Return log p(x_i | known tokens), [b, m, K]."""
        k, m = self.bos_token_id, known.shape[1]
        if m not in self.tables:
            every = torch.tensor(list(product(range(k + 1), repeat=m)))
            fits = ((every[:, None] == self.states[:, :m]) | (every[:, None] == k)).all(2)
            joint = torch.where(fits, self.probs.flatten().log(), -torch.inf)
            is_token = self.states[:, :m, None] == torch.arange(k)  # [states, m, K]
            logits = torch.where(is_token, joint[:, :, None, None], -torch.inf).logsumexp(1)
            self.tables[m] = logits.log_softmax(-1)
        return self.tables[m][(known * (k + 1) ** torch.arange(m - 1, -1, -1)).sum(1)]


def random_probs(k: int, n: int, seed: int = 0) -> Tensor:
    """Return a random joint distribution of n tokens with dependencies."""
    weights = Rng(seed).stream("probs").uniform((k,) * n, torch.float64) ** 3 + 1e-3
    return weights / weights.sum()
