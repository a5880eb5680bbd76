"""Drawing from a law of texts token after token, and its exact likelihood."""

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
"""(logits [m, K], uniform numbers [m] in float64) -> symbols [m]."""


@runtime_checkable
class CausalDecoder(Protocol):
    """A network of which place i of the answer has seen the tokens before i alone, and which can read step by step."""

    bos_token_id: int
    """What is read before the first token; the symbols are the numbers below it."""
    null_values: dict[str, int | float]

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """Return the logits of all tokens, [b, n, K]."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """Yield the weights, which say where the texts live."""
        ...

    def init_cache(self, batch_size: int, max_length: int) -> Any:
        """Return an empty cache, whose `select(index)` is that of some of the texts."""
        ...

    def decode_step(self, tokens: Tensor, cache: Any, cond: Cond) -> tuple[Tensor, Any]:
        """Read tokens [b, m] and return the logits of what follows, [b, K], with the cache to go on."""
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
    """Draw n texts, token after token; what a text draws depends on its number, not on its batch.

    Args:
        network: Predicts each token from those before it.
        n: Number of texts.
        length: Tokens of each.
        cond: Conditions, [n] each.
        rng: Source of the uniform numbers.
        token_sampler: Draws symbols from logits, in float64.
        observed: Tokens, and which of them are kept, anywhere. A token that is drawn knows those before it only,
            whatever is kept behind it.
        eos_token_id: Symbol after which a text holds nothing but it, and costs nothing; not drawn before a token that
            is kept.
        guidance_scale: w in (1 - w) log p without + w log p with the conditions; w = 1 is the plain conditional.

    Raises:
        UsageError: If the known tokens do not fit, or guidance is asked of a network that knows no "not given".
    """
    device = next(network.parameters()).device
    tokens, observed_mask = _check_observed(network, observed, n, length, device)
    open_rows = torch.arange(n, device=device)
    last = (observed_mask * torch.arange(1, length + 1, device=device)).amax(1) - 1 if length else open_rows
    u = rng.stream("token").uniform((n, length), torch.float64, device)
    cond = cond if guidance_scale == 1 else _both(cond, network.null_values)
    branches = 1 if guidance_scale == 1 else 2
    cache = network.init_cache(n * branches, length)
    num_prefilled = int(observed_mask.all(0).cumprod(0).sum())  # places known in all texts are read at once
    if eos_token_id is not None and num_prefilled:  # but for a last one that ends a text: the loop closes it
        num_prefilled -= int(((last == num_prefilled - 1) & (tokens[:, num_prefilled - 1] == eos_token_id)).any())
    new = torch.cat([torch.full((n, 1), network.bos_token_id, device=device), tokens[:, :num_prefilled]], 1)
    for i in range(num_prefilled, length):
        logits, cache = network.decode_step(new.repeat(branches, 1), cache, cond)
        if guidance_scale != 1:
            conditional, unconditional = logits.log_softmax(-1).chunk(2)
            logits = cfg_combine(conditional, unconditional, guidance_scale)
        if eos_token_id is not None:
            logits[:, eos_token_id] = torch.where(last[open_rows] > i, -torch.inf, logits[:, eos_token_id])
        next_tokens = torch.where(
            observed_mask[open_rows, i], tokens[open_rows, i], token_sampler(logits, u[open_rows, i])
        )
        tokens[open_rows, i] = next_tokens
        if eos_token_id is not None:
            goes_on = (next_tokens != eos_token_id) | (last[open_rows] > i)
            if not goes_on.all():
                tokens[open_rows[~goes_on], i + 1 :] = eos_token_id
                open_rows, open_index = open_rows[goes_on], goes_on.repeat(branches).nonzero()[:, 0]
                cache, cond = cache.select(open_index), tree_map(lambda leaf, which=open_index: leaf[which], cond)
        if not len(open_rows):
            break
        new = tokens[open_rows, i : i + 1]
    return tokens


def log_likelihood(
    network: Network, x_1: Int[Tensor, "b n"], cond: Cond, valid: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, " b"]:
    """Return log p(x_1) in nats, exact, in float64; what is not valid is not counted, what cannot be has -inf."""
    logits = network(x_1, torch.zeros(len(x_1), device=x_1.device), cond)
    entries = -F.cross_entropy(logits.double().movedim(-1, 1), x_1, reduction="none")
    # behind a token that a grammar forbids it may forbid all others, whose distribution is not a number
    impossible = logits.gather(-1, x_1[..., None])[..., 0] == -torch.inf
    entries = entries.masked_fill(impossible, -torch.inf)
    return (entries if valid is None else torch.where(valid, entries, 0.0)).sum(1)


def _check_observed(
    network: CausalDecoder, observed: tuple[Tensor, Tensor] | None, n: int, length: int, device: torch.device
) -> tuple[Int[Tensor, "n length"], Bool[Tensor, "n length"]]:
    """Return the tokens to fill in and which of them are kept, checked."""
    if observed is None:
        tokens = torch.zeros(n, length, dtype=torch.long, device=device)
        return tokens, torch.zeros_like(tokens, dtype=torch.bool)
    tokens, observed_mask = observed
    if tokens.shape != (n, length) or observed_mask.shape != (n, length):
        raise UsageError(
            f"known tokens of shape {(n, length)}",
            f"{tuple(tokens.shape)} and {tuple(observed_mask.shape)}",
            "Mark those that are to be drawn as not kept",
        )
    wrong = observed_mask & ((tokens < 0) | (tokens >= network.bos_token_id))
    if wrong.any():
        row, place = wrong.nonzero()[0].tolist()
        raise UsageError(
            f"known tokens from 0 to {network.bos_token_id - 1}",
            f"{int(tokens[row, place])} at place {place} of text {row}",
            "Mark it as not kept to have it drawn",
        )
    return torch.where(observed_mask, tokens, 0), observed_mask


def _both(cond: Cond, null_values: dict[str, int | float]) -> Cond:
    """Put the conditions above their null values."""
    if not null_values or not cond.keys() & null_values.keys():
        raise UsageError("guidance needs a condition, and this network has none", remedy="Leave guidance at 1")
    return concatenate(
        cond, {k: torch.full_like(v, null_values[k]) if k in null_values else v for k, v in cond.items()}
    )
