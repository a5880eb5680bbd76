"""Network of one block of tokens, with a KV cache of the tokens before it."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.pytree import Cond, tree_map
from feller.sampling.autoregressive.token_decoding import CausalDecoder


@runtime_checkable
class BlockDecoder(CausalDecoder, Protocol):
    """Network of block diffusion with a KV cache: a block depends on its noisy tokens and on the tokens before it.

    The mask in a block has the id `bos_token_id`.
    """

    def block_logits(self, tokens: Tensor, cache: Any, cond: Cond) -> Tensor:
        """Return the logits [b, m, K] of a noisy block; `tokens` [b, 1 + m] starts with the token before the block."""
        ...


class CachedBlocks:
    """Network of the current block: the logits of its tokens given its noisy tokens and those before the block.

    It can be wrapped by guidance, which evaluates several copies of the batch with different conditions; each number
    of copies has a cache of its own, which reads the tokens before a block at the first evaluation. Logits of finished
    sequences are 0.
    """

    def __init__(self, network: BlockDecoder, tokens: Int64[Tensor, "n length"]) -> None:
        """Initialize the caches.

        Args:
            network: Network with a cache.
            tokens: Tokens of all sequences; those before the current block are read. The caller updates them in place.
        """
        self.network, self.null_values = network, network.null_values
        self._tokens, self._start = tokens, 0
        self._open = torch.arange(len(tokens), device=tokens.device)
        self._caches: dict[int, Any] = {}

    def parameters(self) -> Iterator[Tensor]:
        """Yield the weights of the network."""
        return self.network.parameters()

    def move_to(self, start: int, open_rows: Int64[Tensor, " open"]) -> None:
        """Move to the block that starts at a position; only the sequences `open_rows` are evaluated from now on."""
        self._start = start
        if len(open_rows) == len(self._open):
            return
        place = torch.searchsorted(self._open, open_rows)
        for copies, cache in self._caches.items():
            self._caches[copies] = cache.select(_of_copies(place, copies, len(self._open)))
        self._open = open_rows

    @torch.no_grad()
    def __call__(self, x_t: Int[Tensor, "b m"], t: Float[Tensor, " b"], cond: Cond) -> Float[Tensor, "b m symbols"]:
        copies = len(x_t) // len(self._tokens)
        rows = _of_copies(self._open, copies, len(self._tokens))
        given = tree_map(lambda value: value[rows], cond)
        cache = self._caches.get(copies) or self.network.init_cache(len(rows), self._tokens.shape[1] + 1)
        before = self._inputs(cache.length).repeat(copies, 1)
        if cache.length < self._start:
            _, cache = self.network.decode_step(before[:, :-1], cache, given)
        self._caches[copies] = cache
        logits = self.network.block_logits(torch.cat([before[:, -1:], x_t[rows]], 1), cache, given)
        return logits.new_zeros(len(x_t), *logits.shape[1:]).index_copy_(0, rows, logits)

    def _inputs(self, first: int) -> Int64[Tensor, "open inputs"]:
        """Return the inputs from position `first` to that of the token before the block; the BOS token comes first."""
        tokens = self._tokens[self._open, max(first - 1, 0) : self._start]
        return tokens if first else F.pad(tokens, (1, 0), value=self.network.bos_token_id)


def _of_copies(rows: Int64[Tensor, " m"], copies: int, n: int) -> Int64[Tensor, " all"]:
    """Return the indices of rows in all copies of a batch of n."""
    return (torch.arange(copies, device=rows.device)[:, None] * n + rows).flatten()
