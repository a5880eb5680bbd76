"""Autoregressive decoding of token sequences, and their exact likelihood."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.pytree import concatenate, tree_map
from feller.core.rng import Rng
from feller.paths.discrete.token_sampler import TokenSampler
from feller.paths.path import Cond, Network
from feller.sampling.guidance import cfg_combine

TokenSamplerFn = Callable[[Tensor, Tensor], Tensor]
"""(logits [m, K], uniform numbers [m] in float64) -> tokens [m]."""


@runtime_checkable
class CausalDecoder(Protocol):
    """Causal network with a KV cache: the logits at position i depend only on tokens before i."""

    bos_token_id: int
    """Token read before the first position; data tokens have smaller ids."""
    null_values: dict[str, int | float]

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Return the logits of all tokens, [b, n, K]."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """Yield the weights, which determine the device."""
        ...

    def init_cache(self, batch_size: int, max_length: int) -> Any:
        """Return an empty KV cache; its method `select(index)` selects sequences."""
        ...

    def decode_step(self, tokens: Tensor, cache: Any, cond: Cond) -> tuple[Tensor, Any]:
        """Process tokens [b, m]; return the logits of the next token, [b, K], and the updated cache."""
        ...


@torch.no_grad()
def decode(
    network: CausalDecoder,
    n: int,
    length: int,
    cond: Cond,
    rng: Rng,
    *,
    token_sampler: TokenSamplerFn = TokenSampler(),  # noqa: B008 - frozen
    observed: tuple[Int[Tensor, "n length"], Bool[Tensor, "n length"]] | None = None,
    eos_token_id: int | None = None,
    guidance_scale: float = 1.0,
) -> Int[Tensor, "n length"]:
    """Generate n sequences token by token; samples depend on the index of a sequence, not on its batch.

    Args:
        network: Causal network.
        n: Number of sequences.
        length: Number of tokens per sequence.
        cond: Conditions, with one value per sequence.
        rng: Random numbers.
        token_sampler: Sampler of tokens from float64 logits.
        observed: Token ids, and the mask of observed positions. A sampled token depends only on tokens before it, not
            on observed tokens after it.
        eos_token_id: End token, which fills the rest of a finished sequence; it is never sampled before an observed
            token.
        guidance_scale: Weight w of (1 - w) unconditional + w conditional log probabilities; 1 disables guidance.

    Raises:
        UsageError: If the observed tokens are invalid, or guidance is used with a network without null conditions.
    """
    device = next(network.parameters()).device
    tokens, observed_mask = _check_observed(network, observed, n, length, device)
    open_rows = torch.arange(n, device=device)
    last_observed = (observed_mask * torch.arange(1, length + 1, device=device)).amax(1) - 1 if length else open_rows
    u = rng.stream("token").uniform((n, length), torch.float64, device)
    cond = cond if guidance_scale == 1 else _both(cond, network.null_values)
    num_branches = 1 if guidance_scale == 1 else 2
    cache = network.init_cache(n * num_branches, length)
    num_prefilled = int(observed_mask.all(0).cumprod(0).sum())  # positions observed in all sequences
    if eos_token_id is not None and num_prefilled:  # except a final end token, handled by the loop
        num_prefilled -= int(
            ((last_observed == num_prefilled - 1) & (tokens[:, num_prefilled - 1] == eos_token_id)).any()
        )
    inputs = torch.cat([torch.full((n, 1), network.bos_token_id, device=device), tokens[:, :num_prefilled]], 1)
    for i in range(num_prefilled, length):
        logits, cache = network.decode_step(inputs.repeat(num_branches, 1), cache, cond)
        if guidance_scale != 1:
            conditional, unconditional = logits.log_softmax(-1).chunk(2)
            logits = cfg_combine(conditional, unconditional, guidance_scale)
        if eos_token_id is not None:
            logits[:, eos_token_id] = torch.where(last_observed[open_rows] > i, -torch.inf, logits[:, eos_token_id])
        next_tokens = torch.where(
            observed_mask[open_rows, i], tokens[open_rows, i], token_sampler(logits, u[open_rows, i])
        )
        tokens[open_rows, i] = next_tokens
        if eos_token_id is not None:
            is_open = (next_tokens != eos_token_id) | (last_observed[open_rows] > i)
            if not is_open.all():
                tokens[open_rows[~is_open], i + 1 :] = eos_token_id
                open_rows, open_index = open_rows[is_open], is_open.repeat(num_branches).nonzero()[:, 0]
                cache, cond = cache.select(open_index), tree_map(lambda leaf, index=open_index: leaf[index], cond)
        if not len(open_rows):
            break
        inputs = tokens[open_rows, i : i + 1]
    return tokens


def log_likelihood(
    network: Network, x_1: Int[Tensor, "b n"], cond: Cond, valid: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, " b"]:
    """Return the exact log probability of each sequence in nats, summed over its tokens; -inf if it is impossible.

    `valid` is the mask of the tokens to include; None for all. The network is called with t = 0.
    """
    logits = network(x_1, torch.zeros(len(x_1), device=x_1.device), cond)
    entries = -F.cross_entropy(logits.double().movedim(-1, 1), x_1, reduction="none")
    # after a forbidden token, a grammar may forbid all others, which gives NaN
    is_impossible = logits.gather(-1, x_1[..., None])[..., 0] == -torch.inf
    entries = entries.masked_fill(is_impossible, -torch.inf)
    return (entries if valid is None else torch.where(valid, entries, 0.0)).sum(1)


def _check_observed(
    network: CausalDecoder, observed: tuple[Tensor, Tensor] | None, n: int, length: int, device: torch.device
) -> tuple[Int[Tensor, "n length"], Bool[Tensor, "n length"]]:
    if observed is None:
        tokens = torch.zeros(n, length, dtype=torch.long, device=device)
        return tokens, torch.zeros_like(tokens, dtype=torch.bool)
    tokens, observed_mask = observed
    if tokens.shape != (n, length) or observed_mask.shape != (n, length):
        raise UsageError(
            f"observed tokens and mask of shape {(n, length)}",
            f"{tuple(tokens.shape)} and {tuple(observed_mask.shape)}",
            "Set the mask to False for tokens to sample",
        )
    is_invalid = observed_mask & ((tokens < 0) | (tokens >= network.bos_token_id))
    if is_invalid.any():
        row, position = is_invalid.nonzero()[0].tolist()
        raise UsageError(
            f"observed tokens from 0 to {network.bos_token_id - 1}",
            f"{int(tokens[row, position])} at position {position} of sequence {row}",
            "Set the mask of this token to False to sample it",
        )
    return torch.where(observed_mask, tokens, 0), observed_mask


def _both(cond: Cond, null_values: dict[str, int | float]) -> Cond:
    if not null_values or not cond.keys() & null_values.keys():
        raise UsageError("guidance requires a network with conditions", remedy="Use a guidance scale of 1")
    return concatenate(
        cond, {k: torch.full_like(v, null_values[k]) if k in null_values else v for k, v in cond.items()}
    )
